"""Fits the layers behind removed channels anew, one after the other, to what the whole model computed there.

Each layer is given what the pruned model makes of the samples by now, so it also makes up for what the layers
before it could not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import attributes, batches_of_activations, consumers, set_weight, weights
from edge_opcua.compress.making import Progress
from edge_opcua.compress.prune.channels import Coupling, Layer
from edge_opcua.compress.prune.cut import kept
from edge_opcua.compress.prune.fit import DECOMPOSED, Moments, fit
from edge_opcua.compress.prune.patches import patches

Floats = npt.NDArray[np.float64]

_ROWS_PER_COLUMN: Final = 8
_ROWS_PER_COLUMN_OF_WIDE: Final = 3
_ROWS: Final = (4_000, 30_000)
"""Least and most rows of a fit; more places of the same pictures say little new."""
LARGEST: Final = 5_000
"""Columns of a fit, at most: its time grows with their cube, and its memory with their square."""
_LEFT_OUT: Final = 5


@dataclass(frozen=True, slots=True)
class Refitted:
    """What came of one layer.

    Args:
        node: Name of the node.
        before: Mean square that its answer lacked, as a share of the variance of what it should be.
        after: The same after the fit, on samples that it was not fitted to.
    """

    node: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class _Place:
    """A layer that is fitted.

    Args:
        layer: The layer.
        target: Value that is to be as it was: the answer, or the sum with the bias that follows.
        bias: Name of the bias; None if it has none.
    """

    layer: Layer
    target: str
    bias: str | None


def refit(
    original: Any,
    pruned: Any,
    coupling: Coupling,
    gone: Collection[int],
    rows: Rows,
    progress: Progress,
    seed: int,
) -> list[Refitted]:
    """Fit every layer that lost inputs, in the order of computation.

    Args:
        original: The opened graph that was traced.
        pruned: The same without the units; its weights are changed.
        coupling: What hangs together.
        gone: Units that were removed.
        rows: Samples to calibrate with.
        progress: Is told what is done.
        seed: Of the places of pictures that are looked at.
    """
    places = [place for place in _places(pruned, coupling) if not kept(place.layer.inputs, gone).all()]
    found = []
    for number, place in enumerate(places):
        progress(number / len(places), f"fitting {place.layer.node}")
        outcome = _refit(original, pruned, place, gone, rows, seed)
        if outcome is not None:
            found.append(outcome)
    return found


def _places(model: Any, coupling: Coupling) -> Iterator[_Place]:
    nodes, takers, known = {node.name: node for node in model.graph.node}, consumers(model), weights(model)
    for layer in coupling.layers:
        node = nodes[layer.node]
        given = attributes(node)
        if len(takers[layer.weight]) > 1:
            continue  # what suits one layer would spoil the other
        if layer.kind == "ConvTranspose" or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
            continue
        if layer.kind != "MatMul":
            bias = node.input[2] if len(node.input) > 2 else ""
            yield _Place(layer, layer.target, bias if bias in known else None)
            continue
        after = takers.get(layer.target, [])
        constant = [name for name in after[0].input if name in known] if len(after) == 1 else []
        if (
            constant
            and after[0].op_type == "Add"
            and known[constant[0]].shape == (known[layer.weight].shape[1],)
        ):
            yield _Place(layer, after[0].output[0], constant[0])
        else:
            yield _Place(layer, layer.target, None)


def _refit(
    original: Any, pruned: Any, place: _Place, gone: Collection[int], rows: Rows, seed: int
) -> Refitted | None:
    layer, known = place.layer, weights(pruned)
    table = _as_table(layer, known[layer.weight].astype(np.float64))
    if len(table) > LARGEST:
        return None
    bias = np.zeros(table.shape[1]) if place.bias is None else known[place.bias].reshape(-1)
    node = next(node for node in pruned.graph.node if node.name == layer.node)
    look = _Look(layer, attributes(node), known[layer.weight].shape[2:], seed)
    look.per_sample = -(-_rows_for(len(table)) // len(rows))
    stay = kept(layer.outputs, gone)
    seen, left_out, spread = Moments(*table.shape), Moments(*table.shape), Moments(1, table.shape[1])
    was = batches_of_activations(original, [place.target], rows)
    now = batches_of_activations(pruned, [layer.source], rows)
    at = 0
    for wanted, given in zip(was, now, strict=True):
        x, y = look(given[layer.source], np.compress(stay, wanted[place.target], axis=look.channel))
        chosen = (np.arange(at, at + len(x)) % _LEFT_OUT) == 0
        for mask, moments in ((~chosen, seen), (chosen, left_out)):
            some = x[mask].reshape(-1, len(table))
            moments.add(some, y[mask].reshape(-1, table.shape[1]) - some @ table - bias)
        aims = y.reshape(-1, y.shape[-1])
        spread.add(np.ones((len(aims), 1)), aims)
        at += len(x)
    found = fit(seen, left_out, with_bias=place.bias is not None or layer.kind != "MatMul")
    _write(pruned, place, node, table + found.correction, bias + found.shift)
    variance = max(spread.rr / spread.rows - float(((spread.r / spread.rows) ** 2).sum()), 1e-12)
    return Refitted(layer.node, found.before / variance, found.after / variance)


def _rows_for(columns: int) -> int:
    """Return how many rows a fit gets, if the samples have so many places."""
    each = _ROWS_PER_COLUMN if columns <= DECOMPOSED else _ROWS_PER_COLUMN_OF_WIDE
    return min(max(each * columns, _ROWS[0]), _ROWS[1])


class _Look:
    """Takes what a layer multiplies with its weights, and what it should answer, at the same places.

    Args:
        layer: The layer.
        given: Attributes of its node.
        kernel: Lengths of its kernel; empty for dense layers.
        seed: Of the places.
    """

    def __init__(self, layer: Layer, given: Mapping[str, Any], kernel: Sequence[int], seed: int) -> None:
        self.channel = -1 if layer.kind == "MatMul" else 1
        self.per_sample = 1
        self._given, self._kernel = given, tuple(kernel)
        self._random = np.random.default_rng(seed)

    def __call__(self, inputs: npt.NDArray[Any], answers: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """Return both, shapes ``(n, places, columns)`` and ``(n, places, outputs)``."""
        aims = np.moveaxis(answers, self.channel, -1)
        aims = aims.reshape(len(aims), -1, aims.shape[-1])
        count = aims.shape[1]
        places = np.arange(count)
        if count > self.per_sample:
            places = np.sort(self._random.choice(count, self.per_sample, replace=False))
        if self._kernel:
            table = patches(inputs, self._given, self._kernel, places)
        else:
            table = inputs.reshape(len(inputs), count, -1)[:, places]
        return table.astype(np.float64), aims[:, places].astype(np.float64)


def _as_table(layer: Layer, weight: Floats) -> Floats:
    """Return the weight of a layer as one column per output."""
    return weight.reshape(len(weight), -1).T if layer.axis == 1 else weight


def _write(model: Any, place: _Place, node: Any, table: Floats, bias: Floats) -> None:
    """Put a table and a bias back; a layer without bias gets one."""
    layer, known = place.layer, weights(model)
    weight = known[layer.weight]
    shaped = table.T.reshape(weight.shape) if layer.axis == 1 else table
    set_weight(model, layer.weight, shaped.astype(weight.dtype))
    if place.bias is not None:
        shape = known[place.bias].shape
        shape = shape if known[place.bias].size == bias.size else bias.shape
        set_weight(model, place.bias, bias.reshape(shape).astype(weight.dtype))
    elif layer.kind != "MatMul":
        name = f"{layer.node}.bias.fitted"
        set_weight(model, name, bias.astype(weight.dtype))
        inputs = [*node.input[:2], name]
        del node.input[:]
        node.input.extend(inputs)
