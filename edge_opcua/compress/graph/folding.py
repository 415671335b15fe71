"""Folding: normalisations, factors and shifts become part of the weights beside them.

Source:
    Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, CVPR 2018, §3.2 (batch normalisation folding).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph.structure import attributes, consumers, producers, set_weight, shapes, weights

Array = npt.NDArray[Any]
Terms = tuple[Array, Array]

FOLDED: Final = frozenset({"BatchNormalization", "Mul", "Div", "Add", "Sub"})
_OUTPUT_AXIS: Final = {"Conv": 0, "ConvTranspose": 1}


@dataclass(slots=True)
class LinearLayer:
    """A linear layer whose weights are constants.

    Args:
        node: The node.
        weight: Its weight.
        axis: Axis of the weight that is the output channel.
        bias: Its bias, float32 of one value per output channel; 0 if it has none.
    """

    node: Any
    weight: Array
    axis: int
    bias: Array

    @property
    def outputs(self) -> int:
        """How many output channels it has."""
        return int(self.weight.shape[self.axis])

    @property
    def axes(self) -> int:
        """How many axes its answer has; the channels are axis 1."""
        return self.weight.ndim


def fold_norms(model: Any) -> int:
    """Fold batch normalisations into the layer before them; return how many."""
    return _fold_after(model, norm_terms)


def fold_affine(model: Any) -> int:
    """Fold products with and sums of constants into the layer before them; return how many."""
    return _fold_after(model, elementwise_terms)


def fuse_matmuls(model: Any) -> int:
    """Turn MatMul and Add of constants into Gemm where the input has two axes; return how many."""
    constant, known, takers = weights(model), shapes(model), consumers(model)
    answers = {output.name for output in model.graph.output}
    count = 0
    for node in [node for node in model.graph.node if node.op_type == "MatMul"]:
        weight, after = node.input[1], takers.get(node.output[0], [])
        fits = weight in constant and constant[weight].ndim == 2 and len(known.get(node.input[0], ())) == 2
        if not fits or len(after) != 1 or after[0].op_type != "Add" or node.output[0] in answers:
            continue
        other = [name for name in after[0].input if name != node.output[0]]
        columns = constant[weight].shape[1]
        if len(other) != 1 or other[0] not in constant or constant[other[0]].size != columns:
            continue
        if constant[other[0]].shape not in ((columns,), (1, columns)):
            continue
        node.op_type = "Gemm"
        node.input.append(other[0])
        node.output[0] = after[0].output[0]
        model.graph.node.remove(after[0])
        count += 1
    return count


def _fold_after(model: Any, terms_of: Callable[[Any, dict[str, Array], int, int], Terms | None]) -> int:
    """Fold each node that is ``factor * x + shift`` per channel into the layer that makes x."""
    count = 0
    answers = {output.name for output in model.graph.output}
    constant = weights(model)
    for node in [node for node in model.graph.node if node.op_type in FOLDED]:
        found = _layer_before(model, node, constant, answers)
        terms = terms_of(node, constant, found.outputs, found.axes) if found is not None else None
        if found is None or terms is None:
            continue
        if not all(np.isfinite(term).all() for term in terms):
            continue
        factor, shift = terms
        shape = [1] * found.weight.ndim
        shape[found.axis] = -1
        constant |= rewrite(model, found, found.weight * factor.reshape(shape), found.bias * factor + shift)
        found.node.output[0] = node.output[0]
        model.graph.node.remove(node)
        count += 1
    return count


def _layer_before(model: Any, node: Any, constant: dict[str, Array], answers: set[str]) -> LinearLayer | None:
    makers, takers = producers(model), consumers(model)
    sources = [name for name in node.input if name in makers]
    if len(sources) != 1 or sources[0] in answers or len(takers[sources[0]]) != 1:
        return None
    return layer_of(makers[sources[0]], constant)


def layer_of(node: Any, constant: Mapping[str, Array]) -> LinearLayer | None:
    """Return a node as a layer; None if it is none, or one whose weights are not constants."""
    given = attributes(node)
    if node.op_type in _OUTPUT_AXIS:
        axis = _OUTPUT_AXIS[node.op_type]
        if axis == 1 and given.get("group", 1) != 1:
            return None
    elif node.op_type == "Gemm":
        if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
            return None
        axis = 0 if given.get("transB", 0) else 1
    else:
        return None
    if any(name not in constant for name in node.input[1:] if name):
        return None
    weight = constant[node.input[1]]
    bias = constant[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(1, weight.dtype)
    outputs = weight.shape[axis]
    if weight.dtype != np.float32 or bias.size not in (1, outputs):
        return None
    return LinearLayer(node, weight, axis, np.broadcast_to(bias.reshape(-1), (outputs,)))


def norm_terms(node: Any, constant: Mapping[str, Array], channels: int, axes: int) -> Terms | None:  # noqa: ARG001 - as the other
    """Return factor and shift per channel of a batch normalisation in use; None if it is something else."""
    if node.op_type != "BatchNormalization" or any(name not in constant for name in node.input[1:]):
        return None
    given = attributes(node)
    if given.get("training_mode", 0) or len([name for name in node.output if name]) != 1:
        return None
    scale, shift, mean, variance = (constant[name].astype(np.float64) for name in node.input[1:5])
    if len(scale) != channels:
        return None
    factor = scale / np.sqrt(variance + given.get("epsilon", 1e-5))
    return factor, shift - mean * factor


def elementwise_terms(node: Any, constant: Mapping[str, Array], channels: int, axes: int) -> Terms | None:
    """Return factor and shift per channel of Mul, Div, Add or Sub with a constant; None for all else.

    Args:
        node: The node.
        constant: Weights.
        channels: How many channels its other input has, on axis 1.
        axes: How many axes that has.
    """
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or len(node.input) != 2:
        return None
    first = node.input[0] in constant
    name = node.input[0 if first else 1]
    if name not in constant or constant[name].dtype != np.float32:
        return None
    value = _per_channel(constant[name], channels, axes)
    if value is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        return value, zeros
    if node.op_type == "Add":
        return ones, value
    if node.op_type == "Sub":
        return (-ones, value) if first else (ones, -value)
    return None if first or not value.all() else (1.0 / value, zeros)


def _per_channel(value: Array, channels: int, axes: int) -> Array | None:
    """Return a constant as one value per channel; None if it is something else."""
    if value.size == 1 and value.ndim <= axes:
        return np.full(channels, float(value.reshape(-1)[0]))
    shape = (1,) * (axes - value.ndim) + value.shape
    wanted = tuple(channels if axis == 1 else 1 for axis in range(axes))
    return value.reshape(-1).astype(np.float64) if shape == wanted else None


def rewrite(model: Any, layer: LinearLayer, weight: Array, bias: Array) -> dict[str, Array]:
    """Give a layer weights of its own; return them by name."""
    names = f"{layer.node.name}.weight.folded", f"{layer.node.name}.bias.folded"
    made = dict(zip(names, (weight.astype(np.float32), bias.astype(np.float32)), strict=True))
    for name, array in made.items():
        set_weight(model, name, array)
    source = layer.node.input[0]
    del layer.node.input[:]
    layer.node.input.extend([source, *names])
    return made
