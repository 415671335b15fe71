"""Makes and changes monitored items that are columns: those on scalar tags, reporting, without links."""

from __future__ import annotations

from typing import Final

from asyncua import ua

from edge_opcua.core.values import Scalar
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.columngroups import ColumnGroups
from edge_opcua.opcua.services.subscription.columns import ColumnGroup, Key, Settings, stamps_mask
from edge_opcua.opcua.services.subscription.datafilters import Range, data_filter
from edge_opcua.opcua.services.subscription.deadband import Trigger
from edge_opcua.opcua.services.subscription.items import Mode
from edge_opcua.opcua.services.subscription.parameters import CreateRequest
from edge_opcua.opcua.services.subscription.places import QueuePlaces
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.services.subscription.tagitems import TagItem

_VALUE: Final = int(ua.AttributeIds.Value)
_NO_NUMBERS: Final = (Scalar.BOOLEAN, Scalar.STRING)


class TagMonitoring:
    """Puts items into groups of columns.

    Args:
        aspace: The address space, for its tags.
        sampling: What sampling interval an item gets.
        groups: The groups.
        places: What all queues share.
    """

    def __init__(self, aspace: Nodes, sampling: Sampling, groups: ColumnGroups, places: QueuePlaces) -> None:
        self._aspace = aspace
        self._tags = aspace.tags
        self._sampling = sampling
        self._groups = groups
        self._places = places

    def tag_of(self, wanted: CreateRequest) -> int | None:
        """Return the number of the tag that an item can be a column of; None: it is an item like others."""
        what = wanted.ItemToMonitor
        if what.AttributeId != _VALUE or what.IndexRange or wanted.MonitoringMode == Mode.Sampling:
            return None
        if what.DataEncoding is not None and what.DataEncoding.Name:
            return None
        number = self._tags.number(what.NodeId)
        if number is None:
            return None
        block, row = self._tags.place(number)
        return number if block.scalars[row] else None

    def create(
        self,
        subscription: Subscription,
        tag: int,
        asked: ua.MonitoringParameters,
        timestamps: ua.TimestampsToReturn,
        mode: ua.MonitoringMode,
        number: int,
    ) -> TagItem:
        """Make an item; its first value is queued by :meth:`settle`.

        Raises:
            ua.UaStatusCodeError: Its filter cannot be.
        """
        trigger, band = self._filter(tag, asked)
        key = self._key(subscription, tag, asked, timestamps, compared=_compares(trigger, band))
        item = TagItem(number, asked.ClientHandle, subscription.owner.session_id)
        size = self._places.allot(item, asked.QueueSize)
        self._enter(item, self._groups.group(subscription, key), tag, asked, size, (trigger, band))
        item.set_mode(mode)
        return item

    def modify(
        self,
        subscription: Subscription,
        item: TagItem,
        asked: ua.MonitoringParameters,
        timestamps: ua.TimestampsToReturn,
    ) -> None:
        """Change an item; it moves with its queue if it belongs into another group then.

        Raises:
            ua.UaStatusCodeError: Its filter cannot be; it stays as it was.
        """
        before, place = item.group, item.place
        tag = before.tag(place)
        trigger, band = self._filter(tag, asked)
        # Without a comparison of its own what it said last has to be what is shown.
        idle = item.mode is Mode.Disabled
        compared = _compares(trigger, band) or not (idle or before.is_up_to_date(place))
        key = self._key(subscription, tag, asked, timestamps, compared=compared)
        size = self._places.allot(item, asked.QueueSize)
        item.handle = asked.ClientHandle
        before.resize(place, size, discard_oldest=bool(asked.DiscardOldest))
        if key == before.key:
            before.set_handle(place, asked.ClientHandle)
            if key.compared:
                before.set_filter(place, trigger, band)
            return
        group = self._groups.group(subscription, key)
        self._enter(item, group, tag, asked, size, (trigger, band))
        if item.mode is not Mode.Disabled:
            group.take_over(item.place, before, place)
        before.remove(place)

    @staticmethod
    def settle(subscription: Subscription) -> None:
        """Queue the first values of items that were made or enabled."""
        for group in subscription.groups.values():
            group.settle()

    def _enter(
        self,
        item: TagItem,
        group: ColumnGroup,
        tag: int,
        asked: ua.MonitoringParameters,
        size: int,
        how: tuple[ua.DataChangeTrigger, float],
    ) -> None:
        _, row = self._tags.place(tag)
        settings = Settings(row, tag, asked.ClientHandle, size, bool(asked.DiscardOldest), *how)
        item.enter(group, group.add(settings))

    def _key(
        self,
        subscription: Subscription,
        tag: int,
        asked: ua.MonitoringParameters,
        timestamps: ua.TimestampsToReturn,
        *,
        compared: bool,
    ) -> Key:
        # A tag's MinimumSamplingInterval is 0: it comes as fast as its device is polled.
        interval_ms = self._sampling.revise(asked.SamplingInterval, subscription.interval_ms, 0.0)
        stamps = stamps_mask(source=timestamps in wire.SOURCE_STAMP, server=timestamps in wire.SERVER_STAMP)
        block, _ = self._tags.place(tag)
        return Key(block, interval_ms, stamps, compared or not self._groups.is_told(interval_ms))

    def _filter(self, tag: int, asked: ua.MonitoringParameters) -> tuple[ua.DataChangeTrigger, float]:
        if asked.Filter is None:
            return Trigger.StatusValue, 0.0
        config = self._tags.configs[tag]

        def eu_range() -> Range | None:
            found = self._aspace.virtual.property_value(tag, "EURange")
            return (float(found.Low), float(found.High)) if isinstance(found, ua.Range) else None

        return data_filter(
            asked.Filter, _VALUE, is_number=lambda: config.type not in _NO_NUMBERS, eu_range=eu_range
        )


def _compares(trigger: ua.DataChangeTrigger, band: float) -> bool:
    return trigger != Trigger.StatusValue or band > 0
