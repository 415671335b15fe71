"""Fine-tuning: a pruned model learns again what is true."""

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


def make(
    variant: Variant, source: Path, target: Path, kitchen: Kitchen, progress: Progress
) -> Mapping[str, Any]:
    """Train the graph of the parent with what is true, and write it.

    Raises:
        ModelError: PyTorch is missing (M690), the graph has nodes that cannot be trained here (M691), or the
            recipe or the samples do not fit (M692).
    """
    require_torch()
    from edge_opcua.compress.train.pupil import Pupil

    lesson = read_lesson(variant.recipe)
    progress(0.0, "starting")
    model = open_graph(source)
    notes = Pupil(model, kitchen, lesson_data(kitchen, lesson), lesson).study(progress)
    save_graph(model, target)
    return notes


def proposals(onnx_path: Path, kitchen: Kitchen) -> list[Variant]:  # noqa: ARG001 - any graph may be tried
    """Return one lesson if there are samples to train with whose truth is known; nothing without PyTorch."""
    if kitchen.training is None or not has_torch() or not knows_truth(kitchen):
        return []
    lesson = lesson_for(len(kitchen.training), rate=RATE, loss="labels")
    return [Variant("tuned", "tuned", lesson.as_recipe(), text="trained again with what is true")]
