"""The realtime lane below and above what it can do: who is served, who is refused, how soon that is known.

Arrivals are open-loop: they come when they are due, whether the last one was answered or not, and their
deadline counts from then. The peer is what a queue does, first come, first served, with the same arrivals.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from edge_opcua.bench.figure import Figure, number
from edge_opcua.bench.inference.answerer import engine_for
from edge_opcua.bench.inference.effort import Effort
from edge_opcua.bench.inference.models import BenchModel, Floats, build
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request

LATE_SHARE: Final = 0.001
REJECT_MS: Final = 1.0
EVEN: Final = 0.995
"""Where both serve nearly all, a handful of requests decides who serves more: that is a draw."""
TIGHT, WIDE = 12, 60
"""Deadlines, in times the model takes: every other request each."""
_SEED: Final = 7
_DRAIN_S: Final = 0.5


def figures(effort: Effort) -> Iterator[Figure]:
    """Realtime lane: open-loop arrivals at loads below and above what it can do."""
    with TemporaryDirectory(prefix="edge-opcua-bench-") as folder:
        model = build(Path(folder), "vibration-wide")["vibration-wide"]
        cost_s = _cost_s(model)
        refusals: list[float] = []
        for load in effort.loads:
            turns = [_turn(model, arrivals_of(load, cost_s, effort.load_s)) for _ in range(effort.turns)]
            refusals += [took_ms for ours, _ in turns for took_ms in ours.refused_ms]
            yield from _at(load, turns, effort.load_s)
        if refusals:
            p99_ms = float(np.percentile(refusals, 99))
            held = "holds" if p99_ms <= REJECT_MS else "DOES NOT HOLD"
            note = f"{len(refusals)} refusals, with reason and when to ask again; {held}"
            name = "realtime lane: refused, p99 of how soon it is known"
            yield Figure(name, p99_ms, "ms", "what is promised", REJECT_MS, note=note)


def _turn(model: BenchModel, arrivals: Sequence[Arrival]) -> tuple[Served, Served]:
    return engine_serves(model, arrivals), queue_serves(model, arrivals)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request that will come.

    Args:
        due_ns: When, from the beginning.
        deadline_ns: How long after that its answer must be there.
    """

    due_ns: int
    deadline_ns: int


@dataclass(slots=True)
class Served:
    """What became of all requests.

    Args:
        count: How many came.
        in_time: Answered before their deadline.
        late: Answered, but late.
        refused_ms: How long each refusal took.
        given_up: Accepted, then given up because they would have been late.
        batches: Mean number of requests in a run.
    """

    count: int
    in_time: int = 0
    late: int = 0
    refused_ms: list[float] = field(default_factory=list)
    given_up: int = 0
    batches: float = 1.0

    @property
    def late_share(self) -> float:
        """Share of what came that was answered late."""
        return self.late / max(1, self.count)

    def take(self, request: Request) -> None:
        """Count a request that has ended."""
        if request.fate is not Fate.DONE:
            self.given_up += 1
        elif request.ended_ns <= request.deadline_ns:
            self.in_time += 1
        else:
            self.late += 1


def arrivals_of(load: float, cost_s: float, seconds: float) -> list[Arrival]:
    """Return arrivals at random times (Poisson) that ask for so much of one worker's time."""
    random = np.random.default_rng(_SEED)
    count = max(20, round(load * seconds / cost_s))
    due_s = np.cumsum(random.exponential(cost_s / load, count))
    deadlines_s = np.where(np.arange(count) % 2, WIDE, TIGHT) * cost_s
    return [
        Arrival(round(due * 1e9), round(deadline * 1e9))
        for due, deadline in zip(due_s, deadlines_s, strict=True)
    ]


def engine_serves(model: BenchModel, arrivals: Sequence[Arrival]) -> Served:
    """Let the engine serve arrivals with one worker."""
    row = model.sample()
    with contextlib.closing(engine_for(model, most=32, workers=1)) as engine, _collected():
        served = Served(len(arrivals))
        for arrival, due_ns in _due(arrivals):
            request = _request(model, arrival, due_ns, row)
            asked_ns = time.monotonic_ns()
            if not engine.submit(request):
                served.refused_ms.append((time.monotonic_ns() - asked_ns) / 1e6)
            for ended in engine.turn():
                served.take(ended)
        _drain(engine, served)
        served.batches = engine.load().mean_batch
        return served


def _drain(engine: Engine, served: Served) -> None:
    """Take what is still on its way."""
    assert engine.fd is not None
    until_s = time.monotonic() + _DRAIN_S
    while time.monotonic() < until_s and engine.load().waiting:
        select.select([engine.fd], [], [], 0.05)
        for ended in engine.turn():
            served.take(ended)
    time.sleep(0.05)
    for ended in engine.turn():
        served.take(ended)


def queue_serves(model: BenchModel, arrivals: Sequence[Arrival]) -> Served:
    """Let one worker serve arrivals in the order in which they come; whatever it takes."""
    row = model.sample()
    binding = model.load().bind()
    waiting: collections.deque[Request] = collections.deque()
    filled = threading.Semaphore(0)
    served = Served(len(arrivals))

    def work() -> None:
        while filled.acquire():
            if not waiting:
                return
            request = waiting.popleft()
            binding.judge(request.row)
            request.fate, request.ended_ns = Fate.DONE, time.monotonic_ns()
            served.take(request)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    with _collected():
        for arrival, due_ns in _due(arrivals):
            waiting.append(_request(model, arrival, due_ns, row))
            filled.release()
        filled.release()  # behind the last one: the end
        worker.join()
    return served


def _due(arrivals: Sequence[Arrival]) -> Iterator[tuple[Arrival, int]]:
    """Yield each arrival when it is due, with the monotonic time at which it was."""
    began_ns = time.monotonic_ns() + 10_000_000
    for arrival in arrivals:
        due_ns = began_ns + arrival.due_ns
        if (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        yield arrival, due_ns


def _request(model: BenchModel, arrival: Arrival, due_ns: int, row: Floats) -> Request:
    return Request(model.key, LaneClass.REALTIME, due_ns, due_ns + arrival.deadline_ns, row)


@contextlib.contextmanager
def _collected() -> Iterator[None]:
    """Let no collection of garbage of this benchmark stand between a request and its deadline."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _cost_s(model: BenchModel) -> float:
    """Return what a run takes here and now, as a worker sees it: the median, s."""
    binding, row = model.load().bind(), model.sample()
    times = []
    for _ in range(300):
        began_ns = time.perf_counter_ns()
        binding.judge(row)
        times.append(time.perf_counter_ns() - began_ns)
    return float(np.median(times)) / 1e9


def _at(load: float, turns: Sequence[tuple[Served, Served]], seconds: float) -> Iterator[Figure]:
    """Yield the figures of the middle turn: a machine that stands still makes all late that wait."""
    ours, queued = _middle(turns, lambda turn: turn[0].late_share)
    held = "holds" if ours.late_share <= LATE_SHARE else "DOES NOT HOLD"
    queue = "a queue, first come, first served"
    late = ", ".join(f"{100 * each.late_share:.2g}" for each, _ in turns)
    note = (
        f"{ours.count} came, {100 * len(ours.refused_ms) / ours.count:.1f} % refused at once, "
        f"{ours.given_up} given up later, {number(ours.batches)} a run; late in each turn {late} %; {held}"
    )
    name = f"realtime lane, load {load:g}"
    share, peer = 100 * ours.late_share, 100 * queued.late_share
    yield Figure(f"{name}: served too late", share, "%", queue, peer, note=note)
    ours, queued = _middle(turns, lambda turn: turn[0].in_time / max(1, turn[1].in_time))
    yield Figure(
        f"{name}: served in time",
        ours.in_time / seconds,
        "1/s",
        queue,
        queued.in_time / seconds,
        better="higher",
        note="holds" if ours.in_time >= EVEN * queued.in_time else "DOES NOT HOLD",
    )


def _middle(
    turns: Sequence[tuple[Served, Served]], by: Callable[[tuple[Served, Served]], float]
) -> tuple[Served, Served]:
    return sorted(turns, key=by)[len(turns) // 2]
