"""Lets a network of one's own learn from a model, and writes it as an ONNX file that answers in its place."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edge_opcua.compress.dataset import Dataset, Rows, Truth
from edge_opcua.compress.graph import activations, input_shape, open_graph, save_graph, shapes
from edge_opcua.compress.making import Progress
from edge_opcua.compress.train.goal import SOME, Goal, from_teacher, from_truth
from edge_opcua.compress.train.lesson import Lesson, lesson_for
from edge_opcua.compress.train.loop import Learned, learn
from edge_opcua.compress.train.teacher import Lecture, ask
from edge_opcua.compress.train.torchlib import is_small, repeatable
from edge_opcua.compress.train.wiring import Head
from edge_opcua.errors import ModelError

Tensor = Any

RATE: Final = 2e-3
_CHECKED: Final = 64
_ALIKE: Final = 1e-3
_LOGITS: Final = "its answers"
_TASKS: Final[Mapping[Truth, str]] = {"labels": "labels", "targets": "value", "none": "agreement"}


@dataclass(frozen=True, slots=True)
class Original:
    """A model that a student learns from.

    Args:
        path: Its ONNX file; ONNX Runtime runs it, so it may hold anything.
        output: The output that counts; None if there is one.
        features: Values inside it that are learned too, each with the name of the student's module whose
            output shall follow it; channels lie on axis 1 of both.
    """

    path: Path
    output: str | None = None
    features: Mapping[str, str] = field(default_factory=dict)


def distil_into(
    student: torch.nn.Module,
    original: Original,
    data: Dataset,
    target: Path,
    *,
    lesson: Lesson | None = None,
    seed: int = 1,
    progress: Progress = lambda share, text: None,  # noqa: ARG005 - nobody is told
) -> Learned:
    """Let a student learn what a model answers, and write it as ONNX under the names of the model.

    The student is any module of PyTorch that takes samples, shape ``(n, …)``, and gives what stands before
    the model's softmax or sigmoid. That is added when it is written, so that the file answers in the form of
    the original and can be held against it, or added to the repository in its place.

    Args:
        student: What learns; is changed.
        original: What it learns from.
        data: Samples; their labels are learned as well if they have some.
        target: ONNX file that is written.
        lesson: How it is trained; None takes one that suits the number of samples.
        seed: Of the order in which the samples come.
        progress: Told how it goes.

    Returns:
        What came of it.

    Raises:
        ModelError: The model cannot run (M510), has several outputs and none is named (M672), or what the
            student gives does not fit (M692).
    """
    model = open_graph(original.path)
    name = _output(model, original.output)
    lesson = lesson or lesson_for(len(data), rate=RATE, loss="teacher" if data.truth is None else "labels")
    lecture = ask(model, [name], data.rows, among=dict.fromkeys(original.features, 1))
    rows = torch.from_numpy(np.ascontiguousarray(data.rows))
    with repeatable(seed, is_small=is_small(student, rows)), _Listening(student, original.features) as pupil:
        goal = _goal(pupil, lecture, name, data, lesson)
        student.train()
        learned = learn(
            [*(each for each in student.parameters() if each.requires_grad), *goal.parameters()],
            lambda chosen: goal(pupil(rows[chosen]), chosen),
            len(data),
            lesson,
            seed=seed,
            progress=progress,
        )
    student.eval()
    _write(_Answering(student, lecture.heads[name]), model, name, data.rows, Path(target))
    return learned


class _Listening:
    """A student and what some of its modules give; a context, so that nothing listens afterwards.

    Args:
        student: The student.
        features: Values of the model, each with the name of a module.
    """

    def __init__(self, student: torch.nn.Module, features: Mapping[str, str]) -> None:
        self._student = student
        self._features = features
        self._heard: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> _Listening:
        modules = dict(self._student.named_modules())
        for value, name in self._features.items():
            if name not in modules:
                self.__exit__()
                raise ModelError(f'the student has no module "{name}"', code="M692")
            self._hooks.append(modules[name].register_forward_hook(self._keep(value)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        logits = self._student(rows)
        if not isinstance(logits, torch.Tensor) or len(logits) != len(rows):
            raise ModelError("the student does not give one tensor with an answer per sample", code="M692")
        return {_LOGITS: logits, **self._heard}

    def _keep(self, value: str) -> Any:
        def kept(_: Any, __: Any, output: Tensor) -> None:
            self._heard[value] = output

        return kept


class _Answering(torch.nn.Module):
    """A student with the softmax or sigmoid of the model behind it.

    Args:
        student: The student.
        head: Where the model decides.
    """

    def __init__(self, student: torch.nn.Module, head: Head) -> None:
        super().__init__()
        self._student = student
        self._kind = head.kind

    def forward(self, rows: Tensor) -> Tensor:
        """Return what the model would answer."""
        logits = self._student(rows)
        if self._kind == "classes":
            return torch.softmax(logits, 1)
        return torch.sigmoid(logits) if self._kind == "yes" else logits


def _goal(pupil: _Listening, lecture: Lecture, name: str, data: Dataset, lesson: Lesson) -> Goal:
    with torch.no_grad():
        first = pupil(torch.from_numpy(np.ascontiguousarray(data.rows[:SOME])))
    theirs, ours = lecture.logits[name].shape[1:], first[_LOGITS].shape[1:]
    if math.prod(theirs) != math.prod(ours):
        raise ModelError(
            f"the student gives {tuple(ours)} per sample, the model {tuple(theirs)}", code="M692"
        )
    head = Head(name, _LOGITS, lecture.heads[name].kind)
    task = _TASKS[data.kind]
    truth = from_truth(head, task, data, first) if lesson.loss == "labels" else None
    return from_teacher({name: head}, lecture, lesson, first, task=task, truth=truth)


def _output(model: Any, wanted: str | None) -> str:
    there = [output.name for output in model.graph.output]
    if wanted is None and len(there) == 1:
        return str(there[0])
    if wanted not in there:
        raise ModelError(f"say which output is looked at: {', '.join(there)}", code="M672")
    return str(wanted)


def _write(answering: torch.nn.Module, model: Any, output: str, rows: Rows, target: Path) -> None:
    """Write the student as ONNX, with a batch axis as the model's, and prove that it answers alike.

    Raises:
        ModelError: PyTorch cannot export it, or what it exports answers otherwise (M692).
    """
    input_name, shape = input_shape(model)
    fixed = shape[0] if shape else None
    some = torch.from_numpy(rows[: fixed or 2])
    with tempfile.TemporaryDirectory(prefix="edge-opcua-student-") as folder:
        path = Path(folder) / "student.onnx"
        try:
            with _quiet():
                torch.onnx.export(
                    answering,
                    (some,),
                    str(path),
                    input_names=[input_name],
                    output_names=[output],
                    dynamic_shapes=None if fixed else ({0: torch.export.Dim("batch")},),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
        except Exception as exc:
            raise ModelError(f"PyTorch cannot write the student as ONNX: {exc}", code="M692") from exc
        made = open_graph(path)
    _require_alike(answering, made, output, rows[:_CHECKED])
    _require_shape(made, model, output)
    save_graph(made, target)


def _require_alike(answering: torch.nn.Module, made: Any, output: str, rows: Rows) -> None:
    with torch.no_grad():
        right = answering(torch.from_numpy(rows)).numpy()
    found = activations(made, [output], rows)[output]
    spread = float(right.std()) or 1.0
    if found.shape != right.shape or not float(np.abs(found - right).max()) <= _ALIKE * spread:
        raise ModelError("what PyTorch wrote as ONNX answers otherwise than the student", code="M692")


def _require_shape(made: Any, model: Any, output: str) -> None:
    ours, theirs = shapes(made).get(output, ()), shapes(model).get(output, ())
    if ours[1:] != theirs[1:]:
        raise ModelError(
            f'"{output}" of the student has shape {ours}, that of the model {theirs}', code="M692"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter prints, logs and warns of; what is wrong it raises."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
