"""Polling that goes on: what it costs and how even it is (B4), and what dead PLCs do to the others (B5)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.plc import peers
from edge_opcua.bench.plc.poller import Polling, device

SECONDS: Final = 10.0
TAGS, PERIOD_MS = 1_000, 100
PLCS, DEAD, PLC_TAGS, PLC_PERIOD_MS = 20, 5, 200, 250


def one_plc() -> Iterator[Figure]:
    """B4: 1 000 tags every 100 ms."""
    with peers.modbus_server() as server:
        stamps, share = asyncio.run(_one(server.port))
    late_ms = lateness_ms(stamps, PERIOD_MS)
    floor = "target"
    yield Figure(
        f"B4: {TAGS} REAL tags every {PERIOD_MS} ms: processor",
        100 * share,
        "% of a core",
        floor,
        15.0,
        note=f"{SECONDS:.0f} s, {stamps.size} scans; reading, decoding and publishing",
    )
    yield Figure(
        f"B4: scan jitter, p99 ({PERIOD_MS} ms)", float(np.percentile(late_ms, 99)), "ms", floor, 10.0
    )
    yield Figure("B4: scan jitter, p50", float(np.percentile(late_ms, 50)), "ms")


async def _one(port: int) -> tuple[npt.NDArray[np.float64], float]:
    addresses = [f"hr:{peers.FIRST + at}:REAL" for at in range(0, 2 * TAGS, 2)]
    cfg = device("b4", "modbus", f"modbus://127.0.0.1:{port}/1", addresses, period_ms=PERIOD_MS)
    async with Polling([cfg]).running() as polling:
        await asyncio.sleep(1.0)
        before_s = peers.own_cpu_s()
        stamps = await polling.stamps_s(["b4"], SECONDS)
        return stamps["b4"], (peers.own_cpu_s() - before_s) / SECONDS


def many_plcs() -> Iterator[Figure]:
    """B5: 20 PLCs of which 5 are dead: three frozen, two gone."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(peers.modbus_server()) for _ in range(PLCS)]
        living = PLCS - DEAD
        alone, share_alone = asyncio.run(_many([server.port for server in servers[:living]], living))
        for server in servers[living:-2]:
            server.freeze()
        ports = [server.port for server in servers[:-2]] + [peers.free_port(), peers.free_port()]
        beside, share = asyncio.run(_many(ports, living))
    age = f"B5: age of the values of {living} living PLCs, p99"
    yield Figure(
        f"{age}, beside {DEAD} dead ones",
        worst_age_ms(beside),
        "ms",
        "two periods",
        2.0 * PLC_PERIOD_MS,
        note=f"{PLC_TAGS} tags every {PLC_PERIOD_MS} ms each; 3 frozen, 2 refuse; processor "
        f"{100 * share:.1f} % of a core, {100 * share_alone:.1f} % without the dead ones",
    )
    yield Figure(f"{age}, without them", worst_age_ms(alone), "ms")


async def _many(ports: Sequence[int], living: int) -> tuple[list[npt.NDArray[np.float64]], float]:
    addresses = [f"hr:{peers.FIRST + at}:REAL" for at in range(0, 2 * PLC_TAGS, 2)]
    configs = [
        device(f"p{i}", "modbus", f"modbus://127.0.0.1:{port}/1", addresses, period_ms=PLC_PERIOD_MS)
        for i, port in enumerate(ports)
    ]
    names = [cfg.name for cfg in configs[:living]]
    async with Polling(configs).running(names) as polling:
        await asyncio.sleep(1.0)
        before_s = peers.own_cpu_s()
        stamps = await polling.stamps_s(names, SECONDS)
        return list(stamps.values()), (peers.own_cpu_s() - before_s) / SECONDS


def lateness_ms(stamps_s: npt.NDArray[np.float64], period_ms: float) -> npt.NDArray[np.float64]:
    """Return how far each scan lies from the grid of its period, ms.

    Args:
        stamps_s: When each scan was published, seconds, shape ``(n,)``.
        period_ms: Period of the grid; its phase is that of the median scan.
    """
    phase = np.mod(1000 * (stamps_s - stamps_s[0]) + period_ms / 2, period_ms) - period_ms / 2
    return np.asarray(np.abs(phase - np.median(phase)))


def worst_age_ms(stamps_s: Sequence[npt.NDArray[np.float64]]) -> float:
    """Return how old values are just before the next scan: 99th percentile, of the worst device."""
    return max(float(np.percentile(1000 * np.diff(each), 99)) for each in stamps_s)
