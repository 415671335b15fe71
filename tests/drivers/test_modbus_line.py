"""Several devices on one line: fair turns, a dead unit's own time-outs, and when the connection goes."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.endpoint import SerialSettings
from edge_opcua.drivers.modbus.health import Health
from edge_opcua.drivers.modbus.turns import MAX_WAITING, Turns
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.plan import check_lines
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import ConfigError, DeviceError, DeviceTimeoutError
from tests.drivers.peers import Known, ModbusPeer, config, read


@pytest.fixture
async def peer() -> AsyncIterator[ModbusPeer]:
    async with ModbusPeer().serving() as peer:
        yield peer


def device(
    peer: ModbusPeer, unit: int, name: str = "", *, timeout_ms: int = 150, **options: Any
) -> DeviceConfig:
    units = options.pop("units", (unit,))
    tags = {f"t{other}": f"{other}/hr:{other}:INT" for other in units}
    url = f"modbus://127.0.0.1:{peer.port}/{unit}"
    return config("modbus", url, tags, options=options, name=name or f"dev{unit}", timeout_ms=timeout_ms)


def wires(*devices: DeviceConfig) -> list[ModbusWire]:
    lines, clock = Lines(), SystemClock()
    made = [ModbusDriver.wire(cfg, clock, lines) for cfg in devices]
    assert all(isinstance(wire, ModbusWire) for wire in made)
    return made  # type: ignore[return-value]


def one(unit: int, start: int = 0, size: int = 1) -> Request:
    return Request((Fragment((unit, "hr"), start, size),))


async def closed(*open_wires: ModbusWire) -> None:
    for wire in open_wires:
        await wire.close()


async def test_devices_at_one_address_share_a_connection(peer: ModbusPeer) -> None:
    first, second = wires(device(peer, 1), device(peer, 2))
    await first.open()
    await second.open()
    await read(first, one(1))
    await read(second, one(2))
    assert peer.connections == 1
    await first.close()
    await read(second, one(2))  # the last one keeps it
    assert peer.connections == 1
    await second.close()
    with pytest.raises(DeviceError, match="not connected"):
        await read(second, one(2))


async def test_a_device_may_have_a_connection_of_its_own(peer: ModbusPeer) -> None:
    pair = wires(device(peer, 1, connections="own"), device(peer, 2, connections="own"))
    for wire in pair:
        await wire.open()
        await read(wire, one(1))
    assert peer.connections == 2
    await closed(*pair)


def test_devices_on_a_line_agree_about_it() -> None:
    lines, clock = Lines(), SystemClock()

    def serial(name: str, baud: int) -> DeviceConfig:
        return config("modbus", f"modbus+rtu:///dev/ttyUSB0?baud={baud}", {"t": "1/hr:0:INT"}, name=name)

    ModbusDriver.wire(serial("a", 9600), clock, lines)
    ModbusDriver.wire(serial("b", 9600), clock, lines)
    with pytest.raises(ConfigError, match="c: another device sets the line /dev/ttyUSB0 up differently"):
        ModbusDriver.wire(serial("c", 19_200), clock, lines)


def test_that_they_do_not_is_found_before_anything_starts() -> None:
    def at(name: str, url: str, **options: Any) -> DeviceConfig:
        return config("modbus", url, {"t": "1/hr:0:INT"}, name=name, options=options)

    port, host = "modbus+rtu:///dev/ttyUSB0?baud={}", "modbus://h/{}"
    check_lines(
        [at("a", port.format(9600)), at("b", port.format(9600)), at("c", host.format(1))], plugins=Known()
    )
    with pytest.raises(ConfigError, match="a and b share a line") as caught:
        check_lines([at("a", port.format(9600)), at("b", port.format(19_200))], plugins=Known())
    assert caught.value.code == "C128"
    rtu = "modbus+rtutcp://h:502/1"
    with pytest.raises(ConfigError):
        check_lines([at("a", host.format(1)), at("b", rtu)], plugins=Known())
    check_lines([at("a", host.format(1)), at("b", rtu, connections="own")], plugins=Known())


async def test_requests_are_on_the_way_together_up_to_the_configured_depth(peer: ModbusPeer) -> None:
    for i in range(16):
        peer.registers[i] = 100 + i
    (wire,) = wires(device(peer, 1, pipeline=4))
    await wire.open()
    assert wire.depth == 4
    waiting: list[int] = []

    async def hold(*_: int) -> None:
        waiting.append(len(wire.line._flying))

    peer.before = hold
    answers = await wire.read([one(1, i) for i in range(16)])
    assert [struct.unpack(">H", answer)[0] for (answer,) in answers] == list(range(100, 116))  # type: ignore[arg-type]
    assert max(waiting) == 4
    await wire.close()


async def test_answers_in_another_order_reach_who_asked(peer: ModbusPeer) -> None:
    peer.registers[0:3] = [7, 8, 9]
    held: list[bytes] = []

    def backwards(_: bytes, frame: bytes) -> tuple[bytes, ...]:
        held.append(frame)
        return tuple(reversed(held)) if len(held) == 3 else ()

    peer.distort = backwards
    (wire,) = wires(device(peer, 1, pipeline=3))
    await wire.open()
    assert await wire.read([one(1, i) for i in range(3)]) == [(b"\0\x07",), (b"\0\x08",), (b"\0\x09",)]
    await wire.close()


async def test_a_device_may_answer_many_requests_one_after_the_other(peer: ModbusPeer) -> None:
    async def think(*_: int) -> None:
        await asyncio.sleep(0.06)

    peer.before = think
    peer.registers[0:5] = range(7, 12)
    (wire,) = wires(device(peer, 1, pipeline=5))  # 0.15 s for each: 0.3 s for the five are not too long
    await wire.open()
    answers = await wire.read([one(1, i) for i in range(5)])
    assert answers == [(bytes((0, value)),) for value in range(7, 12)]
    peer.silent = True
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    with pytest.raises(DeviceTimeoutError):
        await wire.read([one(1, i) for i in range(5)])
    assert loop.time() - started_s < 0.3  # silence costs one deadline however many wait
    await wire.close()


async def test_a_late_answer_is_dropped_and_the_connection_kept(peer: ModbusPeer) -> None:
    late: list[bytes] = []
    peer.registers[0:2] = [7, 8]

    def keep(_: bytes, frame: bytes) -> tuple[bytes, ...]:
        if frame[6] == 1 and not late:
            late.append(frame)
            return ()
        return (*late, frame) if len(late) == 1 and frame[6] == 2 else (frame,)

    peer.distort = keep
    first, second = wires(device(peer, 1), device(peer, 2))
    await first.open()
    await second.open()
    assert await read(second, one(2)) == (b"\0\x07",)
    with pytest.raises(DeviceTimeoutError, match="unit 1 did not answer"):
        await read(first, one(1))
    assert await read(second, one(2, 1)) == (b"\0\x08",)  # the late one came right before
    assert first.line.late == 1
    assert await read(first, one(1, 1)) == (b"\0\x08",)
    assert peer.connections == 1
    await closed(first, second)


async def test_a_dead_unit_costs_its_own_time_out_and_nobody_the_connection(peer: ModbusPeer) -> None:
    peer.mute = {3}
    devices = wires(*(device(peer, unit, pipeline=2) for unit in (1, 2, 3)))
    for wire in devices:
        await wire.open()
    good = {1: 0, 2: 0}

    async def poll(wire: ModbusWire, unit: int) -> None:
        for _ in range(40):
            await read(wire, one(unit))
            good[unit] += 1

    async def poll_dead() -> None:
        for _ in range(3):
            with pytest.raises(DeviceTimeoutError):
                await read(devices[2], one(3))
            await devices[2].close()
            await devices[2].open()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(poll(devices[0], 1))
        tasks.create_task(poll(devices[1], 2))
        tasks.create_task(poll_dead())
    assert good == {1: 40, 2: 40}
    assert peer.connections == 1
    await closed(*devices)


async def test_a_device_of_many_units_is_told_which_one_is_absent(peer: ModbusPeer) -> None:
    peer.mute = {2}
    (wire,) = wires(device(peer, 1, units=(1, 2, 3)))
    await wire.open()
    for _ in range(2):
        (first,), (second,), (third,) = await wire.read([one(1), one(2), one(3)])
        assert (first, third) == (b"\0\0", b"\0\0")
        assert isinstance(second, Fault)
        assert second.kind is FaultKind.ABSENT
        assert second.reason.startswith("D349 unit 2 is silent")
    assert peer.connections == 1
    peer.mute = {1, 2, 3}
    with pytest.raises(DeviceError):  # nobody answers any more: that is the link
        await wire.read([one(1), one(2), one(3), one(1)])
    await wire.close()


@pytest.mark.parametrize("code", [10, 11])
async def test_a_gateway_says_which_unit_is_absent(peer: ModbusPeer, code: int) -> None:
    (wire,) = wires(device(peer, 1, units=(1, 2)))
    await wire.open()
    peer.refusals = [code]
    ((fault,),) = await wire.read([one(2)])
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.ABSENT
    assert f"exception {code}" in fault.reason
    await wire.close()


async def test_a_shared_connection_nobody_answers_on_is_made_anew(peer: ModbusPeer) -> None:
    pair = wires(device(peer, 1), device(peer, 2))
    for wire in pair:
        await wire.open()
        await wire.read([one(1)])
    peer.silent = True
    for wire, unit in zip(pair, (1, 2), strict=True):
        with pytest.raises(DeviceTimeoutError):
            await read(wire, one(unit))
    with pytest.raises(DeviceTimeoutError):
        await read(pair[0], one(1))
    assert not pair[0].line.connected
    peer.silent = False
    for wire, unit in zip(pair, (1, 2), strict=True):
        await wire.open()
        assert await read(wire, one(unit)) == (b"\0\0",)
    assert peer.connections == 2
    await closed(*pair)


async def test_a_read_may_be_sent_again_while_the_connection_stands(peer: ModbusPeer) -> None:
    (wire,) = wires(device(peer, 1))
    await wire.open()
    peer.silent = True
    with pytest.raises(DeviceTimeoutError) as first:
        await read(wire, one(1))
    assert first.value.again
    with pytest.raises(DeviceTimeoutError) as second:  # the only unit there is, twice: nobody is there
        await read(wire, one(1))
    assert not second.value.again
    assert not wire.line.connected
    await wire.close()


async def test_a_request_may_have_a_shorter_deadline_of_its_own(peer: ModbusPeer) -> None:
    (wire,) = wires(device(peer, 1, units=(1, 2), timeout_ms=3000))
    await wire.open()
    await wire.read([one(1)])
    peer.mute = {2}
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    ((fault,),) = await wire.read([replace(one(2), deadline_s=0.02)])
    assert isinstance(fault, Fault)
    assert loop.time() - started_s < 2.0  # the device's own is 3
    await wire.close()


async def test_garbage_for_one_device_fails_the_others_at_once_and_once(peer: ModbusPeer) -> None:
    pair = wires(device(peer, 1), device(peer, 2))
    for wire in pair:
        await wire.open()
    peer.distort = lambda _, frame: (b"\xff" * 9,)
    with pytest.raises(DeviceError, match="D314"):
        await read(pair[0], one(1))
    peer.distort = None
    with pytest.raises(DeviceError, match="D314"):
        await read(pair[1], one(2))
    for wire in pair:
        await wire.open()
        assert await read(wire, one(1)) == (b"\0\0",)
    assert peer.connections == 2
    await closed(*pair)


async def test_a_write_goes_before_the_reads_that_wait(peer: ModbusPeer) -> None:
    first, second = wires(device(peer, 1, pipeline=4), device(peer, 2))
    await first.open()
    await second.open()  # the more careful of the two decides: one at a time
    place = modbus.parse("2/hr:9:INT")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first.read([one(1, i) for i in range(4)]))
        await asyncio.sleep(0)
        tasks.create_task(second.write(place, place.codec.encode(5)))
    functions = [function for _, function, _, _ in peer.asked]
    assert functions == [3, 6, 3, 3, 3]
    await closed(first, second)


async def test_units_take_turns_however_much_one_of_them_wants(peer: ModbusPeer) -> None:
    first, second = wires(device(peer, 1, pipeline=6), device(peer, 2, pipeline=1))
    await first.open()
    await second.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(first.read([one(1, i) for i in range(6)]))
        tasks.create_task(second.read([one(2, i) for i in range(3)]))
    assert [unit for unit, *_ in peer.asked] == [1, 1, 2, 1, 2, 1, 2, 1, 1]
    await closed(first, second)


async def test_a_pause_between_requests_is_kept(peer: ModbusPeer) -> None:
    (wire,) = wires(device(peer, 1, request_delay_ms=20))
    await wire.open()
    loop, stamps = asyncio.get_running_loop(), []

    def note(*_: int) -> None:
        stamps.append(loop.time())

    peer.before = note
    await wire.read([one(1, i) for i in range(3)])
    assert all(later - earlier >= 0.019 for earlier, later in itertools.pairwise(stamps))
    await wire.close()


async def test_a_cancelled_read_leaves_the_line_to_the_others(peer: ModbusPeer) -> None:
    first, second = wires(device(peer, 1), device(peer, 2))
    await first.open()
    await second.open()
    peer.mute = {1}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await read(first, one(1))
    assert await read(second, one(2)) == (b"\0\0",)
    await closed(first, second)


async def test_who_cannot_connect_is_not_on_the_line() -> None:
    cfg = config("modbus", "modbus://127.0.0.1:1/1", {"t": "hr:0:INT"})
    (wire,) = wires(cfg)
    with pytest.raises(DeviceError, match=r"D311 127\.0\.0\.1:1 refuses"):
        await wire.open()
    assert not wire.line._members


def test_turns_are_fair_bounded_and_urgent_first() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1"):
        turns.put(item[0], item)
    turns.put("b", "B!", urgent=True)
    anything = [turns.take(lambda _: True) for _ in range(7)]
    assert anything == ["B!", "a1", "b1", "c1", "a2", "a3", None]
    for item in ("a1", "b1"):
        turns.put(item[0], item)
    assert turns.take(lambda item: item != "a1") == "b1"
    assert (len(turns), [*turns.clear()], len(turns)) == (1, ["a1"], 0)
    for _ in range(MAX_WAITING):
        turns.put("a", "x")
    assert turns.full


def test_one_dead_unit_ends_nothing_and_a_dead_line_ends_soon() -> None:
    units = set(range(1, 21))
    health = Health()
    for unit in units - {5, 6}:
        health.answered(unit, 1.0)
    assert not any(health.fell_silent(unit, units) for unit in (5, 6, 5, 6))
    assert not health.hopeless(units)
    asked = 0
    for unit in sorted(units - {5, 6}):
        asked += 1
        if health.fell_silent(unit, units):
            break
    assert asked == 6  # a third of the eighteen that had answered
    alone = Health()
    assert not alone.fell_silent(1, {1})  # the device's own retry goes over the same connection
    assert alone.hopeless({1})
    assert alone.fell_silent(1, {1})


@pytest.mark.parametrize(
    ("settings", "gap_ms"),
    [
        (SerialSettings(9600, "N", 1), 3.646),
        (SerialSettings(19_200, "E", 1), 2.005),
        (SerialSettings(115_200, "E", 1), 1.75),
    ],
)
def test_frames_keep_the_distance_of_the_standard(settings: SerialSettings, gap_ms: float) -> None:
    # Modbus over serial line V1.02 §2.5.1.1
    assert 1000 * settings.gap_s == pytest.approx(gap_ms, abs=0.001)
