"""A Logix project or component exported as L5X: tags with the members of their structures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.exchange import logix
from edge_opcua.config.exchange.dialects import LOGIX, other_driver
from edge_opcua.config.exchange.listing import (
    ListedTag,
    ListError,
    Listing,
    Target,
    UntranslatableError,
    split_unit,
)
from edge_opcua.config.exchange.xmltree import Element, read_xml
from edge_opcua.config.tags import Access

_MAX_LEVELS: Final = 16
# Members of the types every controller has, as far as they are values.
_PREDEFINED: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "TIMER": (("PRE", "DINT"), ("ACC", "DINT"), ("EN", "BOOL"), ("TT", "BOOL"), ("DN", "BOOL")),
    "COUNTER": (
        ("PRE", "DINT"),
        ("ACC", "DINT"),
        ("CU", "BOOL"),
        ("CD", "BOOL"),
        ("DN", "BOOL"),
        ("OV", "BOOL"),
        ("UN", "BOOL"),
    ),
    "CONTROL": (("LEN", "DINT"), ("POS", "DINT"), ("EN", "BOOL"), ("DN", "BOOL"), ("ER", "BOOL")),
}


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    data_type: str
    sizes: tuple[int, ...]
    description: str
    access: Access


def looks_like_l5x(data: bytes) -> bool:
    """Return whether a file is XML of Studio 5000."""
    return b"<RSLogix5000Content" in data[:4096] or b"<\x00R\x00S\x00L\x00o\x00g\x00i\x00x" in data[:8192]


def read(data: bytes, listing: Listing, target: Target) -> None:
    """Add the tags of an export to a listing.

    Raises:
        ListError: It is no such export (T252) or broken (T253).
        UntranslatableError: The device is no Logix controller.
    """
    if target.driver != LOGIX:
        raise other_driver(target.driver, "a list of Studio 5000")
    root = read_xml(data)
    if root.name != "RSLogix5000Content":
        raise ListError("is XML, but no export of Studio 5000")
    controller = root.first("Controller")
    if controller is None:
        raise ListError("holds no controller")
    reader = _Reader(listing, _types(controller))
    for tags in controller.all("Tags"):
        reader.tags(tags, "")
    for programs in controller.all("Programs"):
        for program in programs.all("Program"):
            for tags in program.all("Tags"):
                reader.tags(tags, program.attributes.get("Name", ""))


def _types(controller: Element) -> dict[str, list[_Member]]:
    """Return the members of the controller's own types and instructions, by name in upper case."""
    found: dict[str, list[_Member]] = {}
    for types in controller.all("DataTypes"):
        for one in types.all("DataType"):
            members = list(_members(one, "Members", "Member"))
            if one.attributes.get("Family") == "StringFamily":  # its one value is the text
                length = next(
                    (member.sizes[0] for member in members if member.name == "DATA" and member.sizes), 0
                )
                members = [_Member("", "STRING", (length,) if length else (), "", "r")]
            found[one.attributes.get("Name", "").upper()] = members
    for instructions in controller.all("AddOnInstructionDefinitions"):
        for one in instructions.all("AddOnInstructionDefinition"):
            found[one.attributes.get("Name", "").upper()] = [
                *_members(one, "Parameters", "Parameter"),
                *_members(one, "LocalTags", "LocalTag"),
            ]
    return found


def _members(parent: Element, group: str, kind: str) -> Iterator[_Member]:
    for members in parent.all(group):
        for one in members.all(kind):
            about = one.attributes
            if about.get("Hidden") == "true" or about.get("ExternalAccess") == "None":
                continue
            if about.get("Usage") == "InOut":  # a reference, not a value of the instance
                continue
            sizes = _sizes(about.get("Dimension", about.get("Dimensions", "")))
            name, data_type = about.get("Name", ""), about.get("DataType", "").replace("BIT", "BOOL")
            yield _Member(name, data_type, sizes, _description(one), _access(about))


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,7}", text) if int(number))


def _description(element: Element) -> str:
    found = element.first("Description")
    if found is None:
        return ""
    localized = found.first("LocalizedDescription")
    return " ".join((localized or found).text.split())


def _access(attributes: dict[str, str]) -> Access:
    is_constant = attributes.get("Constant") == "true"
    return "rw" if attributes.get("ExternalAccess") == "Read/Write" and not is_constant else "r"


class _Reader:
    def __init__(self, listing: Listing, types: dict[str, list[_Member]]) -> None:
        self._listing = listing
        self._types = types
        self._line = 0

    def tags(self, tags: Element, program: str) -> None:
        """Add the tags of the controller or of one program."""
        scope = f"Program:{program}." if program else ""
        known = {one.attributes.get("Name", ""): one for one in tags.all("Tag")}
        for name, one in known.items():
            self._line = one.line
            about = one.attributes
            if about.get("ExternalAccess") == "None":
                self._skip(f"{name} has External Access None", "T238", "set it to Read Only or Read/Write")
                continue
            path, shown = scope + name, f"{program}.{name}" if program else name
            data_type, sizes = about.get("DataType", ""), _sizes(about.get("Dimensions", ""))
            if about.get("TagType") == "Alias":
                aliased = about.get("AliasFor", "")
                base = known.get(aliased)
                path = (scope if base is not None else "") + aliased
                if not data_type and base is not None:
                    data_type, sizes = (
                        base.attributes.get("DataType", ""),
                        _sizes(base.attributes.get("Dimensions", "")),
                    )
                if not data_type:
                    self._skip(
                        f"{name} is an alias of {aliased}, whose type is not told", "T243", "write it by hand"
                    )
                    continue
            member = _Member(name, data_type, sizes, _description(one), _access(about))
            unit = _unit(one)
            self._value(path, shown, member, unit, 0)

    def _skip(self, message: str, code: str, hint: str = "") -> None:
        self._listing.skip(self._line, UntranslatableError(message, code=code, hint=hint))

    def _value(self, path: str, name: str, member: _Member, unit: str, level: int) -> None:
        """Add a tag or member, or what is in it."""
        self._listing.visit(self._line)
        kind = member.data_type.upper()
        is_plain = kind in logix.LOGIX_TYPES
        if is_plain and len(member.sizes) <= 1:
            place = logix.LogixPlace(path, kind, member.sizes[0] if member.sizes else 0)
            self._take(name, place, member, unit)
            return
        if member.sizes:
            self._elements(path, name, member, unit, level)
            return
        length = self._string_length(kind)
        if is_plain or length:
            self._take(name, logix.LogixPlace(path, kind if is_plain else "STRING", length), member, unit)
            return
        self._structure(path, name, member, level)

    def _string_length(self, kind: str) -> int:
        """Return the characters of a type of text; 0 if it is none."""
        members = self._types.get(kind, [])
        if kind != "STRING" and not (members and not members[0].name):
            return 0
        return members[0].sizes[0] if members and members[0].sizes else logix.STRING_LENGTH

    def _elements(self, path: str, name: str, member: _Member, unit: str, level: int) -> None:
        total = 1
        for size in member.sizes:
            total *= size
        if total > 10_000:
            self._skip(f"{name} has {total} elements", "T237", "add those you need by hand")
            return
        for number in range(total):
            rest, index = number, list[str]()
            for size in reversed(member.sizes):
                rest, at = divmod(rest, size)
                index.insert(0, str(at))
            one = _Member(member.name, member.data_type, (), member.description, member.access)
            self._value(f"{path}[{','.join(index)}]", f"{name}.{'.'.join(index)}", one, unit, level)

    def _structure(self, path: str, name: str, member: _Member, level: int) -> None:
        kind = member.data_type.upper()
        plain = [_Member(own, what, (), "", "r") for own, what in _PREDEFINED.get(kind, ())]
        members = self._types.get(kind, plain)
        if not members or level > _MAX_LEVELS:
            hint = "export the whole controller, or the tag with its data types"
            self._skip(f"{name}: the type {member.data_type or '?'} is not in this file", "T243", hint)
            return
        for one in members:
            access: Access = "rw" if member.access == one.access == "rw" else "r"
            inner = _Member(one.name, one.data_type, one.sizes, one.description or member.description, access)
            self._value(f"{path}.{one.name}", f"{name}.{one.name}", inner, "", level + 1)

    def _take(self, name: str, place: logix.LogixPlace, member: _Member, unit: str) -> None:
        description, own = split_unit(member.description)
        self._listing.take(
            ListedTag(
                name=name,
                address=place.ours(),
                line=self._line,
                unit=unit or own,
                description=description,
                access=member.access,
            )
        )


def _unit(tag: Element) -> str:
    """Return the engineering unit of a whole tag, as version 21 and later keep it."""
    for units in tag.all("EngineeringUnits"):
        for one in units.all("EngineeringUnit"):
            if not one.attributes.get("Operand"):
                return " ".join(one.text.split())
    return ""
