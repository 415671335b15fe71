"""When to try again to start a process: at growing intervals, and rarely what takes long to be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_DELAY_S: Final = 0.2
MAX_DELAY_S: Final = 5.0
# While a part of the group is served: whoever tries again costs the others time and memory.
FIRST_RETRY_S: Final = 5.0
MAX_RETRY_S: Final = 60.0
TIMES_TRIED: Final = 4
"""Waits grow to so many times what an attempt took: a fifth of the time is spent on them in the end."""


@dataclass(slots=True)
class Pace:
    """When to try again, at growing intervals."""

    delay_s: float = FIRST_DELAY_S
    next_s: float = 0.0

    def later(self, now_s: float, least_s: float, most_s: float) -> None:
        """Wait longer than the last time, within these limits."""
        self.delay_s = min(max(self.delay_s, least_s), most_s)
        self.next_s = now_s + self.delay_s
        self.delay_s *= 2

    def failed(self, now_s: float, took_s: float, *, served: bool) -> None:
        """Take note of an attempt in vain.

        Args:
            now_s: Monotonic time.
            took_s: How long it took.
            served: Whether others of the group are served meanwhile.
        """
        least_s, most_s = (FIRST_RETRY_S, MAX_RETRY_S) if served else (FIRST_DELAY_S, MAX_DELAY_S)
        # What takes long to be refused costs the others much; the first waits are short all the same.
        slow_s = min(TIMES_TRIED * took_s, MAX_RETRY_S)
        self.later(now_s, least_s, max(most_s, slow_s))

    def ended(self, now_s: float, ran_s: float) -> None:
        """Take note of a process that has ended after it had run for so long."""
        if ran_s > MAX_DELAY_S:
            self.delay_s = FIRST_DELAY_S
        self.later(now_s, FIRST_DELAY_S, MAX_DELAY_S)
