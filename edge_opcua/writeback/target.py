"""What an output needs of the devices it deals with, and what it tells of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_TIMEOUT, is_good


@dataclass(frozen=True, slots=True)
class Order:
    """How a tag is written, and for whom.

    Args:
        kind: Class of the write.
        who: Who wants it.
        why: Why, for the record.
        tolerance: Difference at which the value read back still counts as written.
    """

    kind: Literal["setpoint", "command", "bit", "heartbeat"] = "setpoint"
    who: str = ""
    why: str = ""
    tolerance: float = 0.0


class Target(Protocol):
    """The device an output writes to."""

    @property
    def link_up(self) -> bool:
        """Whether the link is proven and may carry writes."""
        ...

    @property
    def why_no_writes(self) -> str:
        """Why nothing may be written although there is a link, as its own watchdog; empty: nothing."""
        ...

    @property
    def refreshed_ns(self) -> int:
        """Monotonic time of the last good scan, ns; 0 for never."""
        ...

    async def write(self, tag: str, value: Any, order: Order, *, timeout_s: float) -> WriteOutcome:
        """Write one tag and read it back."""
        ...

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        """Write raw bytes in one request, ahead of other writes."""
        ...

    async def poll_now(self, group: str, *, timeout_s: float = 5.0) -> WriteOutcome:
        """Read a group now."""
        ...

    def landed_late(self, tag: str) -> int:
        """Return how many writes of a tag that timed out were seen to take effect later."""
        ...

    def listen(self, group: str, call: Callable[[], None]) -> Callable[[], None]:
        """Let something be called each time a group was read; what is returned ends that."""
        ...


class Source(Protocol):
    """The device that the pipeline's capture comes from."""

    @property
    def refreshed_ns(self) -> int:
        """Monotonic time of the last good scan, ns; 0 for never."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """Something that has to be on record.

    Args:
        what: About what.
        who: Who wanted it.
        old: What it was before.
        new: What it is now, or was to be.
        outcome: What came of it.
        why: Why.
    """

    what: str
    who: str
    old: Any = None
    new: Any = None
    outcome: str = "Good"
    why: str = ""


Audit = Callable[[Record], None]
RunCommand = Callable[[str, int], Awaitable[bool]]
"""Carries out a command of the PLC: its name and its argument -> whether that went well."""


def no_audit(record: Record) -> None:
    """Keep no record."""


async def no_commands(name: str, argument: int) -> bool:  # noqa: ARG001 - the port's signature
    """Carry nothing out."""
    return False


@dataclass(slots=True)
class Tally:
    """What became of an output's writes.

    Attributes:
        writes: Writes that arrived.
        indeterminate: Writes of which nobody knows what they did.
        landed_late: Those of them that were seen to take effect afterwards.
        failures: Writes that failed in a row.
        mismatches: Read-backs in a row that showed something else than was written.
        last_error: Why the last one failed.
    """

    writes: int = 0
    indeterminate: int = 0
    landed_late: int = 0
    failures: int = 0
    mismatches: int = 0
    last_error: str = ""

    def count(self, outcome: WriteOutcome) -> bool:
        """Count a write; return whether it arrived."""
        if is_good(outcome.status):
            self.writes += 1
            self.failures = 0
            return True
        self.failures += 1
        self.indeterminate += outcome.status == BAD_TIMEOUT
        self.last_error = outcome.reason
        return False
