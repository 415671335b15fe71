"""What a model is watched for: the kinds of alarm, their bits, and which of several is told first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

KINDS: Final = (
    "errors",
    "not_a_number",
    "latency",
    "reference",
    "drift",
    "confidence",
    "quality",
    "age",
    "trend",
)
"""Kinds of alarm; the place of each is its bit in the row ``alarms``. New ones come at the end."""

CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "errors": "M650",
        "not_a_number": "M651",
        "latency": "M652",
        "reference": "M653",
        "drift": "M654",
        "confidence": "M655",
        "quality": "M656",
        "age": "M657",
        "trend": "M658",
    }
)
"""Stable code of each kind."""

_FIRST: Final = (
    "not_a_number",
    "errors",
    "reference",
    "latency",
    "quality",
    "age",
    "drift",
    "confidence",
    "trend",
)
"""What is told first if there are several: a sensor that is stuck explains the drift, not the reverse."""


def bits_of(kinds: Iterable[str]) -> int:
    """Return the row ``alarms`` for these kinds."""
    return sum(1 << KINDS.index(kind) for kind in set(kinds))


def kinds_of(bits: int) -> tuple[str, ...]:
    """Return the kinds in the row ``alarms``; bits of a newer program are left out."""
    return tuple(kind for place, kind in enumerate(KINDS) if bits >> place & 1)


def most_important(kinds: Iterable[str]) -> str:
    """Return the kind that is told first; empty if there is none."""
    return min(kinds, key=_FIRST.index, default="")
