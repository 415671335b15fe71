"""Drawings of a report: every variant by loss and gain, and the interval of one loss; SVG to put into a page.

Nothing is told by colour alone: what is proved is a disc, what is not a hollow diamond, what failed a cross.
Right and up is better in every drawing. Colours and fonts are those of the page (its style sheet names them).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from edge_opcua.compress.report import words
from edge_opcua.compress.report.report import Row
from edge_opcua.compress.task import Comparison, Verdict

_WIDTH, _HEIGHT = 560.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 18.0, 18.0, 52.0
_CELL_WIDTH, _CELL_HEIGHT = 132.0, 24.0
_ROOM: Final = 1.12
_BEYOND: Final = 3.0
"""Losses of more than so many times what is accepted stand at the edge, with their figure."""
_TICKS: Final = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200)
_NARROW: Final = 3.0
"""A range of ratios below this has ticks at equal distances."""
_CLASS: Final[dict[Verdict, str]] = {"proved": "good", "not proved": "open", "failed": "bad"}


_Box = tuple[float, float, float, float]
_AROUND: Final = ((1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1.3), (0, 1.3))
"""Where the number of a mark may stand, in its distance: right, left, the corners, above, below."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A variant in a drawing.

    Args:
        number: Its number in the table.
        x: Where it stands, in the unit of the axis.
        comparison: What it loses.
        is_chosen: Whether it is the one to use.
        text: What it is, for whoever points at it.
    """

    number: int
    x: float
    comparison: Comparison
    is_chosen: bool
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The gain in a drawing, to the right.

    Args:
        title: What it is.
        low: Its left end.
        high: Its right end.
        ticks: Where it has a number.
        label: The number at a tick.
        zero: Where the original stands.
        good_from: From here on a variant may be used.
        is_log: Whether equal ratios have equal distances.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[float]
    label: Callable[[float], str]
    zero: float
    good_from: float
    is_log: bool

    def place(self, value: float) -> float:
        """Return where a value is, 0 to 1."""
        low, high, at = (self.low, self.high, value)
        if self.is_log:
            low, high, at = math.log(low), math.log(high), math.log(max(value, 1e-9))
        return min(1.0, max(0.0, (at - low) / (high - low)))


@dataclass(frozen=True, slots=True)
class Losses:
    """The range of losses that is drawn, the same in all drawings of a report.

    Args:
        low: Least loss, below 0.
        high: Largest loss; what is beyond stands at the edge.
        allowed: Loss that is accepted.
        unit: Of all.
        measure: Of what.
    """

    low: float
    high: float
    allowed: float
    unit: str
    measure: str

    def place(self, loss: float) -> float:
        """Return where a loss is, 0 (the least) to 1."""
        return min(1.0, max(0.0, (loss - self.low) / (self.high - self.low)))


def losses(comparisons: Sequence[Comparison]) -> Losses:
    """Return the range that shows these comparisons."""
    first = comparisons[0]
    most = _BEYOND * first.allowed if first.allowed > 0 else 1.0
    ends = [value for each in comparisons for value in (each.low, each.high) if abs(value) <= most]
    low = min([-0.4 * most, *ends]) * _ROOM
    high = max([0.6 * most, *ends]) * _ROOM
    return Losses(low, high, first.allowed, first.unit, first.measure)


def speed_axis(rows: Sequence[Row]) -> Axis:
    """Return the axis of speed: how many times as fast."""
    found = [1.0 / row.timing.ratio for row in rows if row.timing is not None]
    low, high = min([0.8, *found]) / _ROOM, max([1.3, *found]) * _ROOM
    ticks = _speed_ticks(low, high)
    return Axis(
        "times as fast (median of a run)", low, high, ticks, "{:g}".format, 1.0, 1 / 1.02, is_log=True
    )


def _speed_ticks(low: float, high: float) -> list[float]:
    """Return round numbers, about as far from each other wherever they stand on a scale of ratios."""
    if high / low < _NARROW:
        step = _step((high - low) / 5)
        return [round(at * step, 9) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [tick for tick in _TICKS if low <= tick <= high]


def size_axis(rows: Sequence[Row]) -> Axis:
    """Return the axis of size: share of the file that is saved."""
    low = min([0.0, *(row.saved for row in rows if row.timing is not None)])
    low = -0.05 if low >= 0 else math.floor(low * 4) / 4
    ticks = [quarter / 4 for quarter in range(math.ceil(low * 4), 5)]
    return Axis("smaller file", low, 1.0, ticks, lambda at: f"{100 * at:.0f} %", 0.0, 0.0, is_log=False)


def scatter(marks: Sequence[Mark], axis: Axis, span: Losses) -> str:
    """Return a drawing of all variants: gain to the right, loss downwards."""
    frame = _Frame(axis, span)
    chosen_last = sorted(marks, key=lambda mark: (mark.is_chosen, mark.comparison.verdict == "proved"))
    bars = "".join(frame.bar(mark) for mark in chosen_last)
    discs = "".join(frame.disc(mark) for mark in chosen_last)
    title = escape(f"Loss of {span.measure} against {axis.title}, one mark for each variant")
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{title}">'
        f"{frame.background()}{frame.limit(marks)}{bars}{frame.original()}{discs}{frame.labels(marks)}</svg>"
    )


class _Frame:
    """The place of everything in a drawing.

    Args:
        axis: To the right.
        span: Downwards.
    """

    def __init__(self, axis: Axis, span: Losses) -> None:
        self._axis = axis
        self._span = span

    def x(self, value: float) -> float:
        """Return where a gain is."""
        return _LEFT + self._axis.place(value) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, loss: float) -> float:
        """Return where a loss is: more of it is further down, and more than is drawn at the edge."""
        floor = _HEIGHT - _BOTTOM
        return floor - 12 if loss > self._span.high else _TOP + self._span.place(loss) * (floor - _TOP)

    def background(self) -> str:
        """Return the axes, and the field in which a variant may be used."""
        axis, span = self._axis, self._span
        right, floor, limit = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, self.y(span.allowed)
        good = self.x(axis.good_from)
        parts = [
            _field(good, _TOP, right - good, limit - _TOP),
        ]
        for tick in axis.ticks:
            x = self.x(tick)
            parts.append(f'<path class="grid" d="M{x:.1f} {_TOP:g}V{floor:g}"/>')
            parts.append(_text(x, floor + 18, escape(axis.label(tick)), "middle"))
        for tick in _loss_ticks(span):
            y = self.y(tick)
            parts.append(f'<path class="grid" d="M{_LEFT:g} {y:.1f}H{right:g}"/>')
            parts.append(_text(_LEFT - 8, y + 4, f"{words.signed(tick, _digits(span))}", "end"))
        parts += [
            f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{floor:g}H{right:g}"/>',
            f'<path class="limit" d="M{_LEFT:g} {limit:.1f}H{right:g}"/>',
            _text(
                (_LEFT + right) / 2,
                _HEIGHT - 12,
                f"{escape(axis.title)} \N{RIGHTWARDS ARROW}",
                "middle",
                "name",
            ),
            f'<g transform="translate(14 {(_TOP + floor) / 2:.1f}) rotate(-90)">'
            + _text(0, 0, escape(f"loss of {span.measure}, {span.unit}"), "middle", "name")
            + "</g>",
        ]
        return "".join(parts)

    def limit(self, marks: Sequence[Mark]) -> str:
        """Return what the line of the accepted loss is called, at the end where fewer marks are."""
        y, middle = self.y(self._span.allowed), (_LEFT + _WIDTH - _RIGHT) / 2
        near = [self.x(mark.x) for mark in marks if abs(self.y(mark.comparison.loss) - y - 10) < 30]
        left = sum(x < middle for x in near)
        at, anchor = (_LEFT + 6, "start") if 2 * left < len(near) else (_WIDTH - _RIGHT - 6, "end")
        text = f"accepted loss {self._span.allowed:g} {escape(self._span.unit)}"
        return _text(at, y + 15, text, anchor, "limit-text")

    def original(self) -> str:
        """Return the mark of the original."""
        x, y = self.x(self._axis.zero), self.y(0.0)
        return (
            f'<g><title>the original</title><rect class="original" x="{x - 5:.1f}" y="{y - 5:.1f}" '
            f'width="10" height="10"/></g>'
        )

    def bar(self, mark: Mark) -> str:
        """Return the interval of a variant."""
        found = mark.comparison
        if found.low > self._span.high:
            return ""
        x, kind = self.x(mark.x), _CLASS[found.verdict]
        high, low = self.y(found.high), self.y(found.low)
        chosen = " chosen" if mark.is_chosen else ""
        return (
            f'<path class="bar {kind}{chosen}" d="M{x:.1f} {low:.1f}V{high:.1f}'
            f'M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"/>'
        )

    def disc(self, mark: Mark) -> str:
        """Return the mark of a variant."""
        found = mark.comparison
        x, y = self.x(mark.x), self.y(found.loss)
        ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="11"/>' if mark.is_chosen else ""
        return f"<g><title>{escape(mark.text)}</title>{ring}{_shape(found.verdict, x, y, 5.5)}</g>"

    def labels(self, marks: Sequence[Mark]) -> str:
        """Return the numbers beside the marks; where there is no room for one, the table has to do."""
        taken = [self._box(mark, 0.0, 0.0, 6.0) for mark in marks]
        found = []
        for mark in sorted(marks, key=lambda mark: not mark.is_chosen):
            far, kind = (17.0, "number chosen") if mark.is_chosen else (14.0, "number")
            boxes = (self._box(mark, x * far, y * far, 7.0) for x, y in _AROUND)
            box = next((box for box in boxes if not any(_overlap(box, other) for other in taken)), None)
            if box is not None:
                taken.append(box)
                found.append(_text((box[0] + box[2]) / 2, box[3] - 3, str(mark.number), "middle", kind))
        return "".join(found) + self._beyond(marks, taken)

    def _beyond(self, marks: Sequence[Mark], taken: list[_Box]) -> str:
        """Return the figures of what is at the edge because it loses far more."""
        found = []
        for mark in marks:
            x, y = self.x(mark.x), self.y(mark.comparison.loss)
            box = (x - 28, y - 22, x + 28, y - 7)
            is_free = not any(_overlap(box, other) for other in taken)
            if mark.comparison.loss > self._span.high and is_free:
                taken.append(box)
                found.append(_text(x, y - 11, escape(words.loss(mark.comparison)), "middle", "beyond"))
        return "".join(found)

    def _box(self, mark: Mark, right: float, down: float, half: float) -> _Box:
        x, y = self.x(mark.x) + right, self.y(mark.comparison.loss) + down
        return x - half, y - half, x + half, y + half


def interval_cell(comparison: Comparison, span: Losses) -> str:
    """Return the interval of one loss beside what is accepted, for a cell of the table; right is worse."""
    room = _CELL_WIDTH - 16.0

    def x(loss: float) -> float:
        return 8.0 + span.place(loss) * room

    middle, kind = _CELL_HEIGHT / 2, _CLASS[comparison.verdict]
    parts = [
        f'<path class="zero" d="M{x(0.0):.1f} 2V{_CELL_HEIGHT - 2:g}"/>',
        f'<path class="limit" d="M{x(span.allowed):.1f} 2V{_CELL_HEIGHT - 2:g}"/>',
    ]
    if comparison.low > span.high:
        tip = _CELL_WIDTH - 6
        parts.append(f'<path class="beyond {kind}" d="M{tip - 9:g} {middle - 5:g}l9 5l-9 5z"/>')
    else:
        line = f"M{x(comparison.low):.1f} {middle:g}H{x(comparison.high):.1f}"
        parts.append(f'<path class="bar {kind} chosen" d="{line}"/>')
        parts.append(_shape(comparison.verdict, x(comparison.loss), middle, 4.5))
    said = escape(f"{words.loss(comparison)} {words.interval(comparison)}")
    return (
        f'<svg class="cell" viewBox="0 0 {_CELL_WIDTH:g} {_CELL_HEIGHT:g}" role="img" aria-label="{said}">'
        f"{''.join(parts)}</svg>"
    )


def sign(verdict: Verdict) -> str:
    """Return the mark of a verdict alone, for a text."""
    return f'<svg class="sign" viewBox="0 0 14 14" aria-hidden="true">{_shape(verdict, 7.0, 7.0, 5.0)}</svg>'


def original_sign() -> str:
    """Return the mark of the original alone."""
    return _sign('<rect class="original" x="2.5" y="2.5" width="9" height="9"/>')


def chosen_sign() -> str:
    """Return the mark of the chosen variant alone."""
    ring = '<circle class="ring" cx="7" cy="7" r="6"/>'
    return _sign(ring + _shape("proved", 7.0, 7.0, 2.5))


def _sign(inner: str) -> str:
    return f'<svg class="sign" viewBox="0 0 14 14" aria-hidden="true">{inner}</svg>'


def _field(x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="field" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _shape(verdict: Verdict, x: float, y: float, radius: float) -> str:
    kind = _CLASS[verdict]
    if verdict == "proved":
        return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'
    if verdict == "not proved":
        size = radius * 1.2
        return (
            f'<path class="mark {kind}" d="M{x:.1f} {y - size:.1f}l{size:.1f} {size:.1f}'
            f'l{-size:.1f} {size:.1f}l{-size:.1f} {-size:.1f}z"/>'
        )
    size = radius * 0.85
    return (
        f'<path class="mark {kind}" d="M{x - size:.1f} {y - size:.1f}l{2 * size:.1f} {2 * size:.1f}'
        f'M{x - size:.1f} {y + size:.1f}l{2 * size:.1f} {-2 * size:.1f}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _loss_ticks(span: Losses) -> list[float]:
    step = _step((span.high - span.low) / 6)
    first, last = math.ceil(span.low / step), math.floor(span.high / step)
    return [round(number * step, 9) for number in range(first, last + 1)]


def _step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _digits(span: Losses) -> int:
    return max(0, -math.floor(math.log10(_step((span.high - span.low) / 6)) + 1e-9))


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
