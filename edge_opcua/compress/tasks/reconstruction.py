"""Models that give their input again: what they cannot give again is unusual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.task import Answers, Comparison, Floats
from edge_opcua.compress.tasks.answers import both, require_finite
from edge_opcua.compress.tasks.decision import decide
from edge_opcua.compress.tasks.guessing import require_better_than_mean
from edge_opcua.compress.tasks.score import told_apart
from edge_opcua.compress.tasks.value import error_grown, growth
from edge_opcua.errors import ModelError


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The score of a sample is the mean squared error of its answer.

    Args:
        output: Name of the output.
        name: What the task is called.
    """

    output: str
    name: str = "reconstruction"

    @property
    def outputs(self) -> tuple[str, ...]:
        """See :class:`edge_opcua.compress.task.Task`."""
        return (self.output,)

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """See :class:`edge_opcua.compress.task.Task`; about how much the error grows."""
        before, after = both(original, variant, self.output, len(data))
        return growth(_squares(before, data), float(np.mean((after - before) ** 2)))

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """See :class:`edge_opcua.compress.task.Task`; of the AUC, or of the error if no faults are known."""
        before, after = both(original, variant, self.output, len(data))
        require_finite(before, after)
        one, other = _squares(before, data), _squares(after, data)
        if data.kind == "labels" and len(np.unique(data.truth != 0)) > 1:
            return decide(told_apart(one, other, data.truth), allowed=allowed, level=level)
        variance = float(data.rows.reshape(len(data), -1).var(axis=0, dtype=np.float64).mean())
        require_better_than_mean(float(one.mean()), variance, "reconstruction error")
        return decide(error_grown("reconstruction error", one, other), allowed=allowed, level=level)


def _squares(answers: Floats, data: Dataset) -> Floats:
    rows = data.rows.reshape(len(data), -1).astype(np.float64)
    if rows.shape != answers.shape:
        raise ModelError(
            f"the model gives {answers.shape[1]} values again of {rows.shape[1]} that it is fed with",
            code="M671",
        )
    squares: Floats = ((answers - rows) ** 2).mean(axis=1)
    return squares
