"""Models that INT8 finds hard, and what tests look at in models that were quantised."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.compress.models import Draft, residual_net

UNEVEN = 80.0


def uneven_net() -> Any:
    """The residual net with two channels between its convolutions 80 times as large; it answers the same."""
    model = residual_net()
    for tensor in model.graph.initializer:
        array = np.array(numpy_helper.to_array(tensor))
        if tensor.name in ("bn1.scale", "bn1.shift"):
            array[:2] *= UNEVEN
        elif tensor.name == "conv2.weight":
            array[:, :2] /= UNEVEN
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


UNITS = np.array([1e4, 1e-3, 1.0, 50.0, 1e-2, 300.0], np.float32)
OFFSETS = np.array([2e4, 0.0, 20.0, 0.0, -0.1, 500.0], np.float32)


def scaled_net() -> Any:
    """Brings features of very different units to one scale, then two layers: "y" of 8 values."""
    draft = Draft(5)
    at = draft.node("Sub", "x", draft.weight("offset", OFFSETS), output="moved")
    at = draft.node("Mul", at, draft.weight("factor", 1.0 / UNITS), output="scaled")
    at = draft.node("Relu", draft.dense(at, "hidden", 6, 32), output="act")
    draft.dense(at, "y", 32, 8)
    return draft.model((6,), "y", (8,))


def scaled_rows(samples: int, seed: int) -> np.ndarray:
    """Return samples of that model's features."""
    return np.asarray(
        np.random.default_rng(seed).normal(0.0, 1.0, (samples, 6)) * UNITS + OFFSETS, np.float32
    )


def sensors_net() -> Any:
    """A convolution over three sensors of different units: "y" of 4 channels."""
    draft = Draft(10)
    scale = np.array([1e3, 1.0, 1e-2]).reshape(1, 3, 1)
    weight = draft.weight("w", draft.random.normal(0.0, 0.5, (4, 3, 5)) / scale)
    at = draft.node("Conv", "x", weight, output="conv", pads=[2, 2])
    draft.node("Relu", at, output="y")
    return draft.model((3, 24), "y", (4, 24))


def sensors_rows(samples: int, seed: int) -> np.ndarray:
    """Return samples of those sensors."""
    scale = np.array([1e3, 1.0, 1e-2]).reshape(3, 1)
    return np.asarray(np.random.default_rng(seed).normal(0.0, 1.0, (samples, 3, 24)) * scale, np.float32)


def decoder() -> Any:
    """Eight causes, one Gemm, one ConvTranspose: "y", a signal of 32 values on 4 channels."""
    draft = Draft(9)
    at = draft.node("Relu", draft.dense("x", "wide", 8, 64), output="act")
    draft.weights["shape"] = np.array([-1, 4, 16], np.int64)
    at = draft.node("Reshape", at, "shape", output="folded")
    weight = draft.weight("up.weight", draft.random.normal(0.0, 0.3, (4, 4, 32)))
    draft.node("ConvTranspose", at, weight, output="y", strides=[2], pads=[15, 15])
    return draft.model((8,), "y", (4, 32))


def gemm_with_factors() -> Any:
    """One Gemm with alpha and beta, then another that shares its weights: "y" of 4 values."""
    draft = Draft(6)
    weight = draft.weight("w", draft.random.normal(0.0, 0.5, (4, 4)))
    bias = draft.weight("b", draft.random.normal(0.0, 1.0, 4))
    at = draft.node("Gemm", "x", weight, bias, output="first", alpha=0.5, beta=3.0, transB=1)
    draft.node("Gemm", draft.node("Relu", at, output="act"), weight, bias, output="y", transB=1)
    return draft.model((4,), "y", (4,))


def weightless() -> Any:
    """A model without a single weight: the distance from zero."""
    node = helper.make_node("Abs", ["x"], ["y"])
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "weightless", shapes[:1], shapes[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def operators(model: Any) -> Counter[str]:
    """Return how often each operator occurs."""
    return Counter(node.op_type for node in model.graph.node)


def constants(path: Any) -> dict[str, np.ndarray]:
    """Return the constants of a file by name."""
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(str(path)).graph.initializer}


def decibels(right: np.ndarray, answer: np.ndarray) -> float:
    """Return how much louder right answers are than what was added to them, in dB."""
    return float(10.0 * np.log10(np.sum(right**2) / np.sum((right - answer) ** 2)))
