"""Layers: convolutions, products of matrices, pools and normalisations.

Source:
    ONNX operator specification (Conv-22, ConvTranspose-22, Gemm-13, MaxPool-22, AveragePool-22,
    BatchNormalization-15, LayerNormalization-17, GroupNormalization-21).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
from torch.nn import functional

from edge_opcua.compress.train.step import Op, Step, Tensor

_CONVOLUTIONS: Final = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_BACKWARD: Final = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX_POOLS: Final = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN_POOLS: Final = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


class _Slide:
    """How a window slides over the axes behind batch and channels.

    Args:
        step: The node.
        sizes: Lengths of these axes.
        kernel: Lengths of the window.
    """

    def __init__(self, step: Step, sizes: Sequence[int], kernel: Sequence[int]) -> None:
        rank = len(kernel)
        self.kernel = tuple(kernel)
        self.strides = tuple(step.get("strides", [1] * rank))
        self.dilations = tuple(step.get("dilations", [1] * rank))
        automatic = step.get("auto_pad", "NOTSET")
        if automatic in ("NOTSET", "VALID"):
            pads = step.get("pads", [0] * (2 * rank)) if automatic == "NOTSET" else [0] * (2 * rank)
            self.begins, self.ends = tuple(pads[:rank]), tuple(pads[rank:])
        else:
            missing = [self._missing(axis, size) for axis, size in enumerate(sizes)]
            less, more = tuple(each // 2 for each in missing), tuple(each - each // 2 for each in missing)
            self.begins, self.ends = (less, more) if automatic == "SAME_UPPER" else (more, less)

    @property
    def even(self) -> bool:
        """Whether as much is added before as behind."""
        return self.begins == self.ends

    def _missing(self, axis: int, size: int) -> int:
        reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1
        missing: int = max((math.ceil(size / self.strides[axis]) - 1) * self.strides[axis] + reach - size, 0)
        return missing

    def padded(self, x: Tensor, value: float) -> Tensor:
        """Return the tensor with what has to be added around it."""
        both = [each for pair in zip(self.begins, self.ends, strict=True) for each in pair]
        return functional.pad(
            x, [each for axis in range(len(both) - 2, -1, -2) for each in both[axis : axis + 2]], value=value
        )


def _conv(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    slide = _Slide(step, x.shape[2:], weight.shape[2:])
    padding: Any = slide.begins
    if not slide.even:
        x, padding = slide.padded(x, 0.0), 0
    convolve = _CONVOLUTIONS[weight.ndim - 2]
    return convolve(x, weight, bias, slide.strides, padding, slide.dilations, step.get("group", 1))


def _conv_transpose(step: Step, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    slide = _Slide(step, x.shape[2:], weight.shape[2:])
    if not slide.even or "output_shape" in step.attributes or step.get("auto_pad", "NOTSET") != "NOTSET":
        raise step.refuse("padding that is not the same on both sides")
    more = tuple(step.get("output_padding", [0] * (weight.ndim - 2)))
    convolve = _BACKWARD[weight.ndim - 2]
    return convolve(x, weight, bias, slide.strides, slide.begins, more, step.get("group", 1), slide.dilations)


def _gemm(step: Step, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    left = a.t() if step.get("transA", 0) else a
    right = b.t() if step.get("transB", 0) else b
    product = step.get("alpha", 1.0) * (left @ right)
    return product if c is None else product + step.get("beta", 1.0) * c


def _matmul(_: Step, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


def _max_pool(step: Step, x: Tensor) -> Tensor:
    if len(step.outputs) > 1 and step.outputs[1]:
        raise step.refuse("a pool that gives its places")
    slide = _Slide(step, x.shape[2:], step.get("kernel_shape", []))
    x = slide.padded(x, -math.inf)
    pool = _MAX_POOLS[len(slide.kernel)]
    return pool(x, slide.kernel, slide.strides, 0, slide.dilations, bool(step.get("ceil_mode", 0)))


def _mean_pool(step: Step, x: Tensor) -> Tensor:
    slide = _Slide(step, x.shape[2:], step.get("kernel_shape", []))
    if any(each != 1 for each in slide.dilations):
        raise step.refuse("a pool of the mean with gaps")
    pool = _MEAN_POOLS[len(slide.kernel)]
    ceil, counted = bool(step.get("ceil_mode", 0)), bool(step.get("count_include_pad", 0))
    if slide.even and all(2 * pad <= length for pad, length in zip(slide.begins, slide.kernel, strict=True)):
        return pool(x, slide.kernel, slide.strides, slide.begins, ceil, counted)
    if ceil:
        raise step.refuse("a pool of the mean with uneven padding and ceil_mode")
    mean = pool(slide.padded(x, 0.0), slide.kernel, slide.strides)
    there = 1.0 if counted else pool(slide.padded(torch.ones_like(x), 0.0), slide.kernel, slide.strides)
    return mean / there


def _global_mean_pool(_: Step, x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def _global_max_pool(_: Step, x: Tensor) -> Tensor:
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def _batch_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Normalise by what was learned of all batches, not by this one: so it is when the model serves."""
    if step.get("training_mode", 0):
        raise step.refuse("a normalisation in training mode")
    return functional.batch_norm(x, mean, var, scale, bias, eps=step.get("epsilon", 1e-5))


def _instance_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=step.get("epsilon", 1e-5))


def _layer_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    if any(step.outputs[1:]):
        raise step.refuse("a normalisation that gives mean and spread")
    axis = step.get("axis", -1) % x.ndim
    return functional.layer_norm(x, x.shape[axis:], scale, bias, step.get("epsilon", 1e-5))


def _group_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = step.get("num_groups", 1)
    each = x.shape[1] // scale.shape[0]  # up to opset 20 there is one value for each group
    if each > 1:
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return functional.group_norm(x, groups, scale, bias, step.get("epsilon", 1e-5))


def _normalised(step: Step, x: Tensor) -> Tensor:
    return functional.normalize(x, p=step.get("p", 2), dim=step.get("axis", -1), eps=0.0)


LAYERS: Final[Mapping[str, Op]] = MappingProxyType(
    {
        "AveragePool": _mean_pool,
        "BatchNormalization": _batch_norm,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_mean_pool,
        "GlobalMaxPool": _global_max_pool,
        "GroupNormalization": _group_norm,
        "InstanceNormalization": _instance_norm,
        "LayerNormalization": _layer_norm,
        "LpNormalization": _normalised,
        "MatMul": _matmul,
        "MaxPool": _max_pool,
    }
)
