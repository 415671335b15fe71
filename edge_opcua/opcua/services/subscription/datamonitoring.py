"""Makes and changes the monitored items that stand for themselves: any attribute but EventNotifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from asyncua import ua

from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.shares import Shares
from edge_opcua.opcua.services.subscription.datafilters import data_filter
from edge_opcua.opcua.services.subscription.dataitems import DataItem, Reader
from edge_opcua.opcua.services.subscription.deadband import NUMBERS
from edge_opcua.opcua.services.subscription.items import Item, Mode
from edge_opcua.opcua.services.subscription.parameters import CreateRequest
from edge_opcua.opcua.services.subscription.places import QueuePlaces
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.sources import source_of
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.services.subscription.tagitems import TagItem, decoded, notified
from edge_opcua.opcua.types import attribute, is_subtype, property_value

_NUMBER: Final = ua.NodeId(ua.ObjectIds.Number)
_DURATION_UNKNOWN: Final = 0.0
# With these an item can never deliver anything: it is not made (Part 4 §5.13.2.4).
_HOPELESS: Final = frozenset(
    {
        ua.StatusCodes.BadNodeIdUnknown,
        ua.StatusCodes.BadNodeIdInvalid,
        ua.StatusCodes.BadIndexRangeInvalid,
    }
)


class DataMonitoring:
    """Puts items on attributes of nodes.

    Args:
        aspace: The address space.
        reader: Reads attributes for a session.
        sampling: Where samples are taken.
        limits: How often what nobody tells is read.
        places: What all queues share.

    Attributes:
        polled: Nodes whose value nobody tells: it is read at each sample.
    """

    def __init__(
        self, aspace: Nodes, reader: Reader, sampling: Sampling, limits: ServerLimits, places: QueuePlaces
    ) -> None:
        self.polled: set[ua.NodeId] = set()
        self._aspace = aspace
        self._reader = reader
        self._sampling = sampling
        self._limits = limits
        self._places = places
        self._readings = Shares(limits.readings_per_s)

    def create(
        self,
        subscription: Subscription,
        wanted: CreateRequest,
        timestamps: ua.TimestampsToReturn,
        mode: ua.MonitoringMode,
        numbers: Iterator[int],
    ) -> DataItem:
        """Make an item.

        Raises:
            ua.UaStatusCodeError: It cannot be.
        """
        what, asked = wanted.ItemToMonitor, wanted.RequestedParameters
        node, attribute_id = what.NodeId, _attribute_id(what)
        item = self._item(subscription, next(numbers), node, attribute_id, what.IndexRange or None)
        value = item.read()
        status = value.StatusCode.value if value.StatusCode is not None else 0
        # Part 4 §5.13.2.1: an item that may not be read now is made, and its notifications say so.
        if status in _HOPELESS or (status == ua.StatusCodes.BadAttributeIdInvalid and not item.has_source):
            raise ua.UaStatusCodeError(status)
        _check_encoding(what, attribute_id)
        self._set_filter(item, asked.Filter, value)
        if self._places.room(item.holder) < item.weight - 1:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyMonitoredItems)
        self._set(item, asked, timestamps)
        item.begin(value, mode)
        return item

    def modify(
        self, item: DataItem, asked: ua.MonitoringParameters, timestamps: ua.TimestampsToReturn
    ) -> None:
        """Change an item.

        Raises:
            ua.UaStatusCodeError: Its filter cannot be; it stays as it was.
        """
        self._set_filter(item, asked.Filter, item.last or item.read())
        self._set(item, asked, timestamps)

    def instead_of(self, subscription: Subscription, tag_item: TagItem) -> DataItem:
        """Let an item stand for itself that was a column; it keeps its number and what it has queued."""
        group, place = tag_item.group, tag_item.place
        node = self._aspace.tags.node_id(group.tag(place))
        made = self._item(subscription, tag_item.number, node, ua.AttributeIds.Value, None)
        made.handle, made.places, made.holder = tag_item.handle, tag_item.places, tag_item.holder
        made.trigger, made.band = group.filter_of(place)
        made.source_stamp, made.server_stamp = group.stamps
        made.resample(tag_item.sampling_ms)
        made.resize(tag_item.queue_size, discard_oldest=bool(group.queues.oldest[place]))
        if tag_item.mode is not Mode.Disabled:
            made.go_on(notified(group.last(place), group.kind(place)), decoded(group.queues.values(place)))
        # It cannot carry the Overflow bit over to its next value; that something was missed is counted.
        subscription.counts.monitoring_queue_overflows += group.queues.missed(place)
        tag_item.close()
        subscription.items[made.number] = made
        return made

    def give_back(self, item: Item) -> None:
        """Take back what an item had of the readings."""
        self._readings.give(item.holder, item.readings)

    def _item(
        self,
        subscription: Subscription,
        number: int,
        node: ua.NodeId,
        attribute_id: ua.AttributeIds,
        index_range: str | None,
    ) -> DataItem:
        return DataItem(
            subscription,
            number,
            node,
            attribute_id,
            index_range=index_range,
            source=source_of(self._aspace, node, attribute_id),
            polled=node in self.polled,
            reader=self._reader,
            sampling=self._sampling,
        )

    def _set(self, item: DataItem, asked: ua.MonitoringParameters, timestamps: ua.TimestampsToReturn) -> None:
        node_ms = _DURATION_UNKNOWN
        if item.attribute == ua.AttributeIds.Value:
            node_ms = attribute(self._aspace, item.node_id, ua.AttributeIds.MinimumSamplingInterval) or 0.0
        interval_ms = self._sampling.revise(
            asked.SamplingInterval, item.subscription.interval_ms, float(node_ms)
        )
        if item.polled:
            interval_ms = self._affordable(item, interval_ms)
        item.handle = asked.ClientHandle
        item.set_timestamps(timestamps)
        item.resample(interval_ms)
        item.resize(self._places.allot(item, asked.QueueSize), discard_oldest=bool(asked.DiscardOldest))

    def _affordable(self, item: DataItem, interval_ms: float) -> float:
        """Return how often an item is read where nobody tells of changes; takes its share of the readings.

        Raises:
            ua.UaStatusCodeError: BadTooManyMonitoredItems: not even once a second.
        """
        interval_ms = max(interval_ms, self._limits.min_reading_ms)
        self._readings.give(item.holder, item.readings)
        room = self._readings.room(item.holder)
        slow_ms = max(interval_ms, 1000.0)
        # Seldom read items are all read at once, too: each counts as one in a second.
        found = next((ms for ms in (interval_ms, slow_ms) if max(1.0, 1000 / ms) <= room), None)
        if found is None:
            if not item.readings:
                raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyMonitoredItems)
            found = slow_ms  # what is there already is only made slower
        item.readings = max(1.0, 1000 / found)
        self._readings.take(item.holder, item.readings)
        return self._sampling.revise(found, found, 0.0)

    def _set_filter(self, item: DataItem, wanted: Any, value: ua.DataValue) -> None:
        item.trigger, item.band = data_filter(
            wanted,
            item.attribute,
            is_number=lambda: self._is_number(item.node_id, value),
            eu_range=lambda: self._eu_range(item.node_id),
        )

    def _is_number(self, node: ua.NodeId, value: ua.DataValue) -> bool:
        data_type = attribute(self._aspace, node, ua.AttributeIds.DataType)
        if data_type is not None and is_subtype(self._aspace, data_type, _NUMBER):
            return True
        return value.Value is not None and value.Value.VariantType in NUMBERS

    def _eu_range(self, node: ua.NodeId) -> tuple[float, float] | None:
        found = property_value(self._aspace, node, "EURange")
        return (float(found.Low), float(found.High)) if isinstance(found, ua.Range) else None


def _attribute_id(what: ua.ReadValueId) -> ua.AttributeIds:
    try:
        return ua.AttributeIds(what.AttributeId)
    except ValueError as exc:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadAttributeIdInvalid) from exc


def _check_encoding(what: ua.ReadValueId, attribute_id: ua.AttributeIds) -> None:
    name = what.DataEncoding.Name if what.DataEncoding is not None else None
    if not name:
        return
    if attribute_id != ua.AttributeIds.Value:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadDataEncodingInvalid)
    if name != "Default Binary":
        raise ua.UaStatusCodeError(ua.StatusCodes.BadDataEncodingUnsupported)
