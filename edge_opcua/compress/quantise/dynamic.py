"""Makes INT8 variants whose ranges are measured at every run: nothing to calibrate, more to compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_opcua.compress.graph import save_graph
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.quantise.compact import compact
from edge_opcua.compress.quantise.guide import needs_7_bits
from edge_opcua.compress.quantise.inputs import standardise
from edge_opcua.compress.quantise.prepare import dynamic_nodes, prepare_dynamic
from edge_opcua.compress.quantise.quantiser import quantised_dynamically
from edge_opcua.compress.quantise.recipe import Dynamic, read_dynamic
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Write the variant, and return what became of its nodes.

    Raises:
        ModelError: The recipe is unknown (M679), the model has nothing to quantise (M678), or it cannot be
            done (M680).
    """
    recipe = read_dynamic(variant.recipe)
    model, _ = standardise(prepare_dynamic(source), kitchen.calibration.rows)
    nodes = dynamic_nodes(model, convolutions=recipe.convolutions)
    if not nodes:
        raise ModelError("the model has no matrix product with constant weights", code="M678")
    progress(0.3, "quantising")
    made, said = quantised_dynamically(model, recipe)
    compact(made)
    save_graph(made, target)
    return {"whole_nodes": len(nodes)} | ({"said": said} if said else {})


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return one variant for models of matrix products or LSTMs on a processor, else nothing.

    Convolutions with ranges measured at run time have no fast kernel: three times slower than float.
    """
    if kitchen.device.provider.lower() != "cpu":
        return []
    try:
        model = prepare_dynamic(onnx_path)
    except ModelError as exc:
        if exc.code in ("M678", "M680"):
            return []
        raise
    products = dynamic_nodes(model, convolutions=False)
    if not products or len(products) < len(dynamic_nodes(model, convolutions=True)):
        return []
    recipe = Dynamic(reduce_range=needs_7_bits(kitchen.device))
    return [
        Variant(
            "int8-dynamic",
            "int8-dynamic",
            recipe.as_recipe(),
            text="INT8 weights, ranges measured at every run",
        )
    ]


def also(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return what is known to be slow on processors, for those who want to see it measured."""
    try:
        nodes = dynamic_nodes(prepare_dynamic(onnx_path), convolutions=True)
    except ModelError as exc:
        if exc.code in ("M678", "M680"):
            return []
        raise
    if not any(node.op_type == "Conv" for node in nodes):
        return []
    recipe = Dynamic(weight="u8", convolutions=True, reduce_range=needs_7_bits(kitchen.device))
    return [
        Variant(
            "int8-dynamic-convolutions",
            "int8-dynamic",
            recipe.as_recipe(),
            text="INT8 weights in convolutions too, ranges measured at every run",
        )
    ]
