"""Monitored items when the tags are others: those of tags that stay go on, others say that theirs is gone.

An item keeps its number, its queue and what it notified last wherever its tag lies now. One whose node is
gone says BadNodeIdUnknown and stays, as a node of that NodeId may come back (Part 4 §5.13.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.subscription.columngroups import ColumnGroups
from edge_opcua.opcua.services.subscription.columns import ColumnGroup, Settings
from edge_opcua.opcua.services.subscription.dataitems import DataItem
from edge_opcua.opcua.services.subscription.datamonitoring import DataMonitoring
from edge_opcua.opcua.services.subscription.items import Mode
from edge_opcua.opcua.services.subscription.sources import USER_ATTRIBUTES, FixedSource, source_of
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.services.subscription.tagitems import TagItem

__all__ = ["Following"]


class Following:
    """Lets items follow their nodes.

    Args:
        aspace: The address space.
        groups: Groups of items that are columns.
        data: Items that stand for themselves.
    """

    def __init__(self, aspace: Nodes, groups: ColumnGroups, data: DataMonitoring) -> None:
        self._aspace = aspace
        self._groups = groups
        self._data = data

    def follow(self, subscriptions: Iterable[Subscription]) -> None:
        """Look where the node of every item is now."""
        for subscription in subscriptions:
            for item in tuple(subscription.items.values()):
                if isinstance(item, TagItem):
                    self._follow_tag(subscription, item)
                elif isinstance(item, DataItem):
                    self._follow_node(item)
            for group in tuple(subscription.groups.values()):
                group.settle()

    def _follow_tag(self, subscription: Subscription, item: TagItem) -> None:
        group, place, tags = item.group, item.place, self._aspace.tags
        number = group.tag(place)
        block, row = tags.place(number)
        if (block, row) == (group.key.block, group.row(place)):
            return
        kind = group.kind(place)
        if tags.is_gone(number) or not block.scalars[row] or block.kind[row] != kind:
            self._lose(subscription, item)
            return
        target = self._groups.group(subscription, group.key._replace(block=block))
        if target is None:  # its client has too many groups
            self._follow_node(self._data.instead_of(subscription, item))
            return
        settings = Settings(
            row,
            number,
            item.handle,
            item.queue_size,
            bool(group.queues.oldest[place]),
            *group.filter_of(place),
        )
        item.enter(target, *target.add([settings]))
        _go_on(item, group, place)
        group.remove(place)

    def _lose(self, subscription: Subscription, item: TagItem) -> None:
        """Say that the node is gone; one of the same NodeId and another type is another node."""
        made = self._data.instead_of(subscription, item)
        made.tell_gone()
        self._follow_node(made)
        made.look()

    def _follow_node(self, item: DataItem) -> None:
        if item.attribute in USER_ATTRIBUTES or item.node_id in self._data.polled:
            return
        # Who watches a node that is not there is told nothing, until there is one.
        item.follow(source_of(self._aspace, item.node_id, item.attribute) or FixedSource())


def _go_on(item: TagItem, before: ColumnGroup, there: int) -> None:
    """Go on in another group; what is shown there now is a notification if it differs from the last one."""
    if item.mode is Mode.Disabled:
        return
    group, place = item.group, item.place
    last = before.last(there)
    group.take_over(place, before, there)
    if not (group.is_up_to_date(place) and group.last(place) == last):
        group.activate((place,))
