"""What makes verdicts of a model's answers, for training, proving and serving alike."""

from __future__ import annotations

from edge_opcua.features.judgement import Judge
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.manifest import Manifest


def judge_of(manifest: Manifest) -> Judge | None:
    """Return what judges as a manifest declares it; None if its four answers and its limit do.

    Args:
        manifest: What the model promises, its features listed.

    Raises:
        ModelError: ``[output]`` (M620) or ``[[post]]`` (M621) is wrong.
    """
    if manifest.output is None and not manifest.post:
        return None
    features = [Feature(feature.name, feature.unit) for feature in manifest.features]
    return Judge(manifest.output, manifest.post, features=features, limit=manifest.limit)
