"""Makes and changes monitored items that are columns: those on scalar tags, reporting, without links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from asyncua import ua

from edge_opcua.core.values import Scalar
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.columngroups import ColumnGroups
from edge_opcua.opcua.services.subscription.columns import ColumnGroup, Key, Settings, stamps_mask
from edge_opcua.opcua.services.subscription.datafilters import Range, data_filter, is_null
from edge_opcua.opcua.services.subscription.deadband import Trigger
from edge_opcua.opcua.services.subscription.items import Mode
from edge_opcua.opcua.services.subscription.parameters import CreateRequest
from edge_opcua.opcua.services.subscription.places import QueuePlaces
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.opcua.services.subscription.taglist import COLUMN_MODES, Wanted
from edge_opcua.opcua.tags.live import LiveBlock

_VALUE: Final = int(ua.AttributeIds.Value)
_NO_NUMBERS: Final = tuple(int(each) for each in Scalar if not each.is_number)
# DataChangeTrigger, and deadband in engineering units.
Filter = tuple[ua.DataChangeTrigger, float]


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

    def wanted(self, request: CreateRequest) -> Wanted | None:
        """Return what is wanted if it can be a column; None: it is an item like others."""
        what, asked = request.ItemToMonitor, request.RequestedParameters
        if what.AttributeId != _VALUE or what.IndexRange or request.MonitoringMode not in COLUMN_MODES:
            return None
        if what.DataEncoding is not None and what.DataEncoding.Name:
            return None
        tag = self._tags.number(what.NodeId)
        if tag is None:
            return None
        block, row = self._tags.place(tag)
        if not block.scalars[row]:
            return None
        change = None if is_null(asked.Filter) else asked.Filter
        sampling_ms, oldest = asked.SamplingInterval, bool(asked.DiscardOldest)
        mode = request.MonitoringMode
        return Wanted(tag, mode, asked.ClientHandle, sampling_ms, change, asked.QueueSize, oldest)

    def request(self, wanted: Wanted) -> CreateRequest:
        """Return a request as it would have come for an item like others."""
        what = ua.ReadValueId(self._tags.node_id(wanted.tag), ua.AttributeIds.Value)
        asked = ua.MonitoringParameters(
            wanted.handle, wanted.sampling_ms, wanted.filter, wanted.queue, wanted.discard_oldest
        )
        return CreateRequest(what, wanted.mode, asked)

    def create(
        self,
        subscription: Subscription,
        wanted: Sequence[Wanted],
        timestamps: ua.TimestampsToReturn,
        numbers: Iterator[int],
    ) -> list[TagItem | int | None]:
        """Make items; returns them, the StatusCode that says why there is none, or None: it can be no column.

        Their first values are queued by :meth:`settle`.
        """
        holder = subscription.owner.session_id
        lease = self._places.lease(holder)
        joining: dict[ColumnGroup, tuple[list[Settings], list[TagItem]]] = {}
        groups: dict[tuple[LiveBlock, float, bool], tuple[list[Settings], list[TagItem]]] = {}
        made: list[TagItem | int | None] = []
        filters = self._filters(wanted)
        crowded = self._mostly_compared(wanted, filters)
        for one, chosen in zip(wanted, filters, strict=True):
            if isinstance(chosen, int):
                made.append(chosen)
                continue
            trigger, band = chosen
            block, row = self._tags.place(one.tag)
            compared = _compares(trigger, band) or (block, one.sampling_ms) in crowded
            found = groups.get((block, one.sampling_ms, compared))
            if found is None:
                key = self._key(subscription, block, one.sampling_ms, timestamps, compared=compared)
                group = self._groups.group(subscription, key)
                if group is None:
                    made.append(None)
                    continue
                found = joining.setdefault(group, ([], []))
                groups[block, one.sampling_ms, compared] = found
            item = TagItem(next(numbers), one.handle, holder)
            size = lease.size(one.queue)
            item.places = size - 1
            item.mode = COLUMN_MODES[one.mode]
            found[0].append(Settings(row, one.tag, one.handle, size, one.discard_oldest, trigger, band))
            found[1].append(item)
            made.append(item)
        lease.end()
        for group, (settings, items) in joining.items():
            _enter(group, settings, items)
        return made

    def _filters(self, wanted: Sequence[Wanted]) -> list[Filter | int]:
        """Return the filter of each item, or the StatusCode that says why there is none."""
        known: dict[tuple[int, int], Filter] = {}
        found: list[Filter | int] = []
        for one in wanted:
            try:
                found.append(self._filter(one.tag, one.filter, known))
            except ua.UaStatusCodeError as exc:
                found.append(int(exc.code))
        return found

    def _mostly_compared(
        self, wanted: Sequence[Wanted], filters: Sequence[Filter | int]
    ) -> set[tuple[LiveBlock, float]]:
        """Return blocks and sampling intervals of which most items have a filter.

        The others go along with them, as flags do that have no deadband: to look at one more group costs more
        than to compare them.
        """
        if len({_compares(*each) for each in set(filters) if not isinstance(each, int)}) < 2:
            return set()
        more: Counter[tuple[LiveBlock, float]] = Counter()
        for one, chosen in zip(wanted, filters, strict=True):
            if not isinstance(chosen, int):
                block, _ = self._tags.place(one.tag)
                more[block, one.sampling_ms] += 1 if _compares(*chosen) else -1
        return {key for key, count in more.items() if count > 0}

    def modify(
        self,
        subscription: Subscription,
        item: TagItem,
        asked: ua.MonitoringParameters,
        timestamps: ua.TimestampsToReturn,
    ) -> bool:
        """Change an item; it moves with its queue if it belongs into another group then.

        Returns:
            False: there can be no such group; it is as it was.

        Raises:
            ua.UaStatusCodeError: Its filter cannot be; it stays as it was.
        """
        before, place = item.group, item.place
        tag = before.tag(place)
        trigger, band = self._filter(tag, asked.Filter, {})
        # Without a comparison of its own what it said last has to be what is shown.
        idle = item.mode is Mode.Disabled
        goes_along = before.key.compared and not _compares(*before.filter_of(place))
        compared = _compares(trigger, band) or goes_along or not (idle or before.is_up_to_date(place))
        block, row = self._tags.place(tag)
        key = self._key(subscription, block, asked.SamplingInterval, timestamps, compared=compared)
        group = self._groups.group(subscription, key)
        if group is None:
            return False
        size, oldest = self._places.allot(item, asked.QueueSize), bool(asked.DiscardOldest)
        item.handle = asked.ClientHandle
        before.resize(place, size, discard_oldest=oldest)
        if key == before.key:
            before.set_handle(place, asked.ClientHandle)
            if key.compared:
                before.set_filter(place, trigger, band)
            return True
        settings = Settings(row, tag, asked.ClientHandle, size, oldest, trigger, band)
        item.enter(group, *group.add([settings]))
        if not idle:
            group.take_over(item.place, before, place)
        before.remove(place)
        return True

    @staticmethod
    def settle(subscription: Subscription) -> None:
        """Queue the first values of items that were made or enabled."""
        for group in subscription.groups.values():
            group.settle()

    def _key(
        self,
        subscription: Subscription,
        block: LiveBlock,
        sampling_ms: float,
        timestamps: ua.TimestampsToReturn,
        *,
        compared: bool,
    ) -> Key:
        # A tag's MinimumSamplingInterval is 0: it comes as fast as its device is polled.
        interval_ms = self._sampling.revise(sampling_ms, subscription.interval_ms, 0.0)
        stamps = stamps_mask(source=timestamps in wire.SOURCE_STAMP, server=timestamps in wire.SERVER_STAMP)
        return Key(block, interval_ms, stamps, compared or not self._groups.is_told(interval_ms))

    def _filter(self, tag: int, wanted: Any, known: dict[tuple[int, int], Filter]) -> Filter:
        """Return trigger and deadband of a filter.

        Args:
            tag: Number of the tag.
            wanted: The filter as it came.
            known: What was found of each filter and type so far; a percentage is each tag's own.
        """
        if wanted is None:
            return Trigger.StatusValue, 0.0
        block, row = self._tags.place(tag)
        kind = block.kind.item(row)
        found = known.get((id(wanted), kind))
        if found is not None:
            return found

        def eu_range() -> Range | None:
            given = self._aspace.virtual.property_value(tag, "EURange")
            return (float(given.Low), float(given.High)) if isinstance(given, ua.Range) else None

        found = data_filter(wanted, _VALUE, is_number=lambda: kind not in _NO_NUMBERS, eu_range=eu_range)
        if getattr(wanted, "DeadbandType", 0) != ua.DeadbandType.Percent:
            known[id(wanted), kind] = found
        return found


def _enter(group: ColumnGroup, settings: list[Settings], items: list[TagItem]) -> None:
    """Let new items take places in a group."""
    places = group.add(settings)
    for item, place in zip(items, places, strict=True):
        item.enter(group, place)
    group.activate(item.place for item in items if item.mode is Mode.Reporting)


def _compares(trigger: ua.DataChangeTrigger, band: float) -> bool:
    return trigger != Trigger.StatusValue or band > 0
