"""The share of samples on which something happened, with bounds that hold for any number of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

_STEPS: Final = 100
_TERMS: Final = 10_000
_TINY: Final = 1e-300
_EXACT: Final = 1e-15


@dataclass(frozen=True, slots=True)
class Changed:
    """Samples on which a variant decides differently: it cannot lose more right decisions than that.

    Args:
        count: How many.
        samples: All samples.

    Source:
        Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the binomial.
        Biometrika 26 (1934).
    """

    count: float
    samples: float

    @property
    def loss(self) -> float:
        """Share of the decisions that changed."""
        return self.count / self.samples

    def low(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        if self.count <= 0.0:
            return 0.0
        return beta_quantile(level, self.count, self.samples - self.count + 1.0)

    def high(self, level: float) -> float:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        if self.count >= self.samples:
            return 1.0
        # Asked from its upper end: 1 - level is 1 for small levels.
        return 1.0 - beta_quantile(level, self.samples - self.count, self.count + 1.0)

    def grown(self, factor: float) -> Self:
        """See :class:`edge_opcua.compress.intervals.estimate.Estimate`."""
        return type(self)(self.count * factor, self.samples * factor)


def beta_quantile(chance: float, a: float, b: float) -> float:
    """Return the value that a beta-distributed number is below with a chance.

    Args:
        chance: 0 to 1.
        a: First parameter, above 0.
        b: Second parameter, above 0.
    """
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if beta_share(middle, a, b) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def beta_share(x: float, a: float, b: float) -> float:
    """Return the chance that a beta-distributed number is below ``x`` (regularised incomplete beta).

    Args:
        x: 0 to 1.
        a: First parameter, above 0.
        b: Second parameter, above 0.

    Source:
        NIST Digital Library of Mathematical Functions, 8.17.22 (continued fraction) and 8.17.4 (symmetry).
    """
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    if x < (a + 1.0) / (a + b + 2.0):
        return math.exp(front) / (a * _fraction(x, a, b))
    return 1.0 - math.exp(front) / (b * _fraction(1.0 - x, b, a))


def _fraction(x: float, a: float, b: float) -> float:
    """Return 1 + d1/(1 + d2/(1 + …)) of 8.17.22, from its front end on (modified Lentz algorithm)."""
    value = above = 1.0
    below = 0.0
    for number in range(1, _TERMS):
        m = number // 2
        if number % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        else:
            term = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        below = 1.0 / _not_zero(1.0 + term * below)
        above = _not_zero(1.0 + term / above)
        value *= above * below
        if abs(above * below - 1.0) < _EXACT:
            break
    return value


def _not_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
