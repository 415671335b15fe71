"""``edge-opcua bench compress-quick``: the autoencoder of the press alone, without packages of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_opcua.bench.compress.subjects import SUBJECTS, named
from edge_opcua.bench.compress.suite import measure
from edge_opcua.bench.figure import Figure

SUBJECT: Final = "press-autoencoder"


def run() -> Iterator[Figure]:
    """Measure with one model."""
    yield from measure([named(SUBJECTS)[SUBJECT]])
