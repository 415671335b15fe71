"""``edge-opcua bench inference``: every figure of the engine, one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference import batching, neighbours, overhead, realtime, safety, serving
from edge_opcua.bench.inference.effort import DEFAULT, Effort
from edge_opcua.bench.opcua.stage import progress
from edge_opcua.core.logs import configure_logging

PARTS: Final[tuple[Callable[[Effort], Iterable[Figure]], ...]] = (
    safety.figures,
    overhead.figures,
    realtime.figures,
    batching.figures,
    serving.figures,
    neighbours.figures,
)


def run() -> Iterator[Figure]:
    """Measure everything; about eight minutes."""
    yield from measure(DEFAULT)


def measure(effort: Effort) -> Iterator[Figure]:
    """Measure with more or less patience."""
    configure_logging(level=logging.ERROR)
    for part in PARTS:
        began_s = time.monotonic()
        yield from part(effort)
        title = (part.__doc__ or part.__name__).partition(":")[0]
        progress(f"{title}: {time.monotonic() - began_s:.0f} s")
