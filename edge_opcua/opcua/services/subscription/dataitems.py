"""Items of any attribute but EventNotifier (Part 4 §5.13), one by one: what is watched, and what waits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from asyncua import ua

from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.deadband import Trigger, changed
from edge_opcua.opcua.services.subscription.items import ELEMENTS_PER_PLACE, Holder, Mode, QueuedItem
from edge_opcua.opcua.services.subscription.queues import ValueQueue
from edge_opcua.opcua.services.subscription.sources import FixedSource, RowSource, Source

if TYPE_CHECKING:
    from edge_opcua.opcua.services.service import Caller
    from edge_opcua.opcua.services.subscription.sampling import Group, Sampling

# What is said instead of a value: the next one is read again, it is not taken from whoever tells it.
_REFUSALS: Final = frozenset(
    {
        ua.StatusCodes.BadUserAccessDenied,
        ua.StatusCodes.BadNotReadable,
        ua.StatusCodes.BadSecurityModeInsufficient,
        ua.StatusCodes.BadNodeIdUnknown,
        ua.StatusCodes.BadInternalError,
    }
)

_log = structlog.get_logger(__name__)


class Done:
    """Something to await that is over: asyncua awaits a change, but not the end of a node."""

    def __await__(self) -> Iterator[None]:
        return iter(())


DONE: Final = Done()


class Reader(Protocol):
    """What items need of the attribute services."""

    def value_for(
        self,
        caller: Caller,
        node: ua.NodeId,
        attribute: ua.AttributeIds,
        index_range: str | None,
        timestamps: ua.TimestampsToReturn,
    ) -> ua.DataValue:
        """Return an attribute as this caller may see it."""
        ...


class DataItem(QueuedItem):
    """An item of any attribute but EventNotifier.

    Args:
        subscription: Where it belongs.
        number: MonitoredItemId.
        node_id: What is watched.
        attribute: Which attribute of it.
        index_range: Which part of it; None: all.
        source: Tells of its changes; None or ``polled``: read at each sample.
        polled: Whether nobody tells of its changes.
        reader: Reads it.
        sampling: Where samples are taken.
    """

    def __init__(  # noqa: PLR0913 - finished objects
        self,
        subscription: Holder,
        number: int,
        node_id: ua.NodeId,
        attribute: ua.AttributeIds,
        *,
        index_range: str | None,
        source: Source | None,
        polled: bool,
        reader: Reader,
        sampling: Sampling,
    ) -> None:
        super().__init__(subscription, number, node_id, attribute)
        self.index_range = index_range
        self.trigger = Trigger.StatusValue
        self.band = 0.0
        self.queue: ValueQueue[ua.DataValue] = ValueQueue(1, discard_oldest=True)
        self.source_stamp = self.server_stamp = True
        self.last: ua.DataValue | None = None
        self._polled = polled or source is None
        self._has_source = source is not None
        self._source = None if polled else source
        self._reader = reader
        self._sampling = sampling
        self._group: Group | None = None
        self._seen_as: Any = None
        self._elements = 0

    @property
    def has_source(self) -> bool:
        """Whether anything is told by somebody."""
        return self._has_source

    @property
    def polled(self) -> bool:
        """Whether nobody tells of changes."""
        return self._polled

    @property
    def queue_size(self) -> int:
        """How long its queue may be."""
        return self.queue.size

    @property
    def weight(self) -> int:
        """A part of an array is a copy of the item's own; a whole value is everybody's."""
        return 1 + self._elements // ELEMENTS_PER_PLACE

    @property
    def wants_time(self) -> bool:
        """Whether a new source time alone is a change (Part 4 §7.22.2: not with a deadband)."""
        return self.trigger == Trigger.StatusValueTimestamp and not self.band

    # --- being told ----------------------------------------------------------------------------------

    def changed(self, value: ua.DataValue) -> None:
        """Take a new value of what is watched; a slower item takes it with its next sample."""
        if self._group is not None:
            self._group.touched[self] = value
        else:
            self.sample(value)

    def __call__(self, handle: int, value: ua.DataValue | None, status: Any = None) -> Done:  # noqa: ARG002 - asyncua's callback
        """Take a change from asyncua's address space, or the end of the node."""
        if value is not None:
            self.changed(value)
        else:
            self._seen_as = None
            self.changed(ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)))
        return DONE

    def sample(self, value: ua.DataValue) -> None:
        """Look at a value, and queue it if it is a notification."""
        # Told values are the whole Value of the node: whoever may see less, or a part, reads for himself.
        if self.subscription.owner.roles is not self._seen_as:
            value = self.read()
        if changed(self.trigger, self.band, self.last, value):
            self._queue(value)

    def read(self) -> ua.DataValue:
        """Return what the owner of the subscription may see now."""
        owner = self.subscription.owner
        try:
            value = self._reader.value_for(
                owner, self.node_id, self.attribute, self.index_range, ua.TimestampsToReturn.Both
            )
        except Exception as exc:  # noqa: BLE001 - boundary: the value comes from anybody's callback
            _log.error("item.read_failed", node=str(self.node_id), error=repr(exc), exc_info=exc)
            value = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadInternalError))
        status = value.StatusCode.value if value.StatusCode is not None else 0
        told = self.attribute == ua.AttributeIds.Value and not self.index_range
        if self.index_range and value.Value is not None:
            self._elements = _count(value.Value.Value)
        self._seen_as = owner.roles if told and status not in _REFUSALS else None
        return value

    def look_again(self) -> None:
        """Queue what the owner may see now instead of what is queued."""
        waiting = len(self.queue)
        super().look_again()
        if waiting:
            self._queue(self.read())

    def resend(self) -> None:
        """Queue the present value, if nothing newer waits already (ResendData, SendInitialValues)."""
        if self.mode is Mode.Reporting and not len(self.queue):
            self._queue(self.read())

    # --- being an item -------------------------------------------------------------------------------

    def begin(self, value: ua.DataValue, mode: ua.MonitoringMode) -> None:
        """Start with a value that was just read; the first one is always a notification."""
        self.mode = mode
        if mode is not Mode.Disabled:
            self._attach()
            self._queue(value)

    def go_on(self, last: ua.DataValue, queued: Iterable[tuple[ua.DataValue, bool]]) -> None:
        """Go on reporting where another item left off."""
        self.mode = Mode.Reporting
        self.last = last
        self.queue.restore(queued)
        self._attach()
        self._offer()

    def start(self) -> None:
        """Watch, and report the present value."""
        self._attach()
        self.last = None
        self._queue(self.read())

    def stop(self) -> None:
        """Watch no longer."""
        if self._source is not None:
            self._source.unwatch(self)
        self._sampling.leave(self, self.sampling_ms)
        self._group = None

    def tell_gone(self) -> None:
        """Report that the node is no longer there, whatever is there now under its NodeId."""
        if self.mode is not Mode.Disabled:
            self._queue(ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadNodeIdUnknown)))

    def follow(self, source: Source) -> None:
        """Watch what tells of changes now: the node may have come, gone, or lie elsewhere."""
        running = self.mode is not Mode.Disabled
        before = self._source
        if isinstance(source, RowSource) and isinstance(before, RowSource) and source.type != before.type:
            self.tell_gone()
        if self._polled or not source.is_same(before):
            if running:
                self.stop()
            self._source, self._has_source, self._polled = source, True, False
            self._seen_as = None
            if running:
                self._attach()
        elif not isinstance(source, FixedSource):
            return
        self.look()

    def look(self) -> None:
        """Look at what is there now, whoever tells of changes."""
        if self.mode is not Mode.Disabled:
            self.sample(self.read())

    def resample(self, sampling_ms: float) -> None:
        """Change the sampling interval."""
        if sampling_ms == self.sampling_ms:
            return
        running = self.mode is not Mode.Disabled
        if running:
            self.stop()
        self.sampling_ms = sampling_ms
        if running:
            self._attach()

    def resize(self, size: int, *, discard_oldest: bool) -> None:
        """Change the queue."""
        lost = self.queue.resize(size, discard_oldest=discard_oldest)
        self.subscription.counts.monitoring_queue_overflows += lost
        self._released = min(self._released, len(self.queue))

    def set_timestamps(self, timestamps: ua.TimestampsToReturn) -> None:
        """Say which stamps are sent."""
        self.source_stamp = timestamps in wire.SOURCE_STAMP
        self.server_stamp = timestamps in wire.SERVER_STAMP

    def waiting(self) -> int:
        """Return how many values are queued."""
        return len(self.queue)

    def clear(self) -> None:
        """Forget what is queued."""
        self.queue.clear()

    def take(self, parcel: wire.Parcel) -> None:
        """Encode what is to be reported, as much as fits."""
        queue = self.queue
        # Only a Value has timestamps (Part 4 §7.7).
        stamped = self.attribute == ua.AttributeIds.Value
        source, server = self.source_stamp and stamped, self.server_stamp and stamped
        while self.reports() and parcel.has_room:
            value, overflow = queue.pop()
            self._released -= self._released > 0
            try:
                part = wire.notification(self.handle, value, overflow=overflow, source=source, server=server)
            except Exception as exc:  # noqa: BLE001 - boundary: the server's own code wrote a value of no type
                _log.error("item.not_encoded", node=str(self.node_id), error=repr(exc))
                part = wire.unencodable(self.handle)
            parcel.put(parcel.data, part)

    def _attach(self) -> None:
        self._group = self._sampling.join(self, self.sampling_ms, polled=self._polled)
        if self._source is not None:
            self._source.watch(self)

    def _queue(self, value: ua.DataValue) -> None:
        self.last = value
        if self.queue.push(value):
            self.subscription.counts.monitoring_queue_overflows += 1
            self._released = min(self._released, len(self.queue))
        self._noticed()


def _count(value: Any) -> int:
    """Return how many elements an array, a text or bytes have."""
    if isinstance(value, list):
        return sum(map(_count, value)) if value and isinstance(value[0], list) else len(value)
    return len(value) if isinstance(value, (str, bytes)) else 0
