"""Driver settings under ``options`` of a device: those of every driver, and how they become limits."""

from __future__ import annotations

import math
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.drivers.linkstate import LinkPolicy
from edge_opcua.errors import ConfigError

_STALE_S: Final = 1.0  # of a device that has captures only


class DriverOptions(BaseModel):
    """Settings that every driver has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_gap: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None,
        description="Unwanted registers or bytes that are read along to save a request; if not set, as many "
        "as cost less time than the request, which is measured.",
    )
    no_read: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field(
        default=(),
        max_length=1000,
        description='What is never read along between two tags, e.g. `["hr:100-119", "hr:300"]` or '
        '`["DB10.DBB20-40"]`: what reading clears, or what a device answers slowly.',
    )
    refused_again_s: Annotated[float, Field(ge=0)] = Field(
        default=60.0,
        description="Time a new connection must hold before tags that the device had refused are tried "
        "again, one at a time; after that once a day.",
    )
    read_retries: Annotated[int, Field(ge=0, le=5)] = Field(
        default=1,
        description="How often a read without an answer is sent again over the same connection while its "
        "values are not stale yet. Writes never are.",
    )
    writes_per_read: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10,
        description="Writes that may go out between two reads; more wait for the next read, so that values "
        "stay fresh however much is written.",
    )
    ring_s: Annotated[float, Field(ge=1, le=600)] = Field(
        default=5.0, description="Seconds of polls that the bus keeps; captures at least 30 s."
    )
    fail_after: Annotated[int, Field(ge=1, le=100)] = Field(
        default=3, description="Failed requests in a row after which the link counts as lost."
    )
    backoff_first_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=0.5, description="Pause before the first new attempt to connect; it doubles from there."
    )
    demote_after_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0, description="Time without a link after which attempts become rare."
    )
    demoted_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=30.0, description="Pause between attempts then."
    )
    recover_cycles: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=3, description="Good scans a new link must show before anything is written over it."
    )
    recover_hold_s: Annotated[float, Field(ge=0, le=600)] = Field(
        default=2.0, description="Seconds a new link must hold before anything is written over it."
    )


_Options = TypeVar("_Options", bound=DriverOptions)


def checked(options: type[_Options], cfg: DeviceConfig) -> _Options:
    """Return the options of a device as its driver's settings; ConfigError if they do not fit."""
    try:
        return options.model_validate(cfg.options)
    except ValidationError as exc:
        raise ConfigError(f"{cfg.name}: options: {exc.errors()[0]['msg']}") from exc


def link_policy(cfg: DeviceConfig, options: DriverOptions) -> LinkPolicy:
    """Return when the link of a device counts as lost and as recovered."""
    stale_s = min((cfg.policy(group.name).stale_after_s for group in cfg.groups), default=_STALE_S)
    if math.isinf(stale_s):  # nothing is polled by time
        stale_s = _STALE_S
    return LinkPolicy(
        fail_after=options.fail_after,
        stale_after_s=stale_s,
        backoff_first_s=min(options.backoff_first_s, cfg.reconnect_max_s),
        backoff_max_s=cfg.reconnect_max_s,
        demote_after_s=options.demote_after_s,
        demoted_s=options.demoted_s,
        recover_cycles=options.recover_cycles,
        recover_hold_s=options.recover_hold_s,
    )
