"""The MonitoredItem service set (Part 4 §5.13)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.common.event_objects import EventQueueOverflowEvent
from asyncua.common.utils import ServiceError

# What the codec makes of a filter; of some there are subclasses under ``ua``.
from asyncua.ua.uaprotocol_auto import AggregateFilter, DataChangeFilter, EventFilter

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.event.encoded import EncodedEvent
from edge_opcua.opcua.services.event.eventtypes import EventTypes
from edge_opcua.opcua.services.event.filters import Receivers, Selection, compile_filter
from edge_opcua.opcua.services.service import Caller, Service
from edge_opcua.opcua.services.shares import Shares, crowded
from edge_opcua.opcua.services.slices import SLICE, answer, begin
from edge_opcua.opcua.services.subscription.dataitems import DataItem, Reader
from edge_opcua.opcua.services.subscription.deadband import NUMBERS, Trigger, absolute
from edge_opcua.opcua.services.subscription.eventitems import Audience, EventItem
from edge_opcua.opcua.services.subscription.items import Item, QueuedItem
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.sources import source_of
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.types import SERVER, attribute, is_subtype, property_value
from edge_opcua.opcua.values import utc

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
_OVERFLOW_SEVERITY: Final = 500
# As many clauses of an event filter are about as much work as an item.
CLAUSES_PER_ITEM: Final = 4
Find = Callable[[Caller, int], Subscription]


# Enumerations as they come, so that an unknown one has its StatusCode.
@dataclass
class CreateRequest:
    """MonitoredItemCreateRequest."""

    ItemToMonitor: ua.ReadValueId = field(default_factory=ua.ReadValueId)
    MonitoringMode: ua.Int32 = 0
    RequestedParameters: ua.MonitoringParameters = field(default_factory=ua.MonitoringParameters)


@dataclass
class CreateParameters:
    """The parameters of CreateMonitoredItems."""

    SubscriptionId: ua.UInt32 = 0
    TimestampsToReturn: ua.Int32 = 0
    ItemsToCreate: list[CreateRequest] = field(default_factory=list)


@dataclass
class ModifyParameters:
    """The parameters of ModifyMonitoredItems."""

    SubscriptionId: ua.UInt32 = 0
    TimestampsToReturn: ua.Int32 = 0
    ItemsToModify: list[ua.MonitoredItemModifyRequest] = field(default_factory=list)


@dataclass
class ModeParameters:
    """The parameters of SetMonitoringMode."""

    SubscriptionId: ua.UInt32 = 0
    MonitoringMode: ua.Int32 = 0
    MonitoredItemIds: list[ua.UInt32] = field(default_factory=list)


class Monitoring:
    """Creates, changes and ends monitored items, and hands events to them.

    Args:
        aspace: The address space.
        reader: Reads attributes for a session.
        access: Who may receive events.
        sampling: Where samples are taken.
        find: Returns a session's own subscription.
        limits: How many items, how long their queues.
        clock: For the time of events.

    Attributes:
        polled: Nodes whose value nobody tells: it is read at each sample.
        count: Items of all subscriptions.
        audience: Event items that listen.
    """

    def __init__(
        self,
        aspace: Nodes,
        reader: Reader,
        access: Access,
        sampling: Sampling,
        find: Find,
        limits: ServerLimits,
        clock: Clock,
    ) -> None:
        self.polled: set[ua.NodeId] = set()
        self.count = 0
        self._aspace = aspace
        self._reader = reader
        self._access = access
        self._sampling = sampling
        self._find = find
        self._limits = limits
        self._clock = clock
        self._owned = Shares(limits.items)
        self._queued = Shares(limits.queued)
        self._readings = Shares(limits.readings_per_s)
        self._event_types = EventTypes(aspace)
        self._receivers = Receivers(access, aspace)
        self.audience = Audience()
        self._numbers = iter(_numbers())

    def services(self) -> Mapping[str, Service]:
        """The services of the set."""
        most = self._limits.operations.items
        ids = ("MonitoredItemIds",)
        return {
            "CreateMonitoredItems": Service(CreateParameters, self.create, ("ItemsToCreate",), most),
            "ModifyMonitoredItems": Service(ModifyParameters, self.modify, ("ItemsToModify",), most),
            "DeleteMonitoredItems": Service(ua.DeleteMonitoredItemsParameters, self.delete, ids, most),
            "SetMonitoringMode": Service(ModeParameters, self.set_mode, ids, most),
            "SetTriggering": Service(
                ua.SetTriggeringParameters, self.set_triggering, ("LinksToAdd", "LinksToRemove"), most
            ),
        }

    # --- create (§5.13.2) ----------------------------------------------------------------------------

    def create(self, caller: Caller, params: CreateParameters) -> Any:
        """CreateMonitoredItems."""
        return begin(self._create_all(caller, params))

    def _create_all(self, caller: Caller, params: CreateParameters) -> Generator[None, None, Any]:
        results: list[Any] = []
        for part in _slices(params.ItemsToCreate):
            if results:
                yield
            subscription = self._find(caller, params.SubscriptionId)  # it may have ended meanwhile
            timestamps = _timestamps(params.TimestampsToReturn)
            results += [self._create(subscription, wanted, timestamps) for wanted in part]
        return (yield from answer(ua.CreateMonitoredItemsResponse(), results, self._limits.response_bytes))

    def _create(
        self,
        subscription: Subscription,
        wanted: CreateRequest,
        timestamps: ua.TimestampsToReturn,
    ) -> ua.MonitoredItemCreateResult:
        result = ua.MonitoredItemCreateResult()
        try:
            self._check_room(subscription)
            mode = _mode(wanted.MonitoringMode)
            if wanted.ItemToMonitor.AttributeId == ua.AttributeIds.EventNotifier:
                item: Item = self._event_item(subscription, wanted, mode, result)
            else:
                item = self._data_item(subscription, wanted, timestamps, mode, result)
        except ua.UaStatusCodeError as exc:
            result.StatusCode = ua.StatusCode(exc.code)
            return result
        subscription.items[item.number] = item
        self.count += 1
        self._owned.take(item.holder, 1)
        result.MonitoredItemId = item.number
        result.RevisedSamplingInterval = item.sampling_ms
        return result

    def _check_room(self, subscription: Subscription) -> None:
        own = self._owned.of(subscription.owner.session_id)
        if len(subscription.items) >= self._limits.items_per_subscription or crowded(
            self._limits.items, self.count, own
        ):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyMonitoredItems)

    def _data_item(
        self,
        subscription: Subscription,
        wanted: CreateRequest,
        timestamps: ua.TimestampsToReturn,
        mode: ua.MonitoringMode,
        result: ua.MonitoredItemCreateResult,
    ) -> DataItem:
        what, asked = wanted.ItemToMonitor, wanted.RequestedParameters
        node, attribute_id = what.NodeId, _attribute_id(what)
        source = source_of(self._aspace, node, attribute_id)
        item = DataItem(
            subscription,
            next(self._numbers),
            node,
            attribute_id,
            index_range=what.IndexRange or None,
            source=source,
            polled=node in self.polled,
            reader=self._reader,
            sampling=self._sampling,
        )
        value = item.read()
        status = value.StatusCode.value if value.StatusCode is not None else 0
        # Part 4 §5.13.2.1: an item that may not be read now is made, and its notifications say so.
        if status in _HOPELESS or (status == ua.StatusCodes.BadAttributeIdInvalid and source is None):
            raise ua.UaStatusCodeError(status)
        _check_encoding(what, attribute_id)
        self._set_filter(item, asked.Filter, value)
        if self._queued.room(item.holder) < item.weight - 1:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadTooManyMonitoredItems)
        self._set_data(item, asked, timestamps)
        item.begin(value, mode)
        result.RevisedQueueSize = item.queue.size
        return item

    def _set_data(
        self, item: DataItem, asked: ua.MonitoringParameters, timestamps: ua.TimestampsToReturn
    ) -> None:
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
        self._resize(item, max(asked.QueueSize, 1), discard_oldest=bool(asked.DiscardOldest))

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

    def _resize(self, item: DataItem | EventItem, size: int, *, discard_oldest: bool) -> None:
        """Give an item a queue as long as it wants, if its client has that many places left (§7.21)."""
        self._queued.give(item.holder, item.places)
        room = self._queued.room(item.holder) - (item.weight - 1)
        size = max(1, min(size, self._limits.queue, 1 + int(room / item.weight)))
        item.places = size * item.weight - 1  # a queue of one short notification takes none
        self._queued.take(item.holder, item.places)
        item.resize(size, discard_oldest=discard_oldest)

    def _set_filter(self, item: DataItem, wanted: Any, value: ua.DataValue) -> None:
        """Set what is a change (§7.22.2); the default is a change of status or value."""
        if _is_null(wanted):
            item.trigger, item.band = Trigger.StatusValue, 0.0
            return
        if item.attribute != ua.AttributeIds.Value or isinstance(wanted, EventFilter):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadFilterNotAllowed)
        if isinstance(wanted, AggregateFilter):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
        if not isinstance(wanted, DataChangeFilter) or wanted.Trigger not in tuple(Trigger):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
        if wanted.DeadbandType != ua.DeadbandType.None_ and not self._is_number(item.node_id, value):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadFilterNotAllowed)
        band = absolute(wanted.DeadbandType, wanted.DeadbandValue, self._eu_range(item.node_id))
        item.trigger, item.band = Trigger(wanted.Trigger), band

    def _is_number(self, node: ua.NodeId, value: ua.DataValue) -> bool:
        data_type = attribute(self._aspace, node, ua.AttributeIds.DataType)
        if data_type is not None and is_subtype(self._aspace, data_type, _NUMBER):
            return True
        return value.Value is not None and value.Value.VariantType in NUMBERS

    def _eu_range(self, node: ua.NodeId) -> tuple[float, float] | None:
        found = property_value(self._aspace, node, "EURange")
        return (float(found.Low), float(found.High)) if isinstance(found, ua.Range) else None

    def _event_item(
        self,
        subscription: Subscription,
        wanted: CreateRequest,
        mode: ua.MonitoringMode,
        result: ua.MonitoredItemCreateResult,
    ) -> EventItem:
        node, asked = wanted.ItemToMonitor.NodeId, wanted.RequestedParameters
        if not self._aspace.knows(node):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadNodeIdUnknown)
        notifier = attribute(self._aspace, node, ua.AttributeIds.EventNotifier)
        if notifier is None:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadAttributeIdInvalid)
        if not notifier & 1 << ua.EventNotifier.SubscribeToEvents:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadNotSupported)
        selection = self._compile(asked.Filter, result)
        item = EventItem(subscription, next(self._numbers), node, selection, self.audience)
        self._set_event(item, asked)
        item.begin(mode)
        result.RevisedQueueSize = item.queue.size
        return item

    def _compile(self, wanted: Any, result: Any) -> Selection:
        """Return a filter made ready; what is wrong with it is said in the item's result, too."""
        if _is_null(wanted):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadEventFilterInvalid)
        if isinstance(wanted, (DataChangeFilter, AggregateFilter)):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadFilterNotAllowed)
        if not isinstance(wanted, EventFilter):
            raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoredItemFilterInvalid)
        compiled = compile_filter(self._aspace, wanted, types=self._event_types, limits=self._limits)
        result.FilterResult = compiled.result
        if compiled.status or compiled.selection is None:
            raise ua.UaStatusCodeError(compiled.status or ua.StatusCodes.BadEventFilterInvalid)
        return compiled.selection

    def _set_event(self, item: EventItem, asked: ua.MonitoringParameters) -> None:
        item.handle = asked.ClientHandle
        # Part 4 §7.21: 0 asks for our idea of a queue; events have no sampling interval.
        self._resize(item, asked.QueueSize or self._limits.queue, discard_oldest=bool(asked.DiscardOldest))

    # --- modify (§5.13.3) ----------------------------------------------------------------------------

    def modify(self, caller: Caller, params: ModifyParameters) -> Any:
        """ModifyMonitoredItems."""
        return begin(self._modify_all(caller, params))

    def _modify_all(self, caller: Caller, params: ModifyParameters) -> Generator[None, None, Any]:
        results: list[Any] = []
        for part in _slices(params.ItemsToModify):
            if results:
                yield
            subscription = self._find(caller, params.SubscriptionId)
            timestamps = _timestamps(params.TimestampsToReturn)
            results += [self._modify(subscription, wanted, timestamps) for wanted in part]
        return (yield from answer(ua.ModifyMonitoredItemsResponse(), results, self._limits.response_bytes))

    def _modify(
        self,
        subscription: Subscription,
        wanted: ua.MonitoredItemModifyRequest,
        timestamps: ua.TimestampsToReturn,
    ) -> ua.MonitoredItemModifyResult:
        result = ua.MonitoredItemModifyResult()
        item = subscription.items.get(wanted.MonitoredItemId)
        asked = wanted.RequestedParameters
        try:
            if isinstance(item, EventItem):
                if not _is_null(asked.Filter):  # none: the one it has stays, an event item needs one
                    item.selection = self._compile(asked.Filter, result)
                self._set_event(item, asked)
                result.RevisedQueueSize = item.queue.size
            elif isinstance(item, DataItem):
                self._set_filter(item, asked.Filter, item.last or item.read())
                self._set_data(item, asked, timestamps)
                result.RevisedQueueSize = item.queue.size
                result.RevisedSamplingInterval = item.sampling_ms
            else:
                result.StatusCode = _good_or_no_item(found=False)
        except ua.UaStatusCodeError as exc:
            result.StatusCode = ua.StatusCode(exc.code)
        return result

    # --- the others ----------------------------------------------------------------------------------

    def delete(
        self, caller: Caller, params: ua.DeleteMonitoredItemsParameters
    ) -> ua.DeleteMonitoredItemsResponse:
        """DeleteMonitoredItems (§5.13.6)."""
        subscription = self._find(caller, params.SubscriptionId)
        response = ua.DeleteMonitoredItemsResponse()
        response.Results = [
            _good_or_no_item(found=self._drop(subscription, number)) for number in params.MonitoredItemIds
        ]
        return response

    def _drop(self, subscription: Subscription, number: int) -> bool:
        item = subscription.items.pop(number, None)
        if item is None:
            return False
        item.close()
        self._queued.give(item.holder, item.places)
        self._readings.give(item.holder, item.readings)
        self.count -= 1
        self._owned.give(item.holder, 1)
        return True

    def drop_all(self, subscription: Subscription) -> None:
        """End every item of a subscription."""
        for number in tuple(subscription.items):
            self._drop(subscription, number)

    def set_mode(self, caller: Caller, params: ModeParameters) -> Any:
        """SetMonitoringMode (§5.13.4)."""
        return begin(self._set_mode_all(caller, params))

    def _set_mode_all(self, caller: Caller, params: ModeParameters) -> Generator[None, None, Any]:
        mode = _mode(params.MonitoringMode)
        results = []
        for start in range(0, len(params.MonitoredItemIds), SLICE):
            if start:
                yield
            subscription = self._find(caller, params.SubscriptionId)
            for number in params.MonitoredItemIds[start : start + SLICE]:
                item = subscription.items.get(number)
                if item is not None:
                    item.set_mode(mode)
                results.append(_good_or_no_item(found=item is not None))
        return (yield from answer(ua.SetMonitoringModeResponse(), results, self._limits.response_bytes))

    def set_triggering(self, caller: Caller, params: ua.SetTriggeringParameters) -> ua.SetTriggeringResponse:
        """SetTriggering (§5.13.5); links are removed before others are added."""
        subscription = self._find(caller, params.SubscriptionId)
        item = self._linkable(subscription, params.TriggeringItemId)
        if item is None:
            raise ServiceError(ua.StatusCodes.BadMonitoredItemIdInvalid)
        removed = [_good_or_no_item(found=item.unlink(number)) for number in params.LinksToRemove or ()]
        added = []
        for number in params.LinksToAdd or ():
            other = self._linkable(subscription, number)
            if other is not None and subscription.links >= self._limits.links and number not in item.links:
                added.append(ua.StatusCode(ua.StatusCodes.BadTooManyMonitoredItems))
                continue
            if other is not None:
                item.link(other)
            added.append(_good_or_no_item(found=other is not None))
        response = ua.SetTriggeringResponse()
        response.Parameters.AddResults = added
        response.Parameters.RemoveResults = removed
        return response

    def _linkable(self, subscription: Subscription, number: int) -> QueuedItem | None:
        found = subscription.items.get(number)
        return found if isinstance(found, QueuedItem) else None

    # --- events --------------------------------------------------------------------------------------

    def deliver(self, event: Any, notifiers: Sequence[ua.NodeId]) -> None:
        """Hand an event to every item on one of these nodes, to each once."""
        listeners = self.audience.of(notifiers)
        if not listeners:
            return
        shared = EncodedEvent(event)
        allowed: dict[Any, bool] = {}
        for item in listeners:
            roles = item.subscription.owner.roles
            may = allowed.get(roles)
            if may is None:
                may = allowed[roles] = self._receivers.may(roles, event)
            if may:
                item.offer(shared, self.overflow_event)

    def may_receive(self, subscription: Subscription, event: Any) -> bool:
        """Whether the owner of a subscription may get an event (Part 3 §8.55)."""
        return self._receivers.may(subscription.owner.roles, event)

    def overflow_event(self) -> EncodedEvent:
        """Return the event that tells of lost ones (Part 4 §7.22.3)."""
        event = EventQueueOverflowEvent()
        event.EventId = secrets.token_bytes(16)
        event.SourceNode = SERVER
        event.SourceName = "Server"
        event.Time = event.ReceiveTime = utc(self._clock.utc_ns())
        event.Message = ua.LocalizedText("events were lost: the queue of this item is too short")
        event.Severity = _OVERFLOW_SEVERITY
        return EncodedEvent(event)


def _slices(requests: Sequence[Any]) -> Iterator[list[Any]]:
    """Cut requests for items into parts of about equal work: a filter is as much as it has clauses."""
    part: list[Any] = []
    work = 0
    for request in requests:
        wanted = request.RequestedParameters.Filter
        if isinstance(wanted, EventFilter):
            elements = wanted.WhereClause.Elements if wanted.WhereClause is not None else ()
            work += (len(wanted.SelectClauses or ()) + len(elements or ())) // CLAUSES_PER_ITEM
        work += 1
        part.append(request)
        if work >= SLICE:
            yield part
            part, work = [], 0
    if part:
        yield part


def _numbers() -> Iterator[int]:
    while True:
        yield from range(1, 0x7FFF_FFFF)


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


def _timestamps(wanted: int) -> ua.TimestampsToReturn:
    if not ua.TimestampsToReturn.Source <= wanted <= ua.TimestampsToReturn.Neither:
        raise ServiceError(ua.StatusCodes.BadTimestampsToReturnInvalid)
    return ua.TimestampsToReturn(wanted)


def _mode(wanted: int) -> ua.MonitoringMode:
    if not ua.MonitoringMode.Disabled <= wanted <= ua.MonitoringMode.Reporting:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoringModeInvalid)
    return ua.MonitoringMode(wanted)


def _is_null(wanted: Any) -> bool:
    return wanted is None or (isinstance(wanted, ua.ExtensionObject) and wanted.TypeId == ua.NodeId())


def _good_or_no_item(*, found: bool) -> ua.StatusCode:
    return ua.StatusCode(0 if found else ua.StatusCodes.BadMonitoredItemIdInvalid)
