"""What a model is given: stuck, flat, out of range, missing, in another unit, out of time; pure.

Most of what looks like drift in a plant is a sensor that died. These are rules, not statistics: each says
what is wrong with which input, and needs most of the last samples to agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.watch.findings import Finding, Recent
from edge_opcua.inference.watch.profile import FIRST_FEATURE, ReferenceProfile
from edge_opcua.inference.watch.units import looks_like

RECENT: Final = 16
"""Samples that are looked at together; three quarters of them must agree."""
_MOST: Final = 12
_FEW: Final = 4
_ROOM: Final = 0.5
"""Share of the usual range by which a value may lie outside of it."""
_HELD: Final = 3
"""Times as long as ever in training a value must stand still to be stuck."""
_FLAT: Final = 0.05
"""Share of its usual spread below which an input that lives is flat."""
_FLAT_SAMPLES: Final = 64
_MISSING_SHARE: Final = 0.2
_INTERVALS: Final = 64
_UNEVEN: Final = 4.0
"""Times as uneven as at first the times between samples must have become."""
_LEAST_UNEVEN: Final = 0.2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class InputTerms:
    """What the inputs of a model are.

    Args:
        names: Names of the features.
        units: Their units.
        low: Smallest values the model may judge.
        high: Largest values the model may judge.
        stuck_s: Time after which an input that has not moved is stuck, s.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    stuck_s: float


class QualityWatch:
    """The inputs of one model.

    Args:
        terms: What they are.
        profile: What they were in training; None: only what needs no reference is looked at.
    """

    def __init__(self, terms: InputTerms, profile: ReferenceProfile | None) -> None:
        k = len(terms.names)
        self._terms = terms
        self._stillness = _Stillness(terms, profile)
        self._timing = _Timing()
        self._missing = Recent(RECENT * 4, _MISSING_SHARE, fewest=_MOST)
        self._why_missing = ""
        self._usual = _usual(profile, k)
        low, high = _bounds(terms, profile)
        self._low, self._high = low, high
        self._rows = np.full((RECENT, k), np.nan)
        self._outside: npt.NDArray[np.bool_] = np.zeros((RECENT, k), np.bool_)
        self._counts = np.zeros(k, np.int64)
        self._off: npt.NDArray[np.bool_] = np.zeros(k, np.bool_)
        self._seen = 0

    def missed(self, reason: str) -> None:
        """Take a result for which there were no usable inputs."""
        self._why_missing = reason
        self._missing.take(mark=True)

    def take(self, features: Floats, captured_ns: int) -> None:
        """Take the inputs of one result.

        Args:
            features: Shape ``(k,)``.
            captured_ns: When they were captured, ns UTC.
        """
        self._missing.take(mark=False)
        self._timing.take(captured_ns)
        self._stillness.take(features, captured_ns)
        place = self._seen % RECENT
        self._rows[place] = features
        outside = (features < self._low) | (features > self._high)
        self._counts += outside.astype(np.int64) - self._outside[place]
        self._outside[place] = outside
        self._off = (self._counts >= _MOST) | (self._off & (self._counts > _FEW))
        self._seen += 1

    def findings(self) -> list[str]:
        """Return what is wrong, the most important first."""
        found = []
        if self._missing.on:
            found.append(f"{self._missing.share:.0%} of the last samples cannot be used: {self._why_missing}")
        found += [self._outside_text(int(at)) for at in np.flatnonzero(self._off)]
        found += self._stillness.findings()
        found += self._timing.findings()
        return found

    def finding(self) -> Finding | None:
        """Return what is wrong as one finding; None if nothing is."""
        texts = self.findings()
        if not texts:
            return None
        more = f", and {len(texts) - 1} more" if len(texts) > 1 else ""
        return Finding("quality", texts[0] + more, float(len(texts)), 0.0)

    def _outside_text(self, at: int) -> str:
        recent = self._rows[self._outside[:, at], at]
        if not recent.size:
            return f"{self._terms.names[at]} was outside what is usual"
        low, middle, high = np.quantile(recent, (0.25, 0.5, 0.75))
        name, unit = self._terms.names[at], self._terms.units[at]
        if self._usual is not None:
            usual = (float(self._usual[at, 0]), float(self._usual[at, 1]), float(self._usual[at, 2]))
            like = looks_like(float(middle), float(high - low), unit, usual)
            if like:
                return f"{name} looks {like}: {middle:.4g}, the model learned {usual[1]:.4g} {unit}".rstrip()
        limits = f"{self._low[at]:.4g}..{self._high[at]:.4g}"
        return f"{name} {middle:.4g} {unit}".rstrip() + f" is outside {limits}"


def _usual(profile: ReferenceProfile | None, k: int) -> Floats | None:
    """Return the smallest, the middle and the largest value of each feature, shape ``(k, 3)``."""
    if profile is None:
        return None
    rows = profile.quantiles[FIRST_FEATURE : FIRST_FEATURE + k]
    return np.array([np.interp((0.0, 0.5, 1.0), profile.shares, row) for row in rows])


def _bounds(terms: InputTerms, profile: ReferenceProfile | None) -> tuple[Floats, Floats]:
    """Return what inputs may be: what the model may judge, and with some room what it was shown."""
    low, high = np.array(terms.low, np.float64), np.array(terms.high, np.float64)
    if profile is None:
        return low, high
    shown = profile.quantiles[FIRST_FEATURE:]
    room = _ROOM * (shown[:, -1] - shown[:, 0])
    moves = room > 0
    # What was never negative is not compared with less than nothing.
    lowest = np.where(shown[:, 0] > 0, np.maximum(shown[:, 0] - room, shown[:, 0] / 2), shown[:, 0] - room)
    low = np.maximum(low, np.where(moves, lowest, -np.inf))
    return low, np.minimum(high, np.where(moves, shown[:, -1] + room, np.inf))


class _Stillness:
    """Inputs that do not move: not at all (stuck), or hardly any more (flat)."""

    def __init__(self, terms: InputTerms, profile: ReferenceProfile | None) -> None:
        k = len(terms.names)
        self._terms = terms
        self._last: Floats | None = None
        self._since_ns = np.zeros(k, np.int64)
        self._held = np.zeros(k, np.int64)
        self._now_ns = 0
        self._needed = np.full(k, _FEW, np.int64)
        self._moves: npt.NDArray[np.bool_] = np.zeros(k, np.bool_)
        self._least = np.zeros(k)
        if profile is not None:
            hold = profile.hold[FIRST_FEATURE:]
            self._needed = np.maximum(_FEW, _HELD * hold)
            self._moves = hold < profile.count
            # A slow input hardly moves within a few samples: of these nothing is known.
            quick = profile.stride[FIRST_FEATURE:] == 1
            self._least = np.where(quick, _FLAT * profile.std[FIRST_FEATURE:], 0.0)
        self._ring: deque[Floats] = deque(maxlen=_FLAT_SAMPLES)
        self._count = 0
        self._flat: npt.NDArray[np.bool_] = np.zeros(k, np.bool_)

    def take(self, features: Floats, captured_ns: int) -> None:
        """Take one sample."""
        if self._last is None:
            self._since_ns[:] = captured_ns
        else:
            moved = features != self._last
            self._moves |= moved
            self._held = np.where(moved, 0, self._held + 1)
            self._since_ns[moved] = captured_ns
        self._last, self._now_ns = features, captured_ns
        self._ring.append(features)
        self._count += 1
        if self._count % (_FLAT_SAMPLES // 2) == 0 and len(self._ring) == _FLAT_SAMPLES:
            spread = np.array(self._ring).std(axis=0)
            self._flat = (spread < self._least) & (spread > 0)

    @property
    def stuck(self) -> npt.NDArray[np.bool_]:
        """Which inputs have not moved for too long."""
        still_s = (self._now_ns - self._since_ns) / 1e9
        late: npt.NDArray[np.bool_] = (still_s >= self._terms.stuck_s) & (self._held >= self._needed)
        return late & self._moves

    def findings(self) -> list[str]:
        """Return what does not move, in words."""
        if self._last is None:
            return []
        found, names, units = [], self._terms.names, self._terms.units
        for at in np.flatnonzero(self.stuck):
            seconds = (self._now_ns - self._since_ns[at]) / 1e9
            value = f"{self._last[at]:.4g} {units[at]}".rstrip()
            found.append(f"{names[at]} is stuck at {value} for {_duration(seconds)}")
        found += [f"{names[at]} hardly moves any more" for at in np.flatnonzero(self._flat)]
        return found


class _Timing:
    """The times between samples, held against those at first."""

    def __init__(self) -> None:
        self._last_ns = 0
        self._gaps: list[float] = []
        self._usual = float("nan")
        self._now = float("nan")
        self._on = False
        self._times = 0

    def take(self, captured_ns: int) -> None:
        """Take the time of one capture, ns UTC."""
        gap_s = (captured_ns - self._last_ns) / 1e9
        if self._last_ns and gap_s > 0:
            self._gaps.append(gap_s)
        self._last_ns = captured_ns
        if len(self._gaps) < _INTERVALS:
            return
        low, middle, high = np.quantile(self._gaps, (0.25, 0.5, 0.75))
        self._gaps.clear()
        self._now = float((high - low) / middle)
        if self._usual != self._usual:
            self._usual = self._now
            return
        over = self._now > max(_LEAST_UNEVEN, _UNEVEN * self._usual)
        self._times = self._times + 1 if over else 0
        self._on = self._times >= 2 or (self._on and over)

    def findings(self) -> list[str]:
        """Return that samples come out of time, in words."""
        if not self._on:
            return []
        return [
            f"samples come unevenly: times between them vary by {self._now:.0%}, {self._usual:.0%} before"
        ]


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def names_of(findings: Sequence[str]) -> str:
    """Return findings as one text of at most 120 bytes, for the row ``input_quality``."""
    text = "; ".join(findings)
    raw = text.encode()
    return text if len(raw) <= 120 else raw[:117].decode(errors="ignore") + "…"
