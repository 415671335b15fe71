"""What a lane tells about itself: counters, latency, how far it has come, and what it runs on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_NOT_SUPPORTED, GOOD
from edge_opcua.inference.blocks import COUNTERS
from edge_opcua.inference.intake import number_of

HEALTH_PERIOD_NS: Final = 500_000_000
LATENCY_WINDOW: Final = 4096
_NEW: Final = 0.05  # weight of a run in the mean of the batches


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a lane shares with the others of its process and of the machine.

    Args:
        utilisation: Share of the workers' time that is asked for; above 1 it is too much.
        celsius: Temperature of the place nearest to its limit; NaN if the machine does not tell.
        throttled: Whether the machine has slowed itself down.
        rss_mb: Memory of the process, MB.
        scheduler: What the system granted, e.g. ``SCHED_FIFO 50``.
        memory_locked: Whether the memory of the process stays where it is.
    """

    utilisation: float = 0.0
    celsius: float = math.nan
    throttled: bool = False
    rss_mb: float = 0.0
    scheduler: str = ""
    memory_locked: bool = False

    def is_like(self, other: Surroundings) -> bool:
        """Return whether people would see no difference."""
        return self._shown == other._shown

    @property
    def _shown(self) -> tuple[object, ...]:
        celsius = None if math.isnan(self.celsius) else round(self.celsius)
        return (
            round(self.utilisation, 2),
            celsius,
            self.throttled,
            round(self.rss_mb),
            self.scheduler,
            self.memory_locked,
        )


class LaneHealth:
    """The lane's own block: counters go on where a former lane stopped.

    Args:
        bus: The tag bus.
        block: Block of the lane's health.
        clock: For the stamps, and for how often figures are computed.
        provider: What runs the model.
        accelerated: Share of the model's nodes that run on what was asked for, 0..1.

    Attributes:
        counts: The counters by row; add to them.
        state: What the lane does.
        degraded: Whether a cheaper model judges at present.
        schedulable: Whether the deadline can be promised with what was measured.
    """

    def __init__(
        self, bus: Bus, block: str, clock: Clock, *, provider: str = "", accelerated: float = 1.0
    ) -> None:
        self._clock = clock
        self._writer = bus.writer(block)
        batch = self._writer.batch
        self._rows = {name: batch.row(name) for name in batch.layout.rows}
        known = bool(self._writer.sequence)
        self.counts = {name: int(self._counter(name)) if known else 0 for name in COUNTERS}
        self.state = "Active"
        self.degraded = False
        self.schedulable = True
        self._provider = provider
        self._accelerated = accelerated
        self._surroundings = Surroundings()
        self._batch_mean = 0.0
        self._latency_ms = np.zeros(LATENCY_WINDOW)
        self._measured = 0
        self._figures = (0.0, 0.0, 0.0, 0.0)
        self._figures_at_ns = 0
        self._figures_of = 0
        self._changed = False
        batch.status[:] = GOOD
        self._describe()

    def count_batch(self, size: int) -> None:
        """Take note of a run that judged this many samples."""
        self._batch_mean += (size - self._batch_mean) * _NEW if self._batch_mean else size

    def measure(self, latency_ms: float) -> None:
        """Take note of a stroke that took this long from the bus to its verdict."""
        self._latency_ms[self._measured % LATENCY_WINDOW] = latency_ms
        self._measured += 1

    def surround(self, found: Surroundings, *, schedulable: bool) -> None:
        """Show what the lane shares with others."""
        self._changed |= schedulable != self.schedulable or not found.is_like(self._surroundings)
        self._surroundings, self.schedulable = found, schedulable
        self._describe()

    def tend(self, cursor: int) -> None:
        """Show that the lane lives; publish figures that have become old."""
        due = self._clock.monotonic_ns() - self._figures_at_ns >= HEALTH_PERIOD_NS
        if self._changed or (due and self._measured != self._figures_of):
            self._compute()
            self.publish(cursor)
        else:
            self._writer.beat()

    def publish(self, cursor: int, *, state: str | None = None) -> None:
        """Publish the figures; those of the latency are computed by :meth:`tend`, when nothing waits."""
        batch, rows = self._writer.batch, self._rows
        batch.source_ns[:] = batch.server_ns[:] = self._clock.utc_ns()
        batch.set_text(rows["state"], state or self.state)
        for name, count in self.counts.items():
            batch.set(rows[name], count)
        for name, figure in zip(("p50_ms", "p99_ms", "p999_ms", "max_ms"), self._figures, strict=True):
            batch.set(rows[name], figure)
        batch.set(rows["cursor"], cursor)
        batch.set(rows["degraded"], self.degraded)
        batch.set(rows["batch_mean"], self._batch_mean)
        self._writer.publish()
        self._changed = False

    def _describe(self) -> None:
        """Write what seldom changes."""
        batch, rows, around = self._writer.batch, self._rows, self._surroundings
        batch.set_text(rows["provider"], self._provider)
        batch.set(rows["accelerated"], self._accelerated)
        batch.set(rows["utilisation"], around.utilisation)
        batch.set(rows["schedulable"], self.schedulable)
        batch.set_text(rows["scheduler"], around.scheduler)
        batch.set(rows["memory_locked"], around.memory_locked)
        batch.set(rows["rss_mb"], around.rss_mb)
        batch.set(rows["throttled"], around.throttled)
        if math.isnan(around.celsius):
            batch.status[rows["celsius"]] = BAD_NOT_SUPPORTED  # the machine does not tell
        else:
            batch.status[rows["celsius"]] = GOOD
            batch.set(rows["celsius"], around.celsius)

    def _compute(self) -> None:
        self._figures_at_ns = self._clock.monotonic_ns()
        self._figures_of = self._measured
        if self._measured:
            known = self._latency_ms[: min(self._measured, LATENCY_WINDOW)]
            p50, p99, p999 = np.percentile(known, (50, 99, 99.9))
            self._figures = (float(p50), float(p99), float(p999), float(known.max()))

    def _counter(self, name: str) -> int | float:
        return number_of(self._writer.batch, name)
