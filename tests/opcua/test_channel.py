"""A secure channel takes its chunks in order and nobody else's, is renewed at work, and ends for good."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from asyncua import Client, ua
from asyncua.common.connection import MessageChunk
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.processor import Processor
from tests.opcua.secure_peers import Plant, channel, request, running_plant, until, write_held

CODES = ua.StatusCodes
INTERMEDIATE, LAST, ABORT = ua.ChunkType.Intermediate, ua.ChunkType.Single, ua.ChunkType.Abort


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    # Slow to allow more: what a burst allows is what a test finds, on a slow machine as well.
    limits = ServerLimits(min_lifetime_s=0.2, recheck_s=0.05, requests_per_s=200)
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as made:
        yield made


@pytest.fixture
def plant(running: Plant) -> Plant:
    running.written.clear()
    running.gates["held"] = asyncio.Event()
    running.cancelled = 0
    return running


def server_side(plant: Plant) -> Processor:
    """Return the server's end of the newest connection."""
    processor = plant.connections()[-1].processor
    assert processor is not None
    return processor


def read_request(client: Client, plant: Plant) -> bytes:
    message = ua.ReadRequest()
    client.uaclient.protocol._setup_request_header(message.RequestHeader)
    item = ua.ReadValueId(NodeId=plant.plain.nodeid, AttributeId=ua.AttributeIds.Value)
    message.Parameters.NodesToRead = [item]
    return bytes(struct_to_binary(message))


def chunk(client: Client, body: bytes, kind: Any = LAST, **header: int) -> bytes:
    """Return one chunk, properly secured; its number in the sequence is the next one."""
    connection = client.uaclient.protocol._connection
    connection._sequence_number += 1
    made = MessageChunk(
        connection.security_policy.symmetric_cryptography, body, ua.MessageType.SecureMessage, kind
    )
    made.SecurityHeader.TokenId = header.get("token", connection.security_token.TokenId)
    made.MessageHeader.ChannelId = header.get("channel", connection.security_token.ChannelId)
    made.SequenceHeader.SequenceNumber = header.get("sequence", connection._sequence_number)
    made.SequenceHeader.RequestId = header.get("request", 7000)
    return bytes(made.to_binary())


def expect(client: Client, request_id: int = 7000) -> asyncio.Future[Any]:
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    client.uaclient.protocol._callbackmap[request_id] = answer
    return answer


async def is_cut_off(client: Client, *packets: bytes) -> bool:
    """Send chunks and say whether the server ends the connection."""
    protocol = client.uaclient.protocol
    protocol.transport.write(b"".join(packets))
    try:
        await until(lambda: protocol.transport is None, within_s=1.0)
    except TimeoutError:
        return False
    return True


# --- the order of chunks (Part 6 §6.7.2) ---------------------------------------------------------------


async def test_sequence_numbers_wrap_around_in_both_directions(plant: Plant) -> None:
    # Part 6 §6.7.2.4: after 4 294 966 271 (UInt32.MaxValue - 1024) comes a number below 1024.
    async with plant.client() as client:
        mine, theirs = client.uaclient.protocol._connection, server_side(plant)._connection
        near = (1 << 32) - 3
        mine._sequence_number = theirs._peer_sequence_number = near
        theirs._sequence_number = mine._peer_sequence_number = near
        for _ in range(6):
            assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
        assert 0 < mine._sequence_number < 10
        assert 0 < theirs._sequence_number < 10


@pytest.mark.parametrize("sequence", [1, 0, 5_000_000, (1 << 32) - 1])
async def test_a_number_out_of_sequence_ends_the_channel(plant: Plant, sequence: int) -> None:
    async with plant.client() as client:
        assert await is_cut_off(client, chunk(client, read_request(client, plant), sequence=sequence))
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_message_that_was_recorded_is_worth_nothing(plant: Plant) -> None:
    async with plant.client() as client:
        recorded = chunk(client, read_request(client, plant))
        answer = expect(client)
        client.uaclient.protocol.transport.write(recorded)
        await answer
        assert await is_cut_off(client, recorded)
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_message_recorded_on_another_channel_is_worth_nothing(plant: Plant) -> None:
    async with plant.client() as client, plant.client() as other:
        assert await is_cut_off(other, chunk(client, read_request(client, plant)))
    assert await plant.read_by_a_good_client() == 1.5


async def test_chunks_of_two_messages_do_not_mix(plant: Plant) -> None:
    # Part 6 §6.7.2.2: chunks of one message follow each other; another RequestId between them is an error.
    async with plant.client() as client:
        body = read_request(client, plant)
        first = chunk(client, body[:20], INTERMEDIATE, request=7001)
        assert await is_cut_off(client, first, chunk(client, body[20:], request=7002))
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_message_in_chunks_is_one_message_and_an_aborted_one_is_none(plant: Plant) -> None:
    # Part 6 §6.7.3: an aborted message is ignored, the channel goes on.
    async with plant.client() as client:
        body = read_request(client, plant)
        reason = struct_to_binary(ua.ErrorMessage(ua.StatusCode(CODES.BadRequestTooLarge), "given up"))
        begun = chunk(client, body[:20], INTERMEDIATE, request=7001)
        given_up = chunk(client, reason, ABORT, request=7001)
        answer = expect(client)
        parts = [body[:9], body[9:40], body[40:]]
        kinds = [INTERMEDIATE, INTERMEDIATE, LAST]
        whole = [chunk(client, part, kind) for part, kind in zip(parts, kinds, strict=True)]
        client.uaclient.protocol.transport.write(b"".join([begun, given_up, *whole]))
        async with asyncio.timeout(10):
            await answer
        assert await client.get_node(plant.plain.nodeid).read_value() == 1.5


async def test_an_abort_that_says_nothing_ends_the_channel(plant: Plant) -> None:
    async with plant.client() as client:
        assert await is_cut_off(client, chunk(client, b"", INTERMEDIATE), chunk(client, b"", ABORT))
    assert await plant.read_by_a_good_client() == 1.5


async def test_before_activation_a_message_has_few_chunks(plant: Plant) -> None:
    async with channel(plant.client()) as client:
        crumbs = [chunk(client, b"x", INTERMEDIATE) for _ in range(12)]
        assert await is_cut_off(client, *crumbs)
    async with plant.client() as client:
        body = read_request(client, plant)
        crumbs = [chunk(client, body[i : i + 1], INTERMEDIATE) for i in range(len(body) - 1)]
        answer = expect(client)
        client.uaclient.protocol.transport.write(b"".join([*crumbs, chunk(client, body[-1:])]))
        async with asyncio.timeout(10):
            await answer


async def test_a_message_has_no_more_chunks_than_were_agreed(plant: Plant) -> None:
    # Part 6 §7.1.2.4: MaxChunkCount of the Acknowledge.
    most = plant.server.limits.max_chunk_count
    async with plant.client() as client:
        assert await is_cut_off(client, *[chunk(client, b"", INTERMEDIATE) for _ in range(most + 1)])
    assert await plant.read_by_a_good_client() == 1.5


@pytest.mark.parametrize("header", [{"channel": 1}, {"token": 0}, {"token": 12}, {"token": 99}])
async def test_a_foreign_channel_or_token_ends_the_channel(plant: Plant, header: dict[str, int]) -> None:
    # Part 6 §6.7.2.3. Token 0 is what asyncua takes for the next token as long as there is none.
    async with plant.client() as client:
        assert await is_cut_off(client, chunk(client, read_request(client, plant), **header))
    assert await plant.read_by_a_good_client() == 1.5


async def test_the_wire_tells_a_code_and_the_log_tells_why(plant: Plant) -> None:
    # Part 6 §7.1.5: the Error message carries no details that help an attacker.
    reader, writer = await asyncio.open_connection("127.0.0.1", plant.server.port)
    with structlog.testing.capture_logs() as logs:
        writer.write(b"HELF" + struct.pack("<I", 0xFFFF0000))
        answer = await reader.read()
    writer.close()
    assert answer[:4] == b"ERRF"
    assert struct.unpack("<II", answer[8:16]) == (CODES.BadTcpMessageTooLarge, 0)
    assert any("chunk of 4294901760 bytes" in line.get("reason", "") for line in logs)


# --- its life ------------------------------------------------------------------------------------------


async def test_renewals_under_load_lose_no_request(plant: Plant) -> None:
    # Part 4 §5.5.2: the old token serves until the client uses the new one.
    async with plant.client() as client:
        read = 0
        done = asyncio.Event()

        async def load() -> None:
            nonlocal read
            while not done.is_set():
                assert await client.get_node(plant.plain.nodeid).read_value() == 1.5
                read += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            tokens = set()
            for _ in range(8):
                await client.open_secure_channel(renew=True)
                await asyncio.sleep(0.02)
                tokens.add(client.uaclient.protocol._connection.security_token.TokenId)
            done.set()
        assert len(tokens) == 8
        assert read > 20


async def test_a_request_that_is_in_flight_ends_with_its_channel(plant: Plant) -> None:
    client = plant.client()
    client.secure_channel_timeout = 1  # clamped to 0.2 s, and a quarter more
    async with channel(client):
        await client.create_session()
        await client.activate_session()
        write = write_held(client, plant)
        await until(lambda: bool(plant.written))
        await until(lambda: plant.cancelled == 1)
        with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
            await write
    assert await plant.read_by_a_good_client() == 1.5


async def test_closing_the_channel_ends_its_session_and_its_requests(plant: Plant) -> None:
    # Part 6 §7.1.4: there is no CloseSecureChannel response.
    before = len(plant.server.sessions())
    client = plant.client()
    await client.connect()
    write = write_held(client, plant)
    await until(lambda: bool(plant.written))
    await client.uaclient.close_secure_channel()
    await until(lambda: len(plant.server.sessions()) == before)
    await until(lambda: plant.cancelled == 1)
    write.cancel()
    await asyncio.wait({write})
    client.disconnect_socket()
    assert await plant.read_by_a_good_client() == 1.5


async def test_a_renewal_costs_as_much_as_many_requests(plant: Plant) -> None:
    async with plant.client() as client:
        connection = plant.connections()[-1]
        renewed = 0
        with contextlib.suppress(ConnectionError, ua.UaError, TimeoutError):
            while renewed < 100:
                await client.open_secure_channel(renew=True)
                renewed += 1
        assert renewed <= 60
        await until(lambda: not connection.is_here())
    assert await plant.read_by_a_good_client() == 1.5


async def test_answers_go_in_chunks_the_client_can_take(plant: Plant) -> None:
    # Part 6 §7.1.2.3: its buffers may differ by direction; asyncua 2.1.0 mixes them up.
    client = plant.client()
    await client.connect_socket()
    try:
        hello = ua.Hello(EndpointUrl=plant.server.url, ReceiveBufferSize=8192, SendBufferSize=50_000)
        acknowledged = asyncio.get_running_loop().create_future()
        client.uaclient.protocol._callbackmap[0] = acknowledged
        client.uaclient.protocol.transport.write(
            b"HELF" + struct.pack("<I", 8 + len(struct_to_binary(hello))) + struct_to_binary(hello)
        )
        acknowledge = await acknowledged
        assert (acknowledge.ReceiveBufferSize, acknowledge.SendBufferSize) == (50_000, 8192)
        limits = server_side(plant)._limits
        assert acknowledge.MaxMessageSize == limits.max_message_size > 0
        assert (limits.max_recv_buffer, limits.max_send_buffer) == (50_000, 8192)
    finally:
        client.disconnect_socket()


async def test_requests_are_answered_on_the_channel_they_came_from_only(plant: Plant) -> None:
    async with plant.client() as one, plant.client() as two:
        item = ua.ReadValueId(NodeId=plant.plain.nodeid, AttributeId=ua.AttributeIds.Value)
        answers = [
            request(client, ua.ReadRequest(), NodesToRead=[item]) for client in (one, two) for _ in range(5)
        ]
        for answer in await asyncio.gather(*answers):
            assert struct_from_binary(ua.ReadResponse, answer).Results[0].Value.Value == 1.5
