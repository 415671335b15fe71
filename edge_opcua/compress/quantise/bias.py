"""Biases that make up for the mean error that rounding makes in each node.

Rounded weights shift the mean of a channel, and the shift adds up from node to node. It is measured on the
calibration samples, one node after another with those before it mended, and taken off the bias.

Source:
    M. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019, § 4.2
    (empirical correction).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import batches_of_activations, onnx_package, set_weight, weights
from edge_opcua.compress.quantise.quantiser import quantisable, quantised
from edge_opcua.compress.quantise.ranges import Range
from edge_opcua.compress.quantise.recipe import Int8

Means = npt.NDArray[np.float64]

_BIASED: Final = frozenset({"Conv", "Gemm"})
MOST_SAMPLES: Final = 256
"""Enough for a mean."""
MOST_RUNS: Final = 4_000
"""Samples times nodes: each node costs a run over the samples."""
FEWEST_SAMPLES: Final = 32


def corrected(
    model: Any,
    ranges: Mapping[str, Range],
    recipe: Int8,
    rows: Rows,
    progress: Callable[[float, str], None],
) -> tuple[Any, dict[str, float]]:
    """Return the float model with biases that make up for what its INT8 form gets wrong on average.

    Args:
        model: As ``prepare`` returns it; stays as it is.
        ranges: Of its tensors.
        recipe: How it will be quantised, to QDQ.
        rows: Calibration samples.
        progress: Is told how far it is.

    Returns:
        The model, and by node the largest correction, in standard deviations of its channel.
    """
    better = onnx_package().ModelProto()
    better.CopyFrom(model)
    nodes = [
        node
        for node in quantisable(better)
        if node.op_type in _BIASED and node.name not in recipe.exclude and _give_bias(better, node)
    ]
    rows = rows[: min(MOST_SAMPLES, max(FEWEST_SAMPLES, MOST_RUNS // max(len(nodes), 1)))]
    places = {node.name: node.output[0] for node in nodes}
    wanted = _moments(model, places, rows)
    moved: dict[str, float] = {}
    for number, node in enumerate(nodes):
        progress(number / len(nodes), f"bias of {node.name}")
        made, _ = quantised(better, ranges, recipe)
        place = next(each.output[0] for each in made.graph.node if each.name == node.name)
        mean, _ = _moments(made, {node.name: place}, rows)[node.name]
        shift = wanted[node.name][0] - mean
        bias = weights(better)[node.input[2]]
        set_weight(better, node.input[2], (bias + shift.reshape(bias.shape)).astype(np.float32))
        moved[node.name] = round(float(np.max(np.abs(shift) / np.maximum(wanted[node.name][1], 1e-12))), 4)
    return better, moved


def _give_bias(model: Any, node: Any) -> bool:
    """Make sure that the node has a bias of its own, one number per channel; return whether it has."""
    known = weights(model)
    channels = known[node.input[1]].shape[1 if _is_plain_gemm(node) else 0]
    if len(node.input) == 3 and node.input[2]:
        if node.input[2] not in known or known[node.input[2]].size != channels:
            return False
        bias = known[node.input[2]]
    else:
        del node.input[2:]
        node.input.append("")
        bias = np.zeros(channels, np.float32)
    node.input[2] = f"{node.name}_bias_of_its_own"
    set_weight(model, node.input[2], bias)
    return True


def _is_plain_gemm(node: Any) -> bool:
    return node.op_type == "Gemm" and not any(each.name == "transB" and each.i for each in node.attribute)


def _moments(model: Any, places: Mapping[str, str], rows: Rows) -> dict[str, tuple[Means, Means]]:
    """Return mean and standard deviation of each channel of some nodes, by node."""
    sums: dict[str, list[Any]] = {name: [0.0, 0.0, 0] for name in places}
    names: Sequence[str] = list(dict.fromkeys(places.values()))
    for batch in batches_of_activations(model, names, rows):
        for node, place in places.items():
            values = np.moveaxis(batch[place].astype(np.float64), 1, -1)
            values = values.reshape(-1, values.shape[-1])
            entry = sums[node]
            entry[0] = entry[0] + values.sum(axis=0)
            entry[1] = entry[1] + (values**2).sum(axis=0)
            entry[2] += len(values)
    found = {}
    for node, (first, second, count) in sums.items():
        mean = first / count
        found[node] = mean, np.sqrt(np.maximum(second / count - mean**2, 0.0))
    return found
