"""A pipeline as its lane needs it: where everything lies, and what it has promised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.config.lanes import LatePolicy
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.inference.fed import Fed, fed_with
from edge_opcua.inference.intake import ContextTag
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.schedule.request import LaneClass

LANE_CLASSES: Final = {
    "safety": LaneClass.SAFETY,
    "realtime": LaneClass.REALTIME,
    "best_effort": LaneClass.BEST_EFFORT,
}
_SHOWN: Final = 4
VERDICTS: Final = {"NotDecidable": Verdict.NOT_DECIDABLE, "NotOk": Verdict.NOT_OK}


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """A pipeline as its lane needs it.

    Args:
        pipeline: Name of the pipeline.
        capture: Public id of the capture, for messages; of a pipeline on tags its own name.
        capture_block: Block of the capture, or of the samples.
        wake: Which of the capture's deadline readers this lane is.
        sample_rate_hz: Samples per second.
        waveform_unit: Unit of the samples.
        context: Context tags in the order of the model's features.
        part_id: Where the number of the part is found; None if nowhere.
        result_block: Block of the results.
        lane_block: Block of the lane's health.
        deadline_ms: Longest time from the capture being on the bus to its verdict.
        fail_safe: Verdict given out when there is none.
        lane: Class of the lane.
        late: What a late verdict becomes.
        priority: 1 is shed last, 9 first.
        period_ms: Shortest time between two captures; the deadline if nobody said it.
        fed: The tags it is fed with and how; None if it is fed with captures.
        take: Which numbers of a sample the model wants, in its order; None: all of them as they are.
        shadow_block: Block in which a version in shadow says how far it agrees.
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
    lane: LaneClass = LaneClass.REALTIME
    late: LatePolicy = "fail_safe"
    priority: int = 5
    period_ms: float | None = None
    fed: Fed | None = None
    take: tuple[int, ...] | None = None
    shadow_block: str = ""

    def ordered_for(self, manifest: Manifest) -> LaneSpec:
        """Return the same pipeline with its context, or its tags, in the model's order.

        Raises:
            ModelError: The model wants other tags (M504), more samples of them (M623), or is no model for
                what the pipeline is fed with (M624).
        """
        if (self.fed is None) != (manifest.source == "capture"):
            raise ModelError(_another_source(self, manifest), code="M624")
        if self.fed is not None:
            return replace(self, take=self.fed.taken_by(manifest))
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

    def require_plant(self, manifest: Manifest, sample_count: int) -> None:
        """Refuse a plant whose units or captures are not those a model was trained with.

        Args:
            manifest: What the model was trained with; the context is in its order.
            sample_count: Samples that a capture has room for.

        Raises:
            ModelError: They differ (M511).
        """
        if self.fed is not None:
            self.fed.require_units(manifest)
            return
        units = [(tag.reference, tag.unit) for tag in self.context]
        trained = [feature.unit for feature in manifest.context]
        units.append((self.capture, self.waveform_unit))
        trained.append(manifest.waveform_unit)
        for (reference, unit), wanted in zip(units, trained, strict=True):
            if unit and unit != wanted:
                raise ModelError(f"{reference} is in {unit}, the model was trained in {wanted}", code="M511")
        recorded = (sample_count, self.sample_rate_hz)
        if recorded != (manifest.sample_count, manifest.sample_rate_hz):
            raise ModelError(
                f"{self.capture} has {recorded[0]} samples at {recorded[1]:g} Hz, the model was trained on "
                f"{manifest.sample_count} at {manifest.sample_rate_hz:g} Hz",
                code="M511",
            )


def lane_spec(config: EdgeConfig, pipeline: str) -> LaneSpec:
    """Return what the lane of a pipeline needs to know.

    Raises:
        KeyError: There is no such pipeline, or it refers to what is not there (``check`` refuses both).
    """
    chosen = config.pipeline(pipeline)
    lane = LANE_CLASSES[chosen.lane]
    fed = fed_with(config, chosen)
    wake, unit = 0, ""
    period_ms: float | None = chosen.period_ms
    if chosen.capture is not None:
        sharing = [other.name for other in config.pipelines if other.capture == chosen.capture]
        capture = config.capture(chosen.capture)[1]
        wake, unit, rate_hz = sharing.index(chosen.name), capture.unit, capture.sample_rate_hz
    else:
        assert fed is not None, "exactly one of both is there"
        rate_hz = fed.rate_hz
        period_ms = period_ms or fed.every_ms
    return LaneSpec(
        pipeline=chosen.name,
        capture=chosen.source,
        capture_block=config.source_block(chosen),
        wake=wake,
        sample_rate_hz=rate_hz,
        waveform_unit=unit,
        context=tuple(_context_tag(config, reference) for reference in chosen.context),
        part_id=None if chosen.part_id is None else _context_tag(config, chosen.part_id),
        result_block=chosen.result_block,
        lane_block=chosen.lane_block,
        shadow_block=chosen.shadow_block,
        deadline_ms=chosen.deadline_ms,
        fail_safe=VERDICTS[chosen.fail_safe_verdict],
        lane=lane,
        late="fail_safe" if lane is LaneClass.SAFETY else chosen.late,
        priority=chosen.priority,
        period_ms=period_ms,
        fed=fed,
    )


def _another_source(spec: LaneSpec, manifest: Manifest) -> str:
    if spec.fed is None:
        tags = ", ".join(tag.name for tag in manifest.tags[:_SHOWN])
        fed = f"pipeline {spec.pipeline} feeds it with captures of {spec.capture}"
        return f"the model judges tags ({tags}), {fed}"
    return (
        f"the model judges captures of {manifest.sample_count} samples, pipeline {spec.pipeline} feeds it "
        "with tags"
    )


def _context_tag(config: EdgeConfig, reference: str) -> ContextTag:
    device, tag = config.tag(reference)
    return ContextTag(reference, device.block_name(tag.group), tag.name, tag.unit)
