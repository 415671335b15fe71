"""What each further request adds to a batch: a copy of the cost table that plans are made with; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

from edge_opcua.inference.schedule.costs import CostTable


@dataclass(frozen=True, slots=True)
class Tariff:
    """The costs of one model by number of requests, never falling.

    Args:
        costs: What a run with one, two, … requests takes (ns, 99th percentile).
        adds: What the first, second, … request of a run adds to it (ns).
    """

    costs: tuple[int, ...]
    adds: tuple[int, ...]

    @property
    def most(self) -> int:
        """Largest batch that pays."""
        return len(self.costs)

    def gain(self, batch: int) -> int:
        """Return what is saved (ns) if a request joins so many others instead of running alone."""
        return self.adds[0] - self.adds[batch]


class Tariffs:
    """The tariffs of all models, made again when the costs have changed noticeably.

    Args:
        costs: What the models cost.
        most: Largest batch of each model, by key; 1 for a key that is not there.
    """

    def __init__(self, costs: CostTable, most: Mapping[str, int]) -> None:
        self._costs = costs
        self._most = most
        self._version = costs.version
        self._tariffs: dict[str, Tariff] = {}

    def renew(self) -> bool:
        """Forget all tariffs if the costs have changed; returns whether they have."""
        if self._costs.version == self._version:
            return False
        self._version = self._costs.version
        self._tariffs.clear()
        return True

    def __getitem__(self, key: str) -> Tariff:
        tariff = self._tariffs.get(key)
        if tariff is None:
            tariff = self._tariffs[key] = self._make(key)
        return tariff

    def _make(self, key: str) -> Tariff:
        most = min(self._costs.sizes(key)[-1], self._most.get(key, 1))
        costs = tuple(accumulate((self._costs.cost_ns(key, n) for n in range(1, most + 1)), max))
        return Tariff(costs, (costs[0], *(after - before for before, after in pairwise(costs))))
