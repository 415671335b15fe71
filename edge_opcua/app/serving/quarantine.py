"""Which models of a group may be loaded together, by how its processes ended; pure.

A process that ends by itself takes all its models with it, so nobody can see which of them it was. Once a
process has ended three times within a minute, each of its models is started alone. The one whose process
ends again is the culprit: it is not started any more until somebody acts. The others share a process again
when their trial is over. If the trial finds nobody, and neither does a second one, they stay apart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

MOST_ENDS: Final = 3
WITHIN_S: Final = 60.0
TRIAL_S: Final = 60.0
REMEMBERED_S: Final = 3600.0


class Quarantine:
    """How the pipelines of one group are spread over processes, and which of them are not started.

    All times are monotonic seconds.

    Args:
        pipelines: Names of the pipelines, in the order of the configuration.

    Attributes:
        held: Those that are not started until :meth:`release`.
    """

    def __init__(self, pipelines: Iterable[str]) -> None:
        self._pipelines = tuple(pipelines)
        self.held: set[str] = set()
        self._ends: deque[tuple[float, frozenset[str]]] = deque()
        self._trial_from_s = -math.inf
        self._trial_until_s = -math.inf
        self._found_somebody = True

    def change(self, pipelines: Iterable[str], changed: Collection[str]) -> None:
        """Go by other pipelines from now on; a changed one gets another chance.

        Args:
            pipelines: All there are, in order.
            changed: Those of them that are not what they were.
        """
        self._pipelines = tuple(pipelines)
        self.held = {name for name in self.held if name in self._pipelines and name not in changed}
        if changed:
            self._begin_anew()

    def release(self, pipeline: str) -> None:
        """Give a pipeline another chance: somebody has changed something about it."""
        self.held.discard(pipeline)
        self._begin_anew()

    def ended(self, loaded: Collection[str], now_s: float) -> tuple[str, ...]:
        """Take note that a process has ended that nobody had told to.

        Args:
            loaded: The pipelines whose models it had loaded, or was loading.
            now_s: When it was.

        Returns:
            The pipelines that are held from now on because of it.
        """
        while self._ends and now_s - self._ends[0][0] > WITHIN_S:
            self._ends.popleft()
        self._ends.append((now_s, frozenset(loaded)))
        alone = len(loaded) == 1
        if alone and self.is_trial(now_s):
            self._found_somebody = True
            return self._hold(loaded)
        counted = [sum(name in ended for _, ended in self._ends) for name in loaded]
        if min(counted, default=0) < MOST_ENDS:
            return ()
        if alone:
            return self._hold(loaded)
        self._begin_trial(now_s)
        return ()

    def is_trial(self, now_s: float) -> bool:
        """Whether each pipeline has a process of its own, to see whose it is that ends."""
        return now_s < self._trial_until_s

    @property
    def stays_apart(self) -> bool:
        """Whether two trials have found nobody: alone each of them runs, together they do not."""
        return self._trial_until_s == math.inf

    def parts(self, now_s: float) -> tuple[tuple[str, ...], ...]:
        """Return which pipelines share a process; those that are held are in none."""
        free = tuple(name for name in self._pipelines if name not in self.held)
        if self.is_trial(now_s):
            return tuple((name,) for name in free)
        return (free,) if free else ()

    def part_of(self, pipelines: Collection[str], now_s: float) -> tuple[str, ...]:
        """Return which pipelines would share a process with these if nothing held them."""
        free = tuple(name for name in self._pipelines if name not in self.held or name in pipelines)
        return tuple(name for name in free if name in pipelines) if self.is_trial(now_s) else free

    def changes_in_s(self, now_s: float) -> float:
        """Return after how many seconds :meth:`parts` changes by itself; infinite if it does not."""
        return self._trial_until_s - now_s if self.is_trial(now_s) else math.inf

    def _hold(self, loaded: Collection[str]) -> tuple[str, ...]:
        self.held.update(loaded)
        return tuple(loaded)

    def _begin_trial(self, now_s: float) -> None:
        in_vain = not self._found_somebody and now_s - self._trial_from_s < REMEMBERED_S
        self._ends.clear()
        self._found_somebody = False
        self._trial_from_s = now_s
        self._trial_until_s = math.inf if in_vain else now_s + TRIAL_S

    def _begin_anew(self) -> None:
        self._ends.clear()
        self._found_somebody = True
        self._trial_until_s = -math.inf
