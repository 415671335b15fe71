"""Figures of the start: how long, and how much memory, above an empty server of the same make.

A start is processor time: on one core it is what a start takes, and others beside it do not change it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua import floors, scenario
from edge_opcua.bench.opcua.asking import waited
from edge_opcua.bench.opcua.effort import Effort
from edge_opcua.bench.opcua.floors import compared
from edge_opcua.bench.opcua.scenario import Requests
from edge_opcua.bench.opcua.stage import grouped, progress
from edge_opcua.bench.opcua.target import OURS, Home, Load, start


def starts(
    names: tuple[str, ...], where: Home, placed: tuple[int | None, int | None], effort: Effort
) -> Iterator[Figure]:
    """Yield start and memory for each number of tags; a peer only as far as it takes no minutes."""
    most = {OURS: max(effort.starts)} | dict(effort.peer_starts)
    empty = {name: _started(name, 0, where, placed) for name in names}
    for tags in effort.starts:
        seen = {name: _started(name, tags, where, placed) for name in names if tags <= most[name]}
        many = grouped(tags)
        walls = ", ".join(f"{name} {one.took_s:.1f} s" for name, one in seen.items())
        for what, unit, wanted in (("start", "CPU-s", floors.START_S), ("memory", "MB", floors.MEMORY_MB)):
            yield from compared(
                f"{what} above an empty server, {many} tags in one folder",
                unit,
                {name: max(one.of(what) - empty[name].of(what), 1e-3) for name, one in seen.items()},
                floor=wanted.get(tags, floors.NONE),
                note="empty: "
                + ", ".join(f"{name} {empty[name].of(what):.3g} {unit}" for name in seen)
                + (f"; from start to ready {walls}" if what == "start" else ""),
            )
        if tags == 10_000:
            browsed = {name: one.browsed for name, one in seen.items() if one.browsed is not None}
            yield from waited(f"Browse of {many}", browsed)


@dataclass(frozen=True, slots=True)
class _Started:
    """A server that was started.

    Args:
        start_s: Processor time from its start until clients can connect.
        took_s: The same by the clock on the wall.
        memory_mb: Its own memory then; the bus apart.
        browsed: How its folder is browsed, if that was measured.
    """

    start_s: float
    took_s: float
    memory_mb: float
    browsed: Requests | None

    def of(self, what: str) -> float:
        """Return one of the two figures."""
        return self.start_s if what == "start" else self.memory_mb


def _started(name: str, tags: int, where: Home, placed: tuple[int | None, int | None]) -> _Started:
    """Start a server, ask it, and end it."""
    progress(f"start of {name} with {tags} variables")
    target = start(name, Load(tags, flat=True), where, placed)
    try:
        browsed = scenario.browses(target, expected=tags, seconds=0.5) if tags == 10_000 else None
        return _Started(target.start_cpu_s, target.start_s, target.memory_mb, browsed)
    finally:
        target.close()
