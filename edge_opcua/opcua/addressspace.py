"""What the services ask of nodes: asyncua's are objects in a dictionary, tags are rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, NodeData

from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.nodes import FolderReferences, TagNodes
from edge_opcua.opcua.tags.table import PLANT, TagTable, taken

_NONE: Final[tuple[ua.ReferenceDescription, ...]] = ()
_VALUE: Final = int(ua.AttributeIds.Value)


class Nodes(AddressSpace):
    """The address space; services ask it by the methods below and never look for an object of a tag.

    What asyncua itself does with nodes (adding, deleting, its own callbacks) it does with its objects only:
    to it a tag is an unknown NodeId.

    Attributes:
        changes: How often a node came, went or was replaced; what was worked out before is old then.
        tags: The tags.
        virtual: Answers for the tags and their properties.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.tags = TagTable()
        self.virtual = TagNodes(self.tags, self)

    def __setitem__(self, node: ua.NodeId, data: NodeData) -> None:
        """Add a node.

        Raises:
            IdentityError: A tag, or a property of one, has this NodeId.
        """
        if node.NamespaceIndex == PLANT and self.virtual.find(node) is not None:
            raise taken(str(node.Identifier))
        super().__setitem__(node, data)
        self.changes += 1

    def __delitem__(self, node: ua.NodeId) -> None:
        """Remove a node."""
        super().__delitem__(node)
        self.changes += 1

    def clear(self) -> None:
        """Remove every node."""
        super().clear()
        self.changes += 1

    def knows(self, node: ua.NodeId) -> bool:
        """Whether there is such a node."""
        return node in self._nodes or self.virtual.find(node) is not None

    def shown(self, node: ua.NodeId, attribute: int) -> ua.DataValue | None:
        """Return an attribute as the server knows it, whoever asks; None: no such node or attribute."""
        data = self._nodes.get(node)
        if data is None:
            found = self.virtual.find(node)
            return None if found is None else self.virtual.shown(found, attribute)
        slot = data.attributes.get(attribute)
        if slot is None:
            return None
        if slot.value_callback is not None:
            return slot.value_callback(node, ua.AttributeIds(attribute))
        return slot.value

    def has(self, node: ua.NodeId, attribute: int) -> bool:
        """Whether a node has an attribute, be its value null."""
        data = self._nodes.get(node)
        return self.shown(node, attribute) is not None if data is None else attribute in data.attributes

    def attribute(self, node: ua.NodeId, attribute: int) -> Any:
        """Return the bare value of an attribute; None: no such node or attribute, or it is null."""
        held = self.shown(node, attribute)
        return None if held is None or held.Value is None else held.Value.Value

    def references_of(self, node: ua.NodeId) -> Sequence[ua.ReferenceDescription]:
        """Return the references of a node, both directions; none if there is no such node.

        Those of the folder of the tags are made one by one when somebody looks at them.
        """
        data = self._nodes.get(node)
        if data is None:
            found = self.virtual.find(node)
            return _NONE if found is None else self.virtual.references_of(found)
        if len(self.tags) and node == self.tags.folder:
            return FolderReferences(data.references, self.virtual, len(self.tags))
        references: Sequence[ua.ReferenceDescription] = data.references
        return references

    def property_value(self, owner: ua.NodeId, name: str) -> tuple[bool, Any]:
        """Return whether a node is a tag, and if so the value of its property, None if it has none such."""
        number = self.tags.number(owner)
        return (False, None) if number is None else (True, self.virtual.property_value(number, name))

    def row(self, node: ua.NodeId, attribute: int) -> tuple[LiveBlock, int] | None:
        """Return the block and row of which an attribute is the value; None: it is none of a tag."""
        number = self.tags.number(node) if attribute == _VALUE else None
        return None if number is None else self.tags.place(number)

    def is_fixed(self, node: ua.NodeId, attribute: int) -> bool:
        """Whether an attribute of a tag or property is there and never changes."""
        found = self.virtual.find(node)
        return found is not None and self.virtual.is_fixed(found, attribute)

    def check_tags(self) -> None:
        """Look whether a tag or a property of one is called like another node.

        Raises:
            IdentityError: Two nodes would have the same NodeId.
        """
        self.virtual.check()
        for node in self._nodes:
            if node.NamespaceIndex == PLANT and self.virtual.find(node) is not None:
                raise taken(str(node.Identifier))

    def every(self, namespace: int) -> Iterator[ua.NodeId]:
        """Yield the nodes of a namespace in the order in which they were made; tags follow their folder."""
        for node in tuple(self._nodes):
            if node.NamespaceIndex == namespace:
                yield node
                if node == self.tags.folder:
                    yield from self.virtual.every()
