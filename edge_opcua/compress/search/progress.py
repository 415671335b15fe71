"""How far a run is and how long it will still take, from what its steps took so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from edge_opcua.core.clock import Clock

FIRST_GUESS_S: Final[Mapping[str, float]] = {
    "clean": 0.5,
    "fp16": 0.5,
    "int8-dynamic": 1.0,
    "int8-static": 2.0,
    "mixed": 15.0,
    "pruned": 3.0,
    "tuned": 60.0,
    "distilled": 60.0,
    "qat": 60.0,
    "answers": 1.0,
    "timing": 3.0,
    "close timing": 4.0,
    "comparison": 0.1,
}
"""What a step of a kind takes, seconds, as long as none was seen."""
_SEEN_ENOUGH: Final = 0.02


@dataclass(frozen=True, slots=True)
class Advance:
    """Where a run is.

    Args:
        share: Of the whole that is done, 0 to 1.
        remaining_s: What it will still take, seconds; an estimate.
        text: What is being done.
    """

    share: float
    remaining_s: float
    text: str


Watcher = Callable[[Advance], None]


class Pace:
    """The steps of a run, done and to come.

    Args:
        clock: For what they take.
        watcher: Gets every advance; None: nobody watches.
    """

    def __init__(self, clock: Clock, watcher: Watcher | None) -> None:
        self._clock = clock
        self._watcher = watcher
        self._started_s = clock.monotonic_s()
        self._took: defaultdict[str, list[float]] = defaultdict(list)
        self._ahead: defaultdict[str, int] = defaultdict(int)
        self._kind = ""
        self._begun_s = self._started_s
        self._text = ""
        self._highest = 0.0

    @property
    def spent_s(self) -> float:
        """Time since the run began, seconds."""
        return self._clock.monotonic_s() - self._started_s

    def expect(self, kind: str, count: int = 1) -> None:
        """Take note of steps to come; below 0: of steps that will not come."""
        self._ahead[kind] = max(0, self._ahead[kind] + count)

    def begin(self, kind: str, text: str) -> None:
        """Take note that a step begins."""
        self._kind, self._text, self._begun_s = kind, text, self._clock.monotonic_s()
        self.expect(kind, -1)
        self.within(0.0, "")

    def within(self, share: float, text: str) -> None:
        """Take note of how far the step is, 0 to 1."""
        if self._watcher is None:
            return
        remaining_s = self._rest_of_step_s(share) + sum(
            count * self._usual_s(kind) for kind, count in self._ahead.items()
        )
        spent_s = self.spent_s
        self._highest = max(self._highest, spent_s / (spent_s + remaining_s) if spent_s else 0.0)
        told = f"{self._text}: {text}" if text else self._text
        self._watcher(Advance(self._highest, remaining_s, told))

    def end(self, *, again: bool) -> None:
        """Take note that the step is done; one that was done before says nothing of what others take."""
        if not again:
            self._took[self._kind].append(self._clock.monotonic_s() - self._begun_s)
        self._kind = ""

    def _usual_s(self, kind: str) -> float:
        took = self._took[kind]
        return sum(took) / len(took) if took else FIRST_GUESS_S.get(kind, 1.0)

    def _rest_of_step_s(self, share: float) -> float:
        if not self._kind:
            return 0.0
        so_far_s = self._clock.monotonic_s() - self._begun_s
        if share > _SEEN_ENOUGH:
            return so_far_s * (1.0 - min(share, 1.0)) / share
        return max(0.0, self._usual_s(self._kind) - so_far_s)
