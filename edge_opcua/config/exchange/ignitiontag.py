"""One tag of Ignition: its properties become a tag of ours, and a tag of ours an entry of its tree."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final

from edge_opcua.config.exchange.dialects import from_ignition, to_ignition, type_of_ours
from edge_opcua.config.exchange.jsontext import JsonObject
from edge_opcua.config.exchange.listing import ListedTag, Listing, Target, UntranslatableError, linear
from edge_opcua.config.problem import quoted

_TYPES: Final = {
    "int1": "SINT",
    "byte": "SINT",
    "int2": "INT",
    "short": "INT",
    "int4": "DINT",
    "integer": "DINT",
    "int8": "LINT",
    "long": "LINT",
    "float4": "REAL",
    "float": "REAL",
    "float8": "LREAL",
    "double": "LREAL",
    "boolean": "BOOL",
    "string": "STRING",
    "text": "STRING",
}
_NAMES: Final = {
    "SINT": "Int1",
    "USINT": "Int2",
    "BYTE": "Int2",
    "INT": "Int2",
    "UINT": "Int4",
    "WORD": "Int4",
    "DINT": "Int4",
    "UDINT": "Int8",
    "DWORD": "Int8",
    "LINT": "Int8",
    "ULINT": "Int8",
    "LWORD": "Int8",
    "REAL": "Float4",
    "LREAL": "Float8",
    "BOOL": "Boolean",
    "STRING": "String",
}
_ITEM: Final = re.compile(r"(?:(?:nsu?=[^;]*;)?s=)?\[(?P<device>[^\]]*)\](?P<item>.+)", re.DOTALL)
_DEFAULT_GROUPS: Final = ("", "default")


def tag_of(node: JsonObject, name: str, listing: Listing, target: Target) -> ListedTag:
    """Return the tag that an entry of the tree describes.

    Args:
        node: Its properties.
        name: Its name with the folders above, separated by points.
        listing: Where to note what is worth knowing.
        target: Our device.

    Raises:
        UntranslatableError: It cannot be had here.
    """
    path = node.get("opcItemPath")
    match = _ITEM.fullmatch(path.strip()) if isinstance(path, str) else None
    if match is None:
        shown = path if isinstance(path, str) else ""
        raise UntranslatableError(
            f"{quoted(name)}: {quoted(shown)} is no item of a device",
            hint="an item of one of Ignition's own drivers looks like ns=1;s=[Device]HR1",
        )
    kind = node.text("dataType").casefold()
    if kind not in _TYPES and not kind.endswith("array"):
        raise UntranslatableError(
            f"{quoted(name)}: data type {quoted(kind)} has no counterpart here", code="T237"
        )
    iec = _TYPES.get(kind.removesuffix("array"), "")
    scale, offset = _scaling(node, name)
    low, high = _number(node, "engLow"), _number(node, "engHigh")
    return ListedTag(
        name=name,
        address=from_ignition(match["item"], iec, target, listing, node.line),
        line=node.line,
        unit=node.text("engUnit"),
        description=node.text("documentation") or node.text("tooltip"),
        low=low,
        high=high,
        scale=scale,
        offset=offset,
        clamp=node.text("clampMode").casefold() == "clamp_both" and (low, high) != (None, None),
        deadband=_deadband(node, name, listing),
        access="rw" if node.get("readOnly") is False else "r",
        group="" if node.text("tagGroup").casefold() in _DEFAULT_GROUPS else node.text("tagGroup"),
    )


def _number(node: JsonObject, key: str, default: float | None = None) -> float | None:
    value = node.get(key)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = math.nan
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return default
    if not math.isfinite(value):
        raise UntranslatableError(f"{key} is not a number", code="T245")
    return float(value)


def _scaling(node: JsonObject, name: str) -> tuple[float, float]:
    mode = node.text("scaleMode").casefold()
    if mode in ("", "off"):
        return 1.0, 0.0
    if mode != "linear":
        raise UntranslatableError(
            f"{quoted(name)}: scaling {quoted(node.text('scaleMode'))} is not a straight line", code="T241"
        )
    ends = (("rawLow", 0.0), ("rawHigh", 10.0), ("scaledLow", 0.0), ("scaledHigh", 100.0))
    raw_low, raw_high, low, high = (_number(node, key, default) or 0.0 for key, default in ends)
    return linear(raw_low, raw_high, low, high)


def _deadband(node: JsonObject, name: str, listing: Listing) -> float:
    mode, deadband = node.text("deadbandMode").casefold(), _number(node, "deadband") or 0.0
    if mode in ("", "absolute") or not deadband:
        return max(0.0, deadband) if mode != "off" else 0.0
    listing.note(node.line, "T241", f"{name}: its deadband in percent is left out")
    return 0.0


def write(tags: Iterable[ListedTag], listing: Listing, target: Target) -> str:
    """Return a JSON tree for Ignition's Tag Browser, whose tags read the device itself.

    Args:
        tags: Tags with our canonical addresses.
        listing: Where what cannot be taken along is noted.
        target: Our device; its name is the name of the device in Ignition.
    """
    root: list[dict[str, Any]] = []
    folders: dict[tuple[str, ...], list[dict[str, Any]]] = {(): root}
    for tag in tags:
        try:
            entry = _entry(tag, target)
        except UntranslatableError as exc:
            listing.skip(tag.line, exc.about(tag.name))
            continue
        parts = tuple(tag.name.split("."))
        entry["name"] = parts[-1]
        _folder(folders, parts[:-1]).append(entry)
        listing.tags.append(tag)
    return json.dumps({"tags": root}, indent=2, ensure_ascii=False) + "\n"


def _folder(
    folders: dict[tuple[str, ...], list[dict[str, Any]]], path: tuple[str, ...]
) -> list[dict[str, Any]]:
    inside = folders.get(path)
    if inside is None:
        inside = folders[path] = []
        above = _folder(folders, path[:-1])
        above.append({"name": path[-1], "tagType": "Folder", "tags": inside})
    return inside


def _entry(tag: ListedTag, target: Target) -> dict[str, Any]:
    iec, count = type_of_ours(tag.address, target)
    kind = _NAMES.get(iec)
    if kind is None:
        raise UntranslatableError(f"Ignition has no type for {iec}", code="T250")
    if target.driver == "ethernet-ip" and _TYPES[kind.casefold()] != iec:
        raise UntranslatableError(f"Ignition would read {iec} as {_TYPES[kind.casefold()]}", code="T250")
    is_array = bool(count) and iec != "STRING"
    entry: dict[str, Any] = {
        "name": "",
        "tagType": "AtomicTag",
        "valueSource": "opc",
        "dataType": f"{kind}Array" if is_array else kind,
        "opcServer": "Ignition OPC UA Server",
        "opcItemPath": f"ns=1;s=[{target.name}]{to_ignition(tag.address, target)}",
    }
    entry["readOnly"] = tag.access == "r"
    optional = {"engUnit": tag.unit, "documentation": tag.description, "tagGroup": tag.group}
    entry |= {key: text for key, text in optional.items() if text}
    if tag.low is not None:
        entry["engLow"] = tag.low
    if tag.high is not None:
        entry["engHigh"] = tag.high
    if (tag.scale, tag.offset) != (1.0, 0.0):
        entry |= {"scaleMode": "Linear", "rawLow": 0.0, "rawHigh": 1.0}
        entry |= {"scaledLow": tag.offset, "scaledHigh": tag.scale + tag.offset}
    if tag.clamp:
        entry["clampMode"] = "Clamp_Both"
    if tag.deadband:
        entry |= {"deadband": tag.deadband, "deadbandMode": "Absolute"}
    return entry
