"""``edge-opcua bench opcua``: every figure of the OPC UA server, one after the other, ours beside its peers.

The servers are started together and stopped by signal while another one is measured: they share one core,
the client and our producer the other. Each figure is of one measurement at a time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua import capacity, floors, scenario
from edge_opcua.bench.opcua.channel import LoadError
from edge_opcua.bench.opcua.floors import compared
from edge_opcua.bench.opcua.ladder import Step, best, climb
from edge_opcua.bench.opcua.scenario import Delivery, Demand, Requests, deliver
from edge_opcua.bench.opcua.target import (
    ASYNCUA,
    NODE,
    OURS,
    Home,
    Load,
    Target,
    cores,
    home,
    node_missing,
    start,
)

LIMITS_NOTE: Final = (
    "limits of the bench server: publishing from 1 ms, requests and connections per second not limited; "
    "the rest as shipped"
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Args:
        tags: Variables of the large server.
        demands: Items and changes per second, one client.
        shared: The same for twenty clients.
        parts: Measured seconds of each.
        steps: Rungs of our ladder.
        seconds: Of each measurement of requests.
        connects: Connections.
        starts: Numbers of tags whose start is measured.
        peer_starts: The most that each peer is given; beyond, it takes minutes.
    """

    tags: int = 10_000
    demands: tuple[tuple[int, float], ...] = (
        (1000, 1),
        (1000, 10),
        (1000, 100),
        (10_000, 1),
        (10_000, 10),
        (10_000, 100),
    )
    shared: tuple[tuple[int, float], ...] = ((1000, 1), (1000, 10))
    parts: int = 2
    steps: int = 7
    seconds: float = 1.0
    connects: int = 15
    starts: tuple[int, ...] = (1000, 10_000, 100_000)
    peer_starts: tuple[tuple[str, int], ...] = ((ASYNCUA, 1000), (NODE, 100_000))


DEFAULT: Final = Effort()
QUICK: Final = Effort(
    demands=((1000, 10), (10_000, 1)),
    shared=((1000, 1),),
    parts=1,
    steps=5,
    seconds=0.5,
    connects=5,
    starts=(1000, 10_000),
    peer_starts=((ASYNCUA, 1000), (NODE, 10_000)),
)
FULL: Final = Effort(
    parts=5, steps=10, seconds=3.0, connects=50, peer_starts=((ASYNCUA, 10_000), (NODE, 100_000))
)
# Rates at which the ladders begin, values per second.
_FIRST: Final = {OURS: 500_000.0, ASYNCUA: 6_000.0, NODE: 30_000.0}
_TOP: Final = 16e6
_PEER_STEPS: Final = 4
_LADDER_ITEMS: Final = 1000


def run() -> Iterator[Figure]:
    """Measure everything once; about four minutes."""
    yield from measure(DEFAULT)


def measure(effort: Effort) -> Iterator[Figure]:
    """Measure with more or less patience."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    missing = node_missing()
    names = (OURS, ASYNCUA) if missing else (OURS, ASYNCUA, NODE)
    if missing:
        _progress(missing)
    placed = cores()
    with home() as where, _pinned(placed[1]):
        taken = capacity.measure()
        yield Figure(
            "load client: decodes and checks",
            taken,
            "values/CPU-s",
            better="higher",
            note=LIMITS_NOTE + (f"; {missing}" if missing else ""),
        )
        with _Stage(names, Load(effort.tags), where, placed) as stage:
            yield from _subscriptions(stage, effort)
            yield from _bulk(stage, effort)
            yield from _events(stage, effort)
        with _Stage(names, Load(1000, flat=True, doubles=True), where, placed) as stage:
            yield from _latencies(stage, effort)
            yield from _single(stage, effort)
        yield from _starts(names, where, placed, effort)


class _Stage:
    """The servers of one part of the run; only the one that is measured has processor time."""

    def __init__(
        self, names: tuple[str, ...], load: Load, where: Home, placed: tuple[int | None, int | None]
    ) -> None:
        self._stack = ExitStack()
        self.targets: dict[str, Target] = {}
        with ExitStack() as stack:
            for name in names:
                _progress(f"starting {name} with {load.tags} variables")
                target = start(name, load, where, placed)
                stack.callback(target.close)
                self.targets[name] = target
                target.pause()
            self._stack = stack.pop_all()

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def each(
        self, what: str, ask: Callable[[Target], _T], *, only: Callable[[str], bool] | None = None
    ) -> dict[str, _T]:
        """Measure one thing on every server, one after the other.

        A peer that cannot do it is left out, with a line on standard error; if ours cannot, that is an error.
        """
        found: dict[str, _T] = {}
        for name, target in self.targets.items():
            if only is not None and not only(name):
                continue
            _progress(f"{what}: {name}")
            target.resume()
            try:
                found[name] = ask(target)
            except LoadError as exc:
                if name == OURS:
                    raise
                _progress(f"{what}: {name} does not: {exc}")
            finally:
                target.pause()
        return found


def _subscriptions(stage: _Stage, effort: Effort) -> Iterator[Figure]:
    highest = stage.each("lossless maximum", lambda target: _maximum(target, effort, secured=False))
    yield from _maxima("lossless maximum, 1 client", highest, floors.BLOCKS)
    limits = {name: one.demand.rate for name, one in highest.items()}
    for clients, demands in ((1, effort.demands), (20, effort.shared)):
        for items, hz in demands:
            demand = Demand(items, hz, clients, effort.parts)
            yield from _delivered(stage, demand, limits, highest)
    secured = Demand(1000, 10, 1, effort.parts, secured=True)
    yield from _delivered(stage, secured, limits, highest)
    sealed = stage.each(
        "lossless maximum, SignAndEncrypt",
        lambda target: _maximum(target, effort, secured=True),
        only=lambda name: name == OURS,
    )
    yield from _maxima("lossless maximum, 1 client, SignAndEncrypt", sealed, floors.NONE)


def _maximum(target: Target, effort: Effort, *, secured: bool) -> Delivery:
    """Climb the ladder and return the delivery at its best rung."""
    seen: dict[float, Delivery] = {}

    def at(rate: float) -> Step:
        demand = Demand(_LADDER_ITEMS, rate / _LADDER_ITEMS, parts=1, secured=secured, warm_s=0.57)
        seen[rate] = found = deliver(target, demand)
        _progress(
            f"  {rate:,.0f}/s offered: {found.rate:,.0f}/s, lost {found.step.lost}, {found.per_cpu_s:,.0f}/CPU-s"
        )
        return found.step

    steps = effort.steps if target.name == OURS else _PEER_STEPS
    top = best(climb(at, _FIRST[target.name], top=_TOP, steps=steps))
    if top is None:
        raise LoadError("no rate of the ladder arrives whole")
    return seen[top.rate]


def _maxima(name: str, found: dict[str, Delivery], floor: floors.Floor) -> Iterator[Figure]:
    yield from compared(
        f"{name}: values",
        "/s",
        {who: one.rate for who, one in found.items()},
        better="higher",
        note=f"1 000 mixed scalars with deadbands, interval 50 ms, queue 400; lost 0; client {_percent(found[OURS].client_busy)} busy",
    )
    yield from compared(
        f"{name}: values",
        "/CPU-s",
        {who: one.per_cpu_s for who, one in found.items()},
        better="higher",
        floor=floor,
    )


def _delivered(
    stage: _Stage, demand: Demand, limits: dict[str, float], highest: dict[str, Delivery]
) -> Iterator[Figure]:
    """Yield what is delivered at one demand; a peer that cannot stands there with its own maximum."""
    what = f"{demand.items:,} tags × {demand.hz:g} Hz × {demand.clients} client{'s' if demand.clients > 1 else ''}"
    what = what.replace(",", " ") + (", SignAndEncrypt" if demand.secured else "")
    seen = stage.each(
        what,
        lambda target: deliver(target, demand),
        only=lambda name: name == OURS or demand.rate <= limits.get(name, 0.0),
    )
    ours = seen[OURS]
    wrong = ours.step.lost
    beyond = [name for name in stage.targets if name not in seen and name in highest]
    notes = [f"lost {wrong}, age p99 {ours.age_ms[1]:.0f} ms, server {_percent(ours.busy)} busy"]
    notes += [f"{name} at its own maximum, {limits[name]:,.0f}/s".replace(",", " ") for name in beyond]
    figures = {name: one.per_cpu_s for name, one in seen.items()}
    figures |= {name: highest[name].per_cpu_s for name in beyond}
    floor = floors.AT_10_HZ if (demand.items, demand.hz, demand.clients) == (1000, 10, 1) else floors.NONE
    yield from compared(what, "values/CPU-s", figures, better="higher", floor=floor, note="; ".join(notes))


def _bulk(stage: _Stage, effort: Effort) -> Iterator[Figure]:
    for what, fresh, secured, floor in (
        ("repeated list", False, False, floors.READ_REPEATED),
        ("new lists", True, False, floors.READ_NEW),
        ("repeated list, SignAndEncrypt", False, True, floors.NONE),
    ):
        seen = stage.each(
            f"Read of 1 000, {what}",
            lambda target, fresh=fresh, secured=secured: scenario.reads(
                target, 1000, fresh=fresh, seconds=effort.seconds, secured=secured
            ),
        )
        yield from _per_cpu(f"Read of 1 000, {what}", "values/CPU-s", seen, floor)


def _events(stage: _Stage, effort: Effort) -> Iterator[Figure]:
    seen = stage.each("events", lambda target: scenario.events(target, 10_000, max(1.0, effort.seconds)))
    ours = seen[OURS]
    yield from compared(
        "events, 10 000/s offered, 6 fields",
        "events/CPU-s",
        {name: one.per_cpu_s for name, one in seen.items()},
        better="higher",
        floor=floors.EVENTS,
        note=", ".join(
            f"{name} {one.rate:,.0f}/s, lost {one.lost}".replace(",", " ", 1) for name, one in seen.items()
        )
        if ours
        else "",
    )


def _latencies(stage: _Stage, effort: Effort) -> Iterator[Figure]:
    for items, interval_ms in ((1, 10.0), (1, 1.0), (1000, 10.0), (1000, 1.0)):
        seen = stage.each(
            f"change of {items} at {interval_ms:g} ms",
            lambda target, items=items, interval_ms=interval_ms: scenario.latency(
                target, items, interval_ms, _latency_hz(target.name, items), 3 * effort.seconds
            ),
        )
        many = f"{items:,} items at once".replace(",", " ") if items > 1 else "1 item"
        for at, which in enumerate(("p50", "p99")):
            wanted = (
                floors.CHANGE_P99_MS if (items, interval_ms, which) == (1000, 10.0, "p99") else floors.NONE
            )
            yield from compared(
                f"change → callback, {many}, publishing {interval_ms:g} ms, {which}",
                "ms",
                {name: one[at] for name, one in seen.items()},
                floor=wanted,
            )


def _latency_hz(name: str, items: int) -> float:
    """Return how often values change: off the beat, and what a peer can take without a queue."""
    if items == 1:
        return 97.0
    return {OURS: 37.0, ASYNCUA: 7.0, NODE: 17.0}[name]


def _single(stage: _Stage, effort: Effort) -> Iterator[Figure]:
    for what, secured in (("", False), (", SignAndEncrypt", True)):
        seen = stage.each(
            f"Read of 1{what}",
            lambda target, secured=secured: scenario.reads(
                target, 1, fresh=False, seconds=effort.seconds, secured=secured
            ),
        )
        yield from _per_cpu(
            f"Read of 1{what}", "requests/CPU-s", seen, floors.NONE if secured else floors.READ_ONE
        )
        yield from _waited(f"Read of 1{what}", seen)
    seen = stage.each(
        "Browse of 1 000", lambda target: scenario.browses(target, expected=1000, seconds=effort.seconds)
    )
    yield from _waited("Browse of 1 000", seen, floor=floors.BROWSE_MS)
    seen = stage.each("method", lambda target: scenario.calls(target, effort.seconds))
    yield from _waited("method round trip", seen)
    for what, secured in (("None", False), ("SignAndEncrypt", True)):
        seen = stage.each(
            f"connect, {what}",
            lambda target, secured=secured: scenario.connects(target, effort.connects, secured=secured),
        )
        yield from _waited(f"connect, channel, session, {what}", seen)


def _per_cpu(name: str, unit: str, seen: dict[str, Requests], floor: floors.Floor) -> Iterator[Figure]:
    yield from compared(
        name,
        unit,
        {who: one.per_cpu_s for who, one in seen.items()},
        better="higher",
        floor=floor,
        note=f"ours p50 {seen[OURS].p50_ms:.3g} ms, p99 {seen[OURS].p99_ms:.3g} ms",
    )


def _waited(name: str, seen: dict[str, Requests], floor: floors.Floor = floors.NONE) -> Iterator[Figure]:
    yield from compared(
        f"{name}, p50",
        "ms",
        {who: one.p50_ms for who, one in seen.items()},
        floor=floor,
        note=f"ours p99 {seen[OURS].p99_ms:.3g} ms, {seen[OURS].cpu_ms:.3g} ms of processor time",
    )


def _starts(
    names: tuple[str, ...], where: Home, placed: tuple[int | None, int | None], effort: Effort
) -> Iterator[Figure]:
    most = {OURS: max(effort.starts)} | dict(effort.peer_starts)
    empty = {name: _started(name, 0, where, placed) for name in names}
    for tags in effort.starts:
        seen = {name: _started(name, tags, where, placed) for name in names if tags <= most[name]}
        many = f"{tags:,}".replace(",", " ")
        for at, (what, unit, wanted) in enumerate(
            (("start", "s", floors.START_S), ("memory", "MB", floors.MEMORY_MB))
        ):
            yield from compared(
                f"{what} above an empty server, {many} tags in one folder",
                unit,
                {name: max(one[at] - empty[name][at], 1e-3) for name, one in seen.items()},
                floor=wanted.get(tags, floors.NONE),
                note="empty: " + ", ".join(f"{name} {empty[name][at]:.3g} {unit}" for name in seen),
            )
        if tags == 10_000:
            browsed = {name: one[2] for name, one in seen.items() if one[2] is not None}
            yield from _waited(f"Browse of {many}", browsed)


def _started(
    name: str, tags: int, where: Home, placed: tuple[int | None, int | None]
) -> tuple[float, float, Requests | None]:
    """Return seconds to ready, memory, and how a large folder is browsed."""
    _progress(f"start of {name} with {tags} variables")
    target = start(name, Load(tags, flat=True), where, placed)
    try:
        browsed = scenario.browses(target, expected=tags, seconds=0.5) if tags == 10_000 else None
        return target.start_s, target.memory_mb, browsed
    finally:
        target.close()


@contextlib.contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    """Stay on one core meanwhile."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _progress(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
