"""Event items (Part 4 §5.13, §7.22.3): which events are notifications, and what waits to be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from asyncua import ua

from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.items import ELEMENTS_PER_PLACE, Holder, Item, Mode
from edge_opcua.opcua.services.subscription.queues import EventQueue

if TYPE_CHECKING:
    from edge_opcua.opcua.services.event.filters import Selection

_log = structlog.get_logger(__name__)


class EventItem(Item):
    """An item of the attribute EventNotifier.

    Args:
        subscription: Where it belongs.
        number: MonitoredItemId.
        node_id: The notifier.
        selection: The filter made ready.
        listening: Where items listen, by notifier.
    """

    of_events = True

    def __init__(
        self,
        subscription: Holder,
        number: int,
        node_id: ua.NodeId,
        selection: Selection,
        listening: dict[ua.NodeId, dict[EventItem, None]],
    ) -> None:
        super().__init__(subscription, number, node_id, ua.AttributeIds.EventNotifier)
        self.selection = selection
        self.queue: EventQueue[list[ua.Variant]] = EventQueue(1, discard_oldest=True)
        self._listening = listening

    @property
    def weight(self) -> int:
        """One for each field that is selected, as far as they are many."""
        return 1 + len(self.selection) // ELEMENTS_PER_PLACE

    def offer(self, event: Any, overflow: Any, taken: dict[str, ua.Variant] | None = None) -> None:
        """Queue an event that passes the filter.

        Args:
            event: The event.
            overflow: Makes the event that tells of a lost one.
            taken: Copies of its fields, shared by the items that get it now.
        """
        if self.selection.matches(event):
            self.enter(self.selection.fields(event, taken), overflow)

    def enter(self, fields: list[ua.Variant], overflow: Any) -> None:
        """Queue the fields of an event, whatever the where clause says.

        Args:
            fields: One for each select clause.
            overflow: Makes the event that tells of a lost one.
        """
        if self.queue.push(fields):
            self.subscription.counts.event_queue_overflows += 1
            if not self.queue.told:
                self.queue.tell(self.selection.fields(overflow()))
        self._noticed()

    def begin(self, mode: ua.MonitoringMode) -> None:
        """Start."""
        self.mode = mode
        if mode is not Mode.Disabled:
            self.start()

    def start(self) -> None:
        """Listen."""
        self._listening.setdefault(self.node_id, {})[self] = None

    def stop(self) -> None:
        """Listen no longer."""
        here = self._listening.get(self.node_id)
        if here is not None:
            here.pop(self, None)
            if not here:
                del self._listening[self.node_id]

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
        """Encode what is to be reported, as much as fits."""
        while self.reports() and parcel.has_room:
            fields = self.queue.pop()
            self._released -= self._released > 0
            try:
                part = wire.event(self.handle, fields)
            except Exception as exc:  # noqa: BLE001 - boundary: an event's field of no type
                _log.error("event.not_encoded", node=str(self.node_id), error=repr(exc))
                part = wire.event(self.handle, [ua.Variant() for _ in fields])
            parcel.put(parcel.events, part)
