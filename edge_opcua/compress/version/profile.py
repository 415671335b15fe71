"""The reference profile of a variant: the original's, with the scores that the variant gives instead.

The samples the profile was made of are gone. But what the variant does to a score shows on any samples: the
quantiles of the original's scores are moved to where the variant's lie, and what is fed in stays as it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.version.answering import Answered
from edge_opcua.inference.watch.profile import CONFIDENCE, FEWEST, SCORE, ReferenceProfile

Floats = npt.NDArray[np.float64]
MOST_ROWS: Final = 300
"""Samples that both models are asked for it; each is a run."""


def moved_profile(profile: ReferenceProfile, original: Answered, variant: Answered) -> ReferenceProfile:
    """Return the profile with scores and confidences of a variant; as it is if the samples are too few.

    Args:
        profile: Of the original.
        original: What the original said of some samples.
        variant: What the variant said of the same.
    """
    if len(original.scores) < FEWEST:
        return profile
    quantiles, mean, std = profile.quantiles.copy(), profile.mean.copy(), profile.std.copy()
    for column, before, after in (
        (SCORE, original.scores, variant.scores),
        (CONFIDENCE, original.confidences, variant.confidences),
    ):
        if not np.isfinite(profile.quantiles[column]).all():
            continue  # the model does not say how sure it is
        quantiles[column] = moved(profile.quantiles[column], before, after)
        mean[column] += float(np.mean(after - before))
        if before.std() > 0.0:
            std[column] *= float(after.std() / before.std())
    return replace(profile, quantiles=quantiles, mean=mean, std=std)


def moved(quantiles: Floats, before: Floats, after: Floats) -> Floats:
    """Return quantiles of one distribution, moved as another one has moved.

    Args:
        quantiles: Rising values, shape ``(q,)``.
        before: Samples of the other distribution before, shape ``(n,)``.
        after: The same samples after, shape ``(n,)``.

    Returns:
        Rising values, shape ``(q,)``; beyond the samples they move as the outermost sample does.

    Source:
        Quantile mapping (Panofsky and Brier, Some Applications of Statistics to Meteorology, 1958), of the
        differences.
    """
    lower, upper = np.sort(before), np.sort(after)
    places, first = np.unique(lower, return_inverse=True)
    shifts = np.bincount(first, weights=upper - lower) / np.bincount(first)
    result: Floats = np.maximum.accumulate(quantiles + np.interp(quantiles, places, shifts))
    return result
