"""Small models as a notebook would export them, and what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]


def classifier(weights: Floats) -> Any:
    """Return a linear classifier that also gives the number of the class, as those of scikit-learn do."""
    k, classes = weights.shape
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Add", ["logits", "nobody"], ["shifted"]),
        helper.make_node("ArgMax", ["shifted"], ["label"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, k])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
        ],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.zeros(classes, np.float32), "nobody"),
        ],
    )
    return _model(graph)


def probabilities(features: Floats, weights: Floats) -> Floats:
    """Return what it computes, without ONNX."""
    logits = features.astype(np.float64) @ weights.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def mean_of_window(rows: int, channels: int) -> Any:
    """Return a model of input ``(1, rows, channels)`` that says what the mean of all is."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["window"], ["value"], axes=[1, 2], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, [1, rows, channels])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [1])],
    )
    return _model(graph)


def chosen_by_branch() -> Any:
    """Return a model of which a branch takes a weight from outside."""
    one = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["scaled"])],
        "then",
        [],
        [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, [1, 2])],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])],
        "else",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, [1, 2])],
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["reconstruction"], then_branch=one, else_branch=other)],
        "branch",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, [1, 2])],
        [
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.array(1.0, np.float32), "factor"),
        ],
    )
    return _model(graph)


def _model(graph: Any) -> Any:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
