"""What ConditionRefresh repeats: conditions whose Retain is set, between two marks (Part 9 §5.5.7)."""

from __future__ import annotations

import asyncio
import copy
import secrets
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from asyncua import ua
from asyncua.common.event_objects import RefreshEndEvent, RefreshStartEvent
from asyncua.server.address_space import AddressSpace

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.services.event.encoded import EncodedEvents
from edge_opcua.opcua.services.service import caller
from edge_opcua.opcua.services.subscription.eventitems import EventItem
from edge_opcua.opcua.types import SERVER
from edge_opcua.opcua.values import utc

if TYPE_CHECKING:
    from edge_opcua.opcua.services.subscription.subscription import Subscription

__all__ = ["Conditions"]

REFRESH_SEVERITY: Final = 1
MAX_RETAINED: Final = 10_000
# Fields and conditions that are looked at before others have their turn; some milliseconds.
WORK_PER_SLICE: Final = 1000
_codes: Final = ua.StatusCodes
# What tells the branches of conditions apart; the ConditionId lies under NodeId.
_BRANCH: Final = ("NodeId", "SourceNode", "ConditionName", "BranchId")


class _Wait:
    """Exists as long as the mark that holds it."""


class Mark(bytes):
    """The fields of a RefreshEnd; as long as they exist they wait in a queue: the refresh is in progress.

    Bytes take no weak references, therefore ``wait``.
    """

    def __new__(cls, fields: bytes) -> Mark:
        """Mark the end."""
        made = super().__new__(cls, fields)
        made.wait = _Wait()
        return made

    wait: _Wait


class Conditions:
    """The retained conditions, and how one subscription gets them again.

    Args:
        aspace: The address space.
        find: Returns a subscription by its id, None if there is none.
        may: Whether the owner of a subscription may receive an event.
        overflow: Makes the event that tells a client of lost ones.
        clock: For the time of the marks.
    """

    def __init__(
        self,
        aspace: AddressSpace,
        find: Callable[[int], Subscription | None],
        may: Callable[[Subscription, Any], bool],
        overflow: Callable[[], EncodedEvents],
        clock: Clock,
    ) -> None:
        self._aspace = aspace
        self._find = find
        self._may = may
        self._overflow = overflow
        self._clock = clock
        self._retained: dict[tuple[Any, ...], tuple[Any, frozenset[ua.NodeId]]] = {}
        self._marks: weakref.WeakKeyDictionary[Subscription, list[weakref.ref[_Wait]]] = (
            weakref.WeakKeyDictionary()
        )

    def bind_methods(self) -> None:
        """Give ConditionRefresh and ConditionRefresh2 something to do, once the nodes are there."""
        ids = ua.ObjectIds
        self._aspace.add_method_callback(ua.NodeId(ids.ConditionType_ConditionRefresh), self._call)
        self._aspace.add_method_callback(ua.NodeId(ids.ConditionType_ConditionRefresh2), self._call)

    def note(self, events: Sequence[Any], notifiers: Iterable[ua.NodeId]) -> None:
        """Keep the last word of a condition as long as it is retained; other events are let by.

        Args:
            events: Events that are alike.
            notifiers: The nodes they are seen on.
        """
        if "Retain" not in events[0].data_types:
            return
        for event in events:
            branch = tuple(getattr(event, name, None) for name in _BRANCH)
            self._retained.pop(branch, None)
            if event.Retain and len(self._retained) < MAX_RETAINED:
                self._retained[branch] = (copy.deepcopy(event), frozenset(notifiers))

    def in_progress(self, subscription: Subscription) -> bool:
        """Whether a client has not yet been sent the end of its last refresh."""
        return any(mark() is not None for mark in self._marks.get(subscription, ()))

    async def refresh(self, subscription: Subscription, item: EventItem | None = None) -> None:
        """Send every retained condition again, to one event item or to all of a subscription.

        RefreshStart and RefreshEnd come whatever the where clause says; the conditions pass it or not.

        Args:
            subscription: Whose.
            item: Only this one.
        """
        items = [item] if item is not None else _event_items(subscription)
        start, end = self._mark(RefreshStartEvent()), self._mark(RefreshEndEvent())
        marks = self._marks[subscription] = []
        owner, work = subscription.session_id, 0
        for each in items:
            if each.mode == ua.MonitoringMode.Disabled or each.number not in subscription.items:
                continue
            each.enter(each.encoded(start), self._overflow)
            for event, notifiers in tuple(self._retained.values()):
                if each.node_id in notifiers and self._may(subscription, event):
                    each.offer(EncodedEvents((event,)), self._overflow)
            mark = Mark(*each.encoded(end))
            if each.mode == ua.MonitoringMode.Reporting:
                marks.append(weakref.ref(mark.wait))
            each.enter((mark,), self._overflow)
            work += len(each.selection) + len(self._retained)
            if work >= WORK_PER_SLICE:
                work = 0
                await asyncio.sleep(0)
                if subscription.session_id != owner:  # it is somebody else's now
                    return

    async def _call(
        self, _: ua.NodeId, number: ua.Variant, item: ua.Variant | None = None
    ) -> list[ua.Variant]:
        """Run the method.

        Raises:
            UaStatusCodeError: BadSubscriptionIdInvalid, BadUserAccessDenied (it is somebody else's),
                BadMonitoredItemIdInvalid, BadRefreshInProgress.
        """
        subscription = self._find(number.Value)
        if subscription is None:
            raise ua.UaStatusCodeError(_codes.BadSubscriptionIdInvalid)
        if subscription.session_id != caller().session_id:
            raise ua.UaStatusCodeError(_codes.BadUserAccessDenied)
        subscription.cycle.touch()
        only = None
        if item is not None:
            only = next((each for each in _event_items(subscription) if each.number == item.Value), None)
            if only is None:
                raise ua.UaStatusCodeError(_codes.BadMonitoredItemIdInvalid)
        if self.in_progress(subscription):
            raise ua.UaStatusCodeError(_codes.BadRefreshInProgress)
        await self.refresh(subscription, only)
        return []

    def _mark(self, event: Any) -> EncodedEvents:
        """Fill in the event that stands before or behind a refresh."""
        event.EventId = secrets.token_bytes(16)
        event.SourceNode = SERVER
        event.SourceName = "Server"
        event.Time = event.ReceiveTime = utc(self._clock.utc_ns())
        event.Severity = REFRESH_SEVERITY
        event.Message = ua.LocalizedText("refresh", "en")
        return EncodedEvents((event,))


def _event_items(subscription: Subscription) -> list[EventItem]:
    return [item for item in subscription.items.values() if isinstance(item, EventItem)]
