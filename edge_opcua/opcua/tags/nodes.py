"""What a tag says when it is asked like a node: every attribute, its properties, its references.

A tag and its properties (EURange, EngineeringUnits, …) are worked out when somebody asks, from the row of the
configuration and the row of the block; nothing is kept for any of them. The answers are those that nodes made
by :class:`~edge_opcua.opcua.nodes.NodeMaker` would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, overload

from asyncua import ua

from edge_opcua.config.tags import TagConfig
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.items import (
    STATE_TEXT,
    Facts,
    Property,
    has_property,
    item_property,
    item_type,
    property_names,
    state_text,
)
from edge_opcua.opcua.namespaces import plant_name
from edge_opcua.opcua.nodes import ARRAY, READ, READ_WRITE, SCALAR
from edge_opcua.opcua.tags.table import PLANT, TagTable, taken
from edge_opcua.opcua.values import SharedDataValue

References = Sequence[ua.ReferenceDescription]
_Type = ua.VariantType
_IDS: Final = ua.AttributeIds
_VALUE: Final = int(_IDS.Value)
_HAS_COMPONENT: Final = ua.NodeId(ua.ObjectIds.HasComponent)
_HAS_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)
_HAS_TYPE: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_PROPERTY_TYPE: Final = ua.NodeId(ua.ObjectIds.PropertyType)
_VARIABLE: Final = ua.NodeClass.Variable
_DATA_TYPES: Final = {scalar: ua.NodeId(int(scalar)) for scalar in Scalar}
_RANKS: Final = {rank: ua.Variant(rank, _Type.Int32) for rank in (SCALAR, ARRAY)}
_DIMENSIONS: Final = {
    SCALAR: ua.Variant([], _Type.UInt32, is_array=True),
    ARRAY: ua.Variant([0], _Type.UInt32, is_array=True),
}
_LEVELS: Final = {level: ua.Variant(level, _Type.Byte) for level in (READ, READ_WRITE)}
_NO_DESCRIPTION: Final = ua.Variant(ua.LocalizedText(), _Type.LocalizedText)
_CLASS: Final = ua.Variant(_VARIABLE, _Type.Int32)
# Nothing keeps the history of a tag yet, whatever its table says of it.
_HISTORIZING: Final = ua.Variant(Value=False, VariantType=_Type.Boolean)
_SAMPLING: Final = ua.Variant(0.0, _Type.Double)
_NO_MASK: Final = ua.Variant(0, _Type.UInt32)


class Described(Protocol):
    """The nodes that are objects, as far as references of tags name them."""

    def attribute(self, node: ua.NodeId, attribute: int) -> Any:
        """Return the bare value of an attribute."""
        ...

    def references_of(self, node: ua.NodeId) -> References:
        """Return the references of a node."""
        ...


class TagNode(NamedTuple):
    """A tag, or one of its properties.

    Args:
        number: Number of the tag.
        name: BrowseName of the property; empty: the tag itself.
    """

    number: int
    name: str = ""


class TagNodes:
    """Answers for tags.

    Args:
        tags: The tags.
        others: The nodes that are objects.
    """

    def __init__(self, tags: TagTable, others: Described) -> None:
        self._tags = tags
        self._others = others
        self._to_types: dict[ua.NodeId, ua.ReferenceDescription] = {}
        self._to_folder: ua.ReferenceDescription | None = None

    # --- which there are -----------------------------------------------------------------------------

    def find(self, node: ua.NodeId) -> TagNode | None:
        """Return the tag, or property of a tag, that has this NodeId; None if there is none.

        The name of a tag may have dots, and may look like that of a property of another one; such a property
        does not exist then (:meth:`check`).
        """
        if node.NamespaceIndex != PLANT or not isinstance(node.Identifier, str):
            return None
        encoded = node.Identifier.encode("utf-8", "surrogatepass")
        number = self._tags.find(encoded)
        return TagNode(number) if number is not None else self._find_property(encoded)

    def _find_property(self, encoded: bytes) -> TagNode | None:
        owner, dot, name = encoded.rpartition(b".")
        number = self._tags.find(owner) if dot else None
        if number is None:
            return None
        text = name.decode("utf-8", "surrogatepass")
        return TagNode(number, text) if has_property(self._tags.configs[number], text) else None

    def node_id(self, node: TagNode) -> ua.NodeId:
        """Return the NodeId of a tag or property."""
        name = self._tags.name(node.number)
        return ua.NodeId(f"{name}.{node.name}" if node.name else name, PLANT)

    def every(self) -> Iterator[ua.NodeId]:
        """Yield the NodeIds of all tags, each followed by those of its properties."""
        order = self._tags.order
        for number, fact in zip(order, self._tags.configs.fields(Facts._fields, order), strict=True):
            yield self._tags.node_id(number)
            for name in property_names(Facts(*fact)):
                yield self.node_id(TagNode(number, name))

    def check(self) -> None:
        """Look whether a tag is called like another tag's property.

        Raises:
            IdentityError: Two nodes would have the same NodeId.
        """
        for number in self._tags.order:
            encoded = self._tags.names[number]
            if self._find_property(encoded) is not None:
                raise taken(encoded.decode("utf-8", "surrogatepass"))

    # --- attributes ----------------------------------------------------------------------------------

    def shown(self, node: TagNode, attribute: int) -> SharedDataValue | None:
        """Return an attribute, None if a variable has none such."""
        if attribute == _VALUE:
            return self.value(node)
        made = _ATTRIBUTES.get(attribute)
        return None if made is None else SharedDataValue(made(self, node))

    def value(self, node: TagNode) -> SharedDataValue:
        """Return the value of a tag or property."""
        number, name = node
        if not name or name == STATE_TEXT:
            block, row = self._tags.place(number)
            value = block.data_value(row)
            return state_text(value, dict(self._tags.configs[number].states)) if name else value
        return SharedDataValue(self._property(node).value)

    def is_fixed(self, node: TagNode, attribute: int) -> bool:
        """Whether an attribute is there and never changes: all but the values that come from the bus."""
        if attribute == _VALUE:
            return node.name not in ("", STATE_TEXT)
        return attribute in _ATTRIBUTES

    def property_value(self, number: int, name: str) -> Any:
        """Return the value of a tag's property, None if it has none of this name."""
        found = item_property(self._tags.configs[number], name)
        return None if found is None or found.value is None else found.value.Value

    def _config(self, node: TagNode) -> TagConfig:
        return self._tags.configs[node.number]

    def _cell(self, node: TagNode, field: str) -> Any:
        return self._tags.configs.cell(node.number, field)

    def _property(self, node: TagNode) -> Property:
        found = item_property(self._config(node), node.name)
        assert found is not None, "only asked of properties that are there"
        return found

    def _node_id(self, node: TagNode) -> ua.Variant:
        return ua.Variant(self.node_id(node), _Type.NodeId)

    def _browse_name(self, node: TagNode) -> ua.Variant:
        name = ua.QualifiedName(node.name, 0) if node.name else plant_name(self._cell(node, "name"))
        return ua.Variant(name, _Type.QualifiedName)

    def _display_name(self, node: TagNode) -> ua.Variant:
        return ua.Variant(ua.LocalizedText(node.name or self._cell(node, "name")), _Type.LocalizedText)

    def _description(self, node: TagNode) -> ua.Variant:
        text = "" if node.name else self._cell(node, "description")
        return ua.Variant(ua.LocalizedText(text, "en"), _Type.LocalizedText) if text else _NO_DESCRIPTION

    def _data_type(self, node: TagNode) -> ua.Variant:
        if node.name:
            return ua.Variant(self._property(node).data_type, _Type.NodeId)
        return ua.Variant(_DATA_TYPES[self._cell(node, "type")], _Type.NodeId)

    def _rank(self, node: TagNode) -> int:
        if node.name:
            return self._property(node).rank
        is_text = self._cell(node, "type") is Scalar.STRING
        return ARRAY if not is_text and self._cell(node, "length") > 0 else SCALAR

    def _value_rank(self, node: TagNode) -> ua.Variant:
        return _RANKS[self._rank(node)]

    def _array_dimensions(self, node: TagNode) -> ua.Variant:
        return _DIMENSIONS[self._rank(node)]

    def _access_level(self, node: TagNode) -> ua.Variant:
        return _LEVELS[READ_WRITE if not node.name and self._tags.writable[node.number] else READ]

    # --- references ----------------------------------------------------------------------------------

    def references_of(self, node: TagNode) -> References:
        """Return the references of a tag or property, in both directions."""
        number, name = node
        config = self._tags.configs[number]
        if name:
            owner = self._described(_HAS_PROPERTY, TagNode(number), forward=False)
            return (self._to_type(_PROPERTY_TYPE), owner)
        below = (
            self._described(_HAS_PROPERTY, TagNode(number, each), forward=True)
            for each in property_names(config)
        )
        return (self._to_type(item_type(config)), self._above(), *below)

    def in_folder(self, at: int) -> ua.ReferenceDescription:
        """Return the reference from the folder to one of its tags, in the order of browsing."""
        return self._described(_HAS_COMPONENT, TagNode(self._tags.order[at]), forward=True)

    def _described(self, kind: ua.NodeId, target: TagNode, *, forward: bool) -> ua.ReferenceDescription:
        config = self._config(target)
        return ua.ReferenceDescription(
            ReferenceTypeId=kind,
            IsForward=forward,
            NodeId=self.node_id(target),
            BrowseName=_browse_name(config, target.name),
            DisplayName=ua.LocalizedText(target.name or config.name),
            NodeClass=_VARIABLE,
            TypeDefinition=_PROPERTY_TYPE if target.name else item_type(config),
        )

    def _above(self) -> ua.ReferenceDescription:
        if self._to_folder is None:
            self._to_folder = self._to(_HAS_COMPONENT, self._tags.folder, forward=False)
        return self._to_folder

    def _to_type(self, kind: ua.NodeId) -> ua.ReferenceDescription:
        found = self._to_types.get(kind)
        if found is None:
            found = self._to_types[kind] = self._to(_HAS_TYPE, kind, forward=True)
        return found

    def _to(self, kind: ua.NodeId, target: ua.NodeId, *, forward: bool) -> ua.ReferenceDescription:
        """Return a reference to a node that is an object."""
        others = self._others
        reference = ua.ReferenceDescription(
            ReferenceTypeId=kind,
            IsForward=forward,
            NodeId=target,
            BrowseName=others.attribute(target, _IDS.BrowseName),
            DisplayName=others.attribute(target, _IDS.DisplayName),
            NodeClass=others.attribute(target, _IDS.NodeClass),
        )
        for each in others.references_of(target):
            if each.IsForward and each.ReferenceTypeId == _HAS_TYPE:
                reference.TypeDefinition = each.NodeId
                break
        return reference


def _browse_name(config: TagConfig, name: str) -> ua.QualifiedName:
    return ua.QualifiedName(name, 0) if name else plant_name(config.name)


# Every attribute that a variable has but Value; what depends on who asks is worked out elsewhere.
_ATTRIBUTES: Final[Mapping[int, Callable[[TagNodes, TagNode], ua.Variant]]] = {
    int(_IDS.NodeId): TagNodes._node_id,  # noqa: SLF001 - the table of this file's own class
    int(_IDS.NodeClass): lambda *_: _CLASS,
    int(_IDS.BrowseName): TagNodes._browse_name,  # noqa: SLF001
    int(_IDS.DisplayName): TagNodes._display_name,  # noqa: SLF001
    int(_IDS.Description): TagNodes._description,  # noqa: SLF001
    int(_IDS.WriteMask): lambda *_: _NO_MASK,
    int(_IDS.UserWriteMask): lambda *_: _NO_MASK,
    int(_IDS.DataType): TagNodes._data_type,  # noqa: SLF001
    int(_IDS.ValueRank): TagNodes._value_rank,  # noqa: SLF001
    int(_IDS.ArrayDimensions): TagNodes._array_dimensions,  # noqa: SLF001
    int(_IDS.AccessLevel): TagNodes._access_level,  # noqa: SLF001
    int(_IDS.UserAccessLevel): TagNodes._access_level,  # noqa: SLF001
    int(_IDS.MinimumSamplingInterval): lambda *_: _SAMPLING,
    int(_IDS.Historizing): lambda *_: _HISTORIZING,
}


class FolderReferences(Sequence[ua.ReferenceDescription]):
    """The references of the folder: its own, followed by one to each tag, made when somebody looks at it.

    Args:
        own: The folder's own ones.
        nodes: Makes the others.
        count: How many tags there are.
    """

    def __init__(self, own: References, nodes: TagNodes, count: int) -> None:
        self._own = tuple(own)
        self._nodes = nodes
        self._length = len(self._own) + count

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> ua.ReferenceDescription: ...
    @overload
    def __getitem__(self, index: slice) -> References: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(self._length)))
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            raise IndexError(index)
        own = len(self._own)
        return self._own[at] if at < own else self._nodes.in_folder(at - own)
