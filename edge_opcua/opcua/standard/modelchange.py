"""Nodes that come while clients look: one event on Server for all of them (Part 3 §9.32).

Nodes below which something changes at run time have a NodeVersion, and only those: it changes with every
event that names them, so that a client that kept what it browsed knows whether it is still true.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD
from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.slots import assign
from edge_opcua.opcua.types import SERVER
from edge_opcua.opcua.values import SharedDataValue, utc

__all__ = ["NODE_ADDED", "NODE_DELETED", "REFERENCE_ADDED", "REFERENCE_DELETED", "ModelChanges"]

# Part 5 §12.16: bits of the verb.
NODE_ADDED: Final = 1
NODE_DELETED: Final = 2
REFERENCE_ADDED: Final = 4
REFERENCE_DELETED: Final = 8
MODEL_CHANGE_SEVERITY: Final = 100
# More in one event would not help: a client browses again.
MAX_CHANGES: Final = 1000

_MODEL_CHANGE: Final = ua.NodeId(ua.ObjectIds.GeneralModelChangeEventType)
_TYPE_DEFINITION: Final = ua.NodeId(ua.ObjectIds.HasTypeDefinition)
_PROPERTY: Final = ua.NodeId(ua.ObjectIds.HasProperty)


class ModelChanges:
    """Collects what changes in the address space, and tells it.

    Args:
        aspace: The address space.
        emit: Delivers an event.
        clock: For the time of the event and for NodeVersion.
    """

    def __init__(
        self, aspace: AddressSpace, emit: Callable[[PlantEvent], Awaitable[None]], clock: Clock
    ) -> None:
        self._aspace = aspace
        self._emit = emit
        self._clock = clock
        self._verbs: dict[ua.NodeId, int] = {}
        self._types: dict[ua.NodeId, ua.NodeId] = {}

    async def begin(self, *nodes: ua.NodeId) -> None:
        """Give nodes their first NodeVersion: what was below them before a restart may be another thing."""
        for node in nodes:
            self._set_version(node, self._clock.utc_ns())

    def added(self, node: ua.NodeId, parent: ua.NodeId) -> None:
        """Note that there is a new node below another one."""
        self._note(node, NODE_ADDED)
        self._note(parent, REFERENCE_ADDED)

    def removed(self, node: ua.NodeId, parent: ua.NodeId) -> None:
        """Note that a node below another one is no longer there."""
        self._note(node, NODE_DELETED)
        self._note(parent, REFERENCE_DELETED)

    async def tell(self) -> None:
        """Send one event for everything since the last one, and give the nodes a new version."""
        verbs, self._verbs = self._verbs, {}
        types, self._types = self._types, {}
        if not verbs:
            return
        now_ns = self._clock.utc_ns()
        for node in verbs:
            self._set_version(node, now_ns)
        changes = [
            ua.ModelChangeStructureDataType(node, types.get(node, ua.NodeId()), verb)
            for node, verb in verbs.items()
        ]
        event = PlantEvent(
            _MODEL_CHANGE,
            (SERVER, "Server"),
            message=f"{len(changes)} nodes changed",
            severity=MODEL_CHANGE_SEVERITY,
            time=utc(now_ns),
        )
        event.add_property("Changes", changes[:MAX_CHANGES], ua.VariantType.ExtensionObject)
        await self._emit(event)

    def _note(self, node: ua.NodeId, verb: int) -> None:
        self._verbs[node] = self._verbs.get(node, 0) | verb
        kind = next(iter(self._targets(node, _TYPE_DEFINITION)), None)
        if kind is not None:
            self._types[node] = kind.NodeId

    def _set_version(self, node: ua.NodeId, now_ns: int) -> None:
        slot = self._version(node)
        if slot is not None:
            now = utc(now_ns)
            version = ua.Variant(str(now_ns), ua.VariantType.String)
            assign(slot, SharedDataValue(version, ua.StatusCode(ua.UInt32(GOOD)), now, now))

    def _version(self, node: ua.NodeId) -> AttributeValue | None:
        for ref in self._targets(node, _PROPERTY):
            if ref.BrowseName == ua.QualifiedName("NodeVersion", 0):
                return self._aspace[ref.NodeId].attributes[ua.AttributeIds.Value]
        return None

    def _targets(self, node: ua.NodeId, reference: ua.NodeId) -> list[Any]:
        data = self._aspace.get(node)
        references = data.references if data is not None else ()
        return [ref for ref in references if ref.IsForward and ref.ReferenceTypeId == reference]
