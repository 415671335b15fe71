"""Draws docs/explanation/scheduling.svg from the simulation that the tests of the scheduler use.

python -m docs.scheduling_figures
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.inference.schedule.simulation import (
    MS,
    SECOND,
    Fifo,
    Line,
    Nature,
    Outcome,
    Stream,
    arrivals,
    scheduler,
)

DRAWING: Final = Path(__file__).parent / "explanation" / "scheduling.svg"
SECONDS: Final = 10
ALONE: Final = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
BATCHED: Final = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0)
MAY_TAKE: Final = 20 * MS

_WIDTH, _HEIGHT = 760, 300
_TOP, _BOTTOM, _PANEL, _LEFT = 40, 48, 280, 56
_OURS, _QUEUE = "#0b6e4f", "#b5651d"
_LOAD: Final = "load, as a share of what single runs can do"
_HEAD: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="Share of captures answered in time against the load">'
)


@dataclass(frozen=True)
class Point:
    """What a load came to."""

    load: float
    good: float
    note: str = ""


def conv(batch: int) -> float:
    """Return what a convolution takes (ns): a batch gains nothing."""
    return 2.0 * MS * batch


def mlp(batch: int) -> float:
    """Return what a small perceptron takes (ns): 32 take four times as long as one."""
    return (2 + 0.2 * batch) * MS


def run(base: Callable[[int], float], load: float, *, fifo: bool = False) -> Outcome:
    """Run one model on one worker at a load, as a share of what it could do one by one."""
    nature, rng = Nature({"model": base}, jitter=0.05), random.Random(1)  # noqa: S311 - no secret
    stream = Stream("model", load * SECOND / base(1), MAY_TAKE)
    requests = arrivals([stream], SECONDS * SECOND, random.Random(2))  # noqa: S311 - no secret
    return Line(Fifo() if fifo else scheduler(nature, rng), nature, rng).run(requests)


def point(base: Callable[[int], float], load: float, *, fifo: bool = False) -> Point:
    """Return the share in time, with the requests per run."""
    outcome = run(base, load, fifo=fifo)
    mean = len(outcome.requests) and outcome.load and outcome.load.mean_batch
    return Point(load, outcome.good() / len(outcome.requests), f"{mean:.1f}" if mean else "")


def panel(left: int, most: float, title: str, ticks: Sequence[float]) -> list[str]:
    """Return the axes of one plot."""
    floor, right = _HEIGHT - _BOTTOM, left + _PANEL
    lines = [
        f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{title}</text>',
        f'<path d="M{left} {_TOP}V{floor}H{right}" fill="none" stroke="#555"/>',
        f'<text x="{(left + right) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">{_LOAD}</text>',
    ]
    for tick in ticks:
        x = left + tick / most * _PANEL
        lines.append(f'<text x="{x:.0f}" y="{floor + 16}" text-anchor="middle">{tick:g}</text>')
    for share in (0, 50, 100):
        y = floor - share / 100 * (floor - _TOP)
        lines.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{share} %</text>')
        lines.append(f'<path d="M{left} {y:.0f}H{right}" stroke="#ddd"/>')
    return lines


def curve(points: Sequence[Point], left: int, most: float, colour: str, shape: str) -> list[str]:
    """Return one line with its marks; a round or a square one, so that it can be told without colour."""
    floor = _HEIGHT - _BOTTOM
    at = [(left + p.load / most * _PANEL, floor - p.good * (floor - _TOP)) for p in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    lines = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for x, y in at:
        mark = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
            if shape == "circle"
            else f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"'
        )
        lines.append(f'{mark} fill="{colour}"/>')
    return lines


def drawing() -> str:
    """Return the drawing."""
    first, second = _LEFT, _LEFT + _PANEL + 90
    lines = [_HEAD, *panel(first, 2, "A batch gains nothing: in time", (0, 0.5, 1, 1.5, 2))]
    lines += curve([point(conv, load, fifo=True) for load in ALONE], first, 2, _QUEUE, "square")
    lines += curve([point(conv, load) for load in ALONE], first, 2, _OURS, "circle")
    lines.append(f'<text x="{first + 196}" y="{_TOP + 60}" fill="{_OURS}">edge_opcua</text>')
    lines.append(f'<text x="{first + 150}" y="{_HEIGHT - _BOTTOM - 12}" fill="{_QUEUE}">plain queue</text>')
    lines += panel(second, 12, "Batches gain: in time, and requests per run", (0, 2, 4, 6, 8, 10, 12))
    lines += curve([point(mlp, load, fifo=True) for load in BATCHED], second, 12, _QUEUE, "square")
    ours = [point(mlp, load) for load in BATCHED]
    lines += curve(ours, second, 12, _OURS, "circle")
    floor = _HEIGHT - _BOTTOM
    for each in ours[3::2]:
        x, y = second + each.load / 12 * _PANEL, floor - each.good * (floor - _TOP)
        lines.append(
            f'<text x="{x:.0f}" y="{y + 20:.0f}" text-anchor="middle" fill="{_OURS}">{each.note}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    """Write the drawing."""
    DRAWING.write_text(drawing())
    sys.stdout.write(f"written: {DRAWING.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
