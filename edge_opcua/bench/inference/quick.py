"""``edge-opcua bench inference-quick``: a look at the figures of the engine in about a minute."""

from __future__ import annotations

from collections.abc import Iterator

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.inference.effort import QUICK
from edge_opcua.bench.inference.suite import measure


def run() -> Iterator[Figure]:
    """Measure with short windows, without the servers of others."""
    yield from measure(QUICK)
