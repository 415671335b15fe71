"""Running quantiles of how long something takes: exact over the last runs, and quick to forget; pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

LENGTH: Final = 128
"""Runs that are remembered: two slow ones move the 99th percentile, 64 the median; 128 later all is past."""


class Window:
    """The last :data:`LENGTH` measurements, in order of time and of size; an ``add`` takes about 1 µs.

    Args:
        samples: Measurements to begin with, the oldest first.
    """

    __slots__ = ("_by_age", "_by_size")

    def __init__(self, samples: Iterable[int] = ()) -> None:
        self._by_age = deque(samples, maxlen=LENGTH)
        self._by_size = sorted(self._by_age)

    def __len__(self) -> int:
        return len(self._by_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_age)

    def add(self, sample: int) -> None:
        """Take one measurement, and forget the oldest if there are too many."""
        if len(self._by_age) == LENGTH:
            del self._by_size[bisect_left(self._by_size, self._by_age[0])]
        self._by_age.append(sample)
        insort(self._by_size, sample)

    def recent(self, count: int) -> int:
        """Return the median of the last measurements; IndexError before the first."""
        last = sorted(list(self._by_age)[-count:])
        return last[(len(last) - 1) // 2]

    @property
    def p50(self) -> int:
        """Median; IndexError before the first measurement."""
        return self._by_size[(len(self._by_size) - 1) // 2]

    @property
    def p99(self) -> int:
        """Smallest that 99 % do not exceed: the largest of fewer than 100, after that the second largest."""
        return self._by_size[-1 - len(self._by_size) // 100]
