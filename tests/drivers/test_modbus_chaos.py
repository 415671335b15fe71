"""Four devices on one connection that loses, delays, doubles and garbles answers: never another's value."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.wire import Fault
from edge_opcua.errors import DeviceError
from tests.drivers.peers import ModbusPeer, config

UNITS = ((1,), (2,), (3,), (4, 5, 6))
ROUNDS = 40


@dataclass
class Mischief:
    """What happens to an answer; most of them pass."""

    noise: random.Random
    held: list[bytes] = field(default_factory=list)

    def __call__(self, _: bytes, frame: bytes) -> Iterable[bytes] | None:
        draw = self.noise.random()
        if draw < 0.03:
            self.held.append(frame)
            return ()
        if draw < 0.06 and self.held:
            return (self.held.pop(), frame)
        if draw < 0.08:
            return (frame[:3], frame[3:])
        if draw < 0.09:
            return (frame, frame)
        if draw < 0.10:
            return (self.noise.randbytes(self.noise.randrange(1, 40)),)
        return None if draw < 0.105 else (frame,)


async def use(wire: ModbusWire, units: tuple[int, ...], noise: random.Random, good: list[int]) -> None:
    """Read at random and compare; each register holds its own number."""
    is_open = False
    for _ in range(ROUNDS):
        starts = [noise.randrange(2900) for _ in range(noise.randrange(1, wire.depth + 1))]
        asked = [Request((Fragment((noise.choice(units), "hr"), start, 2),)) for start in starts]
        try:
            if not is_open:
                await wire.open()
                is_open = True
            async with asyncio.timeout(noise.choice((None, None, 0.01))):
                answers = await wire.read(asked)
        except DeviceError:
            await wire.close()
            is_open = False
            continue
        except TimeoutError:  # a poller that was stopped in the middle
            continue
        for start, (answer,) in zip(starts, answers, strict=True):
            if isinstance(answer, bytes):
                assert struct.unpack(">HH", answer) == (start, start + 1)
                good.append(start)
            else:
                assert isinstance(answer, Fault)
    await wire.close()


@pytest.mark.parametrize("seed", range(2))
async def test_no_value_is_ever_another_ones_and_nothing_is_left_behind(seed: int) -> None:
    noise, good = random.Random(seed), []  # type: ignore[var-annotated]
    lines, clock = Lines(), SystemClock()
    async with ModbusPeer().serving() as peer:
        peer.registers = list(range(3000))
        peer.distort = Mischief(noise)
        async with asyncio.TaskGroup() as tasks:
            for units in UNITS:
                url = f"modbus://127.0.0.1:{peer.port}/{units[0]}"
                tags = {f"t{unit}": f"{unit}/hr:0:INT" for unit in units}
                options = {"pipeline": noise.choice((4, 8))}
                cfg = config("modbus", url, tags, name=f"d{units[0]}", timeout_ms=40, options=options)
                wire = ModbusDriver.wire(cfg, clock, lines)
                assert isinstance(wire, ModbusWire)
                line = wire.line
                tasks.create_task(use(wire, units, noise, good))
    assert len(good) > ROUNDS
    assert (line._flying, line._asks, len(line._turns), line._alarm, line.connected) == (
        {},
        {},
        0,
        None,
        False,
    )
