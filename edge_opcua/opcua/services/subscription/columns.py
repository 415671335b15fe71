"""Monitored items on scalar tags, as columns: those of one block in one subscription are looked at together.

An item has a place in a group, and all that is known of it stands in arrays at that place. What is a change,
what is queued and what is sent is worked out for all items of the group in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import BAD_USER_ACCESS_DENIED, Scalar
from edge_opcua.opcua.services.attribute.rights import Rights
from edge_opcua.opcua.services.service import Caller
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.columnchanges import Changes, Last, Shown
from edge_opcua.opcua.services.subscription.columnqueues import ColumnQueues
from edge_opcua.opcua.services.subscription.deadband import Trigger
from edge_opcua.opcua.services.subscription.recordlog import Flags, Places
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.records import Records

# Arrays grow by an eighth: they are looked at whole.
_GROWTH: Final = 8
_NO_STAMPS: Final = records.VALUE | records.STATUS
_DENIED: Final[Last] = (0, BAD_USER_ACCESS_DENIED, 0)


class Key(NamedTuple):
    """What the items of a group have in common.

    Args:
        block: The block of their tags.
        interval_ms: Their sampling interval.
        stamps: What of a value is sent: bits of its mask.
        compared: Whether each is compared with its own last notification, since it has a filter or takes
            samples. Otherwise what changed in the block is what changed for it.
    """

    block: LiveBlock
    interval_ms: float
    stamps: int
    compared: bool


class Holder(Protocol):
    """The subscription of a group, as the group sees it.

    Attributes:
        owner: The session.
        pending: Who has something to report.
        counts: For diagnostics.
    """

    owner: Caller
    pending: dict[Any, None]
    counts: Any


class Settings(NamedTuple):
    """What an item is made with.

    Args:
        row: Row in the block.
        tag: Number of the tag.
        handle: ClientHandle.
        size: Longest queue.
        discard_oldest: Whether its oldest value gives way.
        trigger: DataChangeTrigger.
        band: Deadband in engineering units; 0: none.
    """

    row: int
    tag: int
    handle: int
    size: int
    discard_oldest: bool
    trigger: int
    band: float


def stamps_mask(*, source: bool, server: bool) -> int:
    """Return what of a value is sent with which stamps: bits of its mask."""
    return _NO_STAMPS | (records.SOURCE if source else 0) | (records.SERVER if server else 0)


class ColumnGroup:
    """Items of one subscription on tags of one block; a :class:`~edge_opcua.opcua.tags.live.Listener` of it.

    Args:
        subscription: Where they belong.
        key: What they have in common.
        rights: Who may read which tags.
        ended: Told when the last item went.

    Attributes:
        key: See above.
        every: Whether any of them wants each batch: one that comes with the next would overwrite it, and
            what exceeds a deadband in between would never be seen.
        queues: What waits to be sent.
    """

    def __init__(
        self, subscription: Holder, key: Key, rights: Rights, ended: Callable[[ColumnGroup], None]
    ) -> None:
        self.key = key
        self.every = key.compared
        self.queues = ColumnQueues()
        self._subscription = subscription
        self._block = key.block
        self._rights = rights
        self._ended = ended
        self._changes = Changes() if key.compared else None
        self._count = self._used = self._capacity = self._deep = 0
        self._free: list[int] = []
        self._rows: Places = np.zeros(0, np.intp)
        self._tags: Places = np.zeros(0, np.intp)
        self._handles: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._active: Flags = np.zeros(0, np.bool_)
        # Which items their owner may not read, and of which that was said last.
        self._denied: Flags = np.zeros(0, np.bool_)
        self._told_denied: Flags = np.zeros(0, np.bool_)
        self._any_denied = False
        self._seen_roles, self._seen_rights = subscription.owner.roles, rights.changes
        # What was sampled last; -1: something else changed since.
        self._version = -1
        # Items whose present value is a notification whatever it is.
        self._fresh: dict[int, None] = {}

    def __len__(self) -> int:
        return self._count

    # --- its items -----------------------------------------------------------------------------------

    def add(self, items: Sequence[Settings]) -> list[int]:
        """Take items in, not active yet; returns their places."""
        self._review()
        places = self._reserve(len(items))
        where = np.array(places, np.intp)
        rows, tags, handles, sizes, oldest, triggers, bands = zip(*items, strict=True)
        self._rows[where] = rows
        self._tags[where] = tags
        self._handles[where] = handles
        self.queues.enter(where, sizes, oldest)
        if self._changes is not None:
            self._changes.set_filters(where, triggers, bands, self._block.kind[self._rows[where]])
        denied = self._denied_of(self._tags[where])
        self._denied[where] = self._told_denied[where] = denied
        self._any_denied = self._any_denied or bool(denied.any())
        self._count += len(items)
        self._note_depth(sum(size > 1 for size in sizes))
        return places

    def _reserve(self, count: int) -> list[int]:
        """Return places that nobody has."""
        again = min(count, len(self._free))
        places = [self._free.pop() for _ in range(again)]
        end = self._used + count - again
        places += range(self._used, end)
        self._used = end
        if end > self._capacity:
            self._grow(end)
        return places

    def _grow(self, least: int) -> None:
        self._capacity = least + max(_GROWTH, least // _GROWTH)
        for name in ("_rows", "_tags", "_handles", "_active", "_denied", "_told_denied"):
            old = getattr(self, name)
            new = np.zeros(self._capacity, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)
        self.queues.grow(self._capacity)
        if self._changes is not None:
            self._changes.grow(self._capacity)

    def remove(self, place: int) -> None:
        """Let an item go, with what it has queued; a group without items ends."""
        self.deactivate(place)
        self._note_depth(-int(self.queues.size[place] > 1))
        self._rows[place] = self._tags[place] = 0
        self._denied[place] = self._told_denied[place] = False
        self._free.append(place)
        self._count -= 1
        if not self._count:
            self.end()

    def activate(self, places: Iterable[int]) -> None:
        """Watch for items from now on; their present values are queued by :meth:`settle`."""
        self._fresh.update(dict.fromkeys(places))

    def deactivate(self, place: int) -> None:
        """Watch no longer, and forget what is queued."""
        self._fresh.pop(place, None)
        self._active[place] = False
        self.queues.clear(place)
        if not self.queues.waiting:
            self._subscription.pending.pop(self, None)

    def settle(self) -> None:
        """Queue the present values of items that were just activated."""
        if not self._fresh:
            return
        self._review()
        places = np.fromiter(self._fresh, np.intp, len(self._fresh))
        self._fresh.clear()
        self._active[places] = True
        self._queue(places)

    def handle(self, place: int) -> int:
        """Return the ClientHandle of an item."""
        return int(self._handles[place])

    def set_handle(self, place: int, handle: int) -> None:
        """Change the ClientHandle of an item; what is queued is sent with it, too."""
        self._handles[place] = handle

    def set_filter(self, place: int, trigger: int, band: float) -> None:
        """Change the filter of an item in a group that compares."""
        assert self._changes is not None, "a group that compares"
        self._version = -1
        where = np.array([place])
        self._changes.set_filters(where, [trigger], [band], self._block.kind[self._rows[where]])

    def resize(self, place: int, size: int, *, discard_oldest: bool) -> None:
        """Change the queue of an item."""
        self._note_depth((size > 1) - int(self.queues.size[place] > 1))
        lost = self.queues.resize(place, size, discard_oldest=discard_oldest)
        self._subscription.counts.monitoring_queue_overflows += lost

    def _note_depth(self, more: int) -> None:
        self._deep += more
        self.every = self.key.compared or self._deep > 0

    def tag(self, place: int) -> int:
        """Return the number of an item's tag."""
        return int(self._tags[place])

    def row(self, place: int) -> int:
        """Return the row of an item's tag in the block."""
        return int(self._rows[place])

    def kind(self, place: int) -> Scalar:
        """Return the type of an item's tag."""
        return Scalar(int(self._block.kind[self._rows[place]]))

    @property
    def stamps(self) -> tuple[bool, bool]:
        """Whether source and server time are sent."""
        return bool(self.key.stamps & records.SOURCE), bool(self.key.stamps & records.SERVER)

    def filter_of(self, place: int) -> tuple[int, float]:
        """Return trigger and deadband of an item."""
        return self._changes.filter_of(place) if self._changes is not None else (Trigger.StatusValue, 0.0)

    def last(self, place: int) -> Last:
        """Return what an active item notified last."""
        if self._changes is not None:
            return self._changes.last(place)
        # Without a comparison of its own it is what is shown, as far as that was told.
        return _DENIED if self._told_denied[place] else self._shown_at(place)

    def is_up_to_date(self, place: int) -> bool:
        """Whether what is shown is what an item notified last, times apart."""
        if self._denied[place] or self._told_denied[place]:
            return bool(self._denied[place] == self._told_denied[place])
        return self._changes is None or self._shown_at(place)[:2] == self._changes.last(place)[:2]

    def take_over(self, place: int, other: ColumnGroup, there: int) -> None:
        """Go on for an item that was active elsewhere: what it notified last, and what it has queued."""
        last = other.last(there)
        self._version = -1
        self._active[place] = True
        self.queues.put(place, other.queues.values(there), missed=other.queues.missed(there))
        if self._changes is not None:
            self._changes.restore(place, last)
        self._told_denied[place] = last[1] == BAD_USER_ACCESS_DENIED
        self._any_denied = self._any_denied or bool(self._told_denied[place])
        if self.queues.waiting:
            self._subscription.pending[self] = None

    def end(self) -> None:
        """Let all items go."""
        self._subscription.pending.pop(self, None)
        self._ended(self)

    # --- looking -------------------------------------------------------------------------------------

    def block_changed(self, block: LiveBlock, *, missed: bool) -> None:  # noqa: ARG002 - its own block
        """Queue what changed."""
        if missed:
            self.queues.miss(self._active)
        self._look()

    def sample(self) -> None:
        """Take a sample: the time has come, not a change."""
        self._review()
        if self._version != self._block.version:
            self._version = self._block.version
            self._look()
        else:
            self.settle()

    def _look(self) -> None:
        self._review()
        changes = self._changes
        if changes is None:
            shown = None
            hit = self._block.changed[self._rows]
            if self._any_denied:
                hit &= ~self._denied
                hit |= self._denied != self._told_denied
        else:
            shown = self._shown()
            hit = changes.of(shown)
        hit &= self._active
        places = hit.nonzero()[0]
        if len(places):
            self._queue(places, shown)
        self.settle()

    def _queue(self, places: Places, shown: Shown | None = None) -> None:
        """Queue what is shown of some items."""
        self._block.handed += len(places)
        lost = self.queues.push(places, self._image(), self._rows[places])
        if lost:
            self._subscription.counts.monitoring_queue_overflows += lost
        if self._changes is not None:
            self._changes.note(places, shown or self._shown())
        if self._any_denied:
            self._told_denied[places] = self._denied[places]
            self._any_denied = bool(self._denied.any() or self._told_denied.any())
        self._subscription.pending[self] = None

    def _image(self) -> Records:
        """Return what is shown of each row, as far as the owner may see it."""
        image = self._block.image()
        if self._any_denied and self._denied.any():
            image = image.copy()
            rows = self._rows[self._denied]
            image["mask"][rows] = records.STATUS
            image["status"][rows] = BAD_USER_ACCESS_DENIED
        return image

    def _shown(self) -> Shown:
        """Return what is shown of each item, as far as the owner may see it."""
        rows = self._rows
        shown = Shown(
            self._block.canonical()[rows], self._block.status[rows], self._block.image()["source"][rows]
        )
        if self._any_denied:
            shown.bits[self._denied] = 0
            shown.status[self._denied] = BAD_USER_ACCESS_DENIED
            shown.source[self._denied] = 0
        return shown

    def _shown_at(self, place: int) -> Last:
        """Return what is shown of one item's row."""
        row, block = self._rows[place], self._block
        return int(block.canonical()[row]), int(block.status[row]), int(block.image()["source"][row])

    def _review(self) -> None:
        """Ask what the owner may read, if he is no longer who he was."""
        roles = self._subscription.owner.roles
        if roles is self._seen_roles and self._seen_rights == self._rights.changes:
            return
        self._seen_roles, self._seen_rights = roles, self._rights.changes
        self._version = -1
        self._denied[: self._used] = self._denied_of(self._tags[: self._used])
        self._denied[self._free] = False
        self._any_denied = bool(self._denied.any() or self._told_denied.any())

    def _denied_of(self, tags: Places) -> Flags:
        """Return which tags the owner may not read."""
        asking = self._rights.denied(self._seen_roles, tags)
        while True:
            try:
                next(asking)
            except StopIteration as done:
                found: Flags | None = done.value
                return np.zeros(len(tags), np.bool_) if found is None else found

    # --- reporting -----------------------------------------------------------------------------------

    def reports(self) -> bool:
        """Whether there is something for the next message."""
        return self.queues.waiting > 0

    def take(self, parcel: wire.Parcel) -> None:
        """Encode what is to be reported, as much as fits; who got no place is first the next time."""
        queues = self.queues
        while queues.waiting and parcel.has_room:
            part, count = queues.take(self._handles, self.key.stamps, most=parcel.places, room=parcel.room)
            parcel.put_values(part, count)
        if queues.waiting:  # others have waited longer now
            pending = self._subscription.pending
            pending.pop(self, None)
            pending[self] = None

    def resend(self, places: list[int]) -> None:
        """Queue the present values of items that have nothing newer (ResendData, SendInitialValues)."""
        asked = np.array(places, np.intp)
        self._review()
        chosen = asked[self._active[asked] & (self.queues.lengths()[asked] == 0)]
        if len(chosen):
            self._queue(chosen)

    def look_again(self) -> None:
        """Queue what the owner may see now instead of what is queued."""
        waiting = np.flatnonzero((self.queues.lengths() > 0) & self._active)
        self.queues.clear_all()
        self._review()
        if len(waiting):
            self._queue(waiting)
        else:
            self._subscription.pending.pop(self, None)
