"""Values that wait to be sent, of many items in one log: arrays that are filled behind and emptied in front.

A value that its item discarded stays where it is until the log is tidied: what is dead is known by its
number. The log is tidied before it grows, so that it holds at most about twice what the queues hold.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.opcua.tags.records import BODY, Records

Places = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_LEAST: Final = 64
_MUCH: Final = 1024
# So many items are looked for one by one before the log is sorted by items.
_SINGLY: Final = 8
# How far beyond what is wanted one looks for what is alive.
_GLANCE: Final = 64


class RecordLog:
    """Records of many items in the order in which they came.

    Attributes:
        items: Whose each record is: the place of its item.
        numbers: The how-manyeth of its item it is; smaller than the item's first, it is dead.
        bodies: The records; only ``head`` to ``tail`` of all three mean anything.
        head: Index of the oldest record.
        tail: Index behind the newest one.
        dead: How many records between them are dead.
    """

    def __init__(self) -> None:
        self.head = self.tail = self.dead = 0
        self.items: Places = np.zeros(0, np.intp)
        self.numbers: Numbers = np.zeros(0, np.int64)
        self.bodies: Records = np.zeros(0, BODY)
        self._sorted: tuple[Places, Places] | None = None
        self._asked = 0  # for one item, since something was appended

    def __len__(self) -> int:
        return self.tail - self.head

    @property
    def capacity(self) -> int:
        """How many records there is memory for."""
        return len(self.items)

    def forget(self) -> None:
        """Drop everything: nothing in it is alive; memory that is out of proportion is given back."""
        used = self.tail
        self.head = self.tail = self.dead = 0
        self._sorted = None
        if self.capacity > max(_MUCH, 8 * used):
            self._move(np.zeros(0, np.intp), max(_LEAST, 2 * used))

    def has_room(self, count: int) -> bool:
        """Whether so many more fit behind the newest one."""
        return self.tail + count <= len(self.items)

    def make_room(self, count: int, first: Numbers) -> Places:
        """Tidy up, and grow if that is not enough.

        Args:
            count: How many more there have to be places for.
            first: Number of the oldest living record of each item.

        Returns:
            Where each record lies now, by how far behind ``head`` it was; only of living ones.
        """
        span = slice(self.head, self.tail)
        alive = self.numbers[span] >= first[self.items[span]]
        kept = np.flatnonzero(alive)
        wanted = len(kept) + count
        capacity = self.capacity
        if not 3 * wanted <= 2 * capacity <= 8 * wanted:
            capacity = max(_LEAST, 2 * wanted)
        self._move(kept + self.head, capacity)
        moved: Places = np.cumsum(alive)
        moved -= 1
        return moved

    def _move(self, kept: Places, capacity: int) -> None:
        """Take some of the records over into arrays of some capacity, in front."""
        count = len(kept)
        self._sorted = None
        for name in ("items", "numbers", "bodies"):
            old = getattr(self, name)
            new = old if capacity == len(old) else np.zeros(capacity, old.dtype)
            new[:count] = old.take(kept)
            setattr(self, name, new)
        self.head, self.tail, self.dead = 0, count, 0

    def append(self, places: Places, numbers: Numbers, source: Records, rows: Places) -> int:
        """Append records; returns the index of the first.

        Args:
            places: Their items.
            numbers: Their numbers.
            source: Where they are copied from: :data:`~edge_opcua.opcua.tags.records.BODY`.
            rows: Which of it.
        """
        start, end = self.tail, self.tail + len(places)
        self.items[start:end] = places
        self.numbers[start:end] = numbers
        source.take(rows, out=self.bodies[start:end], mode="clip")
        self.tail = end
        self._sorted = None
        self._asked = 0
        return start

    def oldest(self, most: int, first: Numbers) -> Places | slice:
        """Return where the oldest living records lie, at most so many."""
        if not self.dead:
            return slice(self.head, min(self.head + most, self.tail))
        span = most + _GLANCE
        while True:
            end = min(self.head + span, self.tail)
            window = slice(self.head, end)
            alive = np.flatnonzero(self.numbers[window] >= first[self.items[window]])
            if len(alive) >= most or end == self.tail:
                found: Places = alive[:most] + self.head
                return found
            span *= 2

    def drop(self, last: int, taken: int) -> None:
        """Forget everything up to an index; so many of them were alive."""
        self.dead -= last + 1 - self.head - taken
        self.head = last + 1

    def of(self, place: int, first: int) -> Places:
        """Return where the living records of one item lie; many items one after the other are cheap."""
        span = slice(self.head, self.tail)
        if self._sorted is None and self._asked < _SINGLY:  # sorting costs as much as looking a hundred times
            self._asked += 1
            found = (self.items[span] == place).nonzero()[0] + self.head
        else:
            if self._sorted is None:
                order = np.argsort(self.items[span], kind="stable")
                self._sorted = (self.items[span][order], order + self.head)
            items, where = self._sorted
            start, end = np.searchsorted(items, (place, place + 1))
            found = where[start:end]
        alive: Places = found[(found >= self.head) & (self.numbers[found] >= first)]
        return alive
