"""The security decisions of one server, made off the event loop, and one log line for each refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.core.worker import Worker
from edge_opcua.security.pki import Pki, utc
from edge_opcua.security.trust import Decision, Knock, TrustList, refusal

DECIDE_S: Final = 5.0
# One who tries again and again is one line a minute.
QUIET_S: Final = 60.0
MAX_REMEMBERED: Final = 256

_log = structlog.get_logger(__name__)


def ignore_knock(_: Knock) -> None:
    """Do nothing beyond the log."""


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """What a server needs to know about itself and its clients.

    Args:
        pki: Its own certificate and key.
        trust: Who may connect.
        policies: Security policies offered, each as SignAndEncrypt only.
        allow_none: Whether sessions without security exist; they may read and subscribe, nothing else.
        on_refused: Called on the event loop for each client that was refused; must not block.
    """

    pki: Pki
    trust: TrustList
    policies: tuple[str, ...] = ("Basic256Sha256",)
    allow_none: bool = False
    on_refused: Callable[[Knock], None] = ignore_knock


class Gate:
    """Decides who comes in.

    Args:
        security: The server's settings.
        clock: Times the quiet between two equal log lines.
    """

    def __init__(self, security: ServerSecurity, clock: Clock) -> None:
        self.security = security
        self.clock = clock
        self._worker = Worker("opcua.trust")
        self._told_s: dict[tuple[str, str], float] = {}

    async def admit(self, sent: bytes, address: str) -> Decision:
        """Decide whether a channel may open; the lists are read anew, in a thread of their own."""
        try:
            decision, knock = await self._worker.call(
                self.security.trust.admit, sent, address, timeout_s=DECIDE_S
            )
        except (OSError, TimeoutError) as exc:  # no list, no trust
            decision = refusal("S414", str(exc) or "no answer in time")
            self.refuse(decision, address)
            return decision
        if knock is not None:
            self._tell(knock)
        return decision

    def refuse(self, decision: Decision, address: str) -> None:
        """Report a refusal that has nothing to do with the trust list, so that nothing is kept of it."""
        self._tell(
            Knock(
                number=0,
                name=decision.name,
                application_uri=decision.application_uri,
                thumbprint=decision.thumbprint,
                address=address,
                when=utc(self.clock.utc_ns()),
                reason=decision.reason,
                code=decision.code,
                file=None,
            )
        )

    def close(self) -> None:
        """Let the thread go."""
        self._worker.close()

    def _tell(self, knock: Knock) -> None:
        now_s = self.clock.monotonic_s()
        kind = (knock.thumbprint or knock.address.rpartition(":")[0], knock.code)
        known = now_s - self._told_s.get(kind, -QUIET_S) < QUIET_S
        if not known:
            while len(self._told_s) >= MAX_REMEMBERED:
                self._told_s.pop(next(iter(self._told_s)))
            self._told_s[kind] = now_s
        log = _log.debug if known else _log.warning
        log(
            "client.refused",
            number=knock.number,
            peer=knock.address,
            name=knock.name,
            application_uri=knock.application_uri,
            thumbprint=knock.thumbprint,
            code=knock.code,
            reason=knock.reason,
            file=str(knock.file) if knock.file else "",
        )
        self.security.on_refused(knock)
