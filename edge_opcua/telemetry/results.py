"""Counts every result of every pipeline as it comes: verdicts, and how long each part of them took."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader, Bus
from edge_opcua.core.values import Verdict, is_bad
from edge_opcua.telemetry.names import BOUNDS_S

KEPT_MODELS: Final = 4
"""Versions of a pipeline whose durations are kept apart: every change of a model brings another series."""

_MS: Final = 1e-3
_VERDICTS: Final = {int(verdict): verdict.name.lower() for verdict in Verdict}


@dataclass(slots=True)
class Histogram:
    """A histogram of durations in seconds, with the bounds of :data:`BOUNDS_S`.

    Attributes:
        counts: How many fell into each bucket, the last one without upper bound.
        total_s: Sum of all.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0

    def add(self, took_s: float) -> None:
        """Count one duration."""
        self.counts[bisect.bisect_left(BOUNDS_S, took_s)] += 1
        self.total_s += took_s

    def buckets(self) -> list[tuple[str, float]]:
        """Return upper bound and cumulative count of each bucket, as Prometheus wants them."""
        found, below = [], 0
        for bound, count in zip((*BOUNDS_S, float("inf")), self.counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(below)))
        return found


@dataclass(frozen=True, slots=True)
class Ran:
    """Which model gave a result, and on what it ran."""

    model: str
    version: int
    provider: str


class PipelineCounts:
    """The results of one pipeline since this process was started.

    Args:
        bus: The tag bus.
        block: Its result block.

    Attributes:
        infer: What features, run and judgement took, by model; the latest :data:`KEPT_MODELS` of them.
        queue: From the bus to the run.
        total: From the capture at its source to the verdict.
        verdicts: Results by verdict.
        fail_safe: How many of them were the fail-safe verdict.
        score: Of the last result; None where it has none.
        fail_safe_active: Whether the last result is the fail-safe verdict; None before the first.
    """

    def __init__(self, bus: Bus, block: str) -> None:
        self.infer: dict[Ran, Histogram] = {}
        self.queue = Histogram()
        self.total = Histogram()
        self.verdicts: Counter[str] = Counter()
        self.fail_safe = 0
        self.score: float | None = None
        self.fail_safe_active: bool | None = None
        self._reader: BlockReader = bus.reader(block)
        self._rows: Mapping[str, int] = bus.layout(block).rows

    @property
    def lost(self) -> int:
        """Results that were overwritten on the bus before they were counted."""
        return self._reader.lost

    def collect(self) -> None:
        """Count every result that came since the last time."""
        for batch in self._reader.poll():
            if batch.refreshed_ns == batch.stamp_ns:  # otherwise a known result, said again
                self._count(batch)

    def _count(self, batch: TagBatch) -> None:
        verdict = self._value(batch, "verdict")
        self.verdicts[_VERDICTS.get(verdict, "undefined")] += 1
        self.fail_safe_active = bool(self._value(batch, "fail_safe_active"))
        self.fail_safe += self.fail_safe_active
        self.score = self._value(batch, "score")
        queue_ms = self._value(batch, "queue_ms")
        if queue_ms is None:  # about the loss of the source, and about no capture
            return
        self.queue.add(queue_ms * _MS)
        self.total.add(self._value(batch, "total_ms") * _MS)
        if self._value(batch, "batch"):  # otherwise no model has run
            self._infer(batch).add(self._value(batch, "infer_ms") * _MS)

    def _infer(self, batch: TagBatch) -> Histogram:
        ran = Ran(*(self._value(batch, name) for name in ("model_name", "model_version", "source")))
        found = self.infer.pop(ran, None) or Histogram()
        self.infer[ran] = found  # the latest stands last
        while len(self.infer) > KEPT_MODELS:
            del self.infer[next(iter(self.infer))]
        return found

    def _value(self, batch: TagBatch, name: str) -> Any:
        row = self._rows[name]
        return None if is_bad(int(batch.status[row])) else batch.value(row)


class ResultCounts:
    """The results of all pipelines.

    Args:
        bus: The tag bus.
        blocks: Result block of each pipeline.

    Attributes:
        pipelines: By name.
    """

    def __init__(self, bus: Bus, blocks: Mapping[str, str]) -> None:
        self.pipelines = {name: PipelineCounts(bus, block) for name, block in blocks.items()}

    def collect(self) -> None:
        """Count what came since the last time; more than a ring holds is lost if nobody calls this."""
        for counts in self.pipelines.values():
            counts.collect()
