"""From what was tried to what is chosen: the gate's order, its verdicts, and the rows of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from edge_opcua.compress.gate import Choice, Entrant, Place, choose, order
from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.plan import Tasted
from edge_opcua.compress.report.report import Original, Row
from edge_opcua.compress.steps import Steps
from edge_opcua.compress.task import Comparison
from edge_opcua.errors import ModelError

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
    """

    places: tuple[Place, ...]
    comparisons: Mapping[str, Comparison]
    choice: Choice
    failures: Mapping[str, str]


def judge(
    steps: Steps, tried: Sequence[Tried], *, allowed: float | None, placed: Sequence[Place] = ()
) -> Judged:
    """Let variants through the gate, in an order that its labels had no part in.

    Args:
        steps: Ask and compare.
        tried: What was tried.
        allowed: Loss that is accepted; None takes the task's default.
        placed: Places that were given before.
    """
    entrants = {each.name: _entrant(each, each.timing) for each in tried if each.timing is not None}
    made = {each.name: each.tasted.made for each in tried}
    places = order(list(entrants.values()), placed)
    comparisons: dict[str, Comparison] = {}
    failures: dict[str, str] = {}
    for place in places:
        file = made[place.name]
        assert file is not None
        try:
            comparisons[place.name] = steps.compare(file, allowed=allowed, level=place.level)
        except ModelError as exc:
            failures[place.name] = told(exc)
    return Judged(places, comparisons, choose(places, entrants, comparisons), failures)


def no_int8_is_proved(tried: Iterable[Tried], judged: Judged) -> bool:
    """Return whether the gate has refused every INT8 variant."""
    names = [each.name for each in tried if each.tasted.variant.family in _INT8]
    found = [judged.comparisons[name] for name in names if name in judged.comparisons]
    return all(each.verdict != "proved" for each in found)


def rows(steps: Steps, tried: Sequence[Tried], judged: Judged, work: Path) -> tuple[Row, ...]:
    """Return the rows of the report, in the order in which the variants were tried."""
    whole_bytes = steps.original.path.stat().st_size
    numbers = {place.name: place.number for place in judged.places}
    return tuple(_row(each, steps, judged, numbers.get(each.name, 0), whole_bytes, work) for each in tried)


def original_of(steps: Steps, name: str, tried: Sequence[Tried]) -> Original:
    """Return what is known of the original: the middle of what it took beside each variant."""
    timings = [each.timing for each in tried if each.timing is not None]
    nothing = float("nan")
    return Original(
        name=name,
        sha256=steps.sha256(steps.original),
        size_bytes=steps.original.path.stat().st_size,
        p50_us=median(each.original_p50_us for each in timings) if timings else nothing,
        p99_us=median(each.original_p99_us for each in timings) if timings else nothing,
        memory_mb=median(each.original_memory_mb for each in timings) if timings else nothing,
        load_ms=median(each.original_load_ms for each in timings) if timings else nothing,
    )


def told(exc: ModelError) -> str:
    """Return why something was refused, with its code."""
    return f"{exc.code}: {exc}" if exc.code else str(exc)


def _entrant(tried: Tried, timing: Timing) -> Entrant:
    return Entrant(
        name=tried.name,
        p50_ratio=timing.ratio,
        damage=tried.tasted.damage,
        size_bytes=timing.size_bytes,
        is_slower=timing.verdict == "slower",
        is_better=timing.verdict == "faster" or timing.size_bytes < timing.original_size_bytes,
    )


def _row(tried: Tried, steps: Steps, judged: Judged, number: int, whole_bytes: int, work: Path) -> Row:
    made, name = tried.tasted.made, tried.name
    failure = tried.failure or judged.failures.get(name, "")
    reason = judged.choice.reasons.get(name, "")
    row = Row(
        tried.tasted.variant,
        failure=failure,
        comparison=judged.comparisons.get(name),
        timing=tried.timing,
        place=number,
        is_chosen=name == judged.choice.chosen,
        reasons=(reason,) if reason else (),
    )
    if made is None:
        return row
    size_bytes = made.path.stat().st_size
    return replace(
        row,
        notes={**made.notes, "damage": tried.tasted.damage},
        file=str(made.path.relative_to(work)),
        sha256=steps.sha256(made),
        size_bytes=size_bytes,
        saved=1.0 - size_bytes / whole_bytes,
    )
