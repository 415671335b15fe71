"""From a configuration to the pipelines whose windows are kept: where their samples and their tags lie."""

from __future__ import annotations

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.inference.spec import LaneSpec, lane_spec
from edge_opcua.records.joining import ContextPlace, Judged
from edge_opcua.records.window import WindowSource


def judged(config: EdgeConfig) -> list[Judged]:
    """Return every pipeline as the records process follows it."""
    return [_judged(lane_spec(config, pipeline.name)) for pipeline in config.pipelines]


def _judged(spec: LaneSpec) -> Judged:
    fed = spec.fed
    source = WindowSource(
        pipeline=spec.pipeline,
        capture=spec.capture,
        unit=spec.waveform_unit,
        sample_rate_hz=spec.sample_rate_hz,
        columns=() if fed is None else fed.names,
        column_tags=() if fed is None else tuple(tag.reference for tag in fed.tags),
        column_units=() if fed is None else tuple(tag.unit for tag in fed.tags),
        every_ms=0.0 if fed is None else fed.every_ms or 0.0,
        context=tuple(tag.reference for tag in spec.context),
        context_units=tuple(tag.unit for tag in spec.context),
    )
    places = tuple(ContextPlace(tag.block, tag.tag) for tag in spec.context)
    return Judged(source, spec.result_block, spec.capture_block, places)
