"""Makes the standard's nodes from the items that asyncua generated of the official file.

asyncua adds each as if a client had asked for it: every reference is compared with all others of its node,
and every attribute gets a value object of its own. Here the items are known to be right (a test holds the
outcome against asyncua's, node by node): what is there already is looked up, and attributes that are equal
share their value. Nobody changes such a value in place; a write puts another one there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData

ITEMS: Final = "asyncua.server.standard_address_space.standard_address_space_services"
_TYPE_DEFINITION: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_INSTANCES: Final = (ua.NodeClass.Object, ua.NodeClass.Variable)
_NO_TYPE: Final = ua.ExpandedNodeId()

# Attributes an item may have, in the order in which asyncua puts them: name and built-in type.
_ATTRIBUTES: Final = (
    ("AccessLevel", ua.VariantType.Byte),
    ("ArrayDimensions", ua.VariantType.UInt32),
    ("ContainsNoLoops", ua.VariantType.Boolean),
    ("DataType", ua.VariantType.NodeId),
    ("Description", ua.VariantType.LocalizedText),
    ("DisplayName", ua.VariantType.LocalizedText),
    ("EventNotifier", ua.VariantType.Byte),
    ("Executable", ua.VariantType.Boolean),
    ("Historizing", ua.VariantType.Boolean),
    ("InverseName", ua.VariantType.LocalizedText),
    ("IsAbstract", ua.VariantType.Boolean),
    ("MinimumSamplingInterval", ua.VariantType.Double),
    ("Symmetric", ua.VariantType.Boolean),
    ("UserAccessLevel", ua.VariantType.Byte),
    ("UserExecutable", ua.VariantType.Boolean),
    ("UserWriteMask", ua.VariantType.UInt32),
    ("ValueRank", ua.VariantType.Int32),
    ("WriteMask", ua.VariantType.UInt32),
    ("DataTypeDefinition", ua.VariantType.ExtensionObject),
    ("Value", None),
)
_SHARED: Final = (bool, int, float)


def load_standard(aspace: AddressSpace) -> None:
    """Put the standard's nodes into an empty address space; takes a third of a second.

    Raises:
        RuntimeError: The library's items do not fit together.
    """
    maker = _Maker()
    import_module(ITEMS).create_standard_address_space_Services(maker)
    maker.finish()
    for node in maker.nodes.values():
        aspace[node.nodeid] = node


class _Maker:
    """Takes items as asyncua's node management does; numbers of namespace 0 stand for NodeIds."""

    def __init__(self) -> None:
        self.nodes: dict[int, NodeData] = {}
        self._waiting_nodes: list[ua.AddNodesItem] = []
        self._waiting_references: list[ua.AddReferencesItem] = []
        self._known: set[tuple[int, int, int]] = set()
        self._types: dict[int, ua.NodeId] = {}
        self._values: dict[tuple[Any, ...], ua.DataValue] = {}

    def add_nodes(self, items: Iterable[ua.AddNodesItem]) -> None:
        """Make nodes; those whose type does not exist yet are made at the end."""
        self._waiting_nodes += [item for item in items if not self._add(item)]

    def add_references(self, items: Iterable[ua.AddReferencesItem]) -> None:
        """Add references; those whose nodes do not exist yet are added at the end."""
        self._waiting_references += [item for item in items if not self._add_reference(item)]

    def finish(self) -> None:
        """Make what had to wait."""
        nodes, self._waiting_nodes = self._waiting_nodes, []
        self.add_nodes(nodes)
        references, self._waiting_references = self._waiting_references, []
        self.add_references(references)
        if self._waiting_nodes or self._waiting_references:
            left = [str(item.RequestedNewNodeId) for item in self._waiting_nodes]
            raise RuntimeError(
                f"the standard's nodes do not fit together: {left or self._waiting_references}"
            )

    def _add(self, item: ua.AddNodesItem) -> bool:
        kind, above = _number(item.TypeDefinition), _number(item.ParentNodeId)
        if (kind and kind not in self.nodes) or (above and above not in self.nodes):
            return False
        node = NodeData(item.RequestedNewNodeId)
        number = _number(node.nodeid)
        self._set_attributes(node, item)
        self.nodes[number] = node
        if above:
            self._refer(above, item.ReferenceTypeId, number, item.TypeDefinition, forward=True)
            self._refer(number, item.ReferenceTypeId, above, self._type_of(above), forward=False)
        if kind:
            self._types[number] = item.TypeDefinition
            self._refer(number, _TYPE_DEFINITION, kind, _NO_TYPE, forward=True)
        return True

    def _set_attributes(self, node: NodeData, item: ua.AddNodesItem) -> None:
        attributes, given = node.attributes, item.NodeAttributes
        own = ua.Variant(node.nodeid, ua.VariantType.NodeId)
        name = ua.Variant(item.BrowseName, ua.VariantType.QualifiedName)
        attributes[ua.AttributeIds.NodeId] = AttributeValue(ua.DataValue(own))
        attributes[ua.AttributeIds.BrowseName] = AttributeValue(ua.DataValue(name))
        attributes[ua.AttributeIds.NodeClass] = AttributeValue(
            self._value(ua.AttributeIds.NodeClass, item.NodeClass, ua.VariantType.Int32)
        )
        for which, field, kind in _specified(given.SpecifiedAttributes):
            attributes[which] = AttributeValue(self._value(which, getattr(given, field), kind))

    def _value(self, which: ua.AttributeIds, value: Any, kind: ua.VariantType | None) -> ua.DataValue:
        if kind is None:
            return ua.DataValue(ua.Variant(value, is_array=False))
        if which is ua.AttributeIds.ArrayDimensions:
            return ua.DataValue(ua.Variant(value, kind, is_array=True))
        if which is ua.AttributeIds.DataTypeDefinition and not isinstance(value, ua.DataTypeDefinition):
            return ua.DataValue(ua.Variant(None, ua.VariantType.Null))
        if not isinstance(value, _SHARED):
            return ua.DataValue(ua.Variant(value, kind, is_array=False))
        key = (which, type(value), value)
        found = self._values.get(key)
        if found is None:
            found = self._values[key] = ua.DataValue(ua.Variant(value, kind, is_array=False))
        return found

    def _add_reference(self, item: ua.AddReferencesItem) -> bool:
        source, target = _number(item.SourceNodeId), _number(item.TargetNodeId)
        if target not in self.nodes or source not in self.nodes:
            return False
        made = self._refer(
            source, item.ReferenceTypeId, target, self._type_of(target), forward=item.IsForward
        )
        if made is not None and item.TargetNodeClass != ua.NodeClass.Unspecified:
            made.NodeClass = item.TargetNodeClass
        return True

    def _type_of(self, number: int) -> ua.NodeId:
        is_instance = _class_of(self.nodes[number]) in _INSTANCES
        return self._types.get(number, _NO_TYPE) if is_instance else _NO_TYPE

    def _refer(
        self, source: int, kind: ua.NodeId, target: int, type_definition: ua.NodeId, *, forward: bool
    ) -> ua.ReferenceDescription | None:
        """Add a reference unless it is there, in whichever direction."""
        key = (source, _number(kind), target)
        if key in self._known:
            return None
        self._known.add(key)
        node = self.nodes[target]
        made = ua.ReferenceDescription(
            ReferenceTypeId=kind,
            IsForward=forward,
            NodeId=node.nodeid,
            BrowseName=node.attributes[ua.AttributeIds.BrowseName].value.Value.Value,
            DisplayName=node.attributes[ua.AttributeIds.DisplayName].value.Value.Value,
            NodeClass=_class_of(node),
            TypeDefinition=type_definition,
        )
        self.nodes[source].references.append(made)
        return made


def _class_of(node: NodeData) -> ua.NodeClass:
    found: ua.NodeClass = node.attributes[ua.AttributeIds.NodeClass].value.Value.Value
    return found


@cache
def _specified(mask: int) -> tuple[tuple[ua.AttributeIds, str, ua.VariantType | None], ...]:
    """Return which attributes a mask names."""
    return tuple(
        (getattr(ua.AttributeIds, name), name, kind)
        for name, kind in _ATTRIBUTES
        if mask & getattr(ua.NodeAttributesMask, name)
    )


def _number(node: ua.NodeId) -> int:
    found: int = node.Identifier
    return found
