"""Steps that make features of the samples: statistics of each channel, or the samples themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np

from edge_opcua.features.flow import Flow, Keys, Run, Values, misfit, named, require_count, wrong
from edge_opcua.features.stroke import Feature


class Work:
    """What the measures of one window share, in buffers that are made once.

    Args:
        samples: Shape ``(channels, rows)``; the same array in every run.
        rate_hz: Rows per second; 0 if there is no fixed rate.

    Attributes:
        centred: The samples without their mean, after :meth:`centre`.
        scaled: The same with the largest one at 1, after :meth:`scale`: moments have no unit, and powers of
            tiny numbers vanish.
        squared: Its squares.
        variance: Mean of the squares, shape ``(channels,)``.
    """

    def __init__(self, samples: Values, rate_hz: float) -> None:
        self.samples = samples
        self.centred, self.scaled, self.squared = (np.zeros(samples.shape) for _ in range(3))
        self.variance = np.zeros(samples.shape[0])
        rows = samples.shape[1]
        time = (np.arange(rows) - (rows - 1) / 2.0) / (rate_hz or 1.0)
        self.per_time = time / max(float(time @ time), 1e-300)

    def centre(self) -> None:
        """Compute what measures of the deviation from the mean need."""
        np.subtract(self.samples, self.samples.mean(axis=1, keepdims=True), out=self.centred)

    def scale(self) -> None:
        """Compute what the moments need."""
        np.abs(self.centred, out=self.squared)
        np.divide(self.centred, self.squared.max(axis=1, keepdims=True), out=self.scaled)
        np.multiply(self.scaled, self.scaled, out=self.squared)
        np.mean(self.squared, axis=1, out=self.variance)


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of each channel.

    Args:
        compute: From the work, shape ``(channels,)``.
        unit: Of the unit of the samples.
        rows: Fewest rows it needs.
        needs_rate: Whether it asks how much time lies between them.
        needs: What of the work has to be there: nothing, ``centre``, or ``scale`` too.
    """

    compute: Callable[[Work], Values]
    unit: Callable[[str], str] = str
    rows: int = 1
    needs_rate: bool = False
    needs: Literal["", "centre", "scale"] = ""


def _plain(_unit: str) -> str:
    return "1"


def _peak(work: Work) -> Values:
    highest: Values = np.maximum(work.samples.max(axis=1), -work.samples.min(axis=1))
    return highest


def _level(samples: Values) -> Values:
    root: Values = np.sqrt(np.vecdot(samples, samples) / samples.shape[1])
    return root


def _crest(work: Work) -> Values:
    return _peak(work) / _level(work.samples)  # 0 / 0: NaN, as it should


def _skewness(work: Work) -> Values:
    moment: Values = np.vecdot(work.squared, work.scaled) / work.samples.shape[1]
    return _unless_flat(work, moment / work.variance**1.5)


def _kurtosis(work: Work) -> Values:
    moment: Values = np.vecdot(work.squared, work.squared) / work.samples.shape[1]
    return _unless_flat(work, moment / (work.variance * work.variance))


def _unless_flat(work: Work, moment: Values) -> Values:
    moment[work.samples.max(axis=1) == work.samples.min(axis=1)] = np.nan
    return moment


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "mean": Measure(lambda work: np.asarray(work.samples.mean(axis=1))),
        "std": Measure(lambda work: _level(work.centred), needs="centre"),
        "min": Measure(lambda work: np.asarray(work.samples.min(axis=1))),
        "max": Measure(lambda work: np.asarray(work.samples.max(axis=1))),
        "median": Measure(lambda work: np.asarray(np.median(work.samples, axis=1))),
        "first": Measure(lambda work: work.samples[:, 0]),
        "last": Measure(lambda work: work.samples[:, -1]),
        "slope": Measure(
            lambda work: np.asarray(work.centred @ work.per_time),
            lambda unit: f"{unit}/s",
            rows=2,
            needs_rate=True,
            needs="centre",
        ),
        "rms": Measure(lambda work: _level(work.samples)),
        "peak": Measure(_peak),
        "peak_to_peak": Measure(lambda work: np.asarray(np.ptp(work.samples, axis=1))),
        "crest_factor": Measure(_crest, _plain),
        "skewness": Measure(_skewness, _plain, rows=2, needs="scale"),
        "kurtosis": Measure(_kurtosis, _plain, rows=2, needs="scale"),
    }
)
"""What ``statistics`` can compute. ``std`` is that of all rows (n, not n - 1); ``slope`` is per second."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Adds figures of each channel, channel by channel.

    Args:
        measures: Which, by name of :data:`MEASURES`.
        prefix: Put before the names of the features.

    Source:
        Definitions of rms, peak, crest factor and kurtosis: :mod:`edge_opcua.features.vibration`.
    """

    measures: tuple[str, ...]
    prefix: str
    name: ClassVar[str] = "statistics"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        measures = keys.texts("measures")
        unknown = [measure for measure in measures if measure not in MEASURES]
        if unknown:
            raise wrong(f'measures holds "{unknown[0][:40]}", not one of {", ".join(MEASURES)}')
        if not measures:
            raise wrong("measures is missing")
        return cls(measures, keys.prefix())

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"measures": list(self.measures), **({"prefix": self.prefix} if self.prefix else {})}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these features behind those that are there."""
        signal = flow.signal
        require_count(len(signal.channels) * len(self.measures))
        chosen = [MEASURES[name] for name in self.measures]
        for name, measure in zip(self.measures, chosen, strict=True):
            if signal.rows < measure.rows:
                raise misfit(f"{name} needs {measure.rows} rows, there is {signal.rows}")
            if measure.needs_rate:
                signal.require_rate(name)
        features = [
            Feature(named(channel, name, self.prefix), measure.unit(channel.unit))
            for channel in signal.channels
            for name, measure in zip(self.measures, chosen, strict=True)
        ]
        after, place, carry = flow.appended(features)
        table = place.reshape(len(signal.channels), len(chosen))
        work = Work(signal.samples, signal.rate_hz)
        needs = {measure.needs for measure in chosen}
        prepare: list[Run] = [carry]
        prepare += [work.centre] if needs - {""} else []
        prepare += [work.scale] if "scale" in needs else []

        def run() -> None:
            for before in prepare:
                before()
            for number, measure in enumerate(chosen):
                table[:, number] = measure.compute(work)

        return after, run


@dataclass(frozen=True, slots=True)
class Flatten:
    """Adds the samples themselves, oldest first; ``.t-0`` in a name is the newest.

    Args:
        order: ``time``: row after row, as a model of shape ``(1, rows, channels)`` takes them; ``channel``:
            channel after channel, as one of shape ``(1, channels, rows)`` does.
        prefix: Put before the names of the features.
    """

    order: str
    prefix: str
    name: ClassVar[str] = "flatten"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        return cls(keys.choice("order", ("time", "channel"), "time"), keys.prefix())

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"order": self.order, **({"prefix": self.prefix} if self.prefix else {})}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with every sample as a feature."""
        signal = flow.signal
        require_count(signal.samples.size)
        by_channel = [
            [
                Feature(_sample_name(channel, row, signal.rows, self.prefix), channel.unit)
                for row in range(signal.rows)
            ]
            for channel in signal.channels
        ]
        by_time = zip(*by_channel, strict=True)
        groups = by_time if self.order == "time" else by_channel
        after, place, carry = flow.appended([feature for group in groups for feature in group])
        wanted = signal.samples.T if self.order == "time" else signal.samples
        table = place.reshape(wanted.shape)

        def run() -> None:
            carry()
            table[:] = wanted

        return after, run


def _sample_name(channel: Feature, row: int, rows: int, prefix: str) -> str:
    name = channel.name or "sample"
    return f"{prefix}{name}" if rows == 1 else f"{prefix}{name}.t-{rows - 1 - row}"


@dataclass(frozen=True, slots=True)
class Context:
    """Adds context tags.

    Args:
        tags: Which, in this order; (): all in theirs.
    """

    tags: tuple[str, ...]
    name: ClassVar[str] = "context"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        return cls(keys.texts("tags"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"tags": list(self.tags)} if self.tags else {}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these tags behind its features."""
        there = [tag.name for tag in flow.context]
        missing = [name for name in self.tags if name not in there]
        if missing or not there:
            known = ", ".join(there) or "none"
            raise misfit(f"the context has no {missing[0] if missing else 'tag'}; it has {known}")
        chosen = np.array([there.index(name) for name in self.tags or there], np.intp)
        after, place, carry = flow.appended([flow.context[number] for number in chosen])
        values = flow.context_values

        def run() -> None:
            carry()
            np.take(values, chosen, out=place, mode="clip")

        return after, run
