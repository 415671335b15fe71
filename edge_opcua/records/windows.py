"""Keeps what the models judged, beside the journal: bounded in memory and on disk, and in nobody's way.

Windows are training data. Whatever happens to their file - the disk is full, it hangs, the file is broken -
they wait in a bounded queue, the oldest are given up and counted, and it is told once. Where they come faster
than the budget can hold for :data:`SPAN_S`, ordinary ones are thinned out, so that neither the disk nor the
recorder is worn for a history of seconds.
"""

from __future__ import annotations

import asyncio
import collections
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.core.journalfile import in_words
from edge_opcua.core.values import Verdict
from edge_opcua.core.worker import Worker
from edge_opcua.records.window import Answer, Window
from edge_opcua.records.windowfile import Answered, Kept, WindowFile

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

MB: Final = 1_000_000
SPAN_S: Final = 600.0
"""History that the budget holds at least: what comes faster is thinned out."""

UNUSABLE: Final = "R702"
BROKEN: Final = "R703"
THINNED: Final = "R704"

_BURST_S: Final = 30.0
_ORDINARY_SHARE: Final = 0.5
_QUEUE_BYTES: Final = 16 * MB
_QUEUE_WINDOWS: Final = 5000
_BATCH_BYTES: Final = 1 * MB
_BATCH_WINDOWS: Final = 500
_BATCH_S: Final = 0.25
_RETRY_S: Final = 5.0
_CALL_S: Final = 15.0
_END_S: Final = 0.3

_log = structlog.get_logger(__name__)

Tell = Callable[[str, str], None]
"""Takes code and text of a fault; with an empty text, the fault of this code is over."""


def _log_only(code: str, text: str) -> None:
    _log.warning("windows.fault" if text else "windows.fault_over", code=code, text=text)


@dataclass(frozen=True, slots=True)
class WindowsState:
    """How the store is.

    Args:
        kept: What is on disk.
        waiting: Windows that wait in memory.
        lost: Windows given up since the start of the process: the disk refused, or the bus was faster.
        thinned: Ordinary windows left out since then because there were too many.
        fault: Why nothing can be stored now; empty when all is well.
    """

    kept: Kept
    waiting: int
    lost: int
    thinned: int
    fault: str


class Windows:
    """The store as the event loop of the records process sees it.

    Args:
        path: The SQLite file.
        budget_mb: Largest size on disk, MB; 0 keeps nothing.
        clock: Clock for pauses and rates.
        tell: Tells a person what is wrong, and that it is over.
    """

    def __init__(self, path: Path, budget_mb: int, *, clock: Clock, tell: Tell = _log_only) -> None:
        self._path = path
        self._budget = budget_mb * MB
        self._clock = clock
        self._tell = tell
        self._worker = Worker("windows")
        self._file = WindowFile(path, self._budget)
        self._queue: collections.deque[Window] = collections.deque()
        self._queue_bytes = 0
        self._writing = 0
        self._put = asyncio.Event()
        self._turn = asyncio.Lock()
        self._rate = _Rate(self._budget, clock)
        self._kept = Kept()
        self._lost = self._thinned = 0
        self._fault = ""
        self._told_thinned = False

    @property
    def is_on(self) -> bool:
        """Whether anything is kept."""
        return self._budget > 0

    @property
    def state(self) -> WindowsState:
        """How the store is now."""
        waiting = len(self._queue) + self._writing
        return WindowsState(self._kept, waiting, self._lost, self._thinned, self._fault)

    def put(self, window: Window) -> None:
        """Take over a window; it is written with the next ones. Nothing is kept without a budget."""
        if not self.is_on:
            return
        size = window.size_bytes
        if not self._rate.admits(size, ordinary=window.verdict == Verdict.OK):
            self._thin_out()
            return
        self._queue.append(window)
        self._queue_bytes += size
        while len(self._queue) > _QUEUE_WINDOWS or self._queue_bytes > _QUEUE_BYTES:
            self._queue_bytes -= self._queue.popleft().size_bytes
            self._lost += 1
        self._put.set()

    def miss(self) -> None:
        """Count a result whose samples were overwritten on the bus before they were taken."""
        self._lost += 1

    def resize(self, budget_mb: int) -> None:
        """Have another budget from now on; what is too much goes bit by bit."""
        if budget_mb * MB == self._budget:
            return
        self._budget = budget_mb * MB
        self._rate = _Rate(self._budget, self._clock)
        self._put.set()

    async def answer(
        self, pipeline: str, result_id: int, answer: Answer, *, note: str, who: str
    ) -> Answered | None:
        """Store what somebody says of a verdict; it is on disk when this returns.

        Returns:
            What was answered; None if that window is not kept.

        Raises:
            OSError: The disk refuses.
        """
        await self.flush()  # it may be about one that still waits
        now_ns = self._clock.utc_ns()

        def store(file: WindowFile) -> Answered | None:
            return file.answer(pipeline, result_id, answer, note=note, who=who, utc_ns=now_ns)

        async with self._turn:
            return await self._call(store, self._file)

    async def run(self) -> None:
        """Write until cancelled, then what is left once more."""
        try:
            while True:
                await self._put.wait()
                await self._clock.sleep(_BATCH_S)
                if not await self.flush():
                    await self._clock.sleep(_RETRY_S)
        finally:
            await self._end()

    async def flush(self) -> bool:
        """Write everything that waits; False if the disk refuses, then :attr:`state` says why."""
        async with self._turn:
            self._put.clear()
            if self._file.budget_bytes != self._budget:
                await self._call(WindowFile.resize, self._file, self._budget)
                self._kept = replace(self._kept, is_full=True)  # the file knows better, once it has looked
            while self.is_on and (self._queue or self._kept.is_full):
                batch = self._take()
                self._writing = len(batch)
                try:
                    self._kept = await self._call(WindowFile.write, self._file, batch)
                except OSError as exc:
                    self._put_back(batch)
                    self._on_fault(str(exc))
                    self._put.set()
                    return False
                finally:
                    self._writing = 0
                self._on_success()
            return True

    def _take(self) -> list[Window]:
        batch: list[Window] = []
        size = 0
        while self._queue and len(batch) < _BATCH_WINDOWS and size < _BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += batch[-1].size_bytes
        self._queue_bytes -= size
        return batch

    def _put_back(self, batch: list[Window]) -> None:
        self._queue.extendleft(reversed(batch))
        self._queue_bytes += sum(window.size_bytes for window in batch)

    def _thin_out(self) -> None:
        self._thinned += 1
        if not self._told_thinned:
            self._told_thinned = True
            _log.warning(
                "windows.thinned",
                code=THINNED,
                path=str(self._path),
                budget_mb=self._budget // MB,
                consequence="only a part of the ordinary ones is kept",
            )

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(_END_S):
                await self.flush()
                await self._worker.call(self._file.close, timeout_s=_END_S)
        except TimeoutError:
            _log.warning("windows.end_hangs", path=str(self._path))
        self._worker.close()

    async def _call(self, fn: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Run a function of the file in its thread; every trouble with the disk becomes an OSError."""
        try:
            return await self._worker.call(fn, *args, timeout_s=_CALL_S)
        except sqlite3.Error as exc:
            raise OSError(in_words(exc)) from exc
        except TimeoutError as exc:
            self._file = WindowFile(self._path, self._budget)  # the old one belongs to the thread that hangs
            raise OSError(f"the disk did not answer in {_CALL_S:g} s") from exc

    def _on_fault(self, reason: str) -> None:
        if not self._fault:
            self._tell(UNUSABLE, f"what the models judge is not kept: {reason}")
        self._fault = reason

    def _on_success(self) -> None:
        if self._file.moved_aside:
            _log.error("windows.begun_anew", code=BROKEN, reason=self._file.moved_aside)
            self._file.moved_aside = ""
        if self._fault:
            self._tell(UNUSABLE, "")
        self._fault = ""


class _Rate:
    """Lets so many bytes a second through that the budget lasts; what is no ordinary verdict goes first.

    Args:
        budget_bytes: The budget.
        clock: Clock for the rate.
    """

    def __init__(self, budget_bytes: int, clock: Clock) -> None:
        self._clock = clock
        self._bytes_per_s = budget_bytes / SPAN_S
        self._most = self._bytes_per_s * _BURST_S
        self._left = self._most
        self._at_s = clock.monotonic_s()

    def admits(self, size_bytes: int, *, ordinary: bool) -> bool:
        """Return whether a window may be kept."""
        now_s = self._clock.monotonic_s()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._bytes_per_s)
        self._at_s = now_s
        reserve = self._most * _ORDINARY_SHARE if ordinary else 0.0
        if self._left - size_bytes < reserve and self._left < self._most:
            return False
        self._left -= size_bytes
        return True
