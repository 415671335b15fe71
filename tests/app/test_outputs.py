"""Outputs as the io process makes them: over a real Modbus device, asked over the control channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from edge_opcua.app.build import plan
from edge_opcua.app.io import _Writes
from edge_opcua.app.outputs import make_output
from edge_opcua.config.loader import Loaded, load
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_SUPPORTED,
    BAD_NOT_WRITABLE,
    GOOD,
    Verdict,
)
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.poller import build_device
from edge_opcua.writeback.output import Output
from tests.drivers.peers import ModbusPeer

CONFIG = """
version = 1
[site]
name = "plant"
machine = "Press01"
[[devices]]
name = "press"
driver = "modbus"
url = "modbus://127.0.0.1:{port}/1"
tags = "press.csv"
  [devices.options]
  recover_hold_s = 0.1
  [[devices.groups]]
  name = "fast"
  period_ms = 20
  [[devices.captures]]
  name = "stroke"
  sequence = "hr:0:UINT"
  samples = "hr:100:INT[10]"
  sample_rate_hz = 1000
[[pipelines]]
name = "wear"
model = "wear"
capture = "press/stroke"
[[outputs]]
name = "speed"
device = "press"
pipeline = "wear"
granted_by = "operator"
heartbeat = "press/beat"
recover_hold_s = 0.1
  [[outputs.values]]
  tag = "press/speed"
  source = "score"
  preset = 5
  writers = ["operator", "program", "model"]
"""
BLOCK = """
[[outputs]]
name = "verdict"
device = "press"
pipeline = "wear"
  [outputs.interface]
  control = "hr:300"
  status = "hr:320"
  commands = ["load_model"]
"""
TABLE = """\
name,address,unit,low,high,access,group
speed,hr:10:INT,1/min,0,40,rw,fast
beat,hr:11:UINT,,,,rw,fast
"""


class Child:
    """A process of which only the control channel is somebody else's."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.clock = SystemClock()
        self.control = self
        self.records: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def notify(self, to: str, kind: str, body: dict[str, Any]) -> None:
        assert (to, kind) == ("records", "audit")
        self.records.append(body)

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        self.asked.append((to, kind, body))
        return Reply(GOOD)


class Line:
    def __init__(self, peer: ModbusPeer, bus: Bus, child: Child, output: Output, io: _Writes) -> None:
        self.peer, self.bus, self.child, self.output, self.io = peer, bus, child, output, io
        self.writer = bus.writer("wear.result")
        self.number = 0

    def judge(self, score: float) -> None:
        self.number += 1
        batch = self.writer.batch
        values = {"stroke": self.number, "score": score, "verdict": int(Verdict.OK), "result_id": self.number}
        for name, value in values.items():
            batch.set(batch.row(name), value)
        batch.status[:] = GOOD
        self.writer.publish()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.writer.beat()
                await asyncio.sleep(0.01)

    async def ask(self, kind: str, **body: Any) -> Reply:
        return await self.io.handle(Request("io", kind, body))

    async def act(self, action: str, **body: Any) -> Reply:
        return await self.ask(
            "output", output=self.output.name, action=action, user="anna", why="trial", **body
        )


def written(folder: Path, text: str) -> Loaded:
    (folder / "press.csv").write_text(TABLE)
    (folder / "press.toml").write_text(text)
    return load(folder / "press.toml", env={})


@asynccontextmanager
async def at_work(folder: Path, *, interface: bool = False) -> AsyncIterator[Line]:
    async with ModbusPeer().serving() as peer:
        peer.registers[0] = 1
        text = CONFIG.format(port=peer.port)
        text = text.split("[[outputs]]")[0] + BLOCK if interface else text
        loaded = await asyncio.get_running_loop().run_in_executor(None, written, folder, text)
        assert loaded.config is not None, loaded.problems
        config = loaded.config
        bus = Bus.create(plan(config).blocks)
        child = Child(bus)
        device = build_device(config.devices[0], bus, child.clock, Lines())
        device.plan()
        output = make_output(cast(Any, child), config, config.outputs[0], {"press": device})
        plant = SimpleNamespace(
            devices={"press": device}, pausing=frozenset(), config=config, outputs={output.name: output}
        )
        line = Line(peer, bus, child, output, _Writes(cast(Any, child), cast(Any, plant)))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(device.run()), tasks.create_task(output.run())]
            try:
                yield line
            finally:
                for task in running:
                    task.cancel()
        bus.close()


async def test_results_reach_a_real_device_and_people_take_it_over(tmp_path: Path) -> None:
    async with at_work(tmp_path) as line:
        line.judge(1.0)
        await line.until(lambda: line.output.state.name == "READY")
        assert line.peer.registers[10] == 5, "the fail-safe value"
        assert (await line.act("grant")).status == GOOD
        await line.until(lambda: line.output.state.name == "ACTIVE")
        line.judge(17.0)
        await line.until(lambda: line.peer.registers[10] == 17)
        await line.until(lambda: line.peer.registers[11] > 2)

        body = {"tag": "press/speed", "value": 21, "user": "mes", "writer": "program", "why": "recipe"}
        reply = await line.ask("write", **body)
        assert (reply.status, reply.body) == (GOOD, {"recorded": True})
        await line.until(lambda: line.peer.registers[10] == 21)
        record = line.child.records[-1]
        assert (record["who"], record["why"], record["new"]) == ("mes", "recipe", {"press/speed": 21})
        assert (await line.act("writer_gone")).status == BAD_INVALID_STATE, "anna holds nothing"
        beat = await line.ask("write", tag="press/beat", value=1, user="mes", writer="program")
        assert beat.status == BAD_NODE_ID_UNKNOWN

        assert (await line.act("manual", values={"press/speed": 9})).status == GOOD
        assert line.peer.registers[10] == 9
        assert line.output.state.name == "MANUAL"
        assert (await line.act("automatic")).status == GOOD
        assert (await line.act("acknowledge")).status == BAD_INVALID_STATE
        assert (await line.act("revoke")).status == GOOD
        assert (await line.act("dance")).status == BAD_NOT_SUPPORTED
        assert (await line.act("manual", values=5)).status == BAD_INVALID_ARGUMENT
        await line.until(lambda: line.peer.registers[10] == 5)


async def test_a_client_that_says_nothing_of_itself_is_a_program(tmp_path: Path) -> None:
    async with at_work(tmp_path) as line:
        reply = await line.ask("write", tag="press/speed", value=3, user="")
        assert reply.reason == "speed is INHIBITED"
        line.io._plant.outputs.clear()
        reply = await line.ask("write", tag="press/speed", value=3, user="")
        assert reply.reason == "the output speed is being changed"


async def test_an_interface_block_in_registers_and_a_command_of_the_plc(tmp_path: Path) -> None:
    async with at_work(tmp_path, interface=True) as line:
        line.judge(1.0)
        registers = line.peer.registers
        await line.until(lambda: registers[331] != 0)
        registers[306] = registers[331]  # the block in the PLC was made from the same map
        registers[300] = 0x0001 | 0x0040  # Enable, ExecuteCmd
        registers[304], registers[305] = 1, 7
        # A PLC that lives: its heartbeat moves, and it gives ours back.
        for _ in range(200):
            registers[301] = registers[301] % 65_535 + 1
            registers[302] = registers[321]
            line.writer.beat()
            await asyncio.sleep(0.02)
            if line.child.asked and line.output.state.name == "ACTIVE":
                break
        assert line.output.state.name == "ACTIVE"
        expected = {"name": "wear", "version": 7, "sha256": "", "user": "PLC (verdict)"}
        assert line.child.asked == [("supervisor", "load_model", expected)]
        words = 19
        await line.until(
            lambda: line.peer.asked.count((1, 3, 320, words)) >= 2
        )  # at the start, and read back
        assert line.output.state.name == "ACTIVE"
        refused = await line.ask("write", tag="press/verdict.status", value=3, user="", writer="operator")
        assert refused.status == BAD_NOT_WRITABLE
