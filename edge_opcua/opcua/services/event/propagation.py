"""Where an event is seen: on its node, the notifiers above it and always on Server (Part 3 §7.16, §7.17)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import NodeData

from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.types import SERVER, is_long, is_subtype

__all__ = ["Notifiers"]

_EVENT_SOURCE: Final = ua.NodeId(ua.ObjectIds.HasEventSource)
MAX_NOTIFIERS: Final = 1000
_MAX_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was found above a node.

    Args:
        above: The node, and every notifier above it.
        changes: How often nodes of the address space had changed.
        seen: The nodes that were looked at, and how many references each had.
    """

    above: tuple[ua.NodeId, ...]
    changes: int
    seen: tuple[tuple[NodeData, int], ...]

    def is_true(self, changes: int) -> bool:
        """Whether nothing has changed since."""
        if changes != self.changes:
            return False
        for data, count in self.seen:  # noqa: SIM110 - asked for every event; a generator takes three times as long
            if len(data.references) != count:
                return False
        return True


class Notifiers:
    """Knows the notifiers above each node; looks again when a node on the way has other references.

    Args:
        aspace: The address space.
    """

    def __init__(self, aspace: Nodes) -> None:
        self._aspace = aspace
        # By the parts of the NodeId, which are hashed faster than it is.
        self._above: dict[tuple[int, Any], _Kept] = {}

    def above(self, node: ua.NodeId) -> tuple[ua.NodeId, ...]:
        """Return a node and every node above it through HasNotifier or HasEventSource, and Server.

        The same tuple as before as long as nothing changes.
        """
        kept = self._above.get((node.NamespaceIndex, node.Identifier))
        if kept is None or not kept.is_true(self._aspace.changes):
            kept = self._look(node)
        return kept.above

    def forget(self) -> None:
        """Look again everywhere: references were replaced."""
        self._above.clear()

    def _look(self, node: ua.NodeId) -> _Kept:
        if len(self._above) >= _MAX_KEPT:
            self.forget()
        found = self._climb(node)
        seen = [data for each in found if (data := self._aspace.get(each)) is not None]
        made = _Kept(
            tuple(found),
            self._aspace.changes,
            tuple((data, len(data.references)) for data in seen),
        )
        if not is_long(node):
            self._above[node.NamespaceIndex, node.Identifier] = made
        return made

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
