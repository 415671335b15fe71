"""Places in queues: how long a queue an item gets of what all clients share (Part 4 §7.21)."""

from __future__ import annotations

from collections.abc import Hashable

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.shares import Shares
from edge_opcua.opcua.services.subscription.items import Item


class QueuePlaces:
    """The places of all queues beyond the first of each.

    Args:
        limits: How many there are, how long a queue may be.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._shares = Shares(limits.queued)
        self._longest = limits.queue

    @property
    def taken(self) -> float:
        """How many are taken."""
        return self._shares.taken

    def room(self, holder: Hashable) -> float:
        """Return how many more a client may take."""
        return self._shares.room(holder)

    def allot(self, item: Item, size: int) -> int:
        """Return how long a queue an item gets, as long as it wants if its client has the places left."""
        if size <= 1 and item.weight == 1 and not item.places:
            return 1  # a queue of one short notification takes none
        self._shares.give(item.holder, item.places)
        room = self._shares.room(item.holder) - (item.weight - 1)
        size = max(1, min(size, self._longest, 1 + int(room / item.weight)))
        item.places = size * item.weight - 1
        self._shares.take(item.holder, item.places)
        return size

    def give(self, holder: Hashable, places: int) -> None:
        """Take places back."""
        self._shares.give(holder, places)
