"""How long one answer is waited for, in all its parts together, and how another thread ends the wait."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError


@dataclass(frozen=True, slots=True)
class Until:
    """A moment at which waiting ends, whatever is being waited for.

    Args:
        clock: Clock.
        at_ns: The moment, monotonic, ns.
        patience_ms: How long it was from the beginning, for messages.
    """

    clock: Clock
    at_ns: int
    patience_ms: float

    @classmethod
    def after(cls, clock: Clock, patience_ms: float) -> Until:
        """Return the moment so many milliseconds from now."""
        return cls(clock, clock.monotonic_ns() + round(patience_ms * 1e6), patience_ms)

    def left_s(self) -> float:
        """Return the seconds that are left, 0 when it is over."""
        return max(0.0, (self.at_ns - self.clock.monotonic_ns()) / 1e9)

    def share(self, of: int) -> Until:
        """Return the moment at which one part of so many equal parts of what is left is over."""
        now_ns = self.clock.monotonic_ns()
        return Until(self.clock, now_ns + max(0, self.at_ns - now_ns) // of, self.patience_ms)


class Stop:
    """Ends the wait of one run from another thread; readable, so that a wait on sockets sees it.

    Outside of a run nothing happens: a stop that comes late never hits the next run.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._running = False
        self._asked = False
        weakref.finalize(self, os.close, self.fd)

    @property
    def asked(self) -> bool:
        """Whether the run in progress shall end."""
        return self._asked

    def begin(self) -> None:
        """Note that a run begins."""
        with self._lock:
            self._running = True

    def end(self) -> None:
        """Note that it has ended; what was asked of it is forgotten."""
        with self._lock:
            if self._asked:
                os.eventfd_read(self.fd)
            self._running = self._asked = False

    def ask(self) -> bool:
        """Ask the run in progress to end; False if there is none."""
        with self._lock:
            if self._running and not self._asked:
                self._asked = True
                os.eventfd_write(self.fd, 1)
            return self._running

    def check(self) -> None:
        """Raise M535 if the run shall end."""
        if self._asked:
            raise cancelled()


def cancelled() -> ModelError:
    """Return what a run ends with that was cancelled."""
    return ModelError("the run was cancelled", code="M535")
