"""Graphs whose channels are tangled in every way that pruning understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from tests.compress.models import Draft, autoencoder, conv_net, mlp, residual_net

PICTURE = (1, 8, 8)


def side_by_side() -> Any:
    """Two branches side by side, the raw picture beside them, and a part of it all by itself."""
    draft = Draft(5)
    one = draft.node("Relu", draft.conv("x", "one", (6, 1, 3, 3)), output="a")
    two = draft.node("Sigmoid", draft.conv("x", "two", (4, 1, 3, 3)), output="b")
    at = draft.node("Concat", one, "x", two, output="all", axis=1)
    at = draft.node("LeakyRelu", draft.conv(at, "mix", (8, 11, 3, 3), strides=[2, 2]), output="mixed")
    draft.weights["parts"] = np.array([3, 5], np.int64)
    draft.nodes.append(
        onnx.helper.make_node("Split", [at, "parts"], ["left", "right"], name="/split", axis=1)
    )
    left = draft.conv("left", "small", (5, 3, 1, 1), pads=[0] * 4)
    at = draft.node("Concat", draft.node("Tanh", left, output="c"), "right", output="again", axis=1)
    at = draft.node("Flatten", draft.node("GlobalMaxPool", at, output="most"), output="flat")
    return draft.model(PICTURE, draft.dense(at, "logits", 10, 3), (3,))


def attention_of_channels() -> Any:
    """Squeeze and excitation: channels weighted by what all of them are."""
    draft = Draft(6)
    trunk = draft.node(
        "HardSwish", draft.norm(draft.conv("x", "stem", (8, 1, 3, 3)), "bn", 8), output="trunk"
    )
    at = draft.node("ReduceMean", trunk, output="mean", axes=[2, 3], keepdims=1)
    at = draft.node("Relu", draft.conv(at, "down", (4, 8, 1, 1), pads=[0] * 4), output="few")
    at = draft.node("HardSigmoid", draft.conv(at, "up", (8, 4, 1, 1), pads=[0] * 4), output="shares")
    at = draft.node("Mul", trunk, at, output="weighed")
    at = draft.node("PRelu", at, draft.weight("slope", draft.random.uniform(0, 1, (8, 1, 1))), output="bent")
    at = draft.node("InstanceNormalization", at, *(draft.weight(n, np.ones(8)) for n in "sb"), output="even")
    draft.weights["shape"] = np.array([0, 128], np.int64)
    at = draft.node("MaxPool", at, output="pool", kernel_shape=[2, 2], strides=[2, 2])
    at = draft.node("Reshape", at, "shape", output="flat")
    return draft.model(PICTURE, draft.dense(at, "logits", 128, 3), (3,))


def along_time() -> Any:
    """Convolutions along time, then dense layers on the last of three axes, and back to a signal."""
    draft = Draft(7)
    weight = draft.weight("first.weight", draft.random.normal(0, 0.5, (10, 2, 5)))
    at = draft.node("Conv", "x", weight, output="first", pads=[2, 2], strides=[2])
    at = draft.node("Elu", at, output="bent")
    at = draft.node("Transpose", at, output="turned", perm=[0, 2, 1])
    at = draft.node(
        "MatMul", at, draft.weight("dense", draft.random.normal(0, 0.3, (10, 12))), output="product"
    )
    at = draft.node("Add", at, draft.weight("bias", draft.random.normal(0, 0.3, 12)), output="sum")
    at = draft.node("Transpose", draft.node("Softplus", at, output="soft"), output="back", perm=[0, 2, 1])
    weight = draft.weight("last.weight", draft.random.normal(0, 0.3, (12, 2, 4)))
    at = draft.node("ConvTranspose", at, weight, output="wide", strides=[2], pads=[1, 1])
    return draft.model((2, 16), at, (2, 16))


def shared_by_two() -> Any:
    """The same dense layer twice, one after the other: its channels in and out are the same."""
    draft = Draft(8)
    at = draft.node("Relu", draft.dense("x", "first", 6, 8), output="a")
    draft.dense(at, "twice", 8, 8)
    again = draft.node("Relu", "twice", output="b")
    at = draft.node("Gemm", again, "twice.weight", "twice.bias", output="thrice", transB=1)
    return draft.model((6,), draft.dense(at, "y", 8, 2), (2,))


NETS: dict[str, Callable[[], Any]] = {
    "conv": conv_net,
    "residual": residual_net,
    "mlp": mlp,
    "autoencoder": autoencoder,
    "side by side": side_by_side,
    "attention": attention_of_channels,
    "along time": along_time,
    "shared": shared_by_two,
}


def inputs_of(model: Any, samples: int = 6) -> Any:
    """Return samples that the model takes, of noise."""
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return np.random.default_rng(3).normal(size=(samples, *shape)).astype(np.float32)
