"""Where an item learns of changes: from a node's attribute, from a row of a block, or never."""

from __future__ import annotations

from typing import Final, Protocol

from asyncua import ua
from asyncua.server.address_space import AttributeValue

from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.tags.live import LiveBlock, Watcher

# Part 3 §5: what these say depends on who asks, so nobody can be told of a change.
USER_ATTRIBUTES: Final = frozenset(
    {
        ua.AttributeIds.UserWriteMask,
        ua.AttributeIds.UserAccessLevel,
        ua.AttributeIds.UserExecutable,
        ua.AttributeIds.UserRolePermissions,
    }
)


class Source(Protocol):
    """What tells of the changes of an attribute."""

    def watch(self, item: Watcher) -> None:
        """Tell an item of each change."""
        ...

    def unwatch(self, item: Watcher) -> None:
        """Tell it no longer."""
        ...

    def is_same(self, other: Source | None) -> bool:
        """Whether another one tells of the same."""
        ...


class SlotSource:
    """An attribute that lies in the address space: whoever sets it tells.

    Attributes:
        slot: Where it lies.
    """

    def __init__(self, slot: AttributeValue) -> None:
        self.slot = slot

    def watch(self, item: Watcher) -> None:
        """Tell an item of each change."""
        self.slot.datachange_callbacks[id(item)] = item

    def unwatch(self, item: Watcher) -> None:
        """Tell it no longer."""
        self.slot.datachange_callbacks.pop(id(item), None)

    def is_same(self, other: Source | None) -> bool:
        """Whether another one tells of the same."""
        return isinstance(other, SlotSource) and other.slot is self.slot


class RowSource:
    """The value of a tag.

    Attributes:
        place: Its block and row.
    """

    def __init__(self, block: LiveBlock, row: int) -> None:
        self.place = (block, row)
        self._block = block
        self._row = row

    @property
    def type(self) -> tuple[int, int]:
        """Built-in type and capacity of the tag."""
        return int(self._block.kind[self._row]), int(self._block.spec.columns.lengths[self._row])

    def watch(self, item: Watcher) -> None:
        """Tell an item of each change."""
        self._block.watch(self._row, item)

    def unwatch(self, item: Watcher) -> None:
        """Tell it no longer."""
        self._block.unwatch(self._row, item)

    def is_same(self, other: Source | None) -> bool:
        """Whether another one tells of the same."""
        return isinstance(other, RowSource) and other.place == self.place


class FixedSource:
    """What the configuration says of a tag: it changes with that only. Or of a node that is not there."""

    def watch(self, item: Watcher) -> None:
        """Do nothing."""

    def unwatch(self, item: Watcher) -> None:
        """Do nothing."""

    def is_same(self, other: Source | None) -> bool:
        """Whether another one tells of the same."""
        return isinstance(other, FixedSource)


def source_of(aspace: Nodes, node: ua.NodeId, attribute: ua.AttributeIds) -> Source | None:
    """Return what tells of the changes of an attribute; None: it has to be read."""
    if attribute in USER_ATTRIBUTES:
        return None
    found = aspace.get(node)
    if found is not None:
        slot = found.attributes.get(attribute)
        return None if slot is None else SlotSource(slot)
    row = aspace.row(node, attribute)
    if row is not None:
        return RowSource(*row)
    return FixedSource() if aspace.is_fixed(node, attribute) else None
