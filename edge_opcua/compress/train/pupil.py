"""A graph that learns: opened, held against ONNX Runtime, taught, and written where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edge_opcua.compress.dataset import Dataset, Rows
from edge_opcua.compress.graph import open_graph
from edge_opcua.compress.making import Kitchen, Progress
from edge_opcua.compress.train.goal import SOME, Goal, from_teacher, from_truth
from edge_opcua.compress.train.lesson import Lesson
from edge_opcua.compress.train.loop import Learned, learn
from edge_opcua.compress.train.network import Network, require_alike
from edge_opcua.compress.train.teacher import Lecture, ask
from edge_opcua.compress.train.torchlib import is_small, repeatable
from edge_opcua.compress.train.wiring import head_of
from edge_opcua.errors import ModelError

Tensor = Any


class Pupil:
    """A graph that learns.

    Args:
        model: The ``onnx.ModelProto``; trained weights are put into it.
        kitchen: What there is to learn from.
        lesson: How it is trained.
        lecture: What the original answers to ``samples``; None if nobody asked it.
        data: The samples that it learns from.
        floats: Weights from before quantisation, by name; see :class:`Network`.

    Raises:
        ModelError: It cannot be trained here (M691), or computes something else in PyTorch (M692).
    """

    def __init__(
        self,
        model: Any,
        kitchen: Kitchen,
        data: Dataset,
        lesson: Lesson,
        *,
        lecture: Lecture | None = None,
        floats: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self._model = model
        self._kitchen = kitchen
        self._data = data
        self._lesson = lesson
        self._lecture = lecture
        self._heads = {output: head_of(model, output) for output in kitchen.task.outputs}
        known = {name for node in model.graph.node for name in node.output}
        hints = [name for name in lecture.features if name in known] if lecture else []
        wanted = dict.fromkeys([*(head.logits for head in self._heads.values()), *hints])
        self._network = Network(model, list(wanted), floats=floats)
        self._rows = torch.from_numpy(np.ascontiguousarray(data.rows))
        self._off = require_alike(self._network, model, data.rows)

    def study(self, progress: Progress) -> dict[str, Any]:
        """Train, put the weights into the model, and return notes for the report.

        Raises:
            ModelError: It cannot be trained with what is known of the samples (M692).
        """
        with repeatable(self._kitchen.seed, is_small=is_small(self._network, self._rows)):
            with torch.no_grad():
                first = self._network(self._rows[:SOME])
            goal = self._goal(first)
            network, rows = self._network, self._rows
            learned: Learned = learn(
                [*network.parameters(), *goal.parameters()],
                lambda chosen: goal(network(rows[chosen]), chosen),
                len(rows),
                self._lesson,
                seed=self._kitchen.seed,
                progress=progress,
            )
        network.write_into(self._model)
        return {
            **learned.notes(),
            "trained_weights": sum(parameter.numel() for parameter in network.layers()),
            "features_learned": goal.hints,
            "torch_deviation": round(self._off, 9),
        }

    def _goal(self, first: Mapping[str, Tensor]) -> Goal:
        lesson, task = self._lesson, self._kitchen.task.name
        truth = None
        if lesson.loss == "labels":
            if len(self._heads) != 1:
                raise ModelError("labels train a model with one answer, not several", code="M692")
            truth = from_truth(next(iter(self._heads.values())), task, self._data, first)
        if self._lecture is None:
            if truth is None:
                raise ModelError("there is neither truth nor a teacher to learn from", code="M692")
            return truth
        return from_teacher(self._heads, self._lecture, lesson, first, task=task, truth=truth)


def lecture_of(original: Path, outputs: Sequence[str], rows: Rows) -> Lecture:
    """Return what the original answers to samples.

    Raises:
        ModelError: It is no model, or cannot run (M510).
    """
    return ask(open_graph(original), outputs, rows)
