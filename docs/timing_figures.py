"""Times models beside themselves and draws docs/explanation/timing.svg: an interval has to hold 1.

python -m docs.timing_figures measure   takes some two minutes; writes timing-figures.json
python -m docs.timing_figures           draws from it
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.measure.pair import Rounds
from edge_opcua.compress.measure.ratio import Times, ratios
from edge_opcua.core.clock import SystemClock
from tests.compress.models import conv_net, mlp, pictures, residual_net, saved

EXPLANATION: Final = Path(__file__).parent / "explanation"
FIGURES: Final = EXPLANATION / "timing-figures.json"
DRAWING: Final = EXPLANATION / "timing.svg"

MODELS: Final[dict[str, Callable[[], Any]]] = {"mlp": mlp, "convolutions": conv_net, "residual": residual_net}
PAIRS: Final = 8
BUDGET_S: Final = 3.0
_RESAMPLES: Final = 1_000

_WIDTH, _HEIGHT, _TOP, _FLOOR, _LEFT, _PANEL = 760, 300, 40, 252, 62, 320
_SPAN: Final = 0.03
_HELD, _MISSED = "#0b6e4f", "#b3261e"

_HEAD: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="Models timed beside themselves: interval of the ratio">'
    f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
)

Interval = tuple[float, float, float]


def measure() -> dict[str, list[dict[str, list[float]]]]:
    """Time each model beside itself several times; each time gives an interval from one load and from all."""
    found: dict[str, list[dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "rows.npy", pictures(500, 1).rows)
        for model, make in MODELS.items():
            path = str(saved(make(), folder, f"{model}.onnx"))
            request = {
                "original": path,
                "variant": path,
                "rows": str(folder / "rows.npy"),
                "input_name": "x",
                "provider": "cpu",
                "threads": 1,
                "budget_s": BUDGET_S,
            }
            found[model] = [_pair(request) for _ in range(PAIRS)]
            sys.stderr.write(f"{model}: {found[model]}\n")
    return found


def _pair(request: dict[str, Any]) -> dict[str, list[float]]:
    original, variant = Rounds(request, SystemClock()).measure()
    all_of_it = ratios(original, variant)
    return {
        "one load": list(of_blocks(original[0], variant[0])),
        "six loads": [all_of_it.ratio, all_of_it.low, all_of_it.high],
    }


def of_blocks(original: Times, variant: Times) -> Interval:
    """Return ratio and 95 % interval by bootstrap over the blocks of one load, as is often done."""
    logs = np.log(np.median(variant, axis=1) / np.median(original, axis=1))
    drawn = np.random.default_rng(1).integers(0, len(logs), (_RESAMPLES, len(logs)))
    low, high = np.percentile(np.median(logs[drawn], axis=1), (2.5, 97.5))
    return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))


def holding(intervals: Sequence[Sequence[float]]) -> int:
    """Return how many intervals hold 1."""
    return sum(low <= 1.0 <= high for _, low, high in intervals)


def intervals_of(found: dict[str, list[dict[str, list[float]]]], way: str) -> list[list[float]]:
    """Return the intervals of all models in one way."""
    return [pair[way] for pairs in found.values() for pair in pairs]


def drawing(found: dict[str, list[dict[str, list[float]]]]) -> str:
    """Return both ways side by side, an interval for each pair."""
    lines = [_HEAD]
    for left, way in ((_LEFT, "one load"), (_LEFT + _PANEL + 40, "six loads")):
        intervals = intervals_of(found, way)
        title = f"{way}: {holding(intervals)} of {len(intervals)} intervals hold 1"
        lines += [f'<text x="{left}" y="{_TOP - 16}" font-weight="bold">{title}</text>', *_axis(left)]
        lines += [
            _interval(left + (number + 0.5) * _PANEL / len(intervals), interval)
            for number, interval in enumerate(intervals)
        ]
    text = (
        f"{len(MODELS)} models, each timed beside itself {PAIRS} times: ratio of the medians, 95 % interval"
    )
    lines.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{text}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _axis(left: float) -> list[str]:
    lines = []
    for tick in (0.98, 0.99, 1.0, 1.01, 1.02):
        y, stroke = _y(tick), "#555" if tick == 1.0 else "#ddd"
        lines.append(f'<path d="M{left} {y:.1f}h{_PANEL}" stroke="{stroke}"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.2f}</text>')
    return lines


def _interval(x: float, interval: Sequence[float]) -> str:
    ratio, low, high = interval
    holds = holding([interval])
    colour, shape = (_HELD, "4") if holds else (_MISSED, "2.5")
    return (
        f'<path d="M{x:.1f} {_y(low):.1f}V{_y(high):.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{_y(ratio):.1f}" r="{shape}" fill="{colour}"/>'
    )


def _y(ratio: float) -> float:
    return _TOP + (_FLOOR - _TOP) * (1.0 - (min(max(ratio, 1 - _SPAN), 1 + _SPAN) - 1 + _SPAN) / (2 * _SPAN))


def main() -> None:
    """Measure if asked to, and draw."""
    if sys.argv[1:] == ["measure"]:
        FIGURES.write_text(json.dumps(measure(), indent=1) + "\n")
    DRAWING.write_text(drawing(json.loads(FIGURES.read_text())))


if __name__ == "__main__":
    main()
