"""Steps that make features of the spectrum: r.m.s. value in bands, of the signal or of its envelope."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from edge_opcua.features.flow import (
    MAX_SAMPLES,
    Flow,
    Keys,
    Run,
    Signal,
    misfit,
    named,
    plain_number,
    require_count,
    wrong,
)
from edge_opcua.features.stroke import Feature
from edge_opcua.features.vibration import Band, BandSpectrum


@dataclass(frozen=True, slots=True)
class FftBands:
    """Adds the r.m.s. value of each channel in bands of frequencies.

    The bands contain their lower limit and not their upper one; the rectangular window is used. Put a
    ``window`` with a taper before it for a signal that goes on and on.

    Args:
        bands: The bands.
        prefix: Put before the names of the features.

    Source:
        :func:`edge_opcua.features.vibration.band_energies`.
    """

    bands: tuple[Band, ...]
    prefix: str
    name: ClassVar[str] = "fft_bands"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        return cls(_bands(keys), keys.prefix())

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        return {"bands_hz": _pairs(self.bands), **({"prefix": self.prefix} if self.prefix else {})}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with a feature for each channel and band."""
        signal = flow.signal
        spectrum = _spectrum(signal, self.bands)
        after, place, carry = flow.appended(_names(signal, self.bands, self.prefix))
        table = place.reshape(len(signal.channels), len(self.bands))

        def run() -> None:
            carry()
            for samples, out in zip(signal.samples, table, strict=True):
                np.sqrt(spectrum.energies(samples), out=out)

        return after, run


@dataclass(frozen=True, slots=True)
class EnvelopeSpectrum:
    """Adds the r.m.s. value of the envelope of a band, in bands: how often something rings.

    A damaged bearing hits a resonance at each turn of a ball; the resonance is loud in ``carrier_hz``, how
    often it is hit shows in the spectrum of its envelope.

    Args:
        carrier: The band whose envelope is taken.
        bands: Bands of the envelope's frequencies; its mean does not count.
        prefix: Put before the names of the features.

    Source:
        R. B. Randall, J. Antoni: Rolling element bearing diagnostics - a tutorial, Mech. Syst. Signal
        Process. 25 (2011), §3 (envelope by the analytic signal of a band).
    """

    carrier: Band
    bands: tuple[Band, ...]
    prefix: str
    name: ClassVar[str] = "envelope_spectrum"

    @classmethod
    def parse(cls, keys: Keys) -> Self:
        """Read the table."""
        carrier = _as_bands([keys.numbers("carrier_hz")], "carrier_hz")[0]
        return cls(carrier, _bands(keys), keys.prefix("envelope_"))

    def table(self) -> dict[str, Any]:
        """Return its keys."""
        carrier = [self.carrier.low_hz, self.carrier.high_hz]
        return {"carrier_hz": carrier, "bands_hz": _pairs(self.bands), "prefix": self.prefix}

    def bind(self, flow: Flow) -> tuple[Flow, Run]:
        """Return the flow with a feature for each channel and band."""
        signal = flow.signal
        spectrum = _spectrum(signal, self.bands)
        _spectrum(signal, (self.carrier,))
        rows = signal.rows
        frequency_hz = np.fft.fftfreq(rows, 1.0 / signal.rate_hz)
        inside = (frequency_hz >= self.carrier.low_hz) & (frequency_hz < self.carrier.high_hz)
        inside &= frequency_hz > 0.0
        if not inside.any():
            raise misfit(
                f"no line of the spectrum lies in carrier_hz: they are {signal.rate_hz / rows:g} Hz apart"
            )
        weights = np.where(inside, 2.0, 0.0)
        after, place, carry = flow.appended(_names(signal, self.bands, self.prefix))
        table = place.reshape(len(signal.channels), len(self.bands))
        lines = np.zeros(rows, np.complex128)
        envelope = np.zeros(rows)

        def run() -> None:
            carry()
            for samples, out in zip(signal.samples, table, strict=True):
                np.fft.fft(samples, out=lines)
                np.multiply(lines, weights, out=lines)
                np.fft.ifft(lines, out=lines)
                np.abs(lines, out=envelope)
                np.subtract(envelope, envelope.mean(), out=envelope)
                np.sqrt(spectrum.energies(envelope), out=out)

        return after, run


def _bands(keys: Keys) -> tuple[Band, ...]:
    if keys.has("bands_hz") == keys.has("edges_hz"):
        raise wrong("either bands_hz or edges_hz has to be given")
    if keys.has("bands_hz"):
        return _as_bands(keys.pairs("bands_hz"), "bands_hz")
    return _as_bands(list(pairwise(keys.numbers("edges_hz"))), "edges_hz")


def _as_bands(pairs: list[tuple[float, ...]] | tuple[tuple[float, float], ...], key: str) -> tuple[Band, ...]:
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise wrong(f"{key} names no band: it takes the lower and the upper limit in Hz")
    try:
        return tuple(Band(low, high) for low, high in pairs)
    except ValueError as exc:
        raise wrong(f"{key}: {exc}") from exc


def _pairs(bands: tuple[Band, ...]) -> list[list[float]]:
    return [[band.low_hz, band.high_hz] for band in bands]


def _spectrum(signal: Signal, bands: tuple[Band, ...]) -> BandSpectrum:
    signal.require_rate("a spectrum")
    require_count(len(signal.channels) * len(bands))
    if len(bands) * signal.rows > MAX_SAMPLES:
        raise misfit(f"{len(bands)} bands of {signal.rows} rows are more than are reckoned with")
    try:
        return BandSpectrum(signal.rows, signal.rate_hz, bands)
    except ValueError as exc:
        raise misfit(str(exc)) from exc


def _names(signal: Signal, bands: tuple[Band, ...], prefix: str) -> list[Feature]:
    return [
        Feature(
            named(channel, f"band_{plain_number(band.low_hz)}_{plain_number(band.high_hz)}_hz", prefix),
            channel.unit,
        )
        for channel in signal.channels
        for band in bands
    ]
