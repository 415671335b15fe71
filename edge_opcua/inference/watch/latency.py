"""How long verdicts take, as a histogram in microseconds that adds up over versions of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BOUNDS_US: Final = (
    50,
    *(step * decade for decade in (100, 1_000, 10_000, 100_000) for step in (1, 2, 3, 5)),
    *(1_000_000, 2_000_000, 3_000_000, 5_000_000, 10_000_000),
)
"""Upper ends of the buckets, inclusive, µs; one more bucket takes what is above the last."""

BUCKETS: Final = len(BOUNDS_US) + 1


class LatencyHistogram:
    """Counts verdicts by how long they took.

    Args:
        counts: Where a former one stopped, shape ``(BUCKETS,)``.
        sum_us: The sum of what it has counted, µs.

    Attributes:
        counts: Verdicts in each bucket, not cumulated, uint64, shape ``(BUCKETS,)``.
        sum_us: What they took together, µs.
    """

    def __init__(self, counts: npt.NDArray[np.uint64] | None = None, sum_us: float = 0.0) -> None:
        fits = counts is not None and counts.shape == (BUCKETS,)
        self.counts: npt.NDArray[np.uint64] = (
            counts.astype(np.uint64) if counts is not None and fits else np.zeros(BUCKETS, np.uint64)
        )
        self.sum_us = sum_us if fits else 0.0

    def add(self, latency_us: float) -> None:
        """Count one verdict."""
        self.counts[np.searchsorted(_BOUNDS, latency_us)] += np.uint64(1)
        self.sum_us += latency_us


def quantile_us(counts: npt.NDArray[np.uint64] | Sequence[int], share: float) -> float:
    """Return the upper end of the bucket that holds a quantile, µs; NaN while nothing is counted.

    Args:
        counts: Verdicts in each bucket.
        share: Which quantile, 0..1.
    """
    cumulated = np.cumsum(np.asarray(counts, np.float64))
    if not cumulated.size or not cumulated[-1]:
        return float("nan")
    bucket = int(np.searchsorted(cumulated, share * cumulated[-1]))
    return float(BOUNDS_US[bucket]) if bucket < len(BOUNDS_US) else float("inf")


_BOUNDS: Final = np.array(BOUNDS_US, np.float64)
