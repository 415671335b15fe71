"""Splits a CSV text into cells that know their place, so that every message can point at one.

The csv module tells neither columns nor the line where a quoted cell with line breaks began.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Sheet:
    """A CSV text, split.

    Args:
        separator: What separates its cells.
        rows: Its rows, blank ones and comment lines left out; the first is the header.
    """

    separator: str
    rows: tuple[tuple[Cell, ...], ...]


def split_sheet(text: str) -> Sheet:
    """Split a text whose separator is told by a ``sep=`` line or by its header.

    Args:
        text: The text, lines ended by a line feed.
    """
    named = _SEP_LINE.match(text)
    start, first_line = (named.end(), 2) if named else (0, 1)
    separator = named["separator"] if named else _separator_of(text)
    if separator not in SEPARATORS:
        separator = _separator_of(text[start:])
    rows = tuple(row for row in _rows(text, start, first_line, separator) if not _is_empty(row))
    return Sheet(separator, rows)


def _separator_of(text: str) -> str:
    header = next((line for line in text.split("\n", 50) if line.strip() and not line.startswith("#")), "")
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)


def _is_empty(row: tuple[Cell, ...]) -> bool:
    first = row[0].text
    is_comment = first.startswith("#") and not SHEET_FAULT.fullmatch(first)
    return is_comment or all(not cell.text for cell in row)


def _rows(text: str, start: int, line: int, separator: str) -> Iterator[tuple[Cell, ...]]:
    at, line_start = start, start
    row: list[Cell] = []
    while at < len(text):
        cell, at, line, line_start = _cell(text, at, line, line_start, separator)
        row.append(cell)
        if at < len(text) and text[at] == separator:
            at += 1
            if at < len(text):
                continue
            row.append(Cell("", Place(line, at - line_start + 1)))
        yield tuple(row)
        row = []
        at, line, line_start = at + 1, line + 1, at + 1


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
