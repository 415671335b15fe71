"""What a detector found, and which alarms stand: persistence and hysteresis in one place; pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.inference.watch.limits import OF, SEEN

_CALM: Final = 0.8
"""Share of the limit below which all of the last windows must be, so that an alarm is over."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was.

    Args:
        kind: One of :data:`edge_opcua.inference.watch.kinds.KINDS`.
        text: For people: what, how much, and what is usual.
        value: What was found.
        limit: From when on it is too much.
    """

    kind: str
    text: str
    value: float = float("nan")
    limit: float = float("nan")


@dataclass(slots=True)
class Persistence:
    """Two of three windows over the limit make an alarm; three well below end it."""

    on: bool = False
    _over: deque[bool] = field(default_factory=lambda: deque(maxlen=OF))
    _calm: int = 0

    def take(self, value: float, limit: float) -> bool:
        """Take one window and return whether the alarm stands."""
        over = value > limit
        self._over.append(over)
        self._calm = self._calm + 1 if value < _CALM * limit else 0
        if over and sum(self._over) >= SEEN:
            self.on = True
        elif self._calm >= OF:
            self.on = False
        return self.on


class Recent:
    """The share of the last results for which something is so.

    Args:
        window: Results that are looked at.
        limit: Share from which on there is an alarm; over when it has come down to half of it.
        fewest: Results for which it must be so, at least.
    """

    def __init__(self, window: int, limit: float, *, fewest: int = 3) -> None:
        self._marks: npt.NDArray[np.bool_] = np.zeros(window, np.bool_)
        self._needed = min(window, max(fewest, int(np.ceil(limit * window))))
        self._count = 0
        self._taken = 0
        self.on = False

    @property
    def share(self) -> float:
        """Share of the results taken so far, of the last window at most."""
        return self._count / max(1, min(self._taken, len(self._marks)))

    @property
    def count(self) -> int:
        """Number of them."""
        return self._count

    @property
    def seen(self) -> int:
        """Results the share is of."""
        return min(self._taken, len(self._marks))

    def take(self, *, mark: bool) -> bool:
        """Take one result and return whether the alarm stands."""
        at = self._taken % len(self._marks)
        self._count += int(mark) - int(self._marks[at])
        self._marks[at] = mark
        self._taken += 1
        if self._count >= self._needed:
            self.on = True
        elif self._count <= self._needed // 2:
            self.on = False
        return self.on
