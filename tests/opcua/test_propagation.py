"""Events climb along HasNotifier and HasEventSource, and always to Server (Part 3 §7.16, §7.17)."""

from __future__ import annotations

from asyncua import ua
from asyncua.server.address_space import NodeData

from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.services.event.propagation import Notifiers

IDS = ua.ObjectIds
SERVER = ua.NodeId(IDS.Server)


def refer(space: Nodes, below: ua.NodeId, kind: int, above: ua.NodeId) -> None:
    """Add the inverse reference that leads up."""
    if below not in space:
        space[below] = NodeData(below)
    ref = ua.ReferenceDescription(ReferenceTypeId=ua.NodeId(kind), IsForward=False, NodeId=above)
    space[below].references.append(ref)


def node(name: str) -> ua.NodeId:
    return ua.NodeId(name, 2)


def plant() -> Nodes:
    """Server - Line - Cell - Press (HasEventSource) - its sensor (component only)."""
    space = Nodes()
    refer(space, ua.NodeId(IDS.HasNotifier), IDS.HasSubtype, ua.NodeId(IDS.HasEventSource))
    refer(space, node("Line"), IDS.HasNotifier, SERVER)
    refer(space, node("Cell"), IDS.HasNotifier, node("Line"))
    refer(space, node("Press"), IDS.HasEventSource, node("Cell"))
    refer(space, node("Sensor"), IDS.HasComponent, node("Press"))
    return space


def test_an_event_is_seen_on_every_notifier_above_and_on_server_once() -> None:
    notifiers = Notifiers(plant())
    above = notifiers.above(node("Press"))
    assert set(above) == {node("Press"), node("Cell"), node("Line"), SERVER}
    assert len(above) == 4
    assert notifiers.above(node("Press")) is above  # kept


# asyncua (its issue 105) delivers to the emitting node only.
def test_every_event_is_seen_on_server_whatever_emits_it() -> None:
    assert set(Notifiers(plant()).above(node("Sensor"))) == {node("Sensor"), SERVER}
    assert set(Notifiers(plant()).above(node("unknown"))) == {node("unknown"), SERVER}
    assert Notifiers(plant()).above(SERVER) == (SERVER,)


def test_a_new_or_a_lost_reference_is_noticed_anywhere_on_the_way() -> None:
    space = plant()
    notifiers = Notifiers(space)
    notifiers.above(node("Press"))
    refer(space, node("Cell"), IDS.HasNotifier, node("Hall"))
    assert node("Hall") in notifiers.above(node("Press"))
    space[node("Cell")].references.pop()
    assert node("Hall") not in notifiers.above(node("Press"))
    refer(space, node("Hall"), IDS.HasNotifier, node("Site"))
    refer(space, node("Line"), IDS.HasNotifier, node("Hall"))
    assert node("Site") in notifiers.above(node("Press"))


def test_what_was_replaced_one_for_one_is_noticed_after_forget() -> None:
    space = plant()
    notifiers = Notifiers(space)
    notifiers.above(node("Press"))
    space[node("Press")].references.clear()
    refer(space, node("Press"), IDS.HasEventSource, node("Line"))
    notifiers.forget()
    assert node("Cell") not in notifiers.above(node("Press"))


def test_references_in_a_circle_are_walked_once() -> None:
    space = plant()
    refer(space, node("Line"), IDS.HasNotifier, node("Press"))
    above = Notifiers(space).above(node("Cell"))
    assert sorted(str(each.Identifier) for each in above) == ["2253", "Cell", "Line", "Press"]


def test_nothing_is_kept_of_nodes_that_anybody_can_make_up() -> None:
    # A write to an unknown node is told with that node as its source: a megabyte each, if somebody likes.
    notifiers = Notifiers(plant())
    for i in range(5):
        made_up = ua.NodeId(f"{i}" * 2000, 2)
        assert set(notifiers.above(made_up)) == {made_up, SERVER}
    assert not notifiers._above
    notifiers.above(node("Press"))
    assert len(notifiers._above) == 1
