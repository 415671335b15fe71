"""How fast a column moves: when it has forgotten where it was, and how long it stands still."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_FORGOTTEN: Final = 0.1
"""Correlation below which two samples of a column count as two."""
_NOISE: Final = 2.0
"""A correlation within so many standard errors of none is none."""


def stride_of(values: npt.NDArray[np.float64]) -> int:
    """Return after how many samples a column has forgotten where it was, from 1 to a third of its length.

    The correlation of samples that lie apart is followed until it has come down to 0.1, or to what samples
    that know nothing of each other show by chance.

    Args:
        values: The column in the order of time, shape ``(n,)``.

    Source:
        Bartlett 1946 (standard error of a sample autocorrelation).
    """
    n = len(values)
    if not np.isfinite(values).all():
        return 1
    centred = values - values.mean()
    power = float(centred @ centred)
    if power <= 0:
        return 1
    limit = max(_FORGOTTEN, _NOISE / np.sqrt(n))
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    correlation = np.fft.irfft(spectrum * np.conj(spectrum), size)[: max(2, n // 3)] / power
    below = np.flatnonzero(correlation < limit)
    return int(below[0]) if below.size else len(correlation)


def longest_hold(values: npt.NDArray[np.float64]) -> int:
    """Return the longest run of equal samples of a column, at least 1.

    Args:
        values: The column in the order of time, shape ``(n,)``.
    """
    moves = np.flatnonzero(np.diff(values) != 0)
    ends = np.concatenate(([-1], moves, [len(values) - 1]))
    return int(np.diff(ends).max())
