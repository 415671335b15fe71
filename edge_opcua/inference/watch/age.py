"""How old a model is, and what becomes of the results of one that is too old; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

AgePolicy = Literal["warn", "degrade", "fail_safe"]
AgeState = Literal["fresh", "old", "unknown"]

_DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class AgeTerms:
    """How old a model may become.

    Args:
        trained_ns: When it was trained, ns UTC; None if nobody said it.
        max_days: Age from which on it is too old, days; inf: it does not age.
        then: What its results become.
    """

    trained_ns: int | None
    max_days: float = math.inf
    then: AgePolicy = "warn"


@dataclass(frozen=True, slots=True)
class Age:
    """How old a model is.

    Args:
        days: Its age; NaN if it is not known.
        state: ``fresh``, ``old``, or ``unknown``.
        reason: What is wrong with its age, for people; empty if nothing is.
        effect: What its results become.
    """

    days: float
    state: AgeState
    reason: str = ""
    effect: AgePolicy | None = None


def age_of(terms: AgeTerms, utc_ns: int) -> Age:
    """Return how old a model is.

    A clock that says the model was trained tomorrow is wrong: then nothing is known, and nothing is done.

    Args:
        terms: What is known of it.
        utc_ns: The time, ns UTC.
    """
    if terms.trained_ns is None:
        return Age(math.nan, "unknown")
    days = (utc_ns - terms.trained_ns) / _DAY_NS
    if days < -1.0:
        return Age(math.nan, "unknown", "trained after what the clock of this machine says")
    days = max(0.0, days)
    if days <= terms.max_days:
        return Age(days, "fresh")
    return Age(days, "old", f"trained {days:.0f} days ago, {terms.max_days:g} are allowed", terms.then)
