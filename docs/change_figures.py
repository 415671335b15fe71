"""Draws docs/explanation/model-changes.svg: who judges which stroke while a model changes, and who does what.

python -m docs.change_figures
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DRAWING: Final = Path(__file__).parent / "explanation" / "model-changes.svg"

STROKES: Final = tuple(range(12))
"""When captures come, in any unit of time."""
TAKES: Final = 0.22
QUIET: Final = 6 + TAKES
"""The moment after a verdict in which the captures are handed over."""
BACK: Final = 9.55
"""When somebody, or the watch, asks for the former version."""

_WIDTH, _LEFT, _SCALE = 900, 118, 64
_ROW, _TOP = 56, 40
_OLD, _NEW, _IDLE, _QUIET_INK = "#b5651d", "#0b6e4f", "#e4e4e4", "#555"


@dataclass(frozen=True, slots=True)
class Span:
    """Something that takes time in a process.

    Args:
        row: Which line of the drawing.
        begins: When.
        ends: When.
        ink: Fill.
        text: What it is.
        light: Whether the text is white.
    """

    row: int
    begins: float
    ends: float
    ink: str
    text: str
    light: bool = True


SPANS: Final = (
    Span(1, 0, QUIET, _OLD, "version 1 judges"),
    Span(1, QUIET, BACK, _IDLE, "stands by: loaded, idle", light=False),
    Span(1, BACK, 12, _OLD, "judges again"),
    Span(2, 0.4, 2.2, _IDLE, "load, prove, measure", light=False),
    Span(2, 2.2, 5.3, "#7fb09f", "in shadow: judges unseen", light=False),
    Span(2, 5.3, 6.1, _IDLE, "rehearse", light=False),
    Span(2, QUIET, BACK, _NEW, "version 2 judges"),
)


def judge(stroke: float) -> int:
    """Return which version gives the verdict on a stroke."""
    return 2 if QUIET <= stroke < BACK else 1


def drawing() -> str:
    """Return the drawing."""
    height = _TOP + 4 * _ROW + 26
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12" role="img" aria-label="Which process judges which stroke while a model changes">'
    )
    return "\n".join([head, *_rows(), *_spans(SPANS), *_strokes(), *_marks(), "</svg>"]) + "\n"


def _x(at: float) -> float:
    return _LEFT + at * _SCALE


def _y(row: int) -> int:
    return _TOP + row * _ROW


def _rows() -> Iterator[str]:
    for row, name in enumerate(("captures", "first process", "second process", "verdicts")):
        yield f'<text x="8" y="{_y(row) + 22}" font-weight="bold">{name}</text>'
        yield f'<path d="M{_LEFT} {_y(row) + 36}H{_x(12):.0f}" stroke="#ccc"/>'


def _spans(spans: Sequence[Span]) -> Iterator[str]:
    for span in spans:
        width = (span.ends - span.begins) * _SCALE
        ink = "#fff" if span.light else "#222"
        yield (
            f'<rect x="{_x(span.begins):.1f}" y="{_y(span.row) + 6}" width="{width:.1f}" height="26" '
            f'fill="{span.ink}" stroke="#888" stroke-width="0.5"/>'
        )
        yield (
            f'<text x="{_x(span.begins) + width / 2:.1f}" y="{_y(span.row) + 23}" fill="{ink}" '
            f'text-anchor="middle" font-size="11">{span.text}</text>'
        )


def _strokes() -> Iterator[str]:
    for number, at in enumerate(STROKES, start=1):
        x, answered = _x(at + 0.02), _x(at + TAKES)
        version = judge(at)
        ink = _OLD if version == 1 else _NEW
        yield f'<path d="M{x:.1f} {_y(0) + 10}V{_y(0) + 36}" stroke="#222" stroke-width="2"/>'
        yield f'<text x="{x + 4:.1f}" y="{_y(0) + 20}" font-size="11">{number}</text>'
        yield f'<circle cx="{answered:.1f}" cy="{_y(3) + 20}" r="9" fill="{ink}"/>'
        yield (
            f'<text x="{answered:.1f}" y="{_y(3) + 24}" fill="#fff" text-anchor="middle" '
            f'font-size="11">{version}</text>'
        )


def _marks() -> Iterator[str]:
    for at, text in ((QUIET, "hand-over"), (BACK, "roll-back")):
        yield (
            f'<path d="M{_x(at):.1f} {_y(0) - 4}V{_y(3) + 36}" stroke="{_QUIET_INK}" stroke-dasharray="4 3"/>'
        )
        yield f'<text x="{_x(at):.1f}" y="{_y(0) - 10}" text-anchor="middle">{text}</text>'
    yield f'<text x="{_x(12):.0f}" y="{_y(4) + 14}" text-anchor="end">time</text>'


def main() -> int:
    """Draw it."""
    DRAWING.write_text(drawing())
    return 0


if __name__ == "__main__":
    sys.exit(main())
