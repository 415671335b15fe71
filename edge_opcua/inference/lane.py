"""A lane: takes the captures of one pipeline from the bus and publishes a verdict on each, in any case.

What is not decided in time, or not from inputs that may be believed, comes out as the fail-safe verdict,
never as a late or guessed Good. Verdicts come in the order of the captures, so that the newest one is always
about the newest stroke. A lane can be retired at any moment: what it has not published by then is judged by
its successor, and by nobody twice.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    status_name,
)
from edge_opcua.errors import ModelError
from edge_opcua.inference.active import ActiveLane, go_on_from
from edge_opcua.inference.health import Surroundings
from edge_opcua.inference.intake import ContextTag, Shot, Source, refusal
from edge_opcua.inference.judging import decide, not_learned, take_answers, too_old
from edge_opcua.inference.known import Published
from edge_opcua.inference.loaded import Floats
from edge_opcua.inference.model import Extractor, ServedModel
from edge_opcua.inference.result import Result, Variant
from edge_opcua.inference.sampling import Case, Sampler
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from edge_opcua.inference.spec import LaneSpec, lane_spec
from edge_opcua.inference.watch.age import Age

__all__ = ["ContextTag", "Engine", "Handover", "Lane", "LaneSpec", "lane_spec"]

_log = structlog.get_logger(__name__)

_MS: Final = 1e6
_CANCELLED: Final = ("M535", "M541")
_TOO_HOT: Final = "M553"
"""Best effort is refused at the door while the machine is too hot: it is shed all the same."""
_NEW: Final = 0.05  # weight of a stroke in a moving average
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
        arrivals: Captures that have come, also those that were not judged for a newer one, or missed.
        features_ns: What the features of one of them take, a moving average.
        has_more: Whether captures came while others were taken in.
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
        self.has_more = False
        self._bus = bus
        self._clock = clock
        self._engine = engine
        self._outputs = bus
        self._published = Published(bus, spec.result_block)
        self._spare = TagBatch(bus.layout(spec.capture_block))
        self._captures = bus.reader(spec.capture_block)
        self._source = Source(bus.reader(spec.capture_block), clock)
        self._sampler = Sampler(
            spec, bus, clock, self._captures, extractor=extractor, size=len(self.model.manifest.features)
        )
        self._variants = {
            model.key: Variant(model.manifest, str(model.backend.describe()["provider"]), model.new_judge())
            for model in models
        }
        self._models = {model.key: model for model in models}
        self._cheaper = tuple(model.key for model in models[1:])
        self._deadline_ns = round(spec.deadline_ms * _MS)
        self._direct = spec.lane is LaneClass.SAFETY
        self._surroundings, self._schedulable = Surroundings(), True
        self._active: ActiveLane | None = None
        self._age: Age | None = None

    @property
    def is_active(self) -> bool:
        """Whether it judges and writes its blocks."""
        return self._active is not None

    @property
    def newest(self) -> int:
        """Bus sequence of the newest capture."""
        return self._captures.newest

    @property
    def is_waiting(self) -> bool:
        """Whether captures it has taken wait for an answer."""
        return self._active is not None and bool(self._active.open)

    @property
    def missed(self) -> int:
        """Captures that were overwritten since the activation before the lane came to them."""
        return self._captures.lost

    @property
    def published(self) -> int:
        """Bus sequence of its last result; 0 while it is not active."""
        return 0 if self._active is None else self._active.results.sequence

    @property
    def cursor(self) -> int:
        """Bus sequence up to which every capture has been dealt with."""
        active = self._active
        if active is not None and active.open:
            return next(iter(active.open)).sequence - 1
        return self._captures.cursor

    @property
    def due_ns(self) -> int | None:
        """When the next verdict is late, monotonic; None while there is none to come that must not be."""
        active = self._active
        if active is None or self.spec.late == "publish_late":
            return None
        waiting = (case for case in active.open if not case.complete)
        first = next(waiting, None)
        return None if first is None else first.stamp_ns + self._deadline_ns

    def publish_on(self, bus: Bus) -> None:
        """Publish on another bus, from the next activation on."""
        self._outputs = bus
        self._published = Published(bus, self.spec.result_block)

    def get_ready(self) -> None:
        """Do what takes long before it takes over: read which strokes have a result already."""
        self._published.read()
        self._captures.latest()

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
        go_on_from(self._bus, self.spec.result_block, self._variants.values())
        self._active = ActiveLane(
            self._outputs,
            self._clock,
            self.spec,
            self.model,
            self._variants,
            strokes=self._published.read(),
            spare=self._spare,
        )
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
        for variant in self._variants.values():
            if variant.judge is not None:
                variant.judge.seed(())  # whoever goes on later, this one too, goes on from the bus
        return Handover(cursor, active.results.sequence)

    def take_in(self) -> None:
        """Take every capture that is there: decide what can be decided, ask the engine for the rest.

        What comes meanwhile waits for the next time: a lane that is asked for more than it can do would
        never come back from here, and nobody else of its process would have a turn.
        """
        self.has_more = False
        active = self._active
        if active is None:
            return
        lost_before, newest = self._captures.lost, self._captures.newest
        for capture in self._captures.poll():
            if capture.refreshed_ns != capture.stamp_ns:  # only the link has changed
                continue
            refused = refusal(capture)
            if refused is not None:
                self._begin_waiting(active)
                reason = f"{self.spec.capture} cannot be read: {status_name(refused)}"
                self._tell_loss(active, refused, reason)
            elif self._direct and self._captures.behind:  # perhaps a newer one, which then wins
                self.arrivals += active.let_wait(capture)
            else:
                self.arrivals += active.supersede()
                self._begin(active, capture)
                if self._captures.cursor >= newest:
                    self.has_more = self._captures.behind
                    break
        self._begin_waiting(active)
        if missed := self._captures.lost - lost_before:
            self.arrivals += missed
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
        active.log_change()
        active.results.beat()
        active.health.tend(self.cursor)

    def surround(self, found: Surroundings, *, schedulable: bool) -> None:
        """Show what the lane shares with others, and whether its deadline can be promised."""
        self._surroundings, self._schedulable = found, schedulable
        if self._active is not None:
            self._active.health.surround(found, schedulable=schedulable)

    def restrain(self, age: Age) -> None:
        """Let results become what the age of the model allows, from the next one on."""
        self._age = age if age.effect in ("degrade", "fail_safe") else None

    def expire(self) -> None:
        """Give out as late what has not been answered by its deadline, whatever becomes of the answer."""
        due_ns, active = self.due_ns, self._active
        if active is None or due_ns is None or self._clock.monotonic_ns() <= due_ns:
            return
        now_ns = self._clock.monotonic_ns()
        for case in active.open:
            if not case.complete and now_ns > case.stamp_ns + self._deadline_ns:
                case.complete, case.unanswered = True, (BAD_TIMEOUT, "")
        self._release(active)

    def finish(self, request: Request) -> None:
        """Take what has become of a request; if its lane was retired meanwhile, nothing does."""
        active, case = self._active, request.tag
        if active is None or not isinstance(case, Case) or case not in active.open:
            if active is not None:  # it was late, and has been given out as that
                active.health.counts["failed"] += request.fate is Fate.FAILED
            return
        active.health.counts["preempted"] += request.preempted
        if not case.complete:
            self._settle(active, case, request)
            case.complete = True
        self._release(active)

    def _settle(self, active: ActiveLane, case: Case, request: Request) -> None:
        """Fill in what has become of a request that is in time."""
        result, counts = case.result, active.health.counts
        waited_ns = (request.started_ns or self._clock.monotonic_ns()) - case.asked_ns
        result.queue_ms += max(0, waited_ns) / _MS
        if request.fate is Fate.DONE:
            result.batch = request.batch
            self._take_answers(case, request)
            active.health.degraded = request.ran != request.model
            active.health.count_batch(request.batch)
        elif request.fate is Fate.FAILED:
            counts["failed"] += 1
            status = BAD_TIMEOUT if request.code in _CANCELLED else BAD_INTERNAL_ERROR
            result.fall_safe(self.spec.fail_safe, status, f"{request.code}: {request.reason}")
        else:
            shed = request.code == _TOO_HOT
            counter, status, word = _NOT_RUN[Fate.SHED if shed else request.fate]
            counts[counter] += 1
            again = f"; room in {request.retry_after_ns / _MS:.0f} ms" if request.retry_after_ns else ""
            case.unanswered = (status, f"{request.code}: {word}: {request.reason}{again}")
            case.measured = False

    def _take_answers(self, case: Case, request: Request) -> None:
        """Fill in what a model answered; a cheaper one may have learned less than the pipeline's own."""
        result = case.result
        if request.ran != self.model.key and result.features is not None:
            outside = self._models[request.ran].outside(result.features)
            if outside:
                not_learned(result, outside)
                return
        take_answers(result, self._variants[request.ran], request.answers, uncertain=case.uncertain)

    def _begin_waiting(self, active: ActiveLane) -> None:
        if (capture := active.take_waiting()) is not None:
            self._begin(active, capture)

    def _begin(self, active: ActiveLane, capture: TagBatch) -> None:
        shot = Shot(capture)
        if active.knows(shot):  # the io process was restarted and read the same capture again
            return
        active.remember(shot)
        self.arrivals += 1
        case = self._sampler.read(self, capture, shot)
        active.open[case] = None
        result = case.result
        if result.fail_safe:
            case.complete = True
        elif case.outside:
            not_learned(result, case.outside)
            case.complete = True
        elif result.features is None:
            case.complete, case.unanswered = True, (BAD_TIMEOUT, "")
        elif outside := self.model.outside(result.features):
            not_learned(result, outside)
            case.complete = True
        else:
            self._ask(case, result.features)
        self._release(active)

    def _ask(self, case: Case, features: Floats) -> None:
        case.asked_ns = self._clock.monotonic_ns()
        took_ns = case.asked_ns - case.begun_ns
        self.features_ns += round((took_ns - self.features_ns) * (_NEW if self.features_ns else 1.0))
        request = Request(
            self.model.key,
            self.spec.lane,
            case.stamp_ns,
            case.stamp_ns + self._deadline_ns,
            features,
            self._cheaper,
            self.spec.priority,
            case,
        )
        if self._direct:
            self._engine.judge(request)
            self.finish(request)
        elif not self._engine.submit(request):
            self.finish(request)

    def _release(self, active: ActiveLane) -> None:
        """Publish what is complete, in the order of the captures."""
        while active.open:
            case = next(iter(active.open))
            if not case.complete:
                return
            if case.result.stroke is None:
                self._publish_loss(active, case)
            else:
                self._publish(active, case)

    def _publish(self, active: ActiveLane, case: Case) -> None:
        """Publish a result, as what it is worth now."""
        result, utc_ns = case.result, self._clock.utc_ns()
        decide(result)
        if self._age is not None and case.unanswered is None:
            too_old(result, self._age, self.spec.fail_safe)
        result.input_age_ms = max(0.0, (utc_ns - case.oldest_ns) / _MS)
        total_ms = (self._clock.monotonic_ns() - case.stamp_ns) / _MS
        result.infer_ms = max(0.0, total_ms - result.queue_ms)
        late = case.measured and result.queue_ms + result.infer_ms > self.spec.deadline_ms
        if case.unanswered is not None:
            status, reason = case.unanswered
            active.lateness.apply(result, status, reason or self._late(result), judged=False)
        elif late and not result.fail_safe:
            active.lateness.apply(result, BAD_TIMEOUT, self._late(result), judged=True)
        active.lateness.remember(result)
        del active.open[case]
        active.results.publish(result, utc_ns)
        health = active.health
        health.counts["processed"] += 1
        health.counts["late"] += late
        if case.measured:
            health.measure(result.queue_ms + result.infer_ms)
        active.note(result)
        health.publish(self.cursor)

    def _late(self, result: Result) -> str:
        spent_ms = round(result.queue_ms + result.infer_ms, 1)
        return f"late: {spent_ms:.9g} ms after it was read, {self.spec.deadline_ms:g} ms allowed"

    def _tell_loss(self, active: ActiveLane, status: int, reason: str) -> None:
        """Give out a result about no stroke, because there are no captures, behind those there were."""
        now_ns, utc_ns = self._clock.monotonic_ns(), self._clock.utc_ns()
        result = Result(utc_ns, None)
        result.fall_safe(self.spec.fail_safe, status, reason)
        case = Case(self, self._captures.cursor, now_ns, now_ns, utc_ns, result, complete=True)
        active.open[case] = None
        self._release(active)

    def _publish_loss(self, active: ActiveLane, case: Case) -> None:
        active.lateness.remember(case.result)
        del active.open[case]
        active.results.publish(case.result, self._clock.utc_ns())
        active.note(case.result)
