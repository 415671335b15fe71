"""The growth of an error: root mean squared errors of two models on the same samples, one over the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.intervals.estimate import unseen, z_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grown:
    """Root mean squared errors of two models.

    The bounds are those of the logarithm of their ratio, whose spread follows from how both errors of each
    sample go together (delta method), and farther out by what may not have been among the samples: a kind of
    sample of which there was none, with an error as large as the largest that was seen.

    Args:
        original: Root mean squared error of the original, above 0.
        variant: That of the variant.
        error: Standard error of the logarithm of their ratio.
        peak: Largest squared error that was seen, over the mean squared error of the variant.
        samples: Number of samples.
    """

    original: float
    variant: float
    error: float
    peak: float
    samples: float

    @property
    def loss(self) -> float:
        """Share by which the error has grown."""
        return self.variant / self.original - 1.0

    def low(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return self._bound(-z_of(level)) / self._widening(level) - 1.0

    def high(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return self._bound(z_of(level)) * self._widening(level) - 1.0

    def grown(self, factor: float) -> Self:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        error = self.error / math.sqrt(factor)
        return type(self)(self.original, self.variant, error, self.peak, self.samples * factor)

    def _bound(self, z: float) -> float:
        return self.variant / self.original * math.exp(z * self.error)

    def _widening(self, level: float) -> float:
        return math.sqrt(1.0 + unseen(self.samples, level) * self.peak)


def grown(original: Floats, variant: Floats) -> Grown:
    """Return how much the error has grown, and how sure that is.

    Args:
        original: Squared errors of the original, shape ``(n,)``; not all of them 0.
        variant: Squared errors of the variant, the same shape.
    """
    before, after = float(original.mean()), float(variant.mean())
    peak = float(max(original.max(), variant.max()))
    # What one sample does to half the logarithm of the ratio of both means, which is that of the roots.
    pulls = (variant / after if after > 0.0 else variant) / 2.0 - original / before / 2.0
    error = float(pulls.std(ddof=1)) / math.sqrt(len(pulls))
    return Grown(math.sqrt(before), math.sqrt(after), error, peak / after if after > 0.0 else 0.0, len(pulls))


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far a variant's answers are from those of the original, where nobody knows what is right.

    Args:
        square: Mean squared deviation, over the variance of the original's answers.
        error: Its standard error.
        peak: Largest squared deviation that was seen, likewise.
        samples: Number of samples.
    """

    square: float
    error: float
    peak: float
    samples: float

    @property
    def loss(self) -> float:
        """Root mean squared deviation as a share of the spread of the original's answers."""
        return math.sqrt(self.square)

    def low(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return math.sqrt(max(0.0, self.square - z_of(level) * self.error))

    def high(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return math.sqrt(self.square + z_of(level) * self.error + unseen(self.samples, level) * self.peak)

    def grown(self, factor: float) -> Self:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return type(self)(self.square, self.error / math.sqrt(factor), self.peak, self.samples * factor)


def deviation(squares: Floats) -> Deviation:
    """Return the deviation, and how sure it is.

    Args:
        squares: Squared deviation of each sample over the variance of the original's answers, shape ``(n,)``.
    """
    error = float(squares.std(ddof=1)) / math.sqrt(len(squares))
    return Deviation(float(squares.mean()), error, float(squares.max()), len(squares))
