"""``edge-opcua bench opcua-quick``: a look at the OPC UA figures in about a minute."""

from __future__ import annotations

from collections.abc import Iterator

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua.effort import QUICK
from edge_opcua.bench.opcua.suite import measure


def run() -> Iterator[Figure]:
    """Measure the figures that most is promised of, with short windows."""
    yield from measure(QUICK)
