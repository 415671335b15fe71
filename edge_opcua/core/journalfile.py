"""The file of the journal: one SQLite database in WAL mode, found whole or moved aside.

``synchronous=FULL``: what was reported as written survives a power cut, at the price of one fsync per batch
(NORMAL would lose the last batches then, which an audit may not). Each batch is one transaction and carries
its own ticket, so that a batch whose commit reported an error although it arrived is not written twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from edge_opcua.core.clock import Clock

_T = TypeVar("_T")

GAP: Final = "gap"
SCHEMA_VERSION: Final = 1

_BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY_MS: Final = 2000
_WAL_BYTES: Final = 4 << 20
_DELETE_RECORDS: Final = 5000
_BATCH_MARK: Final = "journal.batch"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    utc_ns INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS records_by_kind ON records (kind, id);
CREATE TABLE IF NOT EXISTS readers (name TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the journal.

    Args:
        id: Its number; grows by one, never used again.
        kind: What it is, e.g. ``result``, ``audit``, ``job``, ``gap``.
        utc_ns: When it happened, ns UTC.
        body: Its content, JSON types.
    """

    id: int
    kind: str
    utc_ns: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Bounds of the journal.

    Args:
        spool_records: Records that may wait in memory.
        spool_bytes: Their size in bytes.
        keep_records: Newest records on disk that stay even if every reader has acknowledged them.
        max_records: Records on disk after which the oldest go even if a reader has not seen them.
        batch_s: Pause in which records gather for one transaction, seconds.
        retry_s: Pause after a fault, seconds.
    """

    spool_records: int = 20_000
    spool_bytes: int = 32 << 20
    keep_records: int = 500_000
    max_records: int = 2_000_000
    batch_s: float = 0.1
    retry_s: float = 1.0


class JournalFile:
    """The SQLite file; every method blocks and belongs to one thread.

    Args:
        path: Where it lies.
        clock: Clock for stamps.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._overrun = False

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def write(
        self,
        ticket: str,
        rows: Sequence[tuple[str, int, str]],
        marks: Mapping[str, str],
        limits: JournalLimits,
    ) -> int:
        """Write records and marks in one transaction and return the number of the first."""
        return self._with_file(lambda db: self._write(db, ticket, rows, marks, limits))

    def read(self, reader: str, after: int | None, limit: int, kinds: tuple[str, ...]) -> list[Record]:
        """See :meth:`Journal.read`."""

        def read(db: sqlite3.Connection) -> list[Record]:
            start = _acknowledged(db, reader) if after is None else after
            return _select(db, "id > ?", start, kinds, f"ORDER BY id LIMIT {limit:d}")

        return self._with_file(read)

    def newest(self, limit: int, kinds: tuple[str, ...]) -> list[Record]:
        """See :meth:`Journal.newest`."""
        return self._with_file(
            lambda db: _select(db, "id > ?", 0, kinds, f"ORDER BY id DESC LIMIT {limit:d}")
        )

    def acknowledge(self, reader: str, record_id: int) -> None:
        """See :meth:`Journal.acknowledge`."""
        self._with_file(
            lambda db: db.execute(
                "INSERT INTO readers VALUES (?, ?) ON CONFLICT (name) DO UPDATE"
                " SET acknowledged = MAX(acknowledged, excluded.acknowledged)",
                (reader, record_id),
            )
        )

    def marks(self) -> dict[str, str]:
        """See :meth:`Journal.marks`."""
        return self._with_file(lambda db: dict(db.execute("SELECT name, value FROM marks").fetchall()))

    def _with_file(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do one thing with the open file; a broken file is moved aside and a new one begun."""
        try:
            return self._attempt(work)
        except sqlite3.DatabaseError as exc:
            if _primary_code(exc) not in _BROKEN:
                raise
            self._move_aside(in_words(exc))
        return self._attempt(work)

    def _attempt(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._db is not None and self._file != _identity(self._path):
                _log.error("journal.file_replaced", path=str(self._path))
                self.close()
            if self._db is None:
                self._db = self._open()
            return work(self._db)
        except (sqlite3.Error, OSError):
            self.close()  # the state of a connection after an I/O error is not worth guessing
            raise

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_MS / 1000)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            _check_version(version)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            if version < SCHEMA_VERSION:
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
        except (sqlite3.Error, OSError):
            db.close()
            raise
        self._file = _identity(self._path)
        return db

    def _write(
        self,
        db: sqlite3.Connection,
        ticket: str,
        rows: Sequence[tuple[str, int, str]],
        marks: Mapping[str, str],
        limits: JournalLimits,
    ) -> int:
        db.execute("BEGIN IMMEDIATE")
        known = db.execute("SELECT value FROM marks WHERE name = ?", (_BATCH_MARK,)).fetchone()
        if known is not None and known[0].startswith(ticket + ":"):
            db.execute("COMMIT")
            return int(known[0].rpartition(":")[2])
        last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'records'").fetchone()
        first_id: int = (last[0] if last is not None else 0) + 1
        db.executemany("INSERT INTO records (kind, utc_ns, body) VALUES (?, ?, ?)", rows)
        stored = {**marks, _BATCH_MARK: f"{ticket}:{first_id}"}
        db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", stored.items())
        self._delete_old(db, limits)
        db.execute("COMMIT")
        return first_id

    def _delete_old(self, db: sqlite3.Connection, limits: JournalLimits) -> None:
        oldest, newest, seen = db.execute(
            "SELECT (SELECT MIN(id) FROM records), (SELECT MAX(id) FROM records),"
            " (SELECT MIN(acknowledged) FROM readers)"
        ).fetchone()
        not_needed = newest - limits.keep_records
        if seen is not None:
            not_needed = min(not_needed, seen)
        too_many = newest - limits.max_records
        overrun = too_many > not_needed
        if overrun and not self._overrun:
            _log.error("journal.reader_overrun", path=str(self._path), acknowledged=seen, oldest=too_many + 1)
        self._overrun = overrun
        bound = min(max(not_needed, too_many), oldest + _DELETE_RECORDS)
        db.execute("DELETE FROM records WHERE id <= ?", (bound,))

    def _move_aside(self, reason: str) -> None:
        stamp = datetime.fromtimestamp(self._path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S")
        aside = self._path.with_name(f"{self._path.name}.broken-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self._path.with_name(f"{self._path.name}.broken-{stamp}-{number}")
        for suffix in ("-wal", "-shm", ""):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        _log.error("journal.broken", path=str(self._path), reason=reason, moved_to=str(aside))
        body = json.dumps({"source": "journal", "reason": f"broken: {reason}", "moved_to": aside.name})

        def note(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO records (kind, utc_ns, body) VALUES (?, ?, ?)", (GAP, self._clock.utc_ns(), body)
            )

        self._attempt(note)


def look(path: Path, *, kinds: tuple[str, ...] = (), last: int = 20) -> list[Record]:
    """Return the newest records of a journal that somebody else writes, oldest first; disturbs nobody.

    Args:
        path: The SQLite file.
        kinds: Kinds of records; empty: all.
        last: How many.

    Raises:
        OSError: There is no journal, or it cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no journal {path}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return _select(db, "id > ?", 0, kinds, f"ORDER BY id DESC LIMIT {last:d}")[::-1]
    except (sqlite3.Error, ValueError) as exc:
        reason = in_words(exc) if isinstance(exc, sqlite3.Error) else str(exc)
        raise OSError(f"the journal {path} cannot be read: {reason}") from exc


def _acknowledged(db: sqlite3.Connection, reader: str) -> int:
    row = db.execute("SELECT acknowledged FROM readers WHERE name = ?", (reader,)).fetchone()
    return int(row[0]) if row is not None else 0


def _select(
    db: sqlite3.Connection, condition: str, argument: int, kinds: tuple[str, ...], tail: str
) -> list[Record]:
    wanted = f" AND kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
    rows = db.execute(
        f"SELECT id, kind, utc_ns, body FROM records WHERE {condition}{wanted} {tail}",  # noqa: S608 - no input
        (argument, *kinds),
    )
    return [Record(number, kind, utc_ns, json.loads(body)) for number, kind, utc_ns, body in rows]


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _check_version(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise OSError(f"it was written by a newer program (schema {version})")


def _primary_code(exc: sqlite3.Error) -> int:
    return getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def in_words(exc: sqlite3.Error) -> str:
    """Return what an operator can act on."""
    if _primary_code(exc) == sqlite3.SQLITE_FULL:
        return "the disk is full"
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    return f"{exc} ({name})"
