"""Between which values what flows through a model lies: seen on samples, and cut where that costs least.

ONNX Runtime's own calibration keeps every value of every sample in memory, prints what it does, and its
entropy method considers one range only, the whole one; so the model runs here, twice, some samples at a time.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import batches_of_activations
from edge_opcua.compress.quantise.recipe import Method
from edge_opcua.errors import ModelError

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Range = tuple[float, float]

BINS: Final = 2048
CUT: Final = 1e-4
"""Share of the values that the percentile method cuts off at each end."""
LEVELS: Final = 128
"""Steps of one sign, of 8 bits."""
_STRIDE: Final = 32


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the values of a tensor lay.

    Args:
        low: The smallest.
        high: The largest.
        counts: How many lay in each of ``BINS`` parts of equal width from ``low`` to ``high``.
    """

    low: float
    high: float
    counts: Counts

    def range_by(self, method: Method) -> Range:
        """Return the range that a method chooses; never wider than what was seen."""
        if method == "minmax" or self.high <= self.low:
            return self.low, self.high
        return _METHODS[method](self)

    def edges(self) -> Floats:
        """Return the bounds of the parts, shape ``(BINS + 1,)``."""
        return np.linspace(self.low, self.high, BINS + 1)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of a model.

    Args:
        image: Its hash.
        names: Tensors.
        rows: Samples, as long as somebody else needs them.
        spreads: Where the values lay.
    """

    image: bytes
    names: tuple[str, ...]
    rows: weakref.ReferenceType[Rows]
    spreads: Mapping[str, Spread]

    def is_of(self, image: bytes, names: Sequence[str], rows: Rows) -> bool:
        """Return whether it is of this model, these tensors and these very samples."""
        return self.image == image and self.names == tuple(names) and self.rows() is rows


_LAST: Final[list[_Seen]] = []


def observe(model: Any, names: Sequence[str], rows: Rows) -> Mapping[str, Spread]:
    """Run the model on samples and return where the values of some tensors lay.

    What was seen last is remembered: most variants of a search are made of the same model and samples, and
    running it is most of the work.

    Args:
        model: An ``onnx.ModelProto`` in float.
        names: Tensors: the input, or outputs of nodes.
        rows: Samples, shape ``(n, …)``.

    Raises:
        ModelError: There are no samples, or a tensor has values that are no numbers (M680).
    """
    if not len(rows) or not names:
        raise ModelError("there are no samples to calibrate with", code="M680")
    image = hashlib.sha256(model.SerializeToString(deterministic=True)).digest()
    if not (_LAST and _LAST[0].is_of(image, names, rows)):
        _LAST[:] = [_Seen(image, tuple(names), weakref.ref(rows), _look(model, names, rows))]
    return _LAST[0].spreads


def _look(model: Any, names: Sequence[str], rows: Rows) -> dict[str, Spread]:
    bounds: dict[str, Range] = {}
    for batch in batches_of_activations(model, names, rows):
        for name, values in batch.items():
            if not values.size:
                continue
            low, high = bounds.get(name, (np.inf, -np.inf))
            bounds[name] = float(np.minimum(low, values.min())), float(np.maximum(high, values.max()))
    for name, found in bounds.items():
        if not np.isfinite(found).all():  # the minimum of what holds a NaN is a NaN
            raise ModelError(f'"{name}" has values that are no numbers for some samples', code="M680")
    return _counted(batches_of_activations(model, names, rows), bounds)


def ranges(spreads: Mapping[str, Spread], method: Method) -> dict[str, Range]:
    """Return the range of each tensor by a method.

    ``minmax``: all that was seen. ``percentile``: all but ``CUT`` of the values at each end. ``entropy``: cut
    where the distribution that 8 bits can express differs least from that of the values.

    Source:
        S. Migacz, 8-bit Inference with TensorRT, GTC 2017 (entropy).
    """
    return {name: spread.range_by(method) for name, spread in spreads.items()}


def _counted(batches: Iterable[Mapping[str, Any]], bounds: Mapping[str, Range]) -> dict[str, Spread]:
    counts = {name: np.zeros(BINS, np.int64) for name in bounds}
    for batch in batches:
        for name, (low, high) in bounds.items():
            if high > low:
                counts[name] += np.histogram(batch[name], BINS, range=(low, high))[0]
    return {name: Spread(low, high, counts[name]) for name, (low, high) in bounds.items()}


def _percentile(spread: Spread) -> Range:
    """Cut both ends off, within the part where the limit lies in proportion."""
    below = np.concatenate([[0], np.cumsum(spread.counts)]).astype(np.float64)
    low, high = np.interp([CUT * below[-1], (1.0 - CUT) * below[-1]], below, spread.edges())
    return float(low), float(high)


def _entropy(spread: Spread) -> Range:
    """Cut at the distance from zero where the Kullback-Leibler divergence is least."""
    farthest = max(abs(spread.low), abs(spread.high))
    edges = spread.edges()
    middles = np.abs(edges[:-1] + edges[1:]) / 2.0
    by_distance, _ = np.histogram(middles, BINS, range=(0.0, farthest), weights=spread.counts)
    by_distance[0] = by_distance[1]  # zeros, which a Relu makes by the thousand, are exact at any scale
    if not by_distance.any():
        return spread.low, spread.high
    candidates = range(LEVELS, BINS + 1, _STRIDE)
    divergences = [_divergence(by_distance, bins) for bins in candidates]
    cut = candidates[int(np.argmin(divergences))] / BINS * farthest
    low, high = max(spread.low, -cut), min(spread.high, cut)
    return (low, high) if low < high else (spread.low, spread.high)


def _divergence(counts: Floats, bins: int) -> float:
    """Return how much is lost if only the first bins are kept, in ``LEVELS`` steps; in nats.

    What is cut off counts as the last step does. Steps spread what they hold evenly over their bins that are
    not empty.
    """
    kept = counts[:bins].copy()
    starts = np.linspace(0, bins, LEVELS + 1).astype(np.intp)[:-1]
    filled = (kept > 0).astype(np.float64)
    width = np.diff(np.append(starts, bins))
    merged = np.add.reduceat(kept, starts) / np.maximum(np.add.reduceat(filled, starts), 1.0)
    expressed = np.repeat(merged, width) * filled
    kept[-1] += counts[bins:].sum()
    wanted = kept / kept.sum()
    given = np.maximum(expressed / max(expressed.sum(), 1.0), 1e-9)
    some = wanted > 0
    return float(np.sum(wanted[some] * np.log(wanted[some] / given[some])))


_METHODS: Final[Mapping[str, Callable[[Spread], Range]]] = {"percentile": _percentile, "entropy": _entropy}
