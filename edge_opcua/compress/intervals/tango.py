"""The loss of right decisions: two models decide about the same samples, and some decisions turn wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.intervals.estimate import z_of

Floats = npt.NDArray[np.float64]
_STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Turned:
    """Decisions of which one model's is right and the other's is not.

    The bounds are those of Tango's score test: unlike those of McNemar or Wald they hold for the few
    disagreements that a good variant has, and for none at all.

    Args:
        worse: Samples that the original decides rightly and the variant does not.
        better: Samples of which it is the other way.
        samples: All samples.

    Source:
        Tango: Equivalence test and confidence interval for the difference in proportions for the
        paired-sample design. Statistics in Medicine 17 (1998).
    """

    worse: float
    better: float
    samples: float

    @property
    def loss(self) -> float:
        """Share of right decisions that was lost."""
        return (self.worse - self.better) / self.samples

    def low(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return self._bound(z_of(level), -1.0)

    def high(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return self._bound(-z_of(level), 1.0)

    def grown(self, factor: float) -> Self:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return type(self)(self.worse * factor, self.better * factor, self.samples * factor)

    def _bound(self, wanted: float, end: float) -> float:
        """Return where between the loss and ``end`` the score is ``wanted``; it falls as the loss rises."""
        inner, outer = self.loss, end
        for _ in range(_STEPS):
            middle = (inner + outer) / 2.0
            if abs(float(score(self.worse, self.better, self.samples, middle))) < abs(wanted):
                inner = middle
            else:
                outer = middle
        return outer


def score(worse: npt.ArrayLike, better: npt.ArrayLike, samples: float, loss: float) -> Floats:
    """Return Tango's score: how many standard deviations the measured loss is above a supposed one.

    Args:
        worse: Decisions that turned wrong, any shape.
        better: Decisions that turned right, the same shape.
        samples: All samples.
        loss: The supposed loss, as a share, -1 to 1.

    Returns:
        The same shape. At most ``-z`` where the upper bound at the level of ``z`` is at most ``loss``.
    """
    b, c = np.asarray(worse, np.float64), np.asarray(better, np.float64)
    # The likeliest share of decisions that turn right, if the loss were as supposed: a quadratic equation.
    linear = (2.0 * samples - b + c) * loss - b - c
    root = np.sqrt(np.maximum(linear * linear + 8.0 * samples * c * loss * (1.0 - loss), 0.0))
    share = np.maximum((root - linear) / (4.0 * samples), max(0.0, -loss))
    spread = np.sqrt(np.maximum(samples * (2.0 * share + loss * (1.0 - loss)), 0.0))
    off = b - c - samples * loss
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(off == 0.0, 0.0, off / spread)
    return found
