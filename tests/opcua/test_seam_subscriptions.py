"""Subscriptions over the wire: a true server, true clients, connections that break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from tests.opcua.publishing import changes, status_changes
from tests.opcua.secure_peers import OTHER, Plant, request, running_plant, status_of, until

CODES = ua.StatusCodes
SERVER = ua.NodeId(ua.ObjectIds.Server)


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("state")) as running:
        yield running


async def subscribe(client: Client, interval_ms: float = 20, lifetime: int = 1000) -> int:
    answer = await request(
        client,
        ua.CreateSubscriptionRequest(),
        RequestedPublishingInterval=interval_ms,
        RequestedLifetimeCount=lifetime,
        RequestedMaxKeepAliveCount=1,
        PublishingEnabled=True,
    )
    return int(struct_from_binary(ua.CreateSubscriptionResponse, answer).Parameters.SubscriptionId)


async def monitor(client: Client, number: int, node: ua.NodeId, **wanted: Any) -> Any:
    one = ua.MonitoredItemCreateRequest()
    one.ItemToMonitor.NodeId = node
    one.ItemToMonitor.AttributeId = ua.AttributeIds.Value
    one.MonitoringMode = ua.MonitoringMode.Reporting
    one.RequestedParameters.ClientHandle = 7
    one.RequestedParameters.QueueSize = 10
    for name, value in wanted.items():
        setattr(one.RequestedParameters, name, value)
    answer = await request(
        client,
        ua.CreateMonitoredItemsRequest(),
        SubscriptionId=number,
        TimestampsToReturn=ua.TimestampsToReturn.Both,
        ItemsToCreate=[one],
    )
    (result,) = struct_from_binary(ua.CreateMonitoredItemsResponse, answer).Results
    return result


async def publish(client: Client, *acks: tuple[int, int]) -> Any:
    message = ua.PublishRequest()
    answer = await request(
        client, message, SubscriptionAcknowledgements=[ua.SubscriptionAcknowledgement(*ack) for ack in acks]
    )
    return struct_from_binary(ua.PublishResponse, answer).Parameters


async def write(plant: Plant, value: float) -> None:
    await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(value)))


async def test_values_travel_with_status_and_stamps(plant: Plant) -> None:
    async with plant.client() as client:
        number = await subscribe(client)
        await monitor(client, number, plant.plain.nodeid)
        first = await publish(client)
        (change,) = first.NotificationMessage.NotificationData[0].MonitoredItems
        assert (change.ClientHandle, change.Value.Value.Value) == (7, 1.5)
        assert change.Value.StatusCode.is_good()
        await plant.plain.write_value(2.5)
        second = await publish(client, (number, first.NotificationMessage.SequenceNumber))
        assert changes(second.NotificationMessage) == [(7, 2.5, 0)]
        assert [status.value for status in second.Results] == [0]
        await write(plant, 1.5)


async def test_a_deadband_and_an_array_over_the_wire(plant: Plant) -> None:
    # Part 4 §7.22.2: asyncua lost every change of an array with a deadband.
    async with plant.client() as client:
        number = await subscribe(client)
        made = await monitor(
            client, number, plant.array.nodeid, Filter=ua.DataChangeFilter(ua.DataChangeTrigger(1), 1, 1.0)
        )
        assert made.StatusCode.is_good()
        await publish(client)
        for value in ([1.5, 2.0, 3.0, 4.0], [1.5, 2.0, 3.0, 9.0]):
            await plant.server.write_attribute_value(plant.array.nodeid, ua.DataValue(ua.Variant(value)))
        assert changes((await publish(client)).NotificationMessage) == [(7, [1.5, 2.0, 3.0, 9.0], 0)]


async def test_a_client_asks_the_server_object_about_its_subscription(plant: Plant) -> None:
    # Part 5 §9.1, §9.2
    async with plant.client() as client, plant.client(OTHER) as other:
        number = await subscribe(client)
        made = await monitor(client, number, plant.plain.nodeid)
        server = client.get_node(SERVER)
        method = ua.NodeId(ua.ObjectIds.Server_GetMonitoredItems)
        argument = ua.Variant(number, ua.VariantType.UInt32)
        assert await server.call_method(method, argument) == [[made.MonitoredItemId], [7]]
        stolen = other.get_node(SERVER).call_method(method, argument)
        assert await status_of(stolen) == CODES.BadUserAccessDenied
        await publish(client)
        await server.call_method(ua.NodeId(ua.ObjectIds.Server_ResendData), argument)
        assert changes((await publish(client)).NotificationMessage) == [(7, 1.5, 0)]


async def test_subscriptions_of_a_closed_session_are_taken_over(plant: Plant) -> None:
    # Part 4 §5.7.4 DeleteSubscriptions = FALSE, §5.14.7 SendInitialValues
    first = plant.client()
    await first.connect()
    number = await subscribe(first, interval_ms=200)
    await monitor(first, number, plant.plain.nodeid)
    await publish(first)
    waiting = asyncio.ensure_future(request(first, ua.PublishRequest()))
    service, session = plant.server.iserver.subscription_service, plant.server.iserver.sessions()[-1]
    await until(lambda: service.publish_requests(session) > 0)
    await first.uaclient.close_session(False)
    assert await status_of(waiting) == CODES.BadSessionClosed
    first.disconnect_socket()
    async with plant.client() as second:
        params = ua.TransferSubscriptionsParameters([number], True)
        (moved,) = await second.uaclient.session.transfer_subscriptions(params)
        assert moved.StatusCode.is_good()
        assert changes((await publish(second)).NotificationMessage) == [(7, 1.5, 0)]
    await until(lambda: number not in plant.server.iserver.subscription_service.subscriptions)


async def test_the_old_session_is_told_that_its_subscription_went(plant: Plant) -> None:
    # Part 4 §5.14.7: StatusChangeNotification Good_SubscriptionTransferred
    async with plant.client() as first, plant.client() as second:
        number = await subscribe(first)
        params = ua.TransferSubscriptionsParameters([number], False)
        await second.uaclient.session.transfer_subscriptions(params)
        message = (await publish(first)).NotificationMessage
        assert status_changes(message) == [CODES.GoodSubscriptionTransferred]


async def test_a_client_that_was_silent_learns_that_its_subscription_ended(plant: Plant) -> None:
    # Part 4 §5.14.1.1: StatusChangeNotification Bad_Timeout
    async with plant.client() as client:
        number = await subscribe(client, interval_ms=10, lifetime=3)
        service = plant.server.iserver.subscription_service
        await until(lambda: number not in service.subscriptions)
        message = (await publish(client)).NotificationMessage
        assert status_changes(message) == [CODES.BadTimeout]
        assert await status_of(publish(client)) == CODES.BadNoSubscription


async def test_what_was_sent_into_a_broken_connection_is_republished(plant: Plant) -> None:
    # Part 4 §5.14.6, §6.7: the client reads what it missed.
    async with plant.client() as client:
        number = await subscribe(client)
        await monitor(client, number, plant.plain.nodeid)
        sequence = (await publish(client)).NotificationMessage.SequenceNumber
        answer = await request(
            client, ua.RepublishRequest(), SubscriptionId=number, RetransmitSequenceNumber=sequence
        )
        message = struct_from_binary(ua.RepublishResponse, answer).NotificationMessage
        assert changes(message) == [(7, 1.5, 0)]


async def test_nothing_of_a_client_stays(plant: Plant) -> None:
    service = plant.server.iserver.subscription_service
    before = (len(service.subscriptions), service.monitoring.count, len(service._schedule))
    for _ in range(5):
        async with plant.client() as client:
            number = await subscribe(client)
            await monitor(client, number, plant.plain.nodeid, SamplingInterval=500.0)
    assert (len(service.subscriptions), service.monitoring.count, len(service._schedule)) == before
