"""What one training makes small: the parts of its loss, each with its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.train.lesson import Lesson
from edge_opcua.compress.train.losses import Hint, Teacher, Truth
from edge_opcua.compress.train.teacher import Lecture
from edge_opcua.compress.train.wiring import Head

Tensor = Any
PartOf = Callable[[Tensor, Tensor], Tensor]

SOME: Final = 256
"""Samples that first mappings are fitted to."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a loss.

    Args:
        value: Name of the value that it looks at.
        weight: Its weight.
        loss_of: Gets that value for some samples and their numbers; returns the mean loss.
    """

    value: str
    weight: float
    loss_of: PartOf


class Goal:
    """The loss of one training.

    Args:
        parts: Its parts.
    """

    def __init__(self, parts: list[Part]) -> None:
        self.parts = tuple(parts)

    @property
    def hints(self) -> int:
        """How many features of the original are learned beside its answers."""
        return sum(isinstance(part.loss_of, Hint) for part in self.parts)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return what is trained beside the student, and thrown away afterwards."""
        hints = [part.loss_of for part in self.parts if isinstance(part.loss_of, Hint)]
        return [parameter for hint in hints for parameter in hint.parameters()]

    def __call__(self, values: Mapping[str, Tensor], chosen: Tensor) -> Tensor:
        """Return the mean loss of some samples.

        Args:
            values: What the student computes for them, by name.
            chosen: Their numbers, shape ``(k,)``.
        """
        return sum(part.weight * part.loss_of(values[part.value], chosen) for part in self.parts)


def from_truth(head: Head, task: str, data: Dataset, first: Mapping[str, Tensor]) -> Goal:
    """Return the goal to answer what is true.

    Args:
        head: Where the student decides.
        task: Name of the task.
        data: The samples.
        first: What the student computes for some of them before training, by name.

    Raises:
        ModelError: It cannot be trained with what is known of the samples (M692).
    """
    return Goal([Part(head.logits, 1.0, Truth(head, task, data, first[head.logits]))])


def from_teacher(
    heads: Mapping[str, Head],
    lecture: Lecture,
    lesson: Lesson,
    first: Mapping[str, Tensor],
    *,
    task: str,
    truth: Goal | None = None,
) -> Goal:
    """Return the goal to answer what the original answers.

    Args:
        heads: Where the student decides, by output.
        lecture: What the original answers.
        lesson: How it is trained.
        first: What the student computes for the first samples before training, by name.
        task: Name of the task.
        truth: What is true, to be learned as well, with the same weight.
    """
    share = 1.0 if truth is None else 0.5
    parts = [Part(part.value, share * part.weight, part.loss_of) for part in (truth.parts if truth else ())]
    for output, head in heads.items():
        loss_of = Teacher(lecture.heads[output], lecture.logits[output], lesson.temperature, task)
        parts.append(Part(head.logits, share / len(heads), loss_of))
    alike = [name for name in lecture.features if _alike(lecture, name, first)]
    for name in alike if lesson.features else ():
        theirs, axis = lecture.features[name]
        hint = Hint(theirs, first[name], axis, torch.arange(len(first[name])))
        parts.append(Part(name, lesson.features / len(alike), hint))
    return Goal(parts)


def _alike(lecture: Lecture, name: str, first: Mapping[str, Tensor]) -> bool:
    """Return whether a feature differs in its channels at most."""
    if name not in first:
        return False
    theirs, axis = lecture.features[name]
    one, other = list(theirs.shape[1:]), list(first[name].shape[1:])
    if len(one) != len(other):
        return False
    place = axis - 1 if axis > 0 else axis
    one[place] = other[place] = 0
    return one == other
