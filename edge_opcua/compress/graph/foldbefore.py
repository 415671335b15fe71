"""Folding forward: a normalisation of what goes into a layer becomes part of the layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_opcua.compress.graph.folding import (
    FOLDED,
    Array,
    LinearLayer,
    Terms,
    elementwise_terms,
    layer_of,
    norm_terms,
    rewrite,
)
from edge_opcua.compress.graph.structure import attributes, consumers, weights


def fold_before(model: Any) -> int:
    """Fold factors, shifts and batch normalisations into the one layer behind them; return how many.

    A shift only where the layer does not pad: what it pads with is 0 after the shift, not before.
    """
    count = 0
    constant = weights(model)
    answers = {output.name for output in model.graph.output}
    for node in [node for node in model.graph.node if node.op_type in FOLDED]:
        takers = consumers(model).get(node.output[0], [])
        layer = layer_of(takers[0], constant) if len(takers) == 1 and node.output[0] not in answers else None
        if layer is None or list(layer.node.input).count(node.output[0]) != 1:
            continue
        channels = _inputs(layer)
        terms = elementwise_terms(node, constant, channels, layer.axes) if channels else None
        terms = terms or (norm_terms(node, constant, channels, layer.axes) if channels else None)
        if terms is None or not _allowed(layer, terms):
            continue
        constant |= rewrite(model, layer, *_taken_in(layer, terms))
        layer.node.input[0] = next(name for name in node.input if name not in constant)
        model.graph.node.remove(node)
        count += 1
    return count


def _inputs(layer: LinearLayer) -> int:
    """Return how many channels a layer takes; 0 if each output takes only some of them."""
    given = attributes(layer.node)
    if given.get("group", 1) != 1 or layer.node.op_type == "ConvTranspose" or given.get("transA", 0):
        return 0
    return int(layer.weight.shape[1 - layer.axis])


def _allowed(layer: LinearLayer, terms: Terms) -> bool:
    factor, shift = terms
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        return False
    given = attributes(layer.node)
    pads = any(given.get("pads", ())) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    return not (pads and shift.any())


def _taken_in(layer: LinearLayer, terms: Terms) -> tuple[Array, Array]:
    """Return weights and bias of a layer that does the scaling and shifting of its inputs itself."""
    factor, shift = terms
    shape = [1] * layer.weight.ndim
    shape[1 - layer.axis] = -1
    others = tuple(axis for axis in range(layer.weight.ndim) if axis != layer.axis)
    moved = (layer.weight * shift.reshape(shape)).sum(axis=others, dtype=np.float64)
    return layer.weight * factor.reshape(shape), layer.bias + moved
