"""What the services ask of nodes: asyncua's are objects in a dictionary, tags are rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, NodeData

from edge_opcua.opcua.tags.table import TagTable

_NONE: Final[tuple[ua.ReferenceDescription, ...]] = ()


class Nodes(AddressSpace):
    """The address space; services ask it by the methods below and never look for an object of a tag.

    What asyncua itself does with nodes (adding, deleting, its own callbacks) it does with its objects only:
    to it a tag is an unknown NodeId.

    Attributes:
        changes: How often a node came, went or was replaced; what was worked out before is old then.
        tags: The tags.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0
        self.tags = TagTable()

    def __setitem__(self, node: ua.NodeId, data: NodeData) -> None:
        """Add a node."""
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
        return node in self._nodes

    def shown(self, node: ua.NodeId, attribute: int) -> ua.DataValue | None:
        """Return an attribute as the server knows it, whoever asks; None: no such node or attribute."""
        data = self._nodes.get(node)
        slot = data.attributes.get(attribute) if data is not None else None
        if slot is None:
            return None
        if slot.value_callback is not None:
            return slot.value_callback(node, ua.AttributeIds(attribute))
        return slot.value

    def attribute(self, node: ua.NodeId, attribute: int) -> Any:
        """Return the bare value of an attribute; None: no such node or attribute, or it is null."""
        held = self.shown(node, attribute)
        return None if held is None or held.Value is None else held.Value.Value

    def references_of(self, node: ua.NodeId) -> Sequence[ua.ReferenceDescription]:
        """Return the references of a node, both directions; none if there is no such node."""
        data = self._nodes.get(node)
        return _NONE if data is None else data.references
