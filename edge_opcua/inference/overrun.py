"""Watches runs from a thread of its own: one that takes too long is cancelled, one that hangs is told about.

The watcher looks at fixed ticks and is woken by nobody: to begin and to end a run costs one assignment.
A thread takes over the scheduling class of the one that starts it. It is started after a lane got its
class, or it would hold the interpreter while it waits for a processor that the lane has to itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from edge_opcua.core.clock import Clock

_log = structlog.get_logger(__name__)

SHORTEST_NS: Final = 250_000_000
"""No run is cancelled before this time: a busy computer is no failure of a model."""
TIMES_EXPECTED: Final = 20
"""So many times its 99th percentile a run may take."""
GRACE_NS: Final = 1_000_000_000
"""A run that has not ended this long after it was cancelled hangs."""
TICK_S: Final = 0.1
REMOTE_TICK_S: Final = 0.02


class Cancellable(Protocol):
    """What can be told to end its run."""

    def cancel(self) -> None:
        """Let the run in progress end as soon as the runtime can."""
        ...


@dataclass(slots=True, eq=False)
class Run:
    """A run in progress.

    Args:
        model: Key of the model.
        batch: Samples of it.
        started_ns: When it began, monotonic.
        binding: What can be told to end it.
        until_ns: When its answer is of no use any more, monotonic; None if that does not end it.
        unwanted: Whether the scheduler has cancelled it for others.
        cancelled_ns: When the watcher has cancelled it, monotonic; None if it has not.
        told: Whether it was reported as hanging.
    """

    model: str
    batch: int
    started_ns: int
    binding: Cancellable
    until_ns: int | None = None
    unwanted: bool = False
    cancelled_ns: int | None = None
    told: bool = False

    @property
    def was_preempted(self) -> bool:
        """Whether it was cancelled for others and not because it took too long."""
        return self.unwanted and self.cancelled_ns is None


@dataclass(frozen=True, slots=True)
class Hung:
    """A run that did not end although it was cancelled; only the end of the process ends it.

    Args:
        model: Key of the model.
        batch: Samples of the run.
        took_ns: How long it has taken so far.
        code: Stable code of it.
    """

    model: str
    batch: int
    took_ns: int
    code: str = "M542"

    def __str__(self) -> str:
        return f"{self.model} has not answered for {self.took_ns / 1e9:.1f} s and does not end when cancelled"


class Watch:
    """Watches one run of each worker.

    Args:
        clock: Clock.
        workers: Workers whose runs are watched.
        cost_ns: What a run of a model with so many samples takes, 99th percentile.
        on_hung: Called once for each run that hangs, from the watching thread.
        tick_s: How often it looks.
    """

    def __init__(
        self,
        clock: Clock,
        workers: int,
        *,
        cost_ns: Callable[[str, int], int],
        on_hung: Callable[[Hung], None],
        tick_s: float = TICK_S,
    ) -> None:
        self.current: list[Run | None] = [None] * workers
        """The run of each worker; the worker itself begins and ends it by an assignment."""
        self._clock = clock
        self._cost_ns = cost_ns
        self._on_hung = on_hung
        self._tick_s = tick_s
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch, in a thread with the scheduling class of the caller's."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="lane.watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(GRACE_NS / 1e9)  # who is told that a run hangs may not come back
            self._thread = None

    def look(self) -> None:
        """Cancel what takes too long, and tell of what hangs."""
        now_ns = self._clock.monotonic_ns()
        for run in self.current:
            if run is None:
                continue
            if run.cancelled_ns is not None:
                self._look_again(run, run.cancelled_ns, now_ns)
            elif now_ns - run.started_ns > self._allowed_ns(run, now_ns):
                run.cancelled_ns = now_ns
                run.binding.cancel()
                _log.warning("run.overran", model=run.model, took_ms=(now_ns - run.started_ns) / 1e6)
            elif run.unwanted:  # the word may have come in the moment before it began
                run.binding.cancel()

    def _allowed_ns(self, run: Run, now_ns: int) -> int:
        if run.until_ns is not None:
            return run.until_ns - run.started_ns
        if now_ns - run.started_ns <= SHORTEST_NS:
            return SHORTEST_NS
        return max(SHORTEST_NS, TIMES_EXPECTED * self._cost_ns(run.model, run.batch))

    def _look_again(self, run: Run, cancelled_ns: int, now_ns: int) -> None:
        if run.told or now_ns - cancelled_ns <= GRACE_NS:
            return
        run.told = True
        hung = Hung(run.model, run.batch, now_ns - run.started_ns)
        _log.error("run.hung", model=hung.model, took_ms=hung.took_ns / 1e6)
        self._on_hung(hung)

    def _watch(self) -> None:
        while not self._closed.wait(self._tick_s):
            self.look()
