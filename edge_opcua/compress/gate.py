"""The gate: in which order variants are held against the original, how sure it has to be of each, which wins.

Who looks at forty variants and takes the best one that seems good enough is wrong far more often than each
look for itself. So the variants are put into an order before the labels of the gate are looked at, the safest
first, and each has to be shown at the level ``0.025 / 2**r``, r being how many before it were refused.

All together a variant that loses more than is accepted is called proved, and so perhaps chosen, in 5 % of all
searches at most. For let none of the bad ones have been called proved so far: the j-th of them then has j - 1
refusals before it at least, and is called proved with a chance of ``0.025 / 2**(j - 1)`` at most; these are
0.05 together. A good one that is proved costs those behind it nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.compress.task import Comparison

CHANCE: Final = 0.05
"""That anything is called proved which loses more than is accepted, at most."""
FOR_THE_REPORT: Final = CHANCE / 2
"""Level at which a variant is compared that cannot be chosen: its ordinary 95 % interval."""
RUINED: Final = 0.1
"""Damage on the calibration samples from which on nobody asks how much it is: a variant stands last."""
WORTH_IT: Final = 0.95
"""Share of the original's time or size from which on a variant is a gain: who changes a model that runs wants
something for it."""
_SAME_TIME: Final = 1.05
"""Ratio of two times below which both are about as fast."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A variant that was made and timed; nothing in here comes from the labels of the gate.

    Args:
        name: Name of the variant.
        p50_ratio: Its median time over that of the original.
        damage: What it seems to lose on the calibration samples, by :meth:`Task.damage`.
        size_bytes: Size of its file.
        is_slower: Whether it was measured to be slower than the original.
        is_better: Whether it was measured to be faster, or its file is smaller, by what is ``WORTH_IT``.
    """

    name: str
    p50_ratio: float
    damage: float
    size_bytes: int
    is_slower: bool
    is_better: bool

    @property
    def may_win(self) -> bool:
        """Whether it would be chosen if it were proved."""
        return self.is_better and not self.is_slower


@dataclass(frozen=True, slots=True)
class Place:
    """When and how strictly a variant is held against the original.

    Args:
        name: Name of the variant.
        number: Its place in the order, from 1; 0 if it cannot be chosen, whatever it answers.
    """

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of it.

    Args:
        chosen: Name of the variant to use; None: the original stays.
        reasons: Of each variant why it was chosen, or was not, in a sentence.
        text: The outcome in a sentence.
    """

    chosen: str | None
    reasons: Mapping[str, str]
    text: str


def level_after(refused: int) -> float:
    """Return the level at which a variant has to be shown after so many refusals: half as much each time."""
    return math.ldexp(FOR_THE_REPORT, -refused)


def order(entrants: Sequence[Entrant], placed: Sequence[Place] = ()) -> tuple[Place, ...]:
    """Return the places of variants: that with the least damage first, then the fastest, then the smallest.

    Args:
        entrants: The variants.
        placed: Places that were given before. They stay, and who comes later stands behind them: whether it
            was made at all may have been decided by what the gate said of the former.

    Returns:
        ``placed``, then one place for each entrant that has none; those that cannot be chosen come last.
    """
    known = {place.name for place in placed}
    new = sorted((entrant for entrant in entrants if entrant.name not in known), key=_key)
    first = max((place.number for place in placed), default=0) + 1
    running = [entrant.name for entrant in new if entrant.may_win]
    others = [entrant.name for entrant in new if not entrant.may_win]
    return (
        *placed,
        *(Place(name, number) for number, name in enumerate(running, start=first)),
        *(Place(name, 0) for name in others),
    )


def _key(entrant: Entrant) -> tuple[float, int, int, str]:
    # NaN would sort anywhere: what has no damage that can be told is ruined.
    damage = entrant.damage if entrant.damage <= RUINED else math.inf
    steps = round(math.log(entrant.p50_ratio) / math.log(_SAME_TIME))
    return damage, steps, entrant.size_bytes, entrant.name


def heard(place: Place, comparison: Comparison) -> Comparison:
    """Return what a comparison says for the report.

    Nothing is proved without a place in the order: the levels of the places are all the chance there is.
    """
    if place.number or comparison.verdict != "proved":
        return comparison
    text = f"without a place in the order nothing is proved; alone it would be {comparison.text}"
    return replace(comparison, verdict="not proved", text=text)


def choose(
    places: Sequence[Place], entrants: Mapping[str, Entrant], comparisons: Mapping[str, Comparison]
) -> Choice:
    """Return the fastest of the variants that are proved, not slower, and smaller or faster; or the smallest.

    Args:
        places: The order.
        entrants: The variants by name.
        comparisons: What each was found to lose, at the level it had to be shown at; by name.
    """
    by_number = sorted((place for place in places if place.name in comparisons), key=_by_number)
    usable = [
        place.name
        for place in by_number
        if place.number and entrants[place.name].may_win and comparisons[place.name].verdict == "proved"
    ]
    chosen = _best([entrants[name] for name in usable])
    reasons = {
        place.name: _reason(entrants[place.name], comparisons[place.name], chosen) for place in by_number
    }
    return Choice(chosen, reasons, _outcome(chosen, entrants, comparisons))


def _best(proved: Sequence[Entrant]) -> str | None:
    """Return the smallest of those that are about as fast as the fastest."""
    if not proved:
        return None
    fastest = min(entrant.p50_ratio for entrant in proved)
    near = [entrant for entrant in proved if entrant.p50_ratio <= _SAME_TIME * fastest]
    return min(near, key=lambda entrant: (entrant.size_bytes, entrant.damage, entrant.name)).name


def _by_number(place: Place) -> tuple[bool, int]:
    return place.number == 0, place.number


def _reason(entrant: Entrant, comparison: Comparison, chosen: str | None) -> str:
    if entrant.name == chosen:
        return f"chosen: of what is proved nothing is faster, or about as fast and smaller; {comparison.text}"
    if entrant.is_slower:
        return f"slower than the original: {entrant.p50_ratio:.2f} times its time"
    if not entrant.is_better:
        return f"neither faster nor smaller than the original by {100.0 * (1.0 - WORTH_IT):.0f} %"
    if comparison.verdict == "proved":
        return f"proved as well, but {chosen} is faster, or about as fast and smaller"
    return comparison.text


def _outcome(
    chosen: str | None, entrants: Mapping[str, Entrant], comparisons: Mapping[str, Comparison]
) -> str:
    if chosen is not None:
        return f"{chosen}: {comparisons[chosen].text}"
    running = [each for name, each in comparisons.items() if entrants[name].may_win]
    if not comparisons:
        return "the original stays: no variant was compared with it, for the reasons that stand with each"
    if not running:
        return "the original stays: nothing that was tried is smaller or faster without being slower"
    open_ones = [each.needed for each in running if each.verdict == "not proved" and each.needed is not None]
    if not open_ones:
        return "the original stays: whatever is smaller or faster loses more than is accepted, as it seems"
    return (
        "the original stays: nothing that is smaller or faster is proved to be as good; "
        f"about {min(open_ones)} samples would prove one"
    )
