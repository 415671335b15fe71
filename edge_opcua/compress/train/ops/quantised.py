"""Rounding to the levels of a quantised graph, so that training feels it.

Between the two operators lie whole numbers when the model serves. Here they stay floats: rounding passes
the gradient as if it were not there, and clipping stops it (the straight-through estimator). The scale gets
the gradient that follows from both.

Source:
    Bengio et al., Estimating or propagating gradients through stochastic neurons, arXiv:1308.3432, 2013;
    Esser et al., Learned step size quantization, arXiv:1902.08153, 2020, equations 1 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import torch

from edge_opcua.compress.train.step import Op, Step, Tensor

LEVELS: Final[Mapping[torch.dtype, tuple[int, int]]] = MappingProxyType(
    {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int32: (-(2**31), 2**31 - 1)}
)


def along(values: Tensor, x: Tensor, axis: int) -> Tensor:
    """Return one value per channel so that it meets the channels of a tensor."""
    if values.numel() == 1:
        return values.reshape(())
    return values.reshape([-1 if each == axis % x.ndim else 1 for each in range(x.ndim)])


def rounded(x: Tensor) -> Tensor:
    """Return the nearest whole numbers, halves to the even one; the gradient passes."""
    return x + (torch.round(x) - x).detach()


def levels(x: Tensor, scale: Tensor, zero: Tensor | None, ends: tuple[int, int]) -> Tensor:
    """Return the levels of values: whole numbers, as floats.

    Args:
        x: Values.
        scale: What a level is worth, so shaped that it meets ``x``.
        zero: The level of nought, so shaped that it meets ``x``; None is 0.
        ends: The least and the highest level.
    """
    shifted = rounded(x / scale)
    return (shifted if zero is None else shifted + zero).clamp(*ends)


def _quantise(step: Step, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    kind = torch.uint8 if zero is None else zero.dtype
    if kind not in LEVELS or step.get("block_size", 0):
        raise step.refuse(f"levels of {kind} or by blocks")
    axis = step.get("axis", 1)
    offset = None if zero is None else along(zero.float(), x, axis)
    return levels(x, along(scale, x, axis), offset, LEVELS[kind])


def _restore(step: Step, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    if step.get("block_size", 0):
        raise step.refuse("levels by blocks")
    axis = step.get("axis", 1)
    steps = x.float() if zero is None else x.float() - along(zero.float(), x, axis)
    return steps * along(scale, x, axis)


QUANTISED: Final[Mapping[str, Op]] = MappingProxyType(
    {"DequantizeLinear": _restore, "QuantizeLinear": _quantise}
)
