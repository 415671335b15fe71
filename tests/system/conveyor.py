"""A conveyor whose drive has no program for us: two Modbus devices by others, and the running edge between.

The devices are libmodbus' own server, which tells each write with its time; pymodbus puts strokes into the
one that measures, and looks into the one that drives.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from pymodbus.client import AsyncModbusTcpClient

from edge_opcua.assets import examples_dir
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.demo.client import ScadaClient
from edge_opcua.demo.server import DemoServer
from edge_opcua.errors import EdgeError
from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.security.pki import own_certificate
from edge_opcua.security.roles import Role
from edge_opcua.security.trust import TrustList
from edge_opcua.security.users import Cost, UserStore
from tests.interop import modbus_stacks as stacks

SPEED, GOOD_PART, COUNT, BEAT = 2500, 10, 2505, 2510
LOW, HIGH, PRESET, RATE_PER_S = 0.6, 2.0, 1.2, 2.0
SEQUENCE, READY, CONTEXT, SAMPLES = 2100, 2101, 2110, 100
HEALTHY, WORN, BROKEN = 1, 5, 6  # strokes with which the model was proven: 0.47, 1.85 and 2.40 here
LOOK_S = 0.02

CONFIG = f"""\
version = 1
[site]
name = "line-4"
machine = "Conveyor"
[opcua]
listen = "127.0.0.1:0"
[models]
folder = "{{models}}"
[[devices]]
name = "unit"
driver = "modbus"
url = "modbus://127.0.0.1:{{unit}}/7"
tags = "unit.csv"
timeout_ms = 500
  [[devices.groups]]
  name = "slow"
  period_ms = 200
  [[devices.captures]]
  name = "stroke"
  poll_ms = 20
  sequence = "hr:{SEQUENCE}:UINT"
  stroke = "hr:{SEQUENCE}:UINT"
  ready = "hr:{READY}.0:BOOL"
  samples = "hr:{SAMPLES}:INT[2000]"
  scale = 0.01
  unit = "m/s²"
  sample_rate_hz = 10000
[[devices]]
name = "drive"
driver = "modbus"
url = "modbus://127.0.0.1:{{drive}}/7"
tags = "drive.csv"
timeout_ms = 500
  [[devices.groups]]
  name = "fast"
  period_ms = 100
[[pipelines]]
name = "judge"
model = "press-anomaly"
capture = "unit/stroke"
context = ["unit/tonnage", "unit/die_temp", "unit/strokes_per_min"]
deadline_ms = 1000
[[outputs]]
name = "pace"
device = "drive"
pipeline = "judge"
plc_timeout_ms = 1000
recover_hold_s = 0.3
  [[outputs.values]]
  tag = "drive/speed"
  source = "score"
  preset = {PRESET}
  low = {LOW}
  high = {HIGH}
  rate_per_s = {RATE_PER_S}
  tolerance = 0.001
  writers = ["operator", "program", "model"]
  [[outputs.values]]
  tag = "drive/good_part"
  source = "verdict"
  kind = "bit"
  preset = 0
[[outputs]]
name = "tally"
device = "drive"
pipeline = "judge"
heartbeat = "drive/beat"
plc_timeout_ms = 1000
recover_hold_s = 0.3
  [[outputs.values]]
  tag = "drive/count"
  source = "cycle"
  kind = "command"
  strategy = "hold_last"
"""
UNIT_TAGS = f"""\
name,address,unit,scale,group
tonnage,hr:{CONTEXT}:INT,kN,0.1,slow
die_temp,hr:{CONTEXT + 1}:INT,°C,0.1,slow
strokes_per_min,hr:{CONTEXT + 2}:INT,1/min,0.1,slow
"""
DRIVE_TAGS = f"""\
name,address,access,group
speed,hr:{SPEED}:REAL,rw,fast
good_part,co:{GOOD_PART}:BOOL,rw,fast
count,hr:{COUNT}:UINT,rw,fast
beat,hr:{BEAT}:UINT,rw,fast
"""


@dataclass(frozen=True, slots=True)
class Write:
    """What the device told of one write.

    Args:
        ns: When, monotonic.
        address: First register or coil.
        words: What it holds since then.
    """

    ns: int
    address: int
    words: tuple[int, ...]

    @property
    def real(self) -> float:
        """The number in two registers, high word first."""
        return as_real(self.words)


def as_real(words: Iterable[int]) -> float:
    number: float = struct.unpack(">f", struct.pack(">HH", *words))[0]
    return number


class Device:
    """A device on libmodbus, and pymodbus to look into it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.writes: list[Write] = []
        self.client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=2.0)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            word, ns, _, address, *values = line.decode().split()
            assert word == "write"
            self.writes.append(Write(int(ns), int(address), tuple(map(int, values))))

    async def read(self, address: int, count: int) -> list[int]:
        found = await self.client.read_holding_registers(address, count=count, device_id=7)
        assert not found.isError()
        return list(found.registers)

    async def write(self, address: int, words: list[int]) -> None:
        for at in range(0, len(words), 100):
            done = await self.client.write_registers(address + at, words[at : at + 100], device_id=7)
            assert not done.isError()

    def trace(self, address: int, since: int = 0) -> list[Write]:
        """Return what was written to an address, from the given number of writes on."""
        return [write for write in self.writes[since:] if write.address == address]


class Conveyor:
    """Two devices by others and the edge between; ``async with`` starts and ends all."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = SystemClock()
        self.state = StateDir(home / "state")
        self.config = home / "line.toml"
        self.unit: Device
        self.drive: Device
        self.server: DemoServer
        self.program: ScadaClient
        self.person: Client
        self.strokes = 0
        self._stack = contextlib.AsyncExitStack()
        model = examples_dir() / "press" / "models" / "press-anomaly" / "1"
        waveforms = np.load(model / "golden.npz")["waveform"]
        self._samples = np.round(waveforms * 100).astype(np.int16).view(np.uint16)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        programs = stacks.build(self.home)
        self.unit, self.drive = [await self._device(programs, group) for _ in range(2)]
        await self.unit.write(SEQUENCE, [0, 0])
        await self.unit.write(CONTEXT, [8376, 513, 180])
        models = examples_dir() / "press" / "models"
        ports = {"unit": self.unit.port, "drive": self.drive.port}
        self.config.write_text(CONFIG.format(models=models, **ports), "utf-8")
        (self.home / "unit.csv").write_text(UNIT_TAGS, "utf-8")
        (self.home / "drive.csv").write_text(DRIVE_TAGS, "utf-8")
        self.state.root.mkdir()
        users = UserStore(self.state.root, cost=Cost(n=2**10))
        users.add("anna", frozenset({Role.OPERATOR}), password="anna has a password")
        self.server = DemoServer(self.config, self.state.root, {})
        self._stack.push_async_callback(self.server.stop)
        await self.server.start(group)
        await self._let_in()

    async def _device(self, programs: Path, group: asyncio.TaskGroup) -> Device:
        command = (str(programs / "server"), "many", "0")
        device = Device(*await self._stack.enter_async_context(stacks.serving(*command)))
        listening = group.create_task(device.listen())
        self._stack.callback(listening.cancel)
        assert await device.client.connect()
        self._stack.callback(device.client.close)
        return device

    async def _let_in(self) -> None:
        self.program = ScadaClient(self.server.endpoint, self.home / "pki", self.clock)
        with contextlib.suppress(EdgeError):
            await self.program.connect()
        trust = TrustList(self.state.pki)
        for knock in trust.rejected():
            trust.trust(knock.thumbprint, frozenset({Role.OPERATOR}))
        await self.program.connect()
        self._stack.push_async_callback(_quietly, self.program.disconnect)
        self.person = await self._signed_in()
        self._stack.push_async_callback(_quietly, self.person.disconnect)

    async def _signed_in(self) -> Client:
        """Return the same application with a person in front of it."""
        client, home = Client(self.server.endpoint, timeout=4.0), self.home / "pki"
        client.application_uri = self.program._pki.application_uri
        await client.set_security(
            SecurityPolicyBasic256Sha256, own_certificate(home), home / "own" / "key.pem"
        )
        client.set_user("anna")
        client.set_password("anna has a password")
        await client.connect()
        return client

    def program_node(self, tag: str) -> Node:
        return self.program._connected().get_node(plant_id(f"Conveyor.Process.{tag}"))

    def person_node(self, tag: str) -> Node:
        return self.person.get_node(plant_id(f"Conveyor.Process.{tag}"))

    async def write(self, node: Node, value: float) -> None:
        await node.write_value(ua.DataValue(ua.Variant(value, ua.VariantType.Float)))

    async def stroke(self, number: int) -> None:
        """Let the sensor unit have captured a stroke."""
        self.strokes += 1
        await self.unit.write(READY, [0])
        await self.unit.write(SAMPLES, [int(word) for word in self._samples[number]])
        await self.unit.write(SEQUENCE, [self.strokes, 1])

    async def judged(self, number: int, speed: float | None) -> None:
        """Let a stroke be judged, and wait until its score stands in the device, wherever that is."""
        since = len(self.drive.writes)
        await self.stroke(number)

        async def told() -> bool:
            return bool(self.drive.trace(GOOD_PART, since) and self.drive.trace(COUNT, since))

        await self.until(told, "a verdict")
        if speed is not None:
            await self.settles(speed)
            return
        await self.clock.sleep(1.0)  # somewhere between: the ramp is over by then
        assert LOW < self.drive.trace(SPEED)[-1].real < HIGH

    async def output(self, name: str) -> dict[str, Any]:
        reply = await ask(self.state.control_socket, "supervisor", "status", {}, timeout_s=3.0)
        found: dict[str, Any] = next(row for row in reply.body["outputs"] if row["output"] == name)
        return found

    async def pid(self, role: str) -> int:
        reply = await ask(self.state.control_socket, "supervisor", "status", {}, timeout_s=3.0)
        return next(int(row["pid"]) for row in reply.body["processes"] if row["role"].startswith(role))

    async def is_in(self, state: str, *, outputs: Iterable[str] = ("pace",)) -> None:
        async def look() -> bool:
            return {(await self.output(name)).get("state") for name in outputs} == {state}

        await self.until(look, f"{outputs} {state}")

    async def acknowledge(self, name: str) -> None:
        """Call the method of the output as the person does."""
        output = f"Conveyor.Outputs.{name}"
        method = plant_id(f"{output}.Acknowledge")
        await self.person.get_node(plant_id(output)).call_method(method, ua.Variant("seen"))

    async def works_again(self) -> None:
        """Wait until both outputs wait for somebody; after a lost input a new stroke has to be judged."""

        async def waits() -> bool:
            states = {(await self.output(name))["state"] for name in ("pace", "tally")}
            if "FAILSAFE" in states:
                await self._another_stroke()
            return states == {"ACK_REQUIRED"}

        await self.until(waits, "outputs that wait for an acknowledge")

    async def acts(self) -> None:
        """Bring both outputs to work, as whoever runs the machine would."""

        async def act() -> bool:
            states = {name: (await self.output(name)).get("state") for name in ("pace", "tally")}
            for name in states:
                if states[name] == "ACK_REQUIRED":
                    await self.acknowledge(name)
            if {"INHIBITED", "FAILSAFE"} & set(states.values()):
                await self._another_stroke()
            return set(states.values()) == {"ACTIVE"}

        await self.until(act, "outputs that act")

    async def _another_stroke(self) -> None:
        await self.stroke(HEALTHY)
        await self.clock.sleep(0.2)

    async def settles(self, value: float) -> None:
        """Wait until the set-point has arrived where it shall, and the device has told of it."""

        async def arrived() -> bool:
            held = as_real(await self.drive.read(SPEED, 2))
            return abs(held - value) < 1e-6 and self.drive.trace(SPEED)[-1].real == held

        await self.until(arrived, f"a speed of {value}")

    async def reads(self, value: float) -> None:
        """Wait until clients read a speed."""

        async def read() -> bool:
            return bool(round(await self.program_node("speed").read_value(), 6) == round(value, 6))

        await self.until(read, f"a client that reads {value}")

    async def tells(self, value: float, status: str) -> None:
        """Wait until the output says what it writes: it does so four times a second."""

        async def told() -> bool:
            row, _ = (await self.output("pace"))["values"]
            return (round(row["value"], 6), row["status"]) == (round(value, 6), status)

        await self.until(told, f"{value} {status}")

    async def until(self, look: Callable[[], Awaitable[Any]], what: str, *, within_s: float = 40.0) -> None:
        ends_s = self.clock.monotonic_s() + within_s
        while not await look():
            if self.clock.monotonic_s() > ends_s:
                log = (self.state.root / "demo-server.log").read_text("utf-8", "replace")
                raise AssertionError(f"not seen: {what}\n{self.drive.writes[-20:]}\n{log[-4000:]}")
            await self.clock.sleep(LOOK_S)


def as_real_of(value: float) -> float:
    """Return a number as a REAL holds it."""
    real: float = struct.unpack(">f", struct.pack(">f", value))[0]
    return real


async def _quietly(end: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(EdgeError, ua.UaError, OSError, TimeoutError):
        await end()
