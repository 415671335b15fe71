"""The safety lane while all cores are busy with others' batches of 30 ms, beside the plain ways to do it.

The lane is a real lane process with the model of the demo, from the capture on the bus to the verdict on the
bus. What the machine itself cannot keep shows in the timer of the source, which does nothing else and is more
urgent than all of them: an empty timer in the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.app.build import plan
from edge_opcua.assets import examples_dir
from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.models import BenchModel, build
from edge_opcua.bench.inference.rig import Rig, configuration
from edge_opcua.bench.opcua.remote import Remote, python
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock

DEADLINE_MS: Final = 5.0
HZ: Final = 500.0
GUARD: Final = """
[[pipelines]]
name = "guard"
model = "press-anomaly"
capture = "vib/stroke"
context = ["press/tonnage", "press/die_temp", "press/strokes_per_min"]
part_id = "press/part_id"
lane = "safety"
deadline_ms = 5
period_ms = 2
max_batch = 1
"""
BLOCKS: Final = {"capture": "vib.stroke", "context": "press.fast"}
_TIMES_IDLE: Final = 3.0
_ANSWER_S: Final = 30.0
_PLAIN: Final = {
    "process": "a plain process",
    "thread": "a thread beside the batches",
    "python": "a thread beside the batches and one Python thread",
    "queue": "one queue for all, first come, first served",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the source saw.

    Args:
        took_ms: From the capture to its verdict, of those that got one, shape ``(n,)``.
        missed: Captures without a verdict in time.
        late_ms: How late the source's own timer was, shape ``(m,)``.
    """

    took_ms: npt.NDArray[np.float64]
    missed: int
    late_ms: npt.NDArray[np.float64]

    @property
    def count(self) -> int:
        """Captures there were."""
        return len(self.late_ms)

    @property
    def stalls(self) -> int:
        """How often the empty timer itself came later than the deadline."""
        return int(np.count_nonzero(self.late_ms > DEADLINE_MS))

    def percentile(self, share: float) -> float:
        """Return a percentile of the time to the verdict, ms; of nothing, infinite."""
        return float(np.percentile(self.took_ms, share)) if self.took_ms.size else float("inf")


def seen(file: Path, row: int = 0, *, deadline_ms: float = DEADLINE_MS) -> Seen:
    """Return what a run of the source wrote down about one pipeline."""
    with np.load(file) as kept:
        took_ms = kept["took_ns"][row] / 1e6
        good = ~np.isnan(took_ms) & ~kept["fail_safe"][row]
        in_time = good & (np.nan_to_num(took_ms, nan=np.inf) <= deadline_ms)
        return Seen(took_ms[good], int(np.count_nonzero(~in_time)), kept["late_ns"] / 1e6)


def figures(effort: Effort) -> Iterator[Figure]:
    """Safety lane: deadlines kept while all cores are busy."""
    with tempfile.TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        home = Path(folder)
        burden = build(home, "burden")["burden"]
        idle, busy, said = asyncio.run(_lane(home, burden, effort))
        yield from _of_lane(idle, busy, said)
        for way, title in _PLAIN.items():
            yield _of_plain(title, _baseline(home, burden, way, effort), busy)


def _of_lane(idle: Seen, busy: Seen, said: str) -> Iterator[Figure]:
    name = f"safety lane, every core busy, {DEADLINE_MS:g} ms deadline"
    note = f"{busy.count} captures at {HZ:g} Hz, model of the demo, from bus to bus; {said}"
    timer = "empty SCHED_FIFO timer in the same run"
    yield Figure(f"{name}: missed", busy.missed, f"of {busy.count}", timer, busy.stalls, note=note)
    yield Figure(f"{name}: p50", busy.percentile(50), "ms", "idle machine", idle.percentile(50))
    held = "holds" if busy.percentile(99.9) <= _TIMES_IDLE * idle.percentile(99.9) else "DOES NOT HOLD"
    yield Figure(
        f"{name}: p99.9",
        busy.percentile(99.9),
        "ms",
        "idle machine",
        idle.percentile(99.9),
        note=f"floor {_TIMES_IDLE:g} x idle: {held}; idle: {idle.count} captures, {idle.missed} missed",
    )
    yield Figure(f"{name}: longest", busy.percentile(100), "ms", timer, float(busy.late_ms.max()))


def _of_plain(title: str, found: Seen, busy: Seen) -> Figure:
    return Figure(
        f"5 ms deadline missed, safety lane beside {title}",
        100 * busy.missed / busy.count,
        "%",
        title,
        100 * found.missed / found.count,
        note=f"the other: {found.count} captures, p50 {found.percentile(50):.3g} ms, "
        f"p99 {found.percentile(99):.3g} ms, longest {found.percentile(100):.3g} ms",
    )


async def _lane(home: Path, burden: BenchModel, effort: Effort) -> tuple[Seen, Seen, str]:
    """Return what was seen idle and busy, and how urgent the lane was."""
    config = configuration(home, GUARD)
    async with Rig(home, config) as rig:
        with contextlib.closing(source(rig.bus, ["guard.result"])) as plant:
            scheduler = str(plant.hear()["scheduler"])
            await answered(plant, home / "warm.npz", round(HZ))
            idle = await answered(plant, home / "idle.npz", effort.idle)
            with burners(burden):
                busy = await answered(plant, home / "busy.npz", effort.captures)
            said = f"the source {scheduler}, the lane {scheduler_of(rig.pid('guard'))}"
            return seen(idle), seen(busy), said


def _baseline(home: Path, burden: BenchModel, way: str, effort: Effort) -> Seen:
    config = configuration(home, GUARD)
    with contextlib.closing(Bus.create(plan(config).blocks)) as bus, contextlib.ExitStack() as stack:
        inside = way != "process"
        given = {
            **BLOCKS,
            "bus": bus.fds,
            "results": ["guard.result"],
            "way": way,
            "burners": cores() if inside else 0,
            "burden": burden.as_json(),
            "model": str(examples_dir() / "press" / "models" / "press-anomaly" / "1"),
        }
        plain = Remote(python("edge_opcua.bench.inference.baseline"), given, pass_fds=bus.pass_fds)
        stack.callback(plain.close)
        plain.hear()
        plant = stack.enter_context(contextlib.closing(source(bus, ["guard.result"])))
        plant.hear()
        if not inside:
            stack.enter_context(burners(burden))
        return seen(asyncio.run(answered(plant, home / f"{way}.npz", effort.baseline)))


def scheduler_of(pid: int) -> str:
    """Return how urgent a process is, for people."""
    if os.sched_getscheduler(pid) == os.SCHED_FIFO:
        return f"SCHED_FIFO {os.sched_getparam(pid).sched_priority}"
    return f"nice {os.getpriority(os.PRIO_PROCESS, pid)}"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def source(bus: Bus, results: list[str]) -> Remote:
    """Start the process that plays the plant."""
    given = {**BLOCKS, "bus": bus.fds, "results": results}
    return Remote(python("edge_opcua.bench.inference.source"), given, pass_fds=bus.pass_fds)


@contextlib.contextmanager
def burners(burden: BenchModel) -> Iterator[None]:
    """Keep every core busy meanwhile."""
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(
                contextlib.closing(Remote(python("edge_opcua.bench.inference.burner"), burden.as_json()))
            )
            for _ in range(cores())
        ]
        for one in started:
            one.hear()
        yield


async def answered(plant: Remote, out: Path, count: int, hz: float = HZ, *, worn: bool = False) -> Path:
    """Let the source work; the event loop goes on meanwhile."""
    clock = SystemClock()
    plant.tell({"do": "run", "hz": hz, "count": count, "out": str(out), "worn": worn})
    until_s = clock.monotonic_s() + count / hz + _ANSWER_S
    while plant.heard() is None:
        if clock.monotonic_s() > until_s:
            raise TimeoutError("the source of the captures does not end")
        await clock.sleep(0.1)
    return out
