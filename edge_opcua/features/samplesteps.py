"""Steps that change the samples of a window: which of them, how many, and without what is not wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np

from edge_opcua.features.flow import MAX_SAMPLES, Flow, Keys, Run, misfit, wrong
from edge_opcua.features.stroke import Feature

TAPERS: Final = ("none", "hann")
METHODS: Final = ("linear", "mean", "fourier")


def nothing() -> None:
    """Compute nothing: the arrays of the step before are those of this one."""


@dataclass(frozen=True, slots=True)
class AsItCame:
    """Goes back to the samples as they came, for measures of which some need the signal untouched."""

    name: ClassVar[str] = "signal"

    @classmethod
    def parse(cls, _keys: Keys) -> Self:
        """Read the table."""
        return cls()

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with the samples as they came."""
        source = flow.source
        return flow.with_signal(source.samples, rate_hz=source.rate_hz, channels=source.channels), nothing


@dataclass(frozen=True, slots=True)
class Cut:
    """Keeps a part of the rows, and lets it begin and end softly if asked.

    Args:
        first: Row it begins with.
        rows: How many; None: all that follow.
        last: How many of the newest rows instead; None: as ``first`` and ``rows`` say.
        taper: ``none``, or ``hann``: both ends go to zero. What is left is raised so that noise keeps its
            r.m.s. value.

    Source:
        F. J. Harris: On the use of windows for harmonic analysis with the DFT, Proc. IEEE 66 (1978).
    """

    first: int
    rows: int | None
    last: int | None
    taper: str
    name: ClassVar[str] = "window"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        if keys.has("last") and (keys.has("first") or keys.has("rows")):
            raise wrong("last and first or rows are both given")
        rows = keys.whole("rows") if keys.has("rows") else None
        last = keys.whole("last") if keys.has("last") else None
        return cls(keys.whole("first", 0, low=0), rows, last, keys.choice("taper", TAPERS, "none"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        given = {"first": self.first or None, "rows": self.rows, "last": self.last}
        kept = {key: value for key, value in given.items() if value is not None}
        return {**kept, "taper": self.taper}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with these rows."""
        there = flow.signal.rows
        first = there - self.last if self.last is not None else self.first
        count = self.last or self.rows or there - first
        if first < 0 or count < 1 or first + count > there:
            raise misfit(f"takes {count} rows from row {first} on, there are {there}")
        kept = flow.signal.samples[:, first : first + count]
        if self.taper == "none":
            return flow.with_signal(kept), nothing
        weights = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
        weights /= np.sqrt(np.mean(weights**2))
        out = np.zeros(kept.shape)

        def run() -> None:
            np.multiply(kept, weights, out=out)

        return flow.with_signal(out), run


@dataclass(frozen=True, slots=True)
class Resample:
    """Makes another number of rows of the same time.

    Args:
        rows: Rows afterwards; None: as many as ``rate_hz`` gives.
        rate_hz: Rows per second afterwards; None: as ``rows`` says.
        method: ``linear`` between the neighbours, ``mean`` of so many neighbours (a whole number of them),
            or ``fourier``, which keeps every frequency below half of both rates and nothing above.

    Source:
        ``fourier``: J. O. Smith, Mathematics of the DFT, 2nd ed. (2007), ch. 7 (periodic interpolation).
    """

    rows: int | None
    rate_hz: float | None
    method: str
    name: ClassVar[str] = "resample"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        if keys.has("rows") == keys.has("rate_hz"):
            raise wrong("either rows or rate_hz has to be given")
        rows = keys.whole("rows") if keys.has("rows") else None
        rate_hz = keys.number("rate_hz") if keys.has("rate_hz") else None
        if rate_hz is not None and rate_hz <= 0.0:
            raise wrong(f"rate_hz is {rate_hz:g}, not above 0")
        return cls(rows, rate_hz, keys.choice("method", METHODS, "linear"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        size = {"rows": self.rows} if self.rows is not None else {"rate_hz": self.rate_hz}
        return {**size, "method": self.method}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with so many rows."""
        signal = flow.signal
        rows = self._rows(flow)
        out = np.zeros((len(signal.channels), rows))
        after = flow.with_signal(out, rate_hz=signal.rate_hz * rows / signal.rows)
        if self.method == "mean":
            return after, _means(flow, out)
        return after, _fourier(flow, out) if self.method == "fourier" else _between(flow, out)

    def _rows(self, flow: Flow) -> int:
        there = flow.signal.rows
        wanted = float(self.rows or 0)
        if self.rate_hz is not None:
            flow.signal.require_rate("rate_hz")
            wanted = there * self.rate_hz / flow.signal.rate_hz
        rows = round(wanted) if wanted < 1e9 else 0
        if rows < 1 or abs(rows - wanted) > 1e-6 * rows:
            raise misfit(f"{there} rows at {flow.signal.rate_hz:g} Hz are {wanted:.6g} rows afterwards")
        if rows * len(flow.signal.channels) > MAX_SAMPLES:
            raise misfit(f"would make {rows} rows")
        if self.method == "mean" and there % rows:
            raise misfit(f"{there} rows are not a whole number of times {rows}; method mean needs that")
        return rows


def _means(flow: Flow, out: np.ndarray[Any, np.dtype[np.float64]]) -> Run:
    samples = flow.signal.samples
    channels, rows = out.shape

    def run() -> None:
        samples.reshape(channels, rows, -1).mean(axis=2, out=out)

    return run


def _between(flow: Flow, out: np.ndarray[Any, np.dtype[np.float64]]) -> Run:
    samples = flow.signal.samples
    there, rows = samples.shape[1], out.shape[1]
    place = np.minimum(np.arange(rows) * (there / rows), there - 1.0)
    before = place.astype(np.intp)
    after = np.minimum(before + 1, there - 1)
    weight = place - before
    other = np.zeros(out.shape)

    def run() -> None:
        np.take(samples, before, axis=1, out=out, mode="clip")
        np.take(samples, after, axis=1, out=other, mode="clip")
        np.subtract(other, out, out=other)
        np.multiply(other, weight, out=other)
        np.add(out, other, out=out)

    return run


def _fourier(flow: Flow, out: np.ndarray[Any, np.dtype[np.float64]]) -> Run:
    samples = flow.signal.samples
    there, rows = samples.shape[1], out.shape[1]
    kept = min(there, rows)
    lines = np.zeros((out.shape[0], there // 2 + 1), np.complex128)
    made = np.zeros((out.shape[0], rows // 2 + 1), np.complex128)
    shared = kept // 2 + 1
    edge = 1.0  # the line at half of the lower rate stands for one line there and for two elsewhere
    if kept % 2 == 0 and there != rows:
        edge = 2.0 if rows < there else 0.5
    scale = rows / there

    def run() -> None:
        np.fft.rfft(samples, axis=1, out=lines)
        np.multiply(lines[:, :shared], scale, out=made[:, :shared])
        made[:, shared - 1] *= edge
        np.fft.irfft(made, n=rows, axis=1, out=out)

    return run


@dataclass(frozen=True, slots=True)
class Detrend:
    """Takes the mean of each channel away, or the straight line that fits it best.

    Args:
        kind: ``constant`` or ``linear``.
    """

    kind: str
    name: ClassVar[str] = "detrend"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        return cls(keys.choice("kind", ("constant", "linear"), "constant"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"kind": self.kind}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow without mean or line."""
        samples = flow.signal.samples
        rows = flow.signal.rows
        out = np.zeros(samples.shape)
        mean = np.zeros((samples.shape[0], 1))
        time = np.arange(rows) - (rows - 1) / 2.0
        per_row = time / max(float(time @ time), 1.0)
        slope = np.zeros(samples.shape[0])
        line = np.zeros(samples.shape)

        def run() -> None:
            np.mean(samples, axis=1, keepdims=True, out=mean)
            np.subtract(samples, mean, out=out)

        def run_line() -> None:
            run()
            np.matmul(out, per_row, out=slope)
            np.multiply(slope[:, None], time, out=line)
            np.subtract(out, line, out=out)

        return flow.with_signal(out), run if self.kind == "constant" else run_line


@dataclass(frozen=True, slots=True)
class Changes:
    """Makes of the samples the difference of each to the one before.

    Args:
        per_second: Whether it is divided by the time between them.
    """

    per_second: bool
    name: ClassVar[str] = "difference"

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"per_second": self.per_second}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with one row less."""
        signal = flow.signal
        if signal.rows < 2:
            raise misfit("one row has no difference")
        out = np.zeros((signal.samples.shape[0], signal.rows - 1))
        newer, older = signal.samples[:, 1:], signal.samples[:, :-1]
        factor = signal.rate_hz if self.per_second else 1.0
        channels = signal.channels
        if self.per_second:
            signal.require_rate("per_second")
            channels = tuple(Feature(channel.name, f"{channel.unit}/s") for channel in channels)

        def run() -> None:
            np.subtract(newer, older, out=out)
            np.multiply(out, factor, out=out)

        return flow.with_signal(out, channels=channels), run
