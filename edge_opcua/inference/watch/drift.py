"""Drift: whether what a model is given, and what it answers, is still what it was trained on; pure.

Each column is looked at in two ways. Windows are held against the reference as a whole (population stability
index; for the score also the Kolmogorov-Smirnov distance), and every sample goes into Page's sums, which find
a small lasting change soonest. Sums run over normal scores: the place of a sample in the reference as the
value that a normal distribution has there, so that limits hold whatever the distribution is.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.watch.columns import BINS, FEWEST_INDEPENDENT, ReferenceColumn, reference_column
from edge_opcua.inference.watch.findings import Finding, Persistence
from edge_opcua.inference.watch.limits import (
    drawn_means,
    drawn_psi,
    ks_limit,
    lowest_mean,
    page_limit,
    psi_limit,
    psi_of,
    reference_off,
    window_share,
)
from edge_opcua.inference.watch.profile import CONFIDENCE, FIRST_FEATURE, SCORE, ReferenceProfile

SLACK: Final = 0.5
"""Taken off each normal score: a change of one standard deviation is found soonest."""
FAMILIES: Final = 5
"""Each gets as many of the accepted false alarms: PSI, KS, level, spread, confidence."""
_FULL: Final = 2.0
"""Times its limit a sum can reach: so soon it comes down again when what was wrong is over."""
_RECENT: Final = 1 / 16

Floats = npt.NDArray[np.float64]

_WORDS: Final = ("is above", "is below", "varies more than", "varies less than")


@dataclass(slots=True)
class _Limits:
    psi: float = float("inf")
    ks: float = float("inf")
    page: float = float("inf")


class _Column:
    """One column with its window and its sums."""

    def __init__(self, reference: ReferenceColumn, window: int, at: int, name: str, unit: str) -> None:
        self.reference = reference
        self.at = at
        self.name = name
        self.unit = unit
        self.limits = _Limits()
        self.psi = self.ks = float("nan")
        self.recent = float("nan")
        self._window = window
        self._edges = reference.edges.tolist()
        self._level = reference.level.tolist()
        self._spread = reference.spread.tolist()
        self._counts = [0] * (len(self._edges) + 1)
        self._filled = 0
        self._sums = [0.0] * 4
        self._page_on = False
        self._by_psi, self._by_ks = Persistence(), Persistence()

    def take(self, value: float) -> None:
        """Take one sample."""
        place = bisect_right(self._edges, value)
        self._counts[place] += 1
        self._filled += 1
        self.recent = value if self.recent != self.recent else self.recent + (value - self.recent) * _RECENT
        level, spread = self._level[place], self._spread[place]
        sums, full = self._sums, _FULL * self.limits.page
        for which, step in enumerate((level, -level, spread, -spread)):
            sums[which] = min(full, max(0.0, sums[which] + step - SLACK))
        highest = max(sums)
        if highest > self.limits.page:
            self._page_on = True
        elif highest < self.limits.page / 2:
            self._page_on = False
        if self._filled == self._window:
            self._look()

    @property
    def page(self) -> float:
        """The highest of the sums, as a share of the limit."""
        return max(self._sums) / self.limits.page

    def finding(self) -> str:
        """Return what is wrong with it, in words; empty if nothing is."""
        if self._page_on:
            which = self._sums.index(max(self._sums))
            return f"{_WORDS[which]} what was trained (now {self.recent:.4g} {self.unit}".rstrip() + ")"
        if self._by_psi.on:
            return f"is distributed otherwise (PSI {self.psi:.2f}, limit {self.limits.psi:.2f})"
        if self._by_ks.on:
            return f"is distributed otherwise (KS {self.ks:.2f}, limit {self.limits.ks:.2f})"
        return ""

    def _look(self) -> None:
        """Hold the window that is full against the reference, and begin the next one."""
        counts = np.array(self._counts)
        reference = self.reference
        coarse = np.bincount(reference.coarse, weights=counts, minlength=len(reference.shares))
        self.psi = float(psi_of(coarse.astype(np.int64), reference.shares))
        found = np.cumsum(counts)[:-1] / self._window
        self.ks = float(np.abs(found - reference.below[1:-1]).max())
        self._by_psi.take(self.psi, self.limits.psi)
        self._by_ks.take(self.ks, self.limits.ks)
        self._counts = [0] * len(self._counts)
        self._filled = 0


class DriftWatch:
    """The score, the confidence and the features of one model, held against its profile.

    Args:
        profile: The profile.
        window: Samples that are looked at together.
        accepted: False alarms a month that are accepted of all detectors together.
        confidence_low: Mean confidence of a window below which there is an alarm; None: from the profile.

    Attributes:
        confidence_on: Whether the alarm about the confidence stands.
        confidence_limit: Mean confidence below which a window is too low; NaN if nothing is known.
        unknown: Names of the columns that the profile does not know well enough.
    """

    def __init__(
        self,
        profile: ReferenceProfile,
        *,
        window: int,
        accepted: float,
        confidence_low: float | None = None,
    ) -> None:
        self._profile = profile
        self._window = window
        self._accepted = accepted
        self._confidence_low = confidence_low
        bins = BINS if window >= 10 * BINS else max(3, window // 10)
        units = ("", "", *profile.units)
        self._columns: list[_Column] = []
        self.unknown: list[str] = []
        for at, name in enumerate(profile.columns):
            if at == CONFIDENCE:
                continue
            reference = reference_column(profile, at, bins=bins)
            if reference is not None:
                self._columns.append(_Column(reference, window, at, name, units[at]))
            elif np.ptp(profile.quantiles[at]) > 0:  # what never moved cannot drift slowly
                self.unknown.append(name)
        self._confidence = ConfidenceWatch(profile, window)
        for column in self._columns:  # drawn now: later it would hold up the lane
            drawn_psi(window, tuple(np.round(column.reference.shares, 6).tolist()))
        self._seen = 0
        self._per_month = 0.0

    def set_pace(self, results_per_month: float) -> None:
        """Set the limits for so many results a month."""
        self._per_month = results_per_month
        family = self._accepted / FAMILIES
        each = family / max(1, len(self._columns))
        for column in self._columns:
            reference = column.reference
            samples = results_per_month / reference.stride
            share = window_share(each, samples / self._window)
            column.limits = _Limits(
                psi_limit(share, self._window, reference.shares, reference.independent),
                float("inf"),
                page_limit(each / 2, samples, slack=SLACK, off=reference_off(reference.independent)),
            )
            if column.at == SCORE:
                own = window_share(family, samples / self._window)
                column.limits.ks = ks_limit(own, self._window, reference.independent)
        self._confidence.set_pace(family, results_per_month, self._confidence_low)

    @property
    def results_per_month(self) -> float:
        """Results a month that the limits are made for; 0 before the first time."""
        return self._per_month

    def take(self, score: float, confidence: float, features: list[float]) -> None:
        """Take one result; a number that is not finite leaves out its column.

        Args:
            score: What the model answered.
            confidence: How sure it was; NaN if it does not say.
            features: What it was given.
        """
        self._seen += 1
        for column in self._columns:
            if self._seen % column.reference.stride:
                continue
            value = score if column.at == SCORE else features[column.at - FIRST_FEATURE]
            if value - value == 0.0:  # neither NaN nor infinite
                column.take(value)
        self._confidence.take(confidence)

    @property
    def score(self) -> tuple[float, float]:
        """PSI and KS of the last full window of scores; NaN before the first."""
        found = next((column for column in self._columns if column.at == SCORE), None)
        return (float("nan"), float("nan")) if found is None else (found.psi, found.ks)

    @property
    def worst(self) -> tuple[float, str]:
        """PSI and name of the feature that has drifted furthest; NaN before the first full window."""
        known = [column for column in self._columns if column.at != SCORE and column.psi == column.psi]
        most = max(known, key=lambda column: column.psi, default=None)
        return (float("nan"), "") if most is None else (most.psi, most.name)

    @property
    def page_hinkley(self) -> float:
        """The highest of Page's sums, as a share of its limit."""
        return max((column.page for column in self._columns), default=float("nan"))

    def findings(self) -> list[Finding]:
        """Return what is wrong now: about the drift at most one sentence, and one about the confidence."""
        found = []
        drifted = [(column, text) for column in self._columns if (text := column.finding())]
        if drifted:
            column, text = max(drifted, key=lambda each: each[0].page)
            others = f", and {len(drifted) - 1} more" if len(drifted) > 1 else ""
            found.append(Finding("drift", f"{column.name} {text}{others}", column.page, 1.0))
        if (low := self._confidence.finding()) is not None:
            found.append(low)
        return found


class ConfidenceWatch:
    """The mean confidence of windows.

    Args:
        profile: The profile; None if there is none.
        window: Samples that are looked at together.

    Attributes:
        limit: Mean below which a window is too low; NaN if nothing is known.
    """

    def __init__(self, profile: ReferenceProfile | None, window: int) -> None:
        known = profile is not None and profile.independent[CONFIDENCE] >= FEWEST_INDEPENDENT
        self._stride = int(profile.stride[CONFIDENCE]) if known and profile is not None else 1
        self._independent = 0.0 if profile is None else float(profile.independent[CONFIDENCE])
        self._window = window
        self._means: Floats | None = None
        if known and profile is not None:  # drawn now: later it would hold up the lane
            self._means = drawn_means(window, profile.shares, profile.quantiles[CONFIDENCE])
        self.limit = float("nan")
        self._mean = float("nan")
        self._sum, self._filled, self._seen = 0.0, 0, 0
        self._alarm = Persistence()

    def set_pace(self, accepted: float, results_per_month: float, low: float | None) -> None:
        """Set the limit; what the configuration says goes before the profile."""
        if low is not None:
            self.limit = low
        elif self._means is not None:
            share = window_share(accepted, results_per_month / self._stride / self._window)
            self.limit = lowest_mean(share, self._window, self._means, self._independent)

    def take(self, confidence: float) -> None:
        """Take one result."""
        self._seen += 1
        if confidence != confidence or self._seen % self._stride:
            return
        self._sum += confidence
        self._filled += 1
        if self._filled == self._window:
            self._mean = self._sum / self._window
            self._sum, self._filled = 0.0, 0
            if self.limit == self.limit:
                self._alarm.take(1 - self._mean, 1 - self.limit)

    def finding(self) -> Finding | None:
        """Return that it is too low, if it is."""
        if not self._alarm.on:
            return None
        text = f"mean confidence {self._mean:.3f} of the last {self._window} results, limit {self.limit:.3f}"
        return Finding("confidence", text, self._mean, self.limit)
