"""How far slow runs are reckoned with: hardly any answer is late, none refused for nothing; pure."""

from __future__ import annotations

from typing import Final

MOST_LATE: Final = 0.0005
"""Share of the answers that may be late: half of what is promised, as it is only steered at."""

STEP: Final = 0.5
"""Two late answers bring caution from nothing to what the 99th percentile asks for, 4 000 in time back."""

MOST: Final = 2.0
"""Where some runs take far longer than the 99th percentile, up to twice as much is reckoned with."""


class Caution:
    """A share, 0 and up, of what a slow run takes longer than a usual one; all of it to begin with.

    It rises by a late answer and falls by those in time, so that in the long run :data:`MOST_LATE` are late
    (Gibbs and Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021): where nothing
    is near its deadline, a model whose runs vary is not refused what would most likely be in time.
    """

    def __init__(self) -> None:
        self._share = 1.0

    @property
    def share(self) -> float:
        """How much of the difference between a slow and a usual run is reckoned with."""
        return self._share

    def note(self, *, late: bool) -> None:
        """Take whether an answer was late."""
        self._share = min(MOST, max(0.0, self._share + STEP * (late - MOST_LATE)))

    def reckons(self, usual_ns: int, slow_ns: int) -> int:
        """Return how long a run is reckoned to take."""
        return usual_ns + int((slow_ns - usual_ns) * self._share)
