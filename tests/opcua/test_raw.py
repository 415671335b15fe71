"""A service that answers from the bytes of a request, or leaves it to the general way."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.ua.ua_binary import nodeid_to_binary, struct_from_binary, struct_to_binary

from edge_opcua.opcua.limits import ServerLimits
from tests.opcua.secure_peers import GOOD, Plant, request, running_plant, status_of

CODES = ua.StatusCodes
READ = ua.NodeId(ua.ObjectIds.ReadRequest_Encoding_DefaultBinary)
ANSWER = bytes(nodeid_to_binary(ua.FourByteNodeId(ua.ObjectIds.ReadResponse_Encoding_DefaultBinary)))
Raw = Callable[[Any, bytes, int, Any], bool]


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    limits = ServerLimits(response_bytes=20_000)
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as made:
        yield made


@pytest.fixture
def use(plant: Plant) -> Iterator[Callable[[Raw], None]]:
    """Let Read be answered from its bytes."""
    services = plant.server.iserver.services
    before = services[READ]

    def set_raw(raw: Raw) -> None:
        services[READ] = (before[0], replace(before[1], raw=raw))

    yield set_raw
    services[READ] = before


def items(plant: Plant) -> list[ua.ReadValueId]:
    return [ua.ReadValueId(NodeId=plant.plain.nodeid, AttributeId=ua.AttributeIds.Value)]


async def read(plant: Plant, **parameters: Any) -> Any:
    async with plant.client() as client:
        answer = await request(client, ua.ReadRequest(), NodesToRead=items(plant), **parameters)
        return struct_from_binary(ua.ReadResponse, answer)


async def test_bytes_are_answered_with_bytes(plant: Plant, use: Callable[[Raw], None]) -> None:
    # Part 4 §7.34: a ResponseHeader that a client finds in order.
    seen = []

    def raw(session: Any, whole: bytes, at: int, way: Any) -> bool:
        params = struct_from_binary(ua.ReadParameters, Buffer(whole, at))
        seen.append((session, params.NodesToRead))
        body = struct_to_binary(ua.ReadResponse(Results=[ua.DataValue(ua.Variant(7.5))]))
        header = struct_to_binary(ua.ReadResponse())
        way.send_bytes(ANSWER, body[len(header) - 8 :])  # what follows: two lists
        return True

    use(raw)
    response = await read(plant)
    assert response.Results[0].Value.Value == 7.5
    assert response.ResponseHeader.ServiceResult.is_good()
    ((session, wanted),) = seen
    assert session.client.certificate == GOOD.der
    assert wanted == items(plant)


async def test_what_is_left_takes_the_general_way(plant: Plant, use: Callable[[Raw], None]) -> None:
    use(lambda *_: False)
    assert (await read(plant)).Results[0].Value.Value == 1.5
    assert await status_of(read(plant, MaxAge=-1.0)) == CODES.BadMaxAgeInvalid


async def test_a_failure_is_a_fault_and_counted(plant: Plant, use: Callable[[Raw], None]) -> None:
    def raw(*_: Any) -> bool:
        raise ServiceError(CODES.BadTooManyOperations)

    def short(*_: Any) -> bool:
        raise struct.error("past the end of the request")

    counts = plant.server.iserver.counts
    before = counts.rejected_requests_count
    use(raw)
    assert await status_of(read(plant)) == CODES.BadTooManyOperations
    use(short)
    assert await status_of(read(plant)) == CODES.BadDecodingError
    assert counts.rejected_requests_count == before + 2


async def test_an_answer_in_bytes_is_no_larger_than_the_client_takes(
    plant: Plant, use: Callable[[Raw], None]
) -> None:
    # Part 4 §5.7.2.2 maxResponseMessageSize.
    def raw(_session: Any, _whole: bytes, _at: int, way: Any) -> bool:
        way.send_bytes(ANSWER, b"\x00" * way.most_bytes)
        return True

    use(raw)
    assert await status_of(read(plant)) == CODES.BadResponseTooLarge


async def test_nobody_without_an_activated_session_gets_there(
    plant: Plant, use: Callable[[Raw], None]
) -> None:
    called = []

    def raw(*_: Any) -> bool:
        called.append(1)
        return True

    use(raw)
    async with plant.client() as client:
        token = client.uaclient.protocol.authentication_token
        client.uaclient.protocol.authentication_token = ua.NodeId(b"x" * 32, 0, ua.NodeIdType.ByteString)
        refused = status_of(request(client, ua.ReadRequest(), NodesToRead=items(plant)))
        assert await refused == CODES.BadSessionIdInvalid
        client.uaclient.protocol.authentication_token = token
    assert not called
