"""The declared steps of a model as one extractor: bound once to its buffers, then run for each window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.features.flow import (
    FittedStep,
    Flow,
    Keys,
    Run,
    Signal,
    Source,
    Step,
    Values,
    misfit,
    unfitted,
)
from edge_opcua.features.registry import STEPS
from edge_opcua.features.vibration import Waveform

STEPS_SET: Final = "steps/1"
"""Name of the arithmetic of the declared steps; new arithmetic of a step, new name."""
TAGS_SET: Final = "tags/1"
"""Name of no arithmetic at all: the samples are the features, oldest row first."""
MAX_STEPS: Final = 100
MAX_VALUES: Final = 100_000_000
"""Values that all buffers may hold together, about; some 800 MB."""
_BUFFERS: Final = 4
"""Buffers of the size of the samples that a step has at most."""

Window = tuple[Waveform, Sequence[float] | npt.NDArray[np.float64]]
"""Samples of one window, shape ``(rows * channels,)``, and its context, shape ``(m,)``."""


class Chain:
    """Turns one window into the features that a model takes, as its manifest declares it.

    Implements :class:`edge_opcua.inference.model.Extractor`. An instance owns its buffers: one per thread.

    Args:
        source: What a window holds.
        steps: The tables of the steps in order, fitted; none: the samples themselves are the features.

    Raises:
        ModelError: A step is unknown (M600), a key of it is wrong (M601), it does not fit what the former
            ones leave (M602), or it was not fitted (M603); the sentence begins with the step's number.
    """

    def __init__(self, source: Source, steps: Sequence[Mapping[str, Any]] = ()) -> None:
        self.source = source
        self.feature_set = STEPS_SET if steps else TAGS_SET
        self.sample_count = source.sample_count
        self.sample_rate_hz = source.sample_rate_hz
        self._bound = Bound(source)
        for number, step in enumerate(read_steps(steps or ({"step": "flatten"},)), start=1):
            self._bound.add(number, step)
        self._flow = self._bound.flow
        if not self._flow.features:
            raise ModelError("the steps make no feature: flatten, statistics or another has to", code="M602")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in the order of the vector."""
        return tuple(feature.name for feature in self._flow.features)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the features in the order of the vector."""
        return tuple(feature.unit for feature in self._flow.features)

    def extract(
        self,
        waveform: Waveform,
        sample_rate_hz: float,
        context: Sequence[float] | npt.NDArray[np.float64],
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the features of one window; :meth:`outside` then says whether the model may judge it.

        Args:
            waveform: Samples, shape ``(rows * channels,)``: row after row, oldest first.
            sample_rate_hz: Rows per second of this window.
            context: Values of the context tags, shape ``(m,)``, in their order and units.
            out: Where to put the vector, shape ``(k,)``; a new array if None.

        Returns:
            Shape ``(k,)``. All NaN if a sample or a context value is not finite; single ones NaN where they
            do not exist (the kurtosis of a flat signal), or of a name that was never learned.

        Raises:
            ValueError: Sample rate, number of samples or of context values are not those declared.
        """
        vector = np.empty(len(self._flow.features), np.float32) if out is None else out
        if sample_rate_hz != self.sample_rate_hz:
            raise ValueError(f"a window is sampled at {self.sample_rate_hz} Hz, not at {sample_rate_hz} Hz")
        if self._bound.run(waveform, context):
            with np.errstate(all="ignore"):  # what is too large for float32 is not finite, and seen as that
                vector[:] = self._flow.columns
        else:
            vector[:] = np.nan
        return vector

    def outside(self) -> str:
        """Say what of the last window the model was never shown; empty if nothing."""
        return self._flow.refusals[0] if self._flow.refusals else ""


class Bound:
    """Steps bound one after the other to the buffers of the one before.

    Args:
        source: What a window holds.
    """

    def __init__(self, source: Source) -> None:
        first = Signal(np.zeros((len(source.channels), source.rows)), source.sample_rate_hz, source.channels)
        nothing = np.zeros(0)
        self.flow = Flow(first, first, nothing, (), np.zeros(len(source.context)), source.context, [])
        self._limits = _Limits(source, first.samples, self.flow.context_values) if source.limits else None
        self._samples = first.samples
        self._rows = first.samples.T  # a window is given row by row
        self._context = self.flow.context_values
        self._runs: list[Run] = []
        self._held = 0

    def add(self, number: int, step: Step) -> None:
        """Bind one more step.

        Raises:
            ModelError: It does not fit (M602) or was not fitted (M603).
        """
        try:
            self._held += _BUFFERS * self.flow.signal.samples.size + self.flow.columns.size
            if self._held > MAX_VALUES:
                raise misfit("the steps up to here need more memory than a model may take")
            self.flow, run = step.bind(self.flow)
        except ModelError as exc:
            raise _at(number, step.name, exc) from exc
        self._runs.append(run)

    def run(self, waveform: Waveform, context: Sequence[float] | npt.NDArray[np.float64]) -> bool:
        """Compute all steps of one window; False, and nothing computed, if a value of it is not finite.

        Raises:
            ValueError: Number of samples or of context values are not those declared.
        """
        if waveform.shape != (self._samples.size,):
            raise ValueError(f"a window has {self._samples.size} samples, not shape {waveform.shape}")
        if len(context) != self._context.size:
            raise ValueError(f"{self._context.size} context values are needed, not {len(context)}")
        self.flow.refusals.clear()
        self._rows[:] = waveform.reshape(self._rows.shape)
        self._context[:] = context
        if not (np.isfinite(self._samples).all() and np.isfinite(self._context).all()):
            return False
        if self._limits is not None:
            self.flow.refusals.extend(self._limits.broken())
        with np.errstate(all="ignore"):
            for run in self._runs:
                run()
        return True


class _Limits:
    """Tells which value of a window was never learned.

    Args:
        source: What a window holds, with limits.
        samples: Buffer of the samples, shape ``(channels, rows)``.
        context: Buffer of the context, shape ``(m,)``.
    """

    def __init__(self, source: Source, samples: Values, context: Values) -> None:
        limits = np.array(source.limits)
        self._items = (*source.channels, *source.context)
        self._samples, self._context = samples, context
        self._low, self._high = limits[:, 0], limits[:, 1]
        self._least, self._most = np.zeros(len(limits)), np.zeros(len(limits))

    def broken(self) -> list[str]:
        """Return a sentence about the first value that is outside, if one is."""
        count = len(self._samples)
        self._samples.min(axis=1, out=self._least[:count])
        self._samples.max(axis=1, out=self._most[:count])
        self._least[count:] = self._most[count:] = self._context
        below = self._least < self._low
        off = np.flatnonzero(below | (self._most > self._high))
        if not off.size:
            return []
        first = int(off[0])
        item, value = self._items[first], (self._least if below[first] else self._most)[first]
        name, limits = item.name or "the signal", f"{self._low[first]:g}..{self._high[first]:g}"
        return [f"{name} {value:.4g} {item.unit} is outside {limits}"]


def read_steps(tables: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Read the tables of steps.

    Raises:
        ModelError: One is unknown or there are too many (M600), or a key is wrong (M601).
    """
    if len(tables) > MAX_STEPS:
        raise ModelError(f"{len(tables)} steps are declared, {MAX_STEPS} are the most", code="M600")
    return tuple(_read(number, table) for number, table in enumerate(tables, start=1))


def fit_steps(
    source: Source, tables: Sequence[Mapping[str, Any]], windows: Iterable[Window]
) -> tuple[dict[str, Any], ...]:
    """Learn the numbers of the steps that have some to learn, from recorded windows.

    A step learns from what the steps before it make of the windows. One whose table already has its numbers
    keeps them.

    Args:
        source: What a window holds.
        tables: The steps.
        windows: The windows; gone through once for each step that learns. Those that are not finite are
            left out.

    Returns:
        The complete tables, as they belong into the manifest.

    Raises:
        ModelError: As of :class:`Chain`; no window is usable (M603).
    """
    kept = tuple(windows)
    bound = Bound(source)
    done: list[dict[str, Any]] = []
    for number, step in enumerate(read_steps(tables), start=1):
        learned = step
        if isinstance(step, FittedStep) and not step.is_fitted:
            learned = _learned(number, step, bound, kept)
        bound.add(number, learned)
        done.append({"step": learned.name, **learned.table()})
    return tuple(done)


def _learned(number: int, step: FittedStep, bound: Bound, windows: Sequence[Window]) -> Step:
    try:
        observed = step.observed(bound.flow)
        seen: list[Values] = [observed.copy() for window in windows if bound.run(*window)]
        if not seen:
            raise unfitted("has no window to learn from")
        return step.fitted(bound.flow, np.array(seen))
    except ModelError as exc:
        raise _at(number, step.name, exc) from exc


def _read(number: int, table: Mapping[str, Any]) -> Step:
    name = table.get("step")
    if not isinstance(name, str) or name not in STEPS:
        known = ", ".join(sorted(STEPS))
        raise ModelError(f'step {number}: "{str(name)[:40]}" is not one of {known}', code="M600")
    keys = Keys(table)
    try:
        step = STEPS[name](keys)
        keys.end()
    except ModelError as exc:
        raise _at(number, name, exc) from exc
    return step


def _at(number: int, name: str, fault: ModelError) -> ModelError:
    return ModelError(f"step {number} ({name}): {fault}", code=fault.code)
