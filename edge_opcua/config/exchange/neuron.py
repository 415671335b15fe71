"""EMQ Neuron's tag list (xlsx, from version 4 CSV): Modbus, S7 and EtherNet/IP plugins."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from edge_opcua.config.exchange.dialects import from_neuron, to_neuron, type_of_ours
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

COLUMNS: Final = ("group", "name", "address", "attribute", "type", "description", "precision", "decimal")
REQUIRED: Final = ("group", "name", "address", "attribute")
_TYPES: Final = {
    "bit": "BOOL",
    "bool": "BOOL",
    "int8": "SINT",
    "uint8": "USINT",
    "int16": "INT",
    "uint16": "UINT",
    "int32": "DINT",
    "uint32": "UDINT",
    "int64": "LINT",
    "uint64": "ULINT",
    "float": "REAL",
    "double": "LREAL",
    "string": "STRING",
    "word": "WORD",
    "dword": "DWORD",
    "lword": "LWORD",
}
_NAMES: Final = {iec: name.upper() for name, iec in _TYPES.items() if name != "bool"}
_READ, _WRITE, _STATIC = 1, 2, 8


def read(grid: Grid, listing: Listing, target: Target) -> None:
    """Add the tags of a table to a listing.

    Raises:
        ListError: It has no header of Neuron's.
    """
    for row in table(grid, REQUIRED, listing):
        try:
            listing.take(_tag(row, listing, target))
        except UntranslatableError as exc:
            listing.skip(row.line, exc.about(row.text("name")))


def _tag(row: Row, listing: Listing, target: Target) -> ListedTag:
    name, address = row.whole("name"), row.whole("address")
    attributes = _attributes(row.text("attribute"))
    if attributes & _STATIC:
        raise UntranslatableError(f"{quoted(name)} is static, not a value of a device", code="T238")
    if not attributes & _READ:
        raise UntranslatableError(f"{quoted(name)} is write-only there; every tag is read here")
    if not name or not address:
        raise UntranslatableError("the row has no name or no address", code="T204")
    kind = row.text("type").casefold()
    if kind not in _TYPES:
        raise UntranslatableError(f"type {quoted(row.text('type'))} has no counterpart here", code="T237")
    description, unit = split_unit(row.text("description"))
    return ListedTag(
        name=name,
        address=from_neuron(address, _TYPES[kind], target, listing, row.line),
        line=row.line,
        unit=row.text("unit") or unit,
        description=description,
        scale=row.number("decimal", 0.0) or 1.0,
        offset=row.number("bias", 0.0),
        access="rw" if attributes & _WRITE else "r",
        group=row.text("group"),
    )


def _attributes(text: str) -> int:
    """Return the bits of an attribute: a number, or words such as ``Read Write``."""
    if text.isascii() and text.isdigit() and len(text) < 4:
        return int(text)
    words = text.casefold()
    known = {"read": _READ, "write": _WRITE, "subscribe": 4, "static": _STATIC}
    bits = sum(bit for word, bit in known.items() if word in words)
    if not bits:
        raise UntranslatableError(f"attribute {quoted(text)} is not Read, Write or Subscribe", code="T245")
    return bits | _READ if bits & 4 else bits


def write(tags: Iterable[ListedTag], listing: Listing, target: Target) -> str:
    """Return a table that Neuron imports into a node of the same protocol.

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
            writer.writerow(_row(tag, listing, target))
        except UntranslatableError as exc:
            listing.skip(tag.line, exc.about(tag.name))
        else:
            listing.tags.append(tag)
    return out.getvalue()


def _row(tag: ListedTag, listing: Listing, target: Target) -> list[str]:
    iec, _ = type_of_ours(tag.address, target)
    if iec not in _NAMES:
        raise UntranslatableError(f"Neuron has no type for {iec}", code="T250")
    address = to_neuron(tag.address, target)
    if tag.offset:
        listing.note(
            tag.line, "T251", f"{tag.name}: Neuron's list has no column for the offset {tag.offset:g}"
        )
    return [
        tag.group or "default",
        tag.name,
        address,
        "Read Write" if tag.access == "rw" else "Read",
        _NAMES[iec],
        with_unit(" ".join(tag.description.split()), tag.unit),
        "",
        "" if tag.scale == 1.0 else f"{tag.scale!r}",
    ]
