"""The ways in which a link fails, against an echo server."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from edge_opcua.sim.proxy import Link, Mode, garbled

HELLO = b"0123456789abcdefghijklmnopqrstuv"
SHORT_S = 0.15


class Echo:
    """A server that answers each chunk with itself and remembers what it got."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        try:
            while chunk := await reader.read(65_536):
                self.got += chunk
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.clients -= 1
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Link]]:
    server = Echo()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    link = Link(seed=3)
    link.target = listener.sockets[0].getsockname()
    await link.open()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(link.run())
        yield server, link
        running.cancel()
    listener.close()
    async with asyncio.timeout(10.0):
        while server.clients:
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client(link: Link) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def nothing_comes(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(SHORT_S):
            return await reader.read(1) == b"never"
    except TimeoutError:
        return True


async def test_a_sound_link_forwards_both_ways(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        assert await reader.readexactly(len(HELLO)) == HELLO
        assert bytes(server.got) == HELLO
        assert link.connections == 1


async def test_a_lot_of_data_arrives_complete_and_in_order(echo: tuple[Echo, Link]) -> None:
    _, link = echo
    sent = random.Random(1).randbytes(4_000_000)
    async with client(link) as (reader, writer), asyncio.TaskGroup() as tasks:

        async def send() -> None:
            writer.write(sent)
            await writer.drain()

        tasks.create_task(send())
        assert await reader.readexactly(len(sent)) == sent


async def test_the_end_of_a_connection_is_forwarded_to_both_sides(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        await reader.readexactly(len(HELLO))
    async with asyncio.timeout(10.0):
        while server.clients or link.connections:
            await asyncio.sleep(0.005)


async def test_a_cut_resets_connections_and_refuses_new_ones_on_a_port_that_stays(
    echo: tuple[Echo, Link],
) -> None:
    server, link = echo
    port = link.port
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        await reader.readexactly(len(HELLO))
        await link.set(Mode.parse("cut"))
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", port))

    await link.set(Mode.parse("pass"))

    assert link.port == port
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        assert await reader.readexactly(len(HELLO)) == HELLO
    del server


async def test_a_frozen_link_holds_everything_and_delivers_it_after_the_thaw(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        await reader.readexactly(len(HELLO))
        server.got.clear()

        await link.set(Mode.parse("freeze"))
        writer.write(HELLO)
        assert await nothing_comes(reader)
        assert not server.got

        await link.set(Mode.parse("pass"))
        assert await reader.readexactly(len(HELLO)) == HELLO


async def test_a_frozen_link_takes_clients_that_the_server_sees_only_after_the_thaw(
    echo: tuple[Echo, Link],
) -> None:
    server, link = echo
    await link.set(Mode.parse("freeze"))
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        assert await nothing_comes(reader)
        assert server.clients == 0

        await link.set(Mode.parse("pass"))
        assert await reader.readexactly(len(HELLO)) == HELLO


async def test_with_frozen_replies_a_request_is_done_although_it_times_out(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    await link.set(Mode.parse("freeze:replies"))
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        assert await nothing_comes(reader)
        assert bytes(server.got) == HELLO


async def test_a_link_can_freeze_in_the_middle_of_a_message(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        await reader.readexactly(len(HELLO))
        server.got.clear()

        await link.set(Mode.parse("freeze:half"))
        writer.write(HELLO)
        assert await reader.readexactly(len(HELLO) // 4) == HELLO[: len(HELLO) // 4]  # half of the half
        assert await nothing_comes(reader)
        assert bytes(server.got) == HELLO[: len(HELLO) // 2]

        await link.set(Mode.parse("pass"))
        assert await reader.readexactly(len(HELLO) * 3 // 4) == HELLO[len(HELLO) // 4 :]


async def test_a_frozen_link_pushes_back_instead_of_filling_memory(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    async with client(link) as (_, writer):
        await link.set(Mode.parse("freeze"))
        writer.transport.set_write_buffer_limits(high=0)

        async def flood() -> None:
            async with asyncio.timeout(0.5):
                for _ in range(64):
                    writer.write(bytes(1_000_000))
                    await writer.drain()

        with pytest.raises(TimeoutError):
            await flood()
        writer.transport.abort()
    assert not server.got


async def test_garbage_hits_both_directions(echo: tuple[Echo, Link]) -> None:
    server, link = echo
    await link.set(Mode.parse("garbage"))
    async with client(link) as (reader, writer):
        writer.write(HELLO)
        async with asyncio.timeout(10.0):
            reply = await reader.read(1_000)

    assert bytes(server.got) != HELLO
    assert reply != bytes(server.got)


def test_garbage_always_changes_a_chunk_and_is_reproducible() -> None:
    for size in (1, 2, 8, 12, 260):
        chunk = bytes(range(size % 256)) or b"\0"
        ruined = [garbled(chunk, random.Random(seed)) for seed in range(50)]

        assert all(ruined)
        assert sum(one != chunk for one in ruined) > 45  # one random byte may hit the right one
        assert ruined == [garbled(chunk, random.Random(seed)) for seed in range(50)]


async def test_a_slow_link_adds_its_delay_to_the_round_trip_and_keeps_the_order(
    echo: tuple[Echo, Link],
) -> None:
    _, link = echo
    loop = asyncio.get_running_loop()
    await link.set(Mode.parse("delay:0.2"))
    async with client(link) as (reader, writer):
        started_s = loop.time()
        for number in range(10):  # in flight together: the delay is that of a wire, not of a queue
            writer.write(bytes([number]) * 16)
            await asyncio.sleep(0.005)
        assert await reader.readexactly(160) == b"".join(bytes([number]) * 16 for number in range(10))
        assert 0.2 <= loop.time() - started_s < 0.6


async def test_without_a_server_a_client_is_reset(echo: tuple[Echo, Link]) -> None:
    _, link = echo
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        link.target = free.getsockname()
        async with client(link) as (reader, _):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)


@pytest.mark.parametrize(
    "text", ["", "melt", "delay", "delay:x", "delay:-1", "delay:1e9", "freeze:tail", "cut:1"]
)
def test_a_mode_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Mode.parse(text)
