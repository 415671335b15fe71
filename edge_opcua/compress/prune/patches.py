"""What a layer multiplies with its weights: its input as a table, one row per answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def patches(
    inputs: Array, given: Mapping[str, Any], kernel: tuple[int, ...], places: npt.NDArray[np.intp]
) -> Array:
    """Return what a convolution sees at some places of its answer.

    Args:
        inputs: Shape ``(n, channels, …)``.
        given: Attributes of the node.
        kernel: Lengths of the kernel.
        places: Which places of the answer, counted through row by row.

    Returns:
        Shape ``(n, places, channels * taps)``, in the order of the weights of one output channel.

    Source:
        ONNX operator Conv (11): auto_pad, dilations, pads, strides.
    """
    axes = len(kernel)
    strides = tuple(given.get("strides", (1,) * axes))
    dilations = tuple(given.get("dilations", (1,) * axes))
    reach = tuple((length - 1) * step + 1 for length, step in zip(kernel, dilations, strict=True))
    before, after = _pads(given, inputs.shape[2:], reach, strides)
    padded = np.pad(inputs, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + axes)))
    strided = tuple(slice(None, None, step) for step in strides)
    dilated = tuple(slice(None, None, step) for step in dilations)
    windows = windows[(slice(None), slice(None), *strided, *dilated)]
    shape = windows.shape[2 : 2 + axes]
    where: tuple[Any, ...] = (slice(None), slice(None), *np.unravel_index(places, shape))
    table: Array = np.moveaxis(windows[where], 2, 1).reshape(len(inputs), len(places), -1)
    return table


def _pads(
    given: Mapping[str, Any], lengths: tuple[int, ...], reach: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how much is added before and after, per axis."""
    axes = len(reach)
    auto = given.get("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        pads = tuple(given.get("pads", (0,) * 2 * axes)) if auto == "NOTSET" else (0,) * 2 * axes
        return pads[:axes], pads[axes:]
    missing = [
        max((-(-length // stride) - 1) * stride + size - length, 0)
        for length, size, stride in zip(lengths, reach, strides, strict=True)
    ]
    less = tuple(number // 2 for number in missing)
    more = tuple(number - half for number, half in zip(missing, less, strict=True))
    return (less, more) if auto == "SAME_UPPER" else (more, less)
