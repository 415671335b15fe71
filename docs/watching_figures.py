"""Measures the watch of models on simulated results and draws docs/explanation/watching.svg.

python -m docs.watching_figures measure   takes some ten minutes; writes watching-figures.json
python -m docs.watching_figures           draws from it
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.inference.watch.limits import MONTH_S
from edge_opcua.inference.watch.quality import InputTerms, QualityWatch
from tests.inference.watch.healthy import PER_MONTH, Plant, false_alarms, watch

EXPLANATION: Final = Path(__file__).parent / "explanation"
FIGURES: Final = EXPLANATION / "watching-figures.json"
DRAWING: Final = EXPLANATION / "watching.svg"

CASES: Final = (
    # memory, samples of the profile, accepted a month, months of one reference, references
    (0.0, 500, 10.0, 2, 12),
    (0.0, 2_000, 10.0, 2, 12),
    (0.9, 2_000, 10.0, 2, 12),
    (0.9, 5_000, 10.0, 2, 12),
    (0.0, 2_000, 1.0, 5, 12),
    (0.9, 5_000, 1.0, 5, 12),
)
SHIFTS: Final = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SPREADS: Final = (0.25, 0.5, 0.67, 1.5, 2.0, 3.0)
RUNS: Final = 20
MOST: Final = 1_500

_WIDTH, _HEIGHT = 760, 300
_TOP, _BOTTOM, _PANEL, _LEFT = 40, 48, 280, 56
_LONGEST: Final = 300
_COLOUR, _OTHER = "#0b6e4f", "#b5651d"
_HEAD: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="Results until a change is found, against its size">'
)


def measure() -> dict[str, Any]:
    """Run everything; what is there already stays."""
    found: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    found["shift"] = {str(size): delay(partial(shifted, size)) for size in SHIFTS}
    found["spread"] = {str(size): delay(partial(stretched, size)) for size in SPREADS}
    found["stuck"] = {"0": delay(lambda _: 41.0)}
    write(found)
    alarms = found.setdefault("false_alarms", {})
    for memory, samples, accepted, months, references in CASES:
        key = f"{memory:g} {samples} {accepted:g}"
        if key in alarms:
            continue
        counted = [
            false_alarms(Plant(memory), samples=samples, months=months, accepted=accepted, seed=seed)
            for seed in range(references)
        ]
        alarms[key] = {"months": months * references, "alarms": sum(counted)}
        write(found)
        sys.stdout.write(f"{key}: {alarms[key]}\n")
        sys.stdout.flush()
    if "quality" not in found:
        found["quality"] = {f"{memory:g}": quality_alarms(Plant(memory)) for memory in (0.0, 0.9)}
        write(found)
    return found


def shifted(size: float, value: float) -> float:
    """Return a value of a feature whose mean has moved by so many standard deviations."""
    return value + 3 * size


def stretched(factor: float, value: float) -> float:
    """Return a value of a feature that moves so many times as far."""
    return 40 + (value - 40) * factor


def quality_alarms(plant: Plant) -> dict[str, int]:
    """Return how many alarms about the inputs begin in three healthy months."""
    random = np.random.default_rng(5)
    profile = plant.profile(random, 2_000)
    k = len(profile.names)
    limits = ((-math.inf,) * k, (math.inf,) * k)
    watched = QualityWatch(InputTerms(profile.names, profile.units, *limits, stuck_s=60.0), profile)
    alarms, standing, months = 0, False, 3
    gap_ns = round(MONTH_S / PER_MONTH * 1e9)
    for at, (_, _, features) in enumerate(plant.results(random, round(months * PER_MONTH))):
        watched.take(np.asarray(features, np.float32).astype(np.float64), at * gap_ns)
        if at % 25 == 0:
            now = watched.finding() is not None
            alarms += now and not standing
            standing = now
    return {"months": months, "alarms": alarms}


def delay(change: Callable[[float], float]) -> dict[str, float]:
    """Return after how many results a change in one feature is found: median and 90 % quantile of runs."""
    found = []
    for seed in range(RUNS):
        random, plant = np.random.default_rng(1_000 + seed), Plant()
        watched = watch(plant.profile(random, 2_000), per_month=PER_MONTH)
        for score, confidence, features in plant.results(random, 300 + seed * 7):
            watched.take(score, confidence, features)
        found.append(MOST)
        for at, (score, confidence, features) in enumerate(plant.results(random, MOST), 1):
            features[3] = change(features[3])
            watched.take(score, confidence, features)
            if watched.findings():
                found[-1] = at
                break
    return {"median": float(np.median(found)), "p90": float(np.quantile(found, 0.9))}


def write(found: dict[str, Any]) -> None:
    """Write the figures."""
    FIGURES.write_text(json.dumps(found, indent=1) + "\n")


def panel(
    left: int, title: str, label: str, ticks: Sequence[float], place: Callable[[float], float]
) -> list[str]:
    """Return the axes of one plot."""
    floor, right = _HEIGHT - _BOTTOM, left + _PANEL
    lines = [
        f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{title}</text>',
        f'<path d="M{left} {_TOP}V{floor}H{right}" fill="none" stroke="#555"/>',
        f'<text x="{(left + right) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{label}</text>',
    ]
    lines += [
        f'<text x="{left + place(tick):.0f}" y="{floor + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    ]
    for count in (0, 100, 200, 300):
        y = floor - count / _LONGEST * (floor - _TOP)
        lines.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{count}</text>')
        lines.append(f'<path d="M{left} {y:.0f}H{right}" stroke="#ddd"/>')
    return lines


def curve(found: dict[str, Any], which: str, left: int, place: Callable[[float], float], colour: str) -> str:
    """Return one line."""
    floor = _HEIGHT - _BOTTOM
    points = [
        (left + place(float(size)), floor - min(_LONGEST, each[which]) / _LONGEST * (floor - _TOP))
        for size, each in found.items()
    ]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashed = "" if which == "median" else ' stroke-dasharray="5 3"'
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'


def drawing(found: dict[str, Any]) -> str:
    """Return the drawing."""
    first, second = _LEFT, _LEFT + _PANEL + 90

    def shift(size: float) -> float:
        return size / 3 * _PANEL

    def spread(factor: float) -> float:
        return (float(np.log(factor / 0.25)) / float(np.log(12))) * _PANEL

    lines = [_HEAD]
    lines += panel(
        first, "Results until a shift is found", "shift of the mean, standard deviations", (0, 1, 2, 3), shift
    )
    lines += panel(
        second,
        "… until another spread is found",
        "standard deviation, times the usual",
        (0.25, 0.5, 1, 2, 3),
        spread,
    )
    for which, colour, word, height in (
        ("median", _COLOUR, "median", 20),
        ("p90", _OTHER, "nine of ten", 36),
    ):
        lines.append(curve(found["shift"], which, first, shift, colour))
        narrower = {size: each for size, each in found["spread"].items() if float(size) < 1}
        wider = {size: each for size, each in found["spread"].items() if float(size) > 1}
        lines += [curve(part, which, second, spread, colour) for part in (narrower, wider)]
        lines.append(f'<text x="{first + 190}" y="{_TOP + height}" fill="{colour}">{word}</text>')
    return "\n".join([*lines, "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    """Measure if that is wanted, and write the drawing."""
    found = measure() if "measure" in arguments else json.loads(FIGURES.read_text())
    DRAWING.write_text(drawing(found))
    sys.stdout.write(f"written: {DRAWING.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
