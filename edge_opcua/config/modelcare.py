"""How a pipeline changes its model and looks after it: shadow, probation, roll-back, alarms, telemetry."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, field_validator

from edge_opcua.config.fields import STRICT, split_address

RollbackReason: TypeAlias = Literal[
    "errors", "not_a_number", "latency", "reference", "crash", "drift", "confidence"
]
AgePolicy: TypeAlias = Literal["warn", "degrade", "fail_safe"]

ROLLED_BACK_FOR: Final[tuple[RollbackReason, ...]] = (
    "errors",
    "not_a_number",
    "latency",
    "reference",
    "crash",
)
"""What is the model's own fault for sure. A plant that drifts does so under the former version too."""


class ChangeConfig(BaseModel):
    """How a new version of the model takes over, and when the former one comes back."""

    model_config = STRICT

    shadow: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=0,
        description="Captures that a new version judges beside the active one, unseen, before it takes "
        "over; 0 takes over at once. A client that loads a model may ask for another number.",
    )
    shadow_s: Annotated[float, Field(gt=0, le=2_592_000)] = Field(
        default=3600, description="Longest time (s) for them; if fewer came, the version is refused."
    )
    agreement: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.98,
        description="Least share of these captures on which both versions gave the same verdict; below it "
        "the new one is refused.",
    )
    probation_s: Annotated[float, Field(ge=0, le=604_800)] = Field(
        default=60,
        description="Time (s) after a change during which an unclean end of the server, or of the process "
        "of the new version, brings the former one back.",
    )
    keep_warm_s: Annotated[float, Field(ge=0, le=604_800)] = Field(
        default=600,
        description="Time (s) that the former version stays loaded beside the new one, so that it is back "
        "within milliseconds; 0 ends it at once.",
    )
    rollback_on: tuple[RollbackReason, ...] = Field(
        default=ROLLED_BACK_FOR,
        description="What makes the server go back to the former version by itself; empty never does.",
    )


class WatchConfig(BaseModel):
    """What the model of a pipeline is watched for."""

    model_config = STRICT

    window: Annotated[int, Field(ge=8, le=100_000)] = Field(
        default=100, description="Results that are looked at together."
    )
    error_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="Share of failed runs of a window from which on the model is at fault."
    )
    late_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.05, description="Share of late verdicts of a window from which on it is too slow."
    )
    confidence_low: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="Mean confidence of a window below which there is an alarm; from the reference profile "
        "of the model if left out.",
    )
    false_alarms_per_month: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=1.0,
        description="How many false drift alarms a month are accepted while nothing is wrong; the limits "
        "of the detectors follow from it and from how often results come.",
    )
    reference_every_s: Annotated[float, Field(ge=0, le=604_800)] = Field(
        default=600,
        description="How often (s) the running model answers its reference samples again; 0 never.",
    )
    stuck_s: Annotated[float, Field(gt=0, le=604_800)] = Field(
        default=60, description="Time (s) after which an input that has not moved at all is called stuck."
    )
    max_age_days: Annotated[float, Field(gt=0, le=36_500)] | None = Field(
        default=None, description="Age (days since training) of a model; the manifest's if left out."
    )
    when_old: AgePolicy | None = Field(
        default=None,
        description="What an older model gives: `warn` its verdicts and an alarm, `degrade` Uncertain ones, "
        "`fail_safe` the fail-safe verdict. The manifest's if left out, else `warn`.",
    )


class TelemetryConfig(BaseModel):
    """What monitoring systems get."""

    model_config = STRICT

    prometheus: str | None = Field(
        default=None,
        description="Address and port on which Prometheus may read the metrics (`/metrics`), e.g. "
        "`127.0.0.1:9464`; none if left out. It is plain HTTP: keep it on the machine or a closed network.",
    )

    @field_validator("prometheus")
    @classmethod
    def _prometheus_is_host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value
