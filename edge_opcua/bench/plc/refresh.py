"""A full refresh of many registers (B1), the requests that scattered ones need (B2), and over a line (B3)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.plc import peers
from edge_opcua.bench.plc.poller import Polling, device
from edge_opcua.sim.proxy import Link, Mode

REGISTERS: Final = 10_000
PER_REQUEST: Final = 125
TIMES: Final = 40
SCATTERED: Final = 1_000
GAP: Final = 4
ROUND_TRIP_S: Final = 0.005
PIPELINE: Final = 16


def full_refresh() -> Iterator[Figure]:
    """B1: 10 000 registers from a C server, decoded into 5 000 REAL tags and published."""
    addresses = [f"hr:{peers.FIRST + at}:REAL" for at in range(0, REGISTERS, 2)]
    with peers.modbus_server() as server:
        requests = REGISTERS // PER_REQUEST
        # The best of some: a floor that was disturbed is none.
        c_ms = min(peers.modbus_client_us(server.port, 50 * requests) for _ in range(5)) * requests / 1000
        for depth in (1, PIPELINE):
            took, cpu_ms = asyncio.run(_refresh(server.port, addresses, depth, TIMES))
            note = f"{requests} requests, {depth} at once; processor {cpu_ms:.1f} ms; median of {TIMES}"
            yield Figure(
                f"B1: 10 000 registers into 5 000 REAL tags, pipeline {depth}",
                statistics.median(took),
                "ms",
                "libmodbus C client that only copies",
                c_ms,
                note=note,
            )


async def _refresh(port: int, addresses: list[str], depth: int, times: int) -> tuple[list[float], float]:
    url = f"modbus://127.0.0.1:{port}/1"
    cfg = device("b1", "modbus", url, addresses, period_ms=60_000, options={"pipeline": depth})
    async with Polling([cfg]).running() as polling:
        await polling.refresh_ms("b1", 5)
        before_s = peers.own_cpu_s()
        took = await polling.refresh_ms("b1", times)
        return took, 1000 * (peers.own_cpu_s() - before_s) / times


def scattered_requests() -> Iterator[Figure]:
    """B2: the requests that 1 000 scattered registers need; the floor covers all of them with full ones."""
    step = GAP + 1
    cfg = device("b2", "modbus", "modbus://127.0.0.1:1/1", [f"hr:{step * i}:INT" for i in range(SCATTERED)])
    sent = Polling([cfg]).requests["b2"]
    span = step * (SCATTERED - 1) + 1
    yield Figure(
        f"B2: {SCATTERED} registers, gap {GAP}: requests",
        sent,
        "requests",
        "least that can cover them",
        -(-span // PER_REQUEST),
        note="a request per tag would be 1 000; ranges of 16 registers 313",
    )


def behind_a_round_trip() -> Iterator[Figure]:
    """B3: the same list over a line whose round trip takes 5 ms, beside ThingsBoard's connector."""
    addresses = [f"hr:{(GAP + 1) * i}:INT" for i in range(SCATTERED)]
    with peers.modbus_server() as server:
        gateway_s = asyncio.run(_gateway(server.port))
        for depth in (1, PIPELINE):
            took = asyncio.run(_delayed(server.port, addresses, depth))
            yield Figure(
                f"B3: {SCATTERED} scattered tags at 5 ms round trip, pipeline {depth}",
                SCATTERED / (statistics.median(took) / 1000),
                "tags/s",
                "ThingsBoard gateway, a request per tag",
                SCATTERED / gateway_s,
                better="higher",
            )


async def _gateway(port: int) -> float:
    """Return what ThingsBoard's connector needs for all tags once, seconds."""
    if not peers.THINGSBOARD.exists():
        raise peers.MissingPeerError("ThingsBoard's gateway is not here: run tests/peers/install-gateway")
    # It writes logs where it is started.
    with tempfile.TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        async with delayed(port) as near:
            child = await asyncio.create_subprocess_exec(
                str(peers.THINGSBOARD),
                str(peers.SOURCES / "thingsboard_modbus.py"),
                *map(str, (near, SCATTERED, GAP + 1)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=folder,
            )
            said, _ = await child.communicate()
    if child.returncode:
        raise peers.MissingPeerError("ThingsBoard's gateway did not read the tags")
    return float(json.loads(said))


async def _delayed(port: int, addresses: list[str], depth: int) -> list[float]:
    async with delayed(port) as near:
        cfg = device(
            "b3",
            "modbus",
            f"modbus://127.0.0.1:{near}/1",
            addresses,
            period_ms=60_000,
            options={"pipeline": depth},
        )
        async with Polling([cfg]).running() as polling:
            await polling.refresh_ms("b3", 2)
            return await polling.refresh_ms("b3", 8)


@contextlib.asynccontextmanager
async def delayed(port: int) -> AsyncIterator[int]:
    """Put a proxy before a port that makes each round trip 5 ms longer, and yield its port."""
    link = Link()
    link.target = ("127.0.0.1", port)
    link.mode = Mode.parse(f"delay:{ROUND_TRIP_S}")
    await link.open()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(link.run())
        try:
            yield link.port
        finally:
            running.cancel()
