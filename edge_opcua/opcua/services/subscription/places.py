"""Places in queues: how long a queue an item gets of what all clients share (Part 4 §7.21)."""

from __future__ import annotations

from collections.abc import Hashable

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.shares import Shares
from edge_opcua.opcua.services.subscription.items import Item


class Lease:
    """Places that one client takes for many items, counted once.

    Args:
        shares: What all have.
        holder: Who takes.
        longest: Longest queue.
    """

    def __init__(self, shares: Shares, holder: Hashable, longest: int) -> None:
        self._shares = shares
        self._holder = holder
        self._longest = longest
        self._room = int(shares.room(holder))
        self._taken = 0

    def size(self, wanted: int) -> int:
        """Return how long a queue the next item gets; all but its first place are taken."""
        size = max(1, min(wanted, self._longest, 1 + self._room))
        self._room -= size - 1
        self._taken += size - 1
        return size

    def end(self) -> None:
        """Enter what was taken."""
        self._shares.take(self._holder, self._taken)
        self._taken = 0


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

    def lease(self, holder: Hashable) -> Lease:
        """Begin to take places for many items of one client; :meth:`Lease.end` it before anything else."""
        return Lease(self._shares, holder, self._longest)

    def give(self, holder: Hashable, places: int) -> None:
        """Take places back."""
        self._shares.give(holder, places)
