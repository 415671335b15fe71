"""Writes on their way to a device: each class in its lane, taken between two reads, never sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

from edge_opcua.core.clock import Clock
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_OPERATION_ABANDONED,
    BAD_TIMEOUT,
    BAD_TOO_MANY_OPERATIONS,
)
from edge_opcua.drivers.writeterms import WriteKind

MOST_WAITING: Final = 64
NEVER_NS: Final = 1 << 62
REPLACED: Final = WriteOutcome(BAD_OPERATION_ABANDONED, "not sent: a newer value for the tag took its place")

_URGENT, _ORDERED, _SETPOINTS = range(3)
_LANES: Final = {
    WriteKind.HEARTBEAT: _URGENT,
    WriteKind.INTERFACE: _URGENT,
    WriteKind.COMMAND: _ORDERED,
    WriteKind.BIT: _ORDERED,
    WriteKind.SETPOINT: _SETPOINTS,
}


@dataclass(eq=False, slots=True)
class WriteJob:
    """One write.

    Args:
        perform: Does it; settles it with what the device really did, and passes on faults of the link.
        kind: Its class.
        key: What it writes; a newer one of the same key takes its place where the latest wins.
        not_before_ns: Monotonic time at which it may begin, ns.
        before: Value that the device was seen to hold when it began; None: not known.
        done: Set once there is an outcome.
        outcome: What happened.
        sent: Whether it was begun, so that its effect is no longer known for sure.
        dropped: Whether nobody waits for it any more: if it was not begun, it never will be.
    """

    perform: Callable[[WriteJob], Awaitable[None]]
    kind: WriteKind = WriteKind.INTERFACE
    key: Hashable = None
    not_before_ns: int = 0
    before: Any = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: WriteOutcome = field(default_factory=WriteOutcome)
    sent: bool = False
    dropped: bool = False

    def settle(self, outcome: WriteOutcome) -> bool:
        """Give the outcome to whoever waits, the first one counts; return whether somebody was told."""
        if self.done.is_set():
            return False
        self.outcome = outcome
        self.done.set()
        return not self.dropped


class Outbox:
    """Bounded lanes: interface and heartbeats first, then commands and bits in order, then set-points.

    Args:
        clock: Clock for deadlines.

    Attributes:
        arrived: Set while something may have to be done.
    """

    def __init__(self, clock: Clock) -> None:
        self.arrived = asyncio.Event()
        self._clock = clock
        self._lanes: tuple[dict[Hashable, WriteJob], ...] = ({}, {}, {})

    async def send(self, job: WriteJob, *, timeout_s: float) -> WriteOutcome:
        """Queue a write and wait for its outcome.

        Returns:
            BadTimeout if it was begun and did not end in time: it may still land, and is never retried.
            BadNoCommunication if it was not even begun: it never will be. BadOperationAbandoned if a newer
            value took its place. BadTooManyOperations if there is no room.
        """
        lane = self._lanes[_LANES[job.kind]]
        key: Hashable = (job.kind, job.key) if job.kind.latest_wins else job
        older = lane.get(key)
        if older is not None:
            older.settle(REPLACED)
        elif len(lane) >= MOST_WAITING:
            return WriteOutcome(BAD_TOO_MANY_OPERATIONS, f"{MOST_WAITING} writes wait already")
        lane[key] = job  # in the place of the older one: who renews a value often does not wait for ever
        self.arrived.set()
        try:
            await self._clock.wait(job.done, timeout_s)
        finally:
            job.dropped = True
            if lane.get(key) is job:
                del lane[key]
        if job.done.is_set():
            return job.outcome
        if job.sent:
            return WriteOutcome(BAD_TIMEOUT, f"no answer in {timeout_s:g} s; it may still take effect")
        return WriteOutcome(BAD_NO_COMMUNICATION, f"not sent within {timeout_s:g} s")

    def take(self, now_ns: int) -> WriteJob | None:
        """Return the next write that may begin, or None."""
        for lane in self._lanes:
            for key, job in lane.items():
                if job.not_before_ns <= now_ns:
                    del lane[key]
                    return job
        self.arrived.clear()
        return None

    @property
    def due_ns(self) -> int:
        """Monotonic time at which the first write that waits may begin, ns."""
        return min((job.not_before_ns for lane in self._lanes for job in lane.values()), default=NEVER_NS)

    def refuse_all(self, outcome: WriteOutcome) -> None:
        """Give every waiting write the same outcome: none of them will ever be sent."""
        for lane in self._lanes:
            for job in lane.values():
                job.settle(outcome)
            lane.clear()
