"""Former defects that only a real connection shows; docs/reference/opcua-features.md lists them all."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, Node, ua
from asyncua.ua.ua_binary import struct_from_binary

from tests.opcua.secure_peers import GOOD, OTHER, Plant, channel, request, running_plant, status_of, until

CODES = ua.StatusCodes
REPORTING = ua.MonitoringMode.Reporting


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running_plant(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    async with plant.client() as made:
        yield made


async def ask(client: Client, message: Any, answer: type[Any], **parameters: Any) -> Any:
    return struct_from_binary(answer, await request(client, message, **parameters))


async def create(client: Client, **parameters: Any) -> Any:
    description = ua.ApplicationDescription()
    description.ApplicationUri = client.application_uri
    sent: dict[str, Any] = {
        "ClientDescription": description,
        "ClientCertificate": GOOD.der,
        "ClientNonce": os.urandom(32),
        "EndpointUrl": client.server_url.geturl(),
        "RequestedSessionTimeout": 60_000.0,
        **parameters,
    }
    answer = await ask(client, ua.CreateSessionRequest(), ua.CreateSessionResponse, **sent)
    return answer.Parameters


async def subscribe(client: Client) -> int:
    """Create a subscription whose Publish requests the test sends itself."""
    answer = await ask(
        client,
        ua.CreateSubscriptionRequest(),
        ua.CreateSubscriptionResponse,
        RequestedPublishingInterval=10.0,
        RequestedLifetimeCount=300,
        RequestedMaxKeepAliveCount=100,
        PublishingEnabled=True,
    )
    return int(answer.Parameters.SubscriptionId)


async def monitor(client: Client, number: int, node: Node) -> None:
    item = ua.MonitoredItemCreateRequest(MonitoringMode=REPORTING)
    item.ItemToMonitor = ua.ReadValueId(node.nodeid, ua.AttributeIds.Value)
    item.RequestedParameters.QueueSize = 10
    item.RequestedParameters.SamplingInterval = 0.0
    message = ua.CreateMonitoredItemsRequest()
    response = ua.CreateMonitoredItemsResponse
    (made,) = (await ask(client, message, response, SubscriptionId=number, ItemsToCreate=[item])).Results
    assert made.StatusCode.is_good()


async def publish(client: Client, *acknowledged: tuple[int, int]) -> Any:
    """Return the next message that is not empty."""
    acks = [ua.SubscriptionAcknowledgement(number, sequence) for number, sequence in acknowledged]
    async with asyncio.timeout(10):
        while True:
            answer = await ask(
                client, ua.PublishRequest(), ua.PublishResponse, SubscriptionAcknowledgements=acks
            )
            if answer.Parameters.NotificationMessage.NotificationData:
                return answer.Parameters
            acks = []


def values(message: Any) -> list[Any]:
    return [each.Value.Value.Value for body in message.NotificationData for each in body.MonitoredItems]


# --- discovery and sessions ------------------------------------------------------------------------------


async def test_discovery_that_is_not_offered_is_said_to_be_so_without_a_session(plant: Plant) -> None:
    # Part 4 §5.5.1, §7.38.2.
    async with channel(plant.client(None)) as anybody:
        for message in (
            ua.FindServersOnNetworkRequest(),
            ua.RegisterServerRequest(),
            ua.RegisterServer2Request(),
        ):
            assert await status_of(request(anybody, message)) == CODES.BadServiceUnsupported


@pytest.mark.parametrize(
    ("asked", "revised"),
    [
        (0.0, 5_000),
        (-1.0, 5_000),
        (1.0, 5_000),
        (60_000.0, 60_000),
        (1e12, 600_000),
        (math.inf, 600_000),
        (math.nan, 5_000),
    ],
)
async def test_every_session_has_an_end(plant: Plant, asked: float, revised: float) -> None:
    # Part 4 §5.7.2.2, revisedSessionTimeout.
    async with channel(plant.client()) as client:
        assert (await create(client, RequestedSessionTimeout=asked)).RevisedSessionTimeout == revised


async def test_a_session_that_nobody_uses_ends(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    # Part 4 §5.7.2.1: the server ends a session without a request within its timeout.
    core = plant.server.iserver
    monkeypatch.setattr(core, "min_session_timeout_ms", 100)
    ended = core.counts.session_timeout_count
    async with channel(plant.client()) as client:
        made = await create(client, RequestedSessionTimeout=100.0)
        client._server_nonce = made.ServerNonce
        client.uaclient.protocol.authentication_token = made.AuthenticationToken
        await client.activate_session()
        await until(lambda: core.counts.session_timeout_count == ended + 1)
        read = client.get_node(plant.plain.nodeid).read_value()
        assert await status_of(read) == CODES.BadSessionIdInvalid


async def test_a_client_may_name_its_issuers_when_it_creates_a_session(plant: Plant) -> None:
    # Part 4 §5.7.2.2, clientCertificate; asyncua answered a chain with BadInternalError.
    async with channel(plant.client()) as client:
        made = await create(client, ClientCertificate=GOOD.der + OTHER.der)
        client._server_nonce = made.ServerNonce
        client.uaclient.protocol.authentication_token = made.AuthenticationToken
        await client.activate_session()
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
    async with channel(plant.client()) as client:  # the first of them has to be the channel's
        swapped = create(client, ClientCertificate=OTHER.der + GOOD.der)
        assert await status_of(swapped) == CODES.BadCertificateInvalid


# --- Read and Browse -------------------------------------------------------------------------------------


async def test_a_client_gets_the_stamps_and_fields_it_asked_for(plant: Plant, client: Client) -> None:
    # Part 4 §5.11.2.2 timestampsToReturn, §5.9.2.2 resultMask; asyncua sent everything.
    item = ua.ReadValueId(plant.plain.nodeid, ua.AttributeIds.Value)
    stamps = ua.TimestampsToReturn
    for wanted, source, server in (
        (stamps.Source, True, False),
        (stamps.Server, False, True),
        (stamps.Both, True, True),
        (stamps.Neither, False, False),
    ):
        answer = await ask(
            client, ua.ReadRequest(), ua.ReadResponse, NodesToRead=[item], TimestampsToReturn=wanted
        )
        (value,) = answer.Results
        assert (value.SourceTimestamp is not None, value.ServerTimestamp is not None) == (source, server)
    description = ua.BrowseDescription(NodeId=plant.machine.nodeid, ResultMask=ua.BrowseResultMask.BrowseName)
    answer = await ask(client, ua.BrowseRequest(), ua.BrowseResponse, NodesToBrowse=[description])
    for reference in answer.Results[0].References:
        assert reference.BrowseName.Name
        assert (reference.DisplayName.Text, reference.NodeClass) == (None, ua.NodeClass.Unspecified)


# --- subscriptions ---------------------------------------------------------------------------------------


async def test_who_has_no_subscription_is_told_although_another_has_one(plant: Plant, client: Client) -> None:
    # Part 4 §5.14.5.3 Bad_NoSubscription; asyncua said so only if nobody had one.
    await subscribe(client)
    async with plant.client(OTHER) as other:
        assert await status_of(request(other, ua.PublishRequest())) == CODES.BadNoSubscription


async def test_a_message_can_be_had_again_until_it_is_acknowledged(plant: Plant, client: Client) -> None:
    # Part 4 §5.14.6; asyncua forgot it after the first Republish, and then answered Good with nothing.
    number = await subscribe(client)
    await monitor(client, number, plant.plain)
    first = await publish(client)
    sequence = first.NotificationMessage.SequenceNumber

    def again() -> Any:
        wanted = {"SubscriptionId": number, "RetransmitSequenceNumber": sequence}
        return ask(client, ua.RepublishRequest(), ua.RepublishResponse, **wanted)

    for _ in range(2):
        assert values((await again()).NotificationMessage) == [1.5]
    await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(2.5)))
    second = await publish(client, (number, sequence))
    await plant.server.write_attribute_value(plant.plain.nodeid, ua.DataValue(ua.Variant(1.5)))
    assert values(second.NotificationMessage) == [2.5]
    assert second.Results[0].is_good()
    assert await status_of(again()) == CODES.BadMessageNotAvailable
