"""What a batch costs by its number of requests: a copy of the cost table that plans are made with; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from edge_opcua.inference.schedule.costs import CostTable


@dataclass(frozen=True, slots=True)
class Tariff:
    """The costs of one model by number of requests, never falling.

    Args:
        costs: What a run with one, two, … requests does not exceed 99 times of 100 (ns).
        typical: What it usually takes, the median (ns).
    """

    costs: tuple[int, ...]
    typical: tuple[int, ...]

    @property
    def most(self) -> int:
        """Largest batch that pays."""
        return len(self.costs)

    def margin(self, waiting: int) -> int:
        """Return what a plan leaves free in case a run of so many requests is a slow one (ns).

        Half of what it then takes longer. With all of it a plain queue served more at low load; with none
        twice as many expired after they had been taken (simulation, jitter 20 %).
        """
        batch = min(waiting, len(self.costs)) - 1
        return (self.costs[batch] - self.typical[batch]) // 2

    def gain(self, batch: int) -> int:
        """Return what is saved (ns) if a request joins so many others instead of running alone."""
        return self.typical[0] - (self.typical[batch] - self.typical[batch - 1])

    def work(self, waiting: int) -> int:
        """Return what so many requests take in the largest batches that pay (ns)."""
        full, rest = divmod(waiting, len(self.costs))
        return full * self.typical[-1] + (self.typical[rest - 1] if rest else 0)


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
        sizes = range(1, min(self._costs.sizes(key)[-1], self._most.get(key, 1)) + 1)
        typical = tuple(accumulate((self._costs.typical_ns(key, size) for size in sizes), max))
        slow = accumulate((self._costs.cost_ns(key, size) for size in sizes), max)
        return Tariff(tuple(map(max, slow, typical)), typical)
