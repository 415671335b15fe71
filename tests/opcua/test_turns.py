"""Requests are taken in the order they came in, however they are cut, and each connection has its turn."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from asyncua import Client, ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam import processor
from edge_opcua.opcua.seam import protocol as sockets
from edge_opcua.opcua.seam.protocol import TURN_REQUESTS, Protocol
from tests.opcua.secure_peers import OTHER, Plant, request, running_plant, until, write_held

CODES = ua.StatusCodes
READ = ua.NodeId(ua.ObjectIds.ReadRequest_Encoding_DefaultBinary)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    limits = ServerLimits(waiting_messages=8, message_bytes=200_000)
    async with running_plant(tmp_path_factory.mktemp("state"), limits=limits) as made:
        yield made


@pytest.fixture
def plant(running: Plant) -> Plant:
    running.written.clear()
    running.gates["held"] = asyncio.Event()
    return running


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let turns end by the number of requests: a slow machine shall not decide."""
    monkeypatch.setattr(sockets, "TURN_S", 60.0)


@pytest.fixture
def reads(plant: Plant) -> Iterator[list[Any]]:
    """Note whose Read requests are answered, one after the other."""
    services = plant.server.iserver.services
    name, service = before = services[READ]
    seen: list[Any] = []

    def raw(session: Any, whole: bytes, at: int, way: Any) -> Any:
        seen.append((session, way.handle))
        return service.raw(session, whole, at, way) if service.raw is not None else False

    services[READ] = (name, replace(service, raw=raw))
    yield seen
    services[READ] = before


class Talk:
    """Requests of a client as bytes, and their answers in the order in which they come."""

    def __init__(self, client: Client, plant: Plant) -> None:
        self._protocol = client.uaclient.protocol
        self._plant = plant
        self._ids = itertools.count(7000)
        self.answers: list[int] = []
        self.results: dict[int, bytes] = {}

    def read(self, size: int = 1) -> bytes:
        """Return a Read of so many nodes."""
        item = ua.ReadValueId(NodeId=self._plant.plain.nodeid, AttributeId=ua.AttributeIds.Value)
        return self.bytes_of(ua.ReadRequest(), NodesToRead=[item] * size)

    def bytes_of(self, message: Any, **parameters: Any) -> bytes:
        for name, value in parameters.items():
            setattr(message.Parameters, name, value)
        self._protocol._setup_request_header(message.RequestHeader)
        number = message.RequestHeader.RequestHandle = next(self._ids)
        answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: self._answered(number, done))
        self._protocol._callbackmap[number] = answer
        sent = self._protocol._connection.message_to_binary(
            struct_to_binary(message), ua.MessageType.SecureMessage, number
        )
        return bytes(sent)

    def _answered(self, number: int, done: asyncio.Future[Any]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.answers.append(number)
            self.results[number] = bytes(done.result())

    def send(self, sent: bytes) -> None:
        self._protocol.transport.write(sent)

    async def come(self, count: int) -> list[int]:
        """Wait for so many answers; return their requests in the order in which they came."""
        await until(lambda: len(self.answers) >= count)
        return self.answers


def server_side(plant: Plant) -> Protocol:
    return plant.connections()[-1]


def _before_another(reads: list[Any]) -> int:
    """Return how many requests of the first session were served before one of another."""
    first = reads[0][0]
    return next(place for place, (session, _) in enumerate(reads) if session is not first)


async def test_several_messages_in_one_segment_are_answered_in_their_order(plant: Plant) -> None:
    async with plant.client() as client:
        talk = Talk(client, plant)
        talk.send(b"".join(talk.read() for _ in range(5 * TURN_REQUESTS)))
        assert await talk.come(5 * TURN_REQUESTS) == sorted(talk.answers)
        assert not server_side(plant)._paused


async def test_what_waits_for_something_is_not_overtaken(plant: Plant, reads: list[Any]) -> None:
    # Requests of one connection are taken one after the other, whether or not they are answered at once.
    async with plant.client() as client:
        talk = Talk(client, plant)
        endpoints = ua.GetEndpointsRequest()
        parts = [talk.read(), talk.bytes_of(endpoints), talk.read(), talk.read(2), talk.bytes_of(endpoints)]
        parts += [talk.read() for _ in range(20)]  # more than may wait
        talk.send(b"".join(parts))
        assert await talk.come(len(parts)) == sorted(talk.answers)
        handles = [handle for _, handle in reads]
        assert handles == sorted(handles)


async def test_a_message_that_comes_byte_by_byte_is_a_message(plant: Plant) -> None:
    async with plant.client() as client:
        talk, server = Talk(client, plant), server_side(plant)
        for byte in talk.read() + talk.read():
            server.data_received(bytes([byte]))
        assert len(await talk.come(2)) == 2
        answer = struct_from_binary(ua.ReadResponse, _buffer(talk.results[7000]))
        assert answer.Results[0].Value.Value == 1.5


def _buffer(answer: bytes) -> Any:
    return ua.utils.Buffer(answer)


async def test_connections_share_the_room_that_bytes_arrive_in(plant: Plant) -> None:
    async with plant.client() as client, plant.client(OTHER) as other:
        one, two = plant.connections()[-2:]
        assert one.get_buffer(-1) is two.get_buffer(-1)
        talks = [Talk(each, plant) for each in (client, other)]
        for talk in talks * 20:
            talk.send(talk.read(1500))  # in chunks that fill it
        for talk in talks:
            assert len(await talk.come(20)) == 20


@pytest.mark.parametrize("seed", range(5))
async def test_a_stream_that_is_cut_anywhere_is_the_same_stream(plant: Plant, seed: int) -> None:
    # Large and small messages, in chunks and whole; asked for in one order, answered in it.
    async with plant.client() as client:
        talk, server, pick = Talk(client, plant), server_side(plant), random.Random(seed)
        stream = b"".join(talk.read(pick.choice((1, 1, 1, 3, 1500))) for _ in range(30))
        while stream:
            size = pick.choice((1, 7, 8, 30, 150, 1000, 70_000))
            if not server._paused:  # as asyncio would
                server.data_received(stream[:size])
                stream = stream[size:]
            if pick.random() < 0.3 or server._paused:
                await asyncio.sleep(0)
        assert len(await talk.come(30)) == 30
        assert not server._inbox
        assert not server._paused


async def test_a_greedy_connection_lets_the_others_have_their_turn(plant: Plant, reads: list[Any]) -> None:
    async with plant.client() as client, plant.client(OTHER) as other:
        greedy, modest = Talk(client, plant), Talk(other, plant)
        many = b"".join(greedy.read() for _ in range(300))
        few = modest.read()
        greedy.send(many)
        modest.send(few)
        await modest.come(1)
        await greedy.come(300)
        assert _before_another(reads) <= 2 * TURN_REQUESTS


async def test_a_turn_ends_by_the_clock_as_well(
    plant: Plant, reads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "TURN_S", -1.0)
    async with plant.client() as client:
        talk, server = Talk(client, plant), server_side(plant)
        server.data_received(talk.read() + talk.read() + talk.read())
        assert len(reads) == 1  # one at least
        assert server._paused
        assert len(await talk.come(3)) == 3
        assert not server._paused


async def test_what_a_queue_holds_lets_the_others_have_their_turn(plant: Plant, reads: list[Any]) -> None:
    async with plant.client() as client, plant.client(OTHER) as other:
        greedy, modest = Talk(client, plant), Talk(other, plant)
        many = greedy.bytes_of(ua.GetEndpointsRequest()) + b"".join(greedy.read() for _ in range(100))
        greedy.send(many)
        modest.send(modest.read())
        await modest.come(1)
        await greedy.come(101)
        assert _before_another(reads) <= 2 * TURN_REQUESTS


async def test_while_a_turn_is_over_nothing_is_read(plant: Plant) -> None:
    async with plant.client() as client:
        talk, server = Talk(client, plant), server_side(plant)
        server.data_received(b"".join(talk.read() for _ in range(3 * TURN_REQUESTS)))
        assert server._over
        assert server._paused
        assert server.messages.empty()
        await talk.come(3 * TURN_REQUESTS)
        assert not server._over


async def test_a_connection_that_ends_in_its_turn_takes_no_other(plant: Plant, reads: list[Any]) -> None:
    async with plant.client() as client:
        talk, server = Talk(client, plant), server_side(plant)
        server.data_received(b"".join(talk.read() for _ in range(3 * TURN_REQUESTS)))
        assert server.transport is not None
        server.transport.abort()
        seen = len(reads)
        await until(lambda: server not in plant.connections())
        assert len(reads) == seen == TURN_REQUESTS
    assert await plant.read_by_a_good_client() == 1.5


async def test_an_error_in_the_middle_ends_the_connection_there(plant: Plant, reads: list[Any]) -> None:
    # Part 6 §7.1.5, §6.7.2: what stands before it is answered, what comes after it is not looked at.
    async with plant.client() as client:
        talk, server = Talk(client, plant), server_side(plant)
        good, bad = talk.read() + talk.read() + talk.read(), bytearray(talk.read())
        bad[-1] ^= 1
        talk.send(good + bytes(bad) + talk.read())
        await until(lambda: server not in plant.connections())
        assert len(reads) == 3
        assert await talk.come(3) == sorted(talk.answers)


class Writes:
    """A transport that notes what is sent."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sizes: list[int] = []

    def write(self, sent: bytes) -> None:
        self.sizes.append(len(sent))
        self._transport.write(sent)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize(("most", "writes"), [(processor.HELD_BYTES, 2), (300, 4), (1, 10)])
async def test_answers_of_a_turn_are_sent_together(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, most: int, writes: int
) -> None:
    # The first at once, so that nobody waits for others; and never more at once than is sensible to keep.
    monkeypatch.setattr(processor, "HELD_BYTES", most)
    async with plant.client() as client:
        talk, server = Talk(client, plant), server_side(plant)
        assert server.processor is not None
        noted = server.processor._transport = Writes(server.transport)
        server.data_received(b"".join(talk.read() for _ in range(10)))
        assert len(noted.sizes) == writes
        assert len(await talk.come(10)) == 10


async def test_a_slow_write_lets_what_follows_be_answered_at_once(plant: Plant, reads: list[Any]) -> None:
    async with plant.client() as client:
        slow: Callable[[], bool] = write_held(client, plant).done
        talk = Talk(client, plant)
        talk.send(b"".join(talk.read() for _ in range(3)))
        await talk.come(3)
        assert not slow()
        plant.gates["held"].set()
        await until(slow)


async def test_a_request_with_an_audit_entry_takes_the_general_way(plant: Plant, reads: list[Any]) -> None:
    # Part 4 §7.33: rare, and as good as any other.
    async with plant.client() as client:
        item = ua.ReadValueId(NodeId=plant.plain.nodeid, AttributeId=ua.AttributeIds.Value)
        setup = client.uaclient.protocol._setup_request_header
        client.uaclient.protocol._setup_request_header = _with_audit(setup)
        answer = await request(client, ua.ReadRequest(), NodesToRead=[item])
        client.uaclient.protocol._setup_request_header = setup
        assert struct_from_binary(ua.ReadResponse, answer).Results[0].Value.Value == 1.5
        assert len(reads) == 1


def _with_audit(setup: Callable[..., None]) -> Callable[..., None]:
    def set_up(header: Any, *more: Any) -> None:
        setup(header, *more)
        header.AuditEntryId = "shift 3"

    return set_up
