"""One subscription: the state table of Part 4 §5.14.1, its numbers and what it keeps for Republish."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from asyncua import ua

from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.items import QueuedItem
from edge_opcua.opcua.services.subscription.messages import notification_message, status_change

if TYPE_CHECKING:
    from edge_opcua.opcua.services.service import Caller
    from edge_opcua.opcua.services.shares import Shares
    from edge_opcua.opcua.services.subscription.columns import ColumnGroup, Key
    from edge_opcua.opcua.services.subscription.items import Item, Reporter
    from edge_opcua.opcua.services.subscription.schedule import Ticket

_LAST_SEQUENCE: Final = 0xFFFF_FFFF
# A message is not filled beyond this; what is left follows in the next one (MoreNotifications).
MESSAGE_BYTES: Final = 1024 * 1024
# What else is in a PublishResponse: one number for each message that is kept, and the rest.
_NUMBER_BYTES: Final = 4
_REST_BYTES: Final = 2048


class State(Enum):
    """Where a subscription is in its publishing cycle; it exists, so it is neither closed nor creating."""

    NORMAL = "normal"
    LATE = "late"
    KEEP_ALIVE = "keep-alive"


class Act(Enum):
    """What a step asks for."""

    NOTHING = "nothing"
    NOTIFY = "return notifications"
    KEEP_ALIVE = "return a keep-alive message"
    CLOSE = "the lifetime is over"


@dataclass(slots=True)
class Cycle:
    """The publishing cycle as a pure step function; rows are those of the table in Part 4 §5.14.1.2.

    Args:
        keep_alive_count: Publishing intervals without notifications after which a message is sent.
        lifetime_count: Publishing intervals without a Publish request after which the subscription ends.
        enabled: PublishingEnabled.

    Attributes:
        state: Where it is.
        message_sent: Whether anything was sent yet.
        more: MoreNotifications: the last message did not take everything.
        idle: Publishing intervals since the last message.
        unattended: Publishing intervals without a Publish request.
    """

    keep_alive_count: int
    lifetime_count: int
    enabled: bool = True
    state: State = State.NORMAL
    message_sent: bool = False
    more: bool = False
    idle: int = 0
    unattended: int = 0

    def expire(self, *, requested: bool, available: bool) -> Act:
        """Take an expiry of the publishing timer.

        Args:
            requested: Whether a Publish request of the session waits.
            available: Whether there are notifications.
        """
        self.unattended = 0 if requested else self.unattended + 1
        if self.unattended >= self.lifetime_count:
            return Act.CLOSE  # row 27
        self.idle += 1
        if self.state is State.LATE:
            return Act.NOTHING  # row 12; whatever is due goes with the next request
        if self._has(available):
            return self._due(Act.NOTIFY, requested=requested)  # rows 6, 8, 14, 17
        if not self.message_sent or self.idle >= self.keep_alive_count:
            return self._due(Act.KEEP_ALIVE, requested=requested)  # rows 7, 8, 15, 17
        self.state = State.KEEP_ALIVE  # rows 9, 16
        return Act.NOTHING

    def request(self, *, available: bool) -> Act:
        """Take a Publish request that nothing more urgent needs; NOTHING: it may wait for others."""
        self.unattended = 0
        if self.state is State.LATE:  # rows 10, 11
            return self._due(Act.NOTIFY if self._has(available) else Act.KEEP_ALIVE, requested=True)
        if self.enabled and self.more:
            return self._due(Act.NOTIFY, requested=True)  # row 5
        return Act.NOTHING  # rows 4, 13

    @property
    def waits(self) -> bool:
        """Whether the next Publish request is for this subscription."""
        return self.state is State.LATE or (self.enabled and self.more)

    def touch(self) -> None:
        """Start the lifetime anew: the client named this subscription (rows 18 to 26)."""
        self.unattended = 0

    def set_enabled(self, *, enabled: bool) -> None:
        """SetPublishingMode (row 19)."""
        self.touch()
        self.enabled = enabled
        self.more = False

    def _has(self, available: bool) -> bool:  # noqa: FBT001 - a fact, handed through
        return self.enabled and (available or self.more)

    def _due(self, act: Act, *, requested: bool) -> Act:
        if not requested:
            self.state = State.LATE
            return Act.NOTHING
        self.unattended = 0
        self.idle = 0
        self.message_sent = True
        self.state = State.NORMAL if act is Act.NOTIFY else State.KEEP_ALIVE
        return act


@dataclass(slots=True)
class Counts:
    """What SubscriptionDiagnosticsDataType tells (Part 5 §12.15), under its names."""

    modify: int = 0
    enable: int = 0
    disable: int = 0
    republish_requests: int = 0
    republish_message_requests: int = 0
    republish_messages: int = 0
    transfer_requests: int = 0
    transferred_to_alt_client: int = 0
    transferred_to_same_client: int = 0
    publish_requests: int = 0
    data_change_notifications: int = 0
    event_notifications: int = 0
    notifications: int = 0
    late_publish_requests: int = 0
    discarded_messages: int = 0
    monitoring_queue_overflows: int = 0
    event_queue_overflows: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message that is kept for Republish.

    Args:
        message: The message, encoded.
        size: Its size in bytes.
        holder: The session in whose share it is.
    """

    message: bytes
    size: int
    holder: ua.NodeId


class Subscription:
    """One subscription.

    Args:
        number: SubscriptionId.
        owner: The session; kept after its end, to know whose it was.
        interval_ms: Publishing interval.
        cycle: Where it is in its publishing cycle.
        retransmission: Messages kept for Republish.
        kept: Bytes kept for Republish, of all subscriptions.

    Attributes:
        session_id: NodeId of the session it belongs to; null if that ended without deleting it.
        items: Monitored items by MonitoredItemId.
        groups: Those on scalar tags, as columns.
        pending: Who has something to report, in the order in which they got it.
        max_notifications: Most notifications in one message.
        priority: Higher goes first.
        served: When it last sent something, in turns of the server; less goes first among equals.
        links: Links between its items (SetTriggering).
        counts: For diagnostics.
    """

    def __init__(
        self,
        number: int,
        owner: Caller,
        interval_ms: float,
        cycle: Cycle,
        *,
        retransmission: int,
        kept: Shares,
    ) -> None:
        self.number = number
        self.owner = owner
        self.session_id: ua.NodeId = owner.session_id
        self.interval_ms = interval_ms
        self.cycle = cycle
        self.items: dict[int, Item] = {}
        self.groups: dict[Key, ColumnGroup] = {}
        self.pending: dict[Reporter, None] = {}
        self.max_notifications = 0
        self.requested_max_notifications = 0
        self.priority = 0
        self.served = 0
        self.counts = Counts()
        self.ticket: Ticket | None = None
        self.next_sequence = 1
        self.links = 0
        self._retransmission = retransmission
        self._kept = kept
        self._sent: OrderedDict[int, _Sent] = OrderedDict()

    @property
    def sequence_numbers(self) -> list[int]:
        """AvailableSequenceNumbers: what can be republished."""
        return list(self._sent)

    @property
    def disabled_items(self) -> int:
        """How many items are Disabled."""
        return sum(item.mode == ua.MonitoringMode.Disabled for item in self.items.values())

    def look_again(self) -> None:
        """Take back what is queued: the owner may no longer see what he could when it was."""
        for group in self.groups.values():
            group.look_again()
        for item in self.items.values():
            if isinstance(item, QueuedItem):
                item.look_again()

    def acknowledge(self, sequence: int) -> int:
        """Forget a message that arrived; returns the StatusCode for the acknowledgement."""
        sent = self._sent.pop(sequence, None)
        if sent is None:
            return int(ua.StatusCodes.BadSequenceNumberUnknown)
        self._kept.give(sent.holder, sent.size)
        return 0

    def republish(self, sequence: int) -> bytes | None:
        """Return a message exactly as it was sent; it stays until it is acknowledged (Part 4 §5.14.6)."""
        sent = self._sent.get(sequence)
        return sent.message if sent is not None else None

    def forget_sent(self) -> None:
        """Keep nothing for Republish any more."""
        while self._sent:
            _, sent = self._sent.popitem(last=False)
            self._kept.give(sent.holder, sent.size)

    def keep_alive(self, utc_ns: int) -> bytes:
        """Return a message without notifications: its number is that of the next one (Part 4 §5.14.1.1)."""
        return notification_message(self.next_sequence, utc_ns, (), 0)

    def status_change(self, status: int, utc_ns: int) -> bytes:
        """Return the last message of this subscription for a session."""
        return notification_message(self._number_it(), utc_ns, (status_change(status),), 1)

    def notify(self, utc_ns: int, most_bytes: int) -> bytes:
        """Take notifications out of the queues, as many as fit into one message, and keep it.

        Args:
            utc_ns: Now.
            most_bytes: Largest answer that the client takes.
        """
        room = min(MESSAGE_BYTES, most_bytes - len(self._sent) * _NUMBER_BYTES - _REST_BYTES)
        parcel = wire.Parcel(self.max_notifications, max(1, room))
        while self.pending and parcel.has_room:
            item = next(iter(self.pending))
            item.take(parcel)
            if not item.reports():
                del self.pending[item]
        self.cycle.more = bool(self.pending)
        sequence = self._number_it()
        message = parcel.message(sequence, utc_ns)
        self._keep(sequence, message, parcel.size)
        counts = self.counts
        counts.data_change_notifications += parcel.values
        counts.event_notifications += len(parcel.events)
        counts.notifications += parcel.values + len(parcel.events)
        return message

    def _number_it(self) -> int:
        number = self.next_sequence
        self.next_sequence = 1 if number == _LAST_SEQUENCE else number + 1
        return number

    def _keep(self, sequence: int, message: bytes, size: int) -> None:
        """Keep a message, and the ones before it as far as there is room; it itself in any case."""
        sent = _Sent(message, size, self.session_id)
        self._sent[sequence] = sent
        self._kept.take(sent.holder, size)
        while len(self._sent) > self._retransmission or (
            len(self._sent) > 1 and not self._kept.room(self.session_id)
        ):
            _, oldest = self._sent.popitem(last=False)
            self._kept.give(oldest.holder, oldest.size)
            self.counts.discarded_messages += 1
