"""From recorded windows to a model package: fit the steps, export model, manifest and reference samples.

The public API for notebooks. The features come from the code that also serves the model, so that training
and serving cannot differ, and the package is proven before it is written::

    from edge_opcua import training

    press = training.Capture(sample_count=2000, sample_rate_hz=10_000, unit="m/s²")
    prepared = training.fit(press, [{"step": "statistics", "measures": ["rms"]}], windows)
    classifier.fit(prepared.features(windows), labels)
    card = training.ModelCard("press-wear", output={"kind": "classes", "labels": ["ok", "worn"]})
    training.export(
        folder, prepared, onnx_model, card, golden=windows[:16],
        answers=lambda x: {"probabilities": classifier.predict_proba(x)},
    )
"""

from edge_opcua.training.card import ModelCard
from edge_opcua.training.package import Package, export
from edge_opcua.training.preparation import Preparation, fit
from edge_opcua.training.windows import Capture, Tag, Tags, Windows, load_windows

__all__ = [
    "Capture",
    "ModelCard",
    "Package",
    "Preparation",
    "Tag",
    "Tags",
    "Windows",
    "export",
    "fit",
    "load_windows",
]
