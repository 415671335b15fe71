"""Steps that change single values, of the features or of the samples: scales, limits, logarithms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from edge_opcua.features.flow import Flow, Keys, Run, Values, misfit, unfitted, wrong
from edge_opcua.features.stroke import Feature


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step works: on the features or on the samples, on all of them or on some.

    Args:
        on: ``features`` or ``signal``.
        names: Features or channels; (): all.
    """

    on: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read its two keys."""
        on = keys.choice("on", ("features", "signal"), "features")
        return cls(on, keys.texts("channels" if on == "signal" else "features"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        signal = self.on == "signal"
        named = {"channels" if signal else "features": list(self.names)} if self.names else {}
        return {**({"on": "signal"} if signal else {}), **named}

    def items(self, flow: Flow) -> tuple[Feature, ...]:
        """Return all features or channels there are."""
        found = flow.signal.channels if self.on == "signal" else flow.features
        if not found:
            raise misfit('there are no features yet; on = "signal" changes the samples')
        return found

    def indices(self, flow: Flow) -> npt.NDArray[np.intp]:
        """Return where the named ones are."""
        there = {item.name: number for number, item in enumerate(self.items(flow))}
        missing = [name for name in self.names if name not in there]
        if missing:
            raise misfit(f'"{missing[0][:60]}" is not one of {_few(list(there))}')
        return np.array([there[name] for name in self.names or there], np.intp)

    def values(self, flow: Flow) -> Values:
        """Return the array they are in: ``(k,)`` or ``(channels, rows)``."""
        return flow.signal.samples if self.on == "signal" else flow.columns

    def spread(self, flow: Flow, given: Values, others: float) -> Values:
        """Return one number for each feature or channel there is, ready to be broadcast over its values."""
        indices = self.indices(flow)
        full = np.full(len(self.items(flow)), others)
        full[indices] = given
        return full[:, None] if self.on == "signal" else full

    def changed(self, flow: Flow, out: Values, unit: str | None) -> Flow:
        """Return the flow with these values; the named ones in another unit, if one is given."""
        items = list(self.items(flow))
        if unit is not None:
            for number in self.indices(flow):
                items[number] = Feature(items[number].name, unit.format(items[number].unit))
        if self.on == "signal":
            return flow.with_signal(out, channels=tuple(items))
        return flow.with_columns(out, tuple(items))

    def seen(self, flow: Flow, seen: Values) -> Values:
        """Return what was seen of each of the named ones, shape ``(n, count)``."""
        indices = self.indices(flow)
        if self.on == "signal":
            return np.ascontiguousarray(seen[:, indices, :].transpose(0, 2, 1)).reshape(-1, indices.size)
        chosen: Values = seen[:, indices]
        return chosen


@dataclass(frozen=True, slots=True)
class Normalise:
    """Brings values to a common scale that was learned.

    Args:
        place: Where.
        method: ``standard``: minus ``first``, divided by ``second``, which are mean and standard deviation;
            ``minmax``: ``first`` becomes 0 and ``second`` 1, which are the smallest and largest value seen.
        first: Mean or smallest value of each; () until it is fitted.
        second: Standard deviation or largest value.
    """

    place: Place
    method: str
    first: tuple[float, ...]
    second: tuple[float, ...]
    name: ClassVar[str] = "normalise"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        place = Place.parse(keys)
        method = keys.choice("method", ("standard", "minmax"), "standard")
        first, second = (keys.numbers(key) for key in _NUMBERS[method])
        if len(first) != len(second):
            raise wrong(f"{' and '.join(_NUMBERS[method])} have {len(first)} and {len(second)} numbers")
        step = cls(place, method, first, second)
        if any(scale <= 0.0 for scale in step._scale()):
            raise wrong("a scale is not above 0")
        return step

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        one, other = _NUMBERS[self.method]
        numbers = {one: list(self.first), other: list(self.second)} if self.is_fitted else {}
        return {**self.place.table(), "method": self.method, **numbers}

    @property
    def is_fitted(self) -> bool:
        """Whether it has its numbers."""
        return bool(self.first)

    def observed(self, flow: Flow) -> Values:
        """Return what it learns from."""
        return self.place.values(flow)

    def fitted(self, flow: Flow, seen: Values) -> Self:
        """Return it with mean and scale, or the limits; what never changed keeps its scale."""
        values = self.place.seen(flow, seen)
        if not np.isfinite(values).all():
            raise unfitted("a value of a window does not exist; leave that window out")
        if self.method == "standard":
            first, second = values.mean(axis=0), values.std(axis=0)
            flat = values.max(axis=0) == values.min(axis=0)
            second[flat] = 1.0
        else:
            first, second = values.min(axis=0), values.max(axis=0)
            flat = first == second
            second[flat] = first[flat] + 1.0
        return replace(self, first=tuple(first.tolist()), second=tuple(second.tolist()))

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these values scaled."""
        wanted = self.place.indices(flow).size
        if not self.is_fitted:
            raise unfitted(f"has no {' and '.join(_NUMBERS[self.method])}; fit the steps on recorded windows")
        if len(self.first) != wanted:
            raise misfit(f"has numbers for {len(self.first)} values, there are {wanted}")
        offset = self.place.spread(flow, np.array(self.first), 0.0)
        scale = self.place.spread(flow, self._scale(), 1.0)
        before = self.place.values(flow)
        out = np.zeros(before.shape)

        def run() -> None:
            np.subtract(before, offset, out=out)
            np.divide(out, scale, out=out)

        return self.place.changed(flow, out, "1"), run

    def _scale(self) -> Values:
        second = np.array(self.second)
        return second if self.method == "standard" else second - np.array(self.first)


_NUMBERS = {"standard": ("mean", "scale"), "minmax": ("low", "high")}


@dataclass(frozen=True, slots=True)
class Clip:
    """Keeps values between two limits, given or learned.

    Args:
        place: Where.
        quantiles: Learn the limits as these quantiles of what was seen; () if the limits are given.
        low: Lower limit of each; one number is for all, () none.
        high: Upper limit likewise.
    """

    place: Place
    quantiles: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    name: ClassVar[str] = "clip"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        place = Place.parse(keys)
        quantiles = keys.numbers("quantiles")
        if quantiles and not (len(quantiles) == 2 and 0.0 <= quantiles[0] < quantiles[1] <= 1.0):
            raise wrong("quantiles takes two numbers between 0 and 1, the smaller one first")
        low, high = keys.numbers("low"), keys.numbers("high")
        if not (quantiles or low or high):
            raise wrong("low, high or quantiles has to be given")
        if low and high and (len(low) != len(high) or any(a > b for a, b in zip(low, high, strict=True))):
            raise wrong("low and high do not go together")
        return cls(place, quantiles, low, high)

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        given = {"quantiles": self.quantiles, "low": self.low, "high": self.high}
        return {**self.place.table(), **{key: list(value) for key, value in given.items() if value}}

    @property
    def is_fitted(self) -> bool:
        """Whether it has its limits."""
        return bool(self.low or self.high)

    def observed(self, flow: Flow) -> Values:
        """Return what it learns from."""
        return self.place.values(flow)

    def fitted(self, flow: Flow, seen: Values) -> Self:
        """Return it with the limits."""
        values = self.place.seen(flow, seen)
        low, high = np.quantile(values, self.quantiles, axis=0)
        return replace(self, low=tuple(low.tolist()), high=tuple(high.tolist()))

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these values limited."""
        if not self.is_fitted:
            raise unfitted("has no low and high; fit the steps on recorded windows")
        low = self.place.spread(flow, self._for_each(flow, self.low, -np.inf), -np.inf)
        high = self.place.spread(flow, self._for_each(flow, self.high, np.inf), np.inf)
        before = self.place.values(flow)
        out = np.zeros(before.shape)

        def run() -> None:
            np.clip(before, low, high, out=out)

        return self.place.changed(flow, out, None), run

    def _for_each(self, flow: Flow, given: tuple[float, ...], default: float) -> Values:
        wanted = self.place.indices(flow).size
        if len(given) not in (0, 1, wanted):
            raise misfit(f"has {len(given)} limits, there are {wanted} values")
        return np.broadcast_to(np.array(given or (default,)), (wanted,))


@dataclass(frozen=True, slots=True)
class Logarithm:
    """Takes the natural logarithm; what acts as a factor then adds up.

    Args:
        place: Where.
        smallest: Smaller values count as this one; above 0.
    """

    place: Place
    smallest: float
    name: ClassVar[str] = "log"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        place, smallest = Place.parse(keys), keys.number("smallest", 1e-6)
        if smallest <= 0.0:
            raise wrong(f"smallest is {smallest:g}, not above 0")
        return cls(place, smallest)

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {**self.place.table(), "smallest": self.smallest}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these logarithms."""
        before = self.place.values(flow)
        chosen = self.place.spread(flow, np.ones(self.place.indices(flow).size), 0.0) > 0.0
        where = np.ascontiguousarray(np.broadcast_to(chosen, before.shape))
        out = np.zeros(before.shape)
        smallest = self.smallest

        def run() -> None:
            np.copyto(out, before)
            np.maximum(before, smallest, out=out, where=where)
            np.log(out, out=out, where=where)

        return self.place.changed(flow, out, "ln({})"), run


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
