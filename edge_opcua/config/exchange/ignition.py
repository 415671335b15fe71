"""Ignition's tag export: the JSON tree of version 8 with its UDTs, and the CSV of version 7."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge_opcua.config.exchange.ignitiontag import tag_of
from edge_opcua.config.exchange.jsontext import JsonObject, read_json
from edge_opcua.config.exchange.listing import (
    ListedTag,
    ListError,
    Listing,
    Target,
    UntranslatableError,
)
from edge_opcua.config.exchange.reading import Grid, Row, table
from edge_opcua.config.problem import quoted

REQUIRED_CSV: Final = ("path", "name", "tagtype", "opcitempath")
_OLD_TYPES: Final = ("int1", "int2", "int4", "int8", "float4", "float8", "boolean", "string")
_PLACEHOLDER: Final = re.compile(r"\{(?P<name>[\w .-]+?)(?:\s*(?P<sign>[+*-])\s*(?P<number>\d{1,9}))?\}")
_MOST_LEVELS: Final = 16


def read_old(grid: Grid, listing: Listing, target: Target) -> None:
    """Add the tags of a CSV of version 7 to a listing.

    Raises:
        ListError: It has no header of Ignition's.
    """
    for row in table(grid, REQUIRED_CSV, listing):
        if row.text("path").startswith("# version"):
            continue
        try:
            tag = _old_tag(row, listing, target)
        except UntranslatableError as exc:
            listing.skip(row.line, exc)
            continue
        if tag is None:
            listing.others += 1
        else:
            listing.take(tag)


def _old_tag(row: Row, listing: Listing, target: Target) -> ListedTag | None:
    """Return the tag of a row; None for a folder."""
    kind = row.text("tagtype").casefold()
    name = row.text("path").strip("/") + "/" + row.text("name")
    if kind in ("6", "folder"):
        return None
    if kind not in ("0", "opc"):
        raise UntranslatableError(f"{quoted(name.strip('/'))} is no OPC tag (TagType {kind})", code="T238")
    if row.text("enabled").casefold() == "false":
        raise UntranslatableError(f"{quoted(name.strip('/'))} is disabled there", code="T238")
    number = row.text("datatype")
    is_number = number.isascii() and number.isdigit() and int(number[:3]) < len(_OLD_TYPES)
    cells = JsonObject(
        name=name.strip("/").replace("/", "."),
        dataType=_OLD_TYPES[int(number)] if is_number else number,
        opcItemPath=row.whole("opcitempath"),
        readOnly=row.text("accessrights").casefold() not in ("1", "read_write", "readwrite"),
        engUnit=row.text("engunit"),
        tooltip=row.text("tooltip"),
        documentation=row.text("documentation"),
        tagGroup=row.text("scanclass"),
        scaleMode={"1": "Linear", "0": "Off", "": "Off"}.get(row.text("scalemode"), row.text("scalemode")),
        clampMode={"3": "Clamp_Both"}.get(row.text("clampmode"), row.text("clampmode")),
        deadbandMode="Absolute" if row.text("deadbandmode") in ("", "0") else row.text("deadbandmode"),
    )
    for key in ("rawLow", "rawHigh", "scaledLow", "scaledHigh", "deadband", "engLow", "engHigh"):
        if row.text(key.casefold()):
            cells[key] = row.number(key.casefold(), 0.0)
    cells.line = row.line
    return tag_of(cells, cells.text("name"), listing, target)


@dataclass(slots=True)
class _Scope:
    """Where in the tree we are.

    Args:
        path: Names above.
        parameters: Parameters of the UDT instance we are in.
    """

    path: tuple[str, ...] = ()
    parameters: dict[str, str] = field(default_factory=dict)

    def below(self, name: str) -> _Scope:
        return _Scope((*self.path, name), self.parameters)


def read(text: str, listing: Listing, target: Target) -> None:
    """Add the tags of a JSON export to a listing.

    Raises:
        ListError: It is not JSON (T253), or none of Ignition's (T252).
    """
    root = read_json(text)
    roots = [root] if isinstance(root, JsonObject) else root if isinstance(root, list) else []
    nodes = [node for node in roots if isinstance(node, JsonObject)]
    if not any("tags" in node or "tagType" in node for node in nodes):
        raise ListError("is JSON, but no tag export of Ignition", hint="its objects have name and tagType")
    reader = _Reader(listing, target)
    for node in nodes:
        reader.types(node, ())
    for node in nodes:
        reader.node(node, _Scope(), is_root=True)


class _Reader:
    def __init__(self, listing: Listing, target: Target) -> None:
        self._listing = listing
        self._target = target
        self._types: dict[str, JsonObject] = {}

    def types(self, node: JsonObject, path: tuple[str, ...]) -> None:
        """Collect the UDT definitions by their path below ``_types_``."""
        name = node.text("name")
        if node.text("tagType") == "UdtType":
            self._types.setdefault("/".join((*path, name)), node)
            return
        below = () if name in ("", "_types_") else (*path, name)
        if len(path) < _MOST_LEVELS:
            for child in node.objects("tags"):
                self.types(child, below)

    def node(self, node: JsonObject, scope: _Scope, *, is_root: bool = False) -> None:
        """Add whatever is in a node."""
        self._listing.visit(node.line)
        kind, name = node.text("tagType"), node.text("name")
        if kind == "UdtType" or name == "_types_":
            self._listing.others += 1
            return
        if len(scope.path) > _MOST_LEVELS:
            self._listing.skip(node.line, UntranslatableError(f"{name}: folders are nested too deeply"))
            return
        if kind == "UdtInstance":
            self._instance(node, scope)
        elif "tags" in node and kind in ("", "Folder", "Provider"):
            self._listing.others += 1
            # The folder that was exported is the one the names are wanted below of, unless it has a name.
            inside = scope if is_root and kind != "Folder" else scope.below(name)
            for child in node.objects("tags"):
                self.node(child, inside)
        else:
            self._atomic(node, scope)

    def _instance(self, node: JsonObject, scope: _Scope) -> None:
        name = node.text("name")
        try:
            chain = self._chain(node.text("typeId"))
            inside = self._inside(node, chain, scope)
        except UntranslatableError as exc:
            self._listing.skip(node.line, exc.about(name))
            return
        for member in _members([*chain, node]):
            self.node(member, inside)

    def _inside(self, node: JsonObject, chain: list[JsonObject], scope: _Scope) -> _Scope:
        """Return the scope of an instance's members: its parameters over those of its definitions."""
        name = node.text("name")
        inside = scope.below(name)
        inside.parameters = {
            **scope.parameters,
            "InstanceName": name,
            "ParentInstanceName": scope.path[-1] if scope.path else "",
            "PathToParentFolder": "/".join(scope.path),
        }
        for part in (*chain, node):
            for key, value in _parameters(part).items():
                inside.parameters[key] = _filled(
                    value, scope.parameters if part is node else inside.parameters
                )
        return inside

    def _chain(self, type_id: str) -> list[JsonObject]:
        """Return the definitions of a type, the one it inherits from first."""
        chain: list[JsonObject] = []
        wanted = type_id
        while wanted and len(chain) < _MOST_LEVELS:
            found = self._types.get(wanted) or self._types.get(wanted.rpartition("/")[2])
            if found is None:
                raise UntranslatableError(
                    f"the definition of UDT {quoted(wanted)} is not in this file",
                    code="T243",
                    hint="export the folder of the types too, and import both files joined, or from the root",
                )
            chain.insert(0, found)
            wanted = found.text("typeId")
        return chain

    def _atomic(self, node: JsonObject, scope: _Scope) -> None:
        name = ".".join((*scope.path, node.text("name")))
        try:
            _check_source(node, name)
            cells = JsonObject({key: _bound(value, scope.parameters) for key, value in node.items()})
            cells.line = node.line
            self._listing.take(tag_of(cells, name, self._listing, self._target))
        except UntranslatableError as exc:
            self._listing.skip(node.line, exc.about(name))


def _check_source(node: JsonObject, name: str) -> None:
    source = node.text("valueSource") or ("opc" if "opcItemPath" in node else "memory")
    if source.casefold() != "opc":
        raise UntranslatableError(f"{quoted(name)} is a {source} tag, not a value of a device", code="T238")
    if node.get("enabled") is False:
        raise UntranslatableError(f"{quoted(name)} is disabled there", code="T238")


def _parameters(node: JsonObject) -> dict[str, Any]:
    """Return the parameters of a definition or instance: an object, or a list of named ones."""
    given = node.get("parameters")
    if isinstance(given, list):
        return {one.text("name"): one.get("value") for one in node.objects("parameters")}
    if not isinstance(given, dict):
        return {}
    return {key: one.get("value") if isinstance(one, dict) else one for key, one in given.items()}


def _members(parts: list[JsonObject]) -> list[JsonObject]:
    """Return the members of a type, later parts overriding earlier ones key by key."""
    merged: dict[str, JsonObject] = {}
    for part in parts:
        for member in part.objects("tags"):
            name = member.text("name")
            known = merged.get(name)
            if known is None:
                merged[name] = member
                continue
            inner = _members([known, member])
            merged[name] = JsonObject({**known, **member})
            merged[name].line = member.line
            if inner:
                merged[name]["tags"] = inner
    return list(merged.values())


def _filled(value: Any, parameters: Mapping[str, str]) -> str:
    plain = _bound(value, parameters)
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    return "" if plain is None or isinstance(plain, dict | list) else str(plain)


def _bound(value: Any, parameters: Mapping[str, str]) -> Any:
    """Return a value with the parameters of its UDT in place.

    Raises:
        UntranslatableError: It is bound to something else than parameters (T243).
    """
    if isinstance(value, JsonObject) and "bindType" in value:
        if value.text("bindType").casefold() not in ("parameter", "udtparameter"):
            raise UntranslatableError(f"a property is bound by {value.text('bindType')}", code="T243")
        return _placed(value.text("binding"), parameters)
    return value  # braces in a plain text mean themselves there


def _placed(text: str, parameters: Mapping[str, str]) -> str:
    def replacement(match: re.Match[str]) -> str:
        value = parameters.get(match["name"])
        if value is None and match["name"].isdigit():
            return match.group()  # Counts[0]{10}: the elements of a Logix array
        if value is None:
            raise UntranslatableError(f"parameter {quoted(match['name'])} has no value", code="T243")
        if match["sign"] is None:
            return value
        try:
            number, by = int(value), int(match["number"])
        except ValueError as exc:
            raise UntranslatableError(
                f"parameter {quoted(match['name'])} is {quoted(value)}, not a number", code="T243"
            ) from exc
        return str({"+": number + by, "-": number - by, "*": number * by}[match["sign"]])

    return _PLACEHOLDER.sub(replacement, text)
