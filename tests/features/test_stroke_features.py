"""The feature vector of a stroke: one arithmetic for training and serving, and honest NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.features.stroke import BANDS, Feature, StrokeFeatures
from edge_opcua.features.vibration import band_energies, crest_factor, kurtosis, peak, rms
from edge_opcua.sim.physics import PressPhysics

RATE_HZ = 10_000.0
CONTEXT = (Feature("tonnage", "kN"), Feature("die_temp", "°C"))


def features(*, count: int = 2_000, context: tuple[Feature, ...] = CONTEXT) -> StrokeFeatures:
    return StrokeFeatures(sample_count=count, sample_rate_hz=RATE_HZ, context=context)


def test_names_and_units_are_in_the_order_of_the_vector() -> None:
    spec = features()
    assert spec.names == (
        "rms",
        "peak",
        "crest_factor",
        "kurtosis",
        "band_0_100_hz",
        "band_100_200_hz",
        "band_200_400_hz",
        "band_400_800_hz",
        "band_800_1600_hz",
        "band_1600_5000_hz",
        "tonnage",
        "die_temp",
    )
    assert spec.units == ("m/s²", "m/s²", "1", "1", *["m/s²"] * 6, "kN", "°C")


@settings(max_examples=25)
@given(st.integers(0, 2_000), st.floats(0.0, 1.0))
def test_the_vector_holds_what_the_single_functions_say(index: int, wear: float) -> None:
    wave = PressPhysics(7).stroke(index, wear=wear).waveform
    vector = features().extract(wave, RATE_HZ, (800.0, 45.0))
    expected = [rms(wave), peak(wave), crest_factor(wave), kurtosis(wave)]
    expected += np.sqrt(band_energies(wave, RATE_HZ, BANDS)).tolist()
    np.testing.assert_allclose(vector, [*expected, 800.0, 45.0], rtol=1e-6)


def test_the_vector_goes_where_the_model_wants_it() -> None:
    bound = np.zeros(12, np.float32)
    wave = PressPhysics(7).stroke(3, wear=0.0).waveform
    assert features().extract(wave, RATE_HZ, (1.0, 2.0), bound) is bound
    np.testing.assert_array_equal(bound, features().extract(wave, RATE_HZ, np.array([1.0, 2.0])))


def test_buffers_of_the_last_stroke_do_not_leak_into_the_next() -> None:
    spec = features()
    quiet, loud = PressPhysics(7).stroke(3, wear=0.0).waveform, PressPhysics(8).stroke(9, wear=1.0).waveform
    first = spec.extract(quiet, RATE_HZ, (1.0, 2.0))
    spec.extract(loud, RATE_HZ, (1.0, 2.0))
    np.testing.assert_array_equal(spec.extract(quiet, RATE_HZ, (1.0, 2.0)), first)


def test_a_broken_sample_makes_the_waveforms_own_features_nan_and_keeps_the_context() -> None:
    wave = PressPhysics(7).stroke(3, wear=0.0).waveform
    wave[100] = np.nan
    vector = features().extract(wave, RATE_HZ, (800.0, math.nan))
    assert np.isnan(vector[:10]).all()
    assert vector[10] == 800.0
    assert math.isnan(vector[11])


def test_a_dead_sensor_has_no_shape() -> None:
    flat = features(context=()).extract(np.full(2_000, 4.0, np.float32), RATE_HZ, ())
    assert flat[:3].tolist() == [4.0, 4.0, 1.0]
    assert math.isnan(flat[3])
    silent = features(context=()).extract(np.zeros(2_000, np.float32), RATE_HZ, ())
    assert np.isnan(silent[2:4]).all()


def test_what_does_not_fit_the_configuration_is_refused() -> None:
    spec, wave = features(), np.zeros(2_000, np.float32)
    with pytest.raises(ValueError, match="2000 samples"):
        spec.extract(wave[:-1], RATE_HZ, (1.0, 2.0))
    with pytest.raises(ValueError, match=r"10000\.0 Hz"):
        spec.extract(wave, 9_999.0, (1.0, 2.0))
    with pytest.raises(ValueError, match="2 context values"):
        spec.extract(wave, RATE_HZ, (1.0,))
