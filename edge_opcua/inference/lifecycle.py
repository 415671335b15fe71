"""The life of a job that changes a model, as a table: which states there are, and what leads where."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from edge_opcua.errors import ModelError


class JobKind(enum.Enum):
    """What a job is for; the values are what clients see."""

    LOAD = "load"
    VALIDATE = "validate"
    ROLLBACK = "rollback"


class JobState(enum.Enum):
    """Where a job is; the values are what clients see. Before the first job it is ``Idle``."""

    QUEUED = "Queued"
    LOADING = "Loading"
    VALIDATING = "Validating"
    SHADOW = "Shadow"
    SWITCHING = "Switching"
    ACTIVE = "Active"
    ROLLED_BACK = "RolledBack"
    VALIDATED = "Validated"
    FAILED = "Failed"


class JobEvent(enum.Enum):
    """What happens to a job."""

    STARTED = "the lane process of the new model was started"
    LOADED = "the new model is loaded and being compared with its reference samples"
    READY = "the new model is warm and proven"
    COMPARING = "the new model judges beside the active one, unseen"
    SWITCHING = "the captures are being handed over"
    ACTIVE = "the new model judges the captures"
    ROLLED_BACK = "the former model judges the captures again"
    VALIDATED = "the model is fit; nothing was changed"
    FAILED = "the job cannot go on; what judged before it judges still"


_BEFORE_THE_SWITCH: Final = (JobState.QUEUED, JobState.LOADING, JobState.VALIDATING, JobState.SHADOW)

TABLE: Final = MappingProxyType(
    {
        (JobState.QUEUED, JobEvent.STARTED): JobState.LOADING,
        (JobState.LOADING, JobEvent.LOADED): JobState.VALIDATING,
        (JobState.LOADING, JobEvent.READY): JobState.VALIDATING,
        (JobState.VALIDATING, JobEvent.READY): JobState.VALIDATING,
        (JobState.VALIDATING, JobEvent.STARTED): JobState.LOADING,  # the next group with this model
        (JobState.VALIDATING, JobEvent.COMPARING): JobState.SHADOW,
        (JobState.VALIDATING, JobEvent.VALIDATED): JobState.VALIDATED,
        (JobState.VALIDATING, JobEvent.SWITCHING): JobState.SWITCHING,
        (JobState.SHADOW, JobEvent.COMPARING): JobState.SHADOW,  # further captures
        (JobState.SHADOW, JobEvent.SWITCHING): JobState.SWITCHING,
        (JobState.QUEUED, JobEvent.SWITCHING): JobState.SWITCHING,  # back to one that is still loaded
        (
            JobState.SWITCHING,
            JobEvent.STARTED,
        ): JobState.SWITCHING,  # or that is loaded first
        (JobState.SWITCHING, JobEvent.LOADED): JobState.SWITCHING,
        (JobState.SWITCHING, JobEvent.READY): JobState.SWITCHING,
        (JobState.SWITCHING, JobEvent.ACTIVE): JobState.ACTIVE,
        (JobState.SWITCHING, JobEvent.ROLLED_BACK): JobState.ROLLED_BACK,
        (JobState.SWITCHING, JobEvent.FAILED): JobState.FAILED,
        **{(state, JobEvent.FAILED): JobState.FAILED for state in _BEFORE_THE_SWITCH},
    }
)
"""Every allowed step; from an end there is none."""

PERCENT: Final = MappingProxyType(
    {
        JobState.QUEUED: 0,
        JobState.LOADING: 10,
        JobState.VALIDATING: 50,
        JobState.SHADOW: 70,
        JobState.SWITCHING: 90,
        JobState.ACTIVE: 100,
        JobState.ROLLED_BACK: 100,
        JobState.VALIDATED: 100,
        JobState.FAILED: 100,
    }
)

DONE: Final = frozenset({JobState.ACTIVE, JobState.ROLLED_BACK, JobState.VALIDATED})
"""Ends in which what was asked for has happened."""

ENDED: Final = DONE | {JobState.FAILED}


@dataclass(frozen=True, slots=True)
class Job:
    """One request to change, validate or roll back a model.

    Args:
        number: Identity, e.g. ``job-3``.
        name: Model asked for; of a roll-back, the one that is left.
        version: Its version.
        sha256: Its hash; may be empty.
        user: Who asked; ``edge-opcua`` if the server did so by itself.
        kind: What it is for.
        pipelines: Pipelines it is about.
        note: Why, in the words of who asked.
        because: Why the server began it by itself; empty otherwise.
        shadow: Captures that both versions judge first; None: as many as is configured.
        state: Where it is.
        reason: Why it failed; empty otherwise.
        seen: Of a shadow: ``compared``, ``agreement``, ``agreement_low`` and ``wanted``.
        before: Version that each pipeline ran when the job began to change something.
        now: Version that each of them runs since it ended.
        reached: How far it was before, percent.
    """

    number: str
    name: str
    version: int
    sha256: str
    user: str
    kind: JobKind = JobKind.LOAD
    pipelines: tuple[str, ...] = ()
    note: str = ""
    because: str = ""
    shadow: int | None = None
    state: JobState = JobState.QUEUED
    reason: str = ""
    seen: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, int] = field(default_factory=dict)
    now: Mapping[str, int] = field(default_factory=dict)
    reached: int = 0

    @property
    def percent(self) -> int:
        """How far it is, 0..100; it never gets less, also when the next group is loaded."""
        return max(self.reached, PERCENT[self.state])

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    def after(self, event: JobEvent, reason: str = "", seen: Mapping[str, Any] | None = None) -> Job:
        """Return the job after an event.

        Args:
            event: What happened.
            reason: Why, for FAILED; must not be empty then.
            seen: What the shadow has seen, for COMPARING.

        Raises:
            ModelError: The event is not possible in this state (M540): a fault of ours, never of the user.
        """
        following = TABLE.get((self.state, event))
        if following is None:
            raise ModelError(
                f"{self.number} is {self.state.value}; {event.name} is not possible", code="M540"
            )
        if (event is JobEvent.FAILED) != bool(reason):
            raise ModelError(f"{self.number}: a reason belongs to a failure and to nothing else", code="M540")
        seen = self.seen if seen is None else dict(seen)
        return replace(self, state=following, reason=reason, seen=seen, reached=self.percent)

    def notice(self) -> dict[str, Any]:
        """Return the body of the ``job`` notice that clients and the journal get."""
        body: dict[str, Any] = {
            "job": self.number,
            "kind": self.kind.value,
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "pipelines": list(self.pipelines),
            "state": self.state.value,
            "percent": self.percent,
            "reason": self.reason or self.because,
            "user": self.user,
            "note": self.note,
            "before": dict(self.before),
            "now": dict(self.now),
        }
        return body | ({"shadow": dict(self.seen)} if self.seen else {})
