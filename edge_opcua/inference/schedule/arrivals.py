"""How often something arrives, from the last arrivals alone; pure."""

from __future__ import annotations

from collections import deque
from typing import Final

REMEMBERED: Final = 65
"""Arrivals that count: 64 gaps smooth jitter, and a change of pace is seen after as many arrivals."""


class Arrivals:
    """The pace of one stream of requests."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[int] = deque(maxlen=REMEMBERED)

    def add(self, now_ns: int) -> None:
        """Take an arrival."""
        self._times.append(now_ns)

    @property
    def last_ns(self) -> int | None:
        """Time of the last arrival; None before the first."""
        return self._times[-1] if self._times else None

    def gap_ns(self) -> int | None:
        """Return the mean time between two arrivals, at least 1; None before the second."""
        if len(self._times) < 2:
            return None
        return max(1, (self._times[-1] - self._times[0]) // (len(self._times) - 1))

    def period_ns(self, now_ns: int) -> int | None:
        """Return :meth:`gap_ns`, or more where nothing has come for longer; None before the second."""
        gap = self.gap_ns()
        if gap is None or now_ns - self._times[-1] <= gap:
            return gap
        return max(1, (now_ns - self._times[0]) // len(self._times))
