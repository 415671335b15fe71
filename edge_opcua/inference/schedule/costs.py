"""How long each model takes for so many samples: measured, kept as running quantiles, scaled by heat; pure.

Why quantiles and not a mean: a promise has to hold for the slow runs too. Why a table and not a formula:
whether a batch pays differs from model to model (an MLP: 27 times per sample, a 1-D convolution: not at all).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from edge_opcua.inference.schedule.window import Window

PAYS: Final = 0.85
"""A larger batch pays if a sample in it takes at most this share of what it takes in the next smaller one."""

ENOUGH: Final = 8
"""Runs after which a number of samples that was not measured at the start counts as measured."""

REVIEW: Final = 32
"""Runs of a model after which it is looked at again which batches pay."""

RECENT: Final = 32
"""Runs one by one that tell by how much a model has become slower or faster since it was measured."""

MUCH: Final = 4
"""By more than a quarter of that, what does not run is taken to have become slower or faster with it."""

STALE: Final = 1024
"""Runs of a model after which a batch size that none of them had is judged by its first measurement again."""

NOTICEABLE: Final = 16
"""A cost that moves by more than a sixteenth changes :attr:`CostTable.version`."""


class CostTable:
    """What a run costs, by key of the model and number of samples.

    Costs are kept for the machine at its full speed; ``scale`` makes them those of now.
    """

    def __init__(self) -> None:
        self._curves: dict[str, _Curve] = {}
        self._scale = 1.0
        self._version = 0

    @property
    def scale(self) -> float:
        """How many times longer everything takes than at full speed, at least 1 (heat).

        Measurements are divided by it before they are kept: heat is not counted twice.
        """
        return self._scale

    @scale.setter
    def scale(self, factor: float) -> None:
        self._scale = max(1.0, factor)
        self._version += 1

    @property
    def version(self) -> int:
        """Grows when a cost, or what pays, has changed so much that plans should be made again."""
        return self._version

    def keys(self) -> Iterable[str]:
        """Return the models of which something is known."""
        return self._curves.keys()

    def seed(self, key: str, batch: int, samples_ns: Sequence[int]) -> None:
        """Take what was measured when a model was loaded; forgets what was known of this batch size.

        Args:
            key: Key of the model.
            batch: Samples of each run.
            samples_ns: How long the runs took; at least one.
        """
        if batch < 1 or not samples_ns:
            raise ValueError(f"{key}: no measurement of a batch of {batch}")
        self._curve(key).seed(batch, [round(sample / self._scale) for sample in samples_ns])
        self._version += 1

    def add(self, key: str, batch: int, took_ns: int) -> None:
        """Take how long one more run took."""
        if self._curve(key).add(batch, round(took_ns / self._scale)):
            self._version += 1

    def cost_ns(self, key: str, batch: int) -> int:
        """Return what 99 of 100 runs do not exceed; KeyError for a model of which nothing is known.

        A number of samples that was not measured lies on the line through its neighbours.
        """
        return round(self._curves[key].at(batch, _p99) * self._scale)

    def typical_ns(self, key: str, batch: int) -> int:
        """Return what half the runs do not exceed; KeyError as :meth:`cost_ns`."""
        return round(self._curves[key].at(batch, _p50) * self._scale)

    def sizes(self, key: str) -> tuple[int, ...]:
        """Return the batch sizes that pay, from 1 on; ``(1,)`` where a batch gains nothing.

        A batch may have any number of requests up to the last; who runs it may fill it up to the next size.
        KeyError as :meth:`cost_ns`.
        """
        return self._curves[key].paying

    def as_json(self) -> dict[str, dict[str, list[int]]]:
        """Return median and 99th percentile (ns, at full speed) by key and batch size."""
        return {
            key: {str(batch): [curve.at(batch, _p50), curve.at(batch, _p99)] for batch in curve.known}
            for key, curve in self._curves.items()
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Mapping[str, Sequence[int]]]) -> CostTable:
        """Return a table that begins with what :meth:`as_json` gave; ValueError if it is something else."""
        table = cls()
        try:
            for key, sizes in kept.items():
                for batch, (p50, p99) in sizes.items():
                    table.seed(key, int(batch), [int(p50)] * (ENOUGH - 1) + [int(p99)])
        except (AttributeError, TypeError) as exc:
            raise ValueError(f"not a table of costs: {exc}") from exc
        return table

    def _curve(self, key: str) -> _Curve:
        curve = self._curves.get(key)
        if curve is None:
            curve = self._curves[key] = _Curve()
        return curve


def _p50(window: Window) -> int:
    return window.p50


def _p99(window: Window) -> int:
    return window.p99


class _Curve:
    """The costs of one model over the number of samples."""

    def __init__(self) -> None:
        self.known: list[int] = []
        self.paying: tuple[int, ...] = (1,)
        self._windows: dict[int, Window] = {}
        self._quoted: dict[int, int] = {}
        self._seeds: dict[int, list[int]] = {}
        self._drifts: dict[int, float] = {}  # by how much slower than its seed each was when it was valid
        self._last_run: dict[int, int] = {}
        self._runs = 0

    def seed(self, batch: int, samples: list[int]) -> None:
        self._seeds[batch] = samples
        self._seeds = dict(sorted(self._seeds.items()))
        self._drifts[batch] = 1.0
        self._last_run[batch] = self._runs
        self._replace(batch, samples)
        self.paying = self._what_pays()

    def add(self, batch: int, took: int) -> bool:
        """Take a run; returns whether plans should be made again."""
        self._runs += 1
        self._last_run[batch] = self._runs
        window = self._windows.setdefault(batch, Window())
        window.add(took)
        if batch not in self._quoted:
            if len(window) < ENOUGH and self.known:
                return False
            insort(self.known, batch)
        before = self._quoted.get(batch, 0)
        moved = abs(window.p99 - before) * NOTICEABLE > before
        if moved:
            self._quoted[batch] = window.p99
        return self._review() or moved if self._runs % REVIEW == 0 else moved

    def at(self, batch: int, quantile: Callable[[Window], int]) -> int:
        if batch in self._quoted:
            return quantile(self._windows[batch])
        place = bisect_left(self.known, batch)
        if place == 0:
            return quantile(
                self._windows[self.known[0]]
            )  # fewer samples than ever measured: not more than those
        if place < len(self.known):
            low, high = self.known[place - 1], self.known[place]
        elif place > 1:
            low, high = self.known[-2], self.known[-1]
        else:
            return quantile(self._windows[self.known[0]]) * batch // self.known[0]
        base, top = quantile(self._windows[low]), quantile(self._windows[high])
        if batch > high:
            return top + max(0, top - base) * (batch - high) // (high - low)
        return base + (top - base) * (batch - low) // (high - low)

    def _replace(self, batch: int, samples: Iterable[int]) -> None:
        if batch not in self._quoted:
            insort(self.known, batch)
        window = self._windows[batch] = Window(samples)
        self._quoted[batch] = window.p99

    def _review(self) -> bool:
        """Look again at what pays; returns whether costs or that have changed."""
        drift = self._drift()
        changed = [batch for batch in self._seeds if drift is not None and self._follow(batch, drift)]
        before, self.paying = self.paying, self._what_pays()
        return bool(changed) or before != self.paying

    def _follow(self, batch: int, drift: float) -> bool:
        """Let a size that does not run become slower or faster with those that do; returns whether it did."""
        idle = self._runs - self._last_run[batch]
        before = self._drifts[batch]
        if idle < REVIEW:
            self._drifts[batch] = drift
            return False
        if idle > STALE:
            self._replace(batch, [round(sample * drift) for sample in self._seeds[batch]])
            self._last_run[batch] = self._runs
        elif abs(drift - before) * MUCH > before:
            self._replace(batch, [round(sample * drift / before) for sample in self._windows[batch]])
        else:
            return False
        self._drifts[batch] = drift
        return True

    def _drift(self) -> float | None:
        """Return how many times longer than at first a single request takes now; None if none ran lately."""
        if 1 not in self._seeds or self._runs - self._last_run[1] >= REVIEW:
            return None
        return max(1, self._windows[1].recent(RECENT)) / max(1, Window(self._seeds[1]).p50)

    def _what_pays(self) -> tuple[int, ...]:
        """Return the sizes of which each makes a sample cheaper, all at the pace they were measured at.

        So sizes that do not run are compared by their measurements, whatever the machine does meanwhile.
        """
        sizes = [1]
        least = self._each(1) * PAYS
        for batch in self._seeds or self.known:
            each = self._each(batch)
            if batch > 1 and each <= least:
                sizes.append(batch)
                least = each * PAYS
        return tuple(sizes)

    def _each(self, batch: int) -> float:
        """Return what a sample takes in a run of so many, at the pace of the first measurement."""
        if batch not in self._seeds:
            return self.at(batch, _p50) / batch
        idle = self._runs - self._last_run[batch] >= REVIEW
        window = self._windows[batch]
        return (window.p50 if idle else window.recent(RECENT)) / self._drifts[batch] / batch
