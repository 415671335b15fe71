"""Scattered blocks of an S7 PLC: ours beside the C client of snap7, from the C server of snap7 (B6)."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
from collections.abc import Iterator
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.plc import peers
from edge_opcua.bench.plc.poller import Polling, device

BLOCKS, BLOCK_BYTES, STEP_BYTES = 40, 100, 200
TIMES: Final = 60


def scattered_blocks() -> Iterator[Figure]:
    """B6: 4 kB in 40 blocks of one data block, each 100 bytes behind the last."""
    addresses = [
        f"DB1.DBD{STEP_BYTES * block + at}:REAL" for block in range(BLOCKS) for at in range(0, BLOCK_BYTES, 4)
    ]
    with peers.snap7_server() as server:
        c_ms, c_cpu_ms = _c_client_ms(server.port)
        took, cpu_ms, requests = asyncio.run(_ours(server.port, addresses))
    what = f"B6: S7, {BLOCKS} blocks of {BLOCK_BYTES} bytes into {len(addresses)} REAL tags"
    yield Figure(
        f"{what}, processor",
        cpu_ms,
        "ms",
        "C client of snap7 that only copies",
        c_cpu_ms,
        note=f"{requests} requests; mean of {TIMES}",
    )
    note = "in some runs the C client waits 1 ms in each of its calls"
    yield Figure(what, statistics.median(took), "ms", "the same", c_ms, note=note)


async def _ours(port: int, addresses: list[str]) -> tuple[list[float], float, int]:
    url = f"s7://127.0.0.1:{port}?rack=0&slot=1"
    async with Polling([device("b6", "s7", url, addresses, period_ms=60_000)]).running() as polling:
        await polling.refresh_ms("b6", 5)
        before_s = peers.own_cpu_s()
        took = await polling.refresh_ms("b6", TIMES)
        return took, 1000 * (peers.own_cpu_s() - before_s) / TIMES, polling.requests["b6"]


def _c_client_ms(port: int) -> tuple[float, float]:
    """Return time and processor time of a refresh by the C client, ms."""
    script = str(peers.SOURCES / "snap7_client.py")
    command = [str(peers.SNAP7), script, *map(str, (port, BLOCKS, BLOCK_BYTES, STEP_BYTES, TIMES))]
    done = subprocess.run(  # noqa: S603 - a program of this checkout
        command, capture_output=True, check=True, timeout=60
    )
    said = json.loads(done.stdout)
    return statistics.median(said["took"]), float(said["cpu"])
