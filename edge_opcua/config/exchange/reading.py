"""Turns bytes into rows with line numbers: CSV as spreadsheets write it, or the first sheet of a workbook."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.config.cells import SHEET_FAULT, split_sheet
from edge_opcua.config.exchange.listing import ListError, Listing, UntranslatableError
from edge_opcua.config.exchange.xlsx import is_xlsx, read_xlsx
from edge_opcua.config.problem import quoted
from edge_opcua.config.sheettext import sheet_text
from edge_opcua.config.syntax import UnreadableError

MAX_LIST_BYTES: Final = 64 * 2**20
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SHEET_NUMBER: Final = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+", re.ASCII)
_HEADER_WITHIN: Final = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One row below the header.

    Args:
        line: Its line, counted from 1.
        cells: What its columns hold, by column name in lower case; empty cells are missing.
        comma: Whether a comma in a number is a decimal one.
    """

    line: int
    cells: dict[str, str]
    comma: bool

    def text(self, *columns: str) -> str:
        """Return the first of some columns that is filled, or an empty text."""
        return next((self.cells[column] for column in columns if column in self.cells), "")

    def whole(self, *columns: str) -> str:
        """Return the same of a column that a spreadsheet must not have touched.

        Raises:
            UntranslatableError: It did: ``####``, ``#REF!``, ``1E+05`` (T208).
        """
        text = self.text(*columns)
        if SHEET_FAULT.fullmatch(text) or _SHEET_NUMBER.fullmatch(text):
            raise UntranslatableError(
                f"{columns[0]} {quoted(text)}: a spreadsheet has damaged this cell",
                code="T208",
                hint='format the column as "Text", or take the file as the product exported it',
            )
        return text

    def number(self, column: str, default: float) -> float:
        """Return a number.

        Raises:
            UntranslatableError: It is none (T245).
        """
        text = self.cells.get(column)
        if text is None:
            return default
        plain = text.replace(",", ".") if self.comma and text.count(",") == 1 else text
        value = float(plain) if _NUMBER.fullmatch(plain) else math.nan
        if not math.isfinite(value):
            raise UntranslatableError(f"{column} {quoted(text)} is not a number", code="T245")
        return value


@dataclass(slots=True)
class Grid:
    """A table before its header is known.

    Args:
        rows: Line and cells of each row that is not empty.
        comma: Whether a comma in a number is a decimal one.
        notice: What has to be said about the encoding; empty if nothing.
        open_line: Line of a quote that never ends, 0 if there is none.
    """

    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    comma: bool = False
    notice: str = ""
    open_line: int = 0


def as_text(data: bytes) -> tuple[str, str]:
    """Return the text of a file, lines ended by a line feed, and a notice if its encoding had to be guessed.

    Raises:
        ListError: It is no text (T252).
    """
    try:
        text, notice = sheet_text(data)
    except UnreadableError as exc:
        raise ListError(str(exc), hint=exc.remedy) from exc
    return text, notice.message if notice else ""


def grid_of(data: bytes) -> Grid:
    """Return the rows of a CSV file or of the first sheet of a workbook.

    Raises:
        ListError: It is neither (T252), is broken or too large (T253).
    """
    if is_xlsx(data):
        return Grid([(line, cells) for line, cells in read_xlsx(data) if any(cells)])
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise ListError(
            "is an Excel workbook of the old kind (.xls)", hint='save it as "xlsx" or "CSV UTF-8"'
        )
    text, notice = as_text(data)
    sheet = split_sheet(text)
    grid = Grid(comma=sheet.separator != ",", notice=notice)
    for row in sheet.every_row():
        if row.may_be_open and not all(cell.is_closed for cell in row.cells):
            grid.open_line = row.line
            break
        if any(row.texts):
            grid.rows.append((row.line, row.texts))
    return grid


def find_header(grid: Grid, required: Iterable[str]) -> tuple[int, list[str]] | None:
    """Return the index of the header row and its columns in lower case; None if no row has all of them."""
    needed = set(required)
    for index, (_, cells) in enumerate(grid.rows[:_HEADER_WITHIN]):
        columns = [cell.casefold().strip() for cell in cells]
        if needed.issubset(columns):
            return index, columns
    return None


def table(grid: Grid, required: Iterable[str], listing: Listing) -> Iterator[Row]:
    """Yield the rows below the header, and note what is wrong with the file as a whole.

    Args:
        grid: The table.
        required: Columns its header has to have, in lower case.
        listing: Where to note it.

    Raises:
        ListError: There is no such header (T252), or the file ends within a quoted cell (T253).
    """
    needed = list(required)
    found = find_header(grid, needed)
    if found is None:
        raise ListError(
            f"has no header with the columns {', '.join(quoted(name) for name in needed)}",
            hint="export it again with its header, or name the product with --format",
        )
    if grid.notice:
        listing.note(0, "T207", grid.notice, 'save it as "CSV UTF-8"')
    index, columns = found
    for line, cells in grid.rows[index + 1 :]:
        filled = {name: cell for name, cell in zip(columns, cells, strict=False) if cell and name}
        yield Row(line, filled, grid.comma)
    if grid.open_line:
        raise ListError("a quote begins here and never ends", code="T253", line=grid.open_line)
