"""What a client gets of events: wherever it subscribes each once, what its filter is told, and a refresh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.events import get_event_obj_from_type_node

from edge_opcua.opcua.access import Kind
from tests.opcua.secure_peers import OTHER, Plant, make_notifier, request, running_plant, status_of, until

CODES = ua.StatusCodes
OP = ua.FilterOperator
IDS = ua.ObjectIds
SERVER = ua.NodeId(IDS.Server)
BASE = ua.NodeId(IDS.BaseEventType)
SYSTEM = ua.NodeId(IDS.SystemEventType)
DEVICE_FAILURE = ua.NodeId(IDS.DeviceFailureEventType)
OFF_NORMAL = ua.NodeId(IDS.OffNormalAlarmType)
CONDITION = ua.NodeId(IDS.ConditionType)
START, END = ua.NodeId(IDS.RefreshStartEventType), ua.NodeId(IDS.RefreshEndEventType)
REFRESH, REFRESH2 = (
    ua.NodeId(IDS.ConditionType_ConditionRefresh),
    ua.NodeId(IDS.ConditionType_ConditionRefresh2),
)


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("state")) as running:
        yield running


class Inbox:
    """Collects what a subscription delivers, by item."""

    def __init__(self) -> None:
        self.events: list[tuple[int, tuple[Any, ...]]] = []

    def event_notification(self, event: Any) -> None:
        self.events.append((event.server_handle, tuple(field.Value for field in event.event_fields)))

    def fields(self, position: int = 0) -> list[Any]:
        return [getattr(fields[position], "Text", fields[position]) for _, fields in self.events]


def operand(*path: str, kind: ua.NodeId = BASE) -> ua.SimpleAttributeOperand:
    names = [ua.QualifiedName.from_string(name) for name in path]
    return ua.SimpleAttributeOperand(kind, names, ua.AttributeIds.Value)


def literal(value: Any) -> ua.LiteralOperand:
    return ua.LiteralOperand(ua.Variant(value))


def wanted(*where: tuple[Any, list[Any]], select: list[Any] | None = None) -> ua.EventFilter:
    elements = [ua.ContentFilterElement(operator, operands) for operator, operands in where]
    return ua.EventFilter(
        SelectClauses=select or [operand("Message"), operand("EventType"), operand("EventId")],
        WhereClause=ua.ContentFilter(elements),
    )


async def an_event(plant: Plant, kind: ua.NodeId, source: ua.NodeId, message: str, **fields: Any) -> Any:
    event = await get_event_obj_from_type_node(plant.server.get_node(kind))
    event.emitting_node = event.SourceNode = source
    event.Message = ua.LocalizedText(message)
    for name, value in fields.items():
        if name == "NodeId":
            event.add_property(name, value, ua.VariantType.NodeId)
        setattr(event, name, value)
    return event


async def emit(plant: Plant, kind: ua.NodeId, source: ua.NodeId, message: str, **fields: Any) -> Any:
    event = await an_event(plant, kind, source, message, **fields)
    await plant.server.emit(event)
    return event


async def monitor(client: Client, subscription: Any, node: ua.NodeId, event_filter: Any) -> Any:
    """Create one event item, and return the server's result."""
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = node
    item.ItemToMonitor.AttributeId = ua.AttributeIds.EventNotifier
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.QueueSize = 10
    item.RequestedParameters.Filter = event_filter
    message = ua.CreateMonitoredItemsRequest()
    number = subscription.subscription_id
    answer = await request(client, message, SubscriptionId=number, ItemsToCreate=[item])
    return ua.ua_binary.struct_from_binary(ua.CreateMonitoredItemsResponse, answer).Results[0]


async def refresh(client: Client, number: int, item: int | None = None) -> int:
    """Call ConditionRefresh, or ConditionRefresh2 for one item; returns the status."""
    arguments = [ua.Variant(each, ua.VariantType.UInt32) for each in (number, item) if each is not None]
    method = REFRESH if item is None else REFRESH2
    return await status_of(client.get_node(CONDITION).call_method(method, *arguments))


# asyncua (its issue 105) delivers to subscribers of the emitting node only.
async def test_an_event_comes_to_server_machine_and_a_folder_between_to_each_item_once(plant: Plant) -> None:
    # Part 3 §7.16, §7.17.
    server = plant.server
    hall = await server.nodes.objects.add_folder(ua.NodeId("hall", 2), "2:Hall")
    cell = await hall.add_object(ua.NodeId("cell", 2), "2:Cell")
    press = await cell.add_object(ua.NodeId("press", 2), "2:Press")
    for notifier in (hall, cell):
        await make_notifier(server, notifier)
    await cell.add_reference(press, IDS.HasEventSource, forward=True, bidirectional=True)
    await hall.add_reference(cell, IDS.HasNotifier, forward=True, bidirectional=True)
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        of_base = wanted((OP.OfType, [literal(BASE)]))
        handles = [
            await subscription.subscribe_events(node, evfilter=of_base) for node in (SERVER, hall, cell, cell)
        ]
        await subscription.subscribe_events(plant.machine, evfilter=of_base)
        await emit(plant, DEVICE_FAILURE, press.nodeid, "worn die")
        await emit(plant, SYSTEM, cell.nodeid, "end")
        await until(lambda: len(inbox.events) >= 8)
        await asyncio.sleep(0.05)
        got = sorted((handle, fields[0].Text) for handle, fields in inbox.events)
        assert got == sorted((handle, text) for handle in handles for text in ("worn die", "end"))
        # A reference added while clients listen is noticed.
        await plant.machine.add_reference(cell, IDS.HasNotifier, forward=True, bidirectional=True)
        await emit(plant, SYSTEM, press.nodeid, "higher")
        await until(lambda: inbox.fields().count("higher") == 5)


async def test_a_client_is_told_what_is_wrong_with_its_filter_when_it_makes_the_item(plant: Plant) -> None:
    # Part 4 §7.22.3 and §7.7.2: EventFilterResult.
    async with plant.client() as client:
        subscription = await client.create_subscription(100, Inbox())
        some = await monitor(
            client, subscription, SERVER, wanted(select=[operand("Message"), operand("NoSuchField")])
        )
        assert some.StatusCode.is_good()
        assert [each.value for each in some.FilterResult.SelectClauseResults] == [0, CODES.BadNodeIdUnknown]
        none = await monitor(client, subscription, SERVER, wanted(select=[operand("NoSuchField")]))
        assert none.StatusCode.value == CODES.BadEventFilterInvalid
        in_view = wanted((OP.And, [ua.ElementOperand(1), ua.ElementOperand(1)]), (OP.InView, [literal(BASE)]))
        refused = await monitor(client, subscription, SERVER, in_view)
        assert refused.StatusCode.value == CODES.BadEventFilterInvalid
        results = refused.FilterResult.WhereClauseResult.ElementResults
        assert [each.StatusCode.value for each in results] == [0, CODES.BadFilterOperatorUnsupported]


async def test_an_event_comes_only_to_who_may_receive_its_type(plant: Plant) -> None:
    # Part 3 §8.55.
    progress = ua.NodeId(IDS.ProgressEventType)
    plant.server.access.mark(Kind.SECURITY, [progress])
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        await subscription.subscribe_events(SERVER, evfilter=wanted())
        await emit(plant, progress, plant.machine.nodeid, "not for everybody")
        await emit(plant, SYSTEM, plant.machine.nodeid, "for everybody")
        await until(lambda: bool(inbox.events))
    assert inbox.fields() == ["for everybody"]


# --- ConditionRefresh (Part 9 §5.5.7, §5.5.8) --------------------------------------------------------------


async def test_a_refresh_repeats_retained_conditions_between_marks_no_filter_keeps_out(plant: Plant) -> None:
    # asyncua lets the where clause filter RefreshStart and RefreshEnd out.
    alarm, gone = ua.NodeId("alarm", 2), ua.NodeId("gone", 2)
    machine = plant.machine.nodeid
    event = await emit(plant, OFF_NORMAL, machine, "guard open", Retain=True, NodeId=alarm, Severity=700)
    await emit(plant, OFF_NORMAL, machine, "calm", Retain=True, NodeId=ua.NodeId("calm", 2), Severity=10)
    await emit(plant, OFF_NORMAL, machine, "over", Retain=True, NodeId=gone, Severity=700)
    await emit(plant, OFF_NORMAL, machine, "over", Retain=False, NodeId=gone, Severity=700)
    come_and_gone = [
        await an_event(plant, OFF_NORMAL, machine, "at once", Retain=retain, NodeId=gone, Severity=700)
        for retain in (True, False)
    ]
    plant.server.emit_all(come_and_gone)
    event.Message.Text = "what it says later"
    inbox, untouched = Inbox(), Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        other = await client.create_subscription(10, untouched)
        high = wanted((OP.GreaterThan, [operand("Severity"), literal(500)]))
        first = await subscription.subscribe_events(SERVER, evfilter=high)
        second = await subscription.subscribe_events(plant.machine, evfilter=high)
        await other.subscribe_events(SERVER, evfilter=wanted())
        assert await refresh(client, subscription.subscription_id) == 0
        await until(lambda: len(inbox.events) == 6)
        for handle in (first, second):
            got = [fields for item, fields in inbox.events if item == handle]
            assert [fields[1] for fields in got] == [START, OFF_NORMAL, END]
            assert got[1][0].Text == "guard open"
            assert got[1][2] == event.EventId
        # ConditionRefresh2: one item only.
        inbox.events.clear()
        assert await refresh(client, subscription.subscription_id, second) == 0
        await until(lambda: len(inbox.events) == 3)
        assert {handle for handle, _ in inbox.events} == {second}
        assert not untouched.events


async def test_a_refresh_is_for_the_owner_of_the_subscription(plant: Plant) -> None:
    async with plant.client() as client, plant.client(OTHER) as other:
        subscription = await client.create_subscription(10, Inbox())
        item = await subscription.subscribe_data_change(plant.plain)
        number = subscription.subscription_id
        assert await refresh(other, number) == CODES.BadUserAccessDenied
        assert await refresh(client, number + 1) == CODES.BadSubscriptionIdInvalid
        assert await refresh(client, number, 12_345_678) == CODES.BadMonitoredItemIdInvalid
        assert await refresh(client, number, item) == CODES.BadMonitoredItemIdInvalid  # not of events


async def test_a_second_refresh_waits_until_the_first_was_sent(plant: Plant) -> None:
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        await subscription.subscribe_events(SERVER, evfilter=wanted())
        await subscription.set_publishing_mode(False)
        number = subscription.subscription_id
        assert await refresh(client, number) == 0
        assert await refresh(client, number) == CODES.BadRefreshInProgress
        await subscription.set_publishing_mode(True)
        await until(lambda: END in inbox.fields(1))
        assert await refresh(client, number) == 0
