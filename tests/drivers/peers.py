"""Devices to talk to: a Modbus server with its own frames that misbehaves on demand; a bench for drivers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import BAD_WAITING_FOR_INITIAL_DATA
from edge_opcua.drivers.aftermath import Tell, tell_nobody
from edge_opcua.drivers.ethernetip import EtherNetIpDriver
from edge_opcua.drivers.ethernetip.wire import EipWire
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.wire import ModbusWire
from edge_opcua.drivers.opcuaclient import OpcUaDriver
from edge_opcua.drivers.opcuaclient.wire import OpcUaWire
from edge_opcua.drivers.plan import plan_device
from edge_opcua.drivers.planner import Request
from edge_opcua.drivers.poller import Device
from edge_opcua.drivers.s7 import S7Driver
from edge_opcua.drivers.s7.wire import S7Wire
from edge_opcua.drivers.wire import Driver, Reading, Wire
from edge_opcua.sim.proxy import Link
from tests.drivers.listening import Listening

# Quick enough for tests, slow enough for a busy computer.
OPTIONS: dict[str, Any] = {
    "backoff_first_s": 0.05,
    "recover_cycles": 1,
    "recover_hold_s": 0.0,
}

# Looking plugins up reads files and importing a wire does too; neither may happen in a test's loop.
WIRES = (EipWire, ModbusWire, OpcUaWire, S7Wire)
DRIVERS: dict[str, type[Driver]] = {
    "ethernet-ip": EtherNetIpDriver,
    "modbus": ModbusDriver,
    "opcua": OpcUaDriver,
    "s7": S7Driver,
}


class Known:
    """Plugins that are there already."""

    def names(self, group: str) -> tuple[str, ...]:
        return tuple(DRIVERS)

    def load(self, group: str, name: str) -> type[Driver]:
        return DRIVERS[name]


class ModbusPeer(Listening):
    """A Modbus TCP device.

    Attributes:
        registers: Holding registers.
        inputs: Input registers.
        coils: Coils.
        discretes: Discrete inputs.
        holes: Register and bit addresses that do not exist.
        refusals: Exception codes for the next requests, one each; 0 lets one pass.
        silent: Whether requests are swallowed.
        mute: Units that do not answer, while the others do.
        identity: Vendor, product and revision for function 43/14; without them it is not known.
        asked: Every request: unit, function, address, count or value.
        before: Called before each answer; may change registers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registers = [0] * 3_000
        self.inputs = [0] * 3_000
        self.coils = [False] * 3_000
        self.discretes = [False] * 3_000
        self.holes: set[int] = set()
        self.refusals: list[int] = []
        self.silent = False
        self.mute: set[int] = set()
        self.identity: tuple[str, ...] = ()
        self.asked: list[tuple[int, int, int, int]] = []
        self.before: Callable[[int, int, int], Awaitable[None] | None] | None = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(7)
            transaction, _, length, unit = struct.unpack(">HHHB", head)
            if length < 2:  # noise on the cable
                return
            body = await reader.readexactly(length - 1)
            if self.silent or unit in self.mute:
                continue
            answer = await self._answer(unit, body)
            frame = struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer
            if not await self._send(writer, head + body, frame):
                return

    async def _answer(self, unit: int, body: bytes) -> bytes:
        function = body[0]
        if function == 43:
            return self._identify(unit, body)
        start, value = struct.unpack_from(">HH", body, 1)
        self.asked.append((unit, function, start, value))
        if self.before is not None:
            waited = self.before(function, start, value)
            if waited is not None:
                await waited
        code = self.refusals.pop(0) if self.refusals else 0
        touched = range(start, start + (value if function in (1, 2, 3, 4, 15, 16) else 1))
        if not code and self.holes.intersection(touched):
            code = 2
        if code:
            return bytes((function | 0x80, code))
        if function in (1, 2):
            bits = (self.coils if function == 1 else self.discretes)[start : start + value]
            packed = bytearray((value + 7) // 8)
            for i, bit in enumerate(bits):
                packed[i // 8] |= bit << i % 8
            return bytes((function, len(packed))) + packed
        if function in (3, 4):
            words = (self.registers if function == 3 else self.inputs)[start : start + value]
            return bytes((function, 2 * value)) + struct.pack(f">{value}H", *words)
        return self._write(function, start, value, body)

    def _identify(self, unit: int, body: bytes) -> bytes:
        self.asked.append((unit, 43, body[1], body[2]))
        if not self.identity:
            return bytes((0xAB, 1))
        objects = b"".join(bytes((i, len(text))) + text.encode() for i, text in enumerate(self.identity))
        return bytes((43, 14, 1, 1, 0, 0, len(self.identity))) + objects

    def _write(self, function: int, start: int, value: int, body: bytes) -> bytes:
        if function == 5:
            self.coils[start] = value == 0xFF00
        elif function == 6:
            self.registers[start] = value
        elif function == 15:
            for i in range(value):
                self.coils[start + i] = bool(body[6 + i // 8] >> i % 8 & 1)
        elif function == 16:
            self.registers[start : start + value] = struct.unpack_from(f">{value}H", body, 6)
        elif function == 22:
            (ones,) = struct.unpack_from(">H", body, 5)
            self.registers[start] = self.registers[start] & value | ones & ~value & 0xFFFF
            return body
        else:
            return bytes((function | 0x80, 1))
        return body[:5]

    def put(self, start: int, form: str, *values: Any) -> None:
        """Store values big-endian from a holding register on."""
        raw = struct.pack(">" + form, *values)
        self.registers[start : start + len(raw) // 2] = struct.unpack(f">{len(raw) // 2}H", raw)


async def read(wire: Wire, request: Request) -> Sequence[Reading]:
    """Send one request."""
    (answers,) = await wire.read((request,))
    return answers


class Bench:
    """A device on a bus of its own."""

    def __init__(self, cfg: DeviceConfig, lines: Lines | None = None, tell: Tell = tell_nobody) -> None:
        self.cfg = cfg
        self.plan = plan_device(cfg, plugins=Known())
        self.bus = Bus.create(self.plan.blocks)
        self.clock = SystemClock()
        driver = DRIVERS[cfg.driver]
        self.device = Device(cfg, driver, self.bus, self.clock, lines or Lines(), draw=lambda: 0.0, tell=tell)

    @property
    def requests_per_period(self) -> dict[str, int]:
        """Return the requests of one poll of each group or capture, as planned."""
        return {name: reads.requests for name, reads in self.plan.reads.items()}

    def reader(self, part: str) -> BlockReader:
        return self.bus.reader(f"{self.cfg.name}.{part}", from_newest=False)

    def values(self, part: str) -> dict[str, Any]:
        """Return the values of the newest batch."""
        batch = self.reader(part).latest()
        if batch is None:
            return dict.fromkeys(tag.name for tag in self.bus.blocks[f"{self.cfg.name}.{part}"].tags)
        return {tag.name: batch.value(row) for row, tag in enumerate(batch.layout.spec.tags)}

    def statuses(self, part: str) -> dict[str, int]:
        """Return the effective statuses, as a client sees them."""
        reader = self.reader(part)
        batch = reader.latest()
        if batch is None:
            return dict.fromkeys((tag.name for tag in reader.spec.tags), BAD_WAITING_FOR_INITIAL_DATA)
        tags = batch.layout.spec.tags
        return dict(zip((tag.name for tag in tags), reader.effective(batch).tolist(), strict=True))

    def restarted(self) -> Bench:
        """Return the same bench after its io process was started again."""
        again = Bench.__new__(Bench)
        again.__dict__ = dict(self.__dict__)
        again.device = Device(
            self.cfg, DRIVERS[self.cfg.driver], self.bus, self.clock, Lines(), draw=lambda: 0.0
        )
        return again

    async def until(self, condition: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_state(self, state: str, *, timeout_s: float = 15.0) -> None:
        await self.until(lambda: self.device.status.state.name == state, timeout_s=timeout_s)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Device]:
        """Run the device; whatever it raises fails the test."""
        async with self.running_once() as device:
            yield device
        self.bus.close()

    @asynccontextmanager
    async def running_once(self) -> AsyncIterator[Device]:
        """Run the device and leave the bus open afterwards."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.device.run())
            try:
                yield self.device
            finally:
                task.cancel()


def config(driver: str, url: str, tags: dict[str, str], **more: Any) -> DeviceConfig:
    """Return a device with one poll group ``fast``; a tag is its address, or ``address|access``."""
    parse = DRIVERS[driver].parse_address
    extra = more.pop("extra", {})
    rows = []
    for name, address in tags.items():
        place = parse(address)
        row = {
            "name": name,
            "address": address,
            "type": place.scalar,
            "length": place.length,
            "group": "fast",
        }
        rows.append(row | extra.get(name, {}))
    settings: dict[str, Any] = {
        "name": "dev",
        "driver": driver,
        "url": url,
        "tags": rows,
        "timeout_ms": 300,
        "hold_s": 0.4,
        "groups": [{"name": "fast", "period_ms": 20}],
    }
    options = OPTIONS | more.pop("options", {})
    return DeviceConfig.model_validate(settings | more | {"options": options})


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Link]:
    """Put a link that can be broken before a port."""
    link = Link(seed=3)
    link.target = ("127.0.0.1", port)
    await link.open()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(link.run())
        await asyncio.sleep(0)  # what has never started cannot clean up
        try:
            yield link
        finally:
            task.cancel()
