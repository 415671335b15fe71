"""What flows from one declared step to the next, and what a step is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.features.stroke import Feature

Values = npt.NDArray[np.float64]
Run = Callable[[], None]
"""Computes what a bound step computes, from the arrays it was bound to into its own. Allocates little."""

MAX_FEATURES: Final = 100_000
MAX_SAMPLES: Final = 10_000_000
MAX_PREFIX: Final = 32
"""Characters; a name of a feature has room for 64."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a chain of steps begins with: one window of samples and the context beside it.

    Args:
        channels: What is sampled, in the order of a row, with units. The one channel of a capture has no
            name: its features are called ``rms``, those of a tag ``oil_temp.rms``.
        rows: Samples of each channel.
        sample_rate_hz: Rows per second; 0 if they come at no fixed rate.
        context: Tags that have one value for each window, with units.
        limits: Smallest and largest value that was learned, of each channel and after them of each context
            tag; (): of none.
    """

    channels: tuple[Feature, ...]
    rows: int
    sample_rate_hz: float
    context: tuple[Feature, ...] = ()
    limits: tuple[tuple[float, float], ...] = ()

    @property
    def sample_count(self) -> int:
        """Values of one window: rows times channels."""
        return self.rows * len(self.channels)


@dataclass(frozen=True, slots=True)
class Signal:
    """Samples on their way; the array is the same one in every run.

    Args:
        samples: Shape ``(channels, rows)``, oldest first.
        rate_hz: Rows per second; 0 if they come at no fixed rate.
        channels: Name and unit of each channel.
    """

    samples: Values
    rate_hz: float
    channels: tuple[Feature, ...]

    @property
    def rows(self) -> int:
        """Samples of each channel."""
        return int(self.samples.shape[1])

    def require_rate(self, who: str) -> None:
        """Refuse what asks for time where there is no fixed rate.

        Raises:
            ModelError: There is none (M602).
        """
        if self.rate_hz <= 0.0:
            raise misfit(f"{who} needs samples at a fixed rate: input.period_ms is not given")


@dataclass(frozen=True, slots=True)
class Flow:
    """All that a step may use.

    Args:
        source: The samples as they came.
        signal: The samples as the former steps left them.
        columns: Features so far, shape ``(k,)``.
        features: Name and unit of each of them.
        context_values: Values of the context tags, shape ``(m,)``.
        context: Name and unit of each of them.
        refusals: Gets a sentence from a step that was never shown such a window; empty before each one.
    """

    source: Signal
    signal: Signal
    columns: Values
    features: tuple[Feature, ...]
    context_values: Values
    context: tuple[Feature, ...]
    refusals: list[str]

    def with_signal(
        self,
        samples: Values,
        *,
        rate_hz: float | None = None,
        channels: tuple[Feature, ...] | None = None,
    ) -> Flow:
        """Return the flow after a step that changes the samples."""
        old = self.signal
        rate_hz = old.rate_hz if rate_hz is None else rate_hz
        return replace(self, signal=Signal(samples, rate_hz, old.channels if channels is None else channels))

    def with_columns(self, columns: Values, features: tuple[Feature, ...]) -> Flow:
        """Return the flow after a step that changes the features.

        Raises:
            ModelError: Two have the same name, or there are too many (M602).
        """
        require_count(len(features))
        names = [feature.name for feature in features]
        if len(set(names)) < len(names):
            twice = next(name for number, name in enumerate(names) if name in names[:number])
            raise misfit(f'makes the feature "{twice}" a second time; give it another name with prefix')
        return replace(self, columns=columns, features=features)

    def appended(self, features: Sequence[Feature]) -> tuple[Flow, Values, Run]:
        """Return the flow with more features, where their values go, and what carries on the former ones."""
        k = len(self.features)
        columns = np.zeros(k + len(features))
        flow = self.with_columns(columns, (*self.features, *features))
        before, kept = self.columns, columns[:k]

        def carry() -> None:
            kept[:] = before

        return flow, columns[k:], carry


class Step(Protocol):
    """One declared step; ``features.registry.STEPS`` has by name what reads its table.

    Attributes:
        name: What ``step`` in the manifest says.
    """

    name: ClassVar[str]

    def table(self) -> dict[str, Any]:
        """Return it as its table in the manifest, without ``step``."""
        ...

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Make the buffers for this flow, and what computes them.

        Raises:
            ModelError: The step does not fit what flows (M602), or was not fitted (M603).
        """
        ...


@runtime_checkable
class FittedStep(Step, Protocol):
    """A step with numbers that are learned from recorded windows."""

    @property
    def is_fitted(self) -> bool:
        """Whether it has its numbers."""
        ...

    def observed(self, flow: Flow) -> Values:
        """Return the array of the flow that it learns from."""
        ...

    def fitted(self, flow: Flow, seen: Values) -> Step:
        """Return the same step with its numbers.

        Args:
            flow: What flows before it.
            seen: What was in ``observed`` for each window, shape ``(n, …)``.
        """
        ...


class Keys:
    """The keys of one step's table; each is taken once, what is left over is unknown.

    Args:
        values: The table, ``step`` included.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {key: value for key, value in values.items() if key != "step"}

    def has(self, key: str) -> bool:
        """Return whether a key is there."""
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        """Take a text."""
        value = self._values.pop(key, default)
        if value is None:
            raise wrong(f"{key} is missing")
        if not isinstance(value, str) or not value.isprintable():
            raise wrong(f"{key} is {_shown(value)}, not a text")
        return value

    def choice(self, key: str, of: Sequence[str], default: str | None = None) -> str:
        """Take one of several words."""
        value = self.text(key, default)
        if value not in of:
            raise wrong(f'{key} "{value}" is not one of {", ".join(of)}')
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Take true or false."""
        value = self._values.pop(key, default)
        if not isinstance(value, bool):
            raise wrong(f"{key} is {_shown(value)}, not true or false")
        return value

    def whole(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_SAMPLES) -> int:
        """Take a whole number of a range."""
        value = self._values.pop(key, default)
        if value is None:
            raise wrong(f"{key} is missing")
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise wrong(f"{key} is {_shown(value)}, not a whole number of {low}..{high}")
        return int(value)

    def number(self, key: str, default: float | None = None) -> float:
        """Take a finite number."""
        value = self._values.pop(key, default)
        if value is None:
            raise wrong(f"{key} is missing")
        return _number(key, value)

    def prefix(self, default: str = "") -> str:
        """Take what is put before the names of features."""
        prefix = self.text("prefix", default)
        if len(prefix) > MAX_PREFIX:
            raise wrong(f"prefix has {len(prefix)} characters, {MAX_PREFIX} are the most")
        return prefix

    def numbers(self, key: str) -> tuple[float, ...]:
        """Take a list of finite numbers; () if it is not there."""
        return tuple(_number(key, value) for value in self._list(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of texts; () if it is not there."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            raise wrong(f"{key} is {_shown(values)}, not a list of texts")
        return tuple(values)

    def pairs(self, key: str) -> tuple[tuple[float, float], ...]:
        """Take a list of pairs of numbers; () if it is not there."""
        found = []
        for value in self._list(key):
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise wrong(f"{key} holds {_shown(value)}, not a pair of numbers")
            found.append((_number(key, value[0]), _number(key, value[1])))
        return tuple(found)

    def end(self) -> None:
        """Refuse what nobody took."""
        if self._values:
            raise wrong(f"{_shown(min(map(str, self._values)))} is an unknown key")

    def _list(self, key: str) -> list[Any]:
        value = self._values.pop(key, ())
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, (list, tuple)):
            raise wrong(f"{key} is {_shown(value)}, not a list")
        return list(value)


def wrong(sentence: str) -> ModelError:
    """Return the error of a key that is missing, unknown or wrong."""
    return ModelError(sentence, code="M601")


def misfit(sentence: str) -> ModelError:
    """Return the error of a step that does not fit what flows."""
    return ModelError(sentence, code="M602")


def unfitted(sentence: str) -> ModelError:
    """Return the error of a step that has not learned its numbers."""
    return ModelError(sentence, code="M603")


def require_count(count: int) -> None:
    """Refuse more features than a model may have, before they are made.

    Raises:
        ModelError: There are (M602).
    """
    if count > MAX_FEATURES:
        raise misfit(f"would make {count} features, {MAX_FEATURES} are the most")


def plain_number(value: float) -> str:
    """Return a number as it stands in the name of a feature."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.10g}".replace("+", "")


def named(channel: Feature, name: str, prefix: str = "") -> str:
    """Return the name of a feature of one channel."""
    return f"{prefix}{channel.name}.{name}" if channel.name else f"{prefix}{name}"


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise wrong(f"{key} holds {_shown(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        raise wrong(f"{key} holds a number of hundreds of digits") from None
    if not np.isfinite(number):
        raise wrong(f"{key} holds {number}, not a finite number")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
