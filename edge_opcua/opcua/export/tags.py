"""Tag lists for other products, from the information model: Ignition, Kepware, and a plain table.

Every variable that changes is in them: tags, captures, what models judge, outputs, links, models' jobs. The
order is that of the configuration, so two exports differ only where something changed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from asyncua import ua

from edge_opcua.config.exchange.kepware import COLUMNS as KEPWARE_COLUMNS
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.opcua.export.offline import Model
from edge_opcua.opcua.namespaces import Names, Namespace
from edge_opcua.opcua.space import tag_node_name
from edge_opcua.opcua.types import property_value

__all__ = ["ExportedVariable", "PathStyle", "exported_variables", "ignition", "kepware", "plain"]

PathStyle = Literal["ns", "nsu"]
_Type = ua.VariantType
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.PropertyType)

# Ignition has no unsigned types: each takes the next larger signed one; half of UInt64 does not fit.
_IGNITION: Final[dict[ua.VariantType, str]] = {
    _Type.Boolean: "Boolean",
    _Type.SByte: "Int1",
    _Type.Byte: "Int2",
    _Type.Int16: "Int2",
    _Type.UInt16: "Int4",
    _Type.Int32: "Int4",
    _Type.UInt32: "Int8",
    _Type.Int64: "Int8",
    _Type.UInt64: "Int8",
    _Type.Float: "Float4",
    _Type.Double: "Float8",
    _Type.DateTime: "DateTime",
}
_KEPWARE: Final[dict[ua.VariantType, str]] = {
    _Type.Boolean: "Boolean",
    _Type.SByte: "Char",
    _Type.Byte: "Byte",
    _Type.Int16: "Short",
    _Type.UInt16: "Word",
    _Type.Int32: "Long",
    _Type.UInt32: "DWord",
    _Type.Int64: "LLong",
    _Type.UInt64: "QWord",
    _Type.Float: "Float",
    _Type.Double: "Double",
    _Type.DateTime: "Date",
}
_OTHERWISE: Final = "String"
_PLAIN_COLUMNS: Final = (
    "NodeId",
    "BrowsePath",
    "DataType",
    "ValueRank",
    "AccessLevel",
    "EngineeringUnits",
    "EURangeLow",
    "EURangeHigh",
    "Description",
    "Device",
    "Address",
)
_KEPWARE_SCAN_MS: Final = 100


@dataclass(frozen=True, slots=True)
class ExportedVariable:
    """A variable as a client finds it.

    Args:
        node_id: Its NodeId, with the index that is promised.
        uri: URI of its namespace.
        path: BrowseNames from below Objects.
        data_type: Name of its DataType.
        kind: Built-in type of its values.
        rank: -1 for a scalar, 1 for an array.
        writable: Whether a client with the right role may write it.
        unit: Engineering unit, empty if none.
        low: Lower end of the EURange, None if there is none.
        high: Upper end.
        description: For people.
        device: Device it belongs to, empty if none.
        address: Where the device has it, empty if it is no tag.
    """

    node_id: ua.NodeId
    uri: str
    path: tuple[ua.QualifiedName, ...]
    data_type: str
    kind: ua.VariantType
    rank: int
    writable: bool
    unit: str = ""
    low: float | None = None
    high: float | None = None
    description: str = ""
    device: str = ""
    address: str = ""

    @property
    def is_array(self) -> bool:
        """Whether its values are arrays."""
        return self.rank >= 1

    def item_path(self, style: PathStyle) -> str:
        """Return the NodeId as other products take it: by namespace index, or by its URI."""
        place = f"ns={self.node_id.NamespaceIndex}" if style == "ns" else f"nsu={self.uri}"
        return f"{place};s={self.node_id.Identifier}"

    def folders(self) -> tuple[str, ...]:
        """Return where it lies in a tag tree, its own name last: without the folder ``Machines``."""
        names = tuple(str(part.Name) for part in self.path)
        return names[1:] if self.path[0].NamespaceIndex == Namespace.MACHINERY else names


def exported_variables(model: Model, config: EdgeConfig, device: str = "") -> list[ExportedVariable]:
    """Return what is exported, in the order of the configuration.

    Args:
        model: The information model.
        config: Where it came from; says which device and address a variable has.
        device: Only what belongs to this device.
    """
    origins = dict(_origins(config))
    found = []
    for node in model.plant_nodes():
        if model.attribute(node, ua.AttributeIds.NodeClass) != ua.NodeClass.Variable:
            continue
        if model.type_definition(node) == _PROPERTY:
            continue
        owner, address = _origin(str(node.Identifier), origins)
        if device and owner != device:
            continue
        found.append(_exported(model, node, owner, address))
    return found


def _exported(model: Model, node: ua.NodeId, device: str, address: str) -> ExportedVariable:
    data_type = model.attribute(node, ua.AttributeIds.DataType)
    unit = property_value(model.aspace, node, "EngineeringUnits")
    scale = property_value(model.aspace, node, "EURange")
    has_range = scale is not None and scale.Low < scale.High
    description = model.attribute(node, ua.AttributeIds.Description)
    level = model.attribute(node, ua.AttributeIds.AccessLevel)
    return ExportedVariable(
        node,
        model.uris[node.NamespaceIndex],
        model.path(node),
        model.name_of(data_type),
        model.built_in(data_type),
        model.attribute(node, ua.AttributeIds.ValueRank),
        bool(level & ua.AccessLevel.CurrentWrite.mask),
        "" if unit is None else unit.DisplayName.Text or "",
        scale.Low if has_range else None,
        scale.High if has_range else None,
        "" if description is None else description.Text or "",
        device,
        address,
    )


def _origins(config: EdgeConfig) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield NodeId strings with the device and address they come from."""
    names = Names(config.site.machine)
    for device in config.devices:
        yield names.device(device.name), (device.name, "")
        for tag in device.tags:
            yield tag_node_name(names, tag), (device.name, tag.address)
        for capture in device.captures:
            yield names.capture(capture.name), (device.name, "")
            yield f"{names.capture(capture.name)}.Waveform", (device.name, capture.samples)


def _origin(name: str, origins: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Return device and address of a node: its own, or the device of the object it belongs to."""
    own = origins.get(name)
    if own is not None:
        return own
    while "." in name:
        name = name.rpartition(".")[0]
        above = origins.get(name)
        if above is not None and not above[1]:
            return above
    return "", ""


def ignition(
    variables: Iterable[ExportedVariable], *, machine: str, server_name: str, style: PathStyle = "nsu"
) -> str:
    """Return Ignition's tag export: a JSON tree for Tag Browser, Import Tags.

    Args:
        variables: From :func:`exported_variables`.
        machine: Name of the top folder; what belongs to no machine lies in it, too.
        server_name: Name of the OPC connection in the gateway.
        style: How the NodeId is written.
    """
    tree = _Tree()
    for variable in variables:
        places = tuple(_ignition_name(part) for part in variable.folders())
        if places[0] != machine:
            places = (machine, *places)
        name = tree.free(places)
        tree.folder(places[:-1]).append(_ignition_tag(variable, name, server_name, style))
    return json.dumps({"tags": tree.tags}, indent=2, ensure_ascii=False) + "\n"


class _Tree:
    """Folders in folders, each with names that stand once."""

    def __init__(self) -> None:
        self.tags: list[dict[str, Any]] = []
        self._folders: dict[tuple[str, ...], list[dict[str, Any]]] = {(): self.tags}
        self._taken: set[tuple[str, ...]] = set()

    def folder(self, places: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return what lies in a folder, which is made if it is not there."""
        inside = self._folders.get(places)
        if inside is None:
            inside = self._folders[places] = []
            self._taken.add(places)
            self.folder(places[:-1]).append({"name": places[-1], "tagType": "Folder", "tags": inside})
        return inside

    def free(self, places: tuple[str, ...]) -> str:
        """Return the name of a tag, numbered if its folder has one of that name."""
        name = next(each for each in _numbered(places[-1]) if (*places[:-1], each) not in self._taken)
        self._taken.add((*places[:-1], name))
        return name


def _ignition_tag(
    variable: ExportedVariable, name: str, server_name: str, style: PathStyle
) -> dict[str, Any]:
    kind = _IGNITION.get(variable.kind, _OTHERWISE)
    tag: dict[str, Any] = {
        "name": name,
        "tagType": "AtomicTag",
        "valueSource": "opc",
        "dataType": f"{kind}Array" if variable.is_array else kind,
        "opcServer": server_name,
        "opcItemPath": variable.item_path(style),
        "readOnly": not variable.writable,
    }
    if variable.unit:
        tag["engUnit"] = variable.unit
    if variable.low is not None and variable.high is not None:
        tag["engLow"], tag["engHigh"] = variable.low, variable.high
    if variable.description:
        tag["documentation"] = variable.description
    return tag


def _ignition_name(name: str) -> str:
    """Return a name as Ignition allows it: no points, and it begins with a letter, digit or underscore."""
    plain = re.sub(r"[^\w '():-]", "_", name)
    return plain if re.match(r"\w", plain) else f"_{plain}"


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def kepware(variables: Iterable[ExportedVariable], *, machine: str, style: PathStyle = "ns") -> str:
    """Return a tag table for a device of Kepware's OPC UA Client driver; points in a name are tag groups.

    Args:
        variables: From :func:`exported_variables`.
        machine: First group of what belongs to no machine.
        style: How the NodeId is written.
    """
    out = io.StringIO(newline="")
    out.write(",".join(KEPWARE_COLUMNS) + "\r\n")
    taken: set[str] = set()
    for variable in variables:
        places = tuple(part.replace(".", "_") for part in variable.folders())
        if places[0] != machine:
            places = (machine, *places)
        wanted = ".".join(_kepware_name(part) for part in places)
        name = next(each for each in _numbered(wanted) if each not in taken)
        taken.add(name)
        kind = _KEPWARE.get(variable.kind, _OTHERWISE)
        cells = [""] * len(KEPWARE_COLUMNS)
        cells[0], cells[1] = _quoted(name), _quoted(variable.item_path(style))
        cells[2] = f"{kind} Array" if variable.is_array else kind
        cells[3], cells[4] = "1", "R/W" if variable.writable else "RO"
        cells[5] = str(_KEPWARE_SCAN_MS)
        cells[14], cells[15] = _quoted(variable.unit), _quoted(variable.description)
        out.write(",".join(cells) + "\r\n")
    return out.getvalue()


def _kepware_name(part: str) -> str:
    plain = re.sub(r'["\x00-\x1f]', "_", part)
    return plain.lstrip("_ ") or "Tag"


def _quoted(text: str) -> str:
    flat = " ".join(text.split()).replace('"', '""')
    return f'"{flat}"'


def plain(variables: Iterable[ExportedVariable], *, style: PathStyle = "ns") -> str:
    """Return a table for spreadsheets and scripts, RFC 4180."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(_PLAIN_COLUMNS)
    for variable in variables:
        writer.writerow(
            (
                variable.item_path(style),
                "".join(f"/{part.NamespaceIndex}:{_escaped(str(part.Name))}" for part in variable.path),
                variable.data_type,
                variable.rank,
                "CurrentRead|CurrentWrite" if variable.writable else "CurrentRead",
                variable.unit,
                "" if variable.low is None else f"{variable.low!r}",
                "" if variable.high is None else f"{variable.high!r}",
                variable.description,
                variable.device,
                variable.address,
            )
        )
    return out.getvalue()


def _escaped(name: str) -> str:
    """Return a name as it stands in a RelativePath (Part 4 §A.2)."""
    return re.sub(r"([/.<>:#!&])", r"&\1", name)
