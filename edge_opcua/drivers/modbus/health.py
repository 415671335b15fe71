"""Whether a connection lives, judged by which of its units answer; pure."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Final

_FEW: Final = 3


class Health:
    """What is known of the units behind one connection since it was made."""

    def __init__(self) -> None:
        self._alive: dict[int, float] = {}
        self._silent: set[int] = set()
        self._fallen = 0

    def answered(self, unit: int, now_s: float) -> None:
        """Note that a unit, or the gateway in its name, has answered: so the line lives."""
        self._alive[unit] = now_s
        self._silent.discard(unit)
        self._fallen = 0

    def last_answer_s(self, unit: int) -> float:
        """Return when a unit answered last; minus infinity if it never did."""
        return self._alive.get(unit, -math.inf)

    def hopeless(self, expected: Set[int]) -> bool:
        """Return whether none of the units that are asked has answered, and none is left to be tried."""
        return not self._alive and expected <= self._silent

    def fell_silent(self, unit: int, expected: Set[int]) -> bool:
        """Note that a unit did not answer; return whether that ends the connection.

        One dead unit must not cost the others their connection, and a connection that nobody answers on
        must not be kept. So it ends when all were asked in vain and one of them again, or when, without an
        answer in between, at least three and a third of those that had answered have stopped.

        Args:
            unit: The unit.
            expected: All units that are asked over this connection.
        """
        again = unit in self._silent
        if self._alive.pop(unit, None) is not None:
            self._fallen += 1
        self._silent.add(unit)
        if self._fallen >= max(_FEW, len(self._alive) / 2):
            return True
        return again and self.hopeless(expected)
