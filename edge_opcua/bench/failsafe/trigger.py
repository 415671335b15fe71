"""Trigger to result, as the PLC sees it: the soft PLC executes the exported block and times its own requests.

Beside it stands the sum of the parts that no software can leave out at this pace: half a poll until the
trigger is seen, reading the request, the model, and one write, which a PLC answers after the next scan.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pymodbus.client import AsyncModbusTcpClient

from edge_opcua.assets import examples_dir
from edge_opcua.bench.figure import Figure
from edge_opcua.config.loader import load
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.demo.server import DemoServer
from edge_opcua.errors import EdgeError
from edge_opcua.ladder.codesys import files
from edge_opcua.ladder.facts import facts_of
from edge_opcua.sim.process import UnitProcess

REQUESTS: Final = 300
POLL_MS: Final = 20
SCAN_MS: Final = 20
LIMIT_S: Final = 120.0
SAMPLES: Final = 2000
OUTPUT: Final = "judge-out"
_CONTROL, _STATUS, _PAYLOAD = 200, 300, 1000
_PER_REQUEST: Final = 123
_FLOOR_READS: Final = 50
_PAUSE_SCANS: Final = 3
_LOOK_S: Final = 0.1
_CONTEXT: Final = (8000, 400, 18)  # 800 kN, 40 °C, 18 strokes a minute

_CONFIG: Final = f"""\
version = 1
[site]
name = "bench"
machine = "Cell"
[opcua]
listen = "127.0.0.1:0"
[models]
folder = "{{models}}"
[[devices]]
name = "plc"
driver = "modbus"
url = "{{url}}"
tags = "plc.csv"
timeout_ms = 500
  [[devices.groups]]
  name = "slow"
  period_ms = 500
  [[devices.captures]]
  name = "request"
  poll_ms = {POLL_MS}
  sequence = "hr:{_CONTROL + 3}:UINT"
  stroke = "hr:{_CONTROL + 3}:UINT"
  ready = "hr:{_CONTROL}.1:BOOL"
  samples = "hr:{_PAYLOAD}:INT[{SAMPLES}]"
  scale = 0.01
  unit = "m/s²"
  sample_rate_hz = 10000
[[pipelines]]
name = "judge"
model = "press-anomaly"
capture = "plc/request"
context = ["plc/tonnage", "plc/die_temp", "plc/strokes_per_min"]
deadline_ms = 200
[[outputs]]
name = "{OUTPUT}"
device = "plc"
pipeline = "judge"
granted_by = "plc"
  [outputs.interface]
  mode = "triggered"
  control = "hr:{_CONTROL}"
  status = "hr:{_STATUS}"
  poll_ms = {POLL_MS}
"""
_TAGS: Final = f"""\
name,address,unit,scale,group
tonnage,hr:{_PAYLOAD + SAMPLES}:INT,kN,0.1,slow
die_temp,hr:{_PAYLOAD + SAMPLES + 1}:INT,°C,0.1,slow
strokes_per_min,hr:{_PAYLOAD + SAMPLES + 2}:INT,1/min,1,slow
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """What was measured.

    Args:
        ms: Trigger to result of each request, as the PLC saw it.
        read_ms: One read of the whole request by a plain client.
        write_ms: One write of the status area by a plain client, answered after the next scan.
        model_ms: Median of the model, features included.
    """

    ms: list[float]
    read_ms: float
    write_ms: float
    model_ms: float

    @property
    def parts_ms(self) -> float:
        """The sum of the parts."""
        return POLL_MS / 2 + self.read_ms + self.model_ms + self.write_ms


def run() -> Iterator[Figure]:
    """Trigger to result: what the PLC waits, beside the sum of its parts."""
    timed = asyncio.run(_measure())
    p50, p99 = np.percentile(timed.ms, (50, 99))
    floor = "sum of the parts"
    note = (
        f"{len(timed.ms)} requests of {SAMPLES} samples over Modbus TCP; poll {POLL_MS} ms, "
        f"scan {SCAN_MS} ms; parts: half a poll {POLL_MS / 2:g}, request {timed.read_ms:.1f}, "
        f"model {timed.model_ms:.1f}, write with the scan that takes it {timed.write_ms:.1f} ms"
    )
    yield Figure("trigger to result in the PLC, p50", float(p50), "ms", floor, timed.parts_ms, note=note)
    yield Figure("trigger to result in the PLC, p99", float(p99), "ms", floor, timed.parts_ms)


async def _measure() -> Timed:
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(LIMIT_S))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-opcua-bench-")))
        config = home / "cell.toml"
        (home / "plc.csv").write_text(_TAGS, "utf-8")
        _point(config, 1)
        plc = UnitProcess("PLC", "edge_opcua.sim.softplc")
        stack.push_async_callback(plc.end)
        port = await _start_plc(plc, config, home)
        _point(config, port)
        read_ms, write_ms = await _floor(port, clock)
        server = DemoServer(config, home / "state", {})
        stack.push_async_callback(server.stop)
        await server.start(group)
        await _in_use(plc, clock)
        await plc.ask("trigger", times=REQUESTS, pause_scans=_PAUSE_SCANS)
        while (answers := await plc.ask("answers"))["left"]:
            await clock.sleep(_LOOK_S)
        if answers["errors"]:
            raise EdgeError(f"{len(answers['errors'])} requests failed: {answers['errors'][:5]}")
        model_ms = await _model_ms(home / "state")
        return Timed(answers["ms"], read_ms, write_ms, model_ms)


def _point(config: Path, port: int) -> None:
    models = examples_dir() / "press" / "models"
    config.write_text(_CONFIG.format(models=models, url=f"modbus://127.0.0.1:{port}/1"), "utf-8")


async def _start_plc(plc: UnitProcess, config: Path, home: Path) -> int:
    """Export the block of the output, let the soft PLC run it, and return its port."""
    found = load(config, env={}).config
    if found is None:
        raise EdgeError(f"the configuration of the bench is wrong: {load(config, env={}).problems}")
    facts = facts_of(found, found.outputs[0])
    (source,) = [file for file in files(facts) if file.name.endswith(".st") and file.name.startswith("FB_")]
    text = home / source.name
    text.write_text(source.text, "utf-8")
    rng = np.random.default_rng(7)
    payload = [*(int(each) for each in rng.normal(0.0, 300.0, SAMPLES)), *_CONTEXT]
    ready = await plc.start(
        str(text),
        *("--block", facts.block, "--payload", str(len(payload)), "--scan-ms", str(SCAN_MS)),
        *("--area", f"Status=hr:{_STATUS}", "--area", f"Control=hr:{_CONTROL},ro"),
        *("--area", f"Payload=hr:{_PAYLOAD},ro"),
        *("--set", "Enable=TRUE", "--set", "Grant=TRUE"),
    )
    await plc.ask("set", values={"Payload": payload})
    return int(ready["modbus"])


async def _in_use(plc: UnitProcess, clock: SystemClock) -> None:
    while not (await plc.ask("get", names=["edge.InUse"]))["edge.InUse"]:
        await clock.sleep(_LOOK_S)


async def _model_ms(state_dir: Path) -> float:
    reply = await ask(StateDir(state_dir).control_socket, "supervisor", "status", {}, timeout_s=3.0)
    return float(reply.body["pipelines"][0]["lane"]["p50_ms"])


async def _floor(port: int, clock: SystemClock) -> tuple[float, float]:
    """Return the medians of reading the request and of writing the status area with a plain client, ms."""
    client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0)
    if not await client.connect():
        raise EdgeError("the soft PLC does not answer")
    reads, writes = [], []
    for _ in range(_FLOOR_READS):
        began_ns = clock.monotonic_ns()
        for at in range(_PAYLOAD, _PAYLOAD + SAMPLES, _PER_REQUEST):
            count = min(_PER_REQUEST, _PAYLOAD + SAMPLES - at)
            answer = await client.read_holding_registers(at, count=count, device_id=1)
            if answer.isError():
                raise EdgeError(f"the soft PLC refused a read: {answer}")
        reads.append((clock.monotonic_ns() - began_ns) / 1e6)
        began_ns = clock.monotonic_ns()
        await client.write_registers(_STATUS, [0] * 19, device_id=1)
        writes.append((clock.monotonic_ns() - began_ns) / 1e6)
    client.close()
    return float(np.median(reads)), float(np.median(writes))
