"""What changes the shape, cuts or joins, and the whole numbers that say how.

Source:
    ONNX operator specification (Reshape-14, Slice-13, Gather-13, Pad-19, Resize-19, Split-18).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
from torch.nn import functional

from edge_opcua.compress.train.step import Op, Step, Tensor

_LIKE: Final = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _numbers(step: Step, name: str, given: Tensor | None) -> list[int] | None:
    """Return whole numbers that are an input, or an attribute in older opsets."""
    if given is not None:
        return [int(each) for each in given.tolist()]
    named = step.get(name, None)
    return None if named is None else [int(each) for each in named]


def _reshape(step: Step, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = _numbers(step, "shape", shape) or []
    if not step.get("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(step: Step, x: Tensor) -> Tensor:
    axis = step.get("axis", 1)
    rows = 1
    for size in x.shape[: axis if axis >= 0 else axis + x.ndim]:
        rows *= size
    return x.reshape(rows, -1)


def _transpose(step: Step, x: Tensor) -> Tensor:
    return x.permute(step.get("perm", list(range(x.ndim))[::-1]))


def _squeeze(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = _numbers(step, "axes", axes)
    if named is None:
        return x.squeeze()
    return x.squeeze(tuple(axis % x.ndim for axis in named))


def _unsqueeze(step: Step, x: Tensor, axes: Tensor | None = None) -> Tensor:
    named = _numbers(step, "axes", axes) or []
    rank = x.ndim + len(named)
    for axis in sorted(axis % rank for axis in named):
        x = x.unsqueeze(axis)
    return x


def _concat(step: Step, *parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=step.get("axis", 0))


def _split(step: Step, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = step.get("axis", 0)
    named = _numbers(step, "split", sizes)
    if named is None:
        each = -(-x.shape[axis] // len(step.outputs))
        return tuple(x.split(each, dim=axis))
    return tuple(x.split(named, dim=axis))


def _slice(step: Step, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends, axes, steps = (
        _numbers(step, name, given[number] if number < len(given) else None)
        for number, name in enumerate(("starts", "ends", "axes", "steps"))
    )
    if starts is None or ends is None:
        raise step.refuse("a slice without its ends")
    places = axes if axes is not None else list(range(len(starts)))
    for axis, start, end, pace in zip(places, starts, ends, steps or [1] * len(starts), strict=True):
        chosen = range(x.shape[axis])[slice(start, _end(end, pace), pace)]
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return x


def _end(end: int, pace: int) -> int | None:
    """Return the end of a slice; far below nought with a backward pace means through the first."""
    return None if pace < 0 and end < -(2**31) else end


def _gather(step: Step, x: Tensor, places: Tensor) -> Tensor:
    axis = step.get("axis", 0) % x.ndim
    wanted = torch.where(places < 0, places + x.shape[axis], places)
    chosen = x.index_select(axis, wanted.reshape(-1))
    return chosen.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def _pad(step: Step, x: Tensor, *given: Tensor | None) -> Tensor:
    pads, value, axes = (given[number] if number < len(given) else None for number in range(3))
    named = _numbers(step, "pads", pads) or []
    places = [axis % x.ndim for axis in (axes.tolist() if axes is not None else range(x.ndim))]
    around = {axis: (named[number], named[number + len(places)]) for number, axis in enumerate(places)}
    flat = [each for axis in reversed(range(x.ndim)) for each in around.get(axis, (0, 0))]
    mode = step.get("mode", "constant")
    if mode == "constant":
        filler = step.get("value", 0.0) if value is None else value.item()
        return functional.pad(x, flat, value=filler)
    return functional.pad(x, _inner(step, flat, x.ndim), mode=_LIKE[mode])


def _inner(step: Step, flat: Sequence[int], rank: int) -> list[int]:
    """Return the pads without those of batch and channels, which must be none where values are repeated."""
    inner = 2 * (rank - 2)
    if any(flat[inner:]):
        raise step.refuse("repeating values along the channels")
    return list(flat[:inner])


def _expand(_: Step, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _tile(_: Step, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(repeats.tolist())


def _shape(step: Step, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[step.get("start", 0) : step.get("end", None)], dtype=torch.int64)


def _filled(step: Step, shape: Tensor) -> Tensor:
    from onnx import numpy_helper

    value = step.attributes.get("value")
    number: Any = torch.zeros(1) if value is None else torch.from_numpy(numpy_helper.to_array(value).copy())
    return number.expand(shape.tolist()).clone()


def _range(_: Step, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _resize(step: Step, x: Tensor, *given: Tensor | None) -> Tensor:
    scales, sizes = (given[number] if number < len(given) else None for number in (1, 2))
    if step.op == "Upsample":
        scales = given[0] if given else torch.tensor(step.get("scales", []))
    if sizes is not None and sizes.numel():
        wanted = [int(each) for each in sizes.tolist()]
    elif scales is not None and scales.numel():
        wanted = [int(size * scale) for size, scale in zip(x.shape, scales.tolist(), strict=True)]
    else:
        raise step.refuse("a new size that nobody names")
    mode, where = step.get("mode", "nearest"), step.get("coordinate_transformation_mode", "half_pixel")
    if wanted[:2] != list(x.shape[:2]):
        raise step.refuse("a new number of channels")
    if mode == "nearest":
        return functional.interpolate(x, wanted[2:], mode="nearest")
    if mode != "linear" or x.ndim > 5 or where not in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        raise step.refuse(f"{mode} with {where}")
    kind = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.ndim]
    return functional.interpolate(x, wanted[2:], mode=kind, align_corners=where == "align_corners")


SHAPE: Final[Mapping[str, Op]] = MappingProxyType(
    {
        "Concat": _concat,
        "ConstantOfShape": _filled,
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "Pad": _pad,
        "Range": _range,
        "Reshape": _reshape,
        "Resize": _resize,
        "Shape": _shape,
        "Slice": _slice,
        "Split": _split,
        "Squeeze": _squeeze,
        "Tile": _tile,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
        "Upsample": _resize,
    }
)
