"""One Modbus connection against a device that answers rightly, refuses, stalls and lies."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_INVALID_STATE,
    BAD_NOT_SUPPORTED,
    BAD_OUT_OF_RANGE,
)
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.endpoint import Endpoint, parse_url
from edge_opcua.drivers.modbus.settings import ModbusOptions, ModbusShape
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import ConfigError, DeviceError, DeviceRefusedError, DeviceTimeoutError
from tests.drivers.peers import ModbusPeer, read

TIMEOUT_S = 0.3


@asynccontextmanager
async def wired(port: int, **options: Any) -> AsyncIterator[ModbusWire]:
    wire = ModbusWire(
        Endpoint("127.0.0.1", port, 1),
        ModbusShape(),
        ModbusOptions(busy_wait_ms=1, **options),
        TIMEOUT_S,
        SystemClock(),
    )
    await wire.open()
    try:
        yield wire
    finally:
        await wire.close()


@pytest.fixture
async def peer() -> AsyncIterator[ModbusPeer]:
    async with ModbusPeer().serving() as peer:
        yield peer


def one(area: str, start: int, size: int, unit: int = 1) -> Request:
    return Request((Fragment((unit, area), start, size),))


async def test_every_area_is_read_with_its_own_function(peer: ModbusPeer) -> None:
    peer.registers[10:13] = [1, 2, 0xFFFF]
    peer.inputs[10:12] = [3, 4]
    peer.coils[3:6] = [True, False, True]
    peer.discretes[9] = True
    async with wired(peer.port) as wire:
        assert await read(wire, one("hr", 10, 3)) == (b"\0\1\0\2\xff\xff",)
        assert await read(wire, one("ir", 10, 2, unit=7)) == (b"\0\3\0\4",)
        assert await read(wire, one("co", 3, 3)) == (b"\1\0\1",)
        assert await read(wire, one("di", 0, 10)) == (b"\0" * 9 + b"\1",)
        assert (await read(wire, one("hr", 0, 125)))[0] == struct.pack(">125H", *peer.registers[:125])
    assert [ask[:2] for ask in peer.asked[:4]] == [(1, 3), (7, 4), (1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("address", "value", "function"),
    [
        ("hr:7:INT", -2, 6),
        ("hr:7:REAL", 1.5, 16),
        ("hr:7:STRING[6]", "Teil 7", 16),
        ("hr:7.9:BOOL", True, 22),
        ("hr:7.4:BOOL[3]", [True, False, True], 22),
        ("co:7", True, 5),
        ("co:7:BOOL[9]", [True] * 9, 15),
    ],
)
async def test_a_value_is_written_with_the_right_function(
    peer: ModbusPeer, address: str, value: Any, function: int
) -> None:
    place = modbus.parse(address).at_device(unit=1, order="ABCD")
    peer.registers[7] = 0x0404
    async with wired(peer.port) as wire:
        await wire.write(place, place.codec.encode(value))
        (answer,) = await read(wire, one(place.area, place.start, place.size))
    assert isinstance(answer, bytes)
    assert place.codec.decode(answer) == value
    assert peer.asked[0][1] == function


@pytest.mark.parametrize("way", ["mask", "read-modify-write"])
async def test_a_bit_is_written_without_touching_its_neighbours(peer: ModbusPeer, way: str) -> None:
    peer.registers[7] = 0b1010_0000_0000_0101
    async with wired(peer.port, bit_writes=way) as wire:
        place = modbus.parse("1/hr:7.2:BOOL")
        await wire.write(place, place.codec.encode(False))
        assert peer.registers[7] == 0b1010_0000_0000_0001
        place = modbus.parse("1/hr:7.14:BOOL")
        await wire.write(place, place.codec.encode(True))
    assert peer.registers[7] == 0b1110_0000_0000_0001


async def test_words_go_into_registers(peer: ModbusPeer) -> None:
    async with wired(peer.port) as wire:
        await wire.write_bytes("hr:3", 2, b"\1\2\3\4")
        assert peer.registers[5:7] == [0x0102, 0x0304]
        for area, payload in (("co:5", b"\1\2"), ("hr:5", b"\1")):
            with pytest.raises(DeviceRefusedError):
                await wire.write_bytes(area, 0, payload)


@pytest.mark.parametrize(
    ("address", "value"),
    [("hr:0:INT[200]", [0] * 200), ("hr:0.12:BOOL[8]", [True] * 8), ("co:0:BOOL[1990]", [True] * 1990)],
)
async def test_what_does_not_fit_one_request_is_not_written_in_halves(
    peer: ModbusPeer, address: str, value: Any
) -> None:
    place = modbus.parse(address)
    async with wired(peer.port) as wire:
        with pytest.raises(DeviceRefusedError) as caught:
            await wire.write(place, place.codec.encode(value))
    assert caught.value.status == BAD_NOT_SUPPORTED
    assert peer.asked == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, FaultKind.ADDRESS),
        (2, FaultKind.ADDRESS),
        (3, FaultKind.ADDRESS),
        (4, FaultKind.DEVICE),
        (8, FaultKind.DEVICE),
        (99, FaultKind.DEVICE),
    ],
)
async def test_a_refusal_is_an_answer_not_a_lost_link(peer: ModbusPeer, code: int, kind: FaultKind) -> None:
    peer.refusals = [code]
    async with wired(peer.port) as wire:
        (fault,) = await read(wire, one("hr", 0, 1))
        assert isinstance(fault, Fault)
        assert fault.kind is kind
        assert f"exception {code}" in fault.reason
        assert await read(wire, one("hr", 0, 1)) == (b"\0\0",)
    assert peer.connections == 1


@pytest.mark.parametrize("code", [5, 6])
async def test_a_busy_device_is_asked_again_and_never_read_as_zero(peer: ModbusPeer, code: int) -> None:
    # Home Assistant #51103: a busy slave was recorded as 0.
    peer.registers[0] = 77
    peer.refusals = [code, code]
    async with wired(peer.port) as wire:
        assert await read(wire, one("hr", 0, 1)) == (b"\0\x4d",)
        peer.refusals = [code] * 4
        (fault,) = await read(wire, one("hr", 0, 1))
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.BUSY


@pytest.mark.parametrize("code", [10, 11])
async def test_a_gateway_that_does_not_reach_the_unit_is_a_lost_link(peer: ModbusPeer, code: int) -> None:
    peer.refusals = [code]
    async with wired(peer.port) as wire:
        with pytest.raises(DeviceError, match="gateway"):
            await read(wire, one("hr", 0, 1))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (2, BAD_CONFIGURATION_ERROR),
        (3, BAD_OUT_OF_RANGE),
        (4, BAD_DEVICE_FAILURE),
        (6, BAD_INVALID_STATE),
        (77, BAD_DEVICE_FAILURE),
    ],
)
async def test_a_refused_write_says_why(peer: ModbusPeer, code: int, status: int) -> None:
    place = modbus.parse("1/hr:0:INT")
    peer.refusals = [code]
    async with wired(peer.port) as wire:
        with pytest.raises(DeviceRefusedError) as caught:
            await wire.write(place, place.codec.encode(1))
    assert caught.value.status == status
    assert len(peer.asked) == 1  # never again by itself


async def test_a_write_that_is_taken_for_later_is_indeterminate(peer: ModbusPeer) -> None:
    # Exception 5, acknowledge (V1.1b3 §7): accepted, and it takes its time. That is no refusal.
    place = modbus.parse("1/hr:0:INT")
    peer.refusals = [5]
    async with wired(peer.port) as wire:
        with pytest.raises(DeviceTimeoutError) as caught:
            await wire.write(place, place.codec.encode(1))
    assert caught.value.again  # the connection is sound
    assert len(peer.asked) == 1


def swap(frame: bytes, at: int, new: bytes) -> bytes:
    return frame[:at] + new + frame[at + len(new) :]


LIES: dict[str, Any] = {
    "another transaction": lambda _, frame: (swap(frame, 0, b"\x12\x34"),),
    "transaction 0": lambda _, frame: (swap(frame, 0, b"\0\0"),),
    "another unit": lambda _, frame: (swap(frame, 6, b"\x09"),),
    "another function": lambda _, frame: (swap(frame, 7, b"\x04"),),
    "another protocol": lambda _, frame: (swap(frame, 2, b"\0\1"),),
    "fewer registers": lambda _, frame: (frame[:4] + b"\0\5" + frame[6:8] + b"\2" + frame[9:11],),
    "more registers": lambda _, frame: (frame[:4] + b"\0\x09" + frame[6:8] + b"\6" + frame[9:] + b"\0\0",),
    "a byte count that is not true": lambda _, frame: (swap(frame, 8, b"\2"),),
    "an odd byte count": lambda _, frame: (frame[:4] + b"\0\6" + frame[6:8] + b"\3" + frame[9:12],),
    "bytes behind the answer": lambda _, frame: (frame + b"\0",),
    "two answers": lambda _, frame: (frame + frame,),
    "a length out of all bounds": lambda _, frame: (swap(frame, 4, b"\xff\xff"),),
    "a length of nothing": lambda _, frame: (swap(frame, 4, b"\0\1"),),
    "a refusal that is too long": lambda _, frame: (frame[:4] + b"\0\4" + frame[6:7] + b"\x83\2\2",),
    "noise": lambda _, frame: (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
    "the request": lambda request, _: (request,),
    "a closed connection": lambda *_: None,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_costs_the_connection_and_is_never_a_value(peer: ModbusPeer, lie: str) -> None:
    # pymodbus alone takes transaction 0, another function and other lengths for the right answer.
    peer.registers[0:2] = [0xDEAD, 0xBEEF]
    async with wired(peer.port) as wire:
        peer.distort = LIES[lie]
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with pytest.raises(DeviceError):
            await read(wire, one("hr", 0, 2))
        assert loop.time() - started_s < TIMEOUT_S  # found out, not waited for
        peer.distort = None
        with pytest.raises(DeviceError):  # nothing is believed of this connection any more
            await read(wire, one("hr", 0, 2))
        await wire.open()
        assert await read(wire, one("hr", 0, 2)) == (b"\xde\xad\xbe\xef",)


async def test_an_answer_may_come_in_pieces(peer: ModbusPeer) -> None:
    peer.distort = lambda _, frame: (frame[:3], frame[3:8], frame[8:])
    async with wired(peer.port) as wire:
        assert await read(wire, one("hr", 0, 2)) == (bytes(4),)


async def test_a_write_is_believed_only_if_the_device_repeats_it(peer: ModbusPeer) -> None:
    place = modbus.parse("1/hr:0:INT")
    peer.distort = lambda _, frame: (frame[:-1] + b"\x07",)
    async with wired(peer.port) as wire:
        with pytest.raises(DeviceError):
            await wire.write(place, place.codec.encode(1))


async def test_what_comes_unasked_is_not_taken_for_the_next_answer(peer: ModbusPeer) -> None:
    sent = []

    def twice(_: bytes, frame: bytes) -> tuple[bytes, ...]:
        sent.append(frame)
        return (frame,)

    peer.distort = twice
    async with wired(peer.port) as wire:
        await read(wire, one("hr", 0, 1))
        following = int.from_bytes(sent[0][:2], "big") + 1
        for writer in peer._writers:
            writer.write(following.to_bytes(2, "big") + sent[0][2:])
        await asyncio.sleep(0.02)
        with pytest.raises(DeviceError, match="nobody had asked"):
            await read(wire, one("hr", 0, 1))


async def test_a_silent_device_is_given_up_after_its_deadline(peer: ModbusPeer) -> None:
    async with wired(peer.port) as wire:
        peer.silent = True
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with pytest.raises(DeviceTimeoutError):
            await read(wire, one("hr", 0, 1))
        assert loop.time() - started_s < 3 * TIMEOUT_S
    assert wire.traffic.errors == 1


async def test_cancellation_passes_through(peer: ModbusPeer) -> None:
    # Up to 3.15 pymodbus turned a cancelled request into an I/O error and lived on.
    peer.silent = True
    async with wired(peer.port) as wire:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await read(wire, one("hr", 0, 1))


async def test_a_cancellation_in_the_turn_of_the_answer_is_not_lost(peer: ModbusPeer) -> None:
    # asyncio.wait_for of Python 3.11 returns the answer then and forgets the cancellation.
    async with wired(peer.port) as wire:
        reading = asyncio.get_running_loop().create_task(read(wire, one("hr", 0, 1)))
        received = wire.line.received

        def cancel_behind(chunk: bytes) -> None:
            received(chunk)
            reading.cancel()

        wire.line.received = cancel_behind  # type: ignore[method-assign]
        await asyncio.wait({reading})
        assert reading.cancelled()


async def test_nobody_there_is_an_error_at_once() -> None:
    wire = ModbusWire(Endpoint("127.0.0.1", 1, 1), ModbusShape(), ModbusOptions(), TIMEOUT_S, SystemClock())
    with pytest.raises(DeviceError):
        await wire.open()
    with pytest.raises(DeviceError, match="not connected"):
        await read(wire, one("hr", 0, 1))
    await wire.close()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("modbus://10.0.0.1", Endpoint("10.0.0.1", 502, 1)),
        ("modbus://vib.local:1502/7", Endpoint("vib.local", 1502, 7)),
        ("modbus+tcp://10.0.0.1/255", Endpoint("10.0.0.1", 502, 255)),
    ],
)
def test_a_url_names_host_port_and_unit(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(
    "url", ["10.0.0.1", "s7://10.0.0.1", "modbus://", "modbus://h/256", "modbus://h:x/1", "modbus://h/a"]
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="modbus://"):
        parse_url(url)


async def test_it_understands_a_server_it_does_not_come_from() -> None:
    registers = SimData(0, values=list(range(200)), datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, simdata=[registers]), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        listener: Any = server.transport
        async with wired(listener.sockets[0].getsockname()[1]) as wire:
            assert await read(wire, one("hr", 3, 100)) == (struct.pack(">100H", *range(3, 103)),)
            (fault,) = await read(wire, one("hr", 199, 2))
            assert isinstance(fault, Fault)
            place = modbus.parse("1/hr:5:LREAL")
            await wire.write(place, place.codec.encode(-1.25))
            assert await read(wire, one("hr", 5, 4)) == (struct.pack(">d", -1.25),)
            bit = modbus.parse("1/hr:100.3:BOOL")
            await wire.write(bit, bit.codec.encode(True))
            assert await read(wire, one("hr", 100, 1)) == (struct.pack(">H", 100 | 8),)
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
