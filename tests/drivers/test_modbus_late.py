"""Answers later than twice the time-out: on RTU they look like the next request's, and never count."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.clock import SystemClock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.framing import RtuFraming
from edge_opcua.drivers.modbus.late import MAX_LOST, Late
from edge_opcua.drivers.modbus.pdu import (
    Ask,
    ask_echo,
    ask_identity,
    ask_mask,
    ask_read,
    ask_write_bits,
    ask_write_registers,
)
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.planner import Fragment, Request
from tests.drivers.peers import config
from tests.drivers.rtupeer import RtuPeer, crc

TIMEOUT_S = 0.06


def delays(times: float) -> Iterator[float]:
    while True:
        yield times * TIMEOUT_S


def varying() -> Iterator[float]:
    some = random.Random(7)
    while True:
        yield some.choice((0.0, 0.0, 5 * TIMEOUT_S * some.random()))


def wire_to(where: str) -> ModbusWire:
    tags = {f"t{unit}": f"{unit}/hr:0:INT" for unit in (1, 2)}
    cfg = config("modbus", where, tags, timeout_ms=round(TIMEOUT_S * 1000))
    wire = ModbusDriver.wire(cfg, SystemClock(), Lines())
    assert isinstance(wire, ModbusWire)
    return wire


async def value(wire: ModbusWire, unit: int, start: int) -> object:
    ((answer,),) = await wire.read([Request((Fragment((unit, "hr"), start, 1),))])
    return int.from_bytes(answer, "big") if isinstance(answer, bytes) else None


async def no_wrong_value(peer: RtuPeer, wire: ModbusWire, late: Iterator[float]) -> None:
    """Read through a stretch of late answers and out of it again; register n holds n."""
    peer.memory.registers = list(range(1000))
    await wire.open()
    try:
        assert [await value(wire, unit, 5) for unit in (2, 1)] == [5, 5]
        for start in range(100, 110):
            peer.delay_s = next(late)
            assert await value(wire, 1, start) in (start, None)
            assert await value(wire, 2, start) == start
        peer.delay_s = 0.0
        for start in range(200, 240):
            got = await value(wire, 1, start)
            assert got in (start, None)
            if got is not None:
                break
        assert got is not None
        assert await value(wire, 1, 300) == 300
        assert (peer.connections, wire.line.connections) in ((1, 1), (0, 1))
    finally:
        await wire.close()


@pytest.mark.parametrize("times", [2.5, 3.5, 4.5, None])
async def test_behind_a_device_server_no_late_answer_is_a_value(times: float | None) -> None:
    late = varying() if times is None else delays(times)
    async with RtuPeer().behind_tcp() as peer:
        await no_wrong_value(peer, wire_to(f"modbus+rtutcp://127.0.0.1:{peer.port}/1"), late)


@pytest.mark.parametrize("times", [2.5, None])
async def test_on_a_port_no_late_answer_is_a_value(times: float | None) -> None:
    late = varying() if times is None else delays(times)
    async with RtuPeer().on_a_terminal() as peer:
        await no_wrong_value(peer, wire_to(f"modbus+rtu://{peer.path}?baud=115200&parity=N"), late)


async def test_a_unit_that_stays_silent_is_asked_once_each_time() -> None:
    async with RtuPeer().behind_tcp() as peer:
        wire = wire_to(f"modbus+rtutcp://127.0.0.1:{peer.port}/1")
        await wire.open()
        assert [await value(wire, unit, 5) for unit in (2, 1)] == [0, 0]
        peer.delay_s = 60.0
        before, requests = len(peer.memory.asked), wire.traffic.requests
        for _ in range(3):
            assert await value(wire, 1, 5) is None
            assert await value(wire, 2, 5) == 0
        assert [asked[0] for asked in peer.memory.asked[before:]] == [1, 2] * 3
        assert wire.traffic.requests - requests == 6
        await asyncio.sleep(0)
        await wire.close()


LOST = [
    ask_read(1, "hr", 7, 1),
    ask_read(1, "ir", 0xFFFF, 1),
    ask_read(1, "co", 3, 8),
    ask_read(1, "di", 3, 30),
    ask_write_bits(1, 9, [True]),
    ask_write_bits(1, 9, [True, False]),
    ask_write_registers(1, 9, [1]),
    ask_write_registers(1, 9, [1, 2]),
    ask_mask(1, 9, 1, 2),
    ask_identity(1),
]


@pytest.mark.parametrize("lost", LOST, ids=lambda ask: f"{ask.function}")
def test_what_is_asked_next_differs_from_all_that_may_still_be_answered(lost: Ask) -> None:
    late, seen = Late(lost), {(lost.function, lost.head)}
    for _ in range(MAX_LOST - 1):
        ask = late.sync()
        _, start, size = struct.unpack(">BHH", ask.pdu)
        assert start + size <= 0x10000
        assert (ask.function, ask.head) not in seen
        seen.add((ask.function, ask.head))
        late.add(ask)
    for _ in range(3):  # without end: the oldest is forgotten
        late.add(late.sync())
    assert late.match(b"\x01") is not None


def test_a_refusal_that_may_be_an_older_ones_is_made_sure_of_by_an_echo() -> None:
    late = Late(LOST[0])
    assert not late.settles(late.sync(), 2)
    assert late.sync() is ask_echo(1)
    assert late.settles(late.sync(), 1)  # a unit that does not know the function refuses it
    late.add(late.sync())  # or is silent: then its next refusal has to do
    assert late.sync().function == 3
    assert late.settles(late.sync(), 2)
    assert Late(LOST[6]).settles(ask_read(1, "hr", 9, 1), 2)  # a lost write is refused with its own function


def answer(pdu: bytes) -> bytes:
    """Return how a unit answers whose register n holds n, and which has none from 8 on."""
    function, start, size = struct.unpack(">BHH", pdu)
    if function == 8:
        body = pdu
    elif start + size > 8:
        body = bytes((function | 0x80, 2))
    else:
        body = bytes((function, 2 * size)) + struct.pack(f">{size}H", *range(start, start + size))
    return b"\x01" + body + crc(b"\x01" + body)


STEPS = st.lists(st.sampled_from(("ask", "answer", "lose", "expire")), max_size=60)
READS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), min_size=1, max_size=9)


@given(STEPS, READS)
def test_a_unit_that_answers_in_order_is_never_misread(
    steps: list[str], reads: list[tuple[int, int]]
) -> None:
    framing = RtuFraming(noisy=False)
    unit: deque[bytes] = deque()
    wanted = deque(ask_read(1, "hr", start, size) for start, size in reads)
    flying: dict[int, Ask] = {}
    echoes = False
    for step in steps:
        if step == "ask" and not flying and wanted:
            flying = {0: framing.sync(1) or wanted[0]}
            _, frame = framing.frame(flying[0])
            unit.append(frame[1:-2])
        elif step == "lose" and unit:
            unit.pop()
        elif step == "expire" and flying:
            echoes = echoes or flying[0] is ask_echo(1)
            framing.expired(0, flying.pop(0))
        elif step == "answer" and unit:
            pdu = unit.popleft()
            for _, got in framing.feed(answer(pdu), flying):
                ask = flying.pop(0)
                if ask is wanted[0]:
                    wanted.popleft()
                    assert got == ask.answer(1, answer(ask.pdu)[1:-2])
        if echoes:  # a unit that does not answer an echo is believed what it refuses
            return
