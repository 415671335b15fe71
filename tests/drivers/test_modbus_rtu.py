"""RTU on a serial port and behind TCP: noise, echo, late answers, and ports that do not work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import GOOD, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.errors import AddressError, ConfigError, DeviceError, DeviceTimeoutError
from tests.drivers.peers import Bench, config, read
from tests.drivers.rtupeer import RtuPeer, crc

FAST = "baud=115200&parity=N"


@pytest.fixture
async def bus() -> AsyncIterator[RtuPeer]:
    async with RtuPeer().on_a_terminal() as peer:
        yield peer


def url(peer: RtuPeer) -> str:
    return f"modbus+rtu://{peer.path}?{FAST}"


def wire_of(where: str, *units: int, lines: Lines | None = None, **options: Any) -> ModbusWire:
    tags = {f"t{unit}": f"{unit}/hr:0:INT" for unit in units}
    cfg = config("modbus", where, tags, timeout_ms=150, options=options)
    wire = ModbusDriver.wire(cfg, SystemClock(), lines or Lines())
    assert isinstance(wire, ModbusWire)
    return wire


@asynccontextmanager
async def opened(*wires: ModbusWire) -> AsyncIterator[None]:
    try:
        for wire in wires:
            await wire.open()
        yield
    finally:
        for wire in wires:
            await wire.close()


def one(unit: int, start: int = 0, size: int = 1, area: str = "hr") -> Request:
    return Request((Fragment((unit, area), start, size),))


async def test_a_port_is_read_and_written(bus: RtuPeer) -> None:
    bus.memory.registers[0:125] = range(1000, 1125)
    bus.memory.coils[3] = True
    wire = wire_of(url(bus), 1)
    assert wire.depth == 1
    async with opened(wire):
        (answer,) = await read(wire, one(1, 0, 125))
        assert answer == b"".join(value.to_bytes(2, "big") for value in range(1000, 1125))
        assert await read(wire, one(2, 0, 8, "co")) == (b"\0\0\0\1\0\0\0\0",)
        for text, value in (("hr:7:REAL", 1.5), ("hr:9:INT", -2), ("hr:10.3:BOOL", True), ("co:1", True)):
            place = modbus.parse(text).at_device(unit=1, order="ABCD")
            await wire.write(place, place.codec.encode(value))
            (held,) = await read(wire, one(1, place.start, place.size, place.area))
            assert isinstance(held, bytes)
            assert place.codec.decode(held) == value
    assert bus.damaged == 0


async def test_two_devices_share_a_port(bus: RtuPeer) -> None:
    lines = Lines()
    first, second = (wire_of(url(bus), unit, lines=lines) for unit in (1, 2))
    async with opened(first, second):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(first.read([one(1, i) for i in range(5)]))
            tasks.create_task(second.read([one(2, i) for i in range(5)]))
        assert [unit for unit, *_ in bus.memory.asked] == [1, 2] * 5


async def test_a_garbled_answer_costs_the_request_and_three_the_port(bus: RtuPeer) -> None:
    lines = Lines()
    first, second = (wire_of(url(bus), unit, lines=lines) for unit in (1, 2))
    async with opened(first, second):
        bus.spoil = lambda frame: frame[:-1] + bytes((frame[-1] ^ 1,))
        with pytest.raises(DeviceError, match="D348 unit 1 hr:0 answers with a wrong checksum"):
            await read(first, one(1))
        assert first.line.connected
        bus.spoil = None
        assert await read(second, one(2)) == (b"\0\0",)
        bus.spoil = lambda frame: b"\xff" * 20
        for wire, unit in ((first, 1), (second, 2), (first, 1)):
            with pytest.raises(DeviceError):
                await read(wire, one(unit))
        assert not first.line.connected


async def test_noise_between_frames_is_nobodys_answer(bus: RtuPeer) -> None:
    wire = wire_of(url(bus), 1)
    async with opened(wire):
        os.write(bus._master, b"\0\xff\0")
        await asyncio.sleep(0.02)
        assert await read(wire, one(1)) == (b"\0\0",)
        bus.noise = b"\0"  # in front of the answer it cannot be told from one
        with pytest.raises(DeviceError):
            await read(wire, one(1))


async def test_an_echo_is_suppressed_where_it_is_said_to_be(bus: RtuPeer) -> None:
    bus.echo = True
    wire = wire_of(url(bus), 1, echo=True)
    async with opened(wire):
        assert await read(wire, one(1)) == (b"\0\0",)
        bus.echo = False
        with pytest.raises(DeviceError, match="D355"):
            await read(wire, one(1, 0, 3))


async def test_the_late_answer_of_a_unit_is_never_its_next_value(bus: RtuPeer) -> None:
    # RTU has no transaction id: the answer to hr:0 looks like one to hr:1.
    bus.memory.registers[0:2] = [7, 8]
    wire = wire_of(url(bus), 1, 2)
    async with opened(wire):
        await read(wire, one(2))
        bus.delay_s = 0.2
        await read(wire, one(1))  # absent: the other unit of this device has answered
        bus.delay_s = 0.1  # its next answer would come behind the late one
        assert await read(wire, one(1, 1)) == (b"\0\x08",)


async def test_a_silent_unit_costs_its_time_out_only(bus: RtuPeer) -> None:
    lines = Lines()
    there, gone = wire_of(url(bus), 1, lines=lines), wire_of(url(bus), 9, lines=lines)
    async with opened(there, gone):
        assert await read(there, one(1)) == (b"\0\0",)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(silent(gone))
            await asyncio.sleep(0)
            answers = tasks.create_task(there.read([one(1, i) for i in range(20)]))
        assert len(answers.result()) == 20
        assert there.line.connected


async def silent(wire: ModbusWire) -> None:
    with pytest.raises(DeviceTimeoutError, match="unit 9 did not answer"):
        await read(wire, one(9))


async def test_an_unplugged_adapter_is_a_lost_link_with_a_reason(bus: RtuPeer) -> None:
    wire = wire_of(url(bus), 1)
    async with opened(wire):
        assert await read(wire, one(1)) == (b"\0\0",)
        bus.unplug()
        await asyncio.sleep(0.02)
        with pytest.raises(DeviceError, match=r"D304 /dev/pts/\d+ went away"):
            await read(wire, one(1))


async def test_a_port_is_ours_alone(bus: RtuPeer) -> None:
    first, second = wire_of(url(bus), 1), wire_of(url(bus), 1)
    async with opened(first):
        with pytest.raises(DeviceError, match=r"D302 .* is used by another program"):
            await second.open()
    async with opened(second):
        assert await read(second, one(1)) == (b"\0\0",)


async def test_a_port_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    for where, code in ((tmp_path / "ttyUSB0", "D300"), (tmp_path, "D3"), (Path("/dev/null"), "D3")):
        wire = wire_of(f"modbus+rtu://{where}", 1)
        with pytest.raises(DeviceError, match=f"^{code}"):
            await wire.open()


async def test_what_a_port_cannot_do_is_said(bus: RtuPeer) -> None:
    wire = wire_of(url(bus), 1, rs485="rts-high")  # a pseudo terminal has no transmitter to switch
    with pytest.raises(DeviceError, match=r"D303|D316"):
        await wire.open()


async def test_a_device_on_a_port_loses_and_finds_its_link(bus: RtuPeer) -> None:
    bus.memory.registers[0] = 12
    tags, extra = {"speed": "1/hr:0:INT"}, {"speed": {"access": "rw"}}
    bench = Bench(config("modbus", url(bus), tags, extra=extra, hold_s=5.0))
    async with bench.running() as device:
        await bench.until(lambda: bench.statuses("fast")["speed"] == GOOD and device.link_up)
        assert (await device.write("speed", 13)).status == GOOD
        assert bus.memory.registers[0] == 13
        bus.memory.silent = True
        await bench.until(lambda: bench.statuses("fast")["speed"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE)
        bus.memory.silent = False
        await bench.until(lambda: bench.statuses("fast")["speed"] == GOOD)


async def test_rtu_goes_through_a_device_server() -> None:
    async with RtuPeer().behind_tcp() as peer:
        peer.memory.registers[5] = 77
        wire = wire_of(f"modbus+rtutcp://127.0.0.1:{peer.port}", 1)
        async with opened(wire):
            assert await read(wire, one(1, 5)) == (b"\0\x4d",)
            peer.spoil = lambda frame: frame[:-1] + b"?"
            with pytest.raises(DeviceError, match="D348"):
                await read(wire, one(1, 5))
            assert not wire.line.connected  # bytes of TCP are not noisy: whatever this is, it is not RTU
            peer.spoil = None
            await wire.open()
            assert await read(wire, one(1, 5)) == (b"\0\x4d",)
        assert peer.connections == 2


async def test_an_answer_for_the_connection_before_is_nobodys() -> None:
    async with RtuPeer().behind_tcp() as peer:
        peer.memory.registers[5] = 77
        body = bytes.fromhex("0103020007")
        peer.greeting = body + crc(body)  # it would be a right answer
        wire = wire_of(f"modbus+rtutcp://127.0.0.1:{peer.port}", 1)
        async with opened(wire):
            assert await read(wire, one(1, 5)) == (b"\0\x4d",)
        assert peer.connections == 1


async def test_a_late_unit_behind_a_device_server_costs_the_others_nothing() -> None:
    async with RtuPeer().behind_tcp() as peer:
        peer.memory.registers[5] = 77
        where, lines = f"modbus+rtutcp://127.0.0.1:{peer.port}", Lines()
        slow, other = wire_of(where, 1, lines=lines), wire_of(where, 2, lines=lines)
        async with opened(slow, other):
            assert await read(other, one(2, 5)) == (b"\0\x4d",)
            peer.delay_s = 0.18
            with pytest.raises(DeviceTimeoutError):
                await read(slow, one(1, 5))
            await asyncio.sleep(0.06)  # it comes now, while nobody asks
            assert await read(other, one(2, 5)) == (b"\0\x4d",)
            assert (other.line.late, peer.connections) == (1, 1)


@pytest.mark.parametrize(
    "where",
    [
        "modbus+rtu://ttyUSB0",
        "modbus+rtu:///",
        "modbus+rtu:///dev/ttyUSB0?unit=0",
        "modbus+rtu:///dev/ttyUSB0?unit=248",
        "modbus+rtu:///dev/ttyUSB0?baud=fast",
        "modbus+rtu:///dev/ttyUSB0?baud=7",
        "modbus+rtu:///dev/ttyUSB0?parity=X",
        "modbus+rtu:///dev/ttyUSB0?stop=3",
        "modbus+rtu:///dev/ttyUSB0?speed=9600",
        "modbus+rtutcp://10.0.0.1",
        "modbus+rtutcp://10.0.0.1:4001/0",
        "modbus+udp://10.0.0.1",
        "modbus://10.0.0.1/1?unit=2",
        "modbus://user@10.0.0.1",
    ],
)
def test_a_wrong_url_is_refused_with_an_example(where: str) -> None:
    with pytest.raises(ConfigError, match=r"write e\.g\. modbus://"):
        ModbusDriver.check_url(where)


@pytest.mark.parametrize(
    ("where", "options", "said"),
    [
        ("modbus://h", {"echo": True}, "echo is for RTU only"),
        ("modbus://h", {"rs485": "rts-high"}, "rs485 is for serial ports only"),
        ("modbus://h", {"ca": "/x"}, "ca is for modbus"),
        ("modbus+tls://h", {"ca": "/x"}, "needs certificate, key"),
        ("modbus+tls://h", {"ca": "/x", "certificate": "c.pem", "key": "/k"}, "certificate has to be an abs"),
    ],
)
def test_options_that_do_not_fit_the_url_are_refused(where: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ModbusDriver.options(config("modbus", where, {}, options=options))


def test_nobody_answers_for_unit_0_on_a_serial_line() -> None:
    cfg = config("modbus", "modbus+rtu:///dev/ttyUSB0", {})
    with pytest.raises(AddressError, match="unit 0 answers nothing"):
        ModbusDriver.place("0/hr:1:INT", cfg)
