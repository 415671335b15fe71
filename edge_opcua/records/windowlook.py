"""Reads the windows while somebody else writes them; page by page, so that nobody waits for a reader."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from edge_opcua.core.journalfile import in_words
from edge_opcua.records.window import Answer, Window, WindowSource
from edge_opcua.records.windowfile import schema_of

_T = TypeVar("_T")

PAGE_WINDOWS: Final = 64
_BUSY_S: Final = 5.0

_SELECT: Final = (
    "SELECT windows.id, text, windows.result_id, stroke, captured_ns, verdict, status, fail_safe, score,"
    " confidence, label, reason, model, version, total_ms, judged_ns, sample_status, features, context,"
    " context_status, answer, note, who, utc_ns"
)
# By row number, however many there are of the time that is asked for: a page begins where the last one ended.
_FROM: Final = (
    " FROM windows NOT INDEXED CROSS JOIN sources ON sources.id = source LEFT JOIN answers ON answers.id ="
    " (SELECT MAX(id) FROM answers AS every WHERE every.pipeline = sources.pipeline"
    " AND every.result_id = windows.result_id AND answered = 1)"
)
_WHERE: Final = " WHERE sources.pipeline = :pipeline AND judged_ns BETWEEN :begin AND :end"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which windows somebody wants.

    Args:
        pipeline: Of which pipeline.
        begin_ns: Judged at this time at the earliest, ns UTC.
        end_ns: At this time at the latest, ns UTC.
        most: Only so many, the newest.
        answered: Only those that somebody has answered.
        with_samples: Whether the samples are wanted too.
    """

    pipeline: str
    begin_ns: int = 0
    end_ns: int = (1 << 63) - 1
    most: int = 1 << 62
    answered: bool = False
    with_samples: bool = True

    @property
    def condition(self) -> str:
        """Which rows those are, in SQL; nothing of it comes from outside."""
        return _WHERE + (" AND answered = 1" if self.answered else "")


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of what somebody wants.

    Args:
        count: How many windows.
        begin_ns: Time of the first, ns UTC.
        end_ns: Time of the last, ns UTC.
        first_id: Number of the first.
        last_id: Number of the last; what comes later is not among them.
    """

    count: int
    begin_ns: int
    end_ns: int
    first_id: int
    last_id: int


class WindowLook:
    """The windows of a state directory, for reading; the server may run or not.

    Args:
        path: The SQLite file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def pipelines(self) -> list[str]:
        """Return the pipelines of which there are windows.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        query = (
            "SELECT DISTINCT pipeline FROM sources WHERE EXISTS"
            " (SELECT 1 FROM windows WHERE source = sources.id) ORDER BY pipeline"
        )
        return self._with_file(lambda db: [str(name) for (name,) in db.execute(query)])

    def find(self, wanted: Wanted) -> Found | None:
        """Return what there is; None if there is nothing.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """

        def find(db: sqlite3.Connection) -> Found | None:
            given = _given(wanted)
            base = f"FROM windows JOIN sources ON sources.id = source{wanted.condition}"
            newest = f"SELECT windows.id AS id, judged_ns {base} ORDER BY windows.id DESC LIMIT :most"
            count, begin_ns, end_ns, first_id, last_id = db.execute(
                f"SELECT COUNT(*), MIN(judged_ns), MAX(judged_ns), MIN(id), MAX(id) FROM ({newest})",  # noqa: S608 - no input
                given,
            ).fetchone()
            return Found(count, begin_ns, end_ns, first_id, last_id) if count else None

        return self._with_file(find)

    def windows(self, wanted: Wanted) -> Iterator[Window]:
        """Yield what there is when the first is asked for, oldest first; what is deleted meanwhile is not.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        found = self.find(wanted)
        if found is not None:
            yield from self.between(wanted, found.first_id, found.last_id)

    def between(self, wanted: Wanted, first_id: int, last_id: int) -> Iterator[Window]:
        """Yield what is wanted of some rows, oldest first, as long as they are there.

        Raises:
            OSError: There is no such file, or it cannot be read.
        """
        after = first_id - 1
        while after < last_id:
            page = self._page(wanted, after, last_id)
            if not page:
                return
            after = page[-1].id
            yield from page

    def one(self, pipeline: str, result_id: int) -> Window | None:
        """Return the window of one result without its samples, None if it is not kept."""

        def find(db: sqlite3.Connection) -> Window | None:
            tables = _FROM.replace(" NOT INDEXED CROSS", "")
            query = f"{_SELECT}, NULL{tables} WHERE sources.pipeline = ? AND windows.result_id = ?"
            row = db.execute(query, (pipeline, result_id)).fetchone()
            return None if row is None else _window(row, {})

        return self._with_file(find)

    def history(self, pipeline: str, result_id: int) -> list[tuple[Answer, str, str, int]]:
        """Return every answer to one verdict, oldest first: the answer, the note, who, and when (ns UTC)."""
        query = (
            "SELECT answer, note, who, utc_ns FROM answers WHERE pipeline = ? AND result_id = ? ORDER BY id"
        )
        return self._with_file(
            lambda db: [
                (Answer(answer), note, who, utc_ns)
                for answer, note, who, utc_ns in db.execute(query, (pipeline, result_id))
            ]
        )

    def _page(self, wanted: Wanted, after: int, last: int) -> list[Window]:
        samples = "samples" if wanted.with_samples else "NULL"
        query = (
            f"{_SELECT}, {samples}{_FROM}{wanted.condition}"
            " AND windows.id > :after AND windows.id <= :last ORDER BY windows.id LIMIT :page"
        )
        given = {**_given(wanted), "after": after, "last": last, "page": PAGE_WINDOWS}
        sources: dict[str, WindowSource] = {}
        return self._with_file(lambda db: [_window(row, sources) for row in db.execute(query, given)])

    def _with_file(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if not self._path.is_file():
            raise FileNotFoundError(f"there are no windows: {self._path} is missing")
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as db:
                schema_of(db)
                return work(db)
        except (sqlite3.Error, ValueError) as exc:
            reason = in_words(exc) if isinstance(exc, sqlite3.Error) else str(exc)
            raise OSError(f"the windows {self._path} cannot be read: {reason}") from exc


def _given(wanted: Wanted) -> dict[str, Any]:
    return {
        "pipeline": wanted.pipeline,
        "begin": wanted.begin_ns,
        "end": wanted.end_ns,
        "most": wanted.most,
    }


def _window(row: tuple[Any, ...], sources: dict[str, WindowSource]) -> Window:
    number, text, result_id, stroke, captured_ns, verdict, status, fail_safe, score, confidence = row[:10]
    label, reason, model, version, total_ms, judged_ns, sample_status, features, context, statuses = row[
        10:20
    ]
    answer, note, who, answered_ns, samples = row[20:]
    source = sources.get(text)
    if source is None:
        source = sources[text] = WindowSource.of_text(text)
    return Window(
        source=source,
        result_id=result_id,
        stroke=stroke,
        captured_ns=captured_ns,
        verdict=verdict,
        status=status,
        fail_safe=bool(fail_safe),
        score=_number(score),
        confidence=_number(confidence),
        label=label,
        reason=reason,
        model=model,
        version=version,
        total_ms=_number(total_ms),
        judged_ns=judged_ns,
        features=np.frombuffer(features, np.float32),
        context=np.frombuffer(context, np.float64),
        context_status=np.frombuffer(statuses, np.uint32),
        samples=np.frombuffer(samples or b"", np.float32),
        sample_status=sample_status,
        id=number,
        answer=None if answer is None else Answer(answer),
        note=note or "",
        who=who or "",
        answered_ns=answered_ns or 0,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
