"""Events reach the machine's and the server's subscribers; filters know subtypes and stand hostile ones."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.common.events import get_event_obj_from_type_node

from tests.opcua.secure_peers import OTHER, Plant, make_notifier, request, running_plant, status_of, until

CODES = ua.StatusCodes
SERVER = ua.NodeId(ua.ObjectIds.Server)
BASE_EVENT = ua.NodeId(ua.ObjectIds.BaseEventType)
SYSTEM_EVENT = ua.NodeId(ua.ObjectIds.SystemEventType)
DEVICE_FAILURE = ua.NodeId(ua.ObjectIds.DeviceFailureEventType)
AUDIT_EVENT = ua.NodeId(ua.ObjectIds.AuditEventType)
OFF_TYPE = ua.FilterOperator.OfType


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("state")) as running:
        yield running


class Inbox:
    """Collects what a subscription delivers."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.values: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.events.append(tuple(field.Value for field in event.event_fields))

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.values.append(value)


def operand(*path: str, attribute: ua.AttributeIds = ua.AttributeIds.Value) -> ua.SimpleAttributeOperand:
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=BASE_EVENT,
        BrowsePath=[ua.QualifiedName(name) for name in path],
        AttributeId=attribute,
    )


def literal(value: Any, kind: ua.VariantType | None = None) -> ua.LiteralOperand:
    return ua.LiteralOperand(Value=ua.Variant(value, kind))


def event_filter(
    *where: tuple[ua.FilterOperator, list[Any]], select: list[Any] | None = None
) -> ua.EventFilter:
    clause = ua.ContentFilter()
    clause.Elements = [ua.ContentFilterElement(FilterOperator=op, FilterOperands=ops) for op, ops in where]
    return ua.EventFilter(
        SelectClauses=select or [operand("Message"), operand("EventType")], WhereClause=clause
    )


async def monitor(client: Client, subscription: Any, node: ua.NodeId, wanted: Any) -> Any:
    """Create one event item with a filter as it is, and return the server's result."""
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = node
    item.ItemToMonitor.AttributeId = ua.AttributeIds.EventNotifier
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters.ClientHandle = 4242
    item.RequestedParameters.QueueSize = 10
    item.RequestedParameters.Filter = wanted
    data = ua.ua_binary.struct_from_binary(
        ua.CreateMonitoredItemsResponse,
        await request(
            client,
            ua.CreateMonitoredItemsRequest(),
            SubscriptionId=subscription.subscription_id,
            ItemsToCreate=[item],
        ),
    )
    return data.Results[0]


async def an_event(plant: Plant, kind: ua.NodeId, message: str, **fields: Any) -> Any:
    event = await get_event_obj_from_type_node(plant.server.get_node(kind))
    event.emitting_node = plant.machine.nodeid
    event.Message = ua.LocalizedText(message)
    for name, value in fields.items():
        setattr(event, name, value)
    return event


async def emit(plant: Plant, kind: ua.NodeId, message: str, **fields: Any) -> Any:
    event = await an_event(plant, kind, message, **fields)
    await plant.server.emit(event, [plant.machine.nodeid])
    return event


async def filtered(plant: Plant, where: list[tuple[ua.FilterOperator, list[Any]]]) -> list[str]:
    """Return the messages of three kinds of events that pass a where clause on the Server object."""
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        await subscription.subscribe_events(SERVER, evfilter=event_filter(*where))
        await emit(plant, SYSTEM_EVENT, "system", Severity=100)
        await emit(plant, DEVICE_FAILURE, "device failure", Severity=700)
        await emit(plant, AUDIT_EVENT, "audit", Severity=300)
        await subscription.subscribe_events(SERVER, evfilter=event_filter())
        await emit(plant, BASE_EVENT, "end")
        await until(lambda: ("end",) in [(event[0].Text,) for event in inbox.events])
        await subscription.delete()
    return [event[0].Text for event in inbox.events if event[0].Text != "end"]


async def test_an_event_of_the_machine_reaches_machine_and_server_each_item_once(plant: Plant) -> None:
    on_machine, on_server = Inbox(), Inbox()
    async with plant.client() as client, plant.client(OTHER) as other:
        one = await client.create_subscription(10, on_machine)
        await one.subscribe_events(plant.machine, evfilter=event_filter())
        two = await other.create_subscription(10, on_server)
        select = [operand("Message"), operand("EventType"), operand("SourceNode"), operand("EventId")]
        select += [operand("Time"), operand("ReceiveTime"), operand("Severity"), operand("NoSuchField")]
        await two.subscribe_events(SERVER, evfilter=event_filter(select=select))
        event = await emit(plant, DEVICE_FAILURE, "worn die")
        await until(lambda: bool(on_machine.events and on_server.events))
        await asyncio.sleep(0.05)
        assert [(e[0].Text, e[1]) for e in on_machine.events] == [("worn die", DEVICE_FAILURE)]
        assert len(on_server.events) == 1
        message, kind, source, event_id, time, received, severity, absent = on_server.events[0]
        assert (message.Text, kind, source) == ("worn die", DEVICE_FAILURE, plant.machine.nodeid)
        assert len(event_id) == 16
        assert time == received == event.Time.replace(tzinfo=time.tzinfo)
        assert severity == 1
        assert absent is None


async def test_an_event_without_given_notifiers_climbs_to_all_above_it(plant: Plant) -> None:
    server = plant.server
    line = await server.nodes.objects.add_object(ua.NodeId("line", 2), "2:Line")
    press = await line.add_object(ua.NodeId("press", 2), "2:Press")
    await make_notifier(server, line)
    await line.add_reference(press, ua.ObjectIds.HasEventSource, forward=True, bidirectional=True)
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        for node in (line, SERVER):
            await subscription.subscribe_events(node, evfilter=event_filter())
        event = await an_event(plant, SYSTEM_EVENT, "climbs")
        event.emitting_node = press.nodeid
        await server.emit(event)
        await until(lambda: len(inbox.events) == 2)
        # The way asyncua's own generator takes.
        generator = await server.get_event_generator(SYSTEM_EVENT, press)
        await generator.trigger(message="climbs too")
        await until(lambda: len(inbox.events) == 4)


async def test_events_that_are_emitted_at_once_come_in_their_order_each_to_its_own_notifiers(
    plant: Plant,
) -> None:
    on_machine, on_server = Inbox(), Inbox()
    async with plant.client() as client, plant.client(OTHER) as other:
        one = await client.create_subscription(10, on_machine)
        await one.subscribe_events(plant.machine, evfilter=event_filter())
        two = await other.create_subscription(10, on_server)
        select = [operand("Message"), operand("EventId"), operand("SourceNode"), operand("Time")]
        await two.subscribe_events(SERVER, evfilter=event_filter(select=select))
        events = [await an_event(plant, SYSTEM_EVENT, message) for message in "abcd"]
        events[1].emitting_node = SERVER
        plant.server.emit_all(events)
        await until(lambda: len(on_server.events) == 4 and len(on_machine.events) == 3)
        assert [event[0].Text for event in on_server.events] == list("abcd")
        assert len({event[1] for event in on_server.events}) == 4
        machine = plant.machine.nodeid
        assert [event[2] for event in on_server.events] == [machine, SERVER, machine, machine]
        assert len({event[3] for event in on_server.events}) == 1
        assert [event[0].Text for event in on_machine.events] == list("acd")


@pytest.mark.parametrize(
    ("kind", "passing"),
    [
        (BASE_EVENT, ["system", "device failure", "audit"]),
        (SYSTEM_EVENT, ["system", "device failure"]),
        (DEVICE_FAILURE, ["device failure"]),
        (ua.NodeId(ua.ObjectIds.ConditionType), []),
    ],
)
async def test_of_type_lets_subtypes_pass(plant: Plant, kind: ua.NodeId, passing: list[str]) -> None:
    assert await filtered(plant, [(OFF_TYPE, [literal(kind)])]) == passing


async def test_where_clauses_compare_join_and_match(plant: Plant) -> None:
    severity, message = operand("Severity"), operand("SourceName")
    op = ua.FilterOperator
    high = literal(300, ua.VariantType.UInt16)
    assert await filtered(plant, [(op.GreaterThanOrEqual, [severity, high])]) == ["device failure", "audit"]
    assert await filtered(
        plant,
        [
            (op.And, [ua.ElementOperand(Index=1), ua.ElementOperand(Index=2)]),
            (op.GreaterThanOrEqual, [severity, high]),
            (OFF_TYPE, [literal(AUDIT_EVENT)]),
        ],
    ) == ["audit"]
    assert await filtered(plant, [(op.IsNull, [message])]) == ["system", "device failure", "audit"]
    assert await filtered(plant, [(op.Like, [message, literal("%")])]) == []


@pytest.mark.parametrize(
    "name", ["__class__", "data_types", "emitting_node", "internal_properties", "to_event_fields"]
)
async def test_a_hostile_select_clause_gets_nothing_and_stops_nobodys_events(plant: Plant, name: str) -> None:
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        select = [operand(name), operand(name, "x"), operand(attribute=ua.AttributeIds.NodeId), operand()]
        result = await monitor(client, subscription, SERVER, event_filter(select=select))
        assert result.StatusCode.is_good()
        after = Inbox()
        second = await client.create_subscription(10, after)
        await second.subscribe_events(SERVER, evfilter=event_filter())
        await emit(plant, SYSTEM_EVENT, "still there")
        await until(lambda: bool(after.events))


async def test_an_event_item_needs_an_event_filter_and_a_notifier(plant: Plant) -> None:
    async with plant.client() as client:
        subscription = await client.create_subscription(100, Inbox())
        for wanted, code in (
            (None, CODES.BadEventFilterInvalid),
            (ua.DataChangeFilter(), CODES.BadFilterNotAllowed),
            (ua.EventFilter(), CODES.BadEventFilterInvalid),
        ):
            result = await monitor(client, subscription, SERVER, wanted)
            assert result.StatusCode.value == code
        result = await monitor(client, subscription, plant.plain.nodeid, event_filter())
        assert not result.StatusCode.is_good()


async def test_an_item_is_modified_with_its_filter_and_an_unknown_one_fails_alone(plant: Plant) -> None:
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(10, inbox)
        handle = await subscription.subscribe_events(SERVER, evfilter=event_filter())
        only_audit = event_filter((OFF_TYPE, [literal(AUDIT_EVENT)]))

        async def modify(*items: tuple[int, Any]) -> list[int]:
            wanted = []
            for item_id, wanted_filter in items:
                one = ua.MonitoredItemModifyRequest(MonitoredItemId=item_id)
                one.RequestedParameters.Filter = wanted_filter
                one.RequestedParameters.ClientHandle = 201
                one.RequestedParameters.QueueSize = 1_000_000
                wanted.append(one)
            params = ua.ModifyMonitoredItemsParameters(
                SubscriptionId=subscription.subscription_id, ItemsToModify=wanted
            )
            results = await client.uaclient.session.modify_monitored_items(params)
            assert all(result.RevisedQueueSize <= 1000 for result in results)
            return [result.StatusCode.value for result in results]

        results = await modify((999_999, None), (handle, only_audit), (handle, ua.DataChangeFilter()))
        assert results == [CODES.BadMonitoredItemIdInvalid, 0, CODES.BadFilterNotAllowed]
        await emit(plant, SYSTEM_EVENT, "not this")
        await emit(plant, AUDIT_EVENT, "this")
        await until(lambda: bool(inbox.events))
        assert [event[0].Text for event in inbox.events] == ["this"]
        await client.uaclient.session.set_monitoring_mode(
            ua.SetMonitoringModeParameters(
                SubscriptionId=subscription.subscription_id,
                MonitoringMode=ua.MonitoringMode.Disabled,
                MonitoredItemIds=[handle],
            )
        )
        await emit(plant, AUDIT_EVENT, "nobody listens")
        await asyncio.sleep(0.05)
        assert len(inbox.events) == 1


async def test_an_event_is_what_it_was_when_it_was_emitted(plant: Plant) -> None:
    inbox = Inbox()
    async with plant.client() as client:
        subscription = await client.create_subscription(50, inbox)
        await subscription.subscribe_events(SERVER, evfilter=event_filter())
        event = await emit(plant, SYSTEM_EVENT, "first")
        event.Message.Text = "changed afterwards"
        await until(lambda: bool(inbox.events))
        assert inbox.events[0][0].Text == "first"


async def test_subscription_ids_are_random_and_intervals_are_in_bounds(plant: Plant) -> None:
    ids = []
    async with plant.client() as client:
        for asked, given in ((0, 10), (1, 10), (25, 25), (math.nan, 1000), (1e12, 3_600_000)):
            parameters = ua.CreateSubscriptionParameters(
                RequestedPublishingInterval=asked,
                RequestedLifetimeCount=1,
                RequestedMaxKeepAliveCount=10,
                PublishingEnabled=True,
            )
            result = await client.uaclient.session.create_subscription(parameters, lambda *_: None)
            assert result.RevisedPublishingInterval == given
            assert result.RevisedLifetimeCount >= 3 * result.RevisedMaxKeepAliveCount
            ids.append(result.SubscriptionId)
        await client.uaclient.session.delete_subscriptions(ids)
    assert ids[0] > 100  # one in ten million runs may fail here


async def test_a_message_that_is_gone_is_said_to_be_gone(plant: Plant) -> None:
    async with plant.client() as client:
        subscription = await client.create_subscription(1000, Inbox())
        again = request(
            client,
            ua.RepublishRequest(),
            SubscriptionId=subscription.subscription_id,
            RetransmitSequenceNumber=77,
        )
        assert await status_of(again) == CODES.BadMessageNotAvailable
        await subscription.delete()
        assert await status_of(request(client, ua.PublishRequest())) == CODES.BadNoSubscription


async def test_a_client_takes_its_subscription_over_to_its_next_session(plant: Plant) -> None:
    # Part 4 §5.14.7; asyncua answers Good and then delivers nothing.
    inbox = Inbox()
    first = plant.client()
    await first.connect()
    subscription = await first.create_subscription(20, inbox)
    await subscription.subscribe_data_change(plant.plain)
    await until(lambda: inbox.values == [1.5])
    number = subscription.subscription_id
    async with plant.client() as second:
        params = ua.TransferSubscriptionsParameters(SubscriptionIds=[number])
        (result,) = await second.uaclient.session.transfer_subscriptions(params)
        assert result.StatusCode.is_good()
        answer = asyncio.ensure_future(request(second, ua.PublishRequest()))
        await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(4.5)))
        published = ua.ua_binary.struct_from_binary(ua.PublishResponse, await answer)
        assert published.Parameters.SubscriptionId == number
        await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(1.5)))
        await first.disconnect()
        assert number in plant.server.iserver.subscription_service.subscriptions


async def test_sessions_are_listed_for_the_operator(plant: Plant) -> None:
    async with plant.client() as client:
        subscription = await client.create_subscription(500, Inbox())
        await subscription.subscribe_data_change([plant.plain, plant.array])
        (summary,) = [row for row in plant.server.sessions() if row.client.application_name == "good client"]
        assert (summary.activated, summary.subscriptions, summary.items) == (True, 1, 2)
        assert summary.client.secured
        assert summary.client.address.startswith("127.0.0.1:")
        assert "certificate" not in repr(summary)
