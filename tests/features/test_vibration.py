"""Condition indicators against their definitions: known signals, scaling laws, Parseval."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_opcua.features.vibration import (
    Band,
    BandSpectrum,
    band_energies,
    crest_factor,
    kurtosis,
    peak,
    rms,
)

RATE_HZ = 10_000.0
Samples = npt.NDArray[np.float32]

# Accelerations as a sensor gives them: finite, not so small that their squares vanish in float32.
samples = arrays(
    np.float32,
    st.integers(2, 300),
    elements=st.floats(-1e4, 1e4, width=32).map(lambda value: 0.0 if abs(value) < 1e-3 else value),
)
factors = st.floats(0.01, 100.0)


def sine(frequency_hz: float, amplitude: float, n: int = 2_000) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(n) / RATE_HZ)
    return result


def test_a_sine_has_the_textbook_values() -> None:
    wave = sine(250.0, 3.0)
    assert rms(wave) == pytest.approx(3.0 / math.sqrt(2.0))
    assert peak(wave) == pytest.approx(3.0)
    assert crest_factor(wave) == pytest.approx(math.sqrt(2.0))
    assert kurtosis(wave) == pytest.approx(1.5)


def test_gaussian_noise_has_a_kurtosis_of_three() -> None:
    noise = np.random.default_rng(1).normal(5.0, 2.0, 200_000)
    assert kurtosis(noise) == pytest.approx(3.0, abs=0.05)


def test_an_impact_raises_crest_factor_and_kurtosis() -> None:
    wave = sine(250.0, 1.0)
    hit = wave.copy()
    hit[700] += 20.0
    assert crest_factor(hit) > 5 * crest_factor(wave)
    assert kurtosis(hit) > 20 * kurtosis(wave)


@given(samples, factors)
def test_levels_scale_with_the_signal_and_shapes_do_not(wave: Samples, factor: float) -> None:
    scaled = wave.astype(np.float64) * factor
    assert rms(scaled) == pytest.approx(factor * rms(wave), rel=1e-9)
    assert peak(scaled) == pytest.approx(factor * peak(wave), rel=1e-9)
    assert crest_factor(scaled) == pytest.approx(crest_factor(wave), rel=1e-9, nan_ok=True)
    assert kurtosis(scaled) == pytest.approx(kurtosis(wave), rel=1e-6, nan_ok=True)


@given(samples)
def test_indicators_keep_their_bounds(wave: Samples) -> None:
    assert 0.0 <= rms(wave) <= peak(wave) * (1 + 1e-9)
    crest, fourth = crest_factor(wave), kurtosis(wave)
    assert math.isnan(crest) or 1.0 - 1e-9 <= crest <= math.sqrt(wave.size) * (1 + 1e-9)
    assert math.isnan(fourth) or 1.0 - 1e-9 <= fourth <= wave.size * (1 + 1e-9)
    assert math.isnan(crest) == (not wave.any())
    assert math.isnan(fourth) == bool((wave == wave[0]).all())


@given(samples, st.lists(st.floats(0.01, 0.99), max_size=6, unique=True))
def test_bands_without_gap_add_up_to_the_mean_square(wave: Samples, cuts: list[float]) -> None:
    # Parseval's theorem, for even and odd lengths
    edges = [0.0, *sorted(cut * RATE_HZ / 2 for cut in cuts), RATE_HZ / 2]
    bands = [Band(low, high) for low, high in itertools.pairwise(edges)]
    energies = band_energies(wave, RATE_HZ, bands)
    assert (energies >= 0.0).all()
    assert energies.sum() == pytest.approx(rms(wave) ** 2, rel=1e-6, abs=1e-12)


@given(samples, factors)
def test_energies_scale_with_the_square_of_the_signal(wave: Samples, factor: float) -> None:
    bands = [Band(0.0, 1_000.0), Band(1_000.0, 5_000.0)]
    scaled = band_energies(wave.astype(np.float64) * factor, RATE_HZ, bands)
    plain = band_energies(wave, RATE_HZ, bands)
    np.testing.assert_allclose(
        scaled, factor**2 * plain, rtol=1e-6, atol=1e-9 * float(plain.sum() * factor**2)
    )


@pytest.mark.parametrize(("frequency_hz", "place"), [(50.0, 0), (100.0, 1), (250.0, 1), (4_000.0, 2)])
def test_a_tone_lands_in_its_band_and_the_lower_limit_belongs_to_it(frequency_hz: float, place: int) -> None:
    bands = [Band(0.0, 100.0), Band(100.0, 400.0), Band(400.0, 5_000.0)]
    energies = band_energies(sine(frequency_hz, 2.0), RATE_HZ, bands)
    assert energies[place] == pytest.approx(2.0)
    assert np.delete(energies, place).sum() < 1e-12


def test_half_the_sample_rate_belongs_to_the_band_that_ends_there() -> None:
    alternating = np.tile([1.0, -1.0], 100)
    energies = band_energies(alternating, RATE_HZ, [Band(0.0, 2_500.0), Band(2_500.0, 5_000.0)])
    np.testing.assert_allclose(energies, [0.0, 1.0], atol=1e-12)


def test_a_band_that_leaves_out_lines_counts_only_its_own() -> None:
    wave = sine(50.0, 2.0) + sine(250.0, 4.0)
    assert band_energies(wave, RATE_HZ, [Band(200.0, 400.0)])[0] == pytest.approx(8.0)
    assert band_energies(wave, RATE_HZ, []).shape == (0,)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_one_sample_that_is_no_number_makes_every_indicator_nan(broken: float) -> None:
    wave = sine(250.0, 1.0)
    wave[3] = broken
    assert math.isnan(rms(wave))
    assert math.isnan(peak(wave))
    assert math.isnan(crest_factor(wave))
    assert math.isnan(kurtosis(wave))
    assert np.isnan(band_energies(wave, RATE_HZ, [Band(0.0, 5_000.0)])).all()


def test_a_flat_recording_has_a_level_and_no_shape() -> None:
    assert rms(np.full(10, -2.0)) == 2.0
    assert peak(np.full(10, -2.0)) == 2.0
    assert crest_factor(np.full(10, -2.0)) == 1.0
    assert math.isnan(kurtosis(np.full(10, -2.0)))
    assert math.isnan(crest_factor(np.zeros(10)))


@pytest.mark.parametrize("shape", [(0,), (2, 3), ()])
@pytest.mark.parametrize("indicator", [rms, peak, crest_factor, kurtosis])
def test_what_is_not_a_waveform_is_refused(indicator: object, shape: tuple[int, ...]) -> None:
    assert callable(indicator)
    with pytest.raises(ValueError, match="one axis"):
        indicator(np.zeros(shape))


@pytest.mark.parametrize(("low_hz", "high_hz"), [(-1.0, 5.0), (5.0, 5.0), (9.0, 5.0)])
def test_an_impossible_band_is_refused(low_hz: float, high_hz: float) -> None:
    with pytest.raises(ValueError, match="upwards"):
        Band(low_hz, high_hz)


def test_a_band_above_half_the_sample_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="samples/s"):
        band_energies(sine(50.0, 1.0), RATE_HZ, [Band(0.0, 5_001.0)])
    with pytest.raises(ValueError, match="at least 2"):
        BandSpectrum(1, RATE_HZ, [])
