"""What ``probe`` prints: steps beside each other, readings in a table, and lines for the tag table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from edge_opcua.app.command.look import printable
from edge_opcua.drivers.probing import NO_TIME, Candidate, Finding

_GAP: Final = "   "
_INDENT: Final = "      "
_MOST_LISTED: Final = 8
_UNIT: Final = re.compile(r"^\d{1,3}/")
_TYPE: Final = re.compile(r":[A-Z]+(\[\d+\])?([xX]\d+)?$")
_REGISTER: Final = re.compile(r"^(hr|ir|co|di):")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_]+")


class Stream(Protocol):
    """The part of standard output that is needed."""

    def write(self, text: str, /) -> int:
        """Write a text."""
        ...

    def flush(self) -> None:
        """Hand on what was written."""
        ...


class Steps:
    """Writes short texts beside each other, each at once, and goes on in the next line at the width.

    Args:
        stream: Where they go.
        width: Columns of the terminal.
    """

    def __init__(self, stream: Stream, width: int) -> None:
        self._stream = stream
        self._width = width
        self._column = 0

    def piece(self, text: str, *, pad: int = 0) -> None:
        """Write one text behind the others; ``pad`` columns at least."""
        shown = text.ljust(pad)
        if self._column and self._column + len(_GAP) + len(text) > self._width:
            self._write(f"\n{_INDENT}{shown}")
            self._column = len(_INDENT) + len(shown)
            return
        gap = _GAP if self._column else ""
        self._write(gap + shown)
        self._column += len(gap) + len(shown)

    def line(self, text: str) -> None:
        """Write a line of its own, or several."""
        self.end()
        self._write(f"{text}\n")

    def end(self) -> None:
        """End the line that was begun."""
        if self._column:
            self._write("\n")
        self._column = 0

    def _write(self, text: str) -> None:
        self._stream.write("\n".join(map(printable, text.split("\n"))))
        self._stream.flush()


def failure_lines(finding: Finding) -> str:
    """Return a failed step as an error with its remedy."""
    text = f"error[{finding.code}] {finding.text}"
    return f"{text}\n{_INDENT}help: {finding.help}" if finding.help else text


def reading_lines(candidates: Sequence[Candidate]) -> list[str]:
    """Return the ways to read some bytes, side by side, the plausible one marked."""
    if not candidates:
        return []
    kinds = list(dict.fromkeys(kind for candidate in candidates for kind in candidate.values))
    if len(candidates) == 1 and not candidates[0].order:
        values = candidates[0].values
        return [f"  {kind:<7} {value_text(values[kind], kind)}" for kind in kinds]
    rows = [("order", *kinds)]
    for one in candidates:
        cells = (value_text(one.values[kind], kind) if kind in one.values else "" for kind in kinds)
        rows.append((one.order, *(cell if cell.startswith("-") else f" {cell}" for cell in cells)))
    rows[0] = ("order", *(f" {kind}" for kind in kinds))
    widths = [max(len(row[column]) for row in rows) for column in range(len(kinds) + 1)]
    marks = ["", *(f"<- plausible: {one.plausible}" if one.plausible else "" for one in candidates)]
    return [
        f"  {'  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))}  {mark}".rstrip()
        for row, mark in zip(rows, marks, strict=True)
    ]


def value_text(value: Any, kind: str) -> str:
    """Return a value as a person compares it with a display."""
    if value is None:
        return NO_TIME
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return f"{value:.15g}" if kind.startswith("L") else f"{value:.7g}"
    if isinstance(value, list | tuple):
        shown = " ".join(value_text(each, kind) for each in value[:_MOST_LISTED])
        more = len(value) - _MOST_LISTED
        return f"{shown} … {more} more" if more > 0 else shown
    return str(value)


def chosen(finding: Finding) -> Candidate | None:
    """Return the reading to be taken over: the plausible one, or the only one."""
    plausible = [one for one in finding.candidates if one.plausible]
    if plausible:
        return plausible[0]
    return finding.candidates[0] if len(finding.candidates) == 1 else None


def table_lines(findings: Iterable[Finding]) -> list[str]:
    """Return a row of a tag table for each read whose address is clear."""
    found = [one for finding in findings if finding.step == "read" and (one := chosen(finding))]
    return [
        csv_line((tag_name(one.address), one.address, ""))
        for one in found
        if one.address and any(map(_holds_something, one.values.values()))
    ]


def _holds_something(value: Any) -> bool:
    """Whether bytes are a value of the type they were read as."""
    if isinstance(value, list | tuple):
        return any(map(_holds_something, value))
    return value is not None


def tag_name(address: str) -> str:
    """Return a name for a tag of which only the address is known: ``hr100`` for ``1/hr:100:REAL``."""
    place = _TYPE.sub("", _UNIT.sub("", address.partition(";")[0]))
    name = _NO_NAME.sub("_", _REGISTER.sub(r"\1", place)).strip("_") or "tag"
    return name if not name[0].isdigit() else f"t{name}"


def csv_line(cells: Iterable[str]) -> str:
    """Return cells as one row, quoted where a separator or a quote is in them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
