"""The two ways to reach a PLC, an interface block or single tags, as the executor sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_opcua.core.bus import BlockReader
from edge_opcua.core.values import Link, is_bad, is_good
from edge_opcua.writeback.decision import Decision
from edge_opcua.writeback.faults import Plc
from edge_opcua.writeback.judged import Judged
from edge_opcua.writeback.states import State
from edge_opcua.writeback.target import Tally


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision and what came with it.

    Args:
        before: State before it.
        decision: The decision.
        judged: Results that have come since the last one, usable or not.
        fresh: Those of them that are to be passed on.
        now_ns: Monotonic time, ns.
        captured: Machine cycle of the newest capture.
    """

    before: State
    decision: Decision
    judged: Sequence[Judged]
    fresh: Sequence[Judged]
    now_ns: int
    captured: int = 0

    @property
    def state(self) -> State:
        """State after it."""
        return self.decision.authority.state


@dataclass(frozen=True, slots=True)
class Shown:
    """A value that is written to a tag, as the authority block shows it."""

    value: float
    status: int


class Face(Protocol):
    """How an output reaches its PLC."""

    @property
    def tally(self) -> Tally:
        """What became of its writes."""
        ...

    @property
    def safe_ns(self) -> int:
        """Monotonic time at which the safe content that is wanted now arrived; 0 if it has not."""
        ...

    @property
    def sequence(self) -> int:
        """Number of the newest result that was passed on, as the PLC counts."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """Groups of the target whose reading is worth a decision at once."""
        ...

    @property
    def shown(self) -> Sequence[Shown]:
        """What is written to each tag."""
        ...

    def look(self, now_ns: int) -> Plc | None:
        """Return what the PLC says; None if a part of it is not Good or too old."""
        ...

    def want(self, moment: Moment) -> None:
        """Take over what the PLC has to get from now on."""
        ...

    def is_due(self, now_ns: int) -> bool:
        """Return whether there is something to send now."""
        ...

    async def send(self) -> None:
        """Send or look at the next thing; within a deadline."""
        ...


class Changes:
    """Since when a counter has its present value."""

    def __init__(self) -> None:
        self._value: object = None
        self._since_ns = 0

    def note(self, value: object, now_ns: int) -> int:
        """Return the monotonic time at which the counter took this value, ns."""
        if value != self._value:
            self._value, self._since_ns = value, now_ns
        return self._since_ns


@dataclass(frozen=True, slots=True)
class Row:
    """One tag on the bus.

    Args:
        reader: Reader of its block.
        name: Its name there.
        max_age_ns: Age at which it says nothing any more.
    """

    reader: BlockReader
    name: str
    max_age_ns: int

    def read(self, now_ns: int) -> tuple[object, int] | None:
        """Return its value and when it was read; None if it is not Good or too old."""
        batch = self.reader.latest()
        if batch is None or batch.link is not Link.UP or now_ns - batch.refreshed_ns > self.max_age_ns:
            return None
        row = batch.row(self.name)
        if not is_good(int(batch.status[row])):
            return None
        return batch.value(row), batch.refreshed_ns

    def last(self) -> tuple[object, int] | None:
        """Return its last value that was not Bad, and when it was read; None if there is none."""
        batch = self.reader.latest()
        if batch is None:
            return None
        row = batch.row(self.name)
        return None if is_bad(int(batch.status[row])) else (batch.value(row), batch.refreshed_ns)
