"""The queues of many monitored items at once: what :class:`ValueQueue` says, for columns (pure).

An item's values have numbers that only grow. Its queue is what lies between its first and its next number, so
that discarding the oldest moves one number and touches no record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.opcua.services.subscription.queues import OVERFLOW
from edge_opcua.opcua.services.subscription.recordlog import Flags, Numbers, Places, RecordLog
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.tags.records import NOTIFICATION, Records

# Beside the bits of a DataValue's mask: the Overflow bit is set on this record when it is sent.
FLAGGED: Final = 0x80
_UNFLAGGED: Final = 0x7F
_HANDLE: Final = 4
_LARGEST: Final = int(records.sizes(np.array([(0, (records.WHOLE, 11, 0, 0, 0, 0))], NOTIFICATION))[0])


class ColumnQueues:
    """Queues of items that are told by their places: 0, 1, 2 and so on.

    Attributes:
        waiting: Values in all queues.
        log: Where they are.
        size: Longest queue of each item.
        oldest: Whether its oldest value gives way; otherwise the newest is replaced.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.log = RecordLog()
        self.size: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.oldest: Flags = np.zeros(0, np.bool_)
        self._first: Numbers = np.zeros(0, np.int64)
        self._next: Numbers = np.zeros(0, np.int64)
        # Where the newest value lies, if there is one.
        self._newest: Places = np.zeros(0, np.intp)
        # Whether values are missing before the first, and before the one that comes next.
        self._marked: Flags = np.zeros(0, np.bool_)
        self._gap: Flags = np.zeros(0, np.bool_)
        self._any_marked = self._any_gap = self._any_flagged = False

    def grow(self, capacity: int) -> None:
        """Make places for so many items."""
        for name in ("size", "oldest", "_first", "_next", "_newest", "_marked", "_gap"):
            old = getattr(self, name)
            new = np.zeros(capacity, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def enter(self, places: Places, sizes: Sequence[int], oldest: Sequence[bool]) -> None:
        """Begin empty queues at places nobody has."""
        self.size[places] = sizes
        self.oldest[places] = oldest

    def length(self, place: int) -> int:
        """Return how many values one item has queued."""
        return int(self._next[place] - self._first[place])

    def lengths(self) -> Numbers:
        """Return how many values each item has queued."""
        return self._next - self._first

    # --- filling -------------------------------------------------------------------------------------

    def push(self, places: Places, source: Records, rows: Places) -> int:
        """Queue a value for each of some items; returns how many others were discarded or missed.

        Args:
            places: The items, each once.
            source: Values are copied from here: :data:`~edge_opcua.opcua.tags.records.BODY`.
            rows: Which of it, one for each item.
        """
        numbers = self._next[places]
        full = numbers - self._first[places] >= self.size[places]
        if not full.any():
            return self._append(places, numbers, source, rows)
        replaced = full & ~self.oldest[places] & (self.size[places] > 1)
        lost = int(np.count_nonzero(full))
        shifted = places[full & ~replaced]
        if len(shifted):
            self._shift(shifted)
        if replaced.any():
            lost += self._replace(places[replaced], source, rows[replaced])
            rest = ~replaced
            places, numbers, rows = places[rest], numbers[rest], rows[rest]
        return lost + self._append(places, numbers, source, rows)

    def _shift(self, places: Places) -> None:
        """Discard the oldest value of items."""
        self._first[places] += 1
        self.waiting -= len(places)
        if not self.waiting:
            self._forget()
        else:
            self.log.dead += len(places)
        marked = self.size[places] > 1  # a queue of one has no Overflow bit
        self._marked[places] = marked
        self._any_marked = self._any_marked or bool(marked.any())

    def _replace(self, places: Places, source: Records, rows: Places) -> int:
        """Let values stand where the newest ones are; returns how many were missed before that."""
        where = self._newest[places]
        bodies = source.take(rows)
        bodies["mask"] |= FLAGGED
        self.log.bodies[where] = bodies
        self._any_flagged = True
        return len(self._take_gaps(places))

    def _append(self, places: Places, numbers: Numbers, source: Records, rows: Places) -> int:
        count = len(places)
        if not count:
            return 0
        if not self.log.has_room(count):
            self._make_room(count)
        start = self.log.append(places, numbers, source, rows)
        self._newest[places] = np.arange(start, start + count)
        self._next[places] = numbers + 1
        self.waiting += count
        if not self._any_gap:
            return 0
        missed = self._take_gaps(places)
        if len(missed):
            self.log.bodies["mask"][self._newest[missed]] |= FLAGGED
            self._any_flagged = True
        return len(missed)

    def _make_room(self, count: int) -> None:
        before = self.log.head
        moved = self.log.make_room(count, self._first)
        alive = np.flatnonzero(self._next > self._first)
        self._newest[alive] = moved[self._newest[alive] - before]

    def miss(self, items: Flags) -> None:
        """Note that values of items were lost before they came here: their next one says so.

        A queue of one is a buffer and says nothing.
        """
        self._gap |= items & (self.size > 1)
        self._any_gap = bool(self._gap.any())

    def _take_gaps(self, places: Places) -> Places:
        """Return which of some items missed something, and forget it."""
        if not self._any_gap:
            return places[:0]
        missed = places[self._gap[places]]
        self._gap[missed] = False
        self._any_gap = bool(self._gap.any())
        return missed

    # --- emptying ------------------------------------------------------------------------------------

    def take(
        self, handles: npt.NDArray[np.uint32], stamps: int, *, most: int, room: int
    ) -> tuple[bytes, int]:
        """Take the oldest values out, as MonitoredItemNotifications; returns them and how many they are.

        Args:
            handles: ClientHandle of each item.
            stamps: What of a value is sent: bits of its mask.
            most: Most values.
            room: How many bytes they may have; the last one may exceed that.
        """
        log = self.log
        where = log.oldest(most, self._first)
        places = log.items[where]
        notifications = np.empty(len(places), NOTIFICATION)
        notifications["handle"] = handles[places]
        # As bytes: copied field by field it would take three times as long.
        _bytes(notifications)[:, _HANDLE:] = _bytes(log.bodies[where])
        mask = notifications["body"]["mask"]
        over = (mask & FLAGGED) != 0 if self._any_flagged else None
        mask &= stamps
        count = len(places)
        if count * _LARGEST > room:
            ends = np.cumsum(records.sizes(notifications))
            count = min(count, int(np.searchsorted(ends, room)) + 1)
            notifications, places = notifications[:count], places[:count]
        self._flag(notifications, places, log.numbers[where][:count], over)
        self._advance(places)
        last = where.start + count - 1 if isinstance(where, slice) else int(where[count - 1])
        log.drop(last, count)
        if not self.waiting:
            self._forget()
        return records.to_bytes(notifications), count

    def _flag(self, taken: Records, places: Places, numbers: Numbers, over: Flags | None) -> None:
        """Set the Overflow bits."""
        if over is not None:
            over = over[: len(places)]
        if self._any_marked:
            marked = self._marked[places] & (numbers == self._first[places])
            self._marked[places[marked]] = False
            over = marked if over is None else over | marked
        if over is not None:
            taken["body"]["status"][over] |= OVERFLOW

    def _advance(self, places: Places) -> None:
        if len(places) * 8 < len(self._first):
            np.add.at(self._first, places, 1)
        else:
            self._first += np.bincount(places, minlength=len(self._first))
        self.waiting -= len(places)

    def _forget(self) -> None:
        self.log.forget()
        self._any_flagged = False
        if self._any_marked:
            self._marked[:] = False
            self._any_marked = False

    # --- one item ------------------------------------------------------------------------------------

    def values(self, place: int) -> Records:
        """Return what an item has queued, oldest first; the mask says which have the Overflow bit."""
        found = self.log.bodies[self.log.of(place, int(self._first[place]))]
        if len(found) and self._marked[place]:
            found["mask"][0] |= FLAGGED
        return found

    def clear(self, place: int) -> None:
        """Forget what an item has queued."""
        count = self.length(place)
        self._first[place] = self._next[place]
        self._marked[place] = self._gap[place] = False
        if count:
            self.waiting -= count
            self.log.dead += count
            if not self.waiting:
                self._forget()

    def clear_all(self) -> None:
        """Forget everything."""
        np.copyto(self._first, self._next)
        self._gap[:] = False
        self._any_gap = False
        self.waiting = 0
        self._forget()

    def missed(self, place: int) -> bool:
        """Whether values of an item were lost since its last one."""
        return bool(self._gap[place])

    def put(self, place: int, values: Records, *, missed: bool) -> None:
        """Queue what an item has elsewhere; it has nothing here yet, and the queue is long enough."""
        self._gap[place] = missed
        self._any_gap = self._any_gap or missed
        count = len(values)
        if not count:
            return
        if not self.log.has_room(count):
            self._make_room(count)
        rows = np.arange(count)
        start = self.log.append(np.full(count, place), self._next[place] + rows, values, rows)
        self._newest[place] = start + count - 1
        self._next[place] += count
        self.waiting += count
        flagged = (values["mask"] & FLAGGED) != 0
        self._any_flagged = self._any_flagged or bool(flagged.any())

    def resize(self, place: int, size: int, *, discard_oldest: bool) -> int:
        """Change size and policy, as ModifyMonitoredItems does; returns how many values were discarded."""
        lost = max(0, self.length(place) - size)
        self.size[place], self.oldest[place] = size, discard_oldest
        if lost:
            self._shorten(place, lost)
        if size == 1:
            self._marked[place] = self._gap[place] = False
            if self.length(place):
                self.log.bodies["mask"][self._newest[place]] &= _UNFLAGGED
        return lost

    def _shorten(self, place: int, lost: int) -> None:
        size = int(self.size[place])
        where = self.log.of(place, int(self._first[place]))
        if self.oldest[place]:
            self._first[place] += lost
            self._marked[place] = self._any_marked = True
        else:
            # What is newest stays, as if it had replaced the others.
            stays = where[size - 1]
            self.log.bodies[stays] = self.log.bodies[where[-1]]
            self.log.bodies["mask"][stays] |= FLAGGED
            self.log.numbers[where[size:]] = -1
            self._next[place] = self._first[place] + size
            self._newest[place] = stays
            self._any_flagged = True
        self.waiting -= lost
        self.log.dead += lost


def _bytes(values: Records) -> npt.NDArray[np.uint8]:
    """Return records as rows of bytes."""
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize)
