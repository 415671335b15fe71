"""Splits a CSV text into cells that know their place, so that every message can point at one.

The csv module tells neither columns nor the line where a quoted cell with line breaks began.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from edge_opcua.config.problem import Place

SEPARATORS: Final = (",", ";", "\t")
SEPARATOR_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}

# What a spreadsheet shows instead of a value.
SHEET_FAULT: Final = re.compile(r"#{3,}|#(?:REF|NAME|VALUE|N/A|DIV/0|NULL|NUM|BEZUG|WERT|NV)[!?]?")
_SEP_LINE: Final = re.compile(r"^\"?sep=(?P<separator>.)\"?[ \t]*(?:\n|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Args:
        text: Its content, without quotes and surrounding blanks.
        place: Where it begins.
        is_closed: False if it began with a quote that never ends.
    """

    text: str
    place: Place
    is_closed: bool = True


class SheetRow:
    """One row; its cells' places are worked out only if somebody asks, which is when something is wrong.

    Args:
        sheet: The sheet.
        at: Index of its first character.
        line: Its line.
        texts: What its cells hold; None if that takes a closer look.

    Attributes:
        line: Its line, the first one if it has several.
    """

    __slots__ = ("_at", "_cells", "_sheet", "_texts", "line")

    def __init__(self, sheet: Sheet, at: int, line: int, texts: list[str] | None = None) -> None:
        self.line = line
        self._sheet = sheet
        self._at = at
        self._texts = texts
        self._cells: tuple[Cell, ...] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def texts(self) -> list[str]:
        """What its cells hold, without quotes and surrounding blanks."""
        if self._texts is None:
            self._texts = [cell.text for cell in self.cells]
        return self._texts

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Its cells with their places."""
        if self._cells is None:
            self._cells = _row(self._sheet.text, self._at, self.line, self._sheet.separator)[0]
        return self._cells

    @property
    def may_be_open(self) -> bool:
        """Whether a quote in it may never end."""
        return self._cells is not None


@dataclass(frozen=True)
class Sheet:
    """A CSV text and how it is to be read.

    Args:
        text: The text, lines ended by a line feed.
        separator: What separates its cells.
        start: Index of its first row.
        first_line: Line of its first row.
    """

    text: str
    separator: str
    start: int = 0
    first_line: int = 1

    def rows(self) -> Iterator[SheetRow]:
        """Yield its rows, blank ones and comment lines left out; the first is the header."""
        return (row for row in self.every_row() if not _is_empty(row.texts))

    def row_at(self, line: int) -> SheetRow:
        """Return the row that begins in a line."""
        return SheetRow(self, self._line_starts[line - 1], line)

    def line(self, number: int) -> str:
        """Return one of its lines, counted from 1; an empty text if there is none."""
        starts = self._line_starts
        return self.text[starts[number - 1] : starts[number] - 1] if 0 < number < len(starts) else ""

    @cached_property
    def _line_starts(self) -> list[int]:
        """Where each line begins, and where one more would."""
        lengths = (len(line) + 1 for line in self.text.split("\n"))
        return list(itertools.accumulate(lengths, initial=0))

    def every_row(self) -> Iterator[SheetRow]:
        """Yield its rows with the blank ones and the comment lines."""
        text, separator = self.text, self.separator
        at, line = self.start, self.first_line
        while at < len(text):
            end = text.find("\n", at)
            plain = text[at : len(text) if end < 0 else end]
            if '"' not in plain:
                yield SheetRow(self, at, line, [part.strip() for part in plain.split(separator)])
                at, line = at + len(plain) + 1, line + 1
            else:
                row = SheetRow(self, at, line)
                row._cells, at, line = _row(text, at, line, separator)  # noqa: SLF001 - they are here already
                yield row


def split_sheet(text: str) -> Sheet:
    """Return how to read a text whose separator is told by a ``sep=`` line or by its header.

    Args:
        text: The text, lines ended by a line feed.
    """
    named = _SEP_LINE.match(text)
    start, first_line = (named.end(), 2) if named else (0, 1)
    separator = named["separator"] if named else _separator_of(text)
    if separator not in SEPARATORS:
        separator = _separator_of(text[start:])
    return Sheet(text, separator, start, first_line)


def _separator_of(text: str) -> str:
    header = next((line for line in text.split("\n", 50) if line.strip() and not line.startswith("#")), "")
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def _is_empty(texts: list[str]) -> bool:
    first = texts[0]
    is_comment = first.startswith("#") and not SHEET_FAULT.fullmatch(first)
    return is_comment or not any(texts)


def _row(text: str, at: int, line: int, separator: str) -> tuple[tuple[Cell, ...], int, int]:
    """Read one row; return its cells, and index and line of what follows."""
    line_start = at
    row: list[Cell] = []
    while True:
        cell, at, line, line_start = _cell(text, at, line, line_start, separator)
        row.append(cell)
        if text[at : at + 1] != separator:
            return tuple(row), at + 1, line + 1
        at += 1


def _cell(text: str, at: int, line: int, line_start: int, separator: str) -> tuple[Cell, int, int, int]:
    """Read one cell; return it, the index of what ends it, and the line that index is in."""
    begin, begin_line, begin_start = at, line, line_start
    while at < len(text) and text[at] == " ":
        at += 1
    if text[at : at + 1] != '"':
        end = _end_of_plain(text, begin, separator)
        raw = text[begin:end]
        lead = len(raw) - len(raw.lstrip())
        content = raw.strip()
        return (
            Cell(content, Place(line, begin + lead - line_start + 1, max(1, len(content)))),
            end,
            line,
            line_start,
        )
    parts, at = [], at + 1
    while True:
        quote = text.find('"', at)
        if quote < 0:
            place = Place(begin_line, begin - begin_start + 1)
            return (
                Cell(text[at:].strip(), place, is_closed=False),
                len(text),
                line + text.count("\n", at),
                len(text),
            )
        parts.append(text[at:quote])
        at = quote + 1
        if text[at : at + 1] != '"':
            break
        parts.append('"')
        at += 1
    breaks = text.count("\n", begin, at)
    if breaks:
        line, line_start = line + breaks, text.rfind("\n", begin, at) + 1
    end = _end_of_plain(text, at, separator)
    content = "".join(parts) + text[at:end].rstrip()
    width = (end if not breaks else begin + 1) - begin
    place = Place(begin_line, begin - begin_start + 1, max(1, width))
    return Cell(content.strip(), place), end, line, line_start


def _end_of_plain(text: str, at: int, separator: str) -> int:
    ends = [index for index in (text.find(separator, at), text.find("\n", at)) if index >= 0]
    return min(ends, default=len(text))
