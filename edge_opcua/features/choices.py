"""Steps that choose and combine features: one for each name of something, some of them, differences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

import numpy as np

from edge_opcua.features.columns import Place
from edge_opcua.features.flow import Flow, Keys, Run, Values, misfit, plain_number, unfitted, wrong
from edge_opcua.features.samplesteps import Changes
from edge_opcua.features.stroke import Feature

MAX_CATEGORIES: Final = 1_000


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
        made = [Feature(f"{self.feature}.{plain_number(value)}", "1") for value in self.categories]
        features = (*flow.features[:index], *made, *flow.features[index + 1 :])
        before, categories = flow.columns, np.array(self.categories)
        out = np.zeros(len(features))
        place = out[index : index + count]
        refuses, refusals = self.unknown == "refuse", flow.refusals

        def run() -> None:
            out[:index] = before[:index]
            out[index + count :] = before[index + 1 :]
            place[:] = categories == before[index]
            if refuses and not place.any():
                place[:] = np.nan
                refusals.append(
                    f"{self.feature} {plain_number(float(before[index]))} is none of the values it was shown"
                )

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
