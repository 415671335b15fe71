"""``edge-opcua bench plc``: every figure, one after the other; what has no peer here says so and goes on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.plc import ethernetip, peers, refresh, s7, steady
from edge_opcua.core.logs import configure_logging

PARTS: Final[tuple[Callable[[], Iterable[Figure]], ...]] = (
    refresh.full_refresh,
    refresh.scattered_requests,
    refresh.behind_a_round_trip,
    steady.one_plc,
    steady.many_plcs,
    s7.scattered_blocks,
    ethernetip.many_tags,
)


def run() -> Iterator[Figure]:
    """Measure; a part whose peer is missing is left out with a line that says why."""
    configure_logging(level=logging.ERROR)
    for part in PARTS:
        try:
            yield from part()
        except peers.MissingPeerError as exc:
            title = (part.__doc__ or part.__name__).partition(":")[0]
            print(f"{title} left out: {exc}", file=sys.stderr, flush=True)
