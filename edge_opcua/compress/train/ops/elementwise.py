"""What is done to each number by itself, or to the numbers of several tensors at the same place.

Source:
    ONNX operator specification, opset 13 to 22; older forms where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any, Final

import torch
from torch.nn import functional

from edge_opcua.compress.train.step import Op, Step, Tensor

_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16 = 1, 10, 11, 16  # TensorProto.DataType
_KINDS: Final = {
    2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
}  # fmt: skip


def _plain(function: Callable[..., Any]) -> Op:
    """Return an operator of a function that needs nothing but the inputs."""
    return lambda _, *inputs: function(*inputs)


def _folded(function: Callable[[Any, Any], Any]) -> Op:
    """Return an operator that takes any number of inputs, two at a time."""
    return lambda _, *inputs: reduce(function, inputs)


def _divide(_: Step, a: Tensor, b: Tensor) -> Tensor:
    """Whole numbers are divided as in C, towards nought."""
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


def _clip(step: Step, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    if step.opset < 11:
        return x.clamp(step.get("min", None), step.get("max", None))
    return x if low is None and high is None else x.clamp(low, high)


def _prelu(_: Step, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _softmax(step: Step, x: Tensor) -> Tensor:
    if step.opset < 13:  # all axes from there on are one
        flat = x.flatten(step.get("axis", 1) % x.ndim)
        return functional.softmax(flat, -1).reshape(x.shape)
    return functional.softmax(x, step.get("axis", -1))


def _log_softmax(step: Step, x: Tensor) -> Tensor:
    if step.opset < 13:
        flat = x.flatten(step.get("axis", 1) % x.ndim)
        return functional.log_softmax(flat, -1).reshape(x.shape)
    return functional.log_softmax(x, step.get("axis", -1))


def _gelu(step: Step, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=step.get("approximate", "none"))


def _hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    return (step.get("alpha", 0.2) * x + step.get("beta", 0.5)).clamp(0.0, 1.0)


def _cast(step: Step, x: Tensor) -> Tensor:
    """What is a float stays float32: training needs it, and the file keeps its own types."""
    to = step.get("to", _FLOAT)
    if to in (_FLOAT, _FLOAT16, _DOUBLE, _BFLOAT16):
        return x if x.is_floating_point() else x.float()
    if to not in _KINDS:
        raise step.refuse(f"the type {to}")
    return x.to(_KINDS[to])


def _selu(step: Step, x: Tensor) -> Tensor:
    alpha, gamma = step.get("alpha", 1.67326319217681884765625), step.get("gamma", 1.05070102214813232421875)
    return gamma * torch.where(x > 0, x, alpha * (torch.exp(x.clamp(max=0.0)) - 1.0))


def _dropped(_: Step, x: Tensor, *__: Tensor) -> Tensor:
    return x


ELEMENTWISE: Final[Mapping[str, Op]] = MappingProxyType(
    {
        "Abs": _plain(torch.abs),
        "Add": _plain(torch.add),
        "And": _plain(torch.logical_and),
        "Cast": _cast,
        "Ceil": _plain(torch.ceil),
        "Celu": lambda step, x: functional.celu(x, step.get("alpha", 1.0)),
        "Clip": _clip,
        "Cos": _plain(torch.cos),
        "Div": _divide,
        "Dropout": _dropped,
        "Elu": lambda step, x: functional.elu(x, step.get("alpha", 1.0)),
        "Equal": _plain(torch.eq),
        "Erf": _plain(torch.erf),
        "Exp": _plain(torch.exp),
        "Floor": _plain(torch.floor),
        "Gelu": _gelu,
        "Greater": _plain(torch.gt),
        "GreaterOrEqual": _plain(torch.ge),
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _plain(functional.hardswish),
        "Identity": _dropped,
        "LeakyRelu": lambda step, x: functional.leaky_relu(x, step.get("alpha", 0.01)),
        "Less": _plain(torch.lt),
        "LessOrEqual": _plain(torch.le),
        "Log": _plain(torch.log),
        "LogSoftmax": _log_softmax,
        "Max": _folded(torch.maximum),
        "Mean": lambda _, *inputs: reduce(torch.add, inputs) / len(inputs),
        "Min": _folded(torch.minimum),
        "Mish": _plain(functional.mish),
        "Mul": _plain(torch.mul),
        "Neg": _plain(torch.neg),
        "Not": _plain(torch.logical_not),
        "Or": _plain(torch.logical_or),
        "PRelu": _prelu,
        "Pow": _plain(torch.pow),
        "Reciprocal": _plain(torch.reciprocal),
        "Relu": _plain(functional.relu),
        "Round": _plain(torch.round),
        "Selu": _selu,
        "Sigmoid": _plain(torch.sigmoid),
        "Sign": _plain(torch.sign),
        "Sin": _plain(torch.sin),
        "Softmax": _softmax,
        "Softplus": _plain(functional.softplus),
        "Softsign": _plain(functional.softsign),
        "Sqrt": _plain(torch.sqrt),
        "Sub": _plain(torch.sub),
        "Sum": _folded(torch.add),
        "Tanh": _plain(torch.tanh),
        "ThresholdedRelu": lambda step, x: torch.where(x > step.get("alpha", 1.0), x, torch.zeros_like(x)),
        "Where": _plain(torch.where),
    }
)
