"""Whether a server is asked: the circuit of one server, shared by all runs of a process."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.remote import breaker
from edge_opcua.inference.backends.remote.reasons import LEFT_ALONE, silent, verdict

_OF: Final = 8
"""What is usual follows this many answers."""
_TIMES_USUAL: Final = 2

_log = structlog.get_logger(__name__)


class Gate:
    """The circuit of one server, as all runs of a process share it.

    Args:
        terms: When it opens and closes.
        clock: Clock.
        where: What messages call the server.
    """

    def __init__(self, terms: breaker.Terms, clock: Clock, where: str) -> None:
        self._terms, self._clock, self._where = terms, clock, where
        self._circuit = breaker.Circuit()
        self._last = ""
        self._usual_ns = 0
        self._lock = threading.Lock()

    @property
    def state(self) -> breaker.State:
        """Present state."""
        return self._circuit.state

    def enter(self) -> None:
        """Begin a run; ModelError M572 if the server is being left alone."""
        with self._lock:
            now_ns = self._clock.monotonic_ns()
            self._circuit, allowed = breaker.admit(self._circuit, now_ns)
            if allowed:
                return
            left_s = max(0.0, (self._circuit.retry_ns - now_ns) / 1e9)
        raise ModelError(
            f"{self._where} is left alone for another {left_s:.1f} s: {self._last}", code=LEFT_ALONE
        )

    def leave(self, error: ModelError | None, took_ns: int) -> None:
        """End a run.

        A run that is cancelled for others says nothing of the server; one that had already taken much
        longer than usual was cancelled because no answer came.

        Args:
            error: What it failed with; None if it did not.
            took_ns: How long it took.
        """
        event = verdict("" if error is None else error.code)
        with self._lock:
            if error is None:
                self._usual_ns += (took_ns - self._usual_ns) // _OF if self._usual_ns else took_ns
            elif event is breaker.Event.ABANDONED and took_ns > _TIMES_USUAL * self._usual_ns:
                event = breaker.Event.FAILURE
                error = silent(self._where, took_ns // 1_000_000)
            before = self._circuit.state
            self._circuit = breaker.happen(self._circuit, event, self._terms, self._clock.monotonic_ns())
            after = self._circuit.state
            if event is breaker.Event.FAILURE:
                self._last = str(error).removeprefix(f"{self._where} ")
        if before is breaker.State.CLOSED and after is breaker.State.OPEN:
            _log.warning("remote.left_alone", server=self._where, reason=str(error))
        if before is not breaker.State.CLOSED and after is breaker.State.CLOSED:
            _log.info("remote.answers_again", server=self._where)
