"""Where a score is heading: when it reaches its limit if it goes on like this, and how sure that is; pure.

Means of blocks of results are kept twice: the last ones as they are, and all of them, of which two neighbours
become one when there is no more room, so that some kilobytes hold a month. A trend is looked for at several
lengths: the longest stretch that is still a straight line tells most.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.watch.findings import Finding

POINTS: Final = 96
HORIZON_H: Final = 24.0
"""A limit that is reached later than this is told, but is no alarm."""
FARTHER: Final = 3.0
"""Times the stretch that was seen to which a line may be drawn out for an alarm.

A press that warms up does so for half an hour, not for the six hours after which it would be at the limit.
"""
FURTHEST_H: Final = 24.0 * 365
_LENGTHS: Final = (96, 80, 64, 48, 32, 24, 16, 12)
_SURE: Final = 3.5
"""Standard errors by which a slope must differ from none."""
_BOUND: Final = 2.0
"""Standard errors of the slope within which the truth is sought: 95 %."""
_BENT: Final = 2.5
_LAST: Final = 4
_PERSISTS: Final = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trend:
    """When a score reaches its limit at this rate.

    Args:
        hours: Best estimate; NaN if it is not heading there.
        low_hours: At the earliest.
        high_hours: At the latest; inf if the slowest slope that fits hardly moves.
        seen_hours: Length of the stretch that says so.
    """

    hours: float = math.nan
    low_hours: float = math.nan
    high_hours: float = math.nan
    seen_hours: float = 0.0

    @property
    def is_heading_there(self) -> bool:
        """Whether the limit will be reached."""
        return self.hours == self.hours

    @property
    def is_near(self) -> bool:
        """Whether that is soon, and not far beyond what was seen."""
        return self.hours <= min(HORIZON_H, FARTHER * self.seen_hours)

    def later(self, hours: float) -> Trend:
        """Return the same as it is so many hours later."""
        if not self.is_heading_there:
            return self
        left, low, high = (max(0.0, each - hours) for each in (self.hours, self.low_hours, self.high_hours))
        return Trend(left, low, high, self.seen_hours)

    def text(self) -> str:
        """Return it in words; empty if it is not heading there."""
        if not self.is_heading_there:
            return ""
        latest = "later" if math.isinf(self.high_hours) else _span(self.high_hours)
        return (
            f"the score reaches the limit in about {_span(self.hours)} "
            f"({_span(self.low_hours)}…{latest}) at this rate"
        )


class TrendWatch:
    """The score of one model on its way to a limit.

    Args:
        limit: The limit of the score.
        block: Results of a block whose mean is kept.
    """

    def __init__(self, limit: float, block: int) -> None:
        self._limit = limit
        self._block = max(1, block)
        self._points: list[tuple[float, float]] = []
        self._merged = 1
        self._latest: deque[tuple[float, float]] = deque(maxlen=POINTS)
        self._sum, self._time, self._count = 0.0, 0.0, 0
        self._first_ns, self._now_h, self._blocks = 0, 0.0, 0
        self._persists = 0
        self.now = Trend()

    def take(self, score: float, captured_ns: int) -> None:
        """Take one result.

        Args:
            score: What the model answered.
            captured_ns: When it was captured, ns UTC.
        """
        if score - score != 0.0:
            return
        self._first_ns = self._first_ns or captured_ns
        self._sum += score
        self._now_h = (captured_ns - self._first_ns) / 3.6e12
        self._time += self._now_h
        self._count += 1
        if self._count < self._block:
            return
        self._latest.append((self._time / self._count, self._sum / self._count))
        self._sum, self._time, self._count = 0.0, 0.0, 0
        self._blocks += 1
        if self._blocks % self._merged == 0:
            self._keep()
        self.now = Trend()
        for points in (self._points, list(self._latest)):
            if points and not self.now.is_heading_there:
                since_h = self._now_h - points[-1][0]
                self.now = trend_of(np.array(points), self._limit).later(since_h)
        self._persists = self._persists + 1 if self.now.is_near else 0

    def _keep(self) -> None:
        """Keep the last blocks as one point, of as many blocks as all points are of."""
        newest = [self._latest[place] for place in range(-min(self._merged, POINTS), 0)]
        self._points.append((_mean(newest, 0), _mean(newest, 1)))
        if len(self._points) == POINTS:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [(_mean(pair, 0), _mean(pair, 1)) for pair in pairs]
            self._merged *= 2

    def finding(self) -> Finding | None:
        """Return that the limit is near, if it has been for some blocks."""
        if self._persists < _PERSISTS:
            return None
        return Finding("trend", self.now.text(), self.now.hours, HORIZON_H)


def _mean(points: Sequence[tuple[float, float]], which: int) -> float:
    return sum(point[which] for point in points) / len(points)


def trend_of(points: Floats, limit: float) -> Trend:
    """Return when a line through points reaches a limit.

    Args:
        points: Hours and means, oldest first, shape ``(n, 2)``.
        limit: The limit, above the points.
    """
    for length in _LENGTHS:
        if len(points) < length:
            continue
        hours, means = points[-length:, 0], points[-length:, 1]
        line = _Line.through(hours, means)
        if line is None or line.bends:
            continue
        return line.reaches(limit, float(hours[-1] - hours[0]))
    return Trend()


@dataclass(frozen=True, slots=True)
class _Line:
    """A straight line through the means of blocks.

    Args:
        slope: Per hour.
        error: Standard error of the slope.
        level: Where it is at the last of them.
        centre_h: Time from the middle of them to the last, h.
        mean_error: Standard error of the mean of all.
        bends: Whether the last ones lie beside it.
    """

    slope: float
    error: float
    level: float
    centre_h: float
    mean_error: float
    bends: bool

    @classmethod
    def through(cls, hours: Floats, means: Floats) -> _Line | None:
        """Return the line with the least squares; None if all points are at one time."""
        n = len(hours)
        apart = hours - hours.mean()
        width = float(apart @ apart)
        if width <= 0:
            return None
        slope = float(apart @ means) / width
        level, centre_h = float(means.mean() + slope * apart[-1]), float(apart[-1])
        rest = means - means.mean() - slope * apart
        scatter = float(rest @ rest) / (n - 2)
        if scatter <= 0:
            return cls(slope, 0.0, level, centre_h, 0.0, bends=False)
        # What follows each other is alike: so much less is known than n points would tell.
        alike = min(0.95, max(0.0, float(rest[1:] @ rest[:-1]) / float(rest @ rest)))
        inflated = scatter * (1 + alike) / (1 - alike)
        last = float(rest[-_LAST:].mean()) / math.sqrt(inflated / _LAST)
        errors = math.sqrt(inflated / width), math.sqrt(inflated / n)
        return cls(slope, errors[0], level, centre_h, errors[1], bends=abs(last) > _BENT)

    def reaches(self, limit: float, seen_hours: float) -> Trend:
        """Return when it reaches a limit, from the last point on; nothing if it does not rise for sure."""
        way = limit - self.level
        if way <= 0 or self.slope <= _SURE * self.error:
            return Trend()
        hours = way / self.slope
        if hours > FURTHEST_H:
            return Trend()
        # How far the line may be off where it meets the limit, as a share of the way there.
        off = _BOUND * math.hypot(self.mean_error, (hours + self.centre_h) * self.error) / way
        return Trend(hours, hours / (1 + off), hours / (1 - off) if off < 1 else math.inf, seen_hours)


def _span(hours: float) -> str:
    if hours >= 72:
        return f"{hours / 24:.0f} d"
    return f"{hours:.0f} h" if hours >= 3 else f"{max(1.0, hours * 60):.0f} min"
