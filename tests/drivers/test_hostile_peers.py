"""Peers that mean harm, or are broken in a way that looks so: what they cost us has an end."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import GOOD
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.opcuaclient import OpcUaDriver, messages
from edge_opcua.drivers.opcuaclient.address import Space
from edge_opcua.drivers.opcuaclient.session import Session
from edge_opcua.drivers.opcuaclient.watching import Watch
from edge_opcua.drivers.opcuaclient.wire import OpcUaWire
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.errors import DeviceError
from tests.drivers.peers import Bench, ModbusPeer, config
from tests.drivers.rtupeer import RtuPeer


def one(unit: int) -> Request:
    return Request((Fragment((unit, "hr"), 0, 1),))


async def test_a_unit_that_rests_makes_nobody_look_again_and_again() -> None:
    peer = RtuPeer()
    peer.units, peer.memory.mute = {1, 2, 3}, {1, 2}
    async with peer.behind_tcp():
        where = f"modbus+rtutcp://127.0.0.1:{peer.port}/1"
        cfg = config("modbus", where, {f"t{unit}": f"{unit}/hr:0:INT" for unit in (1, 2, 3)}, timeout_ms=100)
        wire = ModbusDriver.wire(cfg, SystemClock(), Lines())
        assert isinstance(wire, ModbusWire)
        await wire.open()
        looks = 0
        wake = wire.line._wake

        def counted() -> None:
            nonlocal looks
            looks += 1
            wake()

        wire.line._wake = counted  # type: ignore[method-assign]
        await wire.read((one(3),))
        await wire.read((one(1),))
        await wire.read((one(2),))
        await wire.read((one(2),))  # unit 1 may be asked by now, and is not
        assert looks < 10
        await wire.close()


async def test_a_serial_line_that_never_falls_silent_is_a_lost_link() -> None:
    async with RtuPeer().on_a_terminal() as peer:
        cfg = config(
            "modbus", f"modbus+rtu://{peer.path}?baud=300&parity=N", {"a": "hr:0:INT"}, timeout_ms=200
        )
        wire = ModbusDriver.wire(cfg, SystemClock(), Lines())
        await wire.open()

        async def babble() -> None:
            while True:  # frames are told apart by 117 ms of silence at this speed
                os.write(peer._master, b"\x55")
                await asyncio.sleep(0.005)

        babbling = asyncio.create_task(babble())
        try:
            await asyncio.sleep(0.05)
            async with asyncio.timeout(5):
                with pytest.raises(DeviceError, match="nobody had asked for"):
                    await wire.read((one(1),))
        finally:
            babbling.cancel()
            await wire.close()


def opened_channel(asked: int) -> bytes:
    """The answer to OpenSecureChannel, without security (Part 6 §6.7.2)."""
    answer = ua.OpenSecureChannelResponse()
    token = answer.Parameters.SecurityToken
    token.ChannelId, token.TokenId, token.RevisedLifetime = 5, 6, 3_600_000
    answer.Parameters.ServerNonce = b""
    uri = b"http://opcfoundation.org/UA/SecurityPolicy#None"
    body = struct.pack("<i", len(uri)) + uri + struct.pack("<iiII", -1, -1, 1, asked)
    body += bytes(struct_to_binary(answer))
    return b"OPNF" + struct.pack("<II", 12 + len(body), 5) + body


def part(kind: bytes, sequence: int, asked: int, body: bytes = b"") -> bytes:
    """A part of an answer."""
    return b"MSG" + kind + struct.pack("<IIIII", 24 + len(body), 5, 6, sequence, asked) + body


def parts_for_ever(kind: bytes, body: bytes) -> Callable[[asyncio.StreamWriter, int], Awaitable[None]]:
    async def send(writer: asyncio.StreamWriter, asked: int) -> None:
        sequence = 2
        while not writer.is_closing():
            writer.write(b"".join(part(kind, sequence + i, asked, body) for i in range(200)))
            sequence += 200
            await writer.drain()

    return send


async def a_part_of_four_gigabytes(writer: asyncio.StreamWriter, asked: int) -> None:
    writer.write(b"MSGF" + struct.pack("<IIIII", 0xFFFF_FFF0, 5, 6, 2, asked))
    while not writer.is_closing():
        writer.write(bytes(65536))
        await writer.drain()


@pytest.mark.parametrize(
    "flood",
    [
        parts_for_ever(b"C", b""),
        parts_for_ever(b"C", bytes(60_000)),
        parts_for_ever(b"A", struct.pack("<Ii", 0x80000000, -1)),
        a_part_of_four_gigabytes,
    ],
    ids=["empty parts", "full parts", "given up parts", "four gigabytes"],
)
async def test_an_answer_without_end_costs_an_opcua_server_the_connection(
    flood: Callable[[asyncio.StreamWriter, int], Awaitable[None]], tmp_path: Path
) -> None:
    held: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(65536)
            # Its own limits are as wide as they can be; they must not become ours.
            writer.write(b"ACKF" + struct.pack("<6I", 28, 0, 0xFFFF_FFFF, 0xFFFF_FFFF, 0, 0))
            asked = await reader.read(65536)
            (uri,) = struct.unpack_from("<i", asked, 12)
            (number,) = struct.unpack_from("<I", asked, 28 + uri)
            writer.write(opened_channel(number))
            asked = await reader.read(65536)
            await flood(writer, struct.unpack_from("<I", asked, 20)[0])
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cfg = config(
        "opcua",
        f"opc.tcp://127.0.0.1:{port}",
        {"a": "ns=1;s=a:INT"},
        options={"security": "None"},
        timeout_ms=4000,
    )
    wire = OpcUaDriver.wire(cfg, SystemClock(), Lines(tmp_path))
    assert isinstance(wire, OpcUaWire)

    async def watch() -> None:
        while True:
            session = wire._session
            if session is not None and session.channel is not None:
                connection = session.channel._connection
                held.append(connection._incoming_size + len(session.channel.receive_buffer or b""))
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    try:
        with pytest.raises(DeviceError, match="TooLarge"):
            await wire.open()
    finally:
        watching.cancel()
        server.close()
        await wire.close()
    assert max(held, default=0) <= 65 * 1024 * 1024


def read_answer(*values: bytes) -> bytes:
    """A ReadResponse with these DataValues (Part 4 §5.11.2, Part 6 §5.2.9)."""
    head = (
        b"\x01\x00"
        + struct.pack("<H", messages.READ_ANSWER)
        + bytes(16)
        + b"\0"
        + struct.pack("<i", -1)
        + b"\0\0\0"
    )
    return head + struct.pack("<i", len(values)) + b"".join(values) + struct.pack("<i", -1)


def test_the_greatest_time_of_opcua_is_no_time() -> None:
    # Part 6 §5.2.2.5: a DateTime behind the year 9999 is the greatest there is; a bus has none behind 2262.
    good = b"\x05\x06" + struct.pack("<iq", 7, 2**63 - 1)
    (cell,) = messages.parse_read(read_answer(good), 1)
    assert (cell.raw, cell.source_ns) == (struct.pack("<i", 7), 0)


def test_an_answer_that_is_none_is_a_lost_connection_and_no_failure_of_ours() -> None:
    nested = b"\x01\x17" * 2000  # a DataValue in a Variant in a DataValue
    strange = b"\x01\x96\x02\0\0\0" + bytes(3)  # an array of ExtensionObjects that ends
    for value in (nested, strange):
        with pytest.raises(DeviceError):
            messages.parse_read(read_answer(value), 1)


class SlowServer:
    """A session with a server that publishes once a second at most, and counts keep-alives in that.

    Args:
        takes_it: Whether a subscription can be modified there.
    """

    where = name = "plc"

    def __init__(self, *, takes_it: bool) -> None:
        self.channel = self
        self.asked: list[Any] = []
        self._takes_it = takes_it

    def send(self, kind: bytes, body: bytes, *, waits: bool) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def call(self, request: Any, answer: type[Any]) -> Any:
        self.asked.append(request)
        if isinstance(request, ua.ModifySubscriptionRequest) and not self._takes_it:
            raise messages.ServiceRefusedError(ua.StatusCodes.BadServiceUnsupported)
        made = answer()
        if isinstance(request, ua.CreateMonitoredItemsRequest):
            made.Results = [ua.MonitoredItemCreateResult() for _ in request.Parameters.ItemsToCreate]
            return made
        made.Parameters.RevisedPublishingInterval = max(
            1000.0, request.Parameters.RequestedPublishingInterval
        )
        made.Parameters.RevisedMaxKeepAliveCount = request.Parameters.RequestedMaxKeepAliveCount
        made.Parameters.RevisedLifetimeCount = request.Parameters.RequestedLifetimeCount
        return made


@pytest.mark.parametrize("takes_it", [True, False])
async def test_a_subscription_that_would_hide_a_frozen_server_is_changed_or_not_used(takes_it: bool) -> None:
    space = OpcUaDriver.parse_address("i=2258:LDT").space
    assert isinstance(space, Space)
    server = SlowServer(takes_it=takes_it)
    watch = Watch(cast(Session, server), {space: 0.02}, 0.3, SystemClock())
    await watch.begin()
    for _ in range(2):
        await watch.follow({space: (ua.NodeId(2258), "")})
    is_watched = any(isinstance(each, ua.CreateMonitoredItemsRequest) for each in server.asked)
    assert is_watched == takes_it
    assert not is_watched or watch._silent_s < 3
    watch.end()


async def test_a_new_connection_is_read_before_anything_is_written_over_it() -> None:
    async with ModbusPeer().serving() as peer:
        tags = {"a": "hr:0:INT", "w": "hr:5:INT"}
        cfg = config("modbus", f"modbus://127.0.0.1:{peer.port}/1", tags, extra={"w": {"access": "rw"}})
        bench = Bench(cfg)
        async with bench.running() as device:
            await bench.until_state("ONLINE")
            peer.distort = lambda *_: None
            await bench.until_state("SUSPECT")
            peer.distort = None
            peer.asked.clear()
            outcome = await device.write("w", 7)
            assert outcome.status == GOOD
            assert [function for _, function, *_ in peer.asked][:2] == [3, 6]
            assert peer.registers[5] == 7
