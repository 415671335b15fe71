"""Subscriptions whose events travel to every notifier, with filters that know subtypes."""

from __future__ import annotations

import copy
import math
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from asyncua import ua
from asyncua.common.events import Event
from asyncua.server.monitored_item_service import MonitoredItemService, WhereClauseEvaluator
from asyncua.server.subscription_service import SubscriptionService

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.types import is_subtype, notifiers_above

DEFAULT_PUBLISHING_MS: Final = 1000.0


class Subscriptions(SubscriptionService):
    """All subscriptions of the server.

    Args:
        aspace: The address space.
        iserver: The server core.
        limits: Bounds of the publishing interval.
    """

    def __init__(self, aspace: Any, iserver: Any, limits: ServerLimits) -> None:
        super().__init__(aspace, iserver)
        self._limits = limits
        # open62541 #5687: a client that re-uses its old id after our restart would take somebody else's.
        self._sub_id_counter = secrets.randbelow(1 << 30)

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Callable[..., Any],
        session_id: ua.NodeId,
        request_callback: Callable[..., Any] | None = None,
    ) -> ua.CreateSubscriptionResult:
        """Create a subscription with an interval in bounds and items of our own (Part 4 §5.14.2)."""
        params.RequestedPublishingInterval = self._interval_ms(params.RequestedPublishingInterval)
        # Part 4 §5.14.2: the lifetime is at least three times the keep-alive.
        keep_alive = self._clamp_keep_alive_count(params.RequestedMaxKeepAliveCount)
        keep_alive = min(keep_alive, self.iserver.max_lifetime_count // 3)
        params.RequestedMaxKeepAliveCount = keep_alive
        lifetime = self._clamp_lifetime_count(params.RequestedLifetimeCount)
        params.RequestedLifetimeCount = max(lifetime, 3 * keep_alive)
        result = await super().create_subscription(params, callback, session_id, request_callback)
        created = self.subscriptions[result.SubscriptionId]
        created.monitored_item_srv = Items(created, self.aspace)
        return result

    def _interval_ms(self, requested: float) -> float:
        if not math.isfinite(requested):
            requested = DEFAULT_PUBLISHING_MS
        return min(max(requested, self._limits.min_publishing_ms), self._limits.max_publishing_ms)

    async def trigger_event(self, event: Any, subscription_id: int | None = None) -> None:
        """Deliver an event to its emitting node and every notifier above it (Part 3 §7.17)."""
        if subscription_id is not None:
            await super().trigger_event(event, subscription_id)
            return
        if hasattr(event, "Retain") and hasattr(event, "NodeId"):
            # What a ConditionRefresh repeats.
            if event.Retain:
                self._conditions[event.NodeId] = event
            else:
                self._conditions.pop(event.NodeId, None)
        await self.deliver(event, notifiers_above(self.aspace, event.emitting_node))

    async def deliver(self, event: Any, notifiers: Collection[ua.NodeId]) -> None:
        """Hand an event to every item on one of these nodes, to each once."""
        fields = _fields(event)
        for found in list(self.subscriptions.values()):
            if isinstance(found.monitored_item_srv, Items):
                await found.monitored_item_srv.deliver(event, fields, notifiers)


class Items(MonitoredItemService):
    """Monitored items of one subscription."""

    async def deliver(
        self, event: Any, fields: Mapping[str, ua.Variant], notifiers: Collection[ua.NodeId]
    ) -> None:
        """Queue an event for each event item on one of the nodes whose filter lets it pass."""
        for mid in [mid for node in dict.fromkeys(notifiers) for mid in self._monitored_events.get(node, ())]:
            item = self._monitored_items.get(mid)
            if item is None or item.mode == ua.MonitoringMode.Disabled:
                continue
            if item.where_clause_evaluator is None or not item.where_clause_evaluator.eval(event):
                continue
            chosen = ua.EventFieldList()
            chosen.ClientHandle = item.client_handle
            chosen.EventFields = [fields.get(_path(c), ua.Variant()) for c in item.filter.SelectClauses]
            await self.isub.enqueue_event(mid, chosen, item.queue_size)

    async def trigger_event(self, event: Any, mid: int | None = None) -> bool:
        """Deliver to one item, or to all on the emitting node and above (ConditionRefresh uses it)."""
        notifiers = notifiers_above(self.aspace, event.emitting_node)
        if mid is None:
            await self.deliver(event, _fields(event), notifiers)
            return True
        for node in notifiers:
            if mid in self._monitored_events.get(node, ()):
                await self._trigger_event(event, mid)
                return True
        return False

    def _create_events_monitored_item(
        self, params: ua.MonitoredItemCreateRequest
    ) -> ua.MonitoredItemCreateResult:
        """Create an event item with our evaluator; without an EventFilter there is nothing to send."""
        wanted = params.RequestedParameters.Filter
        if not isinstance(wanted, ua.EventFilter) or not wanted.SelectClauses:
            refused = ua.MonitoredItemCreateResult()
            refused.StatusCode = ua.StatusCode(ua.StatusCodes.BadEventFilterInvalid)
            return refused
        result = super()._create_events_monitored_item(params)
        if result.StatusCode.is_good():
            item = self._monitored_items[result.MonitoredItemId]
            item.where_clause_evaluator = Where(self.logger, self.aspace, wanted.WhereClause)
        return result

    def _modify_monitored_item(self, params: ua.MonitoredItemModifyRequest) -> ua.MonitoredItemModifyResult:
        """Modify an item; asyncua fails the whole call for one unknown id and forgets the where clause."""
        item = self._monitored_items.get(params.MonitoredItemId)
        if item is None:
            unknown = ua.MonitoredItemModifyResult()
            unknown.StatusCode = ua.StatusCode(ua.StatusCodes.BadMonitoredItemIdInvalid)
            return unknown
        wanted = params.RequestedParameters
        is_event = item.where_clause_evaluator is not None
        if is_event and wanted.Filter is not None and not isinstance(wanted.Filter, ua.EventFilter):
            refused = ua.MonitoredItemModifyResult()
            refused.StatusCode = ua.StatusCode(ua.StatusCodes.BadEventFilterInvalid)
            return refused
        wanted.QueueSize = self._revise_queue_size(wanted.QueueSize)
        result = super()._modify_monitored_item(params)
        if is_event and wanted.Filter is not None:
            item.where_clause_evaluator = Where(self.logger, self.aspace, wanted.Filter.WhereClause)
        result.RevisedSamplingInterval = self.isub.data.RevisedPublishingInterval
        return result


class Where(WhereClauseEvaluator):
    """A where clause that knows subtypes, Like, and fields that an event does not have."""

    def eval(self, event: Any) -> bool:
        """Whether the event passes; Part 4 §7.7.3: what cannot be compared is not true."""
        if not self.elements:
            return True
        try:
            return bool(self._eval_el(0, event))
        except Exception:  # noqa: BLE001 - boundary: a client's filter can ask for any nonsense
            return False

    def _eval_el(self, index: int, event: Any) -> Any:
        element = self.elements[index]
        if element.FilterOperator == ua.FilterOperator.OfType:
            return is_subtype(self._aspace, event.EventType, self._eval_op(element.FilterOperands[0], event))
        return super()._eval_el(index, event)

    def _eval_op(self, op: Any, event: Any) -> Any:
        if isinstance(op, ua.SimpleAttributeOperand) and op.BrowsePath:
            name = _path(op)
            return getattr(event, name) if name in event.data_types else None
        return super()._eval_op(op, event)

    def _like_operator(self, string: str, pattern: str) -> bool:
        return re.fullmatch(_like(pattern), string, re.DOTALL) is not None


def _like(pattern: str) -> str:
    r"""Turn an OPC UA Like pattern (Part 4 §7.7.3: ``%``, ``_``, ``[]``, ``[^]``, ``\``) into a regex."""
    out, letters = [], iter(pattern)
    for letter in letters:
        if letter == "\\":
            out.append(re.escape(next(letters, "\\")))
        elif letter == "%":
            out.append(".*")
        elif letter == "_":
            out.append(".")
        elif letter == "[":
            inside = ""
            for found in letters:
                if found == "]":
                    break
                inside += found
            negated = inside.startswith("^")
            allowed = re.escape(inside[negated:]).replace(r"\-", "-")
            out.append(f"[{'^' if negated else ''}{allowed}]")
        else:
            out.append(re.escape(letter))
    return "".join(out)


def _path(clause: Any) -> str:
    """Return the name under which an event keeps a field: ``Severity``, ``Result/ResultId``."""
    if not clause.BrowsePath:
        # Part 9 §5.5.2: no path and attribute NodeId selects the ConditionId.
        return "NodeId" if clause.AttributeId == ua.AttributeIds.NodeId else ""
    return str(Event.browse_path_to_attribute_name(clause.BrowsePath))


def _fields(event: Any) -> dict[str, ua.Variant]:
    """Return a copy of what the event says: it is encoded later, when the event may say something else."""
    found = {}
    for name, kind in event.data_types.items():
        value = getattr(event, name, None)
        if value is None:
            found[name] = ua.Variant()
        elif isinstance(kind, ua.VariantType):
            found[name] = ua.Variant(copy.deepcopy(value), kind)
        else:
            found[name] = ua.Variant(copy.deepcopy(value))
    return found
