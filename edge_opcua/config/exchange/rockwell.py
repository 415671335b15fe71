"""Tags of a Logix controller: Studio 5000's CSV of controller and program tags."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.exchange import logix
from edge_opcua.config.exchange.dialects import LOGIX, other_driver
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
from edge_opcua.config.tags import Access

COLUMNS: Final = ("TYPE", "SCOPE", "NAME", "DESCRIPTION", "DATATYPE", "SPECIFIER", "ATTRIBUTES")
REQUIRED: Final = ("type", "scope", "name", "datatype", "specifier")
_ESCAPE: Final = re.compile(r"\$(?:(?P<code>[0-9A-Fa-f]{4})|(?P<letter>[$'QNTLRP]))")
_ESCAPES: Final = {"$": "$", "'": "'", "Q": '"', "N": "\n", "L": "\n", "R": "", "T": "\t", "P": ""}
_DIMENSION: Final = re.compile(r"(?P<name>[A-Za-z_:][\w:]*)(?:\[(?P<sizes>\d+(?:,\d+){0,2})\])?")
_BASE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BIT: Final = re.compile(r"(?P<path>.+)\.(?P<bit>\d{1,2})")
_ALIAS_LEVELS: Final = 8
_BITS: Final = {
    "SINT": 8,
    "INT": 16,
    "DINT": 32,
    "LINT": 64,
    "USINT": 8,
    "UINT": 16,
    "UDINT": 32,
    "ULINT": 64,
}


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    scope: str
    name: str
    line: int
    description: str
    data_type: str
    specifier: str
    access: Access
    hidden: bool = False

    @property
    def path(self) -> str:
        return f"Program:{self.scope}.{self.name}" if self.scope else self.name


def read(grid: Grid, listing: Listing, target: Target) -> None:
    """Add the tags of a table to a listing.

    Raises:
        ListError: It has no header of Studio 5000's.
        UntranslatableError: The device is no Logix controller.
    """
    if target.driver != LOGIX:
        raise other_driver(target.driver, "a list of Studio 5000")
    entries: list[_Entry] = []
    for row in table(grid, REQUIRED, listing):
        kind = row.text("type").upper()
        if kind in ("COMMENT", "RCOMMENT", "TEXTBOX"):
            listing.others += 1
        elif kind in ("TAG", "ALIAS"):
            entries.append(_entry(kind, row))
        else:
            listing.skip(
                row.line, UntranslatableError(f"{quoted(kind)} is not TAG, ALIAS or COMMENT", code="T245")
            )
    types = {entry.path: entry for entry in entries}
    for entry in entries:
        try:
            listing.take(_tag(entry, types))
        except UntranslatableError as exc:
            listing.skip(entry.line, exc)


def _entry(kind: str, row: Row) -> _Entry:
    attributes = row.text("attributes")
    writable = "ExternalAccess := Read/Write" in attributes and "Constant := true" not in attributes
    return _Entry(
        kind,
        row.text("scope"),
        row.text("name"),
        row.line,
        unescape(row.text("description")),
        row.text("datatype"),
        row.text("specifier"),
        "rw" if writable else "r",
        hidden="ExternalAccess := None" in attributes,
    )


def _tag(entry: _Entry, types: dict[str, _Entry]) -> ListedTag:
    if not entry.name:
        raise UntranslatableError("the row has no name", code="T204")
    if entry.hidden:  # the controller would refuse it as if it were not there
        raise UntranslatableError(
            f"{entry.path} has External Access None", code="T238", hint="set it to Read Only or Read/Write"
        )
    if entry.kind == "ALIAS":
        path, data_type = _aliased(entry, types)
    else:
        path, data_type = entry.path, entry.data_type
    description, unit = split_unit(" ".join(entry.description.split()))
    return ListedTag(
        name=f"{entry.scope}.{entry.name}" if entry.scope else entry.name,
        address=place_of(path, data_type).ours(),
        line=entry.line,
        unit=unit,
        description=description,
        access=entry.access,
    )


def place_of(path: str, data_type: str) -> logix.LogixPlace:
    """Return where a tag of an elementary type lies, or an array of one dimension of these.

    Raises:
        UntranslatableError: It is a structure, or an array of several dimensions (T237).
    """
    match = _DIMENSION.fullmatch(data_type.replace(" ", ""))
    name = match["name"].upper() if match else data_type
    if match is None or (name not in logix.LOGIX_TYPES and name != "STRING"):
        raise UntranslatableError(
            f"{path} is a structure ({data_type or 'no type'}); this list does not say what is in it",
            code="T243",
            hint="export the controller as L5X and import that: it holds the types",
        )
    sizes = match["sizes"]
    if sizes is None:
        return logix.LogixPlace(path, name, logix.STRING_LENGTH if name == "STRING" else 0)
    if "," in sizes or name == "STRING":
        raise UntranslatableError(
            f"{path} is an array {data_type}; only arrays of numbers with one dimension are read as one",
            code="T237",
            hint="add the elements you need by hand, e.g. Tag[3]",
        )
    return logix.LogixPlace(path, name, int(sizes))


def _aliased(entry: _Entry, types: dict[str, _Entry]) -> tuple[str, str]:
    """Return path and type of what an alias stands for."""
    scope, target = entry.scope, entry.specifier
    if entry.data_type:
        return _in_scope(target, scope, types), entry.data_type
    for _ in range(_ALIAS_LEVELS):
        path = _in_scope(target, scope, types)
        found = types.get(path)
        bit = _BIT.fullmatch(path)
        if found is not None and found.kind == "TAG":
            return path, found.data_type
        if found is not None:
            scope, target = found.scope, found.specifier
            continue
        base = types.get(bit["path"]) if bit else None
        if base is not None and bit is not None and int(bit["bit"]) < _BITS.get(base.data_type.upper(), 0):
            return path, "BOOL"
        break
    raise UntranslatableError(
        f"{entry.name} is an alias of {quoted(entry.specifier)}, whose type is not in this list",
        code="T243",
        hint="export the controller as L5X, or write its address and type by hand",
    )


def _in_scope(target: str, scope: str, types: dict[str, _Entry]) -> str:
    plain = re.split(r"[.\[]", target)[0]
    return f"Program:{scope}.{target}" if scope and f"Program:{scope}.{plain}" in types else target


def unescape(text: str) -> str:
    """Return a description without the dollar escapes of Studio 5000."""

    def character(match: re.Match[str]) -> str:
        return chr(int(match["code"], 16)) if match["code"] else _ESCAPES[match["letter"]]

    return _ESCAPE.sub(character, text)


def escape(text: str) -> str:
    """Return a description as Studio 5000 writes it."""
    plain = (
        text.replace("$", "$$").replace("'", "$'").replace('"', "$Q").replace("\n", "$N").replace("\t", "$T")
    )
    return "".join(each if ord(each) < 0x7F else f"${min(ord(each), 0xFFFD):04X}" for each in plain)


def write(tags: Iterable[ListedTag], listing: Listing, target: Target) -> str:
    """Return a list for Studio 5000: tags under their own names, others as aliases of them.

    Args:
        tags: Tags with our canonical addresses.
        listing: Where what cannot be taken along is noted.
        target: Our device.

    Raises:
        UntranslatableError: The device is no Logix controller.
    """
    if target.driver != LOGIX:
        raise other_driver(target.driver, "a list of Studio 5000")
    out = io.StringIO(newline="")
    out.write('remark,"CSV-Import-Export"\r\n0.3\r\n' + ",".join(COLUMNS) + "\r\n")
    writer = csv.writer(out)
    for tag in tags:
        try:
            writer.writerow(_row(tag, listing))
        except UntranslatableError as exc:
            listing.skip(tag.line, exc.about(tag.name))
        else:
            listing.tags.append(tag)
    return out.getvalue()


def _row(tag: ListedTag, listing: Listing) -> list[str]:
    place = logix.from_ours(tag.address)
    if place.type not in (*logix.LOGIX_TYPES, "STRING"):
        raise UntranslatableError(f"a Logix controller has no {place.type}", code="T250")
    if place.type == "STRING" and place.count != logix.STRING_LENGTH:
        raise UntranslatableError(
            f"its STRING has {logix.STRING_LENGTH} characters, not {place.count}", code="T250"
        )
    if (tag.scale, tag.offset) != (1.0, 0.0):
        listing.note(tag.line, "T251", f"{tag.name}: the list has no column for its scale and offset")
    kind = place.type if place.type == "STRING" or not place.count else f"{place.type}[{place.count}]"
    description = escape(with_unit(" ".join(tag.description.split()), tag.unit))
    access = "Read/Write" if tag.access == "rw" else "Read Only"
    attributes = f"(RADIX := Decimal, Constant := false, ExternalAccess := {access})"
    scope, _, name = (
        place.path.removeprefix("Program:").partition(".") if ":" in place.path[:8] else ("", "", place.path)
    )
    own = f"{scope}.{name}" if scope else name
    if own == tag.name and _BASE_NAME.fullmatch(name):
        return ["TAG", scope, name, description, kind, "", attributes]
    return ["ALIAS", "", tag.name, description, kind, place.path, attributes]
