"""What a model of a package answers on this machine, and its reference samples made of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.ports import Backend
from edge_opcua.errors import ConfigError, ModelError
from edge_opcua.features.judgement import Judge
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.golden import Samples, read_golden
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import ServedModel
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.plugins import BACKENDS, InstalledPlugins

Floats = npt.NDArray[np.float32]
_LEAST_ATOL: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model said of some rows.

    Args:
        outputs: By role, shape ``(n, size)`` each.
        verdicts: Numbers of the verdicts, judged one after the other, shape ``(n,)``.
        scores: Shape ``(n,)``.
        confidences: Shape ``(n,)``; NaN where the model does not say.
    """

    outputs: Mapping[str, Floats]
    verdicts: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    confidences: npt.NDArray[np.float64]


def judge_for(manifest: Manifest) -> Judge:
    """Return what judges as a manifest declares it, also where that declares nothing but a limit.

    Args:
        manifest: What the model promises, its features listed.

    Raises:
        ModelError: ``[output]`` (M620) or ``[[post]]`` (M621) is wrong.
    """
    features = [Feature(feature.name, feature.unit) for feature in manifest.features]
    return Judge(manifest.output, manifest.post, features=features, limit=manifest.limit)


def answers_to(model: Path, manifest: Manifest, rows: npt.ArrayLike, *, provider: str) -> Answered:
    """Run a model as a lane does, one row after the other.

    Args:
        model: An ONNX file.
        manifest: What it is fed with and what its outputs mean.
        rows: Features, shape ``(n, …)`` with as many numbers in each as the model has features.
        provider: Where it runs.

    Raises:
        ModelError: ONNX Runtime is not installed (M607), or what loading and running the model raises.
    """
    try:
        backend: type[Backend] = InstalledPlugins().load(BACKENDS, "onnxruntime")
    except (ConfigError, ImportError) as exc:
        raise ModelError(
            'ONNX Runtime is not installed: pip install "edge-opcua[cpu,compress]"', code="M607"
        ) from exc
    shapes = {manifest.input_name: manifest.input_shape}
    loaded = backend.load(model, provider=provider, input_shapes=shapes)
    one = ServedModel(manifest, loaded, judge=judge_for).bind()
    judge = judge_for(manifest)
    fed = np.asarray(rows, np.float32).reshape(-1, len(manifest.features))
    outputs = {each.role: np.empty((len(fed), each.size), np.float32) for each in judge.outputs}
    verdicts = np.empty(len(fed), np.int64)
    scores, confidences = np.empty(len(fed)), np.full(len(fed), np.nan)
    for number, row in enumerate(fed):
        one.judge(row)
        for each in judge.outputs:
            outputs[each.role][number] = one.answer[each.name].reshape(-1)
        judged = judge.judge(one.answer, row)
        verdicts[number], scores[number] = int(judged.verdict), judged.score
        if judged.confidence is not None:
            confidences[number] = judged.confidence
    return Answered(outputs, verdicts, scores, confidences)


def reference_of(files: ModelFiles) -> Samples:
    """Return the reference samples of a package, its answers among them.

    Raises:
        ModelError: They are missing (M507) or not what they should be (M513).
    """
    return read_golden(files.golden, files.manifest, judge_for(files.manifest).outputs)


def write_reference(path: Path, samples: Samples, answered: Answered) -> None:
    """Write reference samples with what another model answers to the same features."""
    kept = {name: samples[name] for name in ("waveform", "context", "features")}
    arrays: dict[str, npt.NDArray[Any]] = {**kept, **answered.outputs, "verdict": answered.verdicts}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its third parameter is allow_pickle


def tolerance(coarse: Answered, fine: Answered, atol: float) -> float:
    """Return how far the answers of a model of few bits may be off on another machine.

    Another processor rounds the sums of such a model otherwise, and one step of an output may be as large as
    all that quantising has changed. What is off by more is another fault, e.g. sums that overflow where the
    processor adds 16 bits only.

    Args:
        coarse: Its answers to the reference samples.
        fine: Those of the model it was quantised from.
        atol: How far the answers of the original may be off.
    """
    most = max(float(np.abs(coarse.outputs[role] - fine.outputs[role]).max()) for role in fine.outputs)
    return float(f"{max(atol, most, _LEAST_ATOL):.2g}")
