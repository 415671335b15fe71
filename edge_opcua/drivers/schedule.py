"""What is read when: by period, when another tag changes, or when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import is_bad
from edge_opcua.drivers.planner import Shape
from edge_opcua.drivers.refusals import Read

NEVER_NS: Final = 1 << 62
MOST_ASKING: Final = 64


class Polled(Protocol):
    """What is read: a poll group or a capture."""

    writer: BlockWriter

    @property
    def refused(self) -> int:
        """Rows that the device does not give."""
        ...

    def adopt(self, shape: Shape) -> None:
        """Plan for a new connection."""
        ...

    def plan_anew(self) -> None:
        """Plan again, because requests cost another time than they did."""
        ...

    def lose(self, station: Hashable) -> None:
        """Publish that a unit is lost whose rows may not be asked for for a long time."""
        ...

    def age(self) -> None:
        """Publish the statuses of rows that have grown old since they were read."""
        ...

    async def poll(self, read: Read) -> bool:
        """Read and publish; whether to do so again at once."""
        ...


@dataclass(eq=False, slots=True)
class Ask:
    """Somebody who waits for a poll."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: WriteOutcome = field(default_factory=WriteOutcome)

    def settle(self, outcome: WriteOutcome) -> None:
        """Give the outcome."""
        self.outcome = outcome
        self.done.set()


@dataclass(eq=False, slots=True)
class Job:
    """Something that is read, and when it is due next (monotonic, ns).

    Args:
        name: Name of the group or capture.
        polled: What is read.
        period_ns: Time between two polls; 0: only on demand.
        phase_ns: Delay of the first poll over a new connection.
        stale_ns: Age at which what was read is stale; no read is repeated after that.
        values: How many values it is about.
    """

    name: str
    polled: Polled
    period_ns: int
    phase_ns: int
    stale_ns: int
    values: int
    due_ns: int = NEVER_NS
    triggers: list[Trigger] = field(default_factory=list)
    heard: list[Callable[[], None]] = field(default_factory=list)
    asking: list[Ask] = field(default_factory=list)

    def start(self, now_ns: int) -> None:
        """Be due for the first time over a new connection; what is read on demand is so too."""
        self.due_ns = now_ns + self.phase_ns

    def ask(self, now_ns: int) -> None:
        """Be due now."""
        self.due_ns = min(self.due_ns, now_ns)

    def late_ns(self, now_ns: int) -> int:
        """Return how late a poll begins that is due by period."""
        return max(0, now_ns - self.due_ns) if self.period_ns else 0

    def done(self, now_ns: int, *, again: bool) -> int:
        """Set the next time on the grid; what was missed is left out, never made up for.

        Returns:
            Polls that were left out.
        """
        if again:
            return 0
        missed = 0
        if self.period_ns:
            missed = max(0, now_ns - self.due_ns) // self.period_ns
            self.due_ns += self.period_ns * (missed + 1)
        else:
            self.due_ns = NEVER_NS
        if self.asking:  # somebody who came while it was being read
            self.due_ns = min(self.due_ns, now_ns)
        return missed


@dataclass(eq=False, slots=True)
class Trigger:
    """A row whose change makes a group due.

    Args:
        row: Row of the block that is polled.
        job: What is due then.
    """

    row: int
    job: Job
    _last: Any = None

    def look(self, writer: BlockWriter, now_ns: int) -> None:
        """Make the group due if the value is another than at the last look; a Bad one says nothing."""
        if is_bad(int(writer.batch.status[self.row])):
            return
        value = writer.batch.value(self.row)
        if self._last is not None and value != self._last:
            self.job.ask(now_ns)
        self._last = value
