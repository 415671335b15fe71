"""``edge-opcua bench opcua-full``: the OPC UA figures with long windows, and asyncua's minute-long start."""

from __future__ import annotations

from collections.abc import Iterator

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.opcua.effort import FULL
from edge_opcua.bench.opcua.suite import measure


def run() -> Iterator[Figure]:
    """Measure everything, longer."""
    yield from measure(FULL)
