"""How much is measured: the default of some minutes, a quick look, and a long run for the books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_opcua.bench.opcua.target import ASYNCUA, NODE


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Args:
        tags: Variables of the large server.
        demands: Items and changes per second, one client.
        shared: The same for twenty clients.
        parts: Measured seconds of each.
        steps: Rungs of our ladder.
        seconds: Of each measurement of requests.
        connects: Connections.
        starts: Numbers of tags whose start is measured.
        peer_starts: The most that each peer is given; beyond, it takes minutes.
    """

    tags: int = 10_000
    demands: tuple[tuple[int, float], ...] = (
        (1000, 1),
        (1000, 10),
        (1000, 100),
        (10_000, 1),
        (10_000, 10),
        (10_000, 100),
    )
    shared: tuple[tuple[int, float], ...] = ((1000, 1), (1000, 10))
    parts: int = 2
    steps: int = 7
    seconds: float = 1.0
    connects: int = 15
    starts: tuple[int, ...] = (1000, 10_000, 100_000)
    peer_starts: tuple[tuple[str, int], ...] = ((ASYNCUA, 1000), (NODE, 10_000))


DEFAULT: Final = Effort()
QUICK: Final = Effort(
    demands=((1000, 10), (10_000, 1)),
    shared=((1000, 1),),
    parts=1,
    steps=5,
    seconds=0.5,
    connects=5,
    starts=(1000, 10_000),
    peer_starts=((ASYNCUA, 1000), (NODE, 10_000)),
)
FULL: Final = Effort(
    parts=5, steps=10, seconds=3.0, connects=50, peer_starts=((ASYNCUA, 10_000), (NODE, 100_000))
)
