"""A wire without a network whose units can be silenced one by one, and a driver that uses it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.clock import Clock
from edge_opcua.drivers.aftermath import Tell, tell_nobody
from edge_opcua.drivers.codec import BitCodec
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.address import ModbusAddress
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import Fragment, Place, Request
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Stamped, Traffic, Wire
from edge_opcua.errors import DeviceError, DeviceTimeoutError
from tests.drivers.peers import DRIVERS, Bench, config


class ScriptedWire:
    """Registers that hold their own number, until they are set.

    Attributes:
        silent: Units that do not answer; each such request takes ``patience_s``.
        refused: Registers that do not exist.
        broken: Whether the whole line is gone.
        lose: How many of the next reads get no answer, over a connection that stands.
        swallow: How many of the next writes take effect, and their answer is lost.
        drop: How many of the next writes are lost on the way.
        breaks: Whether a write that is not answered costs the connection.
        gate: What reads wait for before they begin; None: nothing.
        waits: Whether a read waits for the gate.
        write_gate: The same for writes, after they took effect.
        log: ``r`` for each request that read, and what was written, in order.
        stamps: Answers for single registers, instead of their bytes.
        asked: Unit, start and size of every fragment.
    """

    def __init__(self) -> None:
        self.shape = ModbusShape()
        self.traffic = Traffic()
        self.depth = 4
        self.registers: dict[tuple[int, int], int] = {}
        self.silent: set[int] = set()
        self.refused: set[int] = set()
        self.busy: set[int] = set()
        self.broken = False
        self.lose = 0
        self.swallow = 0
        self.drop = 0
        self.breaks = False
        self.gate: asyncio.Event | None = None
        self.waits = False
        self.write_gate: asyncio.Event | None = None
        self.log: list[str | bytes] = []
        self.stamps: dict[int, Stamped] = {}
        self.asked: list[tuple[int, int, int]] = []
        self.deadlines: list[float | None] = []
        self.opened = 0
        self.patience_s = 0.02
        self.written: list[tuple[Place, bytes]] = []

    async def open(self) -> None:
        self.opened += 1
        if self.broken:
            raise DeviceError("nobody there")

    async def close(self) -> None:
        pass

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        await asyncio.sleep(0)
        if self.gate is not None:
            self.waits = True
            await self.gate.wait()
            self.waits = False
        self.log.append("r")
        self.traffic.requests += len(requests)
        if self.broken:
            raise DeviceError("the line is cut")
        if self.lose:
            self.lose -= 1
            raise DeviceTimeoutError("no answer", again=True)
        answers = []
        for request in requests:
            self.deadlines.append(request.deadline_s)
            answers.append([await self._one(fragment) for fragment in request.fragments])
        return answers

    async def _one(self, fragment: Fragment) -> Reading:
        unit, _ = cast("tuple[int, str]", fragment.space)
        numbers = range(fragment.start, fragment.start + fragment.size)
        self.asked.append((unit, fragment.start, fragment.size))
        if unit in self.silent:
            await asyncio.sleep(self.patience_s)
            return Fault(FaultKind.ABSENT, f"unit {unit} does not answer")
        if self.refused.intersection(numbers):
            return Fault(FaultKind.ADDRESS, "there is no such register")
        if self.busy.intersection(numbers):
            return Fault(FaultKind.BUSY, "later")
        if fragment.start in self.stamps:
            return self.stamps[fragment.start]
        return b"".join(
            struct.pack(">H", self.registers.get((unit, number), number) & 0xFFFF) for number in numbers
        )

    async def write(self, place: Place, encoded: bytes) -> None:
        unit, _ = cast("tuple[int, str]", place.space)
        if unit in self.silent:
            raise DeviceTimeoutError(f"unit {unit} does not answer", again=True)
        self.log.append(encoded)
        if self.drop:
            self.drop -= 1
            raise DeviceTimeoutError("no answer", again=not self.breaks)
        self.store(place, encoded)
        if self.write_gate is not None:
            await self.write_gate.wait()
        if self.swallow:
            self.swallow -= 1
            raise DeviceTimeoutError("no answer", again=not self.breaks)

    def store(self, place: Place, encoded: bytes) -> None:
        """Let a write take effect."""
        unit, _ = cast("tuple[int, str]", place.space)
        self.written.append((place, encoded))
        if isinstance(place.codec, BitCodec):
            bit = 1 << (cast(ModbusAddress, place).bit or 0)
            now = self.registers.get((unit, place.start), place.start)
            self.registers[unit, place.start] = now | bit if encoded[0] else now & ~bit
            return
        for i, word in enumerate(struct.unpack(f">{len(encoded) // 2}H", encoded)):
            self.registers[unit, place.start + i] = word

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        await asyncio.sleep(0)
        self.log.append(payload)


class ScriptedDriver(ModbusDriver):
    """Modbus addresses over :class:`ScriptedWire`."""

    made: ClassVar[list[ScriptedWire]] = []

    @classmethod
    def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:
        return cls.made[-1]


DRIVERS["scripted"] = ScriptedDriver


@asynccontextmanager
async def scripted(
    tags: dict[str, str], *, tell: Tell = tell_nobody, **more: Any
) -> AsyncIterator[tuple[ScriptedWire, Bench]]:
    """A device over a wire of its own, not yet running."""
    ScriptedDriver.made.append(ScriptedWire())
    bench = Bench(config("scripted", "modbus://nowhere/1", tags, **more), tell=tell)
    yield ScriptedDriver.made.pop(), bench
