"""Which groups of column items there are, and who tells them that it is time to look."""

from __future__ import annotations

from functools import partial

from asyncua import ua

from edge_opcua.opcua.services.attribute.rights import Rights
from edge_opcua.opcua.services.shares import Shares
from edge_opcua.opcua.services.subscription.columns import ColumnGroup, Key
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.subscription import Subscription


class ColumnGroups:
    """Begins and ends the groups of all subscriptions.

    A group takes some 10 KB, and as long to look at as a hundred items: who spreads his items over thousands
    of sampling intervals gets no more of them.

    Args:
        rights: Who may read which tags.
        sampling: Where samples are taken.
        most: Most groups.
    """

    def __init__(self, rights: Rights, sampling: Sampling, most: int) -> None:
        self._rights = rights
        self._sampling = sampling
        self._shares = Shares(most)

    def is_told(self, interval_ms: float) -> bool:
        """Whether items of a sampling interval are told of each change, and take no samples."""
        return interval_ms <= self._sampling.tick_ms

    def group(self, subscription: Subscription, key: Key) -> ColumnGroup | None:
        """Return the group of a subscription for items of a kind; None: its client has too many."""
        found = subscription.groups.get(key)
        if found is None:
            holder = subscription.owner.session_id
            if self._shares.room(holder) < 1:
                return None
            self._shares.take(holder, 1)
            found = ColumnGroup(subscription, key, self._rights, partial(self._end, subscription, holder))
            subscription.groups[key] = found
            if self.is_told(key.interval_ms):
                key.block.listeners[found] = None
            else:
                self._sampling.follow(found, key.interval_ms)
        return found

    def _end(self, subscription: Subscription, holder: ua.NodeId, group: ColumnGroup) -> None:
        key = group.key
        self._shares.give(holder, 1)
        del subscription.groups[key]
        if self.is_told(key.interval_ms):
            del key.block.listeners[group]
        else:
            self._sampling.unfollow(group, key.interval_ms)
