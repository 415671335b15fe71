"""How pipelines share processes and processors: classes of lanes, their groups, and what must stay free."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from edge_opcua.config.fields import STRICT, Name

LaneName: TypeAlias = Literal["safety", "realtime", "best_effort"]
LatePolicy: TypeAlias = Literal["fail_safe", "hold_last", "publish_late"]

AUTO: Final = "auto"
MOST_VERSION: Final = 1_000_000


def _version_or_auto(value: object, inner: ValidatorFunctionWrapHandler) -> object:
    """Say in one sentence what may stand here: a union tells for each of its parts what it is not."""
    try:
        return inner(value)
    except ValidationError as exc:
        text = 'is neither a version from 1 to {most} nor "{auto}"'
        raise PydanticCustomError("C104", text, {"most": MOST_VERSION, "auto": AUTO}) from exc


CheaperVersion: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_VERSION)] | Literal["auto"], WrapValidator(_version_or_auto)
]

MOST_WORKERS: Final = 64

TICK_MS: Final = 50.0
"""How often a lane shows that it lives; a safety lane with a shorter deadline does so once in it."""


def tick_ms(lane: LaneName, deadline_ms: float) -> float:
    """Return how often the lane of a pipeline shows that it lives, in ms."""
    return min(TICK_MS, deadline_ms) if lane == "safety" else TICK_MS


def silence_ms(deadline_ms: float) -> float:
    """Return after which silence (ms) a safety lane could not have answered in time any more."""
    return deadline_ms + tick_ms("safety", deadline_ms)


class LaneGroupConfig(BaseModel):
    """Pipelines that share one process, its loaded models and its workers."""

    model_config = STRICT

    name: Name = Field(description="Name that `group` of the pipelines refers to.")
    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = Field(
        default=1, description="Models that run at the same time, each in one thread."
    )
    cores: tuple[Annotated[int, Field(ge=0, le=4095)], ...] = Field(
        default=(), description="Processors the group may run on, e.g. `[2, 3]`; all if left empty."
    )


class InferenceConfig(BaseModel):
    """What holds for all pipelines."""

    model_config = STRICT

    groups: tuple[LaneGroupConfig, ...] = Field(
        default=(),
        description="Groups with more than one worker or with processors of their own; any other name that "
        "`group` of a pipeline gives is a group with one worker.",
    )
    keep_free_mb: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        default=128,
        description="Memory (MB) that must stay free after a model is loaded; a model that would need it is "
        "refused, so that the machine never swaps.",
    )
    warm_celsius: Annotated[float, Field(ge=20, le=150)] | None = Field(
        default=None,
        description="Temperature from which on best effort is shed; 10 K below the first trip point that the "
        "machine itself names if left empty.",
    )
