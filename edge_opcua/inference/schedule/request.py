"""What is asked of the models of a process, and what becomes of it: the words of the scheduler."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


class LaneClass(enum.IntEnum):
    """Who goes first; a lower number is served, and shed, before and after a higher one."""

    SAFETY = 0
    REALTIME = 1
    BEST_EFFORT = 2


class Fate(enum.Enum):
    """How a request ended."""

    WAITING = "waiting"
    DONE = "done"
    REJECTED = "rejected"  # at the door: its deadline could not be met
    EXPIRED = "expired"  # accepted, but it would have been late: never run
    SHED = "shed"  # given up for others: overload, heat
    FAILED = "failed"  # the model failed


@dataclass(slots=True, eq=False)
class Request:
    """One sample for one model.

    Args:
        model: Key of the loaded model it is for.
        lane: Class of its lane.
        arrived_ns: From when on its time counts, monotonic: for a capture, when it was read.
        deadline_ns: When its answer must be there, monotonic.
        row: The sample, float32, shape ``(k,)``; belongs to the request.
        cheaper: Keys of loaded models that may answer instead, the best first.
        priority: 1 is shed last, 9 first.
        tag: Whatever the asker wants back with it.

    Attributes:
        fate: How it ended.
        reason: Why, for people; empty when done.
        retry_after_ns: After a rejection, when the same request would have a chance.
        code: Stable code of a failure of the model; empty otherwise.
        ran: Key of the model that answered.
        batch: Samples of the run it was part of.
        started_ns: When that run began, monotonic.
        ended_ns: When that run ended, monotonic.
        preempted: How often a run with it was cancelled for another one.
        answers: Row of each output by name, float32; belongs to the request.
    """

    model: str
    lane: LaneClass
    arrived_ns: int
    deadline_ns: int
    row: npt.NDArray[np.float32]
    cheaper: tuple[str, ...] = ()
    priority: int = 5
    tag: Any = None
    fate: Fate = Fate.WAITING
    reason: str = ""
    code: str = ""
    retry_after_ns: int = 0
    ran: str = ""
    batch: int = 0
    started_ns: int = 0
    ended_ns: int = 0
    preempted: int = 0
    answers: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Batch:
    """Requests that run together.

    Args:
        worker: Number of the worker that runs it.
        model: Key of the model that runs.
        requests: The requests, the earliest deadline first.
        started_ns: When it was given out, monotonic.
        expected_ns: When it should be over, monotonic.
    """

    worker: int
    model: str
    requests: list[Request]
    started_ns: int
    expected_ns: int
    cancelled: bool = False
