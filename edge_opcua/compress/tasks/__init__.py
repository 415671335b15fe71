"""What models are for, one module each: how their answers are compared, and which task a model has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.options import Wish
from edge_opcua.compress.task import Answers, Comparison, Task
from edge_opcua.compress.tasks.labels import Labels
from edge_opcua.compress.tasks.reconstruction import Reconstruction
from edge_opcua.compress.tasks.score import Score
from edge_opcua.compress.tasks.value import Value
from edge_opcua.compress.tasks.verdict import Verdicts, judge_for
from edge_opcua.errors import ModelError
from edge_opcua.features.judgement import Judge
from edge_opcua.inference.onnxcard import Tensor

__all__ = ["judge_for", "task_for"]

_FLOATS: Final = frozenset({"float16", "float32", "float64", "bfloat16"})
_WHOLES: Final = frozenset({"int32", "int64", "uint8", "int8", "bool"})
_TWO: Final = 2
_SPOKEN: Final = 5


def task_for(
    outputs: Sequence[Tensor],
    data: Dataset,
    wish: Wish,
    *,
    output: str | None = None,
    judge: Judge | None = None,
) -> Task:
    """Return what a model is for, as its outputs and what is known of the samples say.

    Args:
        outputs: Outputs of the model.
        data: Samples of the gate.
        wish: What somebody says it is for; ``auto``: nothing.
        output: The output that is looked at; None: the one that fits.
        judge: Makes verdicts of the answers, see :func:`judge_for`; None if there is no package.

    Raises:
        ModelError: It cannot be told which output, or the task, the outputs and the data do not fit (M672).
    """
    if wish == "agreement":
        return Agreement(task_for(outputs, replace(data, truth=None), "auto", output=output, judge=judge))
    if judge is not None and (wish == "verdict" or (wish == "auto" and _counts(judge, data))):
        return Verdicts(judge)
    if wish == "verdict":
        raise ModelError("only a model with a manifest makes verdicts: name a package", code="M672")
    roles = {each.name: each.role for each in judge.outputs} if judge is not None else {}
    looked = _Looked(_choose(outputs, output or next(iter(roles), None)), data)
    return looked.task(looked.kind() if wish == "auto" else wish)


def _counts(judge: Judge, data: Dataset) -> bool:
    """Return whether the verdict is what must not get worse.

    It is not if the model says what a quantity is, or if the samples have numbers of classes; of verdicts 0
    is Ok and 1 is NotOk.
    """
    if judge.outputs[0].role == "value":
        return data.kind == "labels"
    return data.kind != "labels" or int(max(data.truth, default=0)) <= 1  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A task without its truth: only whether a variant answers as the original does.

    Args:
        task: The task.
        name: What it is called.
    """

    task: Task
    name: str = "agreement"

    @property
    def outputs(self) -> Sequence[str]:
        """See :class:`edge_opcua.compress.task.Task`."""
        return self.task.outputs

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """See :class:`edge_opcua.compress.task.Task`."""
        return self.task.damage(original, variant, replace(data, truth=None))

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """See :class:`edge_opcua.compress.task.Task`."""
        known = replace(data, truth=None)
        return self.task.compare(original, variant, known, allowed=allowed, level=level)


def _choose(outputs: Sequence[Tensor], wanted: str | None) -> Tensor:
    names = ", ".join(str(each.name) for each in outputs)
    if wanted is not None:
        found = [each for each in outputs if each.name == wanted]
        if not found:
            raise ModelError(f'the model has no output "{wanted}"; it has {names}', code="M672")
        return found[0]
    for kinds in (_FLOATS, _WHOLES):
        found = [each for each in outputs if each.kind in kinds]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise ModelError(f"say which output is looked at (--output): {names}", code="M672")


class _Looked:
    """An output that is looked at.

    Args:
        output: The output.
        data: The samples.
    """

    def __init__(self, output: Tensor, data: Dataset) -> None:
        self._output = output
        self._data = data
        sizes = [size for size in output.shape[1:] if isinstance(size, int)]
        self._is_open = len(sizes) < len(output.shape) - 1
        self._size = math.prod(sizes)
        self._labels = sorted(set(data.truth.tolist())) if data.kind == "labels" else []  # type: ignore[union-attr]

    def kind(self) -> Wish:
        """Return what the model is for, as it seems."""
        if self._data.kind == "targets":
            return "value"
        if self._output.kind in _WHOLES:
            return "labels"
        if self._gives_input_again() and (len(self._labels) <= _TWO < self._size or not self._labels):
            return "reconstruction"
        if self._size > 1 or self._is_open:
            return "labels"
        return "score" if self._labels else "value"

    def task(self, kind: Wish) -> Task:
        """Return the task.

        Raises:
            ModelError: The output or the data are none for it (M672).
        """
        makers = {
            "labels": self._as_labels,
            "score": self._as_score,
            "value": self._as_value,
            "reconstruction": self._as_reconstruction,
        }
        return makers[kind]()

    def _as_labels(self) -> Task:
        are_decisions = self._output.kind in _WHOLES
        if self._data.kind == "targets":
            raise self._wrong("labels are compared with labels, the data has targets")
        if are_decisions and (self._size != 1 or self._is_open):
            raise self._wrong(f"{self._size} whole numbers are no class")
        if not are_decisions and not self._is_open and self._labels:
            most = max(self._size - 1, 1)
            if self._labels[0] < 0 or self._labels[-1] > most:
                raise self._wrong(
                    f"labels go from {self._labels[0]} to {self._labels[-1]}, the model decides 0 to {most}"
                )
        return Labels(self._output.name, are_decisions=are_decisions)

    def _as_score(self) -> Task:
        if self._size > _TWO or self._is_open:
            raise self._wrong("a score is one value")
        if self._labels and self._labels != [0, 1]:
            raise self._wrong(f"a score tells label 1 from label 0, the data has {self._named()}")
        if self._data.kind == "targets":
            raise self._wrong("a score is compared with labels, the data has targets")
        return Score(self._output.name)

    def _as_value(self) -> Task:
        if self._data.kind == "labels":
            raise self._wrong("values are compared with targets, the data has labels")
        targets = self._size if self._data.truth is None else self._data.truth.shape[1]
        if not self._is_open and targets != self._size:
            raise self._wrong(f"it gives {self._size} values, the data has {targets} targets")
        return Value(self._output.name)

    def _as_reconstruction(self) -> Task:
        if not self._gives_input_again() and not self._is_open:
            raise self._wrong("it has not the shape of the input")
        if self._data.kind == "targets" or not {*self._labels} <= {0, 1}:
            raise self._wrong(f"label 1 says that a sample has a fault, 0 that it has none{self._other()}")
        return Reconstruction(self._output.name)

    def _named(self) -> str:
        some = ", ".join(str(label) for label in self._labels[:_SPOKEN])
        return some + (" …" if len(self._labels) > _SPOKEN else "")

    def _other(self) -> str:
        return f", not {self._named()}" if self._labels else "; the data has targets"

    def _gives_input_again(self) -> bool:
        return not self._is_open and self._output.shape[1:] == self._data.rows.shape[1:]

    def _wrong(self, sentence: str) -> ModelError:
        return ModelError(f"output {self._output.name}: {sentence}", code="M672")
