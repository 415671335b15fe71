"""A lane: takes every capture from the bus and publishes a verdict on it before its deadline, in any case.

One stroke is dealt with in one go, without a pause in which anything else could happen: so a lane can be
retired between any two strokes, and its successor goes on with the next one. What is not decided in time, or
not from inputs that may be believed, comes out as the fail-safe verdict, never as a late or guessed Good.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import structlog

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_OUT_OF_RANGE,
    BAD_SENSOR_FAILURE,
    BAD_TIMEOUT,
    GOOD,
    UNCERTAIN_SUBNORMAL,
    Verdict,
    is_bad,
    is_uncertain,
    status_name,
)
from edge_opcua.errors import ModelError
from edge_opcua.inference.health import LaneHealth
from edge_opcua.inference.intake import ContextTag, Inputs, Reading, Shot, Source, refusal, sample_capacity
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import (
    Extractor,
    LoadBackend,
    ReadyFacts,
    ServedModel,
    load,
    prove,
    require_match,
    warm_up,
)
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.inference.result import VERDICTS, Result, ResultWriter, result_blocks

__all__ = ["ContextTag", "Handover", "Lane", "LaneSpec", "lane_spec", "result_blocks"]

_log = structlog.get_logger(__name__)

TICK_S: Final = 0.05
NAMED_IN_REASON: Final = 2
_MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """A pipeline as its lane needs it: where everything lies.

    Args:
        pipeline: Name of the pipeline.
        capture: Public id of the capture, for messages.
        capture_block: Block of the capture.
        wake: Which of the capture's deadline readers this lane is.
        sample_rate_hz: Samples per second.
        waveform_unit: Unit of the samples.
        context: Context tags in the order of the model's features.
        part_id: Where the number of the part is found; None if nowhere.
        result_block: Block of the results.
        lane_block: Block of the lane's health.
        deadline_ms: Longest time from the capture being on the bus to its verdict.
        fail_safe: Verdict given out when there is none.
    """

    pipeline: str
    capture: str
    capture_block: str
    wake: int
    sample_rate_hz: float
    waveform_unit: str
    context: tuple[ContextTag, ...]
    part_id: ContextTag | None
    result_block: str
    lane_block: str
    deadline_ms: float
    fail_safe: Verdict

    def ordered_for(self, manifest: Manifest) -> LaneSpec:
        """Return the same pipeline with its context in the model's order.

        Raises:
            ModelError: The model wants other context tags (M504).
        """
        wanted = [feature.name for feature in manifest.context]
        mapped = {tag.name: tag for tag in self.context}
        missing = [name for name in wanted if name not in mapped]
        unknown = [tag.reference for tag in self.context if tag.name not in wanted]
        if missing or unknown or len(mapped) != len(self.context):
            parts = (("missing", missing), ("not wanted", unknown))
            difference = "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)
            k = len(manifest.features)
            raise ModelError(
                f'input "{manifest.input_name}" is float32[1,{k}], '
                f"{k - len(wanted) + len(self.context)} features are mapped; "
                f"{difference or 'one context tag is there twice'}",
                code="M504",
            )
        return replace(self, context=tuple(mapped[name] for name in wanted))


@dataclass(frozen=True, slots=True)
class Handover:
    """Where a retired lane stopped.

    Args:
        cursor: Bus sequence of the last capture it dealt with.
        sequence: Bus sequence of its last result.
    """

    cursor: int
    sequence: int


def lane_spec(config: EdgeConfig, pipeline: str) -> LaneSpec:
    """Return what the lane of a pipeline needs to know.

    Raises:
        KeyError: There is no such pipeline, or it refers to what is not there (``check`` refuses both).
    """
    chosen = config.pipeline(pipeline)
    device, capture = config.capture(chosen.capture)
    sharing = [other.name for other in config.pipelines if other.capture == chosen.capture]
    return LaneSpec(
        pipeline=chosen.name,
        capture=chosen.capture,
        capture_block=device.block_name(capture.name),
        wake=sharing.index(chosen.name),
        sample_rate_hz=capture.sample_rate_hz,
        waveform_unit=capture.unit,
        context=tuple(_context_tag(config, reference) for reference in chosen.context),
        part_id=None if chosen.part_id is None else _context_tag(config, chosen.part_id),
        result_block=chosen.result_block,
        lane_block=chosen.lane_block,
        deadline_ms=chosen.deadline_ms,
        fail_safe=VERDICTS[chosen.fail_safe_verdict],
    )


def _context_tag(config: EdgeConfig, reference: str) -> ContextTag:
    device, tag = config.tag(reference)
    return ContextTag(reference, device.block_name(tag.group), tag.name, tag.unit)


class Lane:
    """Judges the captures of one pipeline with one model.

    ``prepare`` and ``activate`` come before ``run``; only an active lane writes its blocks.

    Args:
        spec: The pipeline, its context in the model's order.
        files: Verified files of the model.
        bus: The tag bus.
        clock: For stamps and ages.
        extractor: Computes the features.
        load_backend: ``load`` of the backend plugin.
        provider: Execution provider to run on.
    """

    def __init__(
        self,
        spec: LaneSpec,
        files: ModelFiles,
        bus: Bus,
        clock: Clock,
        *,
        extractor: Extractor,
        load_backend: LoadBackend,
        provider: str = "cpu",
    ) -> None:
        self._spec = spec
        self._files = files
        self._bus = bus
        self._clock = clock
        self._extractor = extractor
        self._load_backend = load_backend
        self._provider = provider
        self._captures = bus.reader(spec.capture_block)
        self._sample_count = sample_capacity(bus, spec.capture_block)
        self._source = Source(bus.reader(spec.capture_block), clock)
        self._inputs: Inputs | None = None
        self._values = np.empty(len(spec.context))
        self._model: ServedModel | None = None
        self._active: _Active | None = None
        self._woken = asyncio.Event()
        self._attached_to: asyncio.AbstractEventLoop | None = None

    def prepare(self) -> ReadyFacts:
        """Load, warm and prove the model; blocks for some 50 ms, so call it before the loop or in a worker.

        Raises:
            ModelError: The model cannot be served; nothing of it is kept.
        """
        manifest = self._files.manifest
        self._require_plant(manifest)
        require_match(manifest, self._extractor)
        tags = self._spec.context if self._spec.part_id is None else (*self._spec.context, self._spec.part_id)
        inputs = Inputs(self._bus, tags)
        model = load(self._files, self._load_backend, provider=self._provider)
        p50_us, p99_us = warm_up(model, self._clock)
        samples = prove(model, self._files.golden, self._extractor)
        self._model, self._inputs = model, inputs
        facts = model.backend.describe()
        return ReadyFacts(float(facts["load_ms"]), p50_us, p99_us, samples, str(facts["provider"]))

    def _require_plant(self, manifest: Manifest) -> None:
        """Refuse a plant whose units or captures are not those the model was trained with (M511)."""
        spec = self._spec
        units = [(tag.reference, tag.unit) for tag in spec.context]
        trained = [feature.unit for feature in manifest.context]
        units.append((spec.capture, spec.waveform_unit))
        trained.append(manifest.waveform_unit)
        for (reference, unit), wanted in zip(units, trained, strict=True):
            if unit and unit != wanted:
                raise ModelError(f"{reference} is in {unit}, the model was trained in {wanted}", code="M511")
        recorded = (self._sample_count, spec.sample_rate_hz)
        if recorded != (manifest.sample_count, manifest.sample_rate_hz):
            raise ModelError(
                f"{spec.capture} has {recorded[0]} samples at {recorded[1]:g} Hz, the model was trained on "
                f"{manifest.sample_count} at {manifest.sample_rate_hz:g} Hz",
                code="M511",
            )

    def activate(self, cursor: int | None) -> None:
        """Become the writer of the result, and go on behind the last capture that was dealt with.

        Args:
            cursor: Bus sequence of that capture; None begins with the next one to come.

        Raises:
            ModelError: The lane is not prepared, or active already (M534).
        """
        if self._model is None or self._inputs is None or self._active is not None:
            raise ModelError(
                "the lane is active already" if self._active else "the lane is not ready", code="M534"
            )
        if cursor is not None:
            self._captures.cursor = min(cursor, self._captures.newest)
        else:
            self._captures.cursor = self._captures.newest
        self._captures.lost = 0
        first_id = self._clock.utc_ns() // 1_000_000  # grows over restarts of the server too
        results = ResultWriter(self._bus.writer(self._spec.result_block), self._model, first_id)
        health = LaneHealth(self._bus, self._spec.lane_block, self._clock)
        self._active = _Active(
            self._model,
            self._inputs,
            results,
            health,
            source_lost=results.about_loss,
            last_stroke=results.last_stroke,
        )
        self.step()
        health.publish(self._captures.cursor)

    async def run(self) -> None:
        """Judge captures as they come, until :meth:`retire`."""
        self._attach()
        try:
            while self._active is not None:
                self.step()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            self._detach()

    def retire(self) -> Handover:
        """Stop between two strokes; from now on the blocks belong to the successor.

        Raises:
            ModelError: The lane is not active (M534).
        """
        active = self._active
        if active is None:
            raise ModelError("the lane is not active", code="M534")
        active.health.publish(self._captures.cursor, state="Retired")
        self._active = None
        self._detach()
        self._woken.set()
        return Handover(self._captures.cursor, active.results.sequence)

    def step(self) -> None:
        """Deal with every capture that is there, look after the source, and show that the lane lives."""
        active = self._active
        if active is None:
            return
        lost_before = self._captures.lost
        for capture in self._captures.poll():
            if capture.refreshed_ns != capture.stamp_ns:  # only the link has changed
                continue
            refused = refusal(capture)
            if refused is None:
                self._deal_with(active, capture)
            else:
                reason = f"{self._spec.capture} cannot be read: {status_name(refused)}"
                self._tell_loss(active, refused, reason)
        missed = self._captures.lost - lost_before
        if missed:
            active.health.missed += missed
            active.health.publish(self._captures.cursor)
            _log.warning("lane.missed", pipeline=self._spec.pipeline, captures=missed)
        self._look_after_source(active)
        active.results.beat()
        active.health.tend(self._captures.cursor)

    def _deal_with(self, active: _Active, capture: TagBatch) -> None:
        shot = Shot(capture)
        if active.is_repeated(shot):  # the io process was restarted and read the same capture again
            return
        started_ns = self._clock.monotonic_ns()
        result = Result(
            shot.captured_ns,
            shot.stroke,
            acquire_ms=max(0.0, (shot.server_ns - shot.captured_ns) / _MS),
            queue_ms=max(0.0, (started_ns - capture.stamp_ns) / _MS),
        )
        readings = active.inputs.read()
        if self._spec.part_id is not None:
            part = readings.pop()
            result.part_id, result.part_status = int(part.value), part.status
        self._judge(active.model, capture, shot, readings, result)
        utc_ns = self._clock.utc_ns()
        oldest_ns = min(
            [shot.captured_ns, *(found.source_ns for found in readings if not is_bad(found.status))]
        )
        result.input_age_ms = max(0.0, (utc_ns - oldest_ns) / _MS)
        result.infer_ms = (self._clock.monotonic_ns() - started_ns) / _MS
        late = result.queue_ms + result.infer_ms > self._spec.deadline_ms
        if late and not result.fail_safe:
            self._fail_safe(result, BAD_TIMEOUT, self._late(result))
        active.take(shot)
        active.results.publish(result, utc_ns)
        active.health.count(result.queue_ms + result.infer_ms, late=late)
        active.health.publish(self._captures.cursor)
        self._log_change(active, result)

    def _judge(
        self, model: ServedModel, capture: TagBatch, shot: Shot, context: list[Reading], result: Result
    ) -> None:
        """Fill in verdict, status and reason."""
        status = int(self._captures.effective(capture)[shot.waveform_row])
        bad = next((found for found in context if is_bad(found.status)), None)
        if is_bad(status):
            self._fail_safe(result, status, f"{self._spec.capture}: {status_name(status)}")
        elif (difference := self._difference(capture, shot)) is not None:
            self._fail_safe(result, BAD_CONFIGURATION_ERROR, difference)
        elif bad is not None:
            self._fail_safe(result, bad.status, f"{bad.tag.reference}: {status_name(bad.status)}")
        elif result.queue_ms > self._spec.deadline_ms:  # what has expired is not run
            self._fail_safe(result, BAD_TIMEOUT, self._late(result))
        else:
            self._values[:] = [found.value for found in context]
            waveform = capture.array(shot.waveform_row).astype(np.float32, copy=False)
            self._extractor.extract(waveform, self._spec.sample_rate_hz, self._values, model.features)
            uncertain = is_uncertain(status) or any(is_uncertain(found.status) for found in context)
            self._ask(model, result, uncertain=uncertain)

    def _difference(self, capture: TagBatch, shot: Shot) -> str | None:
        """Say how a capture differs from those the features are made for; None if it does not."""
        count, rate_hz = capture.array(shot.waveform_row).size, shot.sample_rate_hz
        wanted_hz = self._spec.sample_rate_hz
        if count == self._sample_count and rate_hz in (0.0, wanted_hz):
            return None
        return (
            f"{self._spec.capture} has {count} samples at {rate_hz:g} Hz, not "
            f"{self._sample_count} at {wanted_hz:g} Hz"
        )

    def _ask(self, model: ServedModel, result: Result, *, uncertain: bool) -> None:
        """Let the model judge its features if it may, and take its answer."""
        result.features = model.features
        if not np.isfinite(model.features).all():
            self._fail_safe(
                result, BAD_SENSOR_FAILURE, f"{self._spec.capture}: the waveform is flat or no number"
            )
            return
        outside = model.outside(model.features)
        if outside:  # a decision, not a failure: the inputs are right, the model was never shown such
            result.verdict, result.status = Verdict.NOT_DECIDABLE, BAD_OUT_OF_RANGE
            result.reason = f"not learned: {outside}"
            return
        try:
            model.run()
        except ModelError as exc:
            self._fail_safe(result, BAD_INTERNAL_ERROR, f"{exc.code}: {exc}")
            return
        result.status = UNCERTAIN_SUBNORMAL if uncertain else GOOD
        if float(model.score[0]) < model.manifest.limit:
            result.verdict = Verdict.OK
        else:
            result.verdict = Verdict.NOT_OK
            result.reason = _shows_in(model)

    def _fail_safe(self, result: Result, status: int, reason: str) -> None:
        result.verdict, result.fail_safe = self._spec.fail_safe, True
        result.status, result.reason = status, reason

    def _late(self, result: Result) -> str:
        spent_ms = result.queue_ms + result.infer_ms
        return f"late: {spent_ms:.0f} ms after it was read, {self._spec.deadline_ms:g} ms allowed"

    def _look_after_source(self, active: _Active) -> None:
        """Publish, once per outage, that there is no verdict because the captures do not come any more."""
        status = self._source.lost_status()
        if status is not None and not active.source_lost:
            self._tell_loss(active, status, f"{self._spec.capture}: no connection to the device")
        active.source_lost = status is not None

    def _tell_loss(self, active: _Active, status: int, reason: str) -> None:
        """Publish a result that is about no stroke, because there are no captures."""
        now_ns = self._clock.utc_ns()
        result = Result(now_ns, None)
        self._fail_safe(result, status, reason)
        active.results.publish(result, now_ns)
        self._log_change(active, result)

    def _log_change(self, active: _Active, result: Result) -> None:
        if result.fail_safe != active.fail_safe:
            active.fail_safe = result.fail_safe
            event = "lane.fail_safe" if result.fail_safe else "lane.recovered"
            _log.warning(event, pipeline=self._spec.pipeline, stroke=result.stroke, reason=result.reason)
        active.health.state = "FailSafe" if result.fail_safe else "Active"

    def _attach(self) -> None:
        """Be woken by the io process; without an eventfd of its own a lane looks at every tick."""
        wakes = self._bus.wake_fds(self._spec.capture_block)
        if self._spec.wake >= len(wakes):
            _log.warning("lane.no_wake", pipeline=self._spec.pipeline, tick_s=TICK_S)
            return
        self._attached_to = asyncio.get_running_loop()
        self._attached_to.add_reader(wakes[self._spec.wake], self._wake, wakes[self._spec.wake])

    def _wake(self, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):  # a predecessor was quicker
            os.eventfd_read(fd)
        self._woken.set()

    def _detach(self) -> None:
        if self._attached_to is not None:
            self._attached_to.remove_reader(self._bus.wake_fds(self._spec.capture_block)[self._spec.wake])
            self._attached_to = None


class _Active:
    """What an active lane carries from stroke to stroke."""

    def __init__(
        self,
        model: ServedModel,
        inputs: Inputs,
        results: ResultWriter,
        health: LaneHealth,
        *,
        source_lost: bool,
        last_stroke: tuple[int, int],
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.results = results
        self.health = health
        self.source_lost = source_lost
        self.fail_safe = source_lost
        self._last_stroke = last_stroke
        self._last_sequence: int | None = None

    def is_repeated(self, shot: Shot) -> bool:
        """Return whether this is the capture that was dealt with last."""
        if shot.has_device_time:
            return (shot.stroke, shot.captured_ns) == self._last_stroke
        return shot.sequence == self._last_sequence and shot.sequence != 0

    def take(self, shot: Shot) -> None:
        """Remember a capture as dealt with."""
        self._last_stroke, self._last_sequence = (shot.stroke, shot.captured_ns), shot.sequence


def _shows_in(model: ServedModel) -> str:
    """Return where a deviation shows, largest share first; where it shows is not what caused it."""
    features = model.manifest.features
    order = np.argsort(model.contributions)[::-1][:NAMED_IN_REASON]
    parts = [
        f"{features[i].name} {model.features[i]:.3g} {features[i].unit} (expected {model.expected[i]:.3g})"
        for i in order
    ]
    return "shows in " + ", ".join(parts)
