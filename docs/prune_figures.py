"""Prunes the example models with and without the refit, and draws docs/explanation/prune.svg.

python -m docs.prune_figures measure FOLDER   takes some minutes; writes prune-figures.json
python -m docs.prune_figures                  draws from it

FOLDER is what examples/compress/digits.py, strokes.py and wear_classifier.py wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.assets import examples_dir
from edge_opcua.compress.dataset import Dataset, Rows
from edge_opcua.compress.graph import activations, open_graph
from edge_opcua.compress.prune.make import prune
from edge_opcua.compress.samples.load import Wanted, load
from edge_opcua.compress.search.subject import open_subject

EXPLANATION: Final = Path(__file__).parent / "explanation"
FIGURES: Final = EXPLANATION / "prune-figures.json"
DRAWING: Final = EXPLANATION / "prune.svg"

SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MOST_SAMPLES: Final = 500
"""Of the calibration: what ``compress`` sets aside for it at most, if nobody says what to take."""
SEED: Final = 9

Quality = Callable[[Dataset, Mapping[str, Any]], float]


@dataclass(frozen=True, slots=True)
class Example:
    """A model, and what it is judged by.

    Args:
        title: What it is called in the drawing.
        target: Its file or package under examples/compress/models.
        samples: Files of samples: what comes before ``-calibration.npz`` and ``-gate.npz``.
        quality: How good its answers are, in percent.
        measure: What that is.
    """

    title: str
    target: str
    samples: str
    quality: Quality
    measure: str


def right(data: Dataset, answers: Mapping[str, Any]) -> float:
    """Return the share of right decisions, in percent."""
    scores = next(array for array in answers.values() if array.ndim == 2 and array.shape[1] > 1)
    return 100.0 * float(np.mean(scores.argmax(1) == data.truth))


def auc(data: Dataset, answers: Mapping[str, Any]) -> float:
    """Return how often the error of a worn die is above that of a healthy one, in percent."""
    (made,) = answers.values()
    error = ((made - data.rows) ** 2).mean(1, dtype=np.float64)
    assert data.truth is not None
    bad, good = error[data.truth == 1], np.sort(error[data.truth == 0])
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return 50.0 * float(below.mean()) / len(good)


EXAMPLES: Final = (
    Example("Digits, convolutions", "digits-cnn.onnx", "digits", right, "right, %"),
    Example("Press, autoencoder", "press-autoencoder/1", "press", auc, "AUC, %"),
    Example("Wear of the die, dense layers", "wear.onnx", "wear", right, "right, %"),
)


def measure(folder: Path) -> dict[str, Any]:
    """Prune everything, and judge by samples that it was not pruned by."""
    found: dict[str, Any] = {}
    for example in EXAMPLES:
        subject = open_subject(examples_dir() / "compress" / "models" / example.target, folder)
        wanted = Wanted(subject.input_name, subject.sample_shape or ())
        calibration, gate = (
            load(folder / f"{example.samples}-{part}.npz", wanted, subject.files)
            for part in ("calibration", "gate")
        )
        chosen = np.random.default_rng(SEED).permutation(len(calibration))[:MOST_SAMPLES]
        found[example.title] = _measured(example, subject.path, calibration.rows[chosen], gate)
        sys.stdout.write(f"{example.title}: {found[example.title]}\n")
    FIGURES.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _measured(example: Example, path: Path, rows: Rows, gate: Dataset) -> dict[str, Any]:
    whole = open_graph(path)
    outputs = [output.name for output in whole.graph.output]

    def quality(model: Any) -> float:
        return round(example.quality(gate, activations(model, outputs, gate.rows)), 3)

    found: dict[str, Any] = {
        "measure": example.measure,
        "calibration": len(rows),
        "gate": len(gate),
        "original": quality(whole),
        "plain": [],
        "refit": [],
    }
    for name, fit in (("plain", False), ("refit", True)):
        for share in SHARES:
            pruned = prune(open_graph(path), rows, share, fit=fit, seed=SEED)
            found[name].append([round(pruned.share, 4), quality(pruned.model)])
    return found


# --- the drawing ----------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 860, 330
_TOP, _BOTTOM, _PANEL, _LEFT, _GAP = 56, 52, 220, 48, 60
_INK, _FAINT = "#444", "#ccc"
_STYLES: Final = {"refit": ("#0b6e4f", "", "with refit"), "plain": ("#b5651d", "5 3", "without")}
_HEAD: Final = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="Quality of three models after pruning 10 to 80 % of their '
    'weights, with and without a refit of the layers behind">'
    f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
)


def _x(left: int, share: float) -> float:
    return left + share / 0.9 * _PANEL


def _y(value: float, least: float) -> float:
    floor = _HEIGHT - _BOTTOM
    return floor - (value - least) / (100.0 - least) * (floor - _TOP)


def _panel(left: int, title: str, found: Mapping[str, Any]) -> list[str]:
    worst = min(value for name in _STYLES for _, value in found[name])
    least = 0.0 if worst < 50 else 50.0 if worst < 75 else 10.0 * (worst // 10)
    floor = _HEIGHT - _BOTTOM
    lines = [
        f'<text x="{left}" y="{_TOP - 36}" font-weight="bold">{title}</text>',
        f'<text x="{left}" y="{_TOP - 18}" fill="{_INK}">{found["measure"]}</text>',
    ]
    for step in range(6):
        value = least + (100.0 - least) * step / 5
        y = _y(value, least)
        lines.append(f'<path d="M{left} {y:.0f}h{_PANEL}" stroke="{_FAINT}"/>')
        lines.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>')
    lines.append(f'<path d="M{left} {_TOP}V{floor}h{_PANEL}" fill="none" stroke="{_INK}"/>')
    for share in (0.0, 0.2, 0.4, 0.6, 0.8):
        x = _x(left, share)
        lines.append(f'<text x="{x:.0f}" y="{floor + 17}" text-anchor="middle">{100 * share:.0f} %</text>')
    lines.append(
        f'<text x="{left + _PANEL / 2}" y="{_HEIGHT - 12}" text-anchor="middle">weights removed</text>'
    )
    for name in _STYLES:
        lines += _curve(left, least, name, [(0.0, found["original"]), *found[name]])
    return lines


def _curve(left: int, least: float, name: str, points: Sequence[Sequence[float]]) -> list[str]:
    colour, dashes, text = _STYLES[name]
    broken = f' stroke-dasharray="{dashes}"' if dashes else ""
    path = "L".join(f"{_x(left, share):.1f} {_y(value, least):.1f}" for share, value in points)
    lines = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2.2"{broken}/>']
    for share, value in points[1:]:
        x, y = _x(left, share), _y(value, least)
        mark = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
            if name == "refit"
            else f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="{colour}"/>'
        )
        lines.append(mark)
    share, value = points[4]
    x, y = _x(left, share), _y(value, least)
    at, side = (
        (f'x="{x:.0f}" y="{y + 18:.0f}"', "start")
        if name == "refit"
        else (
            f'x="{x - 10:.0f}" y="{y + 16:.0f}"',
            "end",
        )
    )
    lines.append(f'<text {at} text-anchor="{side}" fill="{colour}">{text}</text>')
    return lines


def drawing(found: Mapping[str, Any]) -> str:
    """Return the drawing."""
    lines = [_HEAD]
    for number, (title, figures) in enumerate(found.items()):
        lines += _panel(_LEFT + number * (_PANEL + _GAP), title, figures)
    return "\n".join([*lines, "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    """Measure if that is wanted, and write the drawing."""
    wanted = list(arguments[:1]) == ["measure"]
    found = measure(Path(arguments[1])) if wanted else json.loads(FIGURES.read_text())
    DRAWING.write_text(drawing(found))
    sys.stdout.write(f"written: {DRAWING.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
