"""Which variables a server has: its Objects folder looked through level by level, up to a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from asyncua import ua

from edge_opcua.core.values import is_bad
from edge_opcua.drivers.opcuaclient.content import iec_of
from edge_opcua.drivers.opcuaclient.messages import ServiceRefusedError
from edge_opcua.drivers.opcuaclient.session import Session
from edge_opcua.errors import AddressError

MOST_TAGS: Final = 5000
_MOST_DEPTH: Final = 10
_MOST_NODES: Final = 20_000
_STEP: Final = 100  # nodes per request
_STRING: Final = "STRING[80]"
_SERVER: Final = ua.NodeId(ua.ObjectIds.Server)
_OBJECTS: Final = ua.NodeId(ua.ObjectIds.ObjectsFolder)
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)
_TEXT: Final = 12


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a tag can be.

    Args:
        path: BrowseNames from the Objects folder on, with dots between.
        node: Its NodeId.
        type: The type its address names, e.g. ``REAL[8]``.
        description: What the server says of it.
        unit: Its engineering unit; empty if it has none.
        writable: Whether this user may write it.
    """

    path: str
    node: Any
    type: str
    description: str = ""
    unit: str = ""
    writable: bool = False


@dataclass(frozen=True, slots=True)
class _Child:
    path: str
    node: Any
    is_variable: bool


async def variables(session: Session) -> AsyncIterator[Variable]:
    """Yield the variables below Objects that an address can name; structures are looked into.

    Raises:
        DeviceError: The server stopped answering.
    """
    level = [_Child("", _OBJECTS, is_variable=False)]
    seen = {_key(_OBJECTS), _key(_SERVER)}
    told = 0
    for _ in range(_MOST_DEPTH):
        following: list[_Child] = []
        for part in _parts(level):
            children = [child for child in await _children(session, part) if _key(child.node) not in seen]
            seen.update(_key(child.node) for child in children)
            found = await _described(session, [child for child in children if child.is_variable])
            for variable in found.values():
                yield variable
                told += 1
                if told >= MOST_TAGS:
                    return
            following += [child for child in children if _key(child.node) not in found]
        if not following or len(seen) > _MOST_NODES:
            return
        level = following


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[first : first + _STEP] for first in range(0, len(items), _STEP))


def _key(node: Any) -> str:
    return str(node.to_string())


async def _browse(session: Session, nodes: Sequence[Any], reference: Any) -> list[list[Any]]:
    """Return the references of some nodes, all of them."""
    request = ua.BrowseRequest()
    for node in nodes:
        wanted = ua.BrowseDescription()
        wanted.NodeId, wanted.BrowseDirection = node, ua.BrowseDirection.Forward
        wanted.ReferenceTypeId, wanted.IncludeSubtypes = reference, True
        wanted.NodeClassMask = ua.NodeClass.Object | ua.NodeClass.Variable
        wanted.ResultMask = ua.BrowseResultMask.All
        request.Parameters.NodesToBrowse.append(wanted)
    answer = await session.call(request, ua.BrowseResponse)
    found = [list(result.References or ()) for result in answer.Results]
    open_ = {
        i: result.ContinuationPoint for i, result in enumerate(answer.Results) if result.ContinuationPoint
    }
    while open_:
        further = ua.BrowseNextRequest()
        further.Parameters.ContinuationPoints = list(open_.values())
        results = (await session.call(further, ua.BrowseNextResponse)).Parameters.Results
        open_, before = {}, list(open_)
        for i, result in zip(before, results, strict=True):
            found[i] += result.References or ()
            if result.ContinuationPoint and result.References:
                open_[i] = result.ContinuationPoint
    return found


async def _children(session: Session, parents: Sequence[_Child]) -> list[_Child]:
    hierarchical = ua.NodeId(ua.ObjectIds.HierarchicalReferences)
    found = await _browse(session, [parent.node for parent in parents], hierarchical)
    children = []
    for parent, references in zip(parents, found, strict=True):
        for each in references:
            if each.ReferenceTypeId == _PROPERTY or getattr(each.NodeId, "ServerIndex", 0):
                continue
            name = str(each.BrowseName.Name or "").replace('"', "")  # an S7-1500 quotes its names
            path = f"{parent.path}.{name}" if parent.path else name
            node = ua.NodeId(each.NodeId.Identifier, each.NodeId.NamespaceIndex, each.NodeId.NodeIdType)
            children.append(_Child(path, node, each.NodeClass == ua.NodeClass.Variable))
    return children


async def _described(session: Session, children: Sequence[_Child]) -> dict[str, Variable]:
    """Return those that an address can name, by their NodeIds."""
    found: dict[str, Variable] = {}
    for part in _parts(children):
        values = await read(session, [child.node for child in part], ua.AttributeIds.Value)
        texts = await read(session, [child.node for child in part], ua.AttributeIds.Description)
        access = await read(session, [child.node for child in part], ua.AttributeIds.UserAccessLevel)
        for child, value, text, rights in zip(part, values, texts, access, strict=True):
            kind = type_of(value)
            if kind:
                said = str(getattr(held(text), "Text", None) or "")
                writes = bool(int(held(rights) or 0) & 2)
                found[_key(child.node)] = Variable(child.path, child.node, kind, said, writable=writes)
    return await _with_units(session, found)


async def _with_units(session: Session, found: dict[str, Variable]) -> dict[str, Variable]:
    """Add the unit of those that have one (Part 8 §5.6.4)."""
    units: list[tuple[str, Any]] = []
    for part in _parts(list(found.items())):
        properties = await _browse(session, [variable.node for _, variable in part], _PROPERTY)
        for (key, _), references in zip(part, properties, strict=True):
            units += [(key, each.NodeId) for each in references if each.BrowseName.Name == "EngineeringUnits"]
    for piece in _parts(units):
        values = await read(session, [node for _, node in piece], ua.AttributeIds.Value)
        for (key, _), value in zip(piece, values, strict=True):
            unit = getattr(getattr(held(value), "DisplayName", None), "Text", None)
            found[key] = replace(found[key], unit=str(unit or ""))
    return found


async def read(session: Session, nodes: Sequence[Any], attribute: Any) -> list[Any]:
    """Return the DataValues of an attribute; none of them if the server refuses to tell any."""
    if not nodes:
        return []
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Source
    request.Parameters.NodesToRead = [ua.ReadValueId(node, attribute) for node in nodes]
    try:
        results = (await session.call(request, ua.ReadResponse)).Results
    except ServiceRefusedError:
        results = []
    return list(results) if len(results) == len(nodes) else [ua.DataValue()] * len(nodes)


def held(value: Any) -> Any:
    """Return what a DataValue holds, or None if it is bad."""
    status = value.StatusCode
    if value.Value is None or (status is not None and is_bad(int(status.value))):
        return None
    return value.Value.Value


def type_of(value: Any) -> str:
    """Return the type an address of a value names, or an empty string if there is none."""
    if held(value) is None:
        return ""
    variant = value.Value
    kind = int(variant.VariantType.value)
    if variant.is_array:
        dimensions = variant.Dimensions or []
        count = len(variant.Value)
        return iec_of(kind, count) if count and len(dimensions) < 2 else ""
    if kind == _TEXT:
        return _STRING
    return iec_of(kind)


def address_of(variable: Variable, uris: Sequence[str]) -> str:
    """Return the address of a variable, with its namespace by URI: its index may change.

    Raises:
        AddressError: Its NodeId has a kind that no address names.
    """
    node = variable.node
    index = int(node.NamespaceIndex)
    text = str(node.to_string()).rpartition(f"ns={index};")[2] if index else str(node.to_string())
    if "=" not in text:
        raise AddressError(f"{text} is no NodeId")
    uri = uris[index] if index < len(uris) else ""
    if not index:
        return f"{text}:{variable.type}"
    place = f"nsu={uri}" if uri and ";" not in uri else f"ns={index}"
    return f"{place};{text}:{variable.type}"
