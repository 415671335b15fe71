"""Which variants the gate is asked about, and what its samples can show: no label has a part in that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from edge_opcua.compress.gate import Entrant
from edge_opcua.compress.task import Comparison

SAME: Final = 1.02
"""Ratio of times, and of sizes, that is not told apart."""
_WHOLE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Reach:
    """What the samples of the gate can show.

    Args:
        most_changed: Share of changed decisions from which on they cannot show even of what loses nothing
            that it does: it is not worth building upon; infinite where nothing is decided.
        note: What cannot be shown even of a variant that answers the same; empty if it can.
    """

    most_changed: float = math.inf
    note: str = ""


def reach_of(same: Comparison) -> Reach:
    """Return what the samples of the gate can show at most.

    Args:
        same: The original held against itself, at the level of the first place; no label counts in that.

    Source:
        Of ``c n`` changed decisions as many turn right as wrong if nothing is lost; the upper bound of the
        loss is then about ``z sqrt(c / n)`` (Tango, Statistics in Medicine 17 (1998) 891-908, large ``n``).
    """
    decides = same.changed is not None and same.unit == "pp"
    z = NormalDist().inv_cdf(1.0 - same.level)
    most = same.samples * (same.allowed / _WHOLE / z) ** 2 if decides else math.inf
    note = ""
    if same.verdict != "proved":
        wanted = f"; about {same.needed} can" if same.needed is not None else ""
        note = (
            f"gate: {same.samples} samples cannot show a loss below {same.allowed:g} {same.unit}, "
            f"not even of what answers the same{wanted}"
        )
    return Reach(most, note)


def better_than(entrants: Sequence[Entrant]) -> dict[str, str]:
    """Return which variants need not be shown to be good, and why.

    A variant that is refused costs all that stand behind it. So of those that are as fast and as small as
    each other only that with the least damage to the calibration samples is entered. Each that is entered is
    then faster or smaller than all that stand before it.
    """
    entered: list[Entrant] = []
    found: dict[str, str] = {}
    for entrant in sorted(entrants, key=lambda each: (each.damage, each.name)):
        if not entrant.may_win:
            continue
        rival = next((each for each in entered if _covers(each, entrant)), None)
        if rival is None:
            entered.append(entrant)
        else:
            found[entrant.name] = (
                f"not entered: {rival.name} is as fast and as small, and does less damage to the calibration "
                "samples"
            )
    return found


def _covers(one: Entrant, other: Entrant) -> bool:
    return one.p50_ratio <= SAME * other.p50_ratio and one.size_bytes <= SAME * other.size_bytes
