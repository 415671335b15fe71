"""From the outputs of a model to a verdict, as its manifest declares it: the same in training and serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_opcua.features.answers import Answers, ClassesKind, Floats, Given, Judged, Output, read_kind
from edge_opcua.features.stroke import Feature
from edge_opcua.features.verdicts import MOST_REMEMBERED, Told, read_post

__all__ = ["Judge", "Judged", "Output"]

Past = tuple[float, float | None, str]
"""Score, confidence and label of a result that was published before."""


class Judge:
    """Judges what a model answers, one result after the other; it remembers what its steps need.

    Args:
        output: The table ``[output]`` of the manifest; None: the four outputs ``score``, ``confidence``,
            ``expected`` and ``contributions``.
        post: The tables ``[[post]]``.
        features: Name and unit of each column of the model's input.
        limit: Value of the score from which on the verdict is NotOk, where no step decides.

    Raises:
        ModelError: ``[output]`` (M620) or ``[[post]]`` (M621) is wrong.

    Attributes:
        outputs: The outputs it looks at; the reference samples hold one array for each, named by its role.
        judged: Results it has judged, what it was seeded with included.
        remembers: Results that it has to be seeded with to go on as if it had judged them itself.
    """

    def __init__(
        self,
        output: Mapping[str, Any] | None,
        post: Sequence[Mapping[str, Any]] = (),
        *,
        features: Sequence[Feature],
        limit: float = 1.0,
    ) -> None:
        self._kind = read_kind(output, Given(tuple(features), limit))
        self.outputs: tuple[Output, ...] = self._kind.outputs
        self.judged = 0
        labels = self._kind.labels if isinstance(self._kind, ClassesKind) else ()
        sure = bool(labels) or any(each.role == "confidence" for each in self.outputs)
        self._told = Told(labels, sure)
        self._tables = tuple(post)
        self._post = read_post(self._tables, self._told)
        self.remembers = max((step.remembers for step in self._post), default=0)

    def judge(self, answers: Answers, row: Floats) -> Judged:
        """Return what a model's answers mean.

        Args:
            answers: The outputs by name, shape ``(size,)`` each, finite.
            row: The features it was given, shape ``(k,)``.
        """
        judged = self._kind.read(answers, row)
        for step in self._post:
            step.apply(judged)
        self.judged += 1
        return judged

    def seed(self, past: Sequence[Past]) -> None:
        """Begin as if this had been judged, oldest first; what was remembered before is forgotten."""
        self._post = read_post(self._tables, self._told)
        self.judged = len(past)
        for score, confidence, label in past[-MOST_REMEMBERED:]:
            verdict = self._kind.verdict(score, label)
            again = Judged(score, verdict, confidence=confidence, label=label)
            for step in self._post:
                step.apply(again)
