"""The life of a LoadModel job as a table: which states there are, what leads where, and how far it is."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from edge_opcua.errors import ModelError


class JobState(enum.Enum):
    """Where a job is; the values are what clients see."""

    QUEUED = "Queued"
    STARTING = "Starting"
    VALIDATING = "Validating"
    SWITCHING = "Switching"
    DONE = "Done"
    FAILED = "Failed"


class JobEvent(enum.Enum):
    """What happens to a job."""

    STARTED = "the lane process of the new model was started"
    LOADED = "the new model is loaded and being compared with its reference samples"
    READY = "the new model is warm and proven; the strokes are being handed over"
    ACTIVE = "the new model judges the strokes, the old one has ended"
    FAILED = "the job cannot go on; the old model stays"


TABLE: Final = MappingProxyType(
    {
        (JobState.QUEUED, JobEvent.STARTED): JobState.STARTING,
        (JobState.QUEUED, JobEvent.FAILED): JobState.FAILED,
        (JobState.STARTING, JobEvent.LOADED): JobState.VALIDATING,
        (JobState.STARTING, JobEvent.READY): JobState.SWITCHING,
        (JobState.STARTING, JobEvent.FAILED): JobState.FAILED,
        (JobState.VALIDATING, JobEvent.READY): JobState.SWITCHING,
        (JobState.VALIDATING, JobEvent.FAILED): JobState.FAILED,
        (JobState.SWITCHING, JobEvent.STARTED): JobState.STARTING,  # the next pipeline with this model
        (JobState.SWITCHING, JobEvent.ACTIVE): JobState.DONE,
        (JobState.SWITCHING, JobEvent.FAILED): JobState.FAILED,
    }
)
"""Every allowed step; from Done and Failed there is none."""

PERCENT: Final = MappingProxyType(
    {
        JobState.QUEUED: 0,
        JobState.STARTING: 10,
        JobState.VALIDATING: 60,
        JobState.SWITCHING: 90,
        JobState.DONE: 100,
        JobState.FAILED: 100,
    }
)

ENDED: Final = frozenset({JobState.DONE, JobState.FAILED})


@dataclass(frozen=True, slots=True)
class Job:
    """One request to change a model.

    Args:
        number: Identity, e.g. ``job-3``.
        name: Model asked for.
        version: Version asked for.
        sha256: Hash asked for.
        user: Who asked.
        state: Where it is.
        reason: Why it failed; empty otherwise.
    """

    number: str
    name: str
    version: int
    sha256: str
    user: str
    state: JobState = JobState.QUEUED
    reason: str = ""

    @property
    def percent(self) -> int:
        """How far it is, 0..100."""
        return PERCENT[self.state]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ENDED

    def after(self, event: JobEvent, reason: str = "") -> Job:
        """Return the job after an event.

        Args:
            event: What happened.
            reason: Why, for FAILED; must not be empty then.

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
        return replace(self, state=following, reason=reason)

    def notice(self) -> dict[str, str | int]:
        """Return the body of the ``job`` notice that clients and the journal get."""
        return {
            "job": self.number,
            "name": self.name,
            "version": self.version,
            "state": self.state.value,
            "percent": self.percent,
            "reason": self.reason,
        }
