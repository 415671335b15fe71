"""The file of the ledger of models: one line an entry, on disk before what it names happens.

Only the one who holds the lock of the state directory writes; everybody may read. A line that was being
written when the power went is no entry: what it would have named has not happened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledger import Entry, Kind, Standing, Step, after

MOST_BYTES: Final = 4 << 20
_MODE: Final = 0o600

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class History:
    """What a ledger holds.

    Args:
        entries: Every entry, the oldest first.
        standing: What is the case after them.
        damaged: Lines that are no entries; the last one may be a step that was cut off and never happened.
    """

    entries: tuple[Entry, ...]
    standing: Standing
    damaged: int


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
    for line in lines[:-1]:
        try:
            entries.append(Entry.of(json.loads(line)))
        except (ValueError, RecursionError, ModelError):
            damaged += bool(line)
    return History(tuple(entries), standing_of(entries), damaged)


def standing_of(entries: Iterable[Entry]) -> Standing:
    """Return what is the case after some entries."""
    standing = Standing()
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
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        history = read_history(file)
        self.standing = history.standing
        self._last = max((entry.number for entry in history.entries), default=0)
        if history.damaged:
            _log.warning("ledger.damaged", file=str(file), lines=history.damaged)

    def begin(self, entry: Entry) -> Entry:
        """Write the first entry of a change and return it with its number."""
        return self.append(replace(entry, change=self._last + 1))

    def go_on(self, entry: Entry, step: Step, why: str = "") -> Entry:
        """Write the next step of a change and return it."""
        return self.append(replace(entry, step=step, why=why))

    def judge(self, entry: Entry, step: Step, user: str, why: str) -> Entry:
        """Put the model of an entry into quarantine, or release it."""
        return self.begin(replace(entry, kind=Kind.VERDICT, step=step, user=user, why=why, note=""))

    def append(self, entry: Entry) -> Entry:
        """Write an entry; when this returns it is on disk.

        Args:
            entry: What is going to happen; its number and stamp are given here.

        Returns:
            The entry as it was written.

        Raises:
            OSError: It cannot be written; then it is not the case, and what it names may not happen.
        """
        entry = replace(entry, number=self._last + 1, utc_ns=self._clock.utc_ns())
        self._write(json.dumps(entry.as_json(), ensure_ascii=False).encode() + b"\n")
        self._last = entry.number
        self.standing = after(self.standing, entry)
        return entry

    def _write(self, line: bytes) -> None:
        is_new = not self._file.exists()
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            end = _end_of_last_line(fd)
            os.ftruncate(fd, end)
            try:
                _write_all(fd, line, end)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, end)  # half a line would be taken for damage
                raise
        finally:
            os.close(fd)
        if is_new:
            flush_directory(self._file.parent)


def _end_of_last_line(fd: int) -> int:
    """Return where the next line begins: behind the last whole one."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - 65536)
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
