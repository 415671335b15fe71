"""A recorded window as a lane would meet it: whether a model is one for it, and in which order it is fed."""

from __future__ import annotations

from edge_opcua.core.values import Verdict
from edge_opcua.inference.fed import Fed
from edge_opcua.inference.intake import ContextTag
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.spec import LaneSpec
from edge_opcua.records.window import WindowSource


def spec_of(source: WindowSource, sample_count: int) -> LaneSpec:
    """Return a pipeline as it was when a window was recorded; it has no blocks, for nothing is served.

    Args:
        source: Where the window comes from.
        sample_count: Samples it has.
    """
    return LaneSpec(
        pipeline=source.pipeline,
        capture=source.capture,
        capture_block="",
        wake=0,
        sample_rate_hz=source.sample_rate_hz,
        waveform_unit=source.unit,
        context=_tags(source.context, source.context_units),
        part_id=None,
        result_block="",
        lane_block="",
        deadline_ms=0.0,
        fail_safe=Verdict.NOT_DECIDABLE,
        fed=_fed(source, sample_count),
    )


def fitted(source: WindowSource, sample_count: int, manifest: Manifest) -> LaneSpec:
    """Return the same in the order of a model.

    Raises:
        ModelError: The model is none for such windows: its tags (M504), units or sample rate (M511), window
            (M623) or source (M624) differ.
    """
    spec = spec_of(source, sample_count).ordered_for(manifest)
    spec.require_plant(manifest, sample_count)
    return spec


def _fed(source: WindowSource, sample_count: int) -> Fed | None:
    if not source.columns:
        return None
    tags = _tags(source.column_tags, source.column_units)
    return Fed(tags, source.columns, sample_count // len(source.columns), source.every_ms or None, None)


def _tags(references: tuple[str, ...], units: tuple[str, ...]) -> tuple[ContextTag, ...]:
    return tuple(
        ContextTag(reference, "", reference.partition("/")[2], unit)
        for reference, unit in zip(references, units, strict=True)
    )
