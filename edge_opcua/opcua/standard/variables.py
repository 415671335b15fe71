"""Variables of the standard address space: told once, or made at the moment somebody reads them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, NodeData

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.values import SharedDataValue, utc

__all__ = ["Variables", "remove"]

# Part 6 §5.2.2.5: it is encoded as 0, which says that there is no time.
_READ: Final = ua.DataValue(ua.Variant(ua.AccessLevel.CurrentRead.mask, ua.VariantType.Byte))
_NO_TIME: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)


class Variables:
    """Gives variables of namespace 0 their values.

    Args:
        aspace: The address space.
        polled: Nodes that a subscription has to read, since nobody tells when they change.
        clock: Stamps the values.
    """

    def __init__(self, aspace: AddressSpace, polled: set[ua.NodeId], clock: Clock) -> None:
        self._aspace = aspace
        self._polled = polled
        self._clock = clock

    def __contains__(self, identifier: object) -> bool:
        """Whether there is a node with this identifier in namespace 0."""
        return ua.NodeId(identifier) in self._aspace

    def show(self, identifier: int | ua.NodeId, value: Any, kind: ua.VariantType) -> None:
        """Give a variable a value that stays; a plain number is a node of namespace 0."""
        node = identifier if isinstance(identifier, ua.NodeId) else ua.NodeId(identifier)
        self._read_only(node)
        self._aspace[node].attributes[ua.AttributeIds.Value].value = self._made(value, kind)

    def live(self, identifier: int, kind: ua.VariantType, make: Callable[[], Any]) -> ua.NodeId:
        """Give a variable a value that is made for each reader.

        Args:
            identifier: Numeric identifier in namespace 0.
            kind: Built-in type.
            make: Returns the value; must be quick and never fail.

        Returns:
            The NodeId, for permissions.
        """
        node = ua.NodeId(identifier)
        self._read_only(node)
        slot = self._aspace[node].attributes[ua.AttributeIds.Value]
        slot.value_callback = lambda _node, _attribute: self._made(make(), kind)
        slot.value_setter = _ignore  # asyncua writes some of them by itself, which would end the call-back
        self._polled.add(node)
        return node

    def _read_only(self, node: ua.NodeId) -> None:
        """Let nobody write what is shown: nobody would look at it (Part 3 §5.6.2 AccessLevel)."""
        for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
            self._aspace[node].attributes[attribute].value = _READ

    def _made(self, value: Any, kind: ua.VariantType) -> SharedDataValue:
        now = utc(self._clock.utc_ns())
        if value is None and kind == ua.VariantType.DateTime:
            value = _NO_TIME
        variant = ua.Variant(value, kind, is_array=isinstance(value, list))
        return SharedDataValue(variant, ua.StatusCode(), now, now)


def remove(aspace: AddressSpace, identifiers: Iterable[int]) -> None:
    """Take nodes of namespace 0 away with all that is below them, and every reference to them.

    What a server does not do shall not be browsed there: a client would try it.
    """
    gone: set[ua.NodeId] = set()
    todo = [node for node in map(ua.NodeId, identifiers) if node in aspace]
    while todo:
        node = todo.pop()
        gone.add(node)
        todo += [
            ref.NodeId
            for ref in aspace[node].references
            if ref.IsForward
            and ref.ReferenceTypeId in _OWNS
            and ref.NodeId in aspace
            and ref.NodeId not in gone
        ]
    for node in gone:
        del aspace[node]
    for node in list(aspace.keys()):
        references = aspace[node].references
        if any(ref.NodeId in gone for ref in references):
            references[:] = [ref for ref in references if ref.NodeId not in gone]


_OWNS = frozenset({ua.NodeId(ua.ObjectIds.HasComponent), ua.NodeId(ua.ObjectIds.HasProperty)})


def _ignore(node: NodeData, attribute: ua.AttributeIds, value: ua.DataValue) -> None:
    """Keep a value that only this server makes."""
