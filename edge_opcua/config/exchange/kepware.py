"""Kepware's CSV of a device's tags: its Modbus, Siemens TCP/IP and Allen-Bradley ControlLogix drivers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from edge_opcua.config.exchange.dialects import from_kepware, to_kepware, type_of_ours
from edge_opcua.config.exchange.listing import (
    ListedTag,
    Listing,
    Target,
    UntranslatableError,
    linear,
)
from edge_opcua.config.exchange.reading import Grid, Row, table
from edge_opcua.config.problem import quoted
from edge_opcua.config.tags import Access

COLUMNS: Final = (
    "Tag Name",
    "Address",
    "Data Type",
    "Respect Data Type",
    "Client Access",
    "Scan Rate",
    "Scaling",
    "Raw Low",
    "Raw High",
    "Scaled Low",
    "Scaled High",
    "Scaled Data Type",
    "Clamp Low",
    "Clamp High",
    "Eng Units",
    "Description",
    "Negate Value",
)
REQUIRED: Final = ("tag name", "address")
_TYPES: Final = {
    "": "",
    "default": "",
    "boolean": "BOOL",
    "char": "SINT",
    "byte": "USINT",
    "short": "INT",
    "word": "UINT",
    "long": "DINT",
    "dword": "UDINT",
    "llong": "LINT",
    "qword": "ULINT",
    "float": "REAL",
    "double": "LREAL",
    "string": "STRING",
}
_NAMES: Final = {
    **{iec: name.capitalize() for name, iec in _TYPES.items() if iec},
    "BYTE": "Byte",
    "WORD": "Word",
    "UDINT": "DWord",
    "DWORD": "DWord",
    "LINT": "LLong",
    "ULINT": "QWord",
    "LWORD": "QWord",
}
_ACCESS: Final[dict[str, Access]] = {
    "": "r",
    "ro": "r",
    "r": "r",
    "read only": "r",
    "rw": "rw",
    "r/w": "rw",
    "read/write": "rw",
}
_DEFAULT_SCAN_MS: Final = 100


def read(grid: Grid, listing: Listing, target: Target) -> None:
    """Add the tags of a table to a listing.

    Raises:
        ListError: It has no header of Kepware's.
    """
    for row in table(grid, REQUIRED, listing):
        try:
            listing.take(_tag(row, listing, target))
        except UntranslatableError as exc:
            listing.skip(row.line, exc.about(row.text("tag name")))


def _tag(row: Row, listing: Listing, target: Target) -> ListedTag:
    name = row.whole("tag name")
    if not name or not row.whole("address"):
        raise UntranslatableError("the row has no name or no address", code="T204")
    iec = _type(row.text("data type"))
    address = from_kepware(row.whole("address"), iec, target, listing, row.line)
    scale, offset = _scaling(row)
    low, high, clamp = _range(row)
    return ListedTag(
        name=name,
        address=address,
        line=row.line,
        unit=row.text("eng units"),
        description=row.text("description"),
        low=low,
        high=high,
        scale=scale,
        offset=offset,
        clamp=clamp,
        access=_access(row, name),
        period_ms=_period_ms(row),
    )


def _type(text: str) -> str:
    """Return the IEC type of a data type, ``[]`` behind it for an array."""
    plain = text.casefold().strip()
    is_array = plain.endswith("array")
    plain = plain.removesuffix("array").strip()
    if plain not in _TYPES:
        raise UntranslatableError(
            f"data type {quoted(text)} has no counterpart here",
            code="T237",
            hint="BCD and dates: read the raw Word, or leave the tag out",
        )
    return _TYPES[plain] + ("[]" if is_array else "")


def _access(row: Row, name: str) -> Access:
    text = row.text("client access").casefold()
    if text in ("wo", "w", "write only"):
        raise UntranslatableError(
            f"{name} is write-only there; every tag is read here", hint="set it to RW there"
        )
    if text not in _ACCESS:
        raise UntranslatableError(f"client access {quoted(text)} is not one of RO, RW, WO", code="T245")
    return _ACCESS[text]


def _scaling(row: Row) -> tuple[float, float]:
    kind = row.text("scaling").casefold()
    if kind in ("", "none"):
        return 1.0, 0.0
    if kind != "linear":
        raise UntranslatableError(
            f"scaling {quoted(row.text('scaling'))} is not a straight line",
            code="T241",
            hint="take the root in the PLC, or in the client",
        )
    raw = row.number("raw low", 0.0), row.number("raw high", 1000.0)
    scale, offset = linear(*raw, row.number("scaled low", 0.0), row.number("scaled high", 1000.0))
    return (-scale, -offset) if _is_true(row.text("negate value")) else (scale, offset)


def _range(row: Row) -> tuple[float | None, float | None, bool]:
    """Return range and clamp: in Kepware only a clamped end is a limit, the others only define the line."""
    if row.text("scaling").casefold() != "linear":
        return None, None, False
    ends = [row.number("scaled low", 0.0), row.number("scaled high", 1000.0)]
    clamped = _is_true(row.text("clamp low")), _is_true(row.text("clamp high"))
    if ends[0] > ends[1]:
        ends, clamped = [ends[1], ends[0]], (clamped[1], clamped[0])
    if not any(clamped):
        return None, None, False
    if _is_true(row.text("negate value")):
        ends, clamped = [-ends[1], -ends[0]], (clamped[1], clamped[0])
    return (ends[0] if clamped[0] else None), (ends[1] if clamped[1] else None), True


def _is_true(text: str) -> bool:
    return text.casefold() in ("1", "true", "yes")


def _period_ms(row: Row) -> int | None:
    number = row.number("scan rate", 0.0)
    return int(number) if number >= 1 else None


def write(tags: Iterable[ListedTag], listing: Listing, target: Target) -> str:
    """Return a table that Kepware imports into a device of the same protocol.

    Args:
        tags: Tags with our canonical addresses.
        listing: Where what cannot be taken along is noted.
        target: Our device.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for tag in tags:
        try:
            writer.writerow(_row(tag, target))
        except UntranslatableError as exc:
            listing.skip(tag.line, exc.about(tag.name))
        else:
            listing.tags.append(tag)
    return out.getvalue()


def _row(tag: ListedTag, target: Target) -> list[str]:
    iec, count = type_of_ours(tag.address, target)
    if iec not in _NAMES:
        raise UntranslatableError(f"Kepware has no type for {iec}", code="T250")
    is_array = bool(count) and iec != "STRING"
    cells = dict.fromkeys(COLUMNS, "")
    cells |= {
        "Tag Name": tag.name,
        "Address": to_kepware(tag.address, target),
        "Data Type": _NAMES[iec] + (" Array" if is_array else ""),
        "Respect Data Type": "1",
        "Client Access": "R/W" if tag.access == "rw" else "RO",
        "Scan Rate": str(tag.period_ms or _DEFAULT_SCAN_MS),
        "Eng Units": tag.unit,
        "Description": " ".join(tag.description.split()),
    }
    if (tag.scale, tag.offset) != (1.0, 0.0) or tag.clamp:
        cells |= _line(tag)
    return list(cells.values())


def _line(tag: ListedTag) -> dict[str, str]:
    """Return the two points of the line: the ends of the range if it has one."""
    low = tag.offset if tag.low is None else tag.low
    high = low + abs(tag.scale) if tag.high is None else tag.high
    if tag.low is None and tag.high is not None:
        low = high - abs(tag.scale)
    raw = (low - tag.offset) / tag.scale, (high - tag.offset) / tag.scale
    return {
        "Scaling": "Linear",
        "Raw Low": f"{raw[0]!r}",
        "Raw High": f"{raw[1]!r}",
        "Scaled Low": f"{low!r}",
        "Scaled High": f"{high!r}",
        "Scaled Data Type": "Double",
        "Clamp Low": "1" if tag.clamp and tag.low is not None else "0",
        "Clamp High": "1" if tag.clamp and tag.high is not None else "0",
        "Negate Value": "0",
    }
