"""Turns the bytes of a table into text, whatever a spreadsheet has made of them."""

from __future__ import annotations

from edge_opcua.config.problem import Problem, Severity
from edge_opcua.config.syntax import UnreadableError


def sheet_text(data: bytes) -> tuple[str, Problem | None]:
    """Return the text of a table, lines ended by a line feed, and a notice if its encoding had to be guessed.

    Raises:
        UnreadableError: It is a workbook, or no text at all.
    """
    notice = None
    if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UnreadableError("is an Excel workbook, not CSV", remedy='save it as "CSV UTF-8"')
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            text = _as_utf16(data)
        elif b"\x00" in data:
            raise UnreadableError("is not a text file", remedy="is this the right file?")
        else:
            text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        text = data.decode("cp1252", errors="replace")
        notice = Problem(
            "T207",
            f"is not UTF-8 (first in line {line}); read as Windows-1252, so check umlauts and °",
            Severity.NOTICE,
            help='save it as "CSV UTF-8"',
        )
    return text.replace("\r\n", "\n").replace("\r", "\n"), notice


def _as_utf16(data: bytes) -> str:
    try:
        return data.decode("utf-16")
    except UnicodeDecodeError as exc:
        raise UnreadableError("is cut off in the middle of a character", remedy="copy it again") from exc
