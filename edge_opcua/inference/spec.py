"""A pipeline as its lane needs it: where everything lies, and what it has promised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.config.lanes import LatePolicy
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.inference.intake import ContextTag
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.schedule.request import LaneClass

LANE_CLASSES: Final = {
    "safety": LaneClass.SAFETY,
    "realtime": LaneClass.REALTIME,
    "best_effort": LaneClass.BEST_EFFORT,
}
VERDICTS: Final = {"NotDecidable": Verdict.NOT_DECIDABLE, "NotOk": Verdict.NOT_OK}


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """A pipeline as its lane needs it.

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
        lane: Class of the lane.
        late: What a late verdict becomes.
        priority: 1 is shed last, 9 first.
        period_ms: Shortest time between two captures; the deadline if nobody said it.
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

    def require_plant(self, manifest: Manifest, sample_count: int) -> None:
        """Refuse a plant whose units or captures are not those a model was trained with.

        Args:
            manifest: What the model was trained with; the context is in its order.
            sample_count: Samples that a capture has room for.

        Raises:
            ModelError: They differ (M511).
        """
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
    device, capture = config.capture(chosen.capture)
    sharing = [other.name for other in config.pipelines if other.capture == chosen.capture]
    lane = LANE_CLASSES[chosen.lane]
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
        lane=lane,
        late="fail_safe" if lane is LaneClass.SAFETY else chosen.late,
        priority=chosen.priority,
        period_ms=chosen.period_ms,
    )


def _context_tag(config: EdgeConfig, reference: str) -> ContextTag:
    device, tag = config.tag(reference)
    return ContextTag(reference, device.block_name(tag.group), tag.name, tag.unit)
