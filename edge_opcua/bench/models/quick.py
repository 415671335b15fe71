"""``edge-opcua bench models-quick``: a few changes of models under load, in about a minute."""

from __future__ import annotations

from collections.abc import Iterator

from edge_opcua.bench.figure import Figure
from edge_opcua.bench.models.suite import QUICK, measure


def run() -> Iterator[Figure]:
    """Measure with few changes."""
    yield from measure(QUICK)
