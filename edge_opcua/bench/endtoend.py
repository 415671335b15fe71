"""From the stroke being ready in the vibration unit to the notification in the client, with its parts.

The floor is what the protocol alone costs here: a plain pymodbus client that reads the same capture from the
same unit and does nothing with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pymodbus.client import AsyncModbusTcpClient

from edge_opcua.assets import examples_dir
from edge_opcua.bench.figure import Figure
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.logs import configure_logging
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.demo.client import ScadaClient, SeenEvent
from edge_opcua.demo.server import DemoServer
from edge_opcua.errors import EdgeError
from edge_opcua.security.trust import TrustList
from edge_opcua.sim.cell import Cell

STROKES: Final = 60
TIME_FACTOR: Final = 8.0
LIMIT_S: Final = 120.0
FLOOR_READS: Final = 60
REGISTERS: Final = 2000
PER_REQUEST: Final = 125
FIRST_SAMPLE: Final = 100
PARTS: Final = ("LatencyAcquire", "LatencyQueue", "LatencyInfer", "LatencyPublish")


@dataclass(frozen=True, slots=True)
class Pace:
    """One setting of the three periods that decide the latency.

    Args:
        name: For the table.
        poll_ms: How often the unit is asked for a new capture.
        publish_ms: Tick of the server.
        interval_ms: Publishing interval of the client.
    """

    name: str
    poll_ms: int
    publish_ms: int
    interval_ms: int


PACES: Final = (Pace("as the demo", 20, 20, 50), Pace("as fast as it goes", 2, 5, 10))


def run() -> Iterator[Figure]:
    """Measure both paces, one after the other, and the floor in the same cell."""
    configure_logging(level=logging.ERROR)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # the client knocks as a stranger first
    for pace in PACES:
        events, floor_ms = asyncio.run(_measure(pace))
        yield from _figures(pace, events, floor_ms)


def _figures(pace: Pace, events: Sequence[SeenEvent], floor_ms: float) -> Iterator[Figure]:
    total = np.array([(event.at_ns - event.captured_ns) / 1e6 for event in events])
    p50, p99 = np.percentile(total, (50, 99))
    note = (
        f"{len(events)} strokes; poll {pace.poll_ms} ms, server tick {pace.publish_ms} ms, "
        f"publishing interval {pace.interval_ms} ms"
    )
    floor = "read of the capture alone"
    yield Figure(f"{pace.name}: ready to client, p50", p50, "ms", floor, floor_ms, note=note)
    yield Figure(f"{pace.name}: ready to client, p99", p99, "ms", floor, floor_ms)
    parts = {part: np.array([event.fields[part] for event in events]) for part in PARTS}
    for part, values in parts.items():
        name = part.removeprefix("Latency").lower()
        low, high = np.percentile(values, (50, 99))
        yield Figure(f"{pace.name}: {name}, p50", low, "ms")
        yield Figure(f"{pace.name}: {name}, p99", high, "ms")
    delivered = total - sum(parts.values())
    low, high = np.percentile(delivered, (50, 99))
    yield Figure(f"{pace.name}: deliver, p50", low, "ms", note="encode, publish, decode in the client")
    yield Figure(f"{pace.name}: deliver, p99", high, "ms")


async def _measure(pace: Pace) -> tuple[list[SeenEvent], float]:
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(LIMIT_S))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-opcua-bench-")))
        cell = await stack.enter_async_context(Cell(time_factor=TIME_FACTOR))
        floor_ms = await _floor(cell, clock)
        environment = {
            "PRESS_URL": cell.s7_url,
            "VIB_URL": cell.modbus_url,
            "OPCUA_LISTEN": "127.0.0.1:0",
        }
        server = DemoServer(_configuration(pace, home), home / "state", environment)
        stack.push_async_callback(server.stop)
        await server.start(group)
        client = ScadaClient(server.endpoint, home / "client", clock)
        stack.push_async_callback(client.disconnect)
        with contextlib.suppress(EdgeError):  # unknown yet: this is the knock that makes it known
            await client.connect()
        trust = TrustList(StateDir(home / "state").pki)
        trust.trust(trust.rejected()[0].number)  # it only reads
        await client.connect()
        await client.subscribe({}, publish_ms=pace.interval_ms)
        while len(found := _judged(client.events)) < STROKES:
            await clock.sleep(0.1)
        return found, floor_ms


def _judged(events: Sequence[SeenEvent]) -> list[SeenEvent]:
    return [event for event in events if event.fields.get("Verdict") in (Verdict.OK, Verdict.NOT_OK)]


def _configuration(pace: Pace, home: Path) -> Path:
    """Return a copy of the example at this pace."""
    copy = home / "press"
    shutil.copytree(examples_dir() / "press", copy)
    file = copy / "press.toml"
    text = file.read_text()
    for key, value in (("poll_ms", pace.poll_ms), ("publish_ms", pace.publish_ms)):
        text, count = re.subn(rf"^(\s*){key} *= *\d+", rf"\g<1>{key} = {value}", text, flags=re.MULTILINE)
        if not count:
            raise EdgeError(f"{file} does not set {key}")
    file.write_text(text)
    return file


async def _floor(cell: Cell, clock: SystemClock) -> float:
    """Return the median time in ms in which a plain client reads one capture from the unit."""
    client = AsyncModbusTcpClient("127.0.0.1", port=cell.ports["vib"], retries=0)
    if not await client.connect():
        raise EdgeError("the vibration unit does not answer")
    took = []
    for _ in range(FLOOR_READS):
        began_ns = clock.monotonic_ns()
        for at in range(FIRST_SAMPLE, FIRST_SAMPLE + REGISTERS, PER_REQUEST):
            answer = await client.read_holding_registers(at, count=PER_REQUEST, device_id=1)
            if answer.isError():
                raise EdgeError(f"the vibration unit refused a read: {answer}")
        took.append((clock.monotonic_ns() - began_ns) / 1e6)
    client.close()
    return float(np.median(took))
