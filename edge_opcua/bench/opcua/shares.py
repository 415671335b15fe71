"""``edge-opcua bench opcua-profile``: where our server's processor time goes, by sampling its main thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import structlog

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua.client import pump
from edge_opcua.bench.opcua.scenario import Demand, Subscribers, finished
from edge_opcua.bench.opcua.stage import grouped, pinned, progress
from edge_opcua.bench.opcua.target import OURS, Load, Target, cores, home, start

SECONDS: Final = 5.0
SHARES: Final = 10
DEMANDS: Final = (Demand(1000, 100.0), Demand(1000, 1000.0))


def run() -> Iterator[Figure]:
    """Measure the largest shares of two demands."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    placed = cores()
    with home() as where, pinned(placed[1]):
        target = start(OURS, Load(1000), where, placed)
        try:
            for demand in DEMANDS:
                yield from _shares(target, demand)
        finally:
            target.close()


def _shares(target: Target, demand: Demand) -> Iterator[Figure]:
    what = f"{grouped(demand.items)} tags x {demand.hz:g} Hz"
    progress(what)
    target.begin(demand.items, 1.0, 0.001)
    finished(target, ())
    with ExitStack() as stack:
        who = Subscribers(target, demand, stack)
        who.settle(demand.items)
        target.begin(demand.items, demand.hz, SECONDS + 1.0)
        pump(who.clients, time.monotonic() + 0.5)
        target.server.tell({"do": "profile", "seconds": SECONDS})
        finished(target, who.clients)
        pump(who.clients, time.monotonic() + 0.5)
        found = target.server.hear()
    yield Figure(f"{what}: busy, sampling included", 100 * found["busy"], "% of a core")
    for name, share in found["own"][:SHARES]:
        yield Figure(f"{what}: {name}", 100 * share, "% of the time it is busy")
