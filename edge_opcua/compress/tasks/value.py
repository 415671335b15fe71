"""Models that say what a quantity is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.intervals.ratio import deviation, grown
from edge_opcua.compress.task import Answers, Comparison, Floats
from edge_opcua.compress.tasks.answers import both, distance, require_finite
from edge_opcua.compress.tasks.decision import PERCENT, Found, decide
from edge_opcua.compress.tasks.guessing import require_better_than_mean
from edge_opcua.errors import ModelError

_AS_LONG_AS: Final = "as long as none is farther off than the farthest here"


@dataclass(frozen=True, slots=True)
class Value:
    """One value, or some.

    Args:
        output: Name of the output.
        name: What the task is called.
    """

    output: str
    name: str = "value"

    @property
    def outputs(self) -> tuple[str, ...]:
        """See :class:`edge_opcua.compress.task.Task`."""
        return (self.output,)

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """See :class:`edge_opcua.compress.task.Task`."""
        before, after = both(original, variant, self.output, len(data))
        if data.kind != "targets":
            return distance(before, after)
        return growth(_squares(before, data, before), float(np.mean((after - before) ** 2 / _units(data))))

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """See :class:`edge_opcua.compress.task.Task`."""
        before, after = both(original, variant, self.output, len(data))
        require_finite(before, after)
        if data.kind != "targets":
            return decide(deviates(before, after), allowed=allowed, level=level)
        one, other = _squares(before, data, before), _squares(after, data, before)
        assert data.truth is not None
        variance = float(np.mean(data.truth.var(axis=0) / _units(data)))
        require_better_than_mean(float(one.mean()), variance, "RMSE")
        found = error_grown("RMSE", one, other)
        return decide(found, allowed=allowed, level=level)


def _units(data: Dataset) -> Floats:
    """Return what squared errors are divided by: 1 for one target, the variance of each for some."""
    assert data.truth is not None
    if data.truth.shape[1] == 1:
        return np.ones(1)
    variances: Floats = data.truth.var(axis=0)
    return np.where(variances > 0.0, variances, 1.0)


def _squares(answers: Floats, data: Dataset, like: Floats) -> Floats:
    assert data.truth is not None
    if data.truth.shape != like.shape:
        raise ModelError(
            f"a sample has {data.truth.shape[1]} targets, the model gives {like.shape[1]} values", code="M671"
        )
    squares: Floats = ((answers - data.truth) ** 2 / _units(data)).mean(axis=1)
    return squares


def growth(squares: Floats, off: float) -> float:
    """Return by what share an error grows if answers are off by something that has nothing to do with it.

    Args:
        squares: Squared errors of the original, shape ``(n,)``.
        off: Mean squared distance of the answers.
    """
    if not math.isfinite(off):
        return math.inf
    error = float(squares.mean())
    return math.sqrt(1.0 + off / error) - 1.0 if error > 0.0 else math.sqrt(off)


def error_grown(measure: str, original: Floats, variant: Floats) -> Found:
    """Return how much a root mean squared error has grown.

    Args:
        measure: What it is called.
        original: Squared errors of the original, shape ``(n,)``.
        variant: Those of the variant, likewise.

    Raises:
        ModelError: The original makes no errors, or there is one sample only (M671).
    """
    _require_some(original)
    if not original.any():
        raise ModelError(f"the {measure} of the original is 0: nothing can be held against that", code="M671")
    estimate = grown(original, variant)
    return Found(
        measure=measure,
        unit=PERCENT,
        original=estimate.original,
        variant=estimate.variant,
        test="logarithm of the paired ratio, with the rule of three",
        samples=len(original),
        estimate=estimate,
        note=_AS_LONG_AS,
    )


def deviates(original: Floats, variant: Floats) -> Found:
    """Return how far answers are off those of the original, where nobody knows what is right.

    Args:
        original: Answers of the original, shape ``(n, k)``.
        variant: Answers of the variant, likewise.

    Raises:
        ModelError: The original always answers the same, or there is one sample only (M671).
    """
    _require_some(original)
    variances = original.var(axis=0)
    moving = variances > 0.0
    if not moving.any():
        raise ModelError("the original answers the same to all samples", code="M671")
    estimate = deviation(((variant - original)[:, moving] ** 2 / variances[moving]).mean(axis=1))
    return Found(
        measure="deviation",
        unit=PERCENT,
        original=0.0,
        variant=estimate.loss,
        test="mean squared deviation, with the rule of three",
        samples=len(original),
        estimate=estimate,
        note=f"there is no truth: 100 % is the spread of the original's answers; {_AS_LONG_AS}",
    )


def _require_some(answers: Floats) -> None:
    if len(answers) < 2:
        raise ModelError("one sample says nothing", code="M671")
