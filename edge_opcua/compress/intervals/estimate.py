"""What every kind of loss has: a value, bounds at any level, and what they would be with more samples."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, Protocol, Self

MOST_SAMPLES: Final = 100_000_000
"""Nobody records more; what would need more cannot be proved."""


class Estimate(Protocol):
    """How much worse a variant is, as a share: 0.005 is half a percentage point, or half a percent."""

    @property
    def loss(self) -> float:
        """The loss as it was measured."""
        ...

    def low(self, level: float) -> float:
        """Return what the true loss is below with a chance of ``level`` at most."""
        ...

    def high(self, level: float) -> float:
        """Return what the true loss is above with a chance of ``level`` at most."""
        ...

    def grown(self, factor: float) -> Self:
        """Return the same with so many times the samples, each kind of sample as frequent as here."""
        ...


def z_of(level: float) -> float:
    """Return the standard normal quantile that is exceeded with the chance ``level``; 1.96 for 0.025."""
    return -NormalDist().inv_cdf(level)


def unseen(samples: float, level: float) -> float:
    """Return how frequent a kind of sample may be of which not one was seen.

    A kind with the share ``p`` is missing among ``n`` samples with the chance ``(1 - p)**n``; this is the
    share at which that is ``level``. About 3.7 / n for 0.025.

    Source:
        Hanley, Lippman-Hand: If nothing goes wrong, is everything all right? JAMA 249 (1983), the rule of
        three.
    """
    return -math.expm1(math.log(level) / samples)


def needed(estimate: Estimate, samples: int, allowed: float, level: float) -> int | None:
    """Return about how many samples would put the upper bound below ``allowed``, rounded to two digits up.

    Args:
        estimate: What was measured; more samples are taken to show the same.
        samples: How many samples that was.
        allowed: Loss that is accepted, as a share.
        level: Level of the bound.

    Returns:
        None if no number would, because the loss itself is not below ``allowed``.
    """
    low, high = 0.0, 1.0
    if estimate.loss >= allowed:
        return None
    while estimate.grown(high).high(level) >= allowed:
        low, high = high, 2.0 * high
        if samples * high > MOST_SAMPLES:
            return None
    while (high - low) * samples > 1.0:
        middle = (low + high) / 2.0
        if estimate.grown(middle).high(level) < allowed:
            high = middle
        else:
            low = middle
    return _rounded_up(math.ceil(high * samples))


def _rounded_up(count: int) -> int:
    step: int = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / step) * step
