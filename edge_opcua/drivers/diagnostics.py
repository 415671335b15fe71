"""The block ``<device>.link``: what the link does and how well, kept up to date without flooding the bus."""

from __future__ import annotations

from typing import Final

from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, Link
from edge_opcua.drivers.linkstate import State
from edge_opcua.drivers.wire import Traffic

_LEAST_PAUSE_NS: Final = 500_000_000
_RTT_WEIGHT: Final = 0.1


class LinkBlock:
    """Facts about one link.

    Args:
        writer: Writer of the block.
        clock: Clock for stamps.
    """

    def __init__(self, writer: BlockWriter, clock: Clock) -> None:
        self.writer = writer
        self.last_error = ""
        self.opened = 0
        self.last_good_ns = 0
        self._clock = clock
        self._rtt_ms = 0.0
        self._published_ns = 0
        self._row = {tag.name: row for row, tag in enumerate(writer.batch.layout.spec.tags)}

    def took(self, rtt_ms: float) -> None:
        """Note how long a request took; the published figure is a moving average."""
        self._rtt_ms += (rtt_ms - self._rtt_ms) * (_RTT_WEIGHT if self._rtt_ms else 1.0)

    def publish(self, state: State, traffic: Traffic, *, good: int, bad: int, changed: bool = False) -> None:
        """Publish the facts, at most twice a second unless the state has changed."""
        now_ns = self._clock.monotonic_ns()
        if not changed and now_ns - self._published_ns < _LEAST_PAUSE_NS:
            return
        self._published_ns = now_ns
        utc_ns = self._clock.utc_ns()
        batch, row = self.writer.batch, self._row
        batch.set(row["state"], int(state))
        batch.set_text(row["state_text"], state.name)
        batch.set(row["requests"], traffic.requests)
        batch.set(row["errors"], traffic.errors)
        batch.set(row["reconnects"], max(0, self.opened - 1))
        batch.set(row["bytes"], traffic.size_bytes)
        batch.set(row["rtt_ms"], self._rtt_ms)
        batch.set_text(row["last_error"], self.last_error)
        batch.set(row["last_good_ns"], self.last_good_ns)
        batch.set(row["values_good"], good)
        batch.set(row["values_bad"], bad)
        batch.status[:] = GOOD
        batch.source_ns[:] = utc_ns
        batch.server_ns[:] = utc_ns
        # The block is about the link, so its own source is always there.
        self.writer.publish(link=Link.UP)
