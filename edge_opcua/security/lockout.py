"""Who guessed too often waits: per user and client, so that nobody can keep somebody else out.

A user name is locked for the client that failed with it, at the address from which it did, not for everybody:
one infected panel cannot lock the operators of another. A client, known by its certificate, that fails more
often, under whatever names and from wherever, is locked as a whole. Everything is in memory and bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.core.clock import Clock

FAILURES: Final = 5
FAILURES_OF_CLIENT: Final = 20
WINDOW_S: Final = 600.0
FIRST_LOCK_S: Final = 300.0
LONGEST_LOCK_S: Final = 3600.0
# After this long without a failure the next lock is a first one again.
FORGET_S: Final = 86_400.0
MAX_KEPT: Final = 2000


@dataclass(slots=True)
class _Record:
    failures_s: list[float] = field(default_factory=list)
    locked_until_s: float = 0.0
    locks: int = 0
    last_s: float = 0.0


class LockOut:
    """Counts failures and says who has to wait.

    Args:
        clock: Its monotonic time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, ...], _Record] = OrderedDict()

    def waits_s(self, user: str, client: str, host: str) -> float:
        """Return for how long this client need not try this user, in seconds; 0: it may.

        Args:
            user: Name of the user.
            client: Thumbprint of the client's certificate.
            host: Its address, without the port.
        """
        now_s = self._clock.monotonic_s()
        found = (self._kept.get(key) for key in _keys(user, client, host))
        return max(0.0, *(record.locked_until_s - now_s for record in found if record), 0.0)

    def failed(self, user: str, client: str, host: str) -> float:
        """Count a failure; return for how long user and client are locked by it, in seconds; 0: not yet."""
        now_s = self._clock.monotonic_s()
        both, client_alone = _keys(user, client, host)
        return max(
            self._count(both, FAILURES, now_s),
            self._count(client_alone, FAILURES_OF_CLIENT, now_s),
        )

    def succeeded(self, user: str, client: str, host: str) -> None:
        """Forget the failures of this user from this client; what it did with other names stays counted."""
        self._kept.pop(_keys(user, client, host)[0], None)

    def _count(self, key: tuple[str, ...], most: int, now_s: float) -> float:
        record = self._kept.setdefault(key, _Record())
        self._kept.move_to_end(key)
        if now_s - record.last_s > FORGET_S:
            record.locks = 0
        record.last_s = now_s
        record.failures_s = [at_s for at_s in record.failures_s if now_s - at_s < WINDOW_S] + [now_s]
        lock_s = 0.0
        if len(record.failures_s) >= most:
            lock_s = min(FIRST_LOCK_S * 2**record.locks, LONGEST_LOCK_S)
            record.locks += 1
            record.locked_until_s = now_s + lock_s
            record.failures_s = []
        self._make_room(now_s)
        return lock_s

    def _make_room(self, now_s: float) -> None:
        """Forget the oldest; who is locked right now last of all."""
        while len(self._kept) > MAX_KEPT:
            free = (key for key, record in self._kept.items() if record.locked_until_s <= now_s)
            self._kept.pop(next(free, next(iter(self._kept))))


def _keys(user: str, client: str, host: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (client, host, user[:200].casefold()), (client,)
