"""The file of the windows: one SQLite database within a budget, in which the oldest make room for the newest.

It holds training data, no audit: a commit does not wait for the disk (``synchronous=NORMAL``; a power cut may
cost the last second, never the file), only an answer of a person does. A broken file is moved aside, and only
the last one of those is kept. Free pages are used again, so the file never grows beyond its budget.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from edge_opcua.core.journalfile import in_words
from edge_opcua.records.window import Answer, Window, WindowSource

_T = TypeVar("_T")

SCHEMA_VERSION: Final = 1
_BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY_MS: Final = 2000
_PAGE_BYTES: Final = 4096
_LARGEST_WAL: Final = 8 << 20
_LEAST_ROOM: Final = 256 << 10
_SLACK: Final = 4 << 20
_DELETED_TOGETHER: Final = 8
_DELETED_AT_LEAST: Final = 256
_FREED_PAGES: Final = 2048
_MOST_ANSWERS: Final = 100_000
LEAST_FREE_BYTES: Final = 256 << 20
LEAST_FREE_SHARE: Final = 0.05
"""What stays free on the disk for the journal and for others: the windows stop long before it is full."""

# The samples come last: who does not want them does not read the pages on which they lie.
_SCHEMA: Final = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, text TEXT NOT NULL UNIQUE);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source INTEGER NOT NULL,
    result_id INTEGER NOT NULL,
    stroke INTEGER NOT NULL,
    captured_ns INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    status INTEGER NOT NULL,
    fail_safe INTEGER NOT NULL,
    score REAL,
    confidence REAL,
    label TEXT NOT NULL,
    reason TEXT NOT NULL,
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    total_ms REAL,
    judged_ns INTEGER NOT NULL,
    sample_status INTEGER NOT NULL,
    features BLOB NOT NULL,
    context BLOB NOT NULL,
    context_status BLOB NOT NULL,
    answered INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL,
    samples BLOB NOT NULL
);
CREATE UNIQUE INDEX windows_by_result ON windows (result_id, source);
CREATE INDEX windows_by_time ON windows (judged_ns);
CREATE INDEX windows_by_age ON windows (answered, id, bytes);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline TEXT NOT NULL,
    result_id INTEGER NOT NULL,
    answer TEXT NOT NULL,
    note TEXT NOT NULL,
    who TEXT NOT NULL,
    utc_ns INTEGER NOT NULL
);
CREATE INDEX answers_by_result ON answers (pipeline, result_id, id);
"""
_INSERT: Final = (
    "INSERT OR IGNORE INTO windows (source, result_id, stroke, captured_ns, verdict, status, fail_safe,"
    " score, confidence, label, reason, model, version, total_ms, judged_ns, sample_status, features,"
    " context, context_status, bytes, samples)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ANSWER: Final = (
    "INSERT INTO answers (pipeline, result_id, answer, note, who, utc_ns) VALUES (?, ?, ?, ?, ?, ?)"
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds.

    Args:
        windows: How many windows.
        answered: How many of them somebody has answered.
        size_bytes: Pages in use, bytes.
        oldest_ns: Time of the oldest, ns UTC; 0 if there is none.
        is_full: Whether it holds more than it may, so that more has to go.
    """

    windows: int = 0
    answered: int = 0
    size_bytes: int = 0
    oldest_ns: int = 0
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """A verdict that somebody has answered.

    Args:
        former: The answer that counted before; empty if there was none.
        verdict: The verdict, a number of :class:`edge_opcua.core.values.Verdict`.
        model: Name of the model that gave it.
        version: Its version.
    """

    former: str
    verdict: int
    model: str
    version: int


class WindowFile:
    """The SQLite file; every method blocks and belongs to one thread.

    Args:
        path: Where it lies.
        budget_bytes: Largest size of the file with its log.

    Attributes:
        moved_aside: What became of a broken file; empty if none was. Whoever tells it clears it.
    """

    def __init__(self, path: Path, budget_bytes: int) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._sources: dict[WindowSource, int] = {}
        self._count = self._answered = self._answered_bytes = 0
        self.budget_bytes = budget_bytes
        self.moved_aside = ""

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def resize(self, budget_bytes: int) -> None:
        """Have another budget; what is too much goes with the next writes, and the file shrinks."""
        self.budget_bytes = budget_bytes
        self.close()

    def write(self, windows: Sequence[Window]) -> Kept:
        """Store windows in one transaction, the oldest going for them; one that is there already stays.

        It gives way: where the disk gets short of room, more goes than comes, and the file shrinks.

        Raises:
            OSError: The disk has no room but for the journal, or somebody reads the file without an end, so
                that its log cannot be emptied.
            sqlite3.Error: What SQLite says.
        """
        self._require_short_log()
        spare = self._spare_bytes()
        return self._with_file(lambda db: self._write(db, windows, spare))

    def answer(
        self, pipeline: str, result_id: int, answer: Answer, *, note: str, who: str, utc_ns: int
    ) -> Answered | None:
        """Store what somebody says of a verdict, for certain on disk; the last one counts, the others stay.

        Returns:
            What was answered; None if there is no such window.
        """
        row = (pipeline, result_id, answer.value, note, who, utc_ns)
        return self._with_file(lambda db: self._answer(db, row))

    # --- one transaction each ------------------------------------------------------------------------

    def _write(self, db: sqlite3.Connection, windows: Sequence[Window], spare_bytes: int) -> Kept:
        room = min(self.budget_bytes - self._log_room(), _used_bytes(db) + spare_bytes)
        if room < _LEAST_ROOM:
            raise OSError("the disk has no room but for the journal")
        db.execute("BEGIN IMMEDIATE")
        coming = sum(window.size_bytes for window in windows)
        self._make_room(db, room - coming, most=_DELETED_AT_LEAST + 2 * len(windows))
        for window in windows:
            self._count += db.execute(_INSERT, self._row(db, window)).rowcount
        db.execute("COMMIT")
        if _free_bytes(db) > (room >> 3 if spare_bytes > 0 else 0):
            self._shrink(db)
        return self._kept(db, room)

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Give pages that hold nothing back to the disk, in bites that the log has room for.

        Each page at the end of the file that holds something goes through the log to a free place: in one
        bite they would need most room where there is least.
        """
        bite = max(1, self._log_room() // 4 // _PAGE_BYTES)
        for _ in range(-(-_FREED_PAGES // bite)):
            if not _free_bytes(db):
                return
            db.executescript(f"PRAGMA incremental_vacuum({bite})")  # to its end: a page is a step

    def _row(self, db: sqlite3.Connection, window: Window) -> tuple[Any, ...]:
        return (
            self._source(db, window.source),
            window.result_id,
            window.stroke,
            window.captured_ns,
            window.verdict,
            window.status,
            window.fail_safe,
            window.score,  # SQLite stores NaN as NULL
            window.confidence,
            window.label,
            window.reason,
            window.model,
            window.version,
            window.total_ms,
            window.judged_ns,
            window.sample_status,
            window.features.tobytes(),
            window.context.tobytes(),
            window.context_status.tobytes(),
            window.size_bytes,
            window.samples.tobytes(),
        )

    def _source(self, db: sqlite3.Connection, source: WindowSource) -> int:
        found = self._sources.get(source)
        if found is None:
            text = source.text
            db.execute(
                "INSERT OR IGNORE INTO sources (pipeline, text) VALUES (?, ?)", (source.pipeline, text)
            )
            (found,) = db.execute("SELECT id FROM sources WHERE text = ?", (text,)).fetchone()
            self._sources[source] = int(found)
        return int(found)

    def _make_room(self, db: sqlite3.Connection, room: int, *, most: int) -> None:
        """Delete the oldest until the rest fits; what somebody answered goes last, up to half of the room."""
        deleted = 0
        while self._count and deleted < most and _used_bytes(db) > room:
            crowded = self._answered == self._count or self._answered_bytes > room // 2
            rows = db.execute(
                "SELECT id, bytes FROM windows WHERE answered = ? ORDER BY id LIMIT ?",
                (crowded, _DELETED_TOGETHER),
            ).fetchall()
            db.executemany("DELETE FROM windows WHERE id = ?", [(number,) for number, _ in rows])
            deleted += len(rows)
            self._count -= len(rows)
            if crowded:
                self._answered -= len(rows)
                self._answered_bytes -= sum(size for _, size in rows)

    def _answer(self, db: sqlite3.Connection, row: tuple[Any, ...]) -> Answered | None:
        pipeline, result_id = row[:2]
        found = db.execute(
            "SELECT windows.id, answered, bytes, verdict, model, version FROM windows"
            " JOIN sources ON sources.id = source"
            " WHERE result_id = ? AND pipeline = ? ORDER BY windows.id DESC",
            (result_id, pipeline),
        ).fetchone()
        if found is None:
            return None
        number, answered, size, verdict, model, version = found
        former = last_answer(db, pipeline, result_id)
        db.execute("PRAGMA synchronous = FULL")
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute(_ANSWER, row)
            db.execute("DELETE FROM answers WHERE id <= (SELECT MAX(id) FROM answers) - ?", (_MOST_ANSWERS,))
            db.execute("UPDATE windows SET answered = 1 WHERE id = ?", (number,))
            db.execute("COMMIT")
        finally:
            db.execute("PRAGMA synchronous = NORMAL")
        if not answered:
            self._answered += 1
            self._answered_bytes += size
        return Answered(former, verdict, model, version)

    def _kept(self, db: sqlite3.Connection, room: int) -> Kept:
        (oldest,) = db.execute("SELECT MIN(judged_ns) FROM windows").fetchone()
        used = _used_bytes(db)
        return Kept(self._count, self._answered, used, oldest or 0, is_full=used > room)

    # --- the file ------------------------------------------------------------------------------------

    def _spare_bytes(self) -> int:
        """Return how much may be added until the rest of the disk is for others; negative if it is."""
        disk = shutil.disk_usage(self._path.parent)
        log = self._log_room() - self._log_bytes()
        return disk.free - round(min(LEAST_FREE_BYTES, LEAST_FREE_SHARE * disk.total)) - log

    def _require_short_log(self) -> None:
        if self._log_bytes() > 2 * self._log_room() + _SLACK:
            self.close()  # which empties the log, unless somebody else is at it
            raise OSError("another program reads the file without an end, so its log cannot be emptied")

    def _log_room(self) -> int:
        """Return how much of the budget, and of a small disk, the log may take."""
        total = shutil.disk_usage(self._path.parent).total
        return min(_LARGEST_WAL, min(self.budget_bytes, total // 4) // 4)

    def _log_bytes(self) -> int:
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def _with_file(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do one thing with the open file; a broken file is moved aside and a new one begun."""
        try:
            return self._attempt(work)
        except sqlite3.DatabaseError as exc:
            if (getattr(exc, "sqlite_errorcode", 0) & 0xFF) not in _BROKEN:
                raise
            self._move_aside(in_words(exc))
        return self._attempt(work)

    def _attempt(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._db is not None and self._file != _identity(self._path):
                _log.warning("windows.file_replaced", path=str(self._path))
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
            version = schema_of(db)
            if version == 0:
                db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA secure_delete = OFF")  # else, as on Debian, what goes is written once more
            wal = self._log_room()
            db.execute(f"PRAGMA journal_size_limit = {wal // 2}")
            db.execute(f"PRAGMA wal_autocheckpoint = {wal // 4 // _PAGE_BYTES}")
            if version < SCHEMA_VERSION:
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")
            self._count = db.execute("SELECT COUNT(*) FROM windows").fetchone()[0]
            self._answered, answered_bytes = db.execute(
                "SELECT COUNT(*), SUM(bytes) FROM windows WHERE answered = 1"
            ).fetchone()
            self._answered_bytes = answered_bytes or 0
        except (sqlite3.Error, OSError):
            db.close()
            raise
        self._sources.clear()
        self._file = _identity(self._path)
        return db

    def _move_aside(self, reason: str) -> None:
        aside = self._path.with_name(self._path.name + ".broken")
        for suffix in ("-wal", "-shm", ""):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        self.moved_aside = (
            f"{self._path.name} was broken ({reason}) and is now {aside.name}; a new one is begun"
        )
        _log.error("windows.broken", path=str(self._path), reason=reason, moved_to=str(aside))


def schema_of(db: sqlite3.Connection) -> int:
    """Return the version of the tables; OSError if a newer program has written them."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise OSError(f"it was written by a newer program (schema {version})")
    return int(version)


def last_answer(db: sqlite3.Connection, pipeline: str, result_id: int) -> str:
    """Return the answer that counts, empty if nobody has given one."""
    row = db.execute(
        "SELECT answer FROM answers WHERE pipeline = ? AND result_id = ? ORDER BY id DESC LIMIT 1",
        (pipeline, result_id),
    ).fetchone()
    return str(row[0]) if row is not None else ""


def _used_bytes(db: sqlite3.Connection) -> int:
    """Return the pages in use, bytes; inside a transaction what it will be after it."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    return int(pages - free) * _PAGE_BYTES


def _free_bytes(db: sqlite3.Connection) -> int:
    """Return the pages of the file that hold nothing, bytes."""
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    return int(free) * _PAGE_BYTES


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
