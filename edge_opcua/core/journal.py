"""Numbered, durable records: results, audit and jobs, kept across crashes, full disks and broken files.

While the disk refuses (full, read-only, gone), records wait in a bounded spool in memory. What overflows
is counted, ordinary records before vital ones, and the journal itself says so in a record of kind ``gap``
as soon as it can be written again.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.core.journalfile import GAP, JournalFile, JournalLimits, Record, in_words
from edge_opcua.core.messages import json_plain
from edge_opcua.core.worker import Worker

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


_CALL_S: Final = 15.0
_END_S: Final = 0.5
_BATCH_RECORDS: Final = 2000

__all__ = ["GAP", "Journal", "JournalLimits", "JournalState", "Record"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JournalState:
    """How the journal is.

    Args:
        spooled: Records that wait in memory.
        written: Records made durable since the start of the process.
        lost: Records given up since the start of the process because the spool was full.
        fault: Why nothing can be written now; empty when all is well.
    """

    spooled: int
    written: int
    lost: int
    fault: str


@dataclass(slots=True)
class _Entry:
    kind: str
    utc_ns: int
    text: str
    marks: Mapping[str, str]
    vital: bool
    done: asyncio.Future[int] | None = None

    def settle(self, record_id: int) -> None:
        """Tell who waits for it that the record has a number, or 0 that it is lost."""
        if self.done is not None and not self.done.done():
            self.done.set_result(record_id)


class Journal:
    """The journal as the event loop of its process sees it; one process writes.

    Args:
        path: The SQLite file; its directory exists.
        clock: Clock for pauses.
        limits: Bounds.
    """

    def __init__(self, path: Path, *, clock: Clock, limits: JournalLimits | None = None) -> None:
        self._path = path
        self._clock = clock
        self._limits = limits or JournalLimits()
        self._worker = Worker("journal")
        self._file = JournalFile(path, clock)
        self._spool = _Spool(self._limits)
        self._session = secrets.token_hex(8)
        self._batch: list[_Entry] = []
        self._batch_gap = 0
        self._batch_number = 0
        self._appended = asyncio.Event()
        self._turn = asyncio.Lock()
        self._written = 0
        self._fault = ""
        self._fault_since_s = 0.0

    @property
    def state(self) -> JournalState:
        """How the journal is now."""
        waiting = len(self._spool) + len(self._batch)
        return JournalState(waiting, self._written, self._spool.lost, self._fault)

    def append(
        self,
        kind: str,
        body: Mapping[str, Any],
        utc_ns: int,
        *,
        marks: Mapping[str, str] | None = None,
        vital: bool = False,
    ) -> None:
        """Take over a record; it is written with the next batch.

        Args:
            kind: What it is.
            body: Its content, JSON types (numpy's are taken too).
            utc_ns: When it happened, ns UTC.
            marks: Values to store in the same transaction, see :meth:`marks`.
            vital: Whether ordinary records shall be given up first when the spool is full.
        """
        self._append(kind, body, utc_ns, marks or {}, vital=vital)

    async def append_durably(
        self, kind: str, body: Mapping[str, Any], utc_ns: int, *, timeout_s: float
    ) -> int:
        """Take over a vital record and wait until it is on disk.

        Returns:
            Its number; 0 if it is not on disk after ``timeout_s`` (it still waits in the spool, or was
            lost and counted).
        """
        entry = self._append(kind, body, utc_ns, {}, vital=True)
        entry.done = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                return await entry.done
        except TimeoutError:
            return 0

    async def run(self) -> None:
        """Write batches until cancelled, then what is left once more."""
        try:
            while True:
                await self._appended.wait()
                await self._clock.sleep(self._limits.batch_s)
                if not await self.flush():
                    await self._clock.sleep(self._limits.retry_s)
        finally:
            await self._end()

    async def flush(self) -> bool:
        """Write everything that waits; False if the disk refuses, then :attr:`state` says why."""
        async with self._turn:
            self._appended.clear()
            while self._batch or self._spool:
                if not self._batch:
                    self._batch, self._batch_gap = self._spool.take(_BATCH_RECORDS)
                if not await self._write_batch():
                    self._appended.set()
                    return False
            return True

    async def read(
        self, reader: str, *, after: int | None = None, limit: int = 1000, kinds: Collection[str] = ()
    ) -> list[Record]:
        """Return the next records of a reader, oldest first.

        Args:
            reader: Name under which it acknowledges.
            after: Number of the last record it has; None for the last one acknowledged.
            limit: Most records to return.
            kinds: Only records of these kinds; empty for all.

        Raises:
            OSError: The disk refuses.
        """
        return await self._call(self._file.read, reader, after, limit, tuple(kinds))

    async def newest(self, limit: int, kinds: Collection[str] = ()) -> list[Record]:
        """Return the newest records, newest first; see :meth:`read`."""
        return await self._call(self._file.newest, limit, tuple(kinds))

    async def acknowledge(self, reader: str, record_id: int) -> None:
        """Say that a reader has dealt with every record up to this one; going back is ignored.

        Raises:
            OSError: The disk refuses.
        """
        await self._call(self._file.acknowledge, reader, record_id)

    async def marks(self) -> dict[str, str]:
        """Return the named values stored along with records, e.g. how far a block was read.

        Raises:
            OSError: The disk refuses.
        """
        return await self._call(self._file.marks)

    def _append(
        self, kind: str, body: Mapping[str, Any], utc_ns: int, marks: Mapping[str, str], *, vital: bool
    ) -> _Entry:
        text = json.dumps(body, separators=(",", ":"), default=json_plain)
        entry = _Entry(kind, utc_ns, text, marks, vital)
        self._spool.put(entry)
        self._appended.set()
        return entry

    async def _write_batch(self) -> bool:
        rows = [(entry.kind, entry.utc_ns, entry.text) for entry in self._batch]
        if self._batch_gap:
            text = json.dumps({"source": "journal", "lost": self._batch_gap, "reason": "the spool was full"})
            rows.append((GAP, self._clock.utc_ns(), text))
        marks = {name: value for entry in self._batch for name, value in entry.marks.items()}
        # The same batch keeps its number until it is known to be written, so a second attempt is harmless.
        ticket = f"{self._session}.{self._batch_number}"
        try:
            first_id = await self._call(self._file.write, ticket, rows, marks, self._limits)
        except OSError as exc:
            self._on_fault(str(exc))
            return False
        self._written += len(self._batch)
        for record_id, entry in enumerate(self._batch, first_id):
            entry.settle(record_id)
        self._batch = []
        self._batch_number += 1
        self._on_success()
        return True

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(_END_S):
                await self.flush()
                await self._worker.call(self._file.close, timeout_s=_END_S)
        except TimeoutError:
            _log.error("journal.end_hangs", path=str(self._path))
        self._worker.close()
        if waiting := self.state.spooled:
            _log.error("journal.lost_at_end", path=str(self._path), records=waiting, reason=self._fault)

    async def _call(self, fn: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Run a function of the store in its thread; every trouble with the disk becomes an OSError."""
        try:
            return await self._worker.call(fn, *args, timeout_s=_CALL_S)
        except sqlite3.Error as exc:
            raise OSError(in_words(exc)) from exc
        except TimeoutError as exc:
            self._file = JournalFile(self._path, self._clock)  # the old one belongs to the thread that hangs
            raise OSError(f"the disk did not answer in {_CALL_S:g} s") from exc

    def _on_fault(self, reason: str) -> None:
        if not self._fault:
            self._fault_since_s = self._clock.monotonic_s()
            _log.error("journal.fault", path=str(self._path), reason=reason, spooled=self.state.spooled)
        self._fault = reason

    def _on_success(self) -> None:
        if self._fault:
            outage_s = round(self._clock.monotonic_s() - self._fault_since_s, 3)
            _log.info("journal.recovered", path=str(self._path), outage_s=outage_s, lost=self._spool.lost)
        self._fault = ""


class _Spool:
    """Records in memory, in order; full, it gives up the oldest ordinary ones first, then the oldest."""

    def __init__(self, limits: JournalLimits) -> None:
        self.lost = 0
        self._gap = 0
        self._limits = limits
        self._entries: dict[int, _Entry] = {}
        self._ordinary: collections.deque[int] = collections.deque()
        self._bytes = 0
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: _Entry) -> None:
        """Append a record and give up others if there are too many."""
        self._entries[self._next] = entry
        if not entry.vital:
            self._ordinary.append(self._next)
        self._next += 1
        self._bytes += len(entry.text)
        while len(self._entries) > self._limits.spool_records or self._bytes > self._limits.spool_bytes:
            oldest = self._ordinary[0] if self._ordinary else next(iter(self._entries))
            self._remove(oldest).settle(0)
            self.lost += 1
            self._gap += 1

    def take(self, count: int) -> tuple[list[_Entry], int]:
        """Take out the oldest records for writing, with how many were lost since the last time."""
        gap, self._gap = self._gap, 0
        return [self._remove(place) for place in list(itertools.islice(self._entries, count))], gap

    def _remove(self, place: int) -> _Entry:
        entry = self._entries.pop(place)
        self._bytes -= len(entry.text)
        if self._ordinary and self._ordinary[0] == place:  # entries leave in order, of their kind
            self._ordinary.popleft()
        return entry
