"""Whether a variant is faster than the original, from runs of both in turns; pure.

Times of one model differ between two measurements by more than two models differ: clocks, heat, and whatever
else runs. So both run in one process, in blocks of the order original, variant, variant, original: what
changes slowly hits both alike and falls out of the ratio inside a block.

One more thing does not fall out: where a session happens to lie in memory. A model timed beside itself is up
to 2 % faster or slower than itself, the whole time, with an interval over its blocks of a tenth of that. So
both are loaded anew several times, in changing order, and the interval is that of the loads (Student's t of
the logarithms): an interval has to come from the level at which chance acts (Kalibera and Jones, "Rigorous
benchmarking in reasonable time", ISMM 2013).

The burden of proof lies with the variant:

* *slower* if its median takes more than 2 % longer than the original's, or if its 99th percentile takes at
  least 10 % longer even at the favourable end of its interval. 2 % is what a model differs from itself here;
  tails are noisier, so they count only where they are sure.
* *faster* if even the unfavourable end of the median's interval is more than 2 % below the original.
* *as fast* otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.measure.timing import Speed

Times = npt.NDArray[np.float64]

TOLERANCE: Final = 0.02
TAIL_TOLERANCE: Final = 0.10
LEAST_TAIL_RUNS: Final = 500
"""Runs from which a 99th percentile says something: five are beyond it."""
ROUNDS: Final = 6
"""How often both are loaded."""
_T: Final = 2.5706
"""Student's t of 97.5 % with ``ROUNDS - 1`` degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """Times of both, and their ratios with 95 % intervals; below 1 the variant is faster.

    Args:
        p50: Median of the variant, in the unit of its times; mean over the rounds, in logarithms.
        p99: Its 99th percentile.
        original_p50: Median of the original.
        original_p99: Its 99th percentile.
        ratio: How many times as long the variant takes: mean over the rounds, in logarithms.
        low: Lower end of its interval.
        high: Upper end.
        p99_ratio: The same of the 99th percentiles.
        p99_low: Lower end of its interval; 0 if there are too few runs to tell.
        p99_high: Upper end; infinite if there are too few.
        runs: Runs of each.
    """

    p50: float
    p99: float
    original_p50: float
    original_p99: float
    ratio: float
    low: float
    high: float
    p99_ratio: float
    p99_low: float
    p99_high: float
    runs: int


def ratios(original: Sequence[Times], variant: Sequence[Times]) -> Ratios:
    """Return how the times compare.

    Args:
        original: Times of the original by round, each of shape ``(blocks, runs)``.
        variant: Times of the variant in the same blocks.
    """
    rounds = list(zip(original, variant, strict=True))
    assert len(rounds) == ROUNDS, "the quantile is that of so many"
    ratio, low, high = _interval([_paired(before, after) for before, after in rounds])
    tail, tail_low, tail_high = _interval([_tails(before, after) for before, after in rounds])
    runs = sum(each.size for each in original)
    if runs < LEAST_TAIL_RUNS:
        tail_low, tail_high = 0.0, math.inf
    return Ratios(
        p50=_quantile(variant, 50),
        p99=_quantile(variant, 99),
        original_p50=_quantile(original, 50),
        original_p99=_quantile(original, 99),
        ratio=ratio,
        low=low,
        high=high,
        p99_ratio=tail,
        p99_low=tail_low,
        p99_high=tail_high,
        runs=runs,
    )


def _quantile(rounds: Sequence[Times], percent: float) -> float:
    """Return a percentile: the mean of those of the rounds, in logarithms like the ratio beside it."""
    return math.exp(float(np.mean([np.log(np.percentile(times, percent)) for times in rounds])))


def _paired(original: Times, variant: Times) -> float:
    """Return the median over the blocks of the logarithm of the ratio of their medians."""
    return float(np.median(np.log(np.median(variant, axis=1) / np.median(original, axis=1))))


def _tails(original: Times, variant: Times) -> float:
    return float(np.log(np.percentile(variant, 99) / np.percentile(original, 99)))


def _interval(logs: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and 95 % interval of a ratio from its logarithms, one of each round."""
    mean, half = float(np.mean(logs)), _T * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def speed(found: Ratios) -> Speed:
    """Return the verdict; see the head of this module."""
    if found.ratio > 1.0 + TOLERANCE or found.p99_low > 1.0 + TAIL_TOLERANCE:
        return "slower"
    return "faster" if found.high < 1.0 - TOLERANCE else "as fast"
