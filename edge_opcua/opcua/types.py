"""Questions to the address space that several services ask: subtypes, components, does a value fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from asyncua import ua

from edge_opcua.opcua.addressspace import Nodes

_SUBTYPE: Final = ua.NodeId(ua.ObjectIds.HasSubtype)
_COMPONENT: Final = ua.NodeId(ua.ObjectIds.HasComponent)
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)
_TYPE_DEFINITION: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
SERVER: Final = ua.NodeId(ua.ObjectIds.Server)
MAX_DEPTH: Final = 32
_LONG_LETTERS: Final = 1024

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
_BUILT_IN: Final = range(1, _LAST_BUILT_IN + 1)
_ENUMERATION: Final = ua.NodeId(ua.ObjectIds.Enumeration)


def is_long(node: ua.NodeId) -> bool:
    """Whether a NodeId is longer than those of nodes are: nothing is kept by what anybody can make up."""
    identifier = node.Identifier
    return isinstance(identifier, (str, bytes)) and len(identifier) > _LONG_LETTERS


def attribute(aspace: Nodes, node: ua.NodeId, attribute_id: ua.AttributeIds) -> Any:
    """Return the value of an attribute, or None if the node has none."""
    return aspace.attribute(node, attribute_id)


def allows(access_level: int | None, right: ua.AccessLevel) -> bool:
    """Whether an AccessLevel grants a right; a node without one grants nothing."""
    return access_level is not None and bool(access_level & (1 << right))


def supertypes(aspace: Nodes, node: ua.NodeId) -> Iterator[ua.NodeId]:
    """Yield a type and every type above it, nearest first."""
    here: ua.NodeId | None = node
    for _ in range(MAX_DEPTH):
        if here is None:
            return
        yield here
        references = aspace.references_of(here)
        here = next(
            (ref.NodeId for ref in references if ref.ReferenceTypeId == _SUBTYPE and not ref.IsForward), None
        )


class Subtypes:
    """The types below a type, kept from one question to the next.

    Browse asks for every reference whether its type is below the one that the client named. A type that gets
    another subtype later (a nodeset, a plugin) is noticed by the number of its references.
    """

    def __init__(self, aspace: Nodes) -> None:
        self._aspace = aspace
        self._found: dict[ua.NodeId, tuple[frozenset[ua.NodeId], list[tuple[list[Any], int]]]] = {}

    def of(self, node: ua.NodeId) -> frozenset[ua.NodeId]:
        """Return a type that exists and every type below it."""
        known = self._found.get(node)
        if known is None or any(len(references) != before for references, before in known[1]):
            known = self._found[node] = self._search(node)
        return known[0]

    def _search(self, node: ua.NodeId) -> tuple[frozenset[ua.NodeId], list[tuple[list[Any], int]]]:
        found: set[ua.NodeId] = set()
        looked_at = []
        todo = [node]
        while todo:
            here = todo.pop()
            data = self._aspace.get(here)
            if data is None or here in found:
                continue
            found.add(here)
            looked_at.append((data.references, len(data.references)))
            todo += [
                ref.NodeId for ref in data.references if ref.IsForward and ref.ReferenceTypeId == _SUBTYPE
            ]
        return frozenset(found), looked_at


def is_subtype(aspace: Nodes, node: ua.NodeId, of: ua.NodeId) -> bool:
    """Whether ``node`` is the type ``of`` or one below it."""
    return any(above == of for above in supertypes(aspace, node))


def fits(aspace: Nodes, value: ua.Variant | None, data_type: ua.NodeId | None, rank: int) -> bool:
    """Whether a value may stand where the data type and the ValueRank are declared (Part 3 §5.6.2)."""
    if value is None or value.VariantType == ua.VariantType.Null:
        return False
    if not _rank_fits(value, rank):
        return False
    carriers = _carriers(aspace, data_type)
    return carriers is None or value.VariantType in carriers


def objection(
    aspace: Nodes,
    value: ua.Variant | None,
    data_type: ua.NodeId | None,
    rank: int,
    dimensions: Sequence[int] = (),
) -> int:
    """Return why a client's value may not stand where it is declared so, or 0 (Part 4 §5.11.4.4).

    Args:
        aspace: The address space, for the types.
        value: What the client sent.
        data_type: DataType.
        rank: ValueRank.
        dimensions: ArrayDimensions: longest length of each dimension, 0: any.
    """
    if value is None or not fits(aspace, value, data_type, rank) or not _is_whole(value):
        return int(ua.StatusCodes.BadTypeMismatch)
    lengths = value.Dimensions or [len(value.Value or ())] if value.is_array else []
    if any(0 < most < length for most, length in zip(dimensions, lengths, strict=False)):
        return int(ua.StatusCodes.BadOutOfRange)
    members = enumeration(aspace, data_type)
    if members is not None:
        numbers = ua.flatten(value.Value) if value.is_array else [value.Value]
        if not members.issuperset(numbers or ()):
            return int(ua.StatusCodes.BadOutOfRange)
    return 0


def enumeration(aspace: Nodes, data_type: ua.NodeId | None) -> frozenset[int] | None:
    """Return the numbers of an Enumeration, None if it is no such type or does not say (Part 3 §8.14)."""
    if data_type is None or (data_type.NamespaceIndex == 0 and data_type.Identifier in _BUILT_IN):
        return None
    if data_type == _ENUMERATION or not is_subtype(aspace, data_type, _ENUMERATION):
        return None
    defined = attribute(aspace, data_type, ua.AttributeIds.DataTypeDefinition)
    if isinstance(defined, ua.EnumDefinition):
        return frozenset(int(member.Value) for member in defined.Fields)
    values = property_value(aspace, data_type, "EnumValues")
    if values:
        return frozenset(int(member.Value) for member in values)
    strings = property_value(aspace, data_type, "EnumStrings")
    return frozenset(range(len(strings))) if strings else None


def _rank_fits(value: ua.Variant, rank: int) -> bool:
    if rank == ua.ValueRank.Any:
        return True
    if not value.is_array:
        return rank in (ua.ValueRank.Scalar, ua.ValueRank.ScalarOrOneDimension)
    dimensions = len(value.Dimensions) if value.Dimensions else 1
    if rank == ua.ValueRank.ScalarOrOneDimension:
        return dimensions == 1
    return rank in (ua.ValueRank.OneOrMoreDimensions, dimensions)


def _is_whole(value: ua.Variant) -> bool:
    """Whether a matrix has as many elements as it says; asyncua fills up what is missing with empty lists."""
    return not value.is_array or not value.Dimensions or _has_shape(value.Value, value.Dimensions)


def _has_shape(value: Any, dimensions: Sequence[int]) -> bool:
    if not dimensions:
        return not isinstance(value, list)
    if value is None:
        return 0 in dimensions
    return (
        isinstance(value, list)
        and len(value) == dimensions[0]
        and all(_has_shape(each, dimensions[1:]) for each in value)
    )


def _carriers(aspace: Nodes, data_type: ua.NodeId | None) -> frozenset[ua.VariantType] | None:
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


def method_of(aspace: Nodes, owner: ua.NodeId, method: ua.NodeId) -> ua.NodeId | None:
    """Return the method to run when this one is called on an object or type, None if it has none such.

    Part 4 §5.12.2.2: a client may name the method of the object's type; what runs is the object's own one.
    """
    if not aspace.knows(owner) or method not in aspace:
        return None
    own = _methods(aspace, owner)
    if method in own:
        return method
    for kind in _type_definitions(aspace, owner) or [owner]:
        for above in supertypes(aspace, kind):
            name = _methods(aspace, above).get(method)
            if name is not None:
                return next((node for node, own_name in own.items() if own_name == name), method)
    return None


def _type_definitions(aspace: Nodes, node: ua.NodeId) -> list[ua.NodeId]:
    references = aspace.references_of(node)
    return [each.NodeId for each in references if each.IsForward and each.ReferenceTypeId == _TYPE_DEFINITION]


def _methods(aspace: Nodes, owner: ua.NodeId) -> dict[ua.NodeId, ua.QualifiedName]:
    """Return the methods of an object or type with their BrowseNames."""
    return {
        each.NodeId: each.BrowseName
        for each in _own_references(aspace, owner)
        if each.IsForward
        and each.NodeClass == ua.NodeClass.Method
        and is_subtype(aspace, each.ReferenceTypeId, _COMPONENT)
    }


def property_value(aspace: Nodes, owner: ua.NodeId, name: str) -> Any:
    """Return the value of a standard property, or None."""
    is_tag, value = aspace.property_value(owner, name)
    if is_tag:
        return value
    for ref in _own_references(aspace, owner):
        if ref.IsForward and ref.ReferenceTypeId == _PROPERTY and ref.BrowseName.Name == name:
            return attribute(aspace, ref.NodeId, ua.AttributeIds.Value)
    return None


def _own_references(aspace: Nodes, node: ua.NodeId) -> Sequence[Any]:
    """Return the references of a node, of the folder of the tags without those to the tags."""
    data = aspace.get(node)
    return aspace.references_of(node) if data is None else data.references
