"""From the false alarms that are accepted to the limits of the detectors; pure.

Each family of detectors gets an equal part of the false alarms a month, and each column of a family an equal
part of that. A detector that looks at windows alarms at two of the last three windows, so that one window may
be over its limit far more often than there is an alarm; one that looks at each sample alarms once its sum is
over its limit, which is reached by chance once in a known number of samples.

The reference is a sample too, and may be off by chance: limits leave room for that.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

MONTH_S: Final = 30 * 86_400.0
SEEN: Final = 2
OF: Final = 3
"""Windows over the limit, of so many, that make an alarm."""

_OFF: Final = 0.9
"""Share of references that are off by no more than what limits leave room for."""
_DRAWS: Final = 40_000
_LEAST_PSI: Final = 0.1
"""What is held to be no drift at all, however many samples show it."""
_LONGEST: Final = 1000
_SEED: Final = 20_140_701
_NORMAL: Final = NormalDist()

Floats = npt.NDArray[np.float64]


def window_share(alarms_per_month: float, windows_per_month: float) -> float:
    """Return how often one window may be over its limit by chance, so that two of three seldom are.

    Two of three windows, the last one among them, are over by chance in about ``2 p²`` of all windows.

    Args:
        alarms_per_month: Accepted of this detector.
        windows_per_month: Windows it looks at.
    """
    share = alarms_per_month / max(windows_per_month, 1.0)
    return min(0.05, math.sqrt(share / SEEN))


def page_limit(alarms_per_month: float, samples_per_month: float, *, slack: float, off: float) -> float:
    """Return the limit of a sum of normal scores less ``slack`` that is reached by chance as seldom as that.

    Args:
        alarms_per_month: Accepted of one direction of one column.
        samples_per_month: Samples it looks at.
        slack: What is taken off each sample, standard deviations.
        off: How far the mean of the reference may be off, standard deviations.

    Source:
        Siegmund 1985, Sequential Analysis, §10 (average run length of a cumulated sum).
    """
    wanted = max(samples_per_month, 1.0) / alarms_per_month
    left = max(slack - off, 0.05)

    def run_length(limit: float) -> float:
        reach = 2 * left * (limit + 1.166)
        return math.inf if reach > 700 else (math.exp(reach) - reach - 1) / (2 * left * left)

    low, high = 0.0, 1.0
    while run_length(high) < wanted:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if run_length(middle) < wanted else (low, middle)
    return high


def reference_off(independent: float) -> float:
    """Return how far the mean of a reference may be off, standard deviations."""
    return _NORMAL.inv_cdf((1 + _OFF) / 2) / math.sqrt(max(independent, 1.0))


def ks_limit(share: float, window: int, independent: float) -> float:
    """Return the distance of two distributions that a window exceeds by chance as often as ``share``.

    Args:
        share: How often.
        window: Samples of the window.
        independent: Samples of the reference.

    Source:
        Stephens 1970 (finite samples of the Kolmogorov statistic).
    """
    root = math.sqrt(window)
    own = math.sqrt(-math.log(share / 2) / 2) / (root + 0.12 + 0.11 / root)
    return own + 0.87 / math.sqrt(max(independent, 1.0))


def psi_of(counts: npt.NDArray[np.int64], shares: Floats) -> Floats:
    """Return the population stability index of counts against the shares of a reference.

    Half a sample is added to each bin, so that an empty one counts and does not make it infinite.

    Args:
        counts: Samples in each bin, shape ``(…, b)``.
        shares: What the reference has in them, shape ``(b,)``.
    """
    bins = shares.shape[-1]
    total = counts.sum(axis=-1, keepdims=True)
    found = (counts + 0.5) / (total + 0.5 * bins)
    wanted = (shares * total + 0.5) / (total + 0.5 * bins)
    index: Floats = ((found - wanted) * np.log(found / wanted)).sum(axis=-1)
    return index


def psi_limit(share: float, window: int, shares: Floats, independent: float) -> float:
    """Return the index that a window exceeds by chance as often as ``share``.

    What chance does with so many samples in these bins is drawn, since no formula holds for few of them. That
    the reference is off moves it as it moves a χ² that is not central.

    Args:
        share: How often.
        window: Samples of the window.
        shares: What the reference has in each bin, shape ``(b,)``.
        independent: Samples of the reference.
    """
    drawn = drawn_psi(window, tuple(np.round(shares, 6).tolist()))
    central = float(drawn[min(len(drawn) - 1, int((1 - share) * len(drawn)))])
    freedom = max(len(shares) - 1, 1)
    off = window * _chi2_quantile(_OFF, freedom) / max(independent, 1.0)
    stretched = _chi2_quantile(1 - share, freedom, off) / _chi2_quantile(1 - share, freedom)
    return max(_LEAST_PSI, central * stretched)


def drawn_means(window: int, shares: Floats, quantiles: Floats) -> Floats:
    """Return means of windows of a reference as chance makes them, rising; takes some 20 ms.

    Args:
        window: Samples of the window.
        shares: Shares for which quantiles are known, shape ``(q,)``.
        quantiles: The quantiles of the reference, shape ``(q,)``.
    """
    random = np.random.default_rng(_SEED)
    size = min(window, _LONGEST)
    means = np.empty(_DRAWS // 4)
    for at in range(0, len(means), 1000):  # in parts: windows may be long
        means[at : at + 1000] = np.interp(random.random((1000, size)), shares, quantiles).mean(axis=1)
    centre = means.mean()
    return np.sort(centre + (means - centre) * math.sqrt(size / window))


def lowest_mean(share: float, window: int, means: Floats, independent: float) -> float:
    """Return the mean of a window that is undercut by chance as often as ``share``.

    Args:
        share: How often.
        window: Samples of the window.
        means: What chance makes, of :func:`drawn_means`.
        independent: Samples of the reference.
    """
    own = float(means[int(share * len(means))])
    spread = float(means.std()) * math.sqrt(window)
    return own - _NORMAL.inv_cdf(_OFF) * spread / math.sqrt(max(independent, 1.0))


@lru_cache(maxsize=64)
def drawn_psi(window: int, shares: tuple[float, ...]) -> Floats:
    """Return the indices of windows as chance makes them, rising; takes some 50 ms at the first time.

    Args:
        window: Samples of the window.
        shares: What the reference has in each bin.
    """
    wanted = np.array(shares) / sum(shares)
    counts = np.random.default_rng(_SEED).multinomial(window, wanted, _DRAWS)
    return np.sort(psi_of(counts, wanted))


def _chi2_quantile(share: float, freedom: float, off_centre: float = 0.0) -> float:
    """Return a quantile of χ², also of one that is not central.

    Source:
        Patnaik 1949 (by a central one), Wilson and Hilferty 1931 (by the normal distribution).
    """
    stretch = (freedom + 2 * off_centre) / (freedom + off_centre)
    like = (freedom + off_centre) ** 2 / (freedom + 2 * off_centre)
    part = 2 / (9 * like)
    root = 1 - part + _NORMAL.inv_cdf(share) * math.sqrt(part)
    return stretch * like * max(root, 0.0) ** 3
