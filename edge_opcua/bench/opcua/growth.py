"""``edge-opcua bench opcua-growth``: how cost grows with tags and clients, and what is said where it ends.

``docs/opcua_figures.py`` makes the table and the plot of the documentation from the JSON lines of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import structlog

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua.channel import LoadError
from edge_opcua.bench.opcua.scenario import Delivery, Demand, deliver
from edge_opcua.bench.opcua.stage import grouped, pinned, progress
from edge_opcua.bench.opcua.target import ASYNCUA, NODE, OURS, Home, Load, cores, home, node_missing, start

HZ: Final = 10.0
QUEUE: Final = 20
TAGS: Final = (100, 300, 1000, 3000, 10_000, 30_000, 100_000)
CLIENTS: Final = (1, 2, 5, 10, 20, 50)
CLIENT_TAGS: Final = 1000
# The most that each peer is given; beyond, it is at its end.
PEER_TAGS: Final = {ASYNCUA: 1000, NODE: 3000}
# Beyond the end: as many changes as no server takes, and queues that are too short for them.
BEYOND: Final = ((1000, 100.0, 2), (1000, 1000.0, 5), (1000, 10_000.0, 100))
_PARTS: Final = 2
_GIVE_UP: Final = 0.9  # of what was offered: less, and more clients or tags tell nothing new


def run() -> Iterator[Figure]:
    """Measure growth with tags, with clients, and beyond the end."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    placed = cores()
    with home() as where, pinned(placed[1]):
        for name in (ASYNCUA, NODE):
            if name == NODE and node_missing():
                progress(node_missing())
                continue
            yield from _of_peer(name, where, placed)
        yield from _of_tags(where, placed)
        yield from _of_clients(where, placed)


def _of_peer(name: str, where: Home, placed: tuple[int | None, int | None]) -> Iterator[Figure]:
    most = PEER_TAGS[name]
    target = start(name, Load(most), where, placed)
    try:
        deliver(target, Demand(min(most, 1000), HZ, parts=1, queue=QUEUE))
        for tags in TAGS:
            if tags <= most:
                progress(f"{name}: {tags} tags")
                yield from _told(name, deliver(target, Demand(tags, HZ, parts=_PARTS, queue=QUEUE)))
    finally:
        target.close()


def _of_tags(where: Home, placed: tuple[int | None, int | None]) -> Iterator[Figure]:
    for tags in TAGS:
        progress(f"{OURS}: {tags} tags")
        target = start(OURS, Load(tags), where, placed)
        try:
            found = deliver(target, Demand(tags, HZ, parts=_PARTS, queue=QUEUE))
        finally:
            target.close()
        yield from _told(OURS, found)
        if found.rate < _GIVE_UP * found.demand.rate:
            return


def _of_clients(where: Home, placed: tuple[int | None, int | None]) -> Iterator[Figure]:
    target = start(OURS, Load(CLIENT_TAGS), where, placed)
    try:
        for clients in CLIENTS[1:]:
            progress(f"{OURS}: {clients} clients")
            found = deliver(target, Demand(CLIENT_TAGS, HZ, clients, parts=_PARTS, queue=QUEUE))
            yield from _told(OURS, found)
            if found.rate < _GIVE_UP * found.demand.rate:
                break
        for tags, hz, queue in BEYOND:
            progress(f"{OURS}: {hz:g} Hz into queues of {queue}")
            yield from _beyond(deliver(target, Demand(tags, hz, parts=_PARTS, queue=queue)), queue)
    finally:
        target.close()


def _told(name: str, found: Delivery) -> Iterator[Figure]:
    """Yield the three figures of one demand; the plot is drawn from them."""
    demand = found.demand
    what = f"{name}: {demand.items} tags x {demand.hz:g} Hz x {demand.clients} clients"
    note = f"lost {found.step.lost}, age p50 {found.age_ms[0]:.0f} ms, p99 {found.age_ms[1]:.0f} ms"
    yield Figure(what, found.rate, "values/s", better="higher", note=note)
    yield Figure(what, 100 * found.busy, "% of a core")
    yield Figure(what, found.per_cpu_s, "values/CPU-s", better="higher")


def _beyond(found: Delivery, queue: int) -> Iterator[Figure]:
    """Yield what arrives of too much, and whether every gap is marked.

    Raises:
        LoadError: Values came twice, in a wrong order, or belong to nobody.
    """
    counts = found.counts
    if counts.strangers or counts.doubled:
        raise LoadError(f"{counts.doubled} values came twice, {counts.strangers} belong to nobody")
    demand = found.demand
    what = f"beyond: {demand.items} tags x {demand.hz:g} Hz, queues of {queue}"
    note = (
        f"{grouped(found.offered)} offered, {grouped(found.offered - found.lost)} delivered, "
        f"{grouped(found.lost)} lost; {grouped(counts.overflow)} values with the Overflow bit, "
        f"gaps without it: {counts.silent}"
    )
    yield Figure(what, found.rate, "values/s", better="higher", note=note)
    yield Figure(what, 100 * found.busy, "% of a core")
    yield Figure(f"{what}: gaps without the Overflow bit", counts.silent, "gaps")
