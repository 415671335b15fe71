"""How one value is written: the class that says who goes first and what a newer value does, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

_ROUNDING: Final = 1e-6  # what scaling and 32 bits lose of a number


class WriteKind(Enum):
    """Classes of writes (docs/reference/drivers.md, Writing)."""

    HEARTBEAT = "heartbeat"  # first of all, the latest wins, never read back
    INTERFACE = "interface"  # raw bytes of an interface block: as early, each of them
    COMMAND = "command"  # in order, each once
    BIT = "bit"  # in order with the commands, each once: a button that is pressed and let go is two writes
    SETPOINT = "setpoint"  # last, the latest wins

    @property
    def latest_wins(self) -> bool:
        """Whether a newer value takes the place of one that still waits."""
        return self in (WriteKind.HEARTBEAT, WriteKind.SETPOINT)

    @property
    def momentary(self) -> bool:
        """Whether the device may put the value back as its answer."""
        return self in (WriteKind.COMMAND, WriteKind.BIT)


@dataclass(frozen=True, slots=True)
class WriteTerms:
    """How a tag is written, and for whom.

    Args:
        who: Who wants it, for the record: a user, or the name of an output.
        why: Why, for the record.
        kind: Class of the write; None: what the tag's type and table say.
        tolerance: Difference at which the value read back still counts as written, engineering units.
        min_interval_s: Shortest time since the last write of the tag began, seconds; the write waits as long.
    """

    who: str = ""
    why: str = ""
    kind: WriteKind | None = None
    tolerance: float = 0.0
    min_interval_s: float = 0.0


ANYBODY = WriteTerms()


def is_same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Return whether two values of a tag are equal as far as its type, scaling and the tolerance go."""
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(is_same(a, b, tolerance) for a, b in pairs)
    if not _is_number(one) or not _is_number(other):
        return type(one) is type(other) and bool(one == other)
    if isinstance(one, int) and isinstance(other, int) and not tolerance:
        return one == other
    return bool(abs(one - other) <= max(tolerance, _ROUNDING * max(1.0, abs(float(one)))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
