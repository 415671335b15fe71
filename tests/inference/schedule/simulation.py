"""A line in virtual time: streams of requests, workers, and who orders them; for the tests and the documents.

Arrivals are open-loop (they come whether or not anybody keeps up). Runs take what a model of a machine says,
with jitter, and now and then one takes half as long again.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Batch, Fate, LaneClass, Request
from edge_opcua.inference.schedule.scheduler import Load, Scheduler

ROW = np.zeros(1, np.float32)
MS = 1_000_000
SECOND = 1_000 * MS
OUT_NS = 150_000
"""From the end of a run until the answer is out, whoever orders the runs."""


@dataclass(frozen=True)
class Stream:
    """Requests of one pipeline.

    ``rate`` is per second; a ``regular`` one has a tenth of the gap as jitter, any other comes as Poisson.
    """

    model: str
    rate: float
    deadline_ns: int
    lane: LaneClass = LaneClass.REALTIME
    priority: int = 5
    cheaper: tuple[str, ...] = ()
    regular: bool = False


@dataclass(frozen=True)
class Nature:
    """What runs really take: ``base(batch)`` ns by model, times a jitter."""

    base: dict[str, Callable[[int], float]]
    jitter: float = 0.03
    outliers: float = 0.002

    def took(self, rng: random.Random, model: str, batch: int) -> int:
        slow = 1.5 if rng.random() < self.outliers else 1.0
        return round(self.base[model](batch) * slow * rng.lognormvariate(0, self.jitter))

    def table(self, rng: random.Random, sizes: Sequence[int] = (1, 2, 4, 8, 16, 32)) -> CostTable:
        """Return what a measurement at load would have found."""
        costs = CostTable()
        for model in self.base:
            for batch in sizes:
                costs.seed(model, batch, [self.took(rng, model, batch) for _ in range(30)])
        return costs


def in_time(request: Request) -> bool:
    return request.fate is Fate.DONE and request.ended_ns + OUT_NS <= request.deadline_ns


@dataclass
class Outcome:
    """What became of the requests, in the order they came."""

    requests: list[Request] = field(default_factory=list)
    runs: list[Batch] = field(default_factory=list)
    load: Load | None = None

    def count(self, fate: Fate, lane: LaneClass | None = None) -> int:
        return sum(request.fate is fate for request in self.of(lane))

    def of(self, lane: LaneClass | None) -> Iterator[Request]:
        return (request for request in self.requests if lane is None or request.lane is lane)

    def good(self, lane: LaneClass | None = None) -> int:
        return sum(map(in_time, self.of(lane)))

    def late(self, lane: LaneClass | None = None) -> int:
        return self.count(Fate.DONE, lane) - self.good(lane)


class Order(Protocol):
    """Who decides; the part of :class:`Scheduler` that a line needs."""

    def offer(self, request: Request, now_ns: int) -> bool: ...
    def take(self, worker: int, now_ns: int) -> Batch | None: ...
    def wait_ns(self, now_ns: int) -> int | None: ...
    def ended(self, batch: Batch, now_ns: int, *, cancelled: bool = False) -> None: ...
    def preempt(self, now_ns: int) -> int | None: ...
    def load(self, now_ns: int) -> Load: ...


class Fifo:
    """Everything in the order it came, one by one: what a queue in front of a model does."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()

    def offer(self, request: Request, now_ns: int) -> bool:
        request.ran = request.model
        self._waiting.append(request)
        return True

    def take(self, worker: int, now_ns: int) -> Batch | None:
        if not self._waiting:
            return None
        request = self._waiting.popleft()
        return Batch(worker, request.model, [request], now_ns, now_ns)

    def wait_ns(self, now_ns: int) -> int | None:
        return None

    def ended(self, batch: Batch, now_ns: int, *, cancelled: bool = False) -> None:
        for request in batch.requests:
            request.fate, request.ended_ns = Fate.DONE, now_ns

    def preempt(self, now_ns: int) -> int | None:
        return None

    def load(self, now_ns: int) -> Load:
        return Load(0, len(self._waiting), 0, 0, 0, 0, 0, 0, 0)


def arrivals(streams: Sequence[Stream], until_ns: int, rng: random.Random) -> list[Request]:
    """Return the requests of all streams in the order they come."""
    found = []
    for stream in streams:
        gap = SECOND / stream.rate
        now = rng.random() * gap
        while now < until_ns:
            at = round(now + (rng.random() * gap / 10 if stream.regular else 0))
            due = at + stream.deadline_ns
            found.append(
                Request(stream.model, stream.lane, at, due, ROW, stream.cheaper, stream.priority, tag=stream)
            )
            now += gap if stream.regular else rng.expovariate(1 / gap)
    return sorted(found, key=lambda request: request.arrived_ns)


class Line:
    """The workers of one lane process in virtual time."""

    def __init__(
        self, order: Order, nature: Nature, rng: random.Random, *, workers: int = 1, cancel_ns: int = MS
    ) -> None:
        self._order, self._nature, self._rng = order, nature, rng
        self._idle = set(range(workers))
        self._running: dict[int, tuple[Batch, int]] = {}
        self._cancel_ns = cancel_ns
        self._events: list[tuple[int, int, str, object]] = []
        self._number = 0
        self.outcome = Outcome()

    def run(self, requests: Sequence[Request]) -> Outcome:
        """Let the requests come and everything end."""
        for request in requests:
            self._at(request.arrived_ns, "arrive", request)
        self.outcome.requests = list(requests)
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            if kind == "arrive" and self._order.offer(what, now):  # type: ignore[arg-type]
                while (worker := self._order.preempt(now)) is not None:
                    self._cancel(worker, now)
            if kind == "end":
                self._end(what, now)  # type: ignore[arg-type]
            self._dispatch(now)
            if requests and now <= requests[-1].arrived_ns:
                self.outcome.load = self._order.load(now)
        return self.outcome

    def _at(self, when: int, kind: str, what: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, kind, what))

    def _dispatch(self, now: int) -> None:
        for worker in sorted(self._idle):
            batch = self._order.take(worker, now)
            if batch is None:
                until = self._order.wait_ns(now)
                if until is not None:
                    self._at(max(now + 1, until), "wake", None)
                return
            took = self._nature.took(self._rng, batch.model, len(batch.requests))
            self._idle.discard(worker)
            self._running[worker] = (batch, now + took)
            self._at(now + took, "end", (batch, False))

    def _cancel(self, worker: int, now: int) -> None:
        batch, end = self._running[worker]
        if now + self._cancel_ns < end:
            self._at(now + self._cancel_ns, "end", (batch, True))

    def _end(self, what: tuple[Batch, bool], now: int) -> None:
        batch, cancelled = what
        if self._running.get(batch.worker, (None, 0))[0] is not batch:
            return  # it was cancelled before
        del self._running[batch.worker]
        self._idle.add(batch.worker)
        if not cancelled:
            self.outcome.runs.append(batch)
        self._order.ended(batch, now, cancelled=cancelled)


def scheduler(
    nature: Nature, rng: random.Random, *, workers: int = 1, most: int = 32, guard_ns: int = 200_000
) -> Scheduler:
    """Return a scheduler that knows the models."""
    costs = nature.table(rng)
    return Scheduler(costs, workers=workers, most=dict.fromkeys(nature.base, most), guard_ns=guard_ns)
