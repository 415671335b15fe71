"""Inputs of different units: brought to one scale in float, before anything is rounded.

INT8 knows one scale for all features of a sample. Beside a force of 20 000 N, a current of 0.3 A is always 0.
Most exporters keep the scaling of features as nodes of the model; the clean-up makes it part of the first
weights, which is faster in float, and here it is taken out of them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import (
    attributes,
    batches_of_activations,
    onnx_package,
    producers,
    set_weight,
    weights,
    with_shapes,
)
from edge_opcua.compress.quantise.prepare import heavy_nodes

Floats = npt.NDArray[np.float64]

GAIN: Final = 10.0
"""How many times less noise, in power, makes two more nodes worth it."""
_OFF: Final = 0.5
"""Distance of the middle of a feature's range from zero, in half ranges, from which on it is shifted."""


@dataclass(frozen=True, slots=True)
class _Scaling:
    """How the features of a node are brought to one scale: ``(x - shift) / scale``.

    Args:
        scale: Of each feature, a power of two, so that the weights are as precise as before.
        shift: Of each feature; 0 where a node pads with zeros or has no bias to take it.
    """

    scale: Floats
    shift: Floats


def standardise(model: Any, rows: Rows) -> tuple[Any, list[str]]:
    """Bring features of different units to one scale, where INT8 would else wipe out the small ones.

    Args:
        model: As ``prepare`` returns it; is changed.
        rows: Calibration samples.

    Returns:
        The model, which answers the same but for the last bits, and the names of the nodes that scale; they
        have to stay in float.
    """
    first = _first_nodes(model)
    bounds = _bounds(model, first, rows)
    added: list[str] = []
    for node in first:
        found = _scaling(node, weights(model)[node.input[1]], *bounds[node.name])
        if found is not None:
            added += _write(model, node, found)
    return (with_shapes(model) if added else model), added


def _first_nodes(model: Any) -> list[Any]:
    """Return the nodes with weights that see the inputs as they are, or nearly so."""
    known, made_by = weights(model), producers(model)
    heavy = {node.name for node in heavy_nodes(model)}
    after: set[str] = set()
    found = []
    for node in model.graph.node:
        is_after = any(made_by[name].name in heavy | after for name in node.input if name in made_by)
        if is_after:
            after.add(node.name)
        elif node.name in heavy and _is_plain(node, known):
            found.append(node)
    return found


def _is_plain(node: Any, known: Mapping[str, Any]) -> bool:
    given = attributes(node)
    if node.op_type == "Conv":
        return bool(given.get("group", 1) == 1)
    has_bias = len(node.input) < 3 or not node.input[2] or known.get(node.input[2], np.zeros(0)).ndim == 1
    return known[node.input[1]].ndim == 2 and not given.get("transA", 0) and has_bias


def _axis(node: Any) -> int:
    """Return the axis of the weight that counts features."""
    if node.op_type == "Conv":
        return 1
    return 1 if attributes(node).get("transB", 0) else 0


def _bounds(model: Any, nodes: list[Any], rows: Rows) -> dict[str, tuple[Floats, Floats]]:
    """Return the smallest and the largest value of each feature, by node."""
    found: dict[str, tuple[Floats, Floats]] = {}
    names = list(dict.fromkeys(node.input[0] for node in nodes))
    for batch in batches_of_activations(model, names, rows) if names else ():
        for node in nodes:
            values = np.moveaxis(batch[node.input[0]], 1 if node.op_type == "Conv" else -1, -1)
            values = values.reshape(-1, values.shape[-1]).astype(np.float64)
            low, high = found.get(node.name, (np.inf, -np.inf))
            found[node.name] = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    return found


def _scaling(node: Any, weight: npt.NDArray[Any], low: Floats, high: Floats) -> _Scaling | None:
    """Return how the features are brought to one scale; None if that gains little."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None  # calibration says which
    half = (high - low) / 2.0
    middle = (high + low) / 2.0
    shift = np.where(np.abs(middle) > _OFF * half, middle, 0.0)
    if node.op_type != "Gemm":
        shift = np.zeros_like(middle)
    reach = np.maximum(np.abs(high - shift), np.abs(low - shift))
    scale = 2.0 ** np.ceil(np.log2(np.where(reach > 0.0, reach, 1.0)))
    heard = np.square(np.moveaxis(weight, _axis(node), 0)).reshape(len(low), -1).sum(axis=1)
    now = (max(high.max(), 0.0) - min(low.min(), 0.0)) ** 2 * heard.sum()
    then = 4.0 * np.sum(np.where(reach > 0.0, scale, 0.0) ** 2 * heard)
    return _Scaling(scale, shift.astype(np.float32).astype(np.float64)) if now > GAIN * then else None


def _write(model: Any, node: Any, found: _Scaling) -> list[str]:
    helper = onnx_package().helper
    arrays = weights(model)
    weight, axis = arrays[node.input[1]].astype(np.float64), _axis(node)
    per_feature = [1] * weight.ndim
    per_feature[axis] = -1
    place = next(number for number, each in enumerate(model.graph.node) if each.name == node.name)
    shape = (1, -1, *[1] * (weight.ndim - 2)) if node.op_type == "Conv" else (-1,)
    at, added = node.input[0], [f"{node.name}_scale"]
    if found.shift.any():
        outputs = weight.shape[1 - axis]
        bias = arrays[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(outputs)
        moved = bias + np.tensordot(weight, found.shift, axes=([axis], [0]))
        del node.input[2:]
        node.input.append(f"{node.name}_shifted")
        set_weight(model, node.input[2], moved.astype(np.float32))
        at = _insert(model, helper, place, "Sub", at, f"{node.name}_shift", found.shift.reshape(shape))
        place += 1
        added.insert(0, f"{node.name}_shift")
    at = _insert(model, helper, place, "Mul", at, f"{node.name}_scale", (1.0 / found.scale).reshape(shape))
    scaled = f"{node.name}_scaled"
    set_weight(model, scaled, (weight * found.scale.reshape(per_feature)).astype(np.float32))
    node.input[0], node.input[1] = at, scaled
    return added


def _insert(model: Any, helper: Any, place: int, kind: str, source: str, name: str, constant: Floats) -> str:
    set_weight(model, f"{name}_constant", constant.astype(np.float32))
    node = helper.make_node(kind, [source, f"{name}_constant"], [f"{name}_made"], name=name)
    model.graph.node.insert(place, node)
    return f"{name}_made"
