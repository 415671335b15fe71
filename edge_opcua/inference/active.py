"""What an active lane carries from stroke to stroke, and what it finds on the bus of a predecessor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import is_bad
from edge_opcua.inference.health import LaneHealth
from edge_opcua.inference.intake import Shot, number_of
from edge_opcua.inference.judge import Past
from edge_opcua.inference.known import REMEMBERED, Stroke
from edge_opcua.inference.lateness import Lateness
from edge_opcua.inference.model import ServedModel
from edge_opcua.inference.result import Result, ResultWriter, Variant
from edge_opcua.inference.sampling import Case
from edge_opcua.inference.spec import LaneSpec

_LOG_NS: Final = 1_000_000_000

_log = structlog.get_logger(__name__)


class ActiveLane:
    """What an active lane carries from stroke to stroke.

    Args:
        bus: Where its blocks are.
        clock: Clock.
        spec: The pipeline.
        model: Its model.
        variants: All models that may answer, by key.
        strokes: Those that have a result already, oldest first.
        spare: A batch of the captures, to keep one in.

    Attributes:
        open: What is not published yet, in the order in which it came.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        spec: LaneSpec,
        model: ServedModel,
        variants: Mapping[str, Variant],
        *,
        strokes: Sequence[Stroke],
        spare: TagBatch,
    ) -> None:
        first_id = clock.utc_ns() // 1_000_000  # grows over restarts of the server too
        variant = variants[model.key]
        self.results = ResultWriter(bus.writer(spec.result_block), variant, first_id)
        accelerated = float(model.backend.describe().get("accelerated", 1.0))
        self.health = LaneHealth(
            bus, spec.lane_block, clock, provider=variant.provider, accelerated=accelerated
        )
        self.lateness = Lateness(spec.late, spec.fail_safe)
        self.open: dict[Case, None] = {}
        self._spare = spare
        self._waits = False
        self.source_lost = self.results.about_loss
        self._fail_safe = self.source_lost
        self._clock = clock
        self._pipeline = spec.pipeline
        self._last: Result | None = None
        self._logged_ns = -_LOG_NS
        self._known = set(strokes)
        self._strokes = deque(strokes, maxlen=REMEMBERED)
        self._last_sequence: int | None = None

    def knows(self, shot: Shot) -> bool:
        """Return whether this capture was taken already, here or by a predecessor."""
        if (shot.stroke, shot.captured_ns) in self._known:
            return True
        return not shot.has_device_time and shot.sequence == self._last_sequence and shot.sequence != 0

    def remember(self, shot: Shot) -> None:
        """Take note of a capture."""
        stroke = (shot.stroke, shot.captured_ns)
        if len(self._strokes) == REMEMBERED:
            self._known.discard(self._strokes[0])
        self._strokes.append(stroke)
        self._known.add(stroke)
        self._last_sequence = shot.sequence

    def let_wait(self, capture: TagBatch) -> bool:
        """Keep a capture while a newer one is looked for; returns whether it is in place of another."""
        in_place = self.supersede()
        self._spare.copy_from(capture)
        self._waits = True
        return in_place

    def supersede(self) -> bool:
        """Count the capture that waits, if one does: a newer one has come; returns whether one did."""
        waited, self._waits = self._waits, False
        self.health.counts["superseded"] += waited
        return waited

    def take_waiting(self) -> TagBatch | None:
        """Return the capture that waited for a newer one in vain."""
        waits, self._waits = self._waits, False
        return self._spare if waits else None

    def note(self, result: Result) -> None:
        """Take note of what was published: whether verdicts are fail-safe now, and why."""
        self._last = result
        self.health.state = "FailSafe" if result.fail_safe else "Active"
        self.log_change()

    def log_change(self) -> None:
        """Log that verdicts are fail-safe from now on, or not any more; what flickers, once a second."""
        result = self._last
        if result is None or result.fail_safe == self._fail_safe:
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns < _LOG_NS:
            return
        self._fail_safe, self._logged_ns = result.fail_safe, now_ns
        event = "lane.fail_safe" if result.fail_safe else "lane.recovered"
        _log.warning(event, pipeline=self._pipeline, stroke=result.stroke, reason=result.reason)


def go_on_from(bus: Bus, block: str, variants: Iterable[Variant]) -> None:
    """Let what judges remember what the same model has judged before, as far as the bus holds it.

    Who has judged already, e.g. unseen beside its predecessor, remembers that.
    """
    fresh = [
        (variant.manifest.name, variant.judge)
        for variant in variants
        if variant.judge is not None and variant.judge.remembers and not variant.judge.judged
    ]
    if not fresh:
        return
    past: dict[str, list[Past]] = {name: [] for name, _ in fresh}
    reader = bus.reader(block, from_newest=False)
    reader.cursor = max(reader.cursor, reader.newest - max(judge.remembers for _, judge in fresh))
    for batch in reader.poll():
        model = batch.text(batch.row("model_name"))
        if model not in past or is_bad(int(batch.status[batch.row("score")])):
            continue
        label = batch.row("label")
        known = not is_bad(int(batch.status[label]))
        confidence = batch.row("confidence")
        sure = None if is_bad(int(batch.status[confidence])) else float(number_of(batch, "confidence"))
        past[model].append((float(number_of(batch, "score")), sure, batch.text(label) if known else ""))
    for name, judge in fresh:
        judge.seed(past[name])
