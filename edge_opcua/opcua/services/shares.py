"""What all clients share, as places in queues, bytes, readings: nobody can take all of it (pure)."""

from __future__ import annotations

from collections.abc import Hashable


def crowded(total: int, taken: float, own: float) -> bool:
    """Whether there is no more for somebody: the last tenth is for those who have less than a fiftieth.

    For what cannot be cut in half, as one client may rightly have more than all the others.

    Args:
        total: How much there is.
        taken: How much of it is taken.
        own: How much of that by him.
    """
    left = total - taken
    return left <= 0 or (left <= total // 10 and own >= total / 50)


class Shares:
    """An amount of something, and who has how much of it.

    Nobody gets more than half of what the others left: one greedy client has half of everything, a second
    one a quarter, and the next one still finds more than it needs.

    Args:
        total: How much there is.
    """

    def __init__(self, total: float) -> None:
        self._total = total
        self._taken = 0.0
        self._of: dict[Hashable, float] = {}

    @property
    def taken(self) -> float:
        """How much is taken."""
        return self._taken

    def of(self, holder: Hashable) -> float:
        """Return how much a holder has."""
        return self._of.get(holder, 0.0)

    def room(self, holder: Hashable) -> float:
        """Return how much more a holder may take; never negative."""
        own = self._of.get(holder, 0.0)
        return max(0.0, (self._total - (self._taken - own)) / 2 - own)

    def take(self, holder: Hashable, amount: float) -> None:
        """Take an amount, whether or not there is room; the holder asked before."""
        if amount:
            self._taken += amount
            self._of[holder] = self._of.get(holder, 0.0) + amount

    def give(self, holder: Hashable, amount: float) -> None:
        """Give an amount back."""
        if not amount:
            return
        self._taken -= amount
        left = self._of.get(holder, 0.0) - amount
        if left > 0:
            self._of[holder] = left
        else:
            self._of.pop(holder, None)
