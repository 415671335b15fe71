"""Figures of requests and answers, of events, and of the time from a change to the client."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua import floors, scenario
from edge_opcua.bench.opcua.effort import Effort
from edge_opcua.bench.opcua.floors import compared
from edge_opcua.bench.opcua.scenario import Requests
from edge_opcua.bench.opcua.stage import Stage, grouped
from edge_opcua.bench.opcua.target import ASYNCUA, NODE, OURS, Target


def bulk_reads(stage: Stage, effort: Effort) -> Iterator[Figure]:
    """Yield what reading a thousand values costs, the same list and new ones."""
    for what, fresh, secured, floor in (
        ("repeated list", False, False, floors.READ_REPEATED),
        ("new lists", True, False, floors.READ_NEW),
        ("repeated list, SignAndEncrypt", False, True, floors.NONE),
    ):
        seen = stage.each(
            f"Read of 1 000, {what}",
            partial(scenario.reads, count=1000, fresh=fresh, seconds=effort.seconds, secured=secured),
        )
        yield from _per_cpu(f"Read of 1 000, {what}", "values/CPU-s", seen, floor)


def events(stage: Stage, effort: Effort) -> Iterator[Figure]:
    """Yield what delivering events costs."""

    def ask(target: Target) -> scenario.EventDelivery:
        scenario.events(target, 2_000, 0.5)  # what is cold does not tell
        return scenario.events(target, 10_000, max(1.0, effort.seconds))

    seen = stage.each("events", ask)
    yield from compared(
        "events, 10 000/s offered, 6 fields",
        "events/CPU-s",
        {name: one.per_cpu_s for name, one in seen.items()},
        better="higher",
        floor=floors.EVENTS,
        note=", ".join(f"{name} {grouped(one.rate)}/s, lost {one.lost}" for name, one in seen.items()),
    )


def latencies(stage: Stage, effort: Effort) -> Iterator[Figure]:
    """Yield the time from a change in the producer to its receipt in the client."""
    for items, interval_ms in ((1, 10.0), (1, 1.0), (1000, 10.0), (1000, 1.0)):
        seen = stage.each(
            f"change of {items} at {interval_ms:g} ms",
            partial(
                _latency,
                items=items,
                interval_ms=interval_ms,
                # For a p99 the many come as often as the single one, not as fast.
                seconds=(3 if items == 1 else 10) * effort.seconds,
            ),
        )
        many = f"{grouped(items)} items at once" if items > 1 else "1 item"
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


def _latency(target: Target, items: int, interval_ms: float, seconds: float) -> tuple[float, float]:
    """Measure with changes off the beat of publishing, and no more than a peer can take without a queue."""
    hz = 97.0 if items == 1 else {OURS: 37.0, ASYNCUA: 7.0, NODE: 17.0}[target.name]
    return scenario.latency(target, items, interval_ms, hz, seconds)


def single_requests(stage: Stage, effort: Effort) -> Iterator[Figure]:
    """Yield what small requests cost: Read of one, Browse, a method, a connection."""
    for what, secured in (("", False), (", SignAndEncrypt", True)):
        seen = stage.each(
            f"Read of 1{what}",
            partial(scenario.reads, count=1, fresh=False, seconds=effort.seconds, secured=secured),
        )
        yield from _per_cpu(
            f"Read of 1{what}", "requests/CPU-s", seen, floors.NONE if secured else floors.READ_ONE
        )
        yield from waited(f"Read of 1{what}", seen)
    seen = stage.each(
        "Browse of 1 000", lambda target: scenario.browses(target, expected=1000, seconds=effort.seconds)
    )
    yield from waited("Browse of 1 000", seen, floor=floors.BROWSE_MS)
    seen = stage.each("method", lambda target: scenario.calls(target, effort.seconds))
    yield from waited("method round trip", seen)
    for what, secured in (("None", False), ("SignAndEncrypt", True)):
        seen = stage.each(
            f"connect, {what}",
            partial(scenario.connects, count=effort.connects, secured=secured),
        )
        yield from waited(f"connect, channel, session, {what}", seen)


def _per_cpu(name: str, unit: str, seen: dict[str, Requests], floor: floors.Floor) -> Iterator[Figure]:
    yield from compared(
        name,
        unit,
        {who: one.per_cpu_s for who, one in seen.items()},
        better="higher",
        floor=floor,
        note=f"ours p50 {seen[OURS].p50_ms:.3g} ms, p99 {seen[OURS].p99_ms:.3g} ms",
    )


def waited(name: str, seen: dict[str, Requests], floor: floors.Floor = floors.NONE) -> Iterator[Figure]:
    """Yield how long a client waits for an answer, median."""
    yield from compared(
        f"{name}, p50",
        "ms",
        {who: one.p50_ms for who, one in seen.items()},
        floor=floor,
        note=f"ours p99 {seen[OURS].p99_ms:.3g} ms, {seen[OURS].cpu_ms:.3g} ms of processor time",
    )
