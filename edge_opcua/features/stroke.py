"""The features of one press stroke: what a model of the press cell was trained on and is served with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.features.vibration import Band, BandSpectrum, Waveform, fourth_moment

FEATURE_SET: Final = "stroke/1"
"""Name of the arithmetic below; a model names the one it was trained with. New arithmetic, new name."""

BANDS: Final = (
    Band(0.0, 100.0),
    Band(100.0, 200.0),
    Band(200.0, 400.0),
    Band(400.0, 800.0),
    Band(800.0, 1_600.0),
    Band(1_600.0, 5_000.0),
)
"""Octaves round the modes of a small press: frame and drive below, punch and guides on top."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the feature vector.

    Args:
        name: Name in manifest and address space.
        unit: Unit as it is printed; "1" for ratios.
    """

    name: str
    unit: str


class StrokeFeatures:
    """Feature vector of one stroke: shape and level of the waveform, then the context tags as they are.

    In order: ``rms``, ``peak``, ``crest_factor``, ``kurtosis``, ``band_<low>_<high>_hz`` (r.m.s. value of the
    waveform inside the band) and the context. All are in engineering units, so that a person can read a
    feature and its expected value; a model that prefers decibels takes the logarithm inside its graph.

    An instance owns its buffers: one per thread.

    Args:
        sample_count: Samples of one stroke.
        sample_rate_hz: Samples per second.
        unit: Unit of the samples.
        context: Tags appended to the waveform's own features, with their units.
    """

    feature_set = FEATURE_SET

    def __init__(
        self,
        *,
        sample_count: int,
        sample_rate_hz: float,
        unit: str = "m/s²",
        context: Sequence[Feature] = (),
    ) -> None:
        self.sample_count = sample_count
        self.sample_rate_hz = sample_rate_hz
        self.context = tuple(context)
        shape = (
            Feature("rms", unit),
            Feature("peak", unit),
            Feature("crest_factor", "1"),
            Feature("kurtosis", "1"),
        )
        bands = tuple(Feature(f"band_{band.low_hz:.0f}_{band.high_hz:.0f}_hz", unit) for band in BANDS)
        self.features = (*shape, *bands, *self.context)
        self._first_band = len(shape)
        self._first_context = len(shape) + len(bands)
        self._spectrum = BandSpectrum(sample_count, sample_rate_hz, BANDS)
        self._samples = np.empty(sample_count)
        self._square = np.empty(sample_count)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features in the order of the vector."""
        return tuple(feature.name for feature in self.features)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the features in the order of the vector."""
        return tuple(feature.unit for feature in self.features)

    def extract(
        self,
        waveform: Waveform,
        sample_rate_hz: float,
        context: Sequence[float] | npt.NDArray[np.float64],
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the features of one stroke.

        Args:
            waveform: Samples of the stroke, shape ``(sample_count,)``, in the configured unit.
            sample_rate_hz: Samples per second of this recording.
            context: Values of the context tags, shape ``(m,)``, in their order and units.
            out: Where to put the vector, shape ``(k,)``; a new array if None.

        Returns:
            Shape ``(k,)``. NaN where a feature does not exist: all of the waveform's own if a sample is not
            finite, the kurtosis if the recording is flat, the crest factor if it is zero; context values pass
            as they are.

        Raises:
            ValueError: Sample rate, number of samples or of context values are not those configured.

        Source:
            Definitions of the single features: :mod:`edge_opcua.features.vibration`.
        """
        self._check(waveform, sample_rate_hz, context)
        vector = np.empty(len(self.features), np.float32) if out is None else out
        self._samples[:] = waveform
        vector[self._first_context :] = context
        samples, square, n = self._samples, self._square, self.sample_count
        energy = float(samples @ samples) / n
        if not math.isfinite(energy):
            vector[: self._first_context] = np.nan
            return vector
        level = math.sqrt(energy)
        top, bottom = float(samples.max()), float(samples.min())
        highest = max(top, -bottom)
        vector[0] = level
        vector[1] = highest
        vector[2] = highest / level if level > 0.0 else np.nan
        vector[3] = fourth_moment(samples, square) if top > bottom else np.nan
        np.sqrt(self._spectrum.energies(samples), out=vector[self._first_band : self._first_context])
        return vector

    def outside(self) -> str:
        """Say what of the last stroke the model was never shown; its limits are those of the features."""
        return ""

    def _check(
        self, waveform: Waveform, sample_rate_hz: float, context: Sequence[float] | npt.NDArray[np.float64]
    ) -> None:
        if waveform.shape != (self.sample_count,):
            raise ValueError(f"a stroke has {self.sample_count} samples, not shape {waveform.shape}")
        if sample_rate_hz != self.sample_rate_hz:
            raise ValueError(f"a stroke is sampled at {self.sample_rate_hz} Hz, not at {sample_rate_hz} Hz")
        if len(context) != len(self.context):
            raise ValueError(f"{len(self.context)} context values are needed, not {len(context)}")
