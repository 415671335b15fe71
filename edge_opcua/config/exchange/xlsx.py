"""Reads the first filled sheet of an Excel workbook, whatever somebody put into it."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final

from edge_opcua.config.exchange.listing import ListError
from edge_opcua.config.exchange.xmltree import Element, read_xml

_MAX_PART_BYTES: Final = 64 * 2**20
_MAX_PARTS: Final = 2_000
_MAX_COLUMNS: Final = 256
_MAX_ROWS: Final = 1_048_576
_PLACE: Final = re.compile(r"([A-Z]{1,3})(\d{1,7})")
_SHEET: Final = re.compile(r"xl/worksheets/sheet(\d+)\.xml")


def is_xlsx(data: bytes) -> bool:
    """Return whether a file is a ZIP archive, which no text is."""
    return data.startswith(b"PK\x03\x04")


def read_xlsx(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each row of the first sheet that has any.

    Raises:
        ListError: It is no workbook (T252), is broken, or unpacks to more than is read (T253).
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as exc:
        raise ListError(f"is a broken workbook: {exc}", code="T253", hint="copy it again") from exc
    with archive:
        names = archive.namelist()
        if len(names) > _MAX_PARTS:
            raise ListError(f"is an archive of {len(names)} parts, no workbook", code="T253")
        sheets = sorted((int(match[1]), name) for name in names if (match := _SHEET.fullmatch(name)))
        if not sheets:
            raise ListError("is an archive, but no Excel workbook", hint="unpack it first")
        texts = _shared_texts(archive, names)
        for _, name in sheets:
            rows = list(_rows(read_xml(_part(archive, name)), texts))
            if rows:
                yield from rows
                return


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return one part, unpacked no further than is read; the size it claims is not believed."""
    try:
        with archive.open(name) as stream:
            content = stream.read(_MAX_PART_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as exc:
        raise ListError(f"is a broken workbook: {name}: {exc}", code="T253", hint="copy it again") from exc
    if len(content) > _MAX_PART_BYTES:
        raise ListError(
            f"unpacks to more than {_MAX_PART_BYTES // 2**20} MiB",
            code="T253",
            hint="is this the right file?",
        )
    return content


def _shared_texts(archive: zipfile.ZipFile, names: list[str]) -> list[str]:
    if "xl/sharedStrings.xml" not in names:
        return []
    return [_plain(item) for item in read_xml(_part(archive, "xl/sharedStrings.xml")).all("si")]


def _plain(item: Element) -> str:
    """Return the text of a string item: its own, or that of its runs, without phonetic hints."""
    own = "".join(part.text for part in item.all("t"))
    return own + "".join(part.text for run in item.all("r") for part in run.all("t"))


def _rows(sheet: Element, texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    data = sheet.first("sheetData")
    line = 0
    for row in data.all("row") if data is not None else ():
        given = row.attributes.get("r", "")
        line = int(given) if given.isascii() and given.isdigit() and len(given) < 8 else line + 1
        cells: list[str] = []
        for cell in row.all("c"):
            column = _column(cell, len(cells))
            if column >= _MAX_COLUMNS or line > _MAX_ROWS:
                raise ListError("has cells outside of any sheet", code="T253", line=line)
            cells += [""] * (column + 1 - len(cells))
            cells[column] = _value(cell, texts, line).strip()
        if any(cells):
            yield line, cells


def _column(cell: Element, next_column: int) -> int:
    """Return the number of a cell's column, counted from 0."""
    match = _PLACE.fullmatch(cell.attributes.get("r", ""))
    if match is None:
        return next_column
    number = 0
    for letter in match[1]:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _value(cell: Element, texts: list[str], line: int) -> str:
    kind = cell.attributes.get("t", "n")
    if kind == "inlineStr":
        inline = cell.first("is")
        return _plain(inline) if inline is not None else ""
    value = cell.first("v")
    text = value.text if value is not None else ""
    if kind == "s":
        index = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
        if not 0 <= index < len(texts):
            raise ListError("refers to a text that the workbook does not have", code="T253", line=line)
        return texts[index]
    if kind == "b":
        return "TRUE" if text == "1" else "FALSE"
    return _number(text) if kind == "n" else text


def _number(text: str) -> str:
    """Return a number as the sheet shows it: whole ones without the point that the file may have."""
    try:
        value = float(text)
    except ValueError:
        return text
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else text
