"""Monitored items (Part 4 §5.13): what all are, and what those with a queue of their own have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Protocol

from asyncua import ua

from edge_opcua.opcua.services.subscription import wire

if TYPE_CHECKING:
    from edge_opcua.opcua.services.service import Caller

Mode = ua.MonitoringMode
# As many of them take about as much memory as a notification of a single number.
ELEMENTS_PER_PLACE: Final = 64


class Reporter(Protocol):
    """Something that has notifications for the next message."""

    def reports(self) -> bool:
        """Whether there is something for the next message."""
        ...

    def take(self, parcel: wire.Parcel) -> None:
        """Encode what is to be reported, as much as fits."""
        ...


class Holder(Protocol):
    """The subscription of an item, as the item sees it.

    Attributes:
        owner: The session.
        pending: Who has something to report.
        interval_ms: Publishing interval.
        counts: For diagnostics.
        links: Links between its items (SetTriggering).
    """

    owner: Caller
    pending: dict[Reporter, None]
    interval_ms: float
    counts: Any
    links: int


class Item(ABC):
    """A monitored item, as the services see it.

    Attributes:
        number: MonitoredItemId.
        handle: ClientHandle.
        mode: MonitoringMode.
        sampling_ms: The true sampling interval.
        holder: The session whose share of what follows it has.
        places: Places in queues that it has of those that all items share.
        readings: How often it is read, per second, if nobody tells of changes.
    """

    number: int
    handle: int
    mode: ua.MonitoringMode
    sampling_ms: float
    holder: ua.NodeId
    places: int
    readings: float = 0.0

    @property
    def weight(self) -> int:
        """How much more than a single number one of its notifications takes, as a factor."""
        return 1

    @property
    @abstractmethod
    def queue_size(self) -> int:
        """How long its queue may be."""

    @abstractmethod
    def set_mode(self, mode: ua.MonitoringMode) -> None:
        """SetMonitoringMode (Part 4 §5.13.4): Disabled forgets the queue, Reporting reports what is in it."""

    @abstractmethod
    def close(self) -> None:
        """End; the subscription forgets it elsewhere."""


class QueuedItem(Item):
    """What data items and event items have in common: a queue of their own, and links to others.

    Args:
        subscription: Where it belongs.
        number: MonitoredItemId.
        node_id: What is watched.
        attribute: Which attribute of it.

    Attributes:
        links: Items that report when this one notices something (SetTriggering).
    """

    def __init__(
        self, subscription: Holder, number: int, node_id: ua.NodeId, attribute: ua.AttributeIds
    ) -> None:
        self.subscription = subscription
        self.number = number
        self.node_id = node_id
        self.attribute = attribute
        self.handle = 0
        self.mode: ua.MonitoringMode = Mode.Disabled
        self.sampling_ms = 0.0
        self.links: dict[int, QueuedItem] = {}
        self.linked_by: dict[int, QueuedItem] = {}
        self.holder = subscription.owner.session_id
        self.places = 0
        self.readings = 0.0
        self._released = 0

    @abstractmethod
    def waiting(self) -> int:
        """Return how many notifications are queued."""

    @abstractmethod
    def clear(self) -> None:
        """Forget what is queued."""

    @abstractmethod
    def start(self) -> None:
        """Begin to watch."""

    @abstractmethod
    def stop(self) -> None:
        """Watch no longer."""

    @abstractmethod
    def take(self, parcel: wire.Parcel) -> None:
        """Encode what is to be reported, as much as fits."""

    def look_again(self) -> None:
        """Take back what is queued: the owner may no longer see what he could when it was."""
        self._released = 0
        self.clear()
        self._offer()

    def reports(self) -> bool:
        """Whether there is something for the next message."""
        if self.mode is Mode.Reporting:
            return self.waiting() > 0
        return self._released > 0

    def set_mode(self, mode: ua.MonitoringMode) -> None:
        """SetMonitoringMode (Part 4 §5.13.4): Disabled forgets the queue, Reporting reports what is in it."""
        before, self.mode = self.mode, mode
        if mode is before:
            return
        self._released = 0
        if mode is Mode.Disabled:
            self.stop()
            self.clear()
        elif before is Mode.Disabled:
            self.start()
        self._offer()

    def release(self) -> None:
        """Report what is queued, since a triggering item says so (Part 4 §5.13.1.6)."""
        if self.mode is Mode.Sampling and self.waiting():
            self._released = self.waiting()
            self.subscription.pending[self] = None

    def link(self, other: QueuedItem) -> None:
        """Let another item report when this one notices something."""
        if other.number not in self.links:
            self.subscription.links += 1
        self.links[other.number] = other
        other.linked_by[self.number] = self

    def unlink(self, number: int) -> bool:
        """Undo :meth:`link`; returns whether there was a link."""
        other = self.links.pop(number, None)
        if other is None:
            return False
        other.linked_by.pop(self.number, None)
        self.subscription.links -= 1
        return True

    def close(self) -> None:
        """End; the subscription forgets it elsewhere."""
        if self.mode is not Mode.Disabled:
            self.stop()
        for other in tuple(self.links):
            self.unlink(other)
        for other_item in tuple(self.linked_by.values()):
            other_item.unlink(self.number)
        self.subscription.pending.pop(self, None)

    def _noticed(self) -> None:
        """Something was queued."""
        if self.mode is Mode.Reporting:
            self.subscription.pending[self] = None
        for other in self.links.values():
            other.release()

    def _offer(self) -> None:
        if self.reports():
            self.subscription.pending[self] = None
        else:
            self.subscription.pending.pop(self, None)
