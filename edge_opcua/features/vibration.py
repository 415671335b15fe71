"""Condition indicators of one vibration waveform: pure functions on arrays, the same in training and serving.

Missing samples: a waveform is one coherent recording, and a spectrum with holes is not a spectrum. So
nothing is filled in: one NaN or infinite sample makes every indicator NaN, and whoever asked must say
"not decidable".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Band:
    """A band of frequencies that contains its lower limit and not its upper one.

    Args:
        low_hz: Lower limit, 0 or more.
        high_hz: Upper limit; the half of the sample rate itself belongs to the band that ends there.
    """

    low_hz: float
    high_hz: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.low_hz < self.high_hz:
            raise ValueError(
                f"a band goes from 0 or more upwards, not from {self.low_hz} to {self.high_hz} Hz"
            )


def rms(waveform: Waveform) -> float:
    """Return the root mean square of a waveform, its mean included.

    Args:
        waveform: Samples, shape ``(n,)``, n > 0, engineering units; float64 keeps the sum exact.

    Returns:
        Same unit as the samples; NaN if a sample is not finite.

    Raises:
        ValueError: The waveform is empty or has more than one axis.

    Source:
        ISO 20816-1:2016 (broad-band r.m.s. magnitude).
    """
    samples = _finite(waveform)
    return math.nan if samples is None else _rms(samples)


def peak(waveform: Waveform) -> float:
    """Return the largest deviation from zero of a waveform.

    Args:
        waveform: Samples, shape ``(n,)``, n > 0, engineering units.

    Returns:
        Same unit as the samples, 0 or more; NaN if a sample is not finite.

    Raises:
        ValueError: The waveform is empty or has more than one axis.

    Source:
        ISO 2041:2018 (peak value).
    """
    samples = _finite(waveform)
    return math.nan if samples is None else float(np.abs(samples).max())


def crest_factor(waveform: Waveform) -> float:
    """Return the ratio of peak and r.m.s. value: 1 for a square wave, √2 for a sine, more for impacts.

    Args:
        waveform: Samples, shape ``(n,)``, n > 0, any unit.

    Returns:
        Dimensionless, 1 … √n; NaN if a sample is not finite or all are zero (a dead sensor has no shape).

    Raises:
        ValueError: The waveform is empty or has more than one axis.

    Source:
        ISO 2041:2018 (crest factor: ratio of the peak value to the r.m.s. value).
    """
    samples = _finite(waveform)
    if samples is None:
        return math.nan
    level = _rms(samples)
    return float(np.abs(samples).max()) / level if level > 0.0 else math.nan


def kurtosis(waveform: Waveform) -> float:
    """Return the fourth standardised moment about the mean: 1.5 for a sine, 3 for noise, more for impacts.

    Args:
        waveform: Samples, shape ``(n,)``, n > 0, any unit.

    Returns:
        Dimensionless, 1 or more; NaN if a sample is not finite or all are equal.

    Raises:
        ValueError: The waveform is empty or has more than one axis.

    Source:
        D. Dyer, R. M. Stewart: Detection of rolling element bearing damage by statistical vibration analysis,
        J. Mech. Design 100 (1978).
    """
    samples = _finite(waveform)
    if samples is None or samples.min() == samples.max():
        return math.nan
    return fourth_moment(samples, np.empty_like(samples))


def band_energies(
    waveform: Waveform, sample_rate_hz: float, bands: Sequence[Band]
) -> npt.NDArray[np.float64]:
    """Return the mean square that each band of frequencies adds to a waveform.

    The rectangular window is used: a stroke is a transient that begins and ends inside the recording, and
    any other window would weigh its impact by where it happens to lie. Bands that cover 0 Hz up to half the
    sample rate without gap add up to the mean square of the samples (Parseval's theorem).

    Args:
        waveform: Samples, shape ``(n,)``, n > 1, engineering units.
        sample_rate_hz: Samples per second.
        bands: Bands, each up to at most half the sample rate.

    Returns:
        Shape ``(len(bands),)``, the square of the samples' unit; all NaN if a sample is not finite.

    Raises:
        ValueError: The waveform is empty or has more than one axis, or a band does not fit the sample rate.

    Source:
        G. Heinzel, A. Rüdiger, R. Schilling: Spectrum and spectral density estimation by the DFT (2002),
        one-sided power spectrum.
    """
    samples = _finite(waveform)
    spectrum = BandSpectrum(np.shape(waveform)[-1], sample_rate_hz, bands)
    if samples is None:
        return np.full(len(bands), np.nan)
    return spectrum.energies(samples).copy()


def fourth_moment(samples: npt.NDArray[np.float64], scratch: npt.NDArray[np.float64]) -> float:
    """Return the kurtosis of finite samples that are not all equal, without allocating.

    Args:
        samples: Shape ``(n,)``.
        scratch: Shape ``(n,)``; overwritten.
    """
    np.subtract(samples, samples.mean(), out=scratch)
    scratch /= np.abs(scratch).max()  # the moment has no unit, and squares of tiny numbers vanish
    np.square(scratch, out=scratch)
    variance = float(scratch.mean())
    return float(scratch @ scratch) / (samples.size * variance * variance)


class BandSpectrum:
    """Band energies of waveforms of one length, in buffers that are made once.

    Args:
        sample_count: Samples of every waveform, 2 or more.
        sample_rate_hz: Samples per second.
        bands: Bands, each up to at most half the sample rate.

    Raises:
        ValueError: A band ends above half the sample rate, or there are less than 2 samples.
    """

    def __init__(self, sample_count: int, sample_rate_hz: float, bands: Sequence[Band]) -> None:
        if sample_count < 2:
            raise ValueError(f"a spectrum needs at least 2 samples, not {sample_count}")
        half_rate_hz = sample_rate_hz / 2.0
        for band in bands:
            if band.high_hz > half_rate_hz:
                raise ValueError(f"a band up to {band.high_hz} Hz needs more than {sample_rate_hz} samples/s")
        frequency_hz = np.fft.rfftfreq(sample_count, 1.0 / sample_rate_hz)
        # One-sided spectrum: every line stands for two, but 0 Hz and (n even) half the sample rate for one.
        weight = np.full(frequency_hz.size, 2.0 / sample_count**2)
        weight[0] /= 2.0
        if sample_count % 2 == 0:
            weight[-1] /= 2.0
        members = np.array(
            [
                (frequency_hz >= band.low_hz)
                & ((frequency_hz < band.high_hz) | (band.high_hz == half_rate_hz))
                for band in bands
            ],
            np.float64,
        ).reshape(len(bands), frequency_hz.size)
        self._sum_of_lines = members * weight
        self._spectrum = np.empty(frequency_hz.size, np.complex128)
        self._power = np.empty(frequency_hz.size)
        self._energies = np.empty(len(bands))

    def energies(self, samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the mean square in each band, shape ``(len(bands),)``; valid until the next call.

        Args:
            samples: Shape ``(sample_count,)``, finite, engineering units.
        """
        np.fft.rfft(samples, out=self._spectrum)
        real, imaginary = self._spectrum.real, self._spectrum.imag
        np.square(real, out=self._power)
        np.square(imaginary, out=imaginary)
        self._power += imaginary
        return np.matmul(self._sum_of_lines, self._power, out=self._energies)


def _finite(waveform: Waveform) -> npt.NDArray[np.float64] | None:
    """Return the samples as float64, or None if one of them is not finite."""
    samples = np.asarray(waveform, np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError(f"a waveform has one axis and at least one sample, not shape {samples.shape}")
    return samples if np.isfinite(samples).all() else None


def _rms(samples: npt.NDArray[np.float64]) -> float:
    return math.sqrt(float(samples @ samples) / samples.size)
