"""What the watch of one model needs to know: of the configuration, its manifest, and its measurements."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_opcua.config.modelcare import WatchConfig
from edge_opcua.config.schema import PipelineConfig
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.watch.age import AgeTerms
from edge_opcua.inference.watch.quality import InputTerms


@dataclass(frozen=True, slots=True)
class WatchTerms:
    """What the watch of one model needs to know.

    Args:
        pipeline: Name of the pipeline.
        model: ``<name>/<version>``.
        inputs: What it is given.
        age: How old it may become.
        limit: Limit of its score; NaN if the score has none.
        window: Results that are looked at together.
        error_share: Share of failed runs from which on it is at fault.
        late_share: Share of late verdicts from which on it is too slow.
        confidence_low: Mean confidence below which there is an alarm; None: from the profile.
        false_alarms_per_month: False drift alarms that are accepted.
        reference_every_s: How often it answers its reference samples again, s; 0: never.
        deadline_ms: Longest time to a verdict.
        period_ms: Shortest time between two captures; None if nobody said it.
        probation_s: Time after a change in which it is held against the former version, s.
        profile_fault: Why its profile cannot be used; empty if it can, or there is none.
    """

    pipeline: str
    model: str
    inputs: InputTerms
    age: AgeTerms
    limit: float = 1.0
    window: int = 100
    error_share: float = 0.05
    late_share: float = 0.05
    confidence_low: float | None = None
    false_alarms_per_month: float = 1.0
    reference_every_s: float = 600.0
    deadline_ms: float = 100.0
    period_ms: float | None = None
    probation_s: float = 60.0
    profile_fault: str = ""


def terms_of(pipeline: PipelineConfig, manifest: Manifest, *, profile_fault: str = "") -> WatchTerms:
    """Return the terms of a pipeline with a model; what the configuration says goes before the manifest.

    Args:
        pipeline: The pipeline.
        manifest: What the model promises.
        profile_fault: Why its profile cannot be used; empty if it can.
    """
    watch, features = pipeline.watch, manifest.features
    return WatchTerms(
        pipeline=pipeline.name,
        model=f"{manifest.name}/{manifest.version}",
        inputs=InputTerms(
            manifest.names,
            tuple(feature.unit for feature in features),
            tuple(feature.low for feature in features),
            tuple(feature.high for feature in features),
            watch.stuck_s,
        ),
        age=age_terms(watch, manifest),
        limit=manifest.limit if manifest.output is None else math.nan,
        window=watch.window,
        error_share=watch.error_share,
        late_share=watch.late_share,
        confidence_low=watch.confidence_low,
        false_alarms_per_month=watch.false_alarms_per_month,
        reference_every_s=watch.reference_every_s,
        deadline_ms=pipeline.deadline_ms,
        period_ms=pipeline.period_ms,
        probation_s=pipeline.change.probation_s,
        profile_fault=profile_fault,
    )


def age_terms(watch: WatchConfig, manifest: Manifest) -> AgeTerms:
    """Return how old a model may become; what the configuration says goes before the manifest."""
    age = manifest.age
    most = watch.max_age_days
    if most is None:
        most = math.inf if age is None else age.max_days
    then = watch.when_old or ("warn" if age is None else age.then)
    return AgeTerms(None if age is None else age.trained_ns, most, then)
