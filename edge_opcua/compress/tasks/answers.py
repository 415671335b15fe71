"""The answers of two models to the same samples, as the tasks look at them."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.intervals.delong import midranks
from edge_opcua.compress.task import Answers, Floats
from edge_opcua.errors import ModelError

UNDECIDED = -1
"""Decision of a model whose answer is no finite number: never right, and never that of a sound model."""


def both(original: Answers, variant: Answers, output: str, samples: int) -> tuple[Floats, Floats]:
    """Return what both answered at an output, one row for each sample, shape ``(n, k)``.

    Raises:
        ModelError: An output is missing, or its size is not that of the samples, or of the other (M671).
    """
    found = []
    for whose, answers in (("original", original), ("variant", variant)):
        if output not in answers:
            known = ", ".join(sorted(answers))
            raise ModelError(f'the {whose} has no answers of "{output}"; it has {known}', code="M671")
        answer = np.asarray(answers[output], np.float64)
        if len(answer) != samples:
            raise ModelError(
                f'the {whose} gave {len(answer)} answers of "{output}" to {samples} samples', code="M671"
            )
        found.append(answer.reshape(samples, math.prod(answer.shape[1:])))
    if found[0].shape != found[1].shape:
        raise ModelError(
            f'"{output}" of the variant has {found[1].shape[1]} values, not {found[0].shape[1]}', code="M671"
        )
    return found[0], found[1]


def require_finite(original: npt.NDArray[np.float64], variant: npt.NDArray[np.float64]) -> None:
    """Refuse answers that are no numbers where they cannot be counted as wrong.

    Raises:
        ModelError: Some are NaN or infinite (M671).
    """
    for whose, answers in (("original", original), ("variant", variant)):
        off = int((~np.isfinite(answers.reshape(len(answers), -1)).all(axis=1)).sum())
        if off:
            raise ModelError(
                f"{off} of {len(answers)} answers of the {whose} are no finite numbers", code="M671"
            )


def distance(original: Floats, variant: Floats) -> float:
    """Return the root mean squared distance of the answers, as a share of the spread of the original's.

    Infinite if the variant answers what is no number.
    """
    if not np.isfinite(variant).all():
        return math.inf
    off = float(np.sqrt(np.mean((variant - original) ** 2)))
    return off / spread(original)


def spread(answers: Floats) -> float:
    """Return the standard deviation of answers, from column to column; 1 if they are all the same."""
    found = float(np.sqrt(np.mean(answers.var(axis=0))))
    return found if found > 0.0 else 1.0


def changed_share(is_changed: npt.NDArray[np.bool_], distance_: float) -> float:
    """Return the share of changed decisions, and between two shares more the farther the answers are off."""
    below = distance_ / (1.0 + distance_) if math.isfinite(distance_) else 1.0
    return (int(is_changed.sum()) + below) / (len(is_changed) + 1.0)


def displacement(original: Floats, variant: Floats) -> float:
    """Return how far ranks moved on average: 0 if none did, about 1 if they are those of something else.

    Args:
        original: Scores, shape ``(n,)``.
        variant: Scores, shape ``(n,)``.
    """
    moved = np.abs(midranks(original) - midranks(variant)).mean()
    return float(3.0 * moved / len(original))
