"""Quantisation-aware training: the model learns with the rounding of INT8 in it.

What is trained is the INT8 graph itself, as ONNX Runtime's quantiser made it: its rounding is felt, its
scales are learned too, and the levels that come of it are written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.graph import save_graph, weights
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.quantise.compact import compact
from edge_opcua.compress.quantise.guide import int8_kinds
from edge_opcua.compress.quantise.inputs import standardise
from edge_opcua.compress.quantise.prepare import prepare
from edge_opcua.compress.quantise.quantiser import quantised, ranged
from edge_opcua.compress.quantise.ranges import observe, ranges
from edge_opcua.compress.quantise.recipe import Int8, read_int8
from edge_opcua.compress.quantise.running import require_running
from edge_opcua.compress.quantise.static import is_quantisable, variant_of
from edge_opcua.compress.train.lesson import KEYS, lesson_for, read_lesson
from edge_opcua.compress.train.samples import knows_truth, lesson_data
from edge_opcua.compress.train.torchlib import has_torch, require_torch
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError

RATE: Final = 1e-3
_INT8: Final = frozenset(each.name for each in fields(Int8))


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Quantise the parent, train what came of it with the answers of the original, and write it.

    Raises:
        ModelError: PyTorch is missing (M690), the graph has nodes that cannot be trained here (M691), the
            recipe or the samples do not fit (M679, M692), or it cannot be quantised (M678, M680).
    """
    require_torch()
    from edge_opcua.compress.train.pupil import Pupil, lecture_of

    lesson, recipe = read_lesson(variant.recipe, besides=_INT8), read_int8(variant.recipe, besides=KEYS)
    if recipe.format != "qdq" or recipe.bias_correction:
        raise ModelError('training with INT8 needs format = "qdq", and corrects biases itself', code="M692")
    progress(0.0, "quantising")
    rows = kitchen.calibration.rows
    model, _ = standardise(prepare(source), rows)
    found = ranges(observe(model, ranged(model), rows), recipe.calibration)
    made, said = quantised(model, found, recipe)
    data = lesson_data(kitchen, lesson)
    progress(0.05, "asking the original")
    lecture = lecture_of(kitchen.original, kitchen.task.outputs, data.rows)
    pupil = Pupil(made, kitchen, data, lesson, lecture=lecture, floats=weights(model))
    notes = pupil.study(lambda share, text: progress(0.1 + 0.85 * share, text))
    compact(made)
    notes["signal_to_noise_db"] = require_running(model, made, rows)
    save_graph(made, target)
    return notes | ({"said": said} if said else {})


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:
    """Return INT8 that was trained, with a scale per tensor and per channel.

    Nothing without PyTorch, samples to train with, or something to quantise.
    """
    kinds = int8_kinds(kitchen.device)
    if not has_torch() or kitchen.training is None or not kinds or not is_quantisable(onnx_path):
        return []
    loss: Any = "labels" if knows_truth(kitchen) else "teacher"
    lesson = lesson_for(len(kitchen.training), rate=RATE, loss=loss)
    found = []
    for per_channel in (True,) if kinds[0].per_channel else (True, False):
        variant = variant_of(replace(kinds[0], per_channel=per_channel), prefix="qat", family="qat")
        recipe = {**variant.recipe, **lesson.as_recipe()}
        found.append(replace(variant, recipe=recipe, text=f"{variant.text}; trained with its rounding"))
    return found
