"""What our server has to reach beside its peers in the same run; a figure says whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edge_opcua.bench.figure import Figure, number
from edge_opcua.bench.opcua.target import ASYNCUA, NODE, OURS

PEER_NAMES: Final = {ASYNCUA: "plain asyncua 2.1.0", NODE: "node-opcua"}


@dataclass(frozen=True, slots=True)
class Floor:
    """How many times better than each peer, and what it may be at most by itself.

    Args:
        asyncua: Times better than plain asyncua; 0 for no floor.
        node: Times better than node-opcua; 0 for no floor.
        most: Largest figure of ours; 0 for no bound.
    """

    asyncua: float = 0.0
    node: float = 0.0
    most: float = 0.0

    def times(self, peer: str) -> float:
        """Return the floor beside a peer."""
        return self.asyncua if peer == ASYNCUA else self.node


NONE: Final = Floor()
BLOCKS: Final = Floor(200, 20)
AT_10_HZ: Final = Floor(30, 5)
READ_REPEATED: Final = Floor(100, 60)
READ_NEW: Final = Floor(2.5)
READ_ONE: Final = Floor(2)
EVENTS: Final = Floor(8, 4)
CHANGE_P99_MS: Final = Floor(most=12)
BROWSE_MS: Final = Floor(most=3)
START_S: Final = {10_000: Floor(most=0.5), 100_000: Floor(most=2)}
MEMORY_MB: Final = {10_000: Floor(most=5), 100_000: Floor(most=50)}


def compared(
    name: str,
    unit: str,
    seen: Mapping[str, float],
    *,
    floor: Floor = NONE,
    better: Literal["lower", "higher"] = "lower",
    note: str = "",
) -> Iterator[Figure]:
    """Yield one figure per peer that was measured, with what was to be shown; one alone without peers.

    Args:
        name: What was measured.
        unit: Of the figures.
        seen: Figures by server; ours is among them.
        floor: What was to be shown.
        better: Whether small or large figures are good ones.
        note: Conditions.
    """
    ours = seen[OURS]
    bound = _bound(ours, floor)
    peers = [peer for peer in PEER_NAMES if peer in seen]
    if not peers:
        yield Figure(name, ours, unit, note=_joined(note, bound), better=better)
    for peer in peers:
        plain = Figure(name, ours, unit, PEER_NAMES[peer], seen[peer], better=better)
        said = _joined(note if peer == peers[0] else "", bound if peer == peers[0] else "")
        wanted = floor.times(peer)
        if wanted and plain.ratio is not None:
            verdict = "holds" if plain.ratio >= wanted else "DOES NOT HOLD"
            said = _joined(said, f"floor {number(wanted)} x: {verdict}")
        yield Figure(name, ours, unit, PEER_NAMES[peer], seen[peer], better=better, note=said)


def _bound(value: float, floor: Floor) -> str:
    if not floor.most:
        return ""
    return f"at most {number(floor.most)}: {'holds' if value <= floor.most else 'DOES NOT HOLD'}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
