"""Removes units from a graph: weights get shorter, and whatever else says how many channels there are."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph import set_weight, weights, with_shapes
from edge_opcua.compress.graph.files import onnx_package
from edge_opcua.compress.graph.idle import drop_unused
from edge_opcua.compress.prune.channels import Coupling, Repair, Units

Mask = npt.NDArray[np.bool_]


def kept(units: Units, gone: Collection[int]) -> Mask:
    """Return which of these units stay."""
    return ~np.isin(units, np.fromiter(gone, np.int64, len(gone)))


def unshared(model: Any) -> Any:
    """Give each node its own copy of vectors and single numbers that it shares with others by chance.

    Tables stay shared: those that two layers share are meant to be the same.
    """
    known, used = weights(model), set[str]()
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            if name not in known or sum(length > 1 for length in known[name].shape) > 1:
                continue
            if name in used:
                own = f"{name}.of.{node.name}.{at}"
                set_weight(model, own, known[name])
                node.input[at] = own
            used.add(name)
    return model


def without(model: Any, coupling: Coupling, gone: Collection[int]) -> Any:
    """Return a copy of the model that lacks these units, its other weights as they were.

    Args:
        model: The opened graph that was traced.
        coupling: What came of it.
        gone: Units to remove.
    """
    smaller = onnx_package().ModelProto()
    smaller.CopyFrom(model)
    arrays = weights(model)
    for cut in coupling.cuts:
        mask = kept(cut.units, gone)
        if not mask.all():
            arrays[cut.weight] = np.compress(mask, arrays[cut.weight], axis=cut.axis)
            set_weight(smaller, cut.weight, arrays[cut.weight])
    nodes = {node.name: node for node in smaller.graph.node}
    for repair in coupling.repairs:
        counts = [int(kept(part, gone).sum()) for part in repair.parts]
        if counts != [len(part) for part in repair.parts]:
            _repair(smaller, nodes[repair.node], repair, counts, arrays)
    drop_unused(smaller)
    return with_shapes(smaller)


def _repair(model: Any, node: Any, repair: Repair, counts: list[int], arrays: dict[str, Any]) -> None:
    if repair.what == "group":
        for attribute in node.attribute:
            if attribute.name == "group":
                attribute.i = counts[0]
        return
    if repair.what == "split":
        numbers = np.array(counts, np.int64)
    else:
        numbers = arrays[node.input[1]].copy()
        if numbers[repair.axis] > 0:  # -1 and 0 follow from what goes in
            numbers[repair.axis] = counts[0]
    name = f"{node.name}.numbers"
    set_weight(model, name, numbers)
    node.input[1] = name
