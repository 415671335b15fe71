"""Makes FP16 variants: of everything, for devices that compute in it; or of the weights in the file alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import (
    batches_of_activations,
    onnx_package,
    open_graph,
    save_graph,
    sort,
    with_shapes,
)
from edge_opcua.compress.graph.clean import tidy
from edge_opcua.compress.graph.idle import drop_unused
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.quantise.compact import compact
from edge_opcua.compress.quantise.guide import has_half
from edge_opcua.compress.quantise.halfweights import MOST, fits, halve_weights, large_weights
from edge_opcua.compress.quantise.inputs import standardise
from edge_opcua.compress.quantise.quantiser import said_quietly
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

_ROOM: Final = 4.0
"""Values of the calibration samples must be this much smaller: others may be larger, and sums inside too."""


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Write the variant, and return what became of its weights and nodes.

    Recipe: ``{"weights_only": bool}``. Weights only: the file is half as large, what runs is as fast and as
    precise as before, since a runtime converts constants once. Otherwise everything is computed in FP16, but
    nodes whose values come near the largest number of it.

    What came of it is not run here: ONNX Runtime 1.31 crashes on some models in FP16, and whoever asks it
    next does so in a process of its own.

    Raises:
        ModelError: The recipe is unknown (M679), there is nothing in float32 (M678), or it cannot be done
            (M680).
    """
    unknown = sorted(variant.recipe.keys() - {"weights_only"})
    if unknown:
        raise ModelError(f'a recipe of FP16 has no "{unknown[0]}", only weights_only', code="M679")
    model, _ = tidy(open_graph(source))
    progress(0.2, "converting")
    if not large_weights(model):
        raise ModelError("the model has no weights in float32 that FP16 could hold", code="M678")
    model, scaling = standardise(model, kitchen.calibration.rows)  # FP16 has steps of 0.25 at 300
    if variant.recipe.get("weights_only", False):
        made = _copied(model)
        notes: dict[str, Any] = {"half_weights": halve_weights(made)}
    else:
        made, notes = _half(model, scaling, kitchen.calibration.rows)
    compact(made)
    save_graph(made, target)
    return notes


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return FP16 as the device can use it: for computing, or for a smaller file."""
    if not large_weights(open_graph(onnx_path)):
        return []
    if has_half(kitchen.device):
        return [_everything()]
    return [
        Variant(
            "fp16-weights",
            "fp16",
            {"weights_only": True},
            text="weights kept in FP16, computed in FP32",
        )
    ]


def also(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return FP16 on processors, which convert it to FP32 and back at every run."""
    if has_half(kitchen.device) or not large_weights(open_graph(onnx_path)):
        return []
    return [_everything()]


def _everything() -> Variant:
    return Variant("fp16", "fp16", {"weights_only": False}, text="FP16")


def _copied(model: Any) -> Any:
    copy = onnx_package().ModelProto()
    copy.CopyFrom(model)
    return copy


def _half(model: Any, scaling: list[str], rows: Rows) -> tuple[Any, dict[str, Any]]:
    """Convert everything but the nodes that scale inputs, and those whose values are too large."""
    convert = _converter()
    blocked = [*scaling, *(name for name in _unfit(model, rows) if name not in scaling)]
    with said_quietly() as said:
        made = convert(model, keep_io_types=True, node_block_list=blocked)
    sort(made)  # the converter appends
    _join_casts(made)
    notes: dict[str, Any] = {"float_nodes": blocked}
    return with_shapes(made), notes | ({"said": said} if said else {})


def _join_casts(model: Any) -> None:
    """Let nodes that stay in float hand each other floats.

    The converter brings what each of them answers to FP16 and back, and there it overflows.
    """
    kinds = onnx_package().TensorProto
    lowered = {node.output[0]: node.input[0] for node in _casts(model, kinds.FLOAT16)}
    for node in _casts(model, kinds.FLOAT):
        node.input[0] = lowered.get(node.input[0], node.input[0])
    drop_unused(model)


def _casts(model: Any, kind: int) -> list[Any]:
    return [
        node
        for node in model.graph.node
        if node.op_type == "Cast" and any(each.name == "to" and each.i == kind for each in node.attribute)
    ]


def _converter() -> Any:
    """Return ONNX Runtime's converter, and take back what importing it does to where modules are sought."""
    before = list(sys.path)
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    finally:
        sys.path[:] = before
    return convert_float_to_float16


def _unfit(model: Any, rows: Rows) -> list[str]:
    """Return the names of the nodes that take or make what FP16 cannot hold with some room, or precisely."""
    kind = onnx_package().TensorProto.FLOAT
    graph = model.graph
    floats = [
        value.name
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == kind
    ]
    largest: dict[str, float] = {}
    for batch in batches_of_activations(model, list(dict.fromkeys(floats)), rows):
        for name, values in batch.items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max(initial=0.0)))
    unfit = {name for name, value in largest.items() if not value <= MOST / _ROOM}
    unfit |= {name for name, array in large_weights(model).items() if not fits(array)}
    return [node.name for node in graph.node if unfit.intersection((*node.input, *node.output))]
