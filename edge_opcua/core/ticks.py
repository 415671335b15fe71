"""Times as OPC UA holds them: 100 ns since 1601-01-01 UTC (Part 6 §5.2.2.5), and their form for people.

On the bus they are whole microseconds, as all stamps of this server are, from 1601 to the end of 9999.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

EPOCH_TICKS: Final = 116_444_736_000_000_000
"""1970-01-01."""
TICKS_PER_US: Final = 10
TICKS_PER_DAY: Final = 864_000_000_000
LATEST: Final = 2_650_467_743_990_000_000
"""9999-12-31T23:59:59; from there on it is "the end of time" (Part 6 §5.2.2.5)."""
_FIRST: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def to_utc(ticks: int) -> dt.datetime:
    """Return a time as a datetime in UTC; what lies outside 1601..9999 becomes the nearest end."""
    return _FIRST + dt.timedelta(microseconds=min(max(ticks, 0), LATEST) // TICKS_PER_US)


def from_utc(time: dt.datetime) -> int:
    """Return the ticks of a datetime, which counts as UTC if it names no zone."""
    aware = time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)
    return min(max((aware - _FIRST) // _MICROSECOND * TICKS_PER_US, 0), LATEST)


def to_text(ticks: int) -> str:
    """Return a time as ISO 8601 has it, e.g. ``2026-03-01T12:00:00Z`` or ``…:00.250000Z``."""
    return to_utc(ticks).replace(tzinfo=None).isoformat() + "Z"


def from_text(text: str) -> int:
    """Read ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: It is no such time, or lies before 1601.
    """
    time = dt.datetime.fromisoformat(text)
    aware = time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)
    if aware < _FIRST:
        raise ValueError(f"{text} lies before 1601")
    return from_utc(aware)
