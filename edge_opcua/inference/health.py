"""What a lane tells about itself: counters, latency, and how far it has come."""

from __future__ import annotations

from typing import Final

import numpy as np

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD
from edge_opcua.inference.intake import number_of

HEALTH_PERIOD_NS: Final = 500_000_000
LATENCY_WINDOW: Final = 1024


class LaneHealth:
    """The lane's own block: counters go on where a former lane stopped."""

    def __init__(self, bus: Bus, block: str, clock: Clock) -> None:
        self._clock = clock
        self._writer = bus.writer(block)
        batch = self._writer.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        known = bool(self._writer.sequence)
        self.state = "Active"
        self.processed = int(self._counter("processed")) if known else 0
        self.missed = int(self._counter("missed")) if known else 0
        self.late = int(self._counter("late")) if known else 0
        self._latency_ms = np.zeros(LATENCY_WINDOW)
        self._measured = 0
        self._percentiles = (0.0, 0.0)
        self._percentiles_at_ns = 0
        self._percentiles_of = 0

    def count(self, latency_ms: float, *, late: bool) -> None:
        """Count one stroke that took this long from the bus to its verdict."""
        self.processed += 1
        self.late += late
        self._latency_ms[self._measured % LATENCY_WINDOW] = latency_ms
        self._measured += 1

    def tend(self, cursor: int) -> None:
        """Show that the lane lives; publish figures that have become old."""
        if self._clock.monotonic_ns() - self._percentiles_at_ns >= HEALTH_PERIOD_NS and self._stale():
            self.publish(cursor)
        else:
            self._writer.beat()

    def publish(self, cursor: int, *, state: str | None = None) -> None:
        """Publish the figures; percentiles are computed at most twice a second."""
        now_ns = self._clock.monotonic_ns()
        if self._measured and now_ns - self._percentiles_at_ns >= HEALTH_PERIOD_NS:
            known = self._latency_ms[: min(self._measured, LATENCY_WINDOW)]
            self._percentiles = (float(np.percentile(known, 50)), float(np.percentile(known, 99)))
            self._percentiles_at_ns = now_ns
            self._percentiles_of = self._measured
        batch, rows = self._writer.batch, self._rows
        batch.status[:] = GOOD
        batch.source_ns[:] = batch.server_ns[:] = self._clock.utc_ns()
        batch.set_text(rows["state"], state or self.state)
        for name in ("processed", "missed", "late"):
            batch.set(rows[name], getattr(self, name))
        batch.set(rows["p50_ms"], self._percentiles[0])
        batch.set(rows["p99_ms"], self._percentiles[1])
        batch.set(rows["cursor"], cursor)
        self._writer.publish()

    def _stale(self) -> bool:
        return self._measured != self._percentiles_of

    def _counter(self, name: str) -> int | float:
        return number_of(self._writer.batch, name)
