"""The safety lane while all cores are busy with others' batches of 30 ms, beside the plain ways to do it.

The lane is a real lane process with the model of the demo, from the capture on the bus to the verdict on the
bus. What the machine itself cannot keep shows in empty timers on every core in the same run, which are as
urgent as the lane and do nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
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
        took_ms: From each capture to the first verdict that is as new, inf if none came, shape ``(n,)``.
        late_ms: How late the source's own timer was, shape ``(n,)``.
        superseded: Captures without a verdict of their own: a newer one was there before their turn.
    """

    took_ms: npt.NDArray[np.float64]
    late_ms: npt.NDArray[np.float64]
    superseded: int

    @property
    def count(self) -> int:
        """Captures there were."""
        return len(self.late_ms)

    @property
    def missed(self) -> int:
        """Captures of which, at their deadline, no verdict as new was there."""
        return int(np.count_nonzero(self.took_ms > DEADLINE_MS))

    def percentile(self, share: float) -> float:
        """Return a percentile of the time to the verdict, ms."""
        return float(np.percentile(self.took_ms, share, method="higher"))


def seen(file: Path, row: int = 0) -> Seen:
    """Return what a run of the source wrote down about one pipeline.

    The newest capture wins in a safety lane: a verdict is about all captures up to its own.
    """
    with np.load(file) as kept:
        at_ns = np.where((kept["at_ns"][row] > 0) & ~kept["fail_safe"][row], kept["at_ns"][row], np.inf)
        first_ns = np.minimum.accumulate(at_ns[::-1])[::-1]
        return Seen(
            (first_ns - kept["published_ns"]) / 1e6,
            kept["late_ns"] / 1e6,
            int(np.count_nonzero(np.isinf(at_ns))),
        )


def figures(effort: Effort) -> Iterator[Figure]:
    """Safety lane: deadlines kept while all cores are busy."""
    with tempfile.TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        home = Path(folder)
        burden = build(home, "burden")["burden"]
        idle, busy, empty, said = asyncio.run(_lane(home, burden, effort))
        yield from _of_lane(idle, busy, empty, said)
        for way, title in _PLAIN.items():
            yield _of_plain(title, _baseline(home, burden, way, effort), busy)


def _of_lane(idle: Seen, busy: Seen, empty: Empty, said: str) -> Iterator[Figure]:
    name = f"safety lane, every core busy, {DEADLINE_MS:g} ms deadline"
    note = (
        f"{busy.count} captures at {HZ:g} Hz, model of the demo, from bus to bus; {said}; "
        f"{busy.superseded} captures superseded by a newer one"
    )
    timer = "empty timers in the same run"
    held = "holds" if busy.missed <= empty.late else "DOES NOT HOLD"
    note += f"; one timer on each core, as urgent, {empty.ticks} ticks; floor no more than these: {held}"
    yield Figure(f"{name}: missed", busy.missed, f"of {busy.count}", timer, empty.late, note=note)
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
    yield Figure(f"{name}: longest", busy.percentile(100), "ms", timer, empty.latest_ms)


def _of_plain(title: str, found: Seen, busy: Seen) -> Figure:
    return Figure(
        f"5 ms deadline missed, safety lane beside {title}",
        100 * busy.missed / busy.count,
        "%",
        title,
        100 * found.missed / found.count,
        note=f"the other: {found.count} captures, p50 {in_words(found.percentile(50))}, "
        f"p99 {in_words(found.percentile(99))}, longest {in_words(found.percentile(100))}",
    )


def in_words(took_ms: float) -> str:
    """Return a time for people; what took for ever did not come until the end of the run."""
    return f"{took_ms:.3g} ms" if np.isfinite(took_ms) else "never"


async def _lane(home: Path, burden: BenchModel, effort: Effort) -> tuple[Seen, Seen, Empty, str]:
    """Return what was seen idle and busy, what empty timers saw meanwhile, and how urgent the lane was."""
    config = configuration(home, GUARD)
    async with Rig(home, config) as rig:
        with contextlib.closing(source(rig.bus, ["guard.result"])) as plant:
            scheduler = str(plant.hear()["scheduler"])
            await answered(plant, home / "warm.npz", round(HZ))
            idle = await answered(plant, home / "idle.npz", effort.idle)
            said = f"the source {scheduler}, the lane {scheduler_of(rig.pid('guard'))}"
            with empty_timers() as timers, burners(burden, effort.nice):
                busy = await answered(plant, home / "busy.npz", effort.captures)
                empty = ended(timers)
            return seen(idle), seen(busy), empty, said


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
        plant = stack.enter_context(contextlib.closing(source(bus, ["guard.result"])))
        plant.hear()
        plain = Remote(python("edge_opcua.bench.inference.baseline"), given, pass_fds=bus.pass_fds)
        stack.callback(plain.close)
        plain.hear()
        if not inside:
            stack.enter_context(burners(burden, effort.nice))
        return seen(asyncio.run(answered(plant, home / f"{way}.npz", effort.baseline)))


@dataclass(frozen=True, slots=True)
class Empty:
    """What empty timers on all cores saw.

    Args:
        late: Ticks that came later than the deadline.
        latest_ms: How late the latest was.
        ticks: How many there were.
    """

    late: int
    latest_ms: float
    ticks: int


@contextlib.contextmanager
def empty_timers() -> Iterator[list[Remote]]:
    """Run an empty timer on each core; they tick when this is entered."""
    with contextlib.ExitStack() as stack:
        timers = []
        for core in os.sched_getaffinity(0):
            given = {"core": core, "period_ns": round(1e9 / HZ), "limit_ns": round(DEADLINE_MS * 1e6)}
            one = Remote(python("edge_opcua.bench.inference.timer"), given)
            stack.callback(one.close)
            timers.append(one)
        for one in timers:
            one.hear()
        yield timers


def ended(timers: list[Remote]) -> Empty:
    """End the timers and return what they saw."""
    told = [one.ask({"do": "end"}) for one in timers]
    return Empty(
        sum(each["late"] for each in told),
        max(each["latest_ms"] for each in told),
        sum(each["ticks"] for each in told),
    )


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
def burners(burden: BenchModel, nice: int) -> Iterator[None]:
    """Keep every core busy meanwhile."""
    with contextlib.ExitStack() as stack:
        given = {"model": burden.as_json(), "nice": nice}
        started = []
        for _ in range(cores()):
            one = Remote(python("edge_opcua.bench.inference.burner"), given)
            stack.callback(one.close)
            stack.callback(
                os.kill, one.pid, signal.SIGKILL
            )  # it may be long in a run, and has nothing to say
            started.append(one)
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
