"""A safety lane while the model of another pipeline hangs, crashes, eats memory, or makes no numbers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.rig import Rig, configuration
from edge_opcua.bench.inference.safety import DEADLINE_MS, GUARD, Seen, answered, seen, source
from edge_opcua.core.bus import BlockReader

HZ: Final = 100.0
_CULPRIT: Final = """
[[pipelines]]
name = "culprit"
model = "{model}"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
deadline_ms = 50
period_ms = 10
"""


@dataclass(frozen=True, slots=True)
class Beside:
    """What happened to the lane and what was said of its neighbour.

    Args:
        calm: The lane while the neighbour does its work.
        harmed: The lane while it does harm.
        said: What people are told about the neighbour.
    """

    calm: Seen
    harmed: Seen
    said: str


def figures(effort: Effort) -> Iterator[Figure]:
    """Neighbours: a safety lane beside a model that does harm."""
    from edge_opcua.bench.inference import hostile  # needs onnx, and says so less well than models.build

    for name in hostile.HARMS:
        with TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
            home = Path(folder)
            hostile.write(home / "hostile", name)
            found = asyncio.run(_beside(home, name, round(effort.neighbour_s * HZ)))
        title = f"safety lane beside a {name} model"
        missed = f"{found.harmed.missed} of {found.harmed.count} missed {DEADLINE_MS:g} ms"
        yield Figure(
            f"{title}: p99",
            found.harmed.percentile(99),
            "ms",
            "the same before it did harm",
            found.calm.percentile(99),
            note=f"{missed}; of the other people see: {found.said}",
        )


async def _beside(home: Path, name: str, count: int) -> Beside:
    config = configuration(home, GUARD + _CULPRIT.format(model=name), models=home / "hostile")
    async with Rig(home, config) as rig:
        with contextlib.closing(source(rig.bus, ["guard.result"])) as plant:
            plant.hear()
            results = rig.bus.reader("culprit.result")
            await answered(plant, home / "warm.npz", round(HZ / 2), HZ)
            calm = await answered(plant, home / "calm.npz", count, HZ)
            if name == "crashing":
                os.kill(rig.pid("culprit"), signal.SIGSEGV)
            harmed = await answered(plant, home / "harmed.npz", count, HZ, worn=True)
            return Beside(seen(calm), seen(harmed), await _said(rig, results))


async def _said(rig: Rig, results: BlockReader) -> str:
    """Return what the neighbour's results, or the end of its process, tell."""
    await rig.clock.sleep(0.1)
    if rig.has_ended("culprit"):
        return f"its process ended, {rig.how_it_ended('culprit')}"
    reasons: dict[str, int] = {}
    for batch in results.poll():
        reason = batch.text(batch.row("reason"))
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
    codes = [reason for reason in reasons if reason[:1] == "M"]
    return max(codes or reasons, key=reasons.__getitem__, default="nothing")
