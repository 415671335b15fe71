"""Watches runs from a thread of its own: one that takes too long is cancelled, one that hangs is told about.

The watcher looks at fixed ticks and is woken by nobody: to begin and to end a run costs one assignment.
A thread takes over the scheduling class of the one that starts it. It is started after a lane got its
class, or it would hold the interpreter while it waits for a processor that the lane has to itself.

Time in which a run waits for a processor does not count: a best-effort lane on a busy computer may wait for
seconds, and is neither endless nor hanging.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from edge_opcua.core import realtime
from edge_opcua.core.clock import Clock

_log = structlog.get_logger(__name__)

SHORTEST_NS: Final = 250_000_000
"""No run is cancelled before this time: a moment's disturbance is no failure of a model."""
TIMES_EXPECTED: Final = 20
"""So many times its 99th percentile a run may take."""
GRACE_NS: Final = 1_000_000_000
"""A run that has not ended this long after it was cancelled hangs."""
TICK_S: Final = 0.1
REMOTE_TICK_S: Final = 0.02
_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_STATE, _USER, _SYSTEM = 0, 11, 12
"""Fields of proc(5) ``stat`` behind the name of the thread."""


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
        overran: Whether the watcher has cancelled it.
    """

    model: str
    batch: int
    started_ns: int
    binding: Cancellable
    until_ns: int | None = None
    unwanted: bool = False
    overran: bool = False

    @property
    def was_cancelled(self) -> bool:
        """Whether anybody has cancelled it, for whatever reason."""
        return self.unwanted or self.overran

    @property
    def was_preempted(self) -> bool:
        """Whether it was cancelled for others and not because it took too long."""
        return self.unwanted and not self.overran


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


@dataclass(frozen=True, slots=True)
class ThreadUse:
    """What a thread has of the processors.

    Args:
        could_run: Whether it computes or waits for a processor; otherwise it waits for something else.
        cpu_ns: Time it has computed so far.
    """

    could_run: bool
    cpu_ns: int


def thread_use(thread_id: int) -> ThreadUse | None:
    """Return what a thread of this process has of the processors; None if there is no such thread.

    Args:
        thread_id: As the kernel calls it.
    """
    try:
        text = Path(f"/proc/self/task/{thread_id}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = text.rpartition(") ")[2].split()
    ticks = int(fields[_USER]) + int(fields[_SYSTEM])
    return ThreadUse(fields[_STATE] == "R", ticks * _TICK_NS)


@dataclass(slots=True)
class _Seen:
    """What the watcher knows of the run of one worker.

    Args:
        started_ns: When that run began; tells it from the next one.
        looked_ns: When it was looked at last.
        spent_ns: What it has taken so far, waiting for a processor left out.
        cpu_ns: What its thread had computed then.
        cancelled_at_ns: What it had taken when it was cancelled; None if it was not.
        told: Whether it was reported as hanging.
    """

    started_ns: int = -1
    looked_ns: int = 0
    spent_ns: int = 0
    cpu_ns: int = 0
    cancelled_at_ns: int | None = None
    told: bool = False


class Watch:
    """Watches one run of each worker.

    Args:
        clock: Clock.
        workers: Workers whose runs are watched.
        cost_ns: What a run of a model with so many samples takes, 99th percentile.
        on_hung: Called once for each run that hangs, from the watching thread.
        tick_s: How often it looks.
        use: What the thread of a kernel's number has of the processors.
    """

    def __init__(
        self,
        clock: Clock,
        workers: int,
        *,
        cost_ns: Callable[[str, int], int],
        on_hung: Callable[[Hung], None],
        tick_s: float = TICK_S,
        use: Callable[[int], ThreadUse | None] = thread_use,
    ) -> None:
        self.current: list[Run | None] = [None] * workers
        """The run of each worker; the worker itself begins and ends it by an assignment."""
        self._clock = clock
        self._cost_ns = cost_ns
        self._on_hung = on_hung
        self._tick_s = tick_s
        self._use = use
        self._threads = [0] * workers
        self._seen = [_Seen() for _ in range(workers)]
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def runs_here(self, worker: int) -> None:
        """Say that the runs of a worker are made by the calling thread."""
        self._threads[worker] = threading.get_native_id()

    def start(self) -> None:
        """Begin to watch, in a thread with the scheduling class of the caller's."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="lane.watch", daemon=True)
            self._thread.start()
            self.rise()

    def rise(self) -> None:
        """Go before what is watched; to be called again once the process has become more urgent.

        The watching thread cannot do it itself: it would not be served any more beside a run that hangs.
        """
        if self._thread is not None and self._thread.native_id is not None:
            realtime.rise(self._thread.native_id)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(GRACE_NS / 1e9)  # who is told that a run hangs may not come back
            self._thread = None

    def look(self) -> None:
        """Cancel what takes too long, and tell of what hangs."""
        now_ns = self._clock.monotonic_ns()
        for worker, run in enumerate(self.current):
            if run is not None:
                self._look_at(run, self._charge(worker, run, now_ns), now_ns)

    def _look_at(self, run: Run, seen: _Seen, now_ns: int) -> None:
        took_ns = now_ns - run.started_ns
        if seen.cancelled_at_ns is not None:
            if not seen.told and seen.spent_ns - seen.cancelled_at_ns > GRACE_NS:
                seen.told = True
                _log.error("run.hung", model=run.model, took_ms=took_ns / 1e6)
                self._on_hung(Hung(run.model, run.batch, took_ns))
            run.binding.cancel()  # again: the first word may have come in the moment before it began
        elif self._is_over(run, seen.spent_ns, now_ns):
            seen.cancelled_at_ns = seen.spent_ns
            run.overran = True
            run.binding.cancel()
            _log.warning("run.overran", model=run.model, took_ms=took_ns / 1e6)
        elif run.unwanted:  # the word may have come in the moment before it began
            run.binding.cancel()

    def _is_over(self, run: Run, spent_ns: int, now_ns: int) -> bool:
        if run.until_ns is not None:
            return now_ns > run.until_ns
        return spent_ns > SHORTEST_NS and spent_ns > TIMES_EXPECTED * self._cost_ns(run.model, run.batch)

    def _charge(self, worker: int, run: Run, now_ns: int) -> _Seen:
        """Add what a run has taken since the last look: all the time, or if it could run what it has run."""
        seen = self._seen[worker]
        if seen.started_ns != run.started_ns:
            seen = _Seen(run.started_ns, run.started_ns, 0, seen.cpu_ns)
            self._seen[worker] = seen
        passed_ns, seen.looked_ns = now_ns - seen.looked_ns, now_ns
        use = self._use(self._threads[worker])
        if use is not None:
            computed_ns, seen.cpu_ns = use.cpu_ns - seen.cpu_ns, use.cpu_ns
            if use.could_run:
                passed_ns = min(passed_ns, computed_ns)
        seen.spent_ns += passed_ns
        return seen

    def _watch(self) -> None:
        while not self._closed.wait(self._tick_s):
            self.look()
