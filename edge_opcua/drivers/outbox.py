"""Writes on their way to a device: kept in order, taken between two reads, never sent twice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_NO_COMMUNICATION, BAD_TIMEOUT, BAD_TOO_MANY_OPERATIONS

MOST_WAITING: Final = 64


@dataclass(eq=False, slots=True)
class WriteJob:
    """One write.

    Args:
        perform: Does it; returns what the device really did, raises DeviceError after settling it.
        done: Set once there is an outcome.
        outcome: What happened.
        sent: Whether it was begun, so that its effect is no longer known for sure.
        dropped: Whether nobody waits for it any more and it must not be begun.
    """

    perform: Callable[[WriteJob], Awaitable[None]]
    done: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: WriteOutcome = field(default_factory=WriteOutcome)
    sent: bool = False
    dropped: bool = False

    def settle(self, outcome: WriteOutcome) -> None:
        """Give the outcome to whoever waits; the first one counts."""
        if not self.done.is_set():
            self.outcome = outcome
            self.done.set()


class Outbox:
    """Bounded; a write that finds no room is refused at once. Urgent writes overtake the others."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self._urgent: deque[WriteJob] = deque()
        self._normal: deque[WriteJob] = deque()

    async def send(self, job: WriteJob, *, timeout_s: float, urgent: bool = False) -> WriteOutcome:
        """Queue a write and wait for its outcome.

        Returns:
            BadTimeout if it was begun and did not end in time: it may still land, and is never retried.
            BadNoCommunication if it was not even begun: it never will be.
        """
        queue = self._urgent if urgent else self._normal
        if len(queue) >= MOST_WAITING:
            return WriteOutcome(BAD_TOO_MANY_OPERATIONS, f"{MOST_WAITING} writes wait already")
        queue.append(job)
        self.arrived.set()
        try:
            async with asyncio.timeout(timeout_s):
                await job.done.wait()
        except TimeoutError:
            if job.sent:
                return WriteOutcome(BAD_TIMEOUT, f"no answer in {timeout_s:g} s; it may still take effect")
            return WriteOutcome(BAD_NO_COMMUNICATION, f"not sent within {timeout_s:g} s")
        finally:
            job.dropped = True
        return job.outcome

    def take(self) -> WriteJob | None:
        """Return the next write that somebody still waits for, or None."""
        for queue in (self._urgent, self._normal):
            while queue:
                job = queue.popleft()
                if not job.dropped:
                    return job
        self.arrived.clear()
        return None

    def refuse_all(self, outcome: WriteOutcome) -> None:
        """Give every waiting write the same outcome."""
        while (job := self.take()) is not None:
            job.settle(outcome)
