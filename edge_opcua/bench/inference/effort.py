"""How much time a run of the benchmark gives to each figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Effort:
    """Counts and durations.

    Args:
        captures: Captures for the safety lane while all cores are busy.
        idle: Captures for it on an idle machine.
        baseline: Captures for each of the plain ways.
        runs: Runs of a model of 1 ms; shorter models get more, in proportion.
        loads: Loads of the realtime lane, as shares of what it can do.
        load_s: Seconds at each load, in each turn.
        turns: Turns at each load; the middle one counts.
        asked_s: Seconds for which each server is asked.
        neighbour_s: Seconds beside each neighbour, before and while it does harm.
        peers: Whether servers of others are measured.
        nice: How far what keeps the cores busy stands back for everything ordinary on this machine.
    """

    captures: int
    idle: int
    baseline: int
    runs: int
    loads: tuple[float, ...]
    load_s: float
    turns: int
    asked_s: float
    neighbour_s: float
    peers: bool = True
    nice: int = 0


DEFAULT: Final = Effort(60_000, 10_000, 5_000, 4_000, (0.5, 0.8, 1.0, 1.2, 1.5), 4.0, 3, 3.0, 4.0)
QUICK: Final = Effort(2_500, 1_000, 500, 300, (0.5, 1.0, 1.5), 1.0, 1, 0.6, 0.5, peers=False)
