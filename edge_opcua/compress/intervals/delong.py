"""The loss of AUC: how well two scores of the same samples set those with a fault apart from the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.intervals.estimate import unseen, z_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Two AUCs of the same samples.

    The bounds are DeLong's, and farther out by what may not have been among the samples: where hardly a rank
    changes DeLong's variance is next to nothing, though a kind of sample that the variant ruins may be
    missing. A kind of which there was none in one class takes the AUC down by its share in that class.

    Args:
        original: AUC of the original.
        variant: AUC of the variant.
        error: Standard error of their difference.
        rarer: Samples of the class that has fewer.

    Source:
        DeLong, DeLong, Clarke-Pearson: Comparing the areas under two or more correlated receiver operating
        characteristic curves. Biometrics 44 (1988); the rule of three, see
        :func:`edge_opcua.compress.intervals.estimate.unseen`.
    """

    original: float
    variant: float
    error: float
    rarer: float

    @property
    def loss(self) -> float:
        """AUC that was lost."""
        return self.original - self.variant

    def low(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return max(-1.0, self.loss - z_of(level) * self.error - unseen(self.rarer, level))

    def high(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return min(1.0, self.loss + z_of(level) * self.error + unseen(self.rarer, level))

    def grown(self, factor: float) -> Self:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        error = self.error / math.sqrt(factor)
        return type(self)(self.original, self.variant, error, self.rarer * factor)


def ranked(original: Floats, variant: Floats, is_fault: npt.NDArray[np.bool_]) -> Ranked:
    """Return both AUCs and how sure their difference is.

    Args:
        original: Scores of the original, shape ``(n,)``; faults are at the upper end.
        variant: Scores of the variant, likewise.
        is_fault: Which samples have a fault, shape ``(n,)``; at least two have, and two have not.
    """
    faults, others = zip(*(_placements(scores, is_fault) for scores in (original, variant)), strict=True)
    error = math.sqrt(_variance(faults) + _variance(others))
    rarer = min(int(is_fault.sum()), int((~is_fault).sum()))
    return Ranked(float(faults[0].mean()), float(faults[1].mean()), error, rarer)


def _variance(placements: tuple[Floats, ...]) -> float:
    return float(np.var(placements[0] - placements[1], ddof=1)) / len(placements[0])


def _placements(scores: Floats, is_fault: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return DeLong's structural components: of each fault, and of each other, the share it is told from.

    Ranks instead of all pairs: Sun, Xu: Fast implementation of DeLong's algorithm. IEEE Signal Processing
    Letters 21 (2014).
    """
    faults, others = scores[is_fault], scores[~is_fault]
    together = midranks(scores)
    below = (together[is_fault] - midranks(faults)) / len(others)
    above = 1.0 - (together[~is_fault] - midranks(others)) / len(faults)
    return below, above


def midranks(values: npt.NDArray[Any]) -> Floats:
    """Return the rank of each value from 1, shape ``(n,)``; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2.0)[which]
    return ranks
