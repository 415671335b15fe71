"""TIA Portal's tag table, exported as xlsx or CSV: inputs, outputs and memory; data blocks are not in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from edge_opcua.config.exchange import siemens
from edge_opcua.config.exchange.dialects import S7, other_driver
from edge_opcua.config.exchange.listing import (
    ListedTag,
    Listing,
    Target,
    UntranslatableError,
    split_unit,
    with_unit,
)
from edge_opcua.config.exchange.reading import Grid, Row, table
from edge_opcua.config.problem import quoted

COLUMNS: Final = (
    "Name",
    "Path",
    "Data Type",
    "Logical Address",
    "Comment",
    "Hmi Visible",
    "Hmi Accessible",
    "Hmi Writeable",
    "Typeobject ID",
    "Version ID",
)
REQUIRED: Final = ("name", "data type", "logical address")
_TABLE: Final = "Default tag table"
_LONG_NAMES: Final = {"TIME_OF_DAY": "TOD", "LTIME_OF_DAY": "LTOD", "DATE_AND_LTIME": "LDT"}
_NAMES: Final = {
    "BOOL": "Bool",
    "BYTE": "Byte",
    "SINT": "SInt",
    "USINT": "USInt",
    "INT": "Int",
    "UINT": "UInt",
    "WORD": "Word",
    "DATE": "Date",
    "DINT": "DInt",
    "UDINT": "UDInt",
    "DWORD": "DWord",
    "REAL": "Real",
    "TIME": "Time",
    "TOD": "Time_Of_Day",
    "LINT": "LInt",
    "ULINT": "ULInt",
    "LWORD": "LWord",
    "LREAL": "LReal",
    "LTIME": "LTime",
    "LTOD": "LTime_Of_Day",
    "LDT": "LDT",
}


def read(grid: Grid, listing: Listing, target: Target) -> None:
    """Add the tags of a table to a listing.

    Raises:
        ListError: It has no header of TIA Portal's.
        UntranslatableError: The device is no S7 PLC.
    """
    if target.driver != S7:
        raise other_driver(target.driver, "a TIA tag table")
    for row in table(grid, REQUIRED, listing):
        try:
            listing.take(_tag(row))
        except UntranslatableError as exc:
            listing.skip(row.line, exc.about(row.text("name")))


def _tag(row: Row) -> ListedTag:
    name, place = row.whole("name"), row.whole("logical address")
    if not name or not place:
        raise UntranslatableError(f"{quoted(name)} has no name or no logical address", code="T204")
    kind = row.text("data type").strip('"').upper()
    kind = _LONG_NAMES.get(kind, kind)
    if kind not in _NAMES:
        raise UntranslatableError(
            f"{quoted(name)}: data type {quoted(row.text('data type'))} has no counterpart here",
            code="T237",
            hint="timers, counters and structures: copy what is needed into a data block",
        )
    address = siemens.from_foreign(place, kind, loose=siemens.SIZES.get(kind) == 8)
    description, unit = split_unit(row.text("comment"))
    writable = row.text("hmi writeable").casefold() in ("true", "wahr", "1")
    return ListedTag(
        name=name,
        address=address,
        line=row.line,
        unit=unit,
        description=description,
        access="rw" if writable and not address.startswith("I") else "r",
    )


def write(tags: Iterable[ListedTag], listing: Listing, target: Target) -> str:
    """Return a tag table for TIA Portal, as CSV to be opened and saved as xlsx, or imported by a tool.

    Args:
        tags: Tags with our canonical addresses.
        listing: Where what cannot be taken along is noted.
        target: Our device.

    Raises:
        UntranslatableError: The device is no S7 PLC.
    """
    if target.driver != S7:
        raise other_driver(target.driver, "a TIA tag table")
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for tag in tags:
        try:
            writer.writerow(_row(tag, listing))
        except UntranslatableError as exc:
            listing.skip(tag.line, exc.about(tag.name))
        else:
            listing.tags.append(tag)
    return out.getvalue()


def _row(tag: ListedTag, listing: Listing) -> list[str]:
    place = siemens.from_ours(tag.address)
    if place.area == "DB":
        raise UntranslatableError(
            f"{tag.address}: a tag table holds no data blocks",
            code="T250",
            hint="the block's own source in TIA Portal says the same",
        )
    if place.type not in _NAMES or place.count:
        raise UntranslatableError(f"a tag table has no {place.type} of this kind", code="T250")
    if (tag.scale, tag.offset) != (1.0, 0.0):
        listing.note(tag.line, "T251", f"{tag.name}: a tag table has no column for its scale and offset")
    comment = with_unit(" ".join(tag.description.split()), tag.unit)
    writable = "True" if tag.access == "rw" else "False"
    is_long = siemens.SIZES.get(place.type) == 8  # a tag table shows these as a bit address
    logical = f"%{place.area}{place.start}.0" if is_long else f"%{siemens.to_plain(place)}"
    return [tag.name, _TABLE, _NAMES[place.type], logical, comment, "True", "True", writable, "", ""]
