"""Event items (Part 4 §5.13, §7.22.3): which events are notifications, and what waits to be sent."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from asyncua import ua

from edge_opcua.opcua.services.event.encoded import EncodedEvents
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.items import ELEMENTS_PER_PLACE, Holder, Mode, QueuedItem
from edge_opcua.opcua.services.subscription.queues import EventQueue

if TYPE_CHECKING:
    from edge_opcua.opcua.services.event.filters import Selection

_HANDLE: Final = struct.Struct("<I")
_MAX_KEPT: Final = 256

_log = structlog.get_logger(__name__)


class Audience:
    """Who listens where."""

    def __init__(self) -> None:
        self._at: dict[ua.NodeId, dict[EventItem, None]] = {}
        # By the identity of the notifiers, which are kept beside the answer: emitters send the same again.
        self._kept: dict[int, tuple[tuple[EventItem, ...], Sequence[ua.NodeId]]] = {}

    def __len__(self) -> int:
        """Return at how many nodes somebody listens."""
        return len(self._at)

    def enter(self, item: EventItem) -> None:
        """Let an item listen."""
        self._at.setdefault(item.node_id, {})[item] = None
        self._kept.clear()

    def leave(self, item: EventItem) -> None:
        """Let an item listen no longer."""
        here = self._at.get(item.node_id, {})
        here.pop(item, None)
        if not here:
            self._at.pop(item.node_id, None)
        self._kept.clear()

    def of(self, notifiers: Sequence[ua.NodeId]) -> tuple[EventItem, ...]:
        """Return the items on any of these nodes, each once."""
        kept = self._kept.get(id(notifiers))
        if kept is not None:
            return kept[0]
        found = tuple(item for node in dict.fromkeys(notifiers) for item in self._at.get(node, ()))
        if isinstance(notifiers, tuple):  # nobody can change it
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[id(notifiers)] = (found, notifiers)
        return found


class EventItem(QueuedItem):
    """An item of the attribute EventNotifier.

    Args:
        subscription: Where it belongs.
        number: MonitoredItemId.
        node_id: The notifier.
        selection: The filter made ready.
        audience: Where items listen.
    """

    def __init__(
        self,
        subscription: Holder,
        number: int,
        node_id: ua.NodeId,
        selection: Selection,
        audience: Audience,
    ) -> None:
        super().__init__(subscription, number, node_id, ua.AttributeIds.EventNotifier)
        self.selection = selection
        self.queue: EventQueue[bytes] = EventQueue(1, discard_oldest=True)
        self._audience = audience

    @property
    def queue_size(self) -> int:
        """How long its queue may be."""
        return self.queue.size

    @property
    def weight(self) -> int:
        """One for each field that is selected, as far as they are many."""
        return 1 + len(self.selection) // ELEMENTS_PER_PLACE

    def offer(self, events: EncodedEvents, overflow: Callable[[], EncodedEvents]) -> None:
        """Queue the events that pass the filter.

        Args:
            events: Events that are alike; what is encoded of them is shared by the items that get them now.
            overflow: Makes the event that tells of a lost one.
        """
        if not self.selection.every:
            passing = [event for event in events.events if self.selection.matches(event)]
            if not passing:
                return
            if len(passing) < len(events.events):
                events = EncodedEvents(passing)
        self.enter(self.encoded(events), overflow)

    def encoded(self, events: EncodedEvents) -> list[bytes]:
        """Return the fields that the filter selects, as they are sent, of each event."""
        try:
            return self.selection.encoded(events)
        except Exception as exc:  # noqa: BLE001 - boundary: an event's field of no type
            if len(events.events) > 1:
                return [row for event in events.events for row in self.encoded(EncodedEvents((event,)))]
            _log.error("event.not_encoded", node=str(self.node_id), error=repr(exc))
            return [self.selection.nulls()]

    def enter(self, fields: Sequence[bytes], overflow: Callable[[], EncodedEvents]) -> None:
        """Queue the fields of events, whatever the where clause says.

        Args:
            fields: From :meth:`encoded`; what is queued stays as the filter of its time had it (§5.13.3).
            overflow: Makes the event that tells of a lost one.
        """
        lost = self.queue.push(fields)
        if lost:
            self.subscription.counts.event_queue_overflows += lost
            if not self.queue.told:
                (notice,) = self.encoded(overflow())
                self.queue.tell(notice)
        self._noticed()

    def begin(self, mode: ua.MonitoringMode) -> None:
        """Start."""
        self.mode = mode
        if mode is not Mode.Disabled:
            self.start()

    def start(self) -> None:
        """Listen."""
        self._audience.enter(self)

    def stop(self) -> None:
        """Listen no longer."""
        self._audience.leave(self)

    def resize(self, size: int, *, discard_oldest: bool) -> None:
        """Change the queue."""
        self.subscription.counts.event_queue_overflows += self.queue.resize(
            size, discard_oldest=discard_oldest
        )
        self._released = min(self._released, len(self.queue))

    def waiting(self) -> int:
        """Return how many events are queued."""
        return len(self.queue)

    def clear(self) -> None:
        """Forget what is queued."""
        self.queue.clear()

    def take(self, parcel: wire.Parcel) -> None:
        """Put in what is to be reported, as much as fits."""
        head, queue = _HANDLE.pack(self.handle), self.queue
        count = len(queue) if self.mode is Mode.Reporting else min(self._released, len(queue))
        taken = parcel.put_events(head, queue.pop, count)
        self._released = max(0, self._released - taken)
