"""A column of a profile as the detectors see it: bins, and for each bin its normal score; pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.watch.profile import ReferenceProfile

FEWEST_INDEPENDENT: Final = 20
"""Independent samples of a column below which drift cannot be told from chance."""
BINS: Final = 10

_NORMAL: Final = NormalDist()
_FURTHEST: Final = 0.0005
"""Share that lies beyond the last normal score that is told apart."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceColumn:
    """One column of a profile.

    Args:
        edges: Values between the fine bins, rising, shape ``(f - 1,)``.
        below: Share of the reference below each fine bin, and 1 at the end, shape ``(f + 1,)``.
        level: Normal score of each fine bin, shape ``(f,)``.
        spread: Normal score of how far from the middle each fine bin lies, shape ``(f,)``.
        coarse: Coarse bin of each fine one, shape ``(f,)``.
        shares: Share of the reference in each coarse bin, shape ``(b,)``.
        stride: Samples after which it has forgotten where it was.
        independent: Samples of it that tell something new.
    """

    edges: Floats
    below: Floats
    level: Floats
    spread: Floats
    coarse: npt.NDArray[np.int64]
    shares: Floats
    stride: int
    independent: float


def reference_column(profile: ReferenceProfile, column: int, *, bins: int = BINS) -> ReferenceColumn | None:
    """Return one column; None if the profile does not know enough of it.

    A column that hardly has values of its own, or none, e.g. a set-point, has bins as it has values.

    Args:
        profile: The profile.
        column: Which of its columns.
        bins: Coarse bins at most.
    """
    independent = float(profile.independent[column])
    quantiles = profile.quantiles[column]
    if independent < FEWEST_INDEPENDENT or not np.isfinite(quantiles).all() or quantiles[0] == quantiles[-1]:
        return None
    edges = np.unique(quantiles[1:-1])
    below = profile.shares[np.searchsorted(quantiles, edges, side="left")]
    upto = profile.shares[np.searchsorted(quantiles, edges, side="right") - 1]
    # A value that many samples share is a bin of its own, between itself and the next number there is.
    shared = upto > below
    cuts = np.sort(np.concatenate((edges, np.nextafter(edges[shared], np.inf))))
    under = np.sort(np.concatenate((below, upto[shared])))
    bounds = np.concatenate(([0.0], under, [1.0]))
    middle = np.clip((bounds[1:] + bounds[:-1]) / 2, _FURTHEST, 1 - _FURTHEST)
    away = np.clip(np.abs(2 * middle - 1), _FURTHEST, 1 - _FURTHEST)
    coarse = np.minimum((middle * bins).astype(np.int64), bins - 1)
    coarse = np.unique(coarse, return_inverse=True)[1].astype(np.int64)
    shares = np.bincount(coarse, weights=np.diff(bounds)).astype(np.float64)
    return ReferenceColumn(
        cuts,
        bounds,
        _scores(middle, np.diff(bounds)),
        _scores(away, np.diff(bounds)),
        coarse,
        shares,
        int(profile.stride[column]),
        independent,
    )


def _scores(shares: Floats, weights: Floats) -> Floats:
    """Return normal scores of shares, with the mean 0 and the variance at most 1 over the reference."""
    scores = np.array([_NORMAL.inv_cdf(float(share)) for share in shares])
    centred = scores - np.average(scores, weights=weights)
    spread = float(np.sqrt(np.average(centred**2, weights=weights)))
    scaled: Floats = centred / max(spread, 1.0)
    return scaled
