"""The S7 server of the simulated PLC, by bytes: scan synchronism, jobs, errors, and peers that misbehave."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from edge_opcua.sim import s7server
from edge_opcua.sim.s7server import MAX_CONNECTIONS, DataBlock, S7Server

BYTE, BIT, REAL = 2, 1, 8
OK, DENIED, OUT_OF_RANGE, BAD_TYPE, NO_OBJECT = 0xFF, 0x03, 0x05, 0x06, 0x0A
CONNECT = bytes.fromhex("0300001611e00000000100c0010ac1020100c2020101")


class Plc:
    """A server with two blocks and a scan that the test turns by hand."""

    def __init__(self) -> None:
        self.out = DataBlock(10, 64, writable=False)
        self.out.memory[:] = bytes(range(64))
        self.mail = DataBlock(20, 600, writable=True)
        self.server = S7Server((self.out, self.mail))
        self.port = 0
        self.scan()

    def scan(self) -> None:
        self.server.begin_scan()
        self.server.end_scan()


class Client:
    """Speaks S7 by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def frame(self) -> bytes:
        async with asyncio.timeout(10.0):
            head = await self.reader.readexactly(4)
            return await self.reader.readexactly(int.from_bytes(head[2:], "big") - 4)

    def send(self, parameters: bytes, data: bytes = b"", *, kind: int = 1, reference: int = 7) -> bytes:
        pdu = struct.pack(">BBHHHH", 0x32, kind, 0, reference, len(parameters), len(data)) + parameters + data
        message = struct.pack(">BBH", 3, 0, 7 + len(pdu)) + b"\x02\xf0\x80" + pdu
        self.writer.write(message)
        return message

    async def answer(self) -> bytes:
        return (await self.frame())[3:]

    async def set_up(self, pdu_bytes: int = 480) -> int:
        self.writer.write(CONNECT)
        assert (await self.frame())[1] == 0xD0
        self.send(struct.pack(">BBHHH", 0xF0, 0, 1, 1, pdu_bytes))
        negotiated: int = struct.unpack(">H", (await self.answer())[-2:])[0]
        return negotiated

    async def read(self, *items: bytes) -> bytes:
        self.send(bytes((4, len(items))) + b"".join(items))
        return await self.answer()


def item(size: int, count: int, block: int, byte: int, bit: int = 0, *, area: int = 0x84) -> bytes:
    where = (byte * 8 + bit).to_bytes(3, "big")
    return struct.pack(">BBBBHHB", 0x12, 10, 0x10, size, count, block, area) + where


def value(content: bytes, *, bit: bool = False) -> bytes:
    return struct.pack(">BBH", 0, 3 if bit else 4, 1 if bit else 8 * len(content)) + content


@pytest.fixture
async def plc() -> AsyncIterator[Plc]:
    plc = Plc()
    plc.port = await plc.server.open("127.0.0.1", 0)
    yield plc
    plc.server.close()
    await asyncio.sleep(0)  # lets the dropped transports close their sockets


@asynccontextmanager
async def connected(plc: Plc, *, pdu_bytes: int = 480) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", plc.port)
    client = Client(reader, writer)
    try:
        await client.set_up(pdu_bytes)
        yield client
    finally:
        writer.transport.abort()


async def until(connections: int, plc: Plc) -> None:
    async with asyncio.timeout(10.0):
        while plc.server.connections != connections:
            await asyncio.sleep(0.005)


async def test_a_write_is_answered_after_the_scan_that_has_seen_it(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(bytes((5, 1)) + item(BYTE, 4, 20, 0), value(b"abcd"))
        await asyncio.sleep(0.05)
        assert plc.mail.memory[:4] == bytes(4)

        plc.server.begin_scan()
        plc.mail.memory[0] = ord("X")  # the program clamps
        plc.server.end_scan()

        assert (await client.answer())[-1] == OK
        assert (await client.read(item(BYTE, 4, 20, 0)))[-4:] == b"Xbcd"


async def test_what_the_program_does_within_a_scan_is_not_seen_before_its_end(plc: Plc) -> None:
    async with connected(plc) as client:
        plc.out.memory[0:4] = b"half"

        assert (await client.read(item(BYTE, 4, 10, 0)))[-4:] == bytes((0, 1, 2, 3))
        plc.scan()
        assert (await client.read(item(BYTE, 4, 10, 0)))[-4:] == b"half"


async def test_all_items_of_a_write_are_stored_and_answered_one_by_one(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(
            bytes((5, 4))
            + item(BYTE, 3, 20, 0)
            + item(BYTE, 1, 99, 0)
            + item(BYTE, 1, 10, 0)
            + item(REAL, 1, 20, 8),
            value(b"abc") + b"\0" + value(b"d") + b"\0" + value(b"e") + b"\0" + value(b"wxyz"),
        )
        await asyncio.sleep(0.05)
        plc.scan()

        assert (await client.answer())[-4:] == bytes((OK, NO_OBJECT, DENIED, OK))
        assert plc.mail.memory[:12] == b"abc\0\0\0\0\0wxyz"


async def test_a_bit_write_leaves_its_neighbours_alone(plc: Plc) -> None:
    plc.mail.memory[2] = 0b1010_0000
    async with connected(plc) as client:
        for bit, on in ((0, True), (7, False)):
            client.send(bytes((5, 1)) + item(BIT, 1, 20, 2, bit), value(bytes((on,)), bit=True))
            await asyncio.sleep(0.02)
            plc.scan()
            assert (await client.answer())[-1] == OK

        assert plc.mail.memory[2] == 0b0010_0001
        assert (await client.read(item(BIT, 1, 20, 2, 5)))[-1] == 1
        assert (await client.read(item(BIT, 1, 20, 2, 4)))[-1] == 0


async def test_a_bad_item_of_a_read_spoils_only_itself(plc: Plc) -> None:
    async with connected(plc) as client:
        answer = await client.read(
            item(BYTE, 1, 10, 5),
            item(BYTE, 1, 11, 0),
            item(BYTE, 2, 10, 63),
            item(0x1C, 1, 10, 0),
            item(BYTE, 1, 10, 0, area=0x81),  # inputs
            item(BYTE, 2, 10, 6),
        )

    assert answer[14:] == (
        b"\xff\x04\x00\x08\x05\x00"
        + bytes((NO_OBJECT, 0, 0, 0, OUT_OF_RANGE, 0, 0, 0, BAD_TYPE, 0, 0, 0, NO_OBJECT, 0, 0, 0))
        + b"\xff\x04\x00\x10\x06\x07"
    )


@pytest.mark.parametrize(("asked", "got"), [(480, 480), (960, 480), (240, 240), (1, 112)])
async def test_the_pdu_is_negotiated_and_kept(plc: Plc, asked: int, got: int) -> None:
    async with connected(plc, pdu_bytes=asked) as client:
        fits = got - 18
        assert len(await client.read(item(BYTE, fits, 20, 0))) == got

        refused = await client.read(item(BYTE, fits + 1, 20, 0))
        assert refused[10:12] == b"\x85\x00"


async def test_jobs_sent_together_are_answered_in_order(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(bytes((4, 1)) + item(BYTE, 1, 10, 1), reference=1)
        client.send(bytes((5, 1)) + item(BYTE, 1, 20, 0), value(b"w"), reference=2)
        client.send(bytes((4, 1)) + item(BYTE, 1, 20, 0), reference=3)
        first = await client.answer()
        await asyncio.sleep(0.05)
        plc.scan()
        second, third = await client.answer(), await client.answer()

    assert [int.from_bytes(answer[4:6], "big") for answer in (first, second, third)] == [1, 2, 3]
    assert third[-1:] == b"w"


async def test_a_job_may_arrive_byte_by_byte_or_in_fragments(plc: Plc) -> None:
    async with connected(plc) as client:
        job = client.send(bytes((4, 1)) + item(BYTE, 1, 10, 5))
        await client.answer()
        for byte in job:
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.answer())[-1] == 5

        pdu = job[7:]  # ISO 8073: only the last fragment carries the end-of-TSDU bit
        client.writer.write(struct.pack(">BBH", 3, 0, 7 + 6) + b"\x02\xf0\x00" + pdu[:6])
        client.writer.write(struct.pack(">BBH", 3, 0, 7 + len(pdu) - 6) + b"\x02\xf0\x80" + pdu[6:])
        assert (await client.answer())[-1] == 5


async def test_functions_this_plc_does_not_have_are_refused(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(b"\x29" + bytes(15))  # stop
        assert (await client.answer())[10:12] == b"\x81\x04"

        client.send(
            bytes.fromhex("0001120411440100"), bytes.fromhex("ff09000400a00000"), kind=7
        )  # diagnostics
        assert bytes.fromhex("8104") in await client.answer()
        client.send(bytes.fromhex("0001120411470100"), bytes.fromhex("0a000000"), kind=7)  # clock
        assert bytes.fromhex("8104") in await client.answer()


async def test_it_says_who_it_is_and_whether_it_runs(plc: Plc) -> None:
    def asked(szl: str) -> bytes:
        return bytes.fromhex(f"ff090004{szl}0000")

    request = bytes.fromhex("0001120411440100")
    async with connected(plc) as client:
        client.send(request, asked("001c"), kind=7)
        assert b"Simulated S7" in await client.answer()
        client.send(request, asked("0424"), kind=7)
        running = await client.answer()
        plc.server.stopped = True
        client.send(request, asked("0424"), kind=7)
        stopped = await client.answer()
    # SZL 0x0424: the last half-byte of the fourth byte is the mode, 8 RUN and 4 STOP.
    assert [answer[-17] for answer in (running, stopped)] == [8, 4]


async def test_markers_are_read_and_written(plc: Plc) -> None:
    plc.server.markers.memory[3] = 7
    plc.scan()
    async with connected(plc) as client:
        assert (await client.read(item(BYTE, 1, 0, 3, area=0x83)))[-1] == 7


async def test_a_write_whose_values_are_missing_or_misfit_is_refused(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(bytes((5, 1)) + item(BYTE, 4, 20, 0), b"\0\x04")
        assert (await client.answer())[10:12] == b"\x85\x04"

        client.send(bytes((5, 1)) + item(BYTE, 4, 20, 0), value(b"abc"))
        await asyncio.sleep(0.02)
        plc.scan()
        assert (await client.answer())[-1] == BAD_TYPE
    assert not any(plc.mail.memory)


async def test_a_rack_or_slot_without_a_cpu_is_refused(plc: Plc) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", plc.port)
    writer.write(CONNECT[:-1] + b"\x02")
    client = Client(reader, writer)

    assert (await client.frame())[1] == 0x80
    assert await reader.read(1) == b""
    writer.close()


async def test_noise_ends_its_own_connection_only(plc: Plc) -> None:
    noise = random.Random(5)
    async with connected(plc) as client:
        for number in range(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", plc.port)
            if number % 3:
                writer.write(CONNECT)
            if number % 3 == 2:  # a sound frame around noise
                content = noise.randbytes(noise.randint(1, 80))
                writer.write(struct.pack(">BBH", 3, 0, 7 + len(content)) + b"\x02\xf0\x80" + content)
            writer.write(noise.randbytes(200))
            async with asyncio.timeout(10.0):
                try:
                    while await reader.read(1_000):
                        pass
                except ConnectionError:
                    pass
            writer.transport.abort()

        assert (await client.read(item(BYTE, 1, 10, 9)))[-1] == 9
        await until(1, plc)


async def test_a_hundred_reconnects_leave_nothing_behind(plc: Plc) -> None:
    for _ in range(100):
        async with connected(plc) as client:
            assert (await client.read(item(BYTE, 1, 10, 3)))[-1] == 3
    await until(0, plc)


async def test_a_client_that_leaves_before_its_answer_has_still_written(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(bytes((5, 1)) + item(BYTE, 1, 20, 0), value(b"w"))
        await asyncio.sleep(0.05)
    await until(0, plc)
    plc.scan()

    assert plc.mail.memory[0:1] == b"w"


async def test_half_open_connections_give_their_resources_back(
    plc: Plc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s7server, "HANDSHAKE_S", 1.0)  # all of them connect within it on a busy machine too
    silent = [await asyncio.open_connection("127.0.0.1", plc.port) for _ in range(MAX_CONNECTIONS + 5)]
    try:
        await until(MAX_CONNECTIONS, plc)

        await until(0, plc)
        async with connected(plc) as client:
            assert (await client.read(item(BYTE, 1, 10, 3)))[-1] == 3
    finally:
        for _, writer in silent:
            writer.transport.abort()


async def test_a_peer_that_never_finishes_its_frames_is_dropped(plc: Plc) -> None:
    async with connected(plc) as client:
        client.send(bytes((5, 1)) + item(BYTE, 1, 20, 0), value(b"w"))  # unanswered: no scan
        client.writer.write(bytes(200_000))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.frame()
    await until(0, plc)
