"""The MonitoredItem service set (Part 4 §5.13)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
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
from edge_opcua.opcua.services.attribute.rights import Rights
from edge_opcua.opcua.services.event.encoded import EncodedEvents
from edge_opcua.opcua.services.event.eventtypes import EventTypes
from edge_opcua.opcua.services.event.filters import Receivers, Selection, compile_filter
from edge_opcua.opcua.services.service import Caller, Reply, Service
from edge_opcua.opcua.services.shares import Shares, crowded
from edge_opcua.opcua.services.slices import SLICE, Encoded, Rest, answer, begin
from edge_opcua.opcua.services.subscription import taglist
from edge_opcua.opcua.services.subscription.columngroups import ColumnGroups
from edge_opcua.opcua.services.subscription.columns import ColumnGroup
from edge_opcua.opcua.services.subscription.datafilters import is_null
from edge_opcua.opcua.services.subscription.dataitems import DataItem, Reader
from edge_opcua.opcua.services.subscription.datamonitoring import DataMonitoring
from edge_opcua.opcua.services.subscription.eventitems import Audience, EventItem
from edge_opcua.opcua.services.subscription.following import Following
from edge_opcua.opcua.services.subscription.items import Item, QueuedItem
from edge_opcua.opcua.services.subscription.parameters import (
    CreateParameters,
    CreateRequest,
    ModeParameters,
    ModifyParameters,
)
from edge_opcua.opcua.services.subscription.places import QueuePlaces
from edge_opcua.opcua.services.subscription.sampling import Sampling
from edge_opcua.opcua.services.subscription.subscription import Subscription
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.opcua.services.subscription.taglist import Wanted
from edge_opcua.opcua.services.subscription.tagmonitoring import TagMonitoring
from edge_opcua.opcua.types import SERVER, attribute
from edge_opcua.opcua.values import utc

_OVERFLOW_SEVERITY: Final = 500
# An item that moves from group to group with its queue is as much work as so many new ones.
MOVE_WORK: Final = 10
# As many clauses of an event filter are about as much work as an item.
CLAUSES_PER_ITEM: Final = 4
Find = Callable[[Caller, int], Subscription]


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
        data: Items that stand for themselves.
        following: Lets items follow their nodes when these are others.
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
        self.count = 0
        self._aspace = aspace
        self._find = find
        self._limits = limits
        self._clock = clock
        self._owned = Shares(limits.items)
        self._places = QueuePlaces(limits)
        self.data = DataMonitoring(aspace, reader, sampling, limits, self._places)
        groups = ColumnGroups(Rights(access, aspace.tags), sampling, limits.column_groups)
        self._columns = TagMonitoring(aspace, sampling, groups, self._places)
        self.following = Following(aspace, groups, self.data)
        self._event_types = EventTypes(aspace)
        self._receivers = Receivers(access, aspace)
        self.audience = Audience()
        self._numbers = iter(_numbers())

    def services(self) -> Mapping[str, Service]:
        """The services of the set."""
        most = self._limits.operations.items
        ids = ("MonitoredItemIds",)
        return {
            "CreateMonitoredItems": Service(
                CreateParameters, self.create, ("ItemsToCreate",), most, changes=True, raw=self.create_bytes
            ),
            "ModifyMonitoredItems": Service(
                ModifyParameters, self.modify, ("ItemsToModify",), most, changes=True
            ),
            "DeleteMonitoredItems": Service(
                ua.DeleteMonitoredItemsParameters, self.delete, ids, most, changes=True
            ),
            "SetMonitoringMode": Service(ModeParameters, self.set_mode, ids, most, changes=True),
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
            results += self._create_part(subscription, part, timestamps)
            self._columns.settle(subscription)
        return (yield from answer(ua.CreateMonitoredItemsResponse(), results, self._limits.response_bytes))

    def create_bytes(self, caller: Caller, whole: bytes, at: int, reply: Reply) -> bool | Rest[Any]:
        """CreateMonitoredItems from the bytes of a request that wants nothing but columns; else False."""
        if len(whole) < at + taglist.HEAD_BYTES:
            return False
        _, timestamps, count = found = taglist.head(whole, at)
        if not 0 < count <= (self._limits.operations.items or count):
            return False
        wanted = taglist.wanted_columns(whole, at + taglist.HEAD_BYTES, count, self._aspace.tags)
        if wanted is None:
            return False
        work = self._create_wanted(caller, found[0], timestamps, wanted)
        outcome = begin(work)
        if isinstance(outcome, Rest):
            return outcome
        reply.send(outcome)
        return True

    def _create_wanted(
        self, caller: Caller, number: int, timestamps: int, wanted: Sequence[Wanted]
    ) -> Generator[None, None, Encoded]:
        results: list[bytes] = []
        for part in taglist.parts(wanted, self._aspace.tags):
            if results:
                yield
            subscription = self._find(caller, number)  # it may have ended meanwhile
            made = self._create_columns(subscription, part, _timestamps(timestamps))
            results += map(taglist.result, made)
            self._columns.settle(subscription)
        return taglist.answer(results)

    def _create_part(
        self, subscription: Subscription, part: Sequence[CreateRequest], timestamps: ua.TimestampsToReturn
    ) -> list[ua.MonitoredItemCreateResult]:
        results = [ua.MonitoredItemCreateResult() for _ in part]
        columns: list[tuple[ua.MonitoredItemCreateResult, Wanted]] = []
        for request, result in zip(part, results, strict=True):
            column = self._columns.wanted(request)
            if column is not None:
                columns.append((result, column))
            else:
                _tell(result, self._create_other(subscription, request, timestamps, result))
        made = self._create_columns(subscription, [column for _, column in columns], timestamps)
        for (result, _), item in zip(columns, made, strict=True):
            _tell(result, item)
        return results

    def _create_other(
        self,
        subscription: Subscription,
        wanted: CreateRequest,
        timestamps: ua.TimestampsToReturn,
        result: ua.MonitoredItemCreateResult | None = None,
    ) -> Item | int:
        """Make an item that is no column; returns it, or the StatusCode that says why there is none."""
        if not self._room_for(subscription, 1):
            return int(ua.StatusCodes.BadTooManyMonitoredItems)
        try:
            mode = _mode(wanted.MonitoringMode)
            if wanted.ItemToMonitor.AttributeId == ua.AttributeIds.EventNotifier:
                item: Item = self._event_item(
                    subscription, wanted, mode, result or ua.MonitoredItemCreateResult()
                )
            else:
                item = self.data.create(subscription, wanted, timestamps, mode, self._numbers)
        except ua.UaStatusCodeError as exc:
            return int(exc.code)
        self._enter(subscription, [item])
        return item

    def _create_columns(
        self, subscription: Subscription, wanted: Sequence[Wanted], timestamps: ua.TimestampsToReturn
    ) -> list[Item | int]:
        room = self._room_for(subscription, len(wanted))
        made = self._columns.create(subscription, wanted[:room], timestamps, self._numbers)
        self._enter(subscription, [item for item in made if isinstance(item, TagItem)])
        found: list[Item | int] = [
            self._create_other(subscription, self._columns.request(one), timestamps) if item is None else item
            for one, item in zip(wanted, made, strict=False)
        ]
        return found + [int(ua.StatusCodes.BadTooManyMonitoredItems)] * (len(wanted) - room)

    def _enter(self, subscription: Subscription, items: Sequence[Item]) -> None:
        subscription.items.update((item.number, item) for item in items)
        self.count += len(items)
        self._owned.take(subscription.owner.session_id, len(items))

    def _room_for(self, subscription: Subscription, count: int) -> int:
        """Return how many of so many items there is room for."""
        own, limits = self._owned.of(subscription.owner.session_id), self._limits
        count = min(count, limits.items_per_subscription - len(subscription.items))
        for more in range(count):
            if crowded(limits.items, self.count + more, own + more):
                return more
        return max(0, count)

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
        return item

    def _compile(self, wanted: Any, result: Any) -> Selection:
        """Return a filter made ready; what is wrong with it is said in the item's result, too."""
        if is_null(wanted):
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
        size = self._places.allot(item, asked.QueueSize or self._limits.queue)
        item.resize(size, discard_oldest=bool(asked.DiscardOldest))

    # --- modify (§5.13.3) ----------------------------------------------------------------------------

    def modify(self, caller: Caller, params: ModifyParameters) -> Any:
        """ModifyMonitoredItems."""
        return begin(self._modify_all(caller, params))

    def _modify_all(self, caller: Caller, params: ModifyParameters) -> Generator[None, None, Any]:
        results: list[Any] = []
        for part in _slices(params.ItemsToModify, each=MOVE_WORK):
            if results:
                yield
            subscription = self._find(caller, params.SubscriptionId)
            timestamps = _timestamps(params.TimestampsToReturn)
            results += [self._modify(subscription, wanted, timestamps) for wanted in part]
            self._columns.settle(subscription)
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
                if not is_null(asked.Filter):  # none: the one it has stays, an event item needs one
                    item.selection = self._compile(asked.Filter, result)
                self._set_event(item, asked)
            elif isinstance(item, TagItem):
                if not self._columns.modify(subscription, item, asked, timestamps):
                    item = self.data.instead_of(subscription, item)
                    self.data.modify(item, asked, timestamps)
                result.RevisedSamplingInterval = item.sampling_ms
            elif isinstance(item, DataItem):
                self.data.modify(item, asked, timestamps)
                result.RevisedSamplingInterval = item.sampling_ms
        except ua.UaStatusCodeError as exc:
            result.StatusCode = ua.StatusCode(exc.code)
            return result
        if item is None:
            result.StatusCode = _good_or_no_item(found=False)
        else:
            result.RevisedQueueSize = item.queue_size
        return result

    # --- the others ----------------------------------------------------------------------------------

    def delete(self, caller: Caller, params: ua.DeleteMonitoredItemsParameters) -> Any:
        """DeleteMonitoredItems (§5.13.6)."""
        return begin(self._delete_all(caller, params))

    def _delete_all(
        self, caller: Caller, params: ua.DeleteMonitoredItemsParameters
    ) -> Generator[None, None, Any]:
        results = []
        for start in range(0, len(params.MonitoredItemIds), SLICE):
            if start:
                yield
            subscription = self._find(caller, params.SubscriptionId)
            results += [
                _good_or_no_item(found=self._drop(subscription, number))
                for number in params.MonitoredItemIds[start : start + SLICE]
            ]
        return (yield from answer(ua.DeleteMonitoredItemsResponse(), results, self._limits.response_bytes))

    def _drop(self, subscription: Subscription, number: int) -> bool:
        item = subscription.items.pop(number, None)
        if item is None:
            return False
        item.close()
        self._places.give(item.holder, item.places)
        self.data.give_back(item)
        self.count -= 1
        self._owned.give(item.holder, 1)
        return True

    def drop_all(self, subscription: Subscription) -> None:
        """End every item of a subscription: those that are columns all at once."""
        columns = [item for item in subscription.items.values() if isinstance(item, TagItem)]
        for group in tuple(subscription.groups.values()):
            group.end()
        for holder, items in groupby(columns, key=lambda item: item.holder):
            places = [item.places for item in items]
            self._places.give(holder, sum(places))
            self._owned.give(holder, len(places))
        self.count -= len(columns)
        for item in columns:
            del subscription.items[item.number]
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
                if isinstance(item, TagItem) and mode is ua.MonitoringMode.Sampling:
                    item = self.data.instead_of(subscription, item)
                if item is not None:
                    item.set_mode(mode)
                results.append(_good_or_no_item(found=item is not None))
            self._columns.settle(subscription)
        return (yield from answer(ua.SetMonitoringModeResponse(), results, self._limits.response_bytes))

    @staticmethod
    def resend(items: Iterable[Item]) -> None:
        """Queue the present values of items that have nothing newer (ResendData, SendInitialValues)."""
        columns: dict[ColumnGroup, list[int]] = {}
        for item in items:
            if isinstance(item, TagItem):
                columns.setdefault(item.group, []).append(item.place)
            elif isinstance(item, DataItem):
                item.resend()
        for group, places in columns.items():
            group.resend(places)

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
        """Return an item that can have links: a column has none."""
        found = subscription.items.get(number)
        if isinstance(found, TagItem):
            return self.data.instead_of(subscription, found)
        return found if isinstance(found, QueuedItem) else None

    # --- events --------------------------------------------------------------------------------------

    def deliver(self, events: Sequence[Any], notifiers: Sequence[ua.NodeId]) -> None:
        """Hand events that are alike, in their order, to every item on one of these nodes, to each once."""
        listeners = self.audience.of(notifiers)
        if not listeners:
            return
        shared = EncodedEvents(events)
        allowed: dict[Any, bool] = {}
        for item in listeners:
            roles = item.subscription.owner.roles
            may = allowed.get(roles)
            if may is None:
                may = allowed[roles] = self._receivers.may(roles, events[0])
            if may:
                item.offer(shared, self.overflow_event)

    def may_receive(self, subscription: Subscription, event: Any) -> bool:
        """Whether the owner of a subscription may get an event (Part 3 §8.55)."""
        return self._receivers.may(subscription.owner.roles, event)

    def overflow_event(self) -> EncodedEvents:
        """Return the event that tells of lost ones (Part 4 §7.22.3)."""
        event = EventQueueOverflowEvent()
        event.EventId = secrets.token_bytes(16)
        event.SourceNode = SERVER
        event.SourceName = "Server"
        event.Time = event.ReceiveTime = utc(self._clock.utc_ns())
        event.Message = ua.LocalizedText("events were lost: the queue of this item is too short")
        event.Severity = _OVERFLOW_SEVERITY
        return EncodedEvents((event,))


def _tell(result: ua.MonitoredItemCreateResult, made: Item | int) -> None:
    """Say what became of a request for an item."""
    if isinstance(made, int):
        result.StatusCode = ua.StatusCode(made)
        return
    result.MonitoredItemId = made.number
    result.RevisedSamplingInterval = made.sampling_ms
    result.RevisedQueueSize = made.queue_size


def _slices(requests: Sequence[Any], *, each: int = 1) -> Iterator[list[Any]]:
    """Cut requests for items into parts of about equal work: a filter is as much as it has clauses."""
    part: list[Any] = []
    work = 0
    for request in requests:
        wanted = request.RequestedParameters.Filter
        if isinstance(wanted, EventFilter):
            elements = wanted.WhereClause.Elements if wanted.WhereClause is not None else ()
            work += (len(wanted.SelectClauses or ()) + len(elements or ())) // CLAUSES_PER_ITEM
        work += each
        part.append(request)
        if work >= SLICE:
            yield part
            part, work = [], 0
    if part:
        yield part


def _numbers() -> Iterator[int]:
    while True:
        yield from range(1, 0x7FFF_FFFF)


def _timestamps(wanted: int) -> ua.TimestampsToReturn:
    if not ua.TimestampsToReturn.Source <= wanted <= ua.TimestampsToReturn.Neither:
        raise ServiceError(ua.StatusCodes.BadTimestampsToReturnInvalid)
    return ua.TimestampsToReturn(wanted)


def _mode(wanted: int) -> ua.MonitoringMode:
    if not ua.MonitoringMode.Disabled <= wanted <= ua.MonitoringMode.Reporting:
        raise ua.UaStatusCodeError(ua.StatusCodes.BadMonitoringModeInvalid)
    return ua.MonitoringMode(wanted)


def _good_or_no_item(*, found: bool) -> ua.StatusCode:
    return ua.StatusCode(0 if found else ua.StatusCodes.BadMonitoredItemIdInvalid)
