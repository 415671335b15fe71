"""The watch of one model: results in, figures and alarms out; pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from edge_opcua.inference.watch.age import Age, age_of
from edge_opcua.inference.watch.drift import ConfidenceWatch, DriftWatch
from edge_opcua.inference.watch.findings import Finding, Recent
from edge_opcua.inference.watch.former import FormerVersion
from edge_opcua.inference.watch.limits import MONTH_S
from edge_opcua.inference.watch.profile import ReferenceProfile
from edge_opcua.inference.watch.quality import QualityWatch, names_of
from edge_opcua.inference.watch.seen import Seen
from edge_opcua.inference.watch.terms import WatchTerms
from edge_opcua.inference.watch.trend import Trend, TrendWatch

_SCORES: Final = 1024
"""Scores at most of which quantiles are shown."""
_NAMED: Final = 2
"""Columns that a note names: it has 160 characters for all that it says."""
_GAPS: Final = 65
_FASTER: Final = 1.5
"""Times as often as the limits were made for that results may come."""
_POINT: Final = 8
"""Parts of a window whose means make a trend."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a model now; a figure that is not known is NaN.

    Args:
        findings: What is wrong.
        age: How old it is.
        error_share: Share of failed runs of the last window.
        late_share: Share of late verdicts of the last window.
        score: Mean, median and 99 % quantile of the last scores.
        confidence: Mean of the last confidences.
        psi_score: Index of the last full window of scores.
        psi_feature: The largest index of a feature, and its name.
        ks: Distance of the last full window of scores.
        page_hinkley: The highest of Page's sums, as a share of its limit.
        quality: What is wrong with the inputs, in words.
        trend: When the score reaches its limit.
        note: What cannot be known, in words.
    """

    findings: tuple[Finding, ...]
    age: Age
    error_share: float = math.nan
    late_share: float = math.nan
    score: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    confidence: float = math.nan
    psi_score: float = math.nan
    psi_feature: tuple[float, str] = (math.nan, "")
    ks: float = math.nan
    page_hinkley: float = math.nan
    quality: str = ""
    trend: Trend = field(default_factory=Trend)
    note: str = ""


class ModelWatch:
    """Watches one model while it judges for one pipeline.

    Args:
        terms: What it needs to know.
        profile: What the model was trained on; None if that is not known.
    """

    def __init__(self, terms: WatchTerms, profile: ReferenceProfile | None) -> None:
        self.terms = terms
        self._profile = profile
        window = terms.window
        self._errors = Recent(window, terms.error_share)
        self._numbers = Recent(window, terms.error_share)
        self._late = Recent(window, terms.late_share)
        self._quality = QualityWatch(terms.inputs, profile)
        self._drift: DriftWatch | None = None
        self._confidence = ConfidenceWatch(None, window)
        self._confidence.set_pace(0.0, 0.0, terms.confidence_low)
        if profile is not None:
            accepted = terms.false_alarms_per_month
            self._drift = DriftWatch(
                profile, window=window, accepted=accepted, confidence_low=terms.confidence_low
            )
            if terms.period_ms is not None:
                self._drift.set_pace(MONTH_S / (terms.period_ms / 1e3))
        self._trend = TrendWatch(terms.limit, max(1, window // _POINT))
        self._scores: deque[float] = deque(maxlen=min(window, _SCORES))
        self._confidences: deque[float] = deque(maxlen=min(window, _SCORES))
        self._gaps: deque[float] = deque(maxlen=_GAPS)
        self._last_ns = 0
        self._taken = self._blind = 0
        self._reason = ""
        self.former = FormerVersion(terms.deadline_ms)

    @property
    def gap_s(self) -> float:
        """Time within which nine of ten further captures do not come, s; NaN before there were some."""
        return float(np.quantile(self._gaps, 0.1)) if len(self._gaps) > _GAPS // 4 else math.nan

    def take(self, seen: Seen) -> None:
        """Take one result of this model."""
        self._taken += 1
        self._count(seen)
        self._pace(seen.captured_ns)
        if seen.unusable:
            self._quality.missed(seen.unusable)
        if seen.features is not None:
            self._quality.take(seen.features, seen.captured_ns)
        if seen.is_answered:
            self._blind += seen.features is None
            self._scores.append(seen.score)
            self._confidences.append(seen.confidence)
            self._trend.take(seen.score, seen.captured_ns)
            self.former.take(seen)
        if self._drift is None:
            self._confidence.take(seen.confidence)
        elif self._drift.results_per_month and (seen.is_answered or seen.features is not None):
            features = (
                [math.nan] * len(self.terms.inputs.names) if seen.features is None else seen.features.tolist()
            )
            self._drift.take(seen.score, seen.confidence, features)

    def _count(self, seen: Seen) -> None:
        if seen.failed or seen.is_answered:
            self._errors.take(mark=seen.failed)
            self._numbers.take(mark=seen.not_a_number)
        if seen.failed:
            self._reason = seen.reason
        if not seen.unusable and not seen.prevented:
            self._late.take(mark=seen.refused or seen.latency_us > self.terms.deadline_ms * 1e3)

    def _pace(self, captured_ns: int) -> None:
        """Learn how often results come: the limits of the drift follow from it."""
        if self._last_ns and captured_ns > self._last_ns:
            self._gaps.append((captured_ns - self._last_ns) / 1e9)
        self._last_ns = captured_ns
        if self._drift is None or len(self._gaps) < _GAPS or self._taken % _GAPS:
            return
        per_month = MONTH_S / max(float(np.median(self._gaps)), 1e-3)
        if per_month > _FASTER * self._drift.results_per_month:
            self._drift.set_pace(per_month)

    def report(self, utc_ns: int, others: Sequence[Finding] = (), *, probation: bool = False) -> Report:
        """Return what is known now.

        Args:
            utc_ns: The time, ns UTC.
            others: What was found elsewhere, e.g. by the reference samples.
            probation: Whether the former version is still what this one is held against.
        """
        age = age_of(self.terms.age, utc_ns)
        quality = self._quality.finding()
        found = [*self._shares(), *others, quality, self._trend.finding()]
        if age.state == "old":
            found.append(Finding("age", age.reason, age.days, self.terms.age.max_days))
        found += self._drift.findings() if self._drift is not None else [self._confidence.finding()]
        if probation:
            found += self.former.findings()
        report = Report(
            tuple(each for each in found if each is not None),
            age,
            self._errors.share,
            self._late.share,
            confidence=_mean(self._confidences),
            quality=names_of(self._quality.findings()),
            trend=self._trend.now,
            note=self._note(age),
        )
        return self._with_scores(report)

    def _with_scores(self, report: Report) -> Report:
        if self._scores:
            middle, high = np.quantile(self._scores, (0.5, 0.99))
            report = replace(report, score=(_mean(self._scores), float(middle), float(high)))
        if self._drift is None:
            return report
        psi, ks = self._drift.score
        return replace(
            report,
            psi_score=psi,
            ks=ks,
            psi_feature=self._drift.worst,
            page_hinkley=self._drift.page_hinkley,
        )

    def _shares(self) -> list[Finding | None]:
        terms, errors, late = self.terms, self._errors, self._late
        found: list[Finding | None] = []
        if self._numbers.on:
            text = f"{self._numbers.count} of the last {self._numbers.seen} answers are no number"
            found.append(Finding("not_a_number", text, self._numbers.share, terms.error_share))
        if errors.on:
            text = f"{errors.count} of the last {errors.seen} runs failed: {self._reason}"
            found.append(Finding("errors", text, errors.share, terms.error_share))
        if late.on:
            text = f"{late.count} of the last {late.seen} verdicts were not there in {terms.deadline_ms:g} ms"
            found.append(Finding("latency", text, late.share, terms.late_share))
        return found

    def _note(self, age: Age) -> str:
        """Say what cannot be known."""
        notes = []
        if self._profile is None:
            notes.append(self.terms.profile_fault or "no reference profile: drift is not watched")
        elif self._drift is not None and self._drift.unknown:
            unknown = self._drift.unknown
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            named = ", ".join(unknown[:_NAMED])
            notes.append(f"too few independent samples in the profile of {named}{more}")
        if self._blind:
            notes.append("its features do not fit into a result: of what it is given nothing is watched")
        if self._drift is not None and not self._drift.results_per_month:
            notes.append("drift is watched once it is known how often results come")
        if age.state == "unknown":
            notes.append(f"age not known: {age.reason or 'nobody said when it was trained'}")
        return "; ".join(notes)


def _mean(values: deque[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
