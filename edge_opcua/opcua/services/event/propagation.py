"""Where an event is seen: on its node, the notifiers above it and always on Server (Part 3 §7.16, §7.17)."""

from __future__ import annotations

from typing import Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace

from edge_opcua.opcua.types import SERVER, is_subtype

__all__ = ["Notifiers"]

_EVENT_SOURCE: Final = ua.NodeId(ua.ObjectIds.HasEventSource)
MAX_NOTIFIERS: Final = 1000
_MAX_KEPT: Final = 10_000

# The nodes that were looked at, and how many references each had then.
_Seen = tuple[tuple[ua.NodeId, int], ...]


class Notifiers:
    """Knows the notifiers above each node; looks again when a node on the way has other references.

    Args:
        aspace: The address space.
    """

    def __init__(self, aspace: AddressSpace) -> None:
        self._aspace = aspace
        self._above: dict[ua.NodeId, tuple[tuple[ua.NodeId, ...], _Seen]] = {}

    def above(self, node: ua.NodeId) -> tuple[ua.NodeId, ...]:
        """Return a node and every node above it through HasNotifier or HasEventSource, and Server."""
        kept = self._above.get(node)
        if kept is not None and all(self._count(each) == count for each, count in kept[1]):
            return kept[0]
        if len(self._above) >= _MAX_KEPT:
            self._above.clear()
        found = self._climb(node)
        self._above[node] = (tuple(found), tuple((each, self._count(each)) for each in found))
        return self._above[node][0]

    def forget(self) -> None:
        """Look again everywhere: references were replaced."""
        self._above.clear()

    def _climb(self, node: ua.NodeId) -> dict[ua.NodeId, None]:
        found: dict[ua.NodeId, None] = {}
        todo = [node]
        while todo and len(found) < MAX_NOTIFIERS:
            here = todo.pop()
            if here in found:
                continue
            found[here] = None
            data = self._aspace.get(here)
            todo += [
                ref.NodeId
                for ref in (data.references if data is not None else ())
                # HasNotifier is a subtype of HasEventSource.
                if not ref.IsForward and is_subtype(self._aspace, ref.ReferenceTypeId, _EVENT_SOURCE)
            ]
        found[SERVER] = None
        return found

    def _count(self, node: ua.NodeId) -> int:
        data = self._aspace.get(node)
        return -1 if data is None else len(data.references)
