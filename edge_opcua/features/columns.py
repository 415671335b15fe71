"""Steps that change single values, of the features or of the samples: scales, limits, logarithms, choices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from edge_opcua.features.flow import Flow, Keys, Run, Values, misfit, unfitted, wrong
from edge_opcua.features.samplesteps import Changes
from edge_opcua.features.stroke import Feature

MAX_CATEGORIES = 1_000


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


@dataclass(frozen=True, slots=True)
class OneHot:
    """Makes of a feature that names something one feature for each name: 1 for it, 0 for the others.

    Args:
        feature: The feature; it is replaced.
        categories: Its values; () until it is fitted.
        unknown: What becomes of another value: ``refuse``: no verdict; ``zeros``: none of them is 1.
    """

    feature: str
    categories: tuple[float, ...]
    unknown: str
    name: ClassVar[str] = "one_hot"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        feature, categories = keys.text("feature"), keys.numbers("categories")
        if len(set(categories)) < len(categories):
            raise wrong("categories holds a value twice")
        if len(categories) > MAX_CATEGORIES:
            raise wrong(f"categories holds {len(categories)} values, {MAX_CATEGORIES} are the most")
        return cls(feature, categories, keys.choice("unknown", ("refuse", "zeros"), "refuse"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        learned = {"categories": list(self.categories)} if self.categories else {}
        return {"feature": self.feature, **learned, "unknown": self.unknown}

    @property
    def is_fitted(self) -> bool:
        """Whether it has its categories."""
        return bool(self.categories)

    def observed(self, flow: Flow) -> Values:
        """Return what it learns from."""
        return flow.columns

    def fitted(self, flow: Flow, seen: Values) -> Self:
        """Return it with every value that was seen, in order."""
        found = np.unique(seen[:, self._index(flow)])
        if found.size > MAX_CATEGORIES:
            raise misfit(f"{self.feature} has {found.size} values, {MAX_CATEGORIES} are the most")
        return replace(self, categories=tuple(found.tolist()))

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with a feature for each category in the place of the one."""
        if not self.is_fitted:
            raise unfitted("has no categories; fit the steps on recorded windows")
        index, count = self._index(flow), len(self.categories)
        made = [Feature(f"{self.feature}.{value:g}", "1") for value in self.categories]
        features = (*flow.features[:index], *made, *flow.features[index + 1 :])
        before, categories = flow.columns, np.array(self.categories)
        out = np.zeros(len(features))
        place = out[index : index + count]
        refuses = self.unknown == "refuse"

        def run() -> None:
            out[:index] = before[:index]
            out[index + count :] = before[index + 1 :]
            place[:] = categories == before[index]
            if refuses and not place.any():
                place[:] = np.nan

        return flow.with_columns(out, features), run

    def _index(self, flow: Flow) -> int:
        return int(Place("features", (self.feature,)).indices(flow)[0])


@dataclass(frozen=True, slots=True)
class Select:
    """Keeps some of the features or channels.

    Args:
        place: Those it keeps, in the order in which they are named.
        drop: Those it leaves out instead.
    """

    place: Place
    drop: tuple[str, ...]
    name: ClassVar[str] = "select"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        place, drop = Place.parse(keys), keys.texts("drop")
        if bool(place.names) == bool(drop):
            raise wrong("either what is kept or drop has to be given")
        return cls(place, drop)

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {**self.place.table(), **({"drop": list(self.drop)} if self.drop else {})}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these only."""
        items = self.place.items(flow)
        left_out = replace(self.place, names=self.drop).indices(flow) if self.drop else ()
        kept = self.place.indices(flow)
        if self.drop:
            kept = np.setdiff1d(np.arange(len(items), dtype=np.intp), np.asarray(left_out))
        if not kept.size:
            raise misfit("keeps nothing")
        before = self.place.values(flow)
        out = np.zeros((kept.size, *before.shape[1:]))
        left = tuple(items[number] for number in kept)

        def run() -> None:
            np.take(before, kept, axis=0, out=out, mode="clip")

        after = flow.with_signal(out, channels=left) if before.ndim > 1 else flow.with_columns(out, left)
        return after, run


@dataclass(frozen=True, slots=True)
class Minus:
    """Adds the difference of two features.

    Args:
        feature: From this one
        minus: this one is taken away.
        result: Name of the new feature.
    """

    feature: str
    minus: str
    result: str
    name: ClassVar[str] = "difference"

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"feature": self.feature, "minus": self.minus, "result": self.result}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with one feature more."""
        one, other = Place("features", (self.feature, self.minus)).indices(flow)
        units = flow.features[one].unit, flow.features[other].unit
        if units[0] != units[1]:
            raise misfit(f"{self.feature} is in {units[0]}, {self.minus} in {units[1]}")
        after, place, carry = flow.appended([Feature(self.result, units[0])])
        columns = flow.columns

        def run() -> None:
            carry()
            place[0] = columns[one] - columns[other]

        return after, run


def parse_difference(keys: Keys) -> Changes | Minus:
    """Read a table: of two features if it names them, else of each sample to the one before."""
    if not keys.has("feature"):
        return Changes(keys.flag("per_second", default=False))
    feature, minus = keys.text("feature"), keys.text("minus")
    return Minus(feature, minus, keys.text("result", f"{feature}_minus_{minus}"))


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
