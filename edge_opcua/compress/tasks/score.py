"""Models that say how far from normal a sample is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.intervals.delong import ranked
from edge_opcua.compress.task import Answers, Comparison, Floats
from edge_opcua.compress.tasks.answers import both, displacement, require_finite
from edge_opcua.compress.tasks.decision import POINTS, Found, decide
from edge_opcua.compress.tasks.value import deviates
from edge_opcua.errors import ModelError

FEWEST = 2
"""Samples of each class without which there is no variance."""


@dataclass(frozen=True, slots=True)
class Score:
    """One score; of two values the second minus the first.

    Args:
        output: Name of the output.
        name: What the task is called.
    """

    output: str
    name: str = "score"

    @property
    def outputs(self) -> tuple[str, ...]:
        """See :class:`edge_opcua.compress.task.Task`."""
        return (self.output,)

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """See :class:`edge_opcua.compress.task.Task`; how far ranks moved."""
        before, after = (_score(each) for each in both(original, variant, self.output, len(data)))
        return displacement(before, after) if np.isfinite(after).all() else math.inf

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """See :class:`edge_opcua.compress.task.Task`."""
        before, after = (_score(each) for each in both(original, variant, self.output, len(data)))
        require_finite(before, after)
        found = told_apart(before, after, data.truth) if data.kind == "labels" else None
        return decide(found or deviates(before[:, None], after[:, None]), allowed=allowed, level=level)


def told_apart(original: Floats, variant: Floats, truth: npt.NDArray[np.int64] | None) -> Found:
    """Return how well both scores tell samples with a fault from the others.

    Args:
        original: Scores of the original, shape ``(n,)``. Which end the faults are at is taken from it.
        variant: Scores of the variant, likewise.
        truth: 0 for normal samples, anything else for faults.

    Raises:
        ModelError: There are not at least two of both, or the original tells nothing (M671).
    """
    assert truth is not None
    is_fault = truth != 0
    faults, others = int(is_fault.sum()), int((~is_fault).sum())
    if min(faults, others) < FEWEST:
        raise ModelError(
            f"{faults} samples with label 1 and {others} with label 0: an AUC needs some of both", code="M671"
        )
    estimate = ranked(original, variant, is_fault)
    if estimate.original < 0.5:
        estimate = ranked(-original, -variant, is_fault)
    if estimate.original == 0.5:
        raise ModelError(
            "the scores of the original tell no fault from the others (AUC 0.5): nothing could be lost; are "
            "they samples as it is fed with them?",
            code="M671",
        )
    return Found(
        measure="AUC",
        unit=POINTS,
        original=estimate.original,
        variant=estimate.variant,
        test="DeLong, paired, with the rule of three",
        samples=len(truth),
        estimate=estimate,
        note=f"{min(faults, others)} samples of the rarer class decide how sure that is",
    )


def _score(answers: Floats) -> Floats:
    return answers[:, 0] if answers.shape[1] == 1 else answers[:, 1] - answers[:, 0]
