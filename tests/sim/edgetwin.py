"""The edge's end of the interface block, by hand: what it writes into the status area, from the same map."""

from __future__ import annotations

import struct

from edge_opcua.config.eai import EaiMap, Stat, StatusWord, following
from edge_opcua.config.outputs import InterfaceConfig

PRESS_INTERFACE = InterfaceConfig(mode="polled", control="DB21", status="DB20", low=0, high=10, rate_per_s=2)
"""As examples/press/press.toml has it."""
ACTIVE = Stat.ONLINE | Stat.AUTHORITY_ACTIVE | Stat.RESULTS_VALID


class EdgeTwin:
    """Counters and results of an edge.

    Args:
        words: The map of the output.
    """

    def __init__(self, words: EaiMap) -> None:
        self.map = words
        self.stat = ACTIVE
        self.heartbeat = 1
        self.sequence = 0
        self.echo = 0
        self.version = words.version
        self.results: dict[str, float] = {}
        self.mask = 0
        self.tail: int | None = None

    def beat(self) -> None:
        """Show that the edge lives."""
        self.heartbeat = following(self.heartbeat)

    def judge(self, **results: float) -> None:
        """Write a new result."""
        self.results = results
        self.sequence = following(self.sequence)

    def words(self) -> list[int]:
        """The status area."""
        found = [0] * self.map.status_words
        found[StatusWord.STAT] = int(self.stat)
        found[StatusWord.EDGE_HEARTBEAT] = self.heartbeat
        found[StatusWord.ECHO_PLC_HEARTBEAT] = self.echo
        found[StatusWord.RESULT_SEQ] = self.sequence
        found[StatusWord.QUALITY_MASK] = self.mask
        found[StatusWord.INTERFACE_VERSION] = self.version
        found[self.map.tail_word] = self.sequence if self.tail is None else self.tail
        for field in self.map.results:
            value = self.results.get(field.config.name, 0)
            layout = ">f" if field.config.type == "REAL" else ">i"
            high, low = struct.unpack(">HH", struct.pack(layout, value))
            found[field.word : field.word + 2] = (high, low) if self.map.high_first else (low, high)
        return found

    def image(self) -> bytes:
        """The status area as an S7 data block has it."""
        return struct.pack(f">{self.map.status_words}H", *self.words())
