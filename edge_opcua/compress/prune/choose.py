"""Which units go, so that a share of all weights goes and the least is lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.graph import weights
from edge_opcua.compress.prune.channels import Coupling
from edge_opcua.compress.prune.rank import Ranking
from edge_opcua.errors import ModelError

_LEAST: Final = 0.1  # of a group: a layer that is cut to almost nothing lets nothing through
_MULTIPLES: Final = ((64, 8), (24, 4), (8, 2))
"""Down to so many channels, what is left is a multiple of this: kernels work on 4, 8 or 16 at a time."""


def choose(model: Any, coupling: Coupling, rankings: Sequence[Ranking], share: float) -> frozenset[int]:
    """Return the units to remove.

    Args:
        model: The opened graph that was traced.
        coupling: What came of it.
        rankings: In which order the units of each group can be spared.
        share: Share of all weights that is to go, 0 to 1.

    Raises:
        ModelError: So many cannot go (M677).
    """
    counter = _Counter(model, coupling)
    taken = [0] * len(rankings)
    target = (1.0 - share) * counter.total
    while counter.left > target:
        best, best_cost = None, math.inf
        for number, ranking in enumerate(rankings):
            step = _step(len(ranking.units), taken[number])
            units = ranking.units[taken[number] : taken[number] + step]
            saved = counter.saved_by(units) if step else 0
            if not saved:
                continue
            cost = float(ranking.damage[taken[number] : taken[number] + step].sum()) / saved
            if cost < best_cost:
                best, best_cost = number, cost
        if best is None:
            most = 1.0 - counter.left / counter.total
            raise ModelError(
                f"{share:.0%} of the weights cannot be pruned: {most:.0%} is the most that leaves every "
                "layer something",
                code="M677",
            )
        step = _step(len(rankings[best].units), taken[best])
        counter.remove(rankings[best].units[taken[best] : taken[best] + step])
        taken[best] += step
    return frozenset(
        int(unit) for number, ranking in enumerate(rankings) for unit in ranking.units[: taken[number]]
    )


def _step(size: int, taken: int) -> int:
    """Return how many units of a group go next; 0 if no more may."""
    left = size - taken
    multiple = next((count for least, count in _MULTIPLES if left > least), 1)
    step = left % multiple or multiple
    return step if left - step >= max(1, math.ceil(_LEAST * size)) else 0


class _Counter:
    """Counts the weights that are left.

    Args:
        model: The opened graph.
        coupling: What hangs together in it.
    """

    def __init__(self, model: Any, coupling: Coupling) -> None:
        self._cuts: dict[str, list[tuple[int, npt.NDArray[np.int64]]]] = {}
        self._needed = [cut.units for cut in coupling.cuts]
        self._needed += [part for repair in coupling.repairs for part in repair.parts]
        shapes = {
            name: array.shape
            for name, array in weights(model).items()
            if np.issubdtype(array.dtype, np.floating)
        }
        for cut in coupling.cuts:
            if cut.weight in shapes:
                self._cuts.setdefault(cut.weight, []).append((cut.axis, cut.units))
        self._shapes = shapes
        highest = max((int(units.max(initial=0)) for units in self._needed), default=0)
        self._gone = np.zeros(highest + 1, bool)
        self.total = sum(math.prod(shape) for shape in shapes.values())
        self.left = self.total

    def saved_by(self, units: npt.NDArray[np.int64]) -> int:
        """Return how many weights would go with these units; 0 if something would be left with none."""
        self._gone[units] = True
        empty = any(self._gone[needed].all() for needed in self._needed if len(needed))
        saved = 0 if empty else self.left - self._count()
        self._gone[units] = False
        return saved

    def remove(self, units: npt.NDArray[np.int64]) -> None:
        """Remove units for good."""
        self._gone[units] = True
        self.left = self._count()

    def _count(self) -> int:
        total = 0
        for name, shape in self._shapes.items():
            lengths = list(shape)
            for axis, units in self._cuts.get(name, ()):
                lengths[axis] = int((~self._gone[units]).sum())
            total += math.prod(lengths)
        return total
