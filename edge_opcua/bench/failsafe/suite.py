"""``edge-opcua bench failsafe``: every fault several times, then triggers; the worst of each counts."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_opcua.bench.failsafe import trigger
from edge_opcua.bench.failsafe.rig import Rig
from edge_opcua.bench.failsafe.trials import TRIALS, Seen, Trial, measure, promised_ms
from edge_opcua.bench.figure import Figure
from edge_opcua.core.logs import configure_logging

ROUNDS: Final = 3


def run() -> Iterator[Figure]:
    """Measure; the last figures are those of triggers."""
    configure_logging(level=logging.ERROR)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)  # the client knocks as a stranger first
    promised, seen = asyncio.run(_measure())
    for trial in TRIALS:
        yield _figure(trial, seen[trial.name], promised[trial.promised])
    yield from trigger.run()


def _figure(trial: Trial, seen: list[Seen], promised: float) -> Figure:
    worst = max(seen, key=lambda one: one.reaction_ms)
    latched = "latched until acknowledged" if all(one.latched for one in seen) else "NOT LATCHED"
    fastest = max(one.fastest_per_s for one in seen)
    said = f"; {worst.reason}" if worst.reason else ""
    note = f"worst of {len(seen)}; {latched}; Out moved by at most {fastest:.1f}/s{said}"
    name = f"{trial.name}: until the PLC is safe"
    return Figure(name, worst.reaction_ms, "ms", "worst case that check prints", promised, note=note)


async def _measure() -> tuple[dict[str, float], dict[str, list[Seen]]]:
    seen: dict[str, list[Seen]] = {trial.name: [] for trial in TRIALS}
    with tempfile.TemporaryDirectory(prefix="edge-opcua-bench-") as home:
        async with Rig(Path(home)) as rig:
            for _ in range(ROUNDS):
                for trial in TRIALS:
                    seen[trial.name].append(await measure(rig, trial))
            return promised_ms(rig), seen
