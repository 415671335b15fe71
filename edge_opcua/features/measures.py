"""Steps that make features of the samples: statistics of each channel, or the samples themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

import numpy as np

from edge_opcua.features.flow import Flow, Keys, Run, Values, misfit, named, wrong
from edge_opcua.features.stroke import Feature


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of each channel.

    Args:
        compute: From samples and centred samples, both ``(channels, rows)``, and rows per second.
        unit: Of the unit of the samples.
        rows: Fewest rows it needs.
        needs_rate: Whether it asks how much time lies between them.
    """

    compute: Callable[[Values, Values, float], Values]
    unit: Callable[[str], str] = str
    rows: int = 1
    needs_rate: bool = False


def _plain(_unit: str) -> str:
    return "1"


def _peak(samples: Values, _centred: Values, _rate_hz: float) -> Values:
    highest: Values = np.maximum(samples.max(axis=1), -samples.min(axis=1))
    return highest


def _rms(samples: Values, _centred: Values, _rate_hz: float) -> Values:
    root: Values = np.sqrt(np.einsum("ij,ij->i", samples, samples) / samples.shape[1])
    return root


def _std(_samples: Values, centred: Values, rate_hz: float) -> Values:
    return _rms(centred, centred, rate_hz)


def _crest(samples: Values, centred: Values, rate_hz: float) -> Values:
    return _peak(samples, centred, rate_hz) / _rms(samples, centred, rate_hz)  # 0 / 0: NaN, as it should


def _moment(power: int) -> Callable[[Values, Values, float], Values]:
    def compute(samples: Values, centred: Values, _rate_hz: float) -> Values:
        # The moment has no unit, and powers of tiny numbers vanish: scaled to 1 first.
        scaled = centred / np.abs(centred).max(axis=1, keepdims=True)
        variance = np.mean(scaled**2, axis=1)
        moment: Values = np.mean(scaled**power, axis=1) / variance ** (power / 2)
        moment[samples.max(axis=1) == samples.min(axis=1)] = np.nan
        return moment

    return compute


def _slope(_samples: Values, centred: Values, rate_hz: float) -> Values:
    rows = centred.shape[1]
    time = (np.arange(rows) - (rows - 1) / 2.0) / rate_hz
    slope: Values = centred @ time / float(time @ time)
    return slope


MEASURES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "mean": Measure(lambda samples, _c, _r: np.asarray(samples.mean(axis=1))),
        "std": Measure(_std),
        "min": Measure(lambda samples, _c, _r: np.asarray(samples.min(axis=1))),
        "max": Measure(lambda samples, _c, _r: np.asarray(samples.max(axis=1))),
        "median": Measure(lambda samples, _c, _r: np.asarray(np.median(samples, axis=1))),
        "first": Measure(lambda samples, _c, _r: samples[:, 0]),
        "last": Measure(lambda samples, _c, _r: samples[:, -1]),
        "slope": Measure(_slope, lambda unit: f"{unit}/s", rows=2, needs_rate=True),
        "rms": Measure(_rms),
        "peak": Measure(_peak),
        "peak_to_peak": Measure(lambda samples, _c, _r: np.asarray(np.ptp(samples, axis=1))),
        "crest_factor": Measure(_crest, _plain),
        "skewness": Measure(_moment(3), _plain, rows=2),
        "kurtosis": Measure(_moment(4), _plain, rows=2),
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
        return cls(measures, keys.text("prefix", ""))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"measures": list(self.measures), **({"prefix": self.prefix} if self.prefix else {})}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these features behind those that are there."""
        signal = flow.signal
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
        samples, rate_hz = signal.samples, signal.rate_hz
        centred = np.zeros(samples.shape)

        def run() -> None:
            carry()
            np.subtract(samples, samples.mean(axis=1, keepdims=True), out=centred)
            for number, measure in enumerate(chosen):
                table[:, number] = measure.compute(samples, centred, rate_hz)

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
        return cls(keys.choice("order", ("time", "channel"), "time"), keys.text("prefix", ""))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"order": self.order, **({"prefix": self.prefix} if self.prefix else {})}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with every sample as a feature."""
        signal = flow.signal
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
