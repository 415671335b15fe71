"""Clean-up: what a graph computes for every sample anew, or for nobody, is taken out; the answers stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph.answers import activations
from edge_opcua.compress.graph.constants import fold_constants
from edge_opcua.compress.graph.files import open_graph, save_graph, with_shapes
from edge_opcua.compress.graph.foldbefore import fold_before
from edge_opcua.compress.graph.folding import fold_affine, fold_norms, fuse_matmuls
from edge_opcua.compress.graph.idle import drop_idle, drop_remarks, drop_unused, share_twins
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

_STEPS: Final[Mapping[str, Callable[[Any], int]]] = {
    "nodes without effect": drop_idle,
    "nodes computed beforehand": fold_constants,
    "batch normalisations folded": fold_norms,
    "products and sums fused": fuse_matmuls,
    "factors and shifts folded": fold_affine,
    "normalisations of inputs folded": fold_before,
    "nodes and weights for nobody": drop_unused,
    "weights twice": share_twins,
}
_CHECKED: Final = 64
_TOLERANCE: Final = 1e-3  # of the largest answer: float32, differently ordered, in some dozen layers


def tidy(model: Any) -> tuple[Any, dict[str, int]]:
    """Take out of an opened graph what is not needed to answer the same.

    Args:
        model: What :func:`open_graph` returned; it is changed.

    Returns:
        The model with shapes inferred anew, and how often each kind of thing was done.
    """
    done: dict[str, int] = {}
    changed = True
    while changed:
        changed = False
        for what, step in _STEPS.items():
            count = step(model)
            if count:
                done[what] = done.get(what, 0) + count
                changed = True
        if changed:
            model = with_shapes(model)
    remarks = drop_remarks(model)
    if remarks:
        done["remarks of the exporter"] = remarks
    return model, done


def require_same(before: Any, after: Any, rows: Rows) -> float:
    """Return the largest difference of the answers, relative to the largest answer.

    Raises:
        ModelError: It is larger than what another order of sums explains (M675).
    """
    outputs = [output.name for output in before.graph.output]
    one, two = activations(before, outputs, rows), activations(after, outputs, rows)
    worst = 0.0
    for name in outputs:
        if not np.issubdtype(one[name].dtype, np.floating):
            continue  # classes: they follow from what is compared, or the gate finds it
        scale = max(float(np.abs(one[name]).max(initial=0.0)), 1e-6)
        worst = max(worst, float(np.abs(one[name] - two[name]).max(initial=0.0)) / scale)
    if not worst <= _TOLERANCE:
        raise ModelError(
            f"the graph answers differently after the clean-up, by {worst:.2g} of the largest answer",
            code="M675",
        )
    return worst


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Write the cleaned-up graph; see :class:`edge_opcua.compress.making.Maker`.

    Raises:
        ModelError: There is nothing to clean up, or the answers would not be the same (M675).
    """
    before = open_graph(source)
    progress(0.2, variant.text or "cleaning up")
    after, done = tidy(open_graph(source))
    if not done:
        raise ModelError("there is nothing to clean up in this graph", code="M675")
    progress(0.6, "comparing the answers")
    difference = require_same(before, after, kitchen.calibration.rows[:_CHECKED])
    save_graph(after, target)
    return {
        "done": done,
        "nodes": len(after.graph.node),
        "nodes_before": len(before.graph.node),
        "difference": difference,
    }


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:  # noqa: ARG001 - every maker has this shape
    """Return one variant if there is something to clean up."""
    if not tidy(open_graph(onnx_path))[1]:
        return []
    return [Variant("clean", "clean", text="cleaned-up graph, batch normalisation folded")]
