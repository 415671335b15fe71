"""A version on probation held against the one before it, by what that one last published; pure."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from edge_opcua.core.values import Verdict
from edge_opcua.inference.watch.findings import Finding
from edge_opcua.inference.watch.seen import Seen

FEWEST: Final = 30
"""Results of either version before they are held against each other."""
_KEPT: Final = 256
_SLOWER: Final = 3.0
_OF_DEADLINE: Final = 0.25
"""Share of the deadline below which it does not matter how much slower a version is."""
_SURE: Final = 4.0
_DIFFERENT: Final = 0.2
"""Share of verdicts by which two versions must differ, whatever the statistics say."""


class FormerVersion:
    """What the former version published last, and what this one does.

    Args:
        deadline_ms: Longest time to a verdict.
    """

    def __init__(self, deadline_ms: float) -> None:
        self._deadline_us = deadline_ms * 1e3
        self.model = ""
        self._before: deque[Seen] = deque(maxlen=_KEPT)
        self._now: deque[Seen] = deque(maxlen=_KEPT)

    def before(self, seen: Seen) -> None:
        """Take a result of another version that was published before this one took over.

        Only the last of several is the former one, and what this version judged before that does not count.
        """
        if seen.is_answered:
            if seen.model != self.model:
                self.model = seen.model
                self._before.clear()
                self._now.clear()
            self._before.append(seen)

    def take(self, seen: Seen) -> None:
        """Take a result of this version."""
        if seen.is_answered:
            self._now.append(seen)

    def findings(self) -> list[Finding]:
        """Return in what this version is worse than the former one."""
        if min(len(self._before), len(self._now)) < FEWEST:
            return []
        return [found for found in (self._slower(), self._judges_otherwise()) if found is not None]

    def _slower(self) -> Finding | None:
        was = float(np.median([seen.infer_us for seen in self._before]))
        takes = float(np.median([seen.infer_us for seen in self._now]))
        if takes < _SLOWER * was or takes < _OF_DEADLINE * self._deadline_us:
            return None
        text = f"takes {takes / 1e3:.3g} ms, {takes / was:.1f} times as long as {self.model}"
        return Finding("latency", text, takes / 1e3, _SLOWER * was / 1e3)

    def _judges_otherwise(self) -> Finding | None:
        (bad, n), (was_bad, m) = _not_ok(self._now), _not_ok(self._before)
        together = (bad + was_bad) / (n + m)
        error = math.sqrt(together * (1 - together) * (1 / n + 1 / m))
        apart = bad / n - was_bad / m
        if abs(apart) < max(_DIFFERENT, _SURE * error):
            return None
        text = f"{bad / n:.0%} of its verdicts are NotOk, {was_bad / m:.0%} were with {self.model}"
        return Finding("drift", text, abs(apart), max(_DIFFERENT, _SURE * error))


def _not_ok(results: deque[Seen]) -> tuple[int, int]:
    return sum(seen.verdict is Verdict.NOT_OK for seen in results), len(results)
