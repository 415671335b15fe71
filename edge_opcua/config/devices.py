"""What is read: devices, the groups of their tags, their captures and watchdogs."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from edge_opcua.config.fields import (
    NAME_PATTERN,
    RESOLVED,
    STRICT,
    Finite,
    GroupName,
    Milliseconds,
    Name,
    Seconds,
    Text,
)
from edge_opcua.config.tags import DEFAULT_GROUP, TagName, TagRows
from edge_opcua.core.values import Policy


class GroupConfig(BaseModel):
    """Tags of one device that are read together; one block on the bus."""

    model_config = STRICT

    name: GroupName = Field(description="Name that the `group` column of the tag table refers to.")
    trigger: TagName | None = Field(
        default=None,
        description="Tag of the same device: the group is polled each time its value changes, besides the "
        "period or instead of it.",
    )
    on_request: bool = Field(
        default=False,
        description="Whether the group needs no period: it is polled when the link comes up and then only "
        "when a client asks for it.",
    )
    period_ms: Annotated[int, Field(ge=0, le=3_600_000)] = Field(
        default=0,
        validate_default=True,
        json_schema_extra={"minimum": 1},
        description="Time from one poll of the group to the next; only with `trigger` or `on_request` it "
        "may be left out: then the group is not polled by time.",
    )
    phase_ms: Annotated[int, Field(ge=0, le=3_600_000)] = Field(
        default=0, description="Delay of the first poll, so that groups of one device do not fall together."
    )

    @field_validator("period_ms")
    @classmethod
    def _period_or_demand(cls, value: int, info: ValidationInfo) -> int:
        if value or info.data.get("trigger") or info.data.get("on_request"):
            return value
        help_text = "or give the group a trigger, or on_request = true"
        raise PydanticCustomError("C103", "0 is out of range 1..3600000", {"help": help_text})

    @property
    def is_added(self) -> bool:
        """Whether an output's interface block added it."""
        return "." in self.name

    @property
    def on_demand(self) -> bool:
        """Whether it is never polled by time."""
        return not self.period_ms


class CaptureConfig(BaseModel):
    """A waveform that a device records by itself and offers when it is complete; one block on the bus."""

    model_config = STRICT

    name: Name = Field(description="Name; pipelines refer to `<device>/<name>`.")
    poll_ms: Milliseconds = Field(
        default=20, description="Period at which `sequence` and `ready` are looked at."
    )
    sequence: str = Field(description="Address of the number that grows with each capture.")
    ready: str | None = Field(
        default=None, description="Address of a BOOL that is true while a capture may be read."
    )
    ready_ns: str | None = Field(
        default=None,
        description="Address of the device's own time of completion, ns UTC; else the time of the read.",
    )
    stroke: str | None = Field(
        default=None, description="Address of the machine cycle this capture belongs to."
    )
    samples: str = Field(description="Address of the samples, an array such as `1/hr:100:INT[2000]`.")
    scale: Finite = Field(default=1.0, description="Engineering value = raw value x scale + offset.")
    offset: Finite = Field(default=0.0, description="See `scale`.")
    sample_rate_hz: float = Field(gt=0, le=10_000_000, description="Samples per second.")
    unit: Text = Field(default="", description="Unit of the engineering value.")
    low: Finite | None = Field(default=None, description="Lower end of the range (EURange).")
    high: Finite | None = Field(default=None, description="Upper end of the range (EURange).")
    description: Text = Field(default="", description="What is measured, for people.")
    sample_count: int = Field(default=0, description="Samples of one capture.", json_schema_extra=RESOLVED)


class WatchdogConfig(BaseModel):
    """The device's own watchdog, by which its outputs fall safe when nobody writes to them any more."""

    model_config = STRICT

    profile: Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)] = Field(
        description="Kind of device: `moxa-iologik-e1200`, `turck-bl` or `wago-750`."
    )
    timeout_ms: Annotated[int, Field(ge=50, le=6_553_500)] = Field(
        description="Time after which the device falls safe; it is triggered four times as often."
    )
    restart: Literal["acknowledge", "automatic"] = Field(
        default="acknowledge",
        description="After it has tripped: `acknowledge` starts it again when an output of the device is "
        "acknowledged, `automatic` with the next connection.",
    )


class DeviceConfig(BaseModel):
    """One PLC or sensor unit, and how its tags are read."""

    model_config = STRICT

    name: Name = Field(description="Name; a tag's public id is `<device>/<tag>`.")
    driver: str = Field(description="Protocol driver, a plugin of the group `edge_opcua.drivers`.")
    url: str = Field(description="Where the device is, e.g. `s7://192.168.0.10?rack=0&slot=1`.")
    tags: TagRows = Field(
        default=TagRows.of(()), description="Tag table (CSV), or a list of them; relative to this file."
    )
    simulate: bool = Field(
        default=False,
        description="Whether the device is simulated: nothing is connected to, values are made up, and "
        "every one of them is marked UncertainSimulatedValue.",
    )
    timeout_ms: Milliseconds = Field(
        default=1000, description="Deadline of one request; a device that takes longer is lost."
    )
    stale_after_s: Seconds | None = Field(
        default=None,
        description="Age at which values not refreshed become Uncertain although the link lives; "
        "three periods of the group, at least 1 s, if not set.",
    )
    hold_s: Seconds = Field(
        default=10.0,
        description="How long the last value is shown as Uncertain after the link is lost; `inf` for ever.",
    )
    reconnect_max_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10.0, description="Longest pause between two attempts to connect again."
    )
    max_requests_per_s: Annotated[float, Field(gt=0)] = Field(
        default=200.0, description="Load on the device above which `check` warns."
    )
    groups: tuple[GroupConfig, ...] = Field(
        default=(), description=f"Poll groups; without any there is one, `{DEFAULT_GROUP}`, of 1000 ms."
    )
    captures: tuple[CaptureConfig, ...] = Field(default=(), description="Triggered captures.")
    watchdog: WatchdogConfig | None = Field(
        default=None, description="Its own watchdog, armed before anything is written; without: as it is."
    )
    options: dict[str, Any] = Field(default={}, description="Settings that belong to the driver.")
    template: str = Field(default="", description="Template it is made from.", json_schema_extra=RESOLVED)

    def group(self, name: str) -> GroupConfig:
        """Return the poll group of that name.

        Raises:
            KeyError: The device has no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def tags_of(self, group: str) -> TagRows:
        """Return the tags of a poll group, in the order of the table; the rows of its block."""
        return self.tags.where("group", group)

    def block_name(self, part: str) -> str:
        """Return the bus name of a group's or capture's block."""
        return f"{self.name}.{part}"

    @property
    def link_block(self) -> str:
        """Bus name of the block with link state and counters."""
        return f"{self.name}.link"

    def policy(self, group: str) -> Policy:
        """Return when the values of a group stop being trusted; what is read on demand never grows stale."""
        if self.group(group).on_demand:
            return Policy(stale_after_s=math.inf, hold_s=self.hold_s)
        stale_s = self.stale_after_s
        if stale_s is None:
            stale_s = max(1.0, 3 * self.group(group).period_ms / 1000)
        return Policy(stale_after_s=stale_s, hold_s=self.hold_s)

    @property
    def capture_policy(self) -> Policy:
        """A capture never grows stale by itself; after a loss of the link it is held like a tag."""
        return Policy(stale_after_s=math.inf, hold_s=self.hold_s)
