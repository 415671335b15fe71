"""In which order the channels of a layer can be spared: by what the layers behind them would lose.

Without a refit, a channel is worth its energy times the squared weights by which the next layer takes it.
With a refit, that layer can say the same with what is left, so only what is *not* in the other channels
counts: with the covariance H of the channels and the weights W, removing channel u costs
``|W_u|² / [H⁻¹]_uu`` after the best correction of the others. Channels are removed one after the other, H⁻¹
and W kept up to date.

Source:
    Hassibi, Stork, Second order derivatives for network pruning: Optimal Brain Surgeon, NIPS 1992 (the cost
    of a weight and the correction); Molchanov et al., Importance Estimation for Neural Network Pruning,
    CVPR 2019 (costs of several layers are comparable as shares of what they pass on).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import batches_of_activations, weights
from edge_opcua.compress.prune.channels import Coupling, Layer, Units

Floats = npt.NDArray[np.float64]

_PLACES: Final = 4_096
"""Places of a batch that are looked at: neighbours in a picture say much the same."""
_RIDGE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Ranking:
    """The units of a group in the order in which they can be spared.

    Args:
        units: The units, the most dispensable first.
        damage: What removing each of them costs once those before it are gone, as a share of what the layers
            behind pass on; never falling.
    """

    units: Units
    damage: Floats


@dataclass(frozen=True, slots=True)
class _Taker:
    """A layer that takes channels.

    Args:
        units: Its units, sorted.
        moments: Mean of the products of each two channels, shape ``(units, units)``.
        weights: Its weights, shape ``(units, whatever it makes of one)``.
    """

    units: Units
    moments: Floats
    weights: Floats


def rank(model: Any, coupling: Coupling, rows: Rows, *, refit: bool) -> list[Ranking]:
    """Return for each group of units in which order they can be spared.

    Args:
        model: The opened graph that was traced.
        coupling: What came of it.
        rows: Samples to calibrate with, shape ``(n, …)``.
        refit: Whether the layers behind will be fitted anew.
    """
    takers = _takers(model, coupling, rows, centred=refit)
    order = _by_what_is_new if refit else _by_energy
    return [order(group, takers) for group in coupling.groups()]


def _takers(model: Any, coupling: Coupling, rows: Rows, *, centred: bool) -> list[_Taker]:
    layers = [layer for layer in coupling.layers if not coupling.frozen.issuperset(layer.inputs.tolist())]
    sources = list(dict.fromkeys(layer.source for layer in layers))
    axes = {layer.source: _channel_axis(layer) for layer in layers}
    inputs = {layer.source: layer.inputs for layer in layers}
    count = dict.fromkeys(sources, 0)
    sums: dict[str, Any] = dict.fromkeys(sources, 0.0)
    products: dict[str, Any] = dict.fromkeys(sources, 0.0)
    for batch in batches_of_activations(model, sources, rows):
        for name in sources:
            table = _by_unit(np.moveaxis(batch[name], axes[name], -1), inputs[name])
            count[name] += len(table)
            sums[name] += table.sum(0)
            products[name] += table.T @ table
    known = weights(model)
    found = []
    for layer in layers:
        name = layer.source
        moments = products[name] / count[name]
        if centred:
            mean = sums[name] / count[name]
            moments = moments - np.outer(mean, mean)
        table = np.moveaxis(known[layer.weight].astype(np.float64), layer.axis, -1)
        by_unit = _by_unit(table, layer.inputs, thinned=False)
        found.append(_Taker(np.unique(layer.inputs), moments, by_unit.T))
    return found


def _channel_axis(layer: Layer) -> int:
    return -1 if layer.kind == "MatMul" else 1


def _by_unit(array: npt.NDArray[Any], units: Units, *, thinned: bool = True) -> Floats:
    """Return values with the channels last as a table of one column per unit, sorted by unit.

    A unit with several channels has a row for each of them; if not all have as many, their sum stands there.
    """
    table = array.reshape(-1, array.shape[-1])
    if thinned and len(table) > _PLACES:
        table = table[:: -(-len(table) // _PLACES)]
    table = table.astype(np.float64)
    several, counts = np.unique(units, return_counts=True)
    order = np.argsort(units, kind="stable")
    if (counts == counts[0]).all():
        shaped = table[:, order].reshape(len(table), len(several), counts[0])
        return np.ascontiguousarray(shaped.transpose(0, 2, 1).reshape(-1, len(several)))
    return np.add.reduceat(table[:, order], np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=1)


def _by_energy(group: Units, takers: Sequence[_Taker]) -> Ranking:
    """Rank by energy times the squared weights of the next layers."""
    cost = np.zeros(len(group))
    for taker in takers:
        where = np.isin(taker.units, group)
        energy = np.diag(taker.moments) * (taker.weights**2).sum(1)
        cost[np.searchsorted(group, taker.units[where])] += energy[where] / _positive(energy.sum())
    order = np.argsort(cost, kind="stable")
    return Ranking(group[order], np.maximum.accumulate(cost[order]))


class _Elimination:
    """One layer behind a group, while units of it are removed.

    Args:
        taker: The layer.
        group: The units that will be removed, sorted.
    """

    def __init__(self, taker: _Taker, group: Units) -> None:
        size = len(taker.units)
        ridge = _RIDGE * _positive(np.trace(taker.moments) / size)
        self._inverse = np.linalg.inv(taker.moments + ridge * np.eye(size))
        self._weights = taker.weights.copy()
        self._scale = _positive(float(np.einsum("ui,uv,vi->", taker.weights, taker.moments, taker.weights)))
        self.where = np.flatnonzero(np.isin(taker.units, group))
        self.places = np.searchsorted(group, taker.units[self.where])

    def costs(self) -> Floats:
        """Return what removing each of the group's units costs now."""
        norms = (self._weights[self.where] ** 2).sum(1)
        found: Floats = norms / np.maximum(np.diag(self._inverse)[self.where], 1e-30) / self._scale
        return found

    def remove(self, place: int) -> None:
        """Remove the unit at this place of the group, and correct what is left."""
        for at in self.where[self.places == place]:
            column = self._inverse[:, at] / self._inverse[at, at]
            self._weights -= np.outer(column, self._weights[at])
            self._inverse -= np.outer(column, self._inverse[at])
            self._weights[at] = 0.0
            self._inverse[at, :] = self._inverse[:, at] = 0.0


def _by_what_is_new(group: Units, takers: Iterable[_Taker]) -> Ranking:
    """Rank by what is lost after the best correction, one unit after the other."""
    behind = [_Elimination(taker, group) for taker in takers if np.isin(taker.units, group).any()]
    left = np.ones(len(group), bool)
    order, damage = [], []
    for _ in range(len(group)):
        cost = np.zeros(len(group))
        for layer in behind:
            cost[layer.places] += layer.costs()
        cost[~left] = np.inf
        place = int(np.argmin(cost))
        order.append(place)
        damage.append(float(cost[place]))
        left[place] = False
        for layer in behind:
            layer.remove(place)
    return Ranking(group[order], np.maximum.accumulate(np.array(damage)))


def _positive(value: float) -> float:
    return max(float(value), 1e-12)
