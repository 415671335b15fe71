"""Makes INT8 variants whose ranges are calibrated on samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.graph import save_graph
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.quantise.bias import corrected
from edge_opcua.compress.quantise.compact import compact
from edge_opcua.compress.quantise.equalise import equalise, is_uneven
from edge_opcua.compress.quantise.guide import int8_kinds
from edge_opcua.compress.quantise.halfweights import halve_weights
from edge_opcua.compress.quantise.inputs import standardise
from edge_opcua.compress.quantise.prepare import heavy_nodes, prepare
from edge_opcua.compress.quantise.quantiser import quantised, ranged
from edge_opcua.compress.quantise.ranges import Range, observe, ranges
from edge_opcua.compress.quantise.recipe import Int8, Method, read_int8
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

METHODS: Final[tuple[Method, ...]] = ("minmax", "percentile", "entropy")


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Write the variant, and return what became of its nodes.

    Raises:
        ModelError: The recipe is unknown (M679), the model has nothing to quantise (M678), or it cannot be
            done (M680).
    """
    recipe = read_int8(variant.recipe)
    rows = kitchen.calibration.rows
    model, scaled = standardise(prepare(source), rows)
    notes: dict[str, Any] = {"samples": len(rows)} | ({"scaled_inputs": scaled} if scaled else {})
    if recipe.equalise:
        notes["equalised_channels"] = equalise(model)
    progress(0.05, "calibrating")
    found = ranges(observe(model, ranged(model), rows), recipe.calibration)
    if recipe.bias_correction:
        if recipe.format != "qdq":
            raise ModelError('bias_correction needs format = "qdq"', code="M679")
        model, notes["corrections"] = corrected(
            model, found, recipe, rows, lambda share, text: progress(0.3 + 0.6 * share, text)
        )
    progress(0.9, "quantising")
    return notes | write_int8(model, found, recipe, target)


def write_int8(model: Any, found: Mapping[str, Range], recipe: Int8, target: Path) -> dict[str, Any]:
    """Quantise a model with known ranges, and write it.

    Args:
        model: As ``prepare`` returns it.
        found: Ranges of the tensors of ``ranged``.
        recipe: How; of ``calibration`` and ``bias_correction`` nothing is left to do.
        target: The file.

    Returns:
        For the report: nodes in INT8 and in float, and what the quantiser had to say.

    Raises:
        ModelError: It cannot be done (M680).
    """
    made, said = quantised(model, found, recipe)
    whole = [node.name for node in heavy_nodes(model) if node.name not in recipe.exclude]
    half = halve_weights(made) if recipe.half_rest else 0
    compact(made)
    save_graph(made, target)
    notes: dict[str, Any] = {
        "whole_nodes": len(whole),
        "float_nodes": sorted(recipe.exclude),
    }
    if half:
        notes["half_weights"] = half
    return notes | ({"said": said} if said else {})


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return the INT8 variants that are worth trying on this device.

    Every method, for each tensor and each channel, with the best kind of whole numbers; the cheapest method
    with the other kinds; and corrected biases, also with channels made alike where they are very uneven.
    Nothing if the model has nothing to quantise.
    """
    kinds = int8_kinds(kitchen.device)
    model = quantisable_or_none(onnx_path)
    if not kinds or model is None:
        return []
    best = kinds[0]
    scales = (True,) if best.per_channel else (False, True)
    wanted = [replace(best, calibration=method, per_channel=each) for method in METHODS for each in scales]
    for equal in (False, True) if is_uneven(model) else (False,):
        mended = replace(best, bias_correction=True, equalise=equal)
        wanted += [replace(mended, per_channel=each) for each in scales]
    wanted += [replace(kind, per_channel=each) for kind in kinds[1:] for each in (False, True)]
    return [variant_of(each) for each in wanted]


def also(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:  # noqa: ARG001 - another family may look at it
    """Return what is known to do harm on processors, for those who want to see it measured."""
    if not is_quantisable(onnx_path):
        return []
    return [
        Variant(
            f"qoperator-{each.activation}",
            "int8-static",
            each.as_recipe(),
            text=f"INT8 in integer operators, {each.activation} activations",
        )
        for each in (Int8(format="qoperator", activation="s8"), Int8(format="qoperator"))
    ]


def is_quantisable(onnx_path: Path) -> bool:
    """Return whether INT8 finds something to do in a model."""
    return quantisable_or_none(onnx_path) is not None


def variant_of(recipe: Int8, *, prefix: str = "int8", family: Any = "int8-static") -> Variant:
    """Return a recipe as a variant, named after what sets it apart."""
    scale = "channel" if recipe.per_channel else "tensor"
    parts = [prefix, recipe.calibration, scale, recipe.activation + recipe.weight]
    text = [
        f"INT8, ranges by {recipe.calibration}, a scale per {scale}",
        f"{recipe.activation} activations and {recipe.weight} weights",
    ]
    for asked, part, words in (
        (recipe.reduce_range, "7bit", "weights of 7 bits"),
        (recipe.symmetric, "symmetric", "symmetric ranges"),
        (recipe.equalise, "equal", "channels of like size"),
        (recipe.bias_correction, "bias", "corrected biases"),
    ):
        if asked:
            parts.append(part)
            text.append(words)
    return Variant("-".join(parts), family, recipe.as_recipe(), text=", ".join(text))


def quantisable_or_none(onnx_path: Path) -> Any:
    """Return the model ready to be quantised; None if there is nothing to do."""
    try:
        return prepare(onnx_path)
    except ModelError as exc:
        if exc.code in ("M678", "M680"):
            return None
        raise
