"""Simulated results of a healthy model, as quick or as slow as wanted, for tests and figures of the watch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.watch.drift import DriftWatch
from edge_opcua.inference.watch.profile import ReferenceProfile, make_profile

FEATURES = 8
PER_MONTH = 100_000.0
"""Results a month: one every 26 s."""
_PART = 100_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plant:
    """A plant whose columns forget where they were at some pace.

    Args:
        memory: Correlation of one sample with the next, 0 for none.
    """

    memory: float = 0.0

    def columns(self, random: np.random.Generator, count: int) -> Floats:
        """Return standard normal columns: of the score, of the confidence, and of the features."""
        steps = random.normal(size=(count, 2 + FEATURES))
        if not self.memory:
            return steps
        keep, new = self.memory, (1 - self.memory**2) ** 0.5
        slow = [
            list(accumulate(column.tolist(), lambda was, step: keep * was + new * step)) for column in steps.T
        ]
        return np.array(slow).T

    def results(self, random: np.random.Generator, count: int) -> Iterator[tuple[float, float, list[float]]]:
        """Yield score, confidence and features of so many results."""
        while count > 0:
            part = min(count, _PART)
            scores, confidences, features = answers(self.columns(random, part))
            yield from zip(scores.tolist(), confidences.tolist(), features.tolist(), strict=True)
            count -= part

    def profile(self, random: np.random.Generator, count: int) -> ReferenceProfile:
        """Return the profile of so many results."""
        scores, confidences, features = answers(self.columns(random, count))
        return make_profile(
            features,
            names=[f"f{number}" for number in range(FEATURES)],
            units=["mm/s"] * FEATURES,
            scores=scores,
            confidences=confidences,
        )


def answers(columns: Floats) -> tuple[Floats, Floats, Floats]:
    """Return scores (skewed, as those of anomaly models are), confidences near 1, and features."""
    scores = 0.3 * np.exp(0.4 * columns[:, 0])
    confidences = 1 - 0.02 * np.exp(0.7 * columns[:, 1])
    return scores, confidences, 3 * columns[:, 2:] + 40


def watch(profile: ReferenceProfile, accepted: float = 1.0, *, per_month: float = PER_MONTH) -> DriftWatch:
    """Return a watch with its limits set."""
    made = DriftWatch(profile, window=100, accepted=accepted)
    made.set_pace(per_month)
    return made


def false_alarms(plant: Plant, *, samples: int, months: float, accepted: float, seed: int) -> int:
    """Return how many alarms begin in so many healthy months, with a profile of so many samples."""
    random = np.random.default_rng(seed)
    watched = watch(plant.profile(random, samples), accepted)
    alarms, standing = 0, set[str]()
    for at, (score, confidence, features) in enumerate(plant.results(random, round(months * PER_MONTH))):
        watched.take(score, confidence, features)
        if at % 25 == 0:
            now = {finding.kind for finding in watched.findings()}
            alarms += len(now - standing)
            standing = now
    return alarms
