"""The file of the ledger of models: one line an entry, on disk before what it names happens.

Only the one who holds the lock of the state directory writes; everybody may read. A line that was being
written when the power went is no entry: what it would have named has not happened. When the file has grown
large, its oldest entries give way to a first line that says what was the case after them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledger import Entry, Standing, after, from_summary, summary

MOST_BYTES: Final = 4 << 20
MOST_KEPT: Final = 1000
"""Entries that are kept when the file has grown larger than that."""
_CHUNK_BYTES: Final = 65536
_MODE: Final = 0o600

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class History:
    """What a ledger holds.

    Args:
        entries: Every entry, the oldest first.
        standing: What is the case after them.
        damaged: Lines that are no entries; the last one may be a step that was cut off and never happened.
        before: What was the case before the first entry.
    """

    entries: tuple[Entry, ...]
    standing: Standing
    damaged: int
    before: Standing = field(default_factory=Standing)


def read_history(file: Path) -> History:
    """Return what a ledger holds; a file that is not there holds nothing.

    Raises:
        OSError: It cannot be read.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        lines = [b""]
    entries, damaged = [], int(bool(lines[-1]))  # whoever was cut off has not written the end of its line
    before = Standing()
    for line in lines[:-1]:
        try:
            row = json.loads(line)
            if isinstance(row, dict) and "summary" in row:
                before = from_summary(row["summary"])
            else:
                entries.append(Entry.of(row))
        except (ValueError, RecursionError, ModelError):
            damaged += bool(line)
    return History(tuple(entries), standing_of(entries, before), damaged, before)


def standing_of(entries: Iterable[Entry], before: Standing | None = None) -> Standing:
    """Return what is the case after some entries.

    Args:
        entries: In their order.
        before: What was the case before them.
    """
    standing = before or Standing()
    for entry in entries:
        standing = after(standing, entry)
    return standing


class Ledger:
    """The ledger as its one writer sees it; writing waits for the disk, so call it through a worker.

    Args:
        file: The file; its directory exists.
        clock: For the stamps.

    Attributes:
        standing: What is the case.
        damaged: Lines that were no entries when it was opened.
        last: Number of the last entry.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        history = _known(file)
        self.standing = history.standing
        self.damaged = history.damaged
        self.last = max((entry.number for entry in history.entries), default=0)
        self._unwritten: list[Entry] = []
        if history.damaged:
            _log.warning("ledger.damaged", file=str(file), lines=history.damaged)
        if len(history.entries) > MOST_KEPT and file.stat().st_size > MOST_BYTES:
            self._shorten(history)

    def append(self, entry: Entry) -> Entry:
        """Write an entry; when this returns it is on disk.

        Args:
            entry: What is going to happen; its number, change and stamp are given here.

        Returns:
            The entry as it was written.

        Raises:
            OSError: It cannot be written; then it is not the case, and what it names may not happen.
        """
        entry = self._numbered(entry)
        self._write([*self._unwritten, entry])
        self._unwritten.clear()
        self._take(entry)
        return entry

    def take(self, entry: Entry) -> Entry:
        """Take an entry of what has happened already; it is the case even if it cannot be written yet.

        Raises:
            OSError: It is not on disk: a restart would not know of it. The next entry takes it along.
        """
        entry = self._numbered(entry)
        self._unwritten.append(entry)
        self._take(entry)
        self._write(self._unwritten)
        self._unwritten.clear()
        return entry

    def _shorten(self, history: History) -> None:
        """Let the oldest entries give way to what was the case after them; all at once, or not at all."""
        old, kept = history.entries[:-MOST_KEPT], history.entries[-MOST_KEPT:]
        first = {"summary": summary(standing_of(old, history.before))}
        text = "".join(json.dumps(row) + "\n" for row in (first, *(entry.as_json() for entry in kept)))
        scratch = self._file.with_suffix(".new")
        try:
            fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
            try:
                _write_all(fd, text.encode(), 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            scratch.replace(self._file)
            flush_directory(self._file.parent)
        except OSError as exc:
            _log.warning("ledger.not_shortened", file=str(self._file), error=str(exc))

    def _numbered(self, entry: Entry) -> Entry:
        number = self.last + 1
        return replace(entry, number=number, change=entry.change or number, utc_ns=self._clock.utc_ns())

    def _take(self, entry: Entry) -> None:
        self.last = entry.number
        self.standing = after(self.standing, entry)

    def _write(self, entries: Iterable[Entry]) -> None:
        lines = b"".join(json.dumps(each.as_json()).encode() + b"\n" for each in entries)
        is_new = not self._file.exists()
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            end = _end_of_last_line(fd)
            os.ftruncate(fd, end)  # a line that was cut off never was an entry, and must not become one
            try:
                _write_all(fd, lines, end)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, end)
                raise
        finally:
            os.close(fd)
        if is_new:
            flush_directory(self._file.parent)


def _known(file: Path) -> History:
    """Return what a ledger holds; one that cannot be read is damaged, and no reason not to judge."""
    try:
        return read_history(file)
    except OSError as exc:
        _log.error("ledger.unreadable", file=str(file), error=str(exc))
        return History((), Standing(), 1)


def _end_of_last_line(fd: int) -> int:
    """Return where the next line begins: behind the last whole one."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - _CHUNK_BYTES)
        at = os.pread(fd, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _write_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def flush_directory(path: Path) -> None:
    """Wait until what was made or renamed in a directory is on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
