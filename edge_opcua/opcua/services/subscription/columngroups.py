"""Which groups of column items there are, and who tells them that it is time to look."""

from __future__ import annotations

from functools import partial

from edge_opcua.opcua.services.attribute.rights import Rights
from edge_opcua.opcua.services.subscription.columns import ColumnGroup, Key
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.subscription import Subscription


class ColumnGroups:
    """Begins and ends the groups of all subscriptions.

    Args:
        rights: Who may read which tags.
        sampling: Where samples are taken.
    """

    def __init__(self, rights: Rights, sampling: Sampling) -> None:
        self._rights = rights
        self._sampling = sampling

    def is_told(self, interval_ms: float) -> bool:
        """Whether items of a sampling interval are told of each change, and take no samples."""
        return interval_ms <= self._sampling.tick_ms

    def group(self, subscription: Subscription, key: Key) -> ColumnGroup:
        """Return the group of a subscription for items of a kind."""
        found = subscription.groups.get(key)
        if found is None:
            found = ColumnGroup(subscription, key, self._rights, partial(self._end, subscription))
            subscription.groups[key] = found
            if self.is_told(key.interval_ms):
                key.block.listeners[found] = None
            else:
                self._sampling.follow(found, key.interval_ms)
        return found

    def _end(self, subscription: Subscription, group: ColumnGroup) -> None:
        key = group.key
        del subscription.groups[key]
        if self.is_told(key.interval_ms):
            del key.block.listeners[group]
        else:
            self._sampling.unfollow(group, key.interval_ms)
