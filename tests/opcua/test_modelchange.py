"""Nodes that come and go are told in one event, with a new NodeVersion where there is one (Part 3 §9.32)."""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData

from edge_opcua.opcua.standard.modelchange import (
    MAX_CHANGES,
    NODE_ADDED,
    REFERENCE_ADDED,
    ModelChanges,
)
from edge_opcua.testing import ManualClock

IDS = ua.ObjectIds
MODELS, VERSION = ua.NodeId("Models", 7), ua.NodeId("Models.NodeVersion", 7)
MODEL_TYPE = ua.NodeId(1002, 6)


def model(number: int) -> ua.NodeId:
    return ua.NodeId(f"Models.press.{number}", 7)


class World:
    """A folder with a NodeVersion, some models below it, and the events that were emitted."""

    def __init__(self) -> None:
        self.aspace = AddressSpace()
        self.events: list[Any] = []
        self.clock = ManualClock()
        self.changes = ModelChanges(self.aspace, self.emit, self.clock)
        for node in (MODELS, VERSION, *map(model, range(3))):
            self.aspace[node] = NodeData(node)
        self.aspace[VERSION].attributes[ua.AttributeIds.Value] = AttributeValue(
            ua.DataValue(ua.Variant("0", ua.VariantType.String))
        )
        self.refer(MODELS, IDS.HasProperty, VERSION, "NodeVersion")
        for number in range(3):
            self.refer(model(number), IDS.HasTypeDefinition, MODEL_TYPE, "ModelType")

    def refer(self, source: ua.NodeId, kind: int, target: ua.NodeId, name: str) -> None:
        ref = ua.ReferenceDescription(ReferenceTypeId=ua.NodeId(kind), IsForward=True, NodeId=target)
        ref.BrowseName = ua.QualifiedName(name, 0)
        self.aspace[source].references.append(ref)

    async def emit(self, event: Any) -> None:
        self.events.append(event)

    @property
    def version(self) -> Any:
        return self.aspace[VERSION].attributes[ua.AttributeIds.Value].value.Value.Value


async def test_everything_since_the_last_event_is_one_event_on_server() -> None:
    # Part 5 §6.4.32; SourceNode is Server where the whole address space is meant (§6.4.31).
    world = World()
    await world.changes.begin(MODELS)
    before = world.version
    assert before != "0"
    await world.clock.advance(1.0)
    world.changes.added(model(0), MODELS)
    world.changes.added(model(1), MODELS)
    await world.changes.tell()
    (event,) = world.events
    assert event.EventType == ua.NodeId(IDS.GeneralModelChangeEventType)
    assert (event.SourceNode, event.SourceName) == (ua.NodeId(IDS.Server), "Server")
    assert {(change.Affected.Identifier, change.Verb) for change in event.Changes} == {
        ("Models", REFERENCE_ADDED),
        ("Models.press.0", NODE_ADDED),
        ("Models.press.1", NODE_ADDED),
    }
    assert {change.AffectedType for change in event.Changes} == {ua.NodeId(), MODEL_TYPE}
    # §9.32.2: NodeVersion and event always go together.
    assert world.version != before
    await world.changes.tell()
    assert len(world.events) == 1


async def test_an_event_does_not_grow_without_end() -> None:
    world = World()
    for number in range(MAX_CHANGES + 10):
        world.changes.added(ua.NodeId(f"new {number}", 7), MODELS)
    await world.changes.tell()
    assert len(world.events[0].Changes) == MAX_CHANGES
