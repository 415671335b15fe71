"""Distillation: a pruned model learns to answer what the original answers, with labels or without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_opcua.compress.graph import open_graph, save_graph
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.train.lesson import lesson_for, read_lesson
from edge_opcua.compress.train.samples import knows_truth, lesson_data
from edge_opcua.compress.train.torchlib import has_torch, require_torch
from edge_opcua.compress.variant import Variant

RATE: Final = 1e-3
LEAST: Final = 64
"""Samples below which nothing is distilled: it would learn them by heart."""


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Train the graph of the parent with the answers of the original, and write it.

    Raises:
        ModelError: PyTorch is missing (M690), the graph has nodes that cannot be trained here (M691), or the
            recipe or the samples do not fit (M692).
    """
    require_torch()
    from edge_opcua.compress.train.pupil import Pupil, lecture_of

    lesson = read_lesson(variant.recipe)
    data = lesson_data(kitchen, lesson)
    progress(0.0, "asking the original")
    lecture = lecture_of(kitchen.original, kitchen.task.outputs, data.rows)
    model = open_graph(source)
    notes = Pupil(model, kitchen, data, lesson, lecture=lecture).study(progress)
    save_graph(model, target)
    return notes


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:  # noqa: ARG001 - any graph may be tried
    """Return one lesson from the original, and from the truth if it is known; nothing without PyTorch."""
    data = kitchen.calibration if kitchen.training is None else kitchen.training
    if not has_torch() or len(data) < LEAST:
        return []
    known = knows_truth(kitchen)
    lesson = lesson_for(len(data), rate=RATE, loss="labels" if known else "teacher")
    text = "learned from the answers of the original" + (" and from what is true" if known else "")
    return [Variant("distilled", "distilled", lesson.as_recipe(), text=text)]
