"""Questions to the address space that several services ask: subtypes, components, does a value fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace

_SUBTYPE: Final = ua.NodeId(ua.ObjectIds.HasSubtype)
_COMPONENT: Final = ua.NodeId(ua.ObjectIds.HasComponent)
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)
_TYPE_DEFINITION: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_EVENT_SOURCE: Final = ua.NodeId(ua.ObjectIds.HasEventSource)
SERVER: Final = ua.NodeId(ua.ObjectIds.Server)
MAX_DEPTH: Final = 32

_SIGNED: Final = frozenset(
    {ua.VariantType.SByte, ua.VariantType.Int16, ua.VariantType.Int32, ua.VariantType.Int64}
)
_UNSIGNED: Final = frozenset(
    {ua.VariantType.Byte, ua.VariantType.UInt16, ua.VariantType.UInt32, ua.VariantType.UInt64}
)
# Part 6 §5.1.2: an abstract data type stands for any of its concrete ones; an Enumeration travels as Int32.
_CARRIERS: Final[dict[int, frozenset[ua.VariantType] | None]] = {
    int(ua.ObjectIds.BaseDataType): None,
    int(ua.ObjectIds.Number): _SIGNED | _UNSIGNED | {ua.VariantType.Float, ua.VariantType.Double},
    int(ua.ObjectIds.Integer): _SIGNED,
    int(ua.ObjectIds.UInteger): _UNSIGNED,
    int(ua.ObjectIds.Enumeration): frozenset({ua.VariantType.Int32}),
}
_LAST_BUILT_IN: Final = 25


def attribute(aspace: AddressSpace, node: ua.NodeId, attribute_id: ua.AttributeIds) -> Any:
    """Return the value of an attribute, or None if the node has none."""
    value = aspace.read_attribute_value(node, attribute_id).Value
    return None if value is None else value.Value


def allows(access_level: int | None, right: ua.AccessLevel) -> bool:
    """Whether an AccessLevel grants a right; a node without one grants nothing."""
    return access_level is not None and bool(access_level & (1 << right))


def supertypes(aspace: AddressSpace, node: ua.NodeId) -> Iterator[ua.NodeId]:
    """Yield a type and every type above it, nearest first."""
    here: ua.NodeId | None = node
    for _ in range(MAX_DEPTH):
        if here is None:
            return
        yield here
        found = aspace.get(here)
        here = next(
            (ref.NodeId for ref in found.references if ref.ReferenceTypeId == _SUBTYPE and not ref.IsForward)
            if found is not None
            else iter(()),
            None,
        )


def is_subtype(aspace: AddressSpace, node: ua.NodeId, of: ua.NodeId) -> bool:
    """Whether ``node`` is the type ``of`` or one below it."""
    return any(above == of for above in supertypes(aspace, node))


def fits(aspace: AddressSpace, value: ua.Variant | None, data_type: ua.NodeId | None, rank: int) -> bool:
    """Whether a value may stand where the data type and the ValueRank are declared (Part 3 §5.6.2)."""
    if value is None or value.VariantType == ua.VariantType.Null:
        return False
    if not _rank_fits(value, rank):
        return False
    carriers = _carriers(aspace, data_type)
    return carriers is None or value.VariantType in carriers


def _rank_fits(value: ua.Variant, rank: int) -> bool:
    is_array = bool(value.is_array)
    if rank == ua.ValueRank.Scalar:
        return not is_array
    if rank in (ua.ValueRank.Any, ua.ValueRank.ScalarOrOneDimension):
        return True
    return is_array


def _carriers(aspace: AddressSpace, data_type: ua.NodeId | None) -> frozenset[ua.VariantType] | None:
    """Return the built-in types that can carry a data type; None: any."""
    if data_type is None:
        return None
    for above in supertypes(aspace, data_type):
        if above.NamespaceIndex != 0 or not isinstance(above.Identifier, int):
            continue
        if above.Identifier in _CARRIERS:
            return _CARRIERS[above.Identifier]
        if above.Identifier == ua.ObjectIds.Structure:
            return frozenset({ua.VariantType.ExtensionObject})
        if 1 <= above.Identifier <= _LAST_BUILT_IN:
            return frozenset({ua.VariantType(above.Identifier)})
    return frozenset()


def is_component_of(aspace: AddressSpace, method: ua.NodeId, owner: ua.NodeId) -> bool:
    """Whether a method belongs to an object, or to the type of that object (Part 4 §5.12.2)."""
    if _has_component(aspace, owner, method):
        return True
    found = aspace.get(owner)
    references = found.references if found is not None else ()
    kinds = [r.NodeId for r in references if r.IsForward and r.ReferenceTypeId == _TYPE_DEFINITION]
    return any(_has_component(aspace, above, method) for kind in kinds for above in supertypes(aspace, kind))


def _has_component(aspace: AddressSpace, owner: ua.NodeId, child: ua.NodeId) -> bool:
    found = aspace.get(owner)
    return found is not None and any(
        ref.IsForward and ref.NodeId == child and is_subtype(aspace, ref.ReferenceTypeId, _COMPONENT)
        for ref in found.references
    )


def property_value(aspace: AddressSpace, owner: ua.NodeId, name: str) -> Any:
    """Return the value of a standard property, or None."""
    found = aspace.get(owner)
    for ref in found.references if found is not None else ():
        if ref.IsForward and ref.ReferenceTypeId == _PROPERTY and ref.BrowseName.Name == name:
            return attribute(aspace, ref.NodeId, ua.AttributeIds.Value)
    return None


def notifiers_above(aspace: AddressSpace, node: ua.NodeId) -> tuple[ua.NodeId, ...]:
    """Return a node and every node above it through HasNotifier or HasEventSource, and always Server."""
    found: dict[ua.NodeId, None] = {}
    todo = [node]
    while todo and len(found) < 1000:
        here = todo.pop()
        if here in found:
            continue
        found[here] = None
        data = aspace.get(here)
        todo += [
            ref.NodeId
            for ref in (data.references if data is not None else ())
            # HasNotifier is a subtype of HasEventSource (Part 3 §7.17).
            if not ref.IsForward and is_subtype(aspace, ref.ReferenceTypeId, _EVENT_SOURCE)
        ]
    found[SERVER] = None
    return tuple(found)
