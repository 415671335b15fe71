"""From what was tried to what is chosen: the order of the gate, and what it says of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from edge_opcua.compress.gate import (
    FOR_THE_REPORT,
    WORTH_IT,
    Choice,
    Entrant,
    Place,
    choose,
    heard,
    level_after,
    order,
)
from edge_opcua.compress.measure.ratio import TAIL_TOLERANCE, TOLERANCE
from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.search.entering import better_than
from edge_opcua.compress.search.plan import Tasted
from edge_opcua.compress.task import Comparison
from edge_opcua.compress.variant import Made
from edge_opcua.errors import ModelError

NEAR: Final = 1.1
"""Ratio of times, seen at a glance, below which it takes a closer look to tell which one is faster."""
_INT8: Final = frozenset({"int8-static", "int8-dynamic", "mixed"})


@dataclass(frozen=True, slots=True)
class Tried:
    """A variant that was tried.

    Args:
        tasted: What came of making it.
        timing: What it takes beside the original; None if it was not made, or could not be measured.
        failure: Why it was not made or measured; empty if it was.
    """

    tasted: Tasted
    timing: Timing | None = None
    failure: str = ""

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.tasted.variant.name


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate said.

    Args:
        places: The order in which variants were held against the original.
        comparisons: What each was found to lose, by name.
        choice: What is chosen of them.
        failures: Why some could not be compared, by name.
        not_entered: Why the gate was not asked about some that could be chosen, by name.
    """

    places: tuple[Place, ...]
    comparisons: Mapping[str, Comparison]
    choice: Choice
    failures: Mapping[str, str]
    not_entered: Mapping[str, str]


class Comparing(Protocol):
    """Holds variants against the original; :class:`edge_opcua.compress.search.steps.Steps` does."""

    def compare(self, made: Made, *, allowed: float | None, level: float) -> Comparison:
        """Hold a variant against the original on the samples of the gate (ModelError: it cannot be)."""
        ...


def judge(
    steps: Comparing, tried: Sequence[Tried], *, allowed: float | None, before: Judged | None = None
) -> Judged:
    """Let variants through the gate, in an order that its labels had no part in.

    Args:
        steps: Ask and compare.
        tried: What was tried.
        allowed: Loss that is accepted; None takes the task's default.
        before: What the gate said before: the places that it gave stay.
    """
    entrants = {each.name: _entrant(each, each.timing) for each in tried if each.timing is not None}
    made = {each.name: each.tasted.made for each in tried}
    placed = () if before is None else before.places
    known = {place.name for place in placed}
    covered = better_than(list(entrants.values()))
    left_out = [name for name in covered if name not in known]
    entered = [each for name, each in entrants.items() if name not in left_out]
    places = (*order(entered, placed), *(Place(name, 0) for name in left_out))
    comparisons: dict[str, Comparison] = {}
    failures: dict[str, str] = {}
    refused = 0
    for place in sorted(places, key=lambda each: each.number):
        level = level_after(refused) if place.number else FOR_THE_REPORT
        file = made[place.name]
        assert file is not None
        try:
            comparisons[place.name] = found = heard(place, steps.compare(file, allowed=allowed, level=level))
        except ModelError as exc:
            failures[place.name] = told(exc)
            continue
        refused += place.number > 0 and found.verdict != "proved"
    choice = choose(places, entrants, comparisons)
    without = {place.name for place in places if not place.number}
    not_entered = {
        name: why
        for name, why in (covered | dict(before.not_entered if before is not None else {})).items()
        if name in without and name in comparisons and entrants[name].may_win
    }
    choice = replace(choice, reasons={**choice.reasons, **not_entered})
    return Judged(places, comparisons, choice, failures, not_entered)


def doubtful(tried: Iterable[Tried]) -> set[str]:
    """Return the names of variants that seem to be slower at a glance, and may be as fast."""
    return {each.name for each in tried if each.timing is not None and _may_be_as_fast(each.timing)}


def worth_a_closer_look(tried: Iterable[Tried], judged: Judged) -> set[str]:
    """Return the names of those that are proved and about as fast as the fastest: one of them is chosen.

    Who is chosen of what is proved may depend on anything: what is proved was settled before.
    """
    proved = {name for name, each in judged.comparisons.items() if each.verdict == "proved"}
    timed = [each for each in tried if each.timing is not None and each.name in proved]
    ratios = {
        each.name: each.timing.ratio
        for each in timed
        if each.timing is not None and _entrant(each, each.timing).may_win
    }
    return {name for name, ratio in ratios.items() if ratio <= NEAR * min(ratios.values())}


def no_int8_is_proved(tried: Iterable[Tried], judged: Judged) -> bool:
    """Return whether the gate has refused every INT8 variant."""
    names = [each.name for each in tried if each.tasted.variant.family in _INT8]
    found = [judged.comparisons[name] for name in names if name in judged.comparisons]
    return all(each.verdict != "proved" for each in found)


def told(exc: ModelError) -> str:
    """Return why something was refused, with its code."""
    return f"{exc.code}: {exc}" if exc.code else str(exc)


def _may_be_as_fast(timing: Timing) -> bool:
    return (
        timing.verdict == "slower"
        and timing.ratio_low <= 1.0 + TOLERANCE
        and timing.p99_low <= 1.0 + TAIL_TOLERANCE
    )


def _is_gain(timing: Timing) -> bool:
    is_faster = timing.verdict == "faster" and timing.ratio <= WORTH_IT
    return is_faster or timing.size_bytes <= WORTH_IT * timing.original_size_bytes


def _entrant(tried: Tried, timing: Timing) -> Entrant:
    return Entrant(
        name=tried.name,
        p50_ratio=timing.ratio,
        damage=tried.tasted.damage,
        size_bytes=timing.size_bytes,
        is_slower=timing.verdict == "slower",
        is_better=_is_gain(timing),
    )
