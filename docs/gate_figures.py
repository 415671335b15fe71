"""Simulates the gate and draws docs/explanation/gate.svg: how often it proves what is so, and what is not.

python -m docs.gate_figures measure   takes a minute; writes gate-figures.json
python -m docs.gate_figures           draws from it
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.gate import FOR_THE_REPORT, level_after
from edge_opcua.compress.intervals.delong import ranked
from edge_opcua.compress.intervals.estimate import needed, z_of
from edge_opcua.compress.intervals.tango import Turned, score

EXPLANATION: Final = Path(__file__).parent / "explanation"
FIGURES: Final = EXPLANATION / "gate-figures.json"
DRAWING: Final = EXPLANATION / "gate.svg"

ALLOWED: Final = 0.005
CHANGED: Final = 0.013
"""Share of samples on which an INT8 network for keywords was measured to be right where the other was not."""
SAMPLES: Final = (250, 500, 750, 1_000, 1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 16_000, 32_000)
LOSSES: Final = (0.0, 0.0025, 0.005, 0.01)
VARIANTS: Final = (1, 2, 5, 10, 20, 40)
SEARCHED: Final = 4_000
RUNS: Final = 100_000
SEARCHES: Final = 20_000
PLACES: Final = (1, 2, 3, 5, 10, 20)
FAULTS: Final = (200, 400, 800, 1_600)
RARE: Final = 0.005
RARE_RUNS: Final = 2_000

Bools = npt.NDArray[np.bool_]


def measure() -> dict[str, Any]:
    """Simulate everything."""
    random = np.random.default_rng(9)
    found = {
        "allowed": ALLOWED,
        "changed": CHANGED,
        "proved": {
            f"{loss:g}": {str(n): float(_proved(_turned(random, n, loss, RUNS), n).mean()) for n in SAMPLES}
            for loss in LOSSES
        },
        "searched": {str(count): _searched(random, count) for count in VARIANTS},
        "needed": {str(place): _needed(place) for place in PLACES},
        "rare": {str(count): _rare(random, count) for count in FAULTS},
    }
    FIGURES.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _turned(
    random: np.random.Generator, samples: int, loss: float, runs: int | tuple[int, int]
) -> npt.NDArray[np.int64]:
    """Return how many decisions turned wrong and right, the last axis, if a variant loses that much."""
    worse, better = (CHANGED + loss) / 2.0, (CHANGED - loss) / 2.0
    return random.multinomial(samples, [worse, better, 1.0 - CHANGED], size=runs)[..., :2]


def _proved(turned: npt.NDArray[np.int64], samples: int, level: float = FOR_THE_REPORT) -> Bools:
    return np.asarray(score(turned[..., 0], turned[..., 1], samples, ALLOWED) < -z_of(level))


def _searched(random: np.random.Generator, count: int) -> dict[str, float]:
    """Return how often a variant is accepted of some that all lose exactly what is too much."""
    turned = _turned(random, SEARCHED, ALLOWED, (SEARCHES, count))
    below = (turned[..., 0] - turned[..., 1]) / SEARCHED < ALLOWED
    placed = [_proved(turned[:, place], SEARCHED, level_after(place)) for place in range(count)]
    return {
        "mean": float(below.any(axis=1).mean()),
        "each": float(_proved(turned, SEARCHED).any(axis=1).mean()),
        "gate": float(np.any(placed, axis=0).mean()),
    }


def _needed(place: int) -> dict[str, int | None]:
    """Return how many samples prove at a place that nothing is lost: if nothing changes, or as usual."""
    usual = Turned(1_000 * CHANGED / 2.0, 1_000 * CHANGED / 2.0, 1_000)
    level = level_after(place - 1)
    return {
        "nothing changes": needed(Turned(0, 0, 1_000), 1_000, ALLOWED, level),
        "as usual": needed(usual, 1_000, ALLOWED, level),
    }


def _rare(random: np.random.Generator, count: int) -> dict[str, float]:
    """Return how often a variant is called proved that loses a rare kind of fault, and nothing else."""
    is_fault = np.arange(2 * count) < count
    alone = gate = 0
    for _ in range(RARE_RUNS):
        original = random.normal(size=2 * count) + 6.0 * is_fault
        is_lost = is_fault & (random.random(2 * count) < RARE)
        found = ranked(original, np.where(is_lost, -9.0, original), is_fault)
        alone += found.loss + z_of(FOR_THE_REPORT) * found.error < ALLOWED
        gate += found.high(FOR_THE_REPORT) < ALLOWED
    return {"DeLong alone": alone / RARE_RUNS, "gate": gate / RARE_RUNS}


# --- the drawing ----------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 800, 340
_TOP, _BOTTOM, _PANEL, _LEFT, _GAP = 44, 52, 310, 52, 100
_INK, _FAINT = "#444", "#ccc"
_STYLES: Final = (("#0b6e4f", ""), ("#2a6fbb", "7 3"), ("#b5651d", "3 3"))
_HEAD: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="How often the gate calls a variant proved: by samples and true '
    'loss, and by the number of variants that were tried">'
    f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
)
Place = Callable[[float], float]


def _log(first: float, last: float) -> Place:
    return lambda value: math.log(value / first) / math.log(last / first) * _PANEL


def _height(chance: float) -> float:
    floor = _HEIGHT - _BOTTOM
    return floor - chance * (floor - _TOP)


def _axes(left: int, title: str, label: str, ticks: Sequence[int], place: Place) -> list[str]:
    floor = _HEIGHT - _BOTTOM
    lines = [f'<text x="{left}" y="{_TOP - 20}" font-weight="bold">{title}</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _height(share)
        lines.append(f'<path d="M{left} {y:.0f}h{_PANEL}" stroke="{_FAINT}"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{100 * share:.0f} %</text>')
    lines.append(f'<path d="M{left} {_TOP}V{floor}h{_PANEL}" fill="none" stroke="{_INK}"/>')
    lines += [
        f'<text x="{left + place(tick):.0f}" y="{floor + 17}" text-anchor="middle">{tick:,}</text>'.replace(
            ",", " "
        )
        for tick in ticks
    ]
    lines.append(f'<text x="{left + _PANEL / 2}" y="{_HEIGHT - 12}" text-anchor="middle">{label}</text>')
    return lines


@dataclass(frozen=True, slots=True)
class _Line:
    """A curve and what stands beside it.

    Args:
        points: Where it goes.
        text: What it shows.
        at: Where that is written.
    """

    points: Sequence[tuple[float, float]]
    text: str
    at: tuple[float, float]

    def drawn(self, left: int, place: Place, number: int) -> list[str]:
        """Return it as SVG, in its own colour and with its own dashes."""
        colour, dashes = _STYLES[number]
        path = "L".join(f"{left + place(x):.1f} {_height(y):.1f}" for x, y in self.points)
        x, y = self.at
        broken = f' stroke-dasharray="{dashes}"' if dashes else ""
        return [
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.2"{broken}/>',
            f'<text x="{left + place(x):.0f}" y="{_height(y):.0f}" fill="{colour}">{self.text}</text>',
        ]


def _points(found: Mapping[str, Any], which: str | None = None) -> list[tuple[float, float]]:
    return [(float(x), each if which is None else each[which]) for x, each in found.items()]


def drawing(found: Mapping[str, Any]) -> str:
    """Return the drawing."""
    first, second = _LEFT, _LEFT + _PANEL + _GAP
    by_samples, by_variants = _log(SAMPLES[0], SAMPLES[-1]), _log(VARIANTS[0], VARIANTS[-1])
    proved, searched = found["proved"], found["searched"]
    left = (
        _Line(_points(proved["0"]), "loses nothing", (430, 0.47)),
        _Line(_points(proved["0.0025"]), "loses 0.25 pp", (9_000, 0.42)),
        _Line(_points(proved["0.005"]), "loses 0.5 pp: too much", (2_500, 0.05)),
    )
    right = (
        _Line(_points(searched, "gate"), "the gate", (12, 0.08)),
        _Line(_points(searched, "each"), "each by its 95 % interval", (1.9, 0.33)),
        _Line(_points(searched, "mean"), "each by its mean", (2.2, 0.68)),
    )
    lines = [_HEAD]
    ticks = (250, 1_000, 4_000, 16_000)
    lines += _axes(first, "Called proved, 0.5 pp accepted", "samples", ticks, by_samples)
    for number, line in enumerate(left):
        lines += line.drawn(first, by_samples, number)
    title, label = "One accepted, though all lose 0.5 pp", "variants that are tried"
    lines += _axes(second, title, label, VARIANTS, by_variants)
    for number, line in enumerate(right):
        lines += line.drawn(second, by_variants, number)
    return "\n".join([*lines, "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    """Simulate if that is wanted, and write the drawing."""
    found = measure() if "measure" in arguments else json.loads(FIGURES.read_text())
    DRAWING.write_text(drawing(found))
    sys.stdout.write(f"written: {DRAWING.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
