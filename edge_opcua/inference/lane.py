"""A lane: takes the captures of one pipeline from the bus and publishes a verdict on each, in any case.

What is not decided in time, or not from inputs that may be believed, comes out as the fail-safe verdict,
never as a late or guessed Good. A lane can be retired at any moment: what it has not published by then is
judged by its successor, and by nobody twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_INTERNAL_ERROR,
    BAD_RESOURCE_UNAVAILABLE,
    BAD_TIMEOUT,
    is_bad,
    status_name,
)
from edge_opcua.errors import ModelError
from edge_opcua.inference.health import LaneHealth, Surroundings
from edge_opcua.inference.intake import ContextTag, Shot, Source, number_of, refusal
from edge_opcua.inference.judging import not_learned, take_answers
from edge_opcua.inference.lateness import Lateness
from edge_opcua.inference.model import Extractor, ServedModel
from edge_opcua.inference.result import Result, ResultWriter, Variant
from edge_opcua.inference.sampling import Case, Sampler
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from edge_opcua.inference.spec import LaneSpec, lane_spec

__all__ = ["ContextTag", "Engine", "Handover", "Lane", "LaneSpec", "lane_spec"]

_log = structlog.get_logger(__name__)

_MS: Final = 1e6
_CANCELLED: Final = "M535"
_NEW: Final = 0.05  # weight of a stroke in a moving average
_REMEMBERED: Final = 256
"""Strokes a lane knows again: as many as the ring of results keeps."""

_NOT_RUN: Final = {
    Fate.REJECTED: ("rejected", BAD_TIMEOUT, "not accepted"),
    Fate.EXPIRED: ("expired", BAD_TIMEOUT, "late"),
    Fate.SHED: ("shed", BAD_RESOURCE_UNAVAILABLE, "given up"),
}
"""Of a request that was not run: its counter, the status of its result, and the word for it."""


class Engine(Protocol):
    """What a lane asks; :class:`edge_opcua.inference.engine.Engine` is one."""

    def submit(self, request: Request) -> bool:
        """Take a request in, or refuse it at once."""
        ...

    def judge(self, request: Request) -> None:
        """Run one request now."""
        ...


@dataclass(frozen=True, slots=True)
class Handover:
    """Where a retired lane stopped.

    Args:
        cursor: Bus sequence up to which it has dealt with every capture.
        sequence: Bus sequence of its last result.
    """

    cursor: int
    sequence: int


class Lane:
    """Judges the captures of one pipeline.

    Only an active lane writes its blocks; a :class:`edge_opcua.inference.group.LaneGroup` turns it.

    Args:
        spec: The pipeline, its context in the model's order.
        models: Its model, and after it the cheaper ones that may answer instead.
        bus: The tag bus.
        clock: For stamps and ages.
        extractor: Computes the features.
        engine: Runs the models.

    Raises:
        ModelError: A context tag is not a number (M504).

    Attributes:
        arrivals: Captures that have come.
        features_ns: What the features of one of them take, a moving average.
    """

    def __init__(
        self,
        spec: LaneSpec,
        models: Sequence[ServedModel],
        bus: Bus,
        clock: Clock,
        *,
        extractor: Extractor,
        engine: Engine,
    ) -> None:
        self.spec = spec
        self.model = models[0]
        self.arrivals = 0
        self.features_ns = 0
        self._bus = bus
        self._clock = clock
        self._engine = engine
        self._captures = bus.reader(spec.capture_block)
        self._source = Source(bus.reader(spec.capture_block), clock)
        self._sampler = Sampler(
            spec, bus, clock, self._captures, extractor=extractor, size=len(self.model.manifest.features)
        )
        self._variants = {
            model.key: Variant(model.manifest, str(model.backend.describe()["provider"])) for model in models
        }
        self._cheaper = tuple(model.key for model in models[1:])
        self._deadline_ns = round(spec.deadline_ms * _MS)
        self._direct = spec.lane is LaneClass.SAFETY
        self._surroundings, self._schedulable = Surroundings(), True
        self._active: _Active | None = None

    @property
    def is_active(self) -> bool:
        """Whether it judges and writes its blocks."""
        return self._active is not None

    @property
    def cursor(self) -> int:
        """Bus sequence up to which every capture has been dealt with."""
        active = self._active
        if active is not None and active.open:
            return min(active.open) - 1
        return self._captures.cursor

    def activate(self, cursor: int | None) -> None:
        """Become the writer of the result, and go on behind the last capture that was dealt with.

        Args:
            cursor: Bus sequence of that capture; None begins with the next one to come.

        Raises:
            ModelError: The lane is active already (M534).
        """
        if self._active is not None:
            raise ModelError("the lane is active already", code="M534")
        if cursor is not None:
            self._captures.cursor = min(cursor, self._captures.newest)
        else:
            self._captures.cursor = self._captures.newest
        self._captures.lost = 0
        self._active = _Active(self._bus, self._clock, self.spec, self.model, self._variants)
        self._active.health.surround(self._surroundings, schedulable=self._schedulable)
        self._active.health.publish(self.cursor)

    def retire(self) -> Handover:
        """Stop; from now on the blocks belong to the successor, and so does what is not published yet.

        Raises:
            ModelError: The lane is not active (M534).
        """
        active = self._active
        if active is None:
            raise ModelError("the lane is not active", code="M534")
        cursor = self.cursor
        active.health.publish(cursor, state="Retired")
        self._active = None
        return Handover(cursor, active.results.sequence)

    def take_in(self) -> None:
        """Take every capture that is there: decide what can be decided, ask the engine for the rest."""
        active = self._active
        if active is None:
            return
        lost_before = self._captures.lost
        waiting = False
        for capture in self._captures.poll():
            if capture.refreshed_ns != capture.stamp_ns:  # only the link has changed
                continue
            refused = refusal(capture)
            if refused is not None:
                reason = f"{self.spec.capture} cannot be read: {status_name(refused)}"
                self._tell_loss(active, refused, reason)
            elif self._direct and self._captures.behind:  # perhaps a newer one, which then wins
                active.supersede(waiting)
                active.spare.copy_from(capture)
                waiting = True
            else:
                active.supersede(waiting)
                waiting = False
                self._begin(active, capture)
        if waiting:
            self._begin(active, active.spare)
        if missed := self._captures.lost - lost_before:
            active.health.counts["missed"] += missed
            active.health.publish(self.cursor)
            _log.warning("lane.missed", pipeline=self.spec.pipeline, captures=missed)

    def tend(self) -> None:
        """Look after the source, and show that the lane lives."""
        active = self._active
        if active is None:
            return
        status = self._source.lost_status()
        if status is not None and not active.source_lost:
            self._tell_loss(active, status, f"{self.spec.capture}: no connection to the device")
        active.source_lost = status is not None
        active.results.beat()
        active.health.tend(self.cursor)

    def surround(self, found: Surroundings, *, schedulable: bool) -> None:
        """Show what the lane shares with others, and whether its deadline can be promised."""
        self._surroundings, self._schedulable = found, schedulable
        if self._active is not None:
            self._active.health.surround(found, schedulable=schedulable)

    def finish(self, request: Request) -> None:
        """Publish what has become of a request; of a lane that was retired meanwhile nothing."""
        active, case = self._active, request.tag
        if active is None or not isinstance(case, Case) or case.sequence not in active.open:
            return
        result = case.result
        waited_ns = (request.started_ns or self._clock.monotonic_ns()) - case.asked_ns
        result.queue_ms += max(0, waited_ns) / _MS
        active.health.counts["preempted"] += request.preempted
        if request.fate is Fate.DONE:
            result.batch = request.batch
            take_answers(result, self._variants[request.ran], request.answers, uncertain=case.uncertain)
            active.health.degraded = request.ran != request.model
            active.health.count_batch(request.batch)
        elif request.fate is Fate.FAILED:
            active.health.counts["failed"] += 1
            status = BAD_TIMEOUT if request.code == _CANCELLED else BAD_INTERNAL_ERROR
            result.fall_safe(self.spec.fail_safe, status, f"{request.code}: {request.reason}")
        else:
            counter, status, word = _NOT_RUN[request.fate]
            active.health.counts[counter] += 1
            active.lateness.apply(result, status, f"{word}: {request.reason}", judged=False)
        self._publish(active, case, measured=request.fate not in _NOT_RUN)

    def _begin(self, active: _Active, capture: TagBatch) -> None:
        shot = Shot(capture)
        if active.knows(shot):  # the io process was restarted and read the same capture again
            return
        active.remember(shot)
        self.arrivals += 1
        case = self._sampler.read(self, capture, shot)
        active.open.add(case.sequence)
        result = case.result
        if result.fail_safe:
            self._publish(active, case)
        elif result.features is None:
            self._publish(active, case, judged=False)
        elif outside := self.model.outside(result.features):
            not_learned(result, outside)
            self._publish(active, case)
        else:
            self._ask(case, result)

    def _ask(self, case: Case, result: Result) -> None:
        assert result.features is not None, "it has been sampled"
        case.asked_ns = self._clock.monotonic_ns()
        took_ns = case.asked_ns - case.begun_ns
        self.features_ns += round((took_ns - self.features_ns) * (_NEW if self.features_ns else 1.0))
        request = Request(
            self.model.key,
            self.spec.lane,
            case.asked_ns,
            case.stamp_ns + self._deadline_ns,
            result.features,
            self._cheaper,
            self.spec.priority,
            case,
        )
        if self._direct:
            self._engine.judge(request)
            self.finish(request)
        elif not self._engine.submit(request):
            self.finish(request)

    def _publish(self, active: _Active, case: Case, *, judged: bool = True, measured: bool = True) -> None:
        """Publish a result, as what it is worth now.

        Args:
            active: Where.
            case: Its result is complete, apart from the times.
            judged: Whether it is; otherwise it has expired before anything was computed.
            measured: Whether its time says something about the lane: a rejection is quick.
        """
        result, utc_ns = case.result, self._clock.utc_ns()
        result.input_age_ms = max(0.0, (utc_ns - case.oldest_ns) / _MS)
        total_ms = (self._clock.monotonic_ns() - case.stamp_ns) / _MS
        result.infer_ms = max(0.0, total_ms - result.queue_ms)
        late = measured and result.queue_ms + result.infer_ms > self.spec.deadline_ms
        if late and not result.fail_safe:
            active.lateness.apply(result, BAD_TIMEOUT, self._late(result), judged=judged)
        active.lateness.remember(result)
        active.open.discard(case.sequence)
        active.results.publish(result, utc_ns)
        health = active.health
        health.counts["processed"] += 1
        health.counts["late"] += late
        if measured:
            health.measure(result.queue_ms + result.infer_ms)
        active.log_change(self.spec.pipeline, result)
        health.publish(self.cursor)

    def _late(self, result: Result) -> str:
        spent_ms = result.queue_ms + result.infer_ms
        return f"late: {spent_ms:.0f} ms after it was read, {self.spec.deadline_ms:g} ms allowed"

    def _tell_loss(self, active: _Active, status: int, reason: str) -> None:
        """Publish a result that is about no stroke, because there are no captures."""
        now_ns = self._clock.utc_ns()
        result = Result(now_ns, None)
        result.fall_safe(self.spec.fail_safe, status, reason)
        active.lateness.remember(result)
        active.results.publish(result, now_ns)
        active.log_change(self.spec.pipeline, result)


class _Active:
    """What an active lane carries from stroke to stroke.

    Attributes:
        open: Bus sequences of the captures that are with the engine.
        spare: Where a capture waits while a newer one is looked for.
    """

    def __init__(
        self, bus: Bus, clock: Clock, spec: LaneSpec, model: ServedModel, variants: Mapping[str, Variant]
    ) -> None:
        first_id = clock.utc_ns() // 1_000_000  # grows over restarts of the server too
        variant = variants[model.key]
        strokes = _published(bus, spec.result_block)
        self.results = ResultWriter(bus.writer(spec.result_block), variant, first_id)
        accelerated = float(model.backend.describe().get("accelerated", 1.0))
        self.health = LaneHealth(
            bus, spec.lane_block, clock, provider=variant.provider, accelerated=accelerated
        )
        self.lateness = Lateness(spec.late, spec.fail_safe)
        self.open: set[int] = set()
        self.spare = TagBatch(bus.layout(spec.capture_block))
        self.source_lost = self.results.about_loss
        self._fail_safe = self.source_lost
        self._known = set(strokes)
        self._strokes = deque(strokes, maxlen=_REMEMBERED)
        self._last_sequence: int | None = None

    def knows(self, shot: Shot) -> bool:
        """Return whether this capture was taken already, here or by a predecessor."""
        if (shot.stroke, shot.captured_ns) in self._known:
            return True
        return not shot.has_device_time and shot.sequence == self._last_sequence and shot.sequence != 0

    def remember(self, shot: Shot) -> None:
        """Take note of a capture."""
        stroke = (shot.stroke, shot.captured_ns)
        if len(self._strokes) == _REMEMBERED:
            self._known.discard(self._strokes[0])
        self._strokes.append(stroke)
        self._known.add(stroke)
        self._last_sequence = shot.sequence

    def supersede(self, waiting: bool) -> None:  # noqa: FBT001 - whether there is one to be superseded
        """Count the capture that waits in ``spare``, if one does: a newer one has come."""
        self.health.counts["superseded"] += waiting

    def log_change(self, pipeline: str, result: Result) -> None:
        """Log that verdicts are fail-safe from now on, or not any more."""
        if result.fail_safe != self._fail_safe:
            self._fail_safe = result.fail_safe
            event = "lane.fail_safe" if result.fail_safe else "lane.recovered"
            _log.warning(event, pipeline=pipeline, stroke=result.stroke, reason=result.reason)
        self.health.state = "FailSafe" if result.fail_safe else "Active"


def _published(bus: Bus, block: str) -> list[tuple[int, int]]:
    """Return number and time (ns UTC) of the strokes whose results the bus still holds, oldest first."""
    return [
        (int(number_of(batch, "stroke")), int(number_of(batch, "captured_ns")))
        for batch in bus.reader(block, from_newest=False).poll()
        if not is_bad(int(batch.status[batch.row("stroke")]))
    ]
