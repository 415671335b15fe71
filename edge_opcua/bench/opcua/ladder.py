"""The lossless maximum: the highest offered rate that arrives whole, found on a ladder of rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ARRIVED: Final = 0.97
DOUBLING: Final = 2.0
FINE: Final = 2.0**0.25
EXHAUSTED: Final = 0.9  # of what was wanted: more than this the source does not offer


@dataclass(frozen=True, slots=True)
class Step:
    """One rung.

    Args:
        rate: Values per second offered, all clients together.
        delivered: Values per second that arrived while they were offered.
        lost: Values that never arrived, or arrived twice or out of sequence.
        per_cpu_s: Values delivered per second of the server's processor time.
    """

    rate: float
    delivered: float
    lost: int
    per_cpu_s: float


def holds(step: Step) -> bool:
    """Return whether a rate is lossless: nothing lost, and at least 97 % of what was offered arrived."""
    return step.lost == 0 and step.delivered >= ARRIVED * step.rate


def climb(measure: Callable[[float], Step], first: float, *, top: float, steps: int) -> list[Step]:
    """Return the rungs tried: doubled while they hold, then between the last good and the first bad one.

    Args:
        measure: Measures one rate.
        first: Rate to begin with; if it fails already, lower ones are tried.
        top: Highest rate to try.
        steps: Most rungs to try.
    """
    tried: list[Step] = []
    rate, good, bad = first, 0.0, 0.0
    while len(tried) < steps:
        step = measure(rate)
        tried.append(step)
        if holds(step):
            good = max(good, rate)
            if step.rate < EXHAUSTED * rate:
                break
        else:
            bad = min(bad or rate, rate)
        following = _following(good, bad, top)
        if following is None:
            break
        rate = following
    return tried


def _following(good: float, bad: float, top: float) -> float | None:
    if not bad:
        return good * DOUBLING if good * DOUBLING <= top else None
    if not good:
        return bad / DOUBLING
    return (good * bad) ** 0.5 if bad / good > FINE else None


def best(steps: list[Step]) -> Step | None:
    """Return the highest lossless rung, or None if no rate was lossless."""
    return max((step for step in steps if holds(step)), key=lambda step: step.rate, default=None)
