"""Event filters (Part 4 §7.22.3): which events an item wants, which fields of them, and who may have them."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.event.encoded import EncodedEvents, Key, Plan, plan
from edge_opcua.opcua.services.event.eventtypes import EventTypes
from edge_opcua.opcua.services.event.fields import NULL_FIELD, Fields, Names, read_field
from edge_opcua.opcua.services.event.where import Where, compile_where
from edge_opcua.opcua.services.variants import NULL
from edge_opcua.opcua.types import is_long
from edge_opcua.security.roles import Role

__all__ = ["Compiled", "Receivers", "Selection", "compile_filter", "may_receive"]

_codes: Final = ua.StatusCodes
_KNOWN: Final = 1000  # answers of who may get what that are kept
# What odd values in an event can make an operator raise.
_ODD: Final = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError)

_log = structlog.get_logger(__name__)


class Selection:
    """A filter made ready: evaluating an event costs microseconds and never raises.

    Args:
        fields: The fields that the clauses name.
        select: Number of the field of each select clause, None for one that no event has.
        where: Which events pass.

    Attributes:
        every: Whether every event passes.
    """

    def __init__(self, fields: Fields, select: Sequence[int | None], where: Where) -> None:
        self._fields = fields
        self._select = tuple(select)
        self._where = where
        self.every = not where
        self._plans: dict[tuple[int, Any], Plan] = {}
        self._last_type: ua.NodeId | None = None
        self._last_plan = plan(())

    def __len__(self) -> int:
        """Return how many fields are selected."""
        return len(self._select)

    def matches(self, event: Any) -> bool:
        """Whether an event passes the where clause; what cannot be decided does not (§7.7.3).

        Args:
            event: asyncua's event object: ``EventType``, its fields, and their types in ``data_types``.
        """
        try:
            return self._where.passes(event, self._fields.names(event.EventType))
        except _ODD as exc:
            _log.debug("filter.failed", event_type=event.EventType.to_string(), error=repr(exc))
            return False

    def encoded(self, events: EncodedEvents) -> list[bytes]:
        """Return the wanted fields of each event as they are sent: EventFieldLists without their handle.

        Raises:
            Exception: Whatever the codec raises at a value that is not of its type.
        """
        event_type = events.events[0].EventType
        if event_type is not self._last_type:  # most events are of the type of the one before
            self._last_plan = self._plan(event_type)
            self._last_type = event_type
        return events.rows(self._last_plan)

    def nulls(self) -> bytes:
        """Return as many null fields as are wanted, instead of those of an event that cannot be encoded."""
        return plan(("",) * len(self._select)).head + NULL * len(self._select)

    def _plan(self, event_type: ua.NodeId) -> Plan:
        """Return what is put together of events of a type; worked out once."""
        kind = (event_type.NamespaceIndex, event_type.Identifier)  # hashed faster than a NodeId
        found = self._plans.get(kind)
        if found is None:
            names = self._fields.names(event_type)
            found = self._plans[kind] = plan(tuple(self._key(names, number) for number in self._select))
        return found

    def _key(self, names: Names, number: int | None) -> Key:
        name = None if number is None else names[number]
        if number is None or name is None:
            return ""
        part = self._fields.part(number)
        return name if part is None else (name, part)

    def fields(self, event: Any, taken: MutableMapping[str, ua.Variant] | None = None) -> list[ua.Variant]:
        """Return copies of the wanted fields: what :meth:`encoded` encodes, as values.

        Args:
            event: The event.
            taken: Copies of this event's fields, shared by all items that get it now; starts empty.
        """
        names = self._fields.names(event.EventType)
        copies = {} if taken is None else taken
        variant = self._fields.variant
        return [
            NULL_FIELD if number is None else variant(event, names, number, copies) for number in self._select
        ]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of a client's filter.

    Args:
        result: Says of each clause what is wrong with it; the FilterResult of the item.
        status: 0, or why there can be no such item (BadEventFilterInvalid).
        selection: What to evaluate; None if ``status`` is bad.
    """

    result: ua.EventFilterResult
    status: int
    selection: Selection | None


def compile_filter(
    aspace: AddressSpace,
    wanted: ua.EventFilter,
    *,
    types: EventTypes | None = None,
    limits: ServerLimits | None = None,
) -> Compiled:
    """Look at a filter once, when its item is made or modified (Part 4 §7.22.3).

    One bad select clause is null in every event; none that is good, or a where clause that is not valid,
    refuses the filter.

    Args:
        aspace: The address space.
        wanted: What the client sent.
        types: The event types of the address space, kept from call to call (5 ms are saved).
        limits: Most clauses and operands.
    """
    bounds = limits or ServerLimits()
    known = types or EventTypes(aspace)
    result = ua.EventFilterResult()
    clauses = list(wanted.SelectClauses or [])
    if not 0 < len(clauses) <= bounds.select_clauses:
        return Compiled(result, int(_codes.BadEventFilterInvalid), None)
    fields = Fields(known)
    select: list[int | None] = []
    for clause in clauses:
        number, code = _selected(known, fields, clause)
        select.append(number)
        result.SelectClauseResults.append(ua.StatusCode(ua.UInt32(code)))
    result.WhereClauseResult, where = compile_where(wanted.WhereClause, known, fields, bounds.where_operands)
    if where is None or all(number is None for number in select):
        return Compiled(result, int(_codes.BadEventFilterInvalid), None)
    return Compiled(result, 0, Selection(fields, select, where))


def _selected(types: EventTypes, fields: Fields, clause: ua.SimpleAttributeOperand) -> tuple[int | None, int]:
    try:
        return fields.add(read_field(types, clause)), 0
    except ServiceError as exc:
        return None, int(exc.code)


class Receivers:
    """Who may get which events; answers are kept until permissions or nodes change.

    Args:
        access: Who may do what.
        aspace: The address space.
    """

    def __init__(self, access: Access, aspace: Nodes) -> None:
        self._access = access
        self._aspace = aspace
        self._state = (-1, -1)
        # By the parts of the NodeIds of type and source, which are hashed faster than NodeIds.
        self._kept: dict[tuple[int, Any, int, Any, frozenset[Role]], bool] = {}

    def may(self, roles: frozenset[Role], event: Any) -> bool:
        """Whether a user with these roles may get an event; see :func:`may_receive`."""
        state = (self._access.changes, self._aspace.changes)
        if state != self._state or len(self._kept) >= _KNOWN:
            self._kept.clear()
            self._state = state
        kind, source = event.EventType, event.SourceNode
        if source is None or is_long(source):
            return may_receive(self._access, roles, event, self._aspace)
        key = (kind.NamespaceIndex, kind.Identifier, source.NamespaceIndex, source.Identifier, roles)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = may_receive(self._access, roles, event, self._aspace)
        return kept


def may_receive(access: Access, roles: frozenset[Role], event: Any, aspace: Nodes) -> bool:
    """Whether a user may get an event: ReceiveEvents on its type and on its source (Part 3 §8.55).

    Args:
        access: Who may do what.
        roles: What the user is.
        event: The event.
        aspace: A source that is no node here needs no permission.
    """
    receive = Permission.ReceiveEvents
    if not access.may(roles, receive, event.EventType):
        return False
    source = event.SourceNode
    return source is None or not aspace.knows(source) or access.may(roles, receive, source)
