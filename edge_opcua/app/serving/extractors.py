"""The extractor that a manifest asks for: the one place where training and serving get theirs."""

from __future__ import annotations

import math
from dataclasses import replace

from edge_opcua.features.chain import STEPS_SET, TAGS_SET, Chain
from edge_opcua.features.flow import Source
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import Extractor
from edge_opcua.inference.repository import ModelFiles


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


def extractor_of(files: ModelFiles) -> Extractor:
    """Return the feature arithmetic of a model in the repository.

    Raises:
        ModelError: Its steps cannot be computed (M600 … M603).
    """
    return extractor_for(files.manifest)


def complete(files: ModelFiles) -> ModelFiles:
    """Return the same model with the features that its steps make, where its manifest does not list them.

    Raises:
        ModelError: Its steps cannot be computed (M600 … M603), or do not fill its input (M505).
    """
    if files.manifest.features:
        return files
    extractor = extractor_for(files.manifest)
    return replace(files, manifest=files.manifest.completed(extractor.names, extractor.units))


def source_of(manifest: Manifest) -> Source:
    """Return what one window of a model holds: the waveform of a capture, or the last samples of its tags."""
    tags = tuple(Feature(tag.name, tag.unit) for tag in manifest.tags)
    limits = tuple((tag.low, tag.high) for tag in manifest.tags)
    if manifest.source == "tags":
        return Source(tags, manifest.window, manifest.sample_rate_hz, limits=limits)
    waveform = (Feature("", manifest.waveform_unit),)
    limits = ((-math.inf, math.inf), *limits)
    return Source(waveform, manifest.sample_count, manifest.sample_rate_hz, tags, limits)
