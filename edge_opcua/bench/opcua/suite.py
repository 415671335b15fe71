"""``edge-opcua bench opcua``: every figure of the OPC UA server, one after the other, ours beside its peers.

The servers are started together and stopped by signal while another one is measured: they share one core,
the client and our producer the other. Each figure is of one measurement at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import structlog

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua import asking, capacity, floors, starts
from edge_opcua.bench.opcua.channel import LoadError
from edge_opcua.bench.opcua.effort import DEFAULT, Effort
from edge_opcua.bench.opcua.floors import compared
from edge_opcua.bench.opcua.ladder import Step, best, climb, holds
from edge_opcua.bench.opcua.scenario import Delivery, Demand, deliver
from edge_opcua.bench.opcua.stage import Stage, grouped, percent, pinned, progress
from edge_opcua.bench.opcua.target import (
    ASYNCUA,
    NODE,
    OURS,
    Load,
    Target,
    cores,
    home,
    node_missing,
)

LIMITS_NOTE: Final = (
    "limits of the bench server: publishing from 1 ms, queues to 10 000, requests and connections per second "
    "not limited; the rest as shipped"
)

# Rates at which the ladders begin, values per second.
_FIRST: Final = {OURS: 500_000.0, ASYNCUA: 6_000.0, NODE: 30_000.0}
_TOP: Final = 16e6
_PEER_STEPS: Final = 4
_LADDER_ITEMS: Final = 1000
_WARM_HZ: Final = 5.0
_ROUNDS: Final = 5
_ALWAYS: Final = 10_000.0  # values per second that every server is asked for


def run() -> Iterator[Figure]:
    """Measure everything once; about seven minutes."""
    yield from measure(DEFAULT)


def measure(effort: Effort) -> Iterator[Figure]:
    """Measure with more or less patience."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    missing = node_missing()
    names = (OURS, ASYNCUA) if missing else (OURS, ASYNCUA, NODE)
    if missing:
        progress(missing)
    placed = cores()
    with home() as where, pinned(placed[1]):
        taken = capacity.measure()
        yield Figure(
            "load client: decodes and checks",
            taken,
            "values/CPU-s",
            better="higher",
            note=LIMITS_NOTE + (f"; {missing}" if missing else ""),
        )
        with Stage(names, Load(effort.tags), where, placed) as stage:
            yield from _subscriptions(stage, effort)
            yield from asking.bulk_reads(stage, effort)
            yield from asking.events(stage, effort)
        with Stage(names, Load(1000, flat=True, doubles=True), where, placed) as stage:
            yield from asking.latencies(stage, effort)
            yield from asking.single_requests(stage, effort)
        yield from starts.starts(names, where, placed, effort)


def _subscriptions(stage: Stage, effort: Effort) -> Iterator[Figure]:
    highest = stage.each("lossless maximum", lambda target: _maximum(target, effort, secured=False))
    rates = {name: one.rate for name, one in highest.items()}
    rounds = [highest] + [
        stage.each("at the maximum", lambda target: deliver(target, highest[target.name].demand))
        for _ in range(_ROUNDS - 1)
    ]
    highest = _middles(rounds)  # what a value costs; the rate is the one that arrived whole
    yield from _maxima("lossless maximum, 1 client", highest, rates, floors.BLOCKS)
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
    rates = {name: one.rate for name, one in sealed.items()}
    yield from _maxima("lossless maximum, 1 client, SignAndEncrypt", sealed, rates, floors.NONE)


def _maximum(target: Target, effort: Effort, *, secured: bool) -> Delivery:
    """Climb the ladder and return the delivery at its best rung."""
    seen: dict[float, Delivery] = {}

    def at(rate: float) -> Step:
        demand = Demand(_LADDER_ITEMS, rate / _LADDER_ITEMS, parts=1, secured=secured, warm_s=0.57)
        found = deliver(target, demand)
        if not holds(found.step):  # once more: it may have been the machine, not the server
            found = deliver(target, demand)
        seen[found.step.rate] = found
        arrived = f"{grouped(found.rate)}/s, lost {found.step.lost}, {grouped(found.per_cpu_s)}/CPU-s"
        progress(f"  {grouped(rate)}/s offered: {arrived}")
        return found.step

    deliver(target, Demand(_LADDER_ITEMS, _WARM_HZ, parts=1))  # what is cold does not tell
    steps = effort.steps if target.name == OURS else _PEER_STEPS
    top = best(climb(at, _FIRST[target.name], top=_TOP, steps=steps))
    if top is None:
        raise LoadError("no rate of the ladder arrives whole")
    return seen[top.rate]


def _maxima(
    name: str, found: dict[str, Delivery], rates: dict[str, float], floor: floors.Floor
) -> Iterator[Figure]:
    yield from compared(
        f"{name}: values",
        "/s",
        rates,
        better="higher",
        note="1 000 scalars of all types with deadbands, interval 50 ms, queue 400; lost 0; "
        f"client {percent(found[OURS].client_busy)} busy",
    )
    yield from compared(
        f"{name}: values",
        "/CPU-s",
        {who: one.per_cpu_s for who, one in found.items()},
        better="higher",
        floor=floor,
    )


def _delivered(
    stage: Stage, demand: Demand, limits: dict[str, float], highest: dict[str, Delivery]
) -> Iterator[Figure]:
    """Yield what is delivered at one demand; a peer that cannot stands there with its own maximum."""
    who = "1 client" if demand.clients == 1 else f"{demand.clients} clients"
    what = f"{grouped(demand.items)} tags x {demand.hz:g} Hz x {who}"
    what += ", SignAndEncrypt" if demand.secured else ""
    promised = (demand.items, demand.hz, demand.clients, demand.secured) == (1000, 10, 1, False)
    rounds = [
        stage.each(
            what,
            lambda target: deliver(target, demand),
            only=lambda name: name == OURS or demand.rate <= max(limits.get(name, 0.0), _ALWAYS),
        )
        for _ in range(_ROUNDS if promised else 1)
    ]
    # A server that is 2 % busy is measured by its wake-ups; in turns, and the middle one of each counts.
    seen = _middles(rounds)
    ours = seen[OURS]
    wrong = sum(each[OURS].step.lost for each in rounds)
    beyond = [name for name in stage.targets if name not in seen and name in highest]
    notes = [f"lost {wrong}, age p99 {ours.age_ms[1]:.0f} ms, server {percent(ours.busy)} busy"]
    notes += [f"{name} at its own maximum, {grouped(limits[name])}/s" for name in beyond]
    figures = {name: one.per_cpu_s for name, one in seen.items()}
    figures |= {name: highest[name].per_cpu_s for name in beyond}
    if len(rounds) > 1:
        notes.append(f"median of {len(rounds)} turns")
    floor = floors.AT_10_HZ if promised else floors.NONE
    yield from compared(what, "values/CPU-s", figures, better="higher", floor=floor, note="; ".join(notes))


def _middles(rounds: list[dict[str, Delivery]]) -> dict[str, Delivery]:
    """Return for each server the middle one of its deliveries, by what a value costs."""
    return {
        name: sorted((each[name] for each in rounds if name in each), key=lambda one: one.per_cpu_s)[
            sum(name in each for each in rounds) // 2
        ]
        for name in rounds[0]
    }
