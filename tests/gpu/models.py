"""The models of the benchmark, and what a GPU likes: half precision, and INT8 that is symmetric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_opcua.bench.inference.models import INPUT, BenchModel, build

TOLERANCE = {"half": 2e-2, "int8": 1e-1}
"""Largest difference from the processor, of the largest answer; 1e-3 in single precision."""


def built(folder: Path) -> dict[str, BenchModel]:
    """Return the models by key."""
    found = build(folder, "mlp", "autoencoder", "vibration")
    vibration = found["vibration"]
    found["half"] = _changed(vibration, "half", _half(vibration.path, folder / "half.onnx"))
    found["int8"] = _changed(vibration, "int8", _symmetric(vibration, folder / "int8.onnx"))
    return found


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Return the largest difference of two answers, as a share of the largest answer."""
    return max(
        float(np.abs(found[name] - answer).max() / max(1e-9, np.abs(answer).max()))
        for name, answer in wanted.items()
    )


def _changed(model: BenchModel, key: str, path: Path) -> BenchModel:
    return BenchModel(key, f"{model.title}, {key}", path, model.shape)


def _half(plain: Path, target: Path) -> Path:
    """Compute in float16, take and give float32: what TensorRT makes of a strongly typed model."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(plain), keep_io_types=True)
    nodes = list(model.graph.node)
    known = {"", *(node.name for node in (*model.graph.input, *model.graph.initializer))}
    del model.graph.node[:]
    while nodes:  # it leaves the new casts at the end: put each node behind those that it needs
        ready = [node for node in nodes if known.issuperset(node.input)]
        model.graph.node.extend(ready)
        known.update(name for node in ready for name in node.output)
        nodes = [node for node in nodes if not known.issuperset(node.output)]
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


def _symmetric(model: BenchModel, target: Path) -> Path:
    """Quantise to INT8 with zero points of 0: TensorRT has kernels for no other kind of Q/DQ."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):
        def __init__(self) -> None:
            self.samples = iter([model.sample(seed).reshape(1, *model.shape) for seed in range(16)])

        def get_next(self) -> dict[str, Any] | None:
            sample = next(self.samples, None)
            return None if sample is None else {INPUT: sample}

    quantize_static(
        str(model.path),
        str(target),
        Samples(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )
    return target
