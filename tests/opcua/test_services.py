"""The View, Attribute and Method services through a real connection, and the services that do not exist."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary

from edge_opcua.opcua.limits import OperationLimits, ServerLimits
from edge_opcua.opcua.nodes import NodeMaker
from tests.opcua.secure_peers import OTHER, Plant, request, running_plant, status_of

CODES = ua.StatusCodes
CHILDREN = 3000


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    operations = OperationLimits(read=2000, browse=20, translate=5, register=5, acknowledgements=5)
    limits = ServerLimits(references_per_node=CHILDREN, operations=operations, browse_continuation_points=5)
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as made:
        core = made.server.iserver
        maker = NodeMaker(core.aspace, core.node_mgt_service, 2)
        folder = maker.folder(ua.NodeId(ua.ObjectIds.ObjectsFolder), "Large")
        for index in range(CHILDREN):
            maker.folder(folder, f"Large.{index}")
        yield made


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    async with plant.client() as made:
        yield made


def wanted(node: ua.NodeId, **more: Any) -> ua.BrowseDescription:
    return ua.BrowseDescription(NodeId=node, **{"ResultMask": ua.BrowseResultMask.All, **more})


async def ask(client: Client, message: Any, answer: type[Any], **parameters: Any) -> Any:
    return struct_from_binary(answer, await request(client, message, **parameters))


async def browse(client: Client, node: ua.NodeId, most: int) -> ua.BrowseResult:
    params = ua.BrowseParameters(RequestedMaxReferencesPerNode=most, NodesToBrowse=[wanted(node)])
    (result,) = (await ask(client, ua.BrowseRequest(Parameters=params), ua.BrowseResponse)).Results
    return result


async def go_on(client: Client, *points: bytes, release: bool = False) -> list[ua.BrowseResult]:
    response = await ask(
        client,
        ua.BrowseNextRequest(),
        ua.BrowseNextResponse,
        ReleaseContinuationPoints=release,
        ContinuationPoints=list(points),
    )
    return list(response.Parameters.Results)


@pytest.mark.parametrize(
    "name",
    [
        "HistoryRead",
        "HistoryUpdate",
        "QueryFirst",
        "QueryNext",
        "AddNodes",
        "AddReferences",
        "DeleteNodes",
        "DeleteReferences",
    ],
)
async def test_a_service_that_nobody_offers_is_unsupported(plant: Plant, client: Client, name: str) -> None:
    # Part 4 §7.38.2; no client changes the address space, whoever he is.
    status = await status_of(request(client, getattr(ua, f"{name}Request")()))
    assert status == CODES.BadServiceUnsupported
    assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_a_client_pages_through_a_folder(client: Client) -> None:
    # Part 4 §5.9.2, §5.9.3; asyncua gave everything at once and knew no BrowseNext.
    result = await browse(client, ua.NodeId("Large", 2), 700)
    found = list(result.References)
    pages = 1
    while result.ContinuationPoint:
        (result,) = await go_on(client, result.ContinuationPoint)
        found += result.References
        pages += 1
    assert pages == CHILDREN // 700 + 1
    below = [reference.BrowseName.Name for reference in found if reference.BrowseName.NamespaceIndex == 2]
    assert below == [str(index) for index in range(CHILDREN)]


async def test_continuation_points_belong_to_the_session_and_end_with_it(
    plant: Plant, client: Client
) -> None:
    # Part 4 §5.9.3.1, §7.9.
    server = ua.NodeId(ua.ObjectIds.Server)
    async with plant.client(OTHER) as other:
        point = (await browse(other, server, 2)).ContinuationPoint
        (foreign,) = await go_on(client, point)
        assert foreign.StatusCode.value == CODES.BadContinuationPointInvalid
        assert len((await go_on(other, point))[0].References) == 2
        assert plant.server.iserver.views.points() == 1
    gc.collect()
    assert plant.server.iserver.views.points() == 0


async def test_a_large_browse_delays_no_other_answer(plant: Plant, client: Client) -> None:
    async with asyncio.TaskGroup() as group:
        # Each of them is a megabyte.
        nodes = [wanted(ua.NodeId("Large", 2))] * 5
        params = ua.BrowseParameters(NodesToBrowse=nodes)
        large = group.create_task(ask(client, ua.BrowseRequest(Parameters=params), ua.BrowseResponse))
        await asyncio.sleep(0)
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        assert not large.done()
    assert [len(result.References) > CHILDREN - 1 for result in large.result().Results] == [True] * 5


async def test_a_large_read_is_answered_whole(plant: Plant, client: Client) -> None:
    item = ua.ReadValueId(plant.plain.nodeid, ua.AttributeIds.Value)
    response = await ask(client, ua.ReadRequest(), ua.ReadResponse, NodesToRead=[item] * 1500)
    assert [result.Value.Value for result in response.Results] == [1.5] * 1500


async def test_numbers_that_mean_nothing_have_their_own_status(plant: Plant, client: Client) -> None:
    # Part 4 §5.11.2.3, §5.9.2.4.
    item = ua.ReadValueId(plant.plain.nodeid, ua.AttributeIds.Value)
    read = request(client, ua.ReadRequest(), NodesToRead=[item], TimestampsToReturn=7)
    assert await status_of(read) == CODES.BadTimestampsToReturnInvalid
    aged = request(client, ua.ReadRequest(), NodesToRead=[item], MaxAge=-1.0)
    assert await status_of(aged) == CODES.BadMaxAgeInvalid
    node = ua.NodeId(ua.ObjectIds.Server)
    sideways = [wanted(node, BrowseDirection=7)]
    response = await ask(client, ua.BrowseRequest(), ua.BrowseResponse, NodesToBrowse=sideways)
    assert response.Results[0].StatusCode.value == CODES.BadBrowseDirectionInvalid
    viewed = ua.ViewDescription(ViewId=node)
    assert (
        await status_of(request(client, ua.BrowseRequest(), View=viewed, NodesToBrowse=[wanted(node)]))
        == CODES.BadViewIdUnknown
    )


@pytest.mark.parametrize(
    ("message", "name", "one", "most"),
    [
        (ua.ReadRequest, "NodesToRead", ua.ReadValueId(), 2000),
        (ua.BrowseRequest, "NodesToBrowse", ua.BrowseDescription(), 20),
        (ua.BrowseNextRequest, "ContinuationPoints", b"x", 20),
        (ua.TranslateBrowsePathsToNodeIdsRequest, "BrowsePaths", ua.BrowsePath(), 5),
        (ua.RegisterNodesRequest, "NodesToRegister", ua.NodeId(), 5),
        (ua.UnregisterNodesRequest, "NodesToUnregister", ua.NodeId(), 5),
    ],
)
async def test_a_request_has_neither_no_operation_nor_too_many(
    client: Client, message: type[Any], name: str, one: Any, most: int
) -> None:
    # Part 4 §7.38.2, BadNothingToDo and BadTooManyOperations.
    assert await status_of(request(client, message(), **{name: []})) == CODES.BadNothingToDo
    assert await status_of(request(client, message(), **{name: [one] * most})) == 0
    too_many = request(client, message(), **{name: [one] * (most + 1)})
    assert await status_of(too_many) == CODES.BadTooManyOperations


async def test_a_publish_request_acknowledges_no_more_than_there_can_be(client: Client) -> None:
    # Part 4 §5.14.5: none at all is fine; without a limit half a million results wait for the next message.
    for count, code in ((0, CODES.BadNoSubscription), (6, CODES.BadTooManyOperations)):
        message = ua.PublishRequest()
        message.Parameters.SubscriptionAcknowledgements = [ua.SubscriptionAcknowledgement(1, 1)] * count
        assert await status_of(client.uaclient.protocol.send_request(message)) == code


async def test_what_a_client_asks_about_himself_is_true(plant: Plant, client: Client) -> None:
    # Part 3 §5.6.2, §5.7; asyncua said BadAttributeIdInvalid, or what was once stored.
    attributes = ua.AttributeIds

    async def read(node: ua.NodeId, attribute: int) -> Any:
        value = await client.get_node(node).read_attribute(attribute)
        return value.Value.Value

    assert await read(plant.plain.nodeid, attributes.UserAccessLevel) == 3
    assert await read(plant.readonly.nodeid, attributes.UserAccessLevel) == 1
    assert await read(plant.held.nodeid, attributes.AccessLevelEx) == 3 | 1 << 10
    assert await read(plant.methods["echo"].nodeid, attributes.UserExecutable) is True
    assert await read(plant.plain.nodeid, attributes.AccessRestrictions) == 0
    own = await read(plant.plain.nodeid, attributes.UserRolePermissions)
    assert {type(row) for row in own} == {ua.RolePermissionType}
