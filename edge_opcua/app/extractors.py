"""The extractor that a manifest asks for: the one place where training and serving get theirs."""

from __future__ import annotations

from edge_opcua.features.chain import STEPS_SET, TAGS_SET, Chain
from edge_opcua.features.flow import Source
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import Extractor


def extractor_for(manifest: Manifest) -> Extractor:
    """Return the feature arithmetic as a model was trained with it; the lane compares the two.

    Raises:
        ModelError: Its steps cannot be computed (M600 … M603).
    """
    if manifest.feature_set in (STEPS_SET, TAGS_SET):
        return Chain(source_of(manifest), manifest.steps)
    return StrokeFeatures(
        sample_count=manifest.sample_count,
        sample_rate_hz=manifest.sample_rate_hz,
        unit=manifest.waveform_unit,
        context=[Feature(feature.name, feature.unit) for feature in manifest.context],
    )


def source_of(manifest: Manifest) -> Source:
    """Return what one window of a model holds: the waveform of a capture, or the last samples of its tags."""
    tags = tuple(Feature(tag.name, tag.unit) for tag in manifest.tags)
    if manifest.source == "tags":
        return Source(tags, manifest.window, manifest.sample_rate_hz)
    waveform = (Feature("", manifest.waveform_unit),)
    return Source(waveform, manifest.sample_count, manifest.sample_rate_hz, tags)
