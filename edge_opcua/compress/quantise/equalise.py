"""Channels of like size: what is too large in one channel between two nodes, the second one takes back.

A scale per tensor has to serve the largest channel, and leaves few steps for the small ones; folding batch
normalisations in makes channels of very different sizes. Between two nodes the size of a channel is free.

Source:
    M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, § 4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph import attributes, consumers, set_weight, weights

Array = npt.NDArray[Any]

_ALIKE: Final = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"})
"""Operators that answer a factor per channel with the same factor."""
_SWEEPS: Final = 8
_LARGEST: Final = 2.0**12
_SMALLEST: Final = 4.0
"""Channels that are less uneven stay as they are: what the weights gain, what flows between them loses."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two nodes with nothing between them that knows the size of a channel.

    Args:
        first: The node that makes the channels.
        second: The one that takes them.
        spread: Inputs of the second per channel: more than one after a Flatten.
    """

    first: Any
    second: Any
    spread: int


def equalise(model: Any) -> int:
    """Make the channels between nodes alike in size; the model answers the same, to the last bit.

    Factors are powers of two, so that nothing is rounded.

    Args:
        model: As ``prepare`` returns it; its weights are changed.

    Returns:
        How many channels got another size.
    """
    pairs = list(_pairs(model))
    _own_weights(model, pairs)
    arrays = weights(model)
    moved: set[tuple[str, int]] = set()
    for _ in range(_SWEEPS):
        before = len(moved)
        changed = False
        for pair in pairs:
            factors = _factors(arrays, pair)
            if (factors != 1.0).any():
                changed = True
                _scale(arrays, pair, factors)
                moved.update((pair.first.name, int(channel)) for channel in np.flatnonzero(factors != 1.0))
        if not changed and before == len(moved):
            break
    for pair in pairs:
        for name in (*pair.first.input[1:], pair.second.input[1]):
            if name:
                set_weight(model, name, arrays[name])
    return len(moved)


def is_uneven(model: Any) -> bool:
    """Return whether there are nodes with channels of very different size between them."""
    arrays = weights(model)
    return any((_factors(arrays, pair) != 1.0).any() for pair in _pairs(model))


def _pairs(model: Any) -> Iterator[_Pair]:
    known, taken_by = weights(model), consumers(model)
    answers = {output.name for output in model.graph.output}
    for first in model.graph.node:
        if not _is_linear(first, known):
            continue
        at, flattened = first, False
        while at.output[0] not in answers and len(taken_by.get(at.output[0], ())) == 1:
            at = taken_by[at.output[0]][0]
            if at.op_type not in _ALIKE:
                break
            flattened = flattened or at.op_type == "Flatten"
        if at is first or not _is_linear(at, known) or at.op_type in _ALIKE:
            continue
        channels, taken = _outputs(known, first), _inputs(known, at)
        if taken == channels or (flattened and taken % channels == 0):
            yield _Pair(first, at, taken // channels)


def _is_linear(node: Any, known: dict[str, Array]) -> bool:
    if node.op_type not in {"Conv", "Gemm"}:
        return False
    if any(name not in known for name in node.input[1:] if name):
        return False
    group = attributes(node).get("group", 1)
    return group == 1 or bool(known[node.input[1]].shape[0] == group and known[node.input[1]].shape[1] == 1)


def _is_depthwise(node: Any) -> bool:
    return bool(attributes(node).get("group", 1) != 1)


def _output_axis(node: Any) -> int:
    return 1 if node.op_type == "Gemm" and not attributes(node).get("transB", 0) else 0


def _input_axis(node: Any) -> int:
    return 0 if _is_depthwise(node) else 1 - _output_axis(node)


def _outputs(known: dict[str, Array], node: Any) -> int:
    return int(known[node.input[1]].shape[_output_axis(node)])


def _inputs(known: dict[str, Array], node: Any) -> int:
    return int(known[node.input[1]].shape[_input_axis(node)])


def _own_weights(model: Any, pairs: list[_Pair]) -> None:
    """Give each node of a pair weights that nobody else takes."""
    taken_by, arrays = consumers(model), weights(model)
    for node in {node.name: node for pair in pairs for node in (pair.first, pair.second)}.values():
        for place, name in enumerate(node.input):
            if place and name and len(taken_by[name]) > 1:
                node.input[place] = f"{name}_of_{node.name}"
                set_weight(model, node.input[place], arrays[name])


def _factors(arrays: dict[str, Array], pair: _Pair) -> Array:
    """Return what to multiply each channel of the first node by: to where both are as large."""
    made = _largest(arrays[pair.first.input[1]], _output_axis(pair.first), 1)
    taken = _largest(arrays[pair.second.input[1]], _input_axis(pair.second), pair.spread)
    alive = (made > 0.0) & (taken > 0.0)
    ratio = np.sqrt(np.where(alive, taken, 1.0) / np.where(alive, made, 1.0))
    ratio = ratio / np.exp(np.mean(np.log(ratio[alive]))) if alive.any() else ratio
    factors: Array = 2.0 ** np.round(np.log2(np.clip(ratio, 1.0 / _LARGEST, _LARGEST)))
    factors[~alive | (np.abs(np.log2(factors)) < np.log2(_SMALLEST))] = 1.0
    return factors


def _largest(weight: Array, axis: int, spread: int) -> Array:
    size = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis] // spread, -1)
    largest: Array = size.max(axis=1).astype(np.float64)
    return largest


def _scale(arrays: dict[str, Array], pair: _Pair, factors: Array) -> None:
    first, second = pair.first, pair.second
    for name, axis, per_channel in (
        (first.input[1], _output_axis(first), factors),
        (second.input[1], _input_axis(second), np.repeat(1.0 / factors, pair.spread)),
    ):
        shape = [1] * arrays[name].ndim
        shape[axis] = -1
        arrays[name] = (arrays[name] * per_channel.reshape(shape)).astype(np.float32)
    if len(first.input) > 2 and first.input[2]:
        arrays[first.input[2]] = (arrays[first.input[2]] * factors).astype(np.float32)
