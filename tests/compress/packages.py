"""A package of a model that is to be made smaller, and variants of it that really compute otherwise."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime.quantization import QuantType, quantize_dynamic

from edge_opcua import training
from edge_opcua.compress.report.report import Report, Row
from edge_opcua.compress.variant import Family, Variant
from edge_opcua.inference.repository import ModelFiles, verify
from tests.compress.reports import report, row
from tests.training.graphs import classifier, probabilities

Floats = npt.NDArray[np.float32]
TANK = training.Tags(
    [training.Tag(name, unit) for name, unit in (("level", "mm"), ("flow", "l/min"), ("pump", "A"))],
    window=8,
    period_ms=100,
)
WEIGHTS = np.random.default_rng(5).normal(0, 0.4, (24, 3)).astype(np.float32)


def rows(count: int, seed: int = 9) -> Floats:
    """Return windows of the tank, one behind the other, shape ``(count, 24)``."""
    made: Floats = np.random.default_rng(seed).normal(size=(count, 24)).astype(np.float32)
    return made


def package(folder: Path, **card: Any) -> ModelFiles:
    """Write the package ``tank/1`` into a folder."""
    windows = training.Windows(rows(80).reshape(80, 8, 3))
    told = training.ModelCard(
        "tank",
        description="leaks of the feed tank",
        output={"kind": "classes", "labels": ["tight", "leak", "sensor"]},
        proof={"accuracy": 0.97},
        provenance={"by": "process engineering"},
        **card,
    )
    made = training.export(
        folder,
        training.Preparation(TANK),
        classifier(WEIGHTS),
        told,
        golden=windows[:12],
        answers=lambda features: {"probabilities": probabilities(features, WEIGHTS)},
        healthy=windows,
    )
    return verify(made.folder)


class Work:
    """The folder of a search, in which variants lie.

    Args:
        folder: Where.
        files: The package of the original.
    """

    def __init__(self, folder: Path, files: ModelFiles) -> None:
        self.folder = folder
        self.files = files
        folder.mkdir(parents=True, exist_ok=True)

    def int8(self, name: str = "int8-dynamic", **facts: Any) -> Row:
        """Quantise the original dynamically."""
        path = self.folder / f"{name}.onnx"
        quantize_dynamic(self.files.model, path, weight_type=QuantType.QInt8)
        return self._row(Variant(name, "int8-dynamic"), path, **facts)

    def variant(self, name: str, image: bytes, family: Family = "clean", **facts: Any) -> Row:
        """Take a file as a variant."""
        path = self.folder / f"{name}.onnx"
        path.write_bytes(image)
        return self._row(Variant(name, family), path, **facts)

    def scaled(self, name: str, factor: float, **facts: Any) -> Row:
        """Return a variant in float whose weights are a little others."""
        made = classifier(WEIGHTS * np.float32(factor))
        del made.graph.output[0]  # the label, as training takes it off
        del made.graph.node[2:]
        return self.variant(name, made.SerializeToString(), "pruned", **facts)

    def report(self, *found: Row, chosen: str | None) -> Report:
        """Return the report of a search that has chosen one of them."""
        made = report(*(replace(each, is_chosen=each.name == chosen) for each in found), chosen=chosen)
        manifest = self.files.manifest
        original = replace(made.original, name=f"{manifest.name}/{manifest.version}", sha256=manifest.sha256)
        return replace(made, original=original)

    def _row(self, variant: Variant, path: Path, **facts: Any) -> Row:
        made = row(variant.name, **facts)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return replace(made, variant=variant, file=path.name, sha256=digest, on_front=True, place=1)
