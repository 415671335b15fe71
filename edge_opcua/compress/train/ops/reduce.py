"""Sums, means and the like over axes.

Source:
    ONNX operator specification, Reduce* (opset 18 takes the axes as an input), ArgMax-13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch

from edge_opcua.compress.train.step import Op, Step, Tensor

Over = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _over_axes(function: Over) -> Op:
    def reduced(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
        named = step.get("axes", None) if axes is None else axes.tolist()
        if not named:
            if step.get("noop_with_empty_axes", 0):
                return x
            named = range(x.ndim)
        places = tuple(axis % x.ndim for axis in named)
        return function(x, places, bool(step.get("keepdims", 1)))

    return reduced


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:  # noqa: FBT001 - as its siblings
    for axis in sorted(axes, reverse=True):
        x = x.prod(dim=axis, keepdim=keep)
    return x


def _root_of_squares(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:  # noqa: FBT001 - as its siblings
    return torch.linalg.vector_norm(x, dim=axes, keepdim=keep)


def _place_of(choose: Callable[..., Any]) -> Op:
    def found(step: Step, x: Tensor) -> Tensor:
        if step.get("select_last_index", 0):
            raise step.refuse("select_last_index")
        return choose(x, dim=step.get("axis", 0), keepdim=bool(step.get("keepdims", 1)))

    return found


REDUCE: Final[Mapping[str, Op]] = MappingProxyType(
    {
        "ArgMax": _place_of(torch.argmax),
        "ArgMin": _place_of(torch.argmin),
        "ReduceL1": _over_axes(lambda x, axes, keep: x.abs().sum(axes, keepdim=keep)),
        "ReduceL2": _over_axes(_root_of_squares),
        "ReduceLogSum": _over_axes(lambda x, axes, keep: x.sum(axes, keepdim=keep).log()),
        "ReduceLogSumExp": _over_axes(lambda x, axes, keep: x.logsumexp(axes, keepdim=keep)),
        "ReduceMax": _over_axes(lambda x, axes, keep: x.amax(axes, keepdim=keep)),
        "ReduceMean": _over_axes(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
        "ReduceMin": _over_axes(lambda x, axes, keep: x.amin(axes, keepdim=keep)),
        "ReduceProd": _over_axes(_product),
        "ReduceSum": _over_axes(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
        "ReduceSumSquare": _over_axes(lambda x, axes, keep: x.square().sum(axes, keepdim=keep)),
    }
)
