"""Makes pruned variants: channels that can be spared go, and the layers behind them are fitted anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import open_graph, save_graph, weights
from edge_opcua.compress.graph.clean import tidy
from edge_opcua.compress.graph.idle import share_twins
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.prune.channels import Coupling
from edge_opcua.compress.prune.choose import choose
from edge_opcua.compress.prune.cut import kept, unshared, without
from edge_opcua.compress.prune.rank import rank
from edge_opcua.compress.prune.refit import Refitted, refit
from edge_opcua.compress.prune.rules import trace
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

SHARES: Final = (0.2, 0.4, 0.6, 0.8)
"""Shares of the weights that are worth trying to remove: few, as each takes a place before the gate."""
MOST_SAMPLES: Final = 1_000
"""Samples that are fitted to at most: more cost time, and move the fit by less than its own error."""
_FEWEST_SAMPLES: Final = 20


@dataclass(frozen=True, slots=True)
class Pruned:
    """A model with fewer channels.

    Args:
        model: The ``onnx.ModelProto``.
        weights: How many numbers its weights are.
        weights_before: How many those of the original are.
        channels: By layer: channels that are left, and that there were.
        fitted: What the fits came to.
        unfitted: Layers that lost inputs and were not fitted: too wide, shared with another, or transposed.
    """

    model: Any
    weights: int
    weights_before: int
    channels: Mapping[str, tuple[int, int]]
    fitted: Sequence[Refitted]
    unfitted: Sequence[str]

    @property
    def share(self) -> float:
        """Share of the weights that went."""
        return 1.0 - self.weights / self.weights_before


def prune(
    model: Any, rows: Rows, share: float, *, fit: bool = True, progress: Progress | None = None, seed: int = 1
) -> Pruned:
    """Remove a share of the weights of an opened graph, channel by channel.

    Args:
        model: What :func:`open_graph` returned; it is changed.
        rows: Samples to choose and fit by, shape ``(n, …)``; nobody needs to know what is true of them.
        share: Share of all weights, above 0 and below 1.
        fit: Whether the layers behind what is removed are fitted anew.
        progress: Is told what is done.
        seed: Of the places of pictures that are looked at.

    Raises:
        ModelError: Nothing in it can be removed, or there are too few samples (M676), or not so much (M677).
    """
    tell = progress or _nobody
    if len(rows) < _FEWEST_SAMPLES:
        raise ModelError(
            f"{len(rows)} samples are too few to choose channels by; {_FEWEST_SAMPLES} are the least",
            code="M676",
        )
    if not 0.0 < share < 1.0:
        raise ModelError(f"the share of the weights to prune is {share:g}, not between 0 and 1", code="M677")
    whole = unshared(tidy(model)[0])
    coupling = trace(whole)
    if not coupling.groups():
        raise ModelError(
            "nothing can be pruned: no layer hands channels only to layers that could make up for them",
            code="M676",
        )
    tell(0.05, "ranking channels")
    gone = choose(whole, coupling, rank(whole, coupling, rows, refit=fit), share)
    smaller = without(whole, coupling, gone)
    fitted: Sequence[Refitted] = ()
    if fit:
        fitted = refit(
            whole, smaller, coupling, gone, rows, lambda done, text: tell(0.2 + 0.75 * done, text), seed
        )
    before = _numbers(whole)
    share_twins(smaller)
    lost = [layer.node for layer in coupling.layers if not kept(layer.inputs, gone).all()]
    done = {each.node for each in fitted}
    unfitted = [node for node in lost if node not in done]
    return Pruned(smaller, _numbers(smaller), before, _channels(coupling, gone), fitted, unfitted)


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Write the pruned model; see :class:`edge_opcua.compress.making.Maker`.

    The recipe: ``share`` of the weights to remove, and whether to ``refit`` (yes, if it does not say).
    Samples to train with are fitted to as well, if there are any: what the original answers is all it takes.

    Raises:
        ModelError: As :func:`prune`.
    """
    pruned = prune(
        open_graph(source),
        _samples(kitchen),
        float(variant.recipe["share"]),
        fit=bool(variant.recipe.get("refit", True)),
        progress=progress,
        seed=kitchen.seed,
    )
    save_graph(pruned.model, target)
    return {
        "weights": pruned.weights,
        "weights_before": pruned.weights_before,
        "share": round(pruned.share, 4),
        "channels": {node: f"{left} of {there}" for node, (left, there) in pruned.channels.items()},
        "lacking": {
            each.node: {"before": round(each.before, 6), "after": round(each.after, 6)}
            for each in pruned.fitted
        },
        "unfitted": list(pruned.unfitted),
    }


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return variants with more and more weights removed; none where no channel can go."""
    if len(kitchen.calibration) < _FEWEST_SAMPLES:
        return []
    model = unshared(tidy(open_graph(onnx_path))[0])
    if not trace(model).groups():
        return []
    return [
        Variant(
            f"pruned-{round(100 * share)}",
            "pruned",
            {"share": share, "refit": True},
            text=f"{share:.0%} of the weights removed, the layers behind fitted anew",
        )
        for share in SHARES
    ]


def _samples(kitchen: Kitchen) -> Rows:
    """Return the samples of the calibration, and of the training those that are not among them."""
    rows = kitchen.calibration.rows
    if kitchen.training is None:
        return rows
    known = {row.tobytes() for row in rows}
    room = max(MOST_SAMPLES - len(rows), 0)
    new = [row for row in kitchen.training.rows if row.tobytes() not in known][:room]
    return np.concatenate([rows, np.array(new, rows.dtype)]) if new else rows


def _channels(coupling: Coupling, gone: frozenset[int]) -> dict[str, tuple[int, int]]:
    counts = {
        layer.node: (int(kept(layer.outputs, gone).sum()), len(layer.outputs)) for layer in coupling.layers
    }
    return {node: (left, there) for node, (left, there) in counts.items() if left < there}


def _numbers(model: Any) -> int:
    return sum(array.size for array in weights(model).values() if np.issubdtype(array.dtype, np.floating))


def _nobody(_share: float, _text: str) -> None:
    """Take progress where nobody wants it."""
