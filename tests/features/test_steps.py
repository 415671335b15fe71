"""Each declared step against its definition, on signals of which the answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_opcua.features.chain import Chain, fit_steps
from edge_opcua.features.flow import Source
from edge_opcua.features.stroke import BANDS, Feature, StrokeFeatures
from edge_opcua.features.vibration import crest_factor, kurtosis, peak, rms

RATE_HZ = 10_000.0
ROWS = 2_000
Steps = list[dict[str, Any]]
Floats = npt.NDArray[np.float64]
CAPTURE = Source((Feature("", "m/s²"),), ROWS, RATE_HZ, (Feature("die_temp", "°C"), Feature("recipe", "1")))
TAGS = Source((Feature("level", "m"), Feature("flow", "l/s"), Feature("valve", "%")), 20, 2.0)

levels = arrays(
    np.float32,
    (20, 3),
    elements=st.floats(-1e4, 1e4, width=32).map(lambda value: 0.0 if abs(value) < 1e-3 else value),
)


def features_of(source: Source, steps: Steps, samples: Any, context: Any = ()) -> dict[str, float]:
    """Return the features of one window by name."""
    chain = Chain(source, steps)
    given = np.asarray(samples, np.float32).reshape(-1)
    context = context if len(context) else np.zeros(len(source.context))
    row = chain.extract(given, source.sample_rate_hz, context)
    return dict(zip(chain.names, row.tolist(), strict=True))


def samples_of(source: Source, steps: Steps, samples: Any) -> Floats:
    """Return what steps leave of the samples, shape ``(channels, rows)``."""
    channels = len(Chain(source, [*steps, {"step": "statistics", "measures": ["last"]}]).names)
    found = features_of(source, [*steps, {"step": "flatten", "order": "channel"}], samples)
    return np.array(list(found.values())).reshape(channels, -1)


def wave(frequency_hz: float, amplitude: float = 1.0, rows: int = ROWS) -> Floats:
    result: Floats = amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(rows) / RATE_HZ)
    return result


def test_declared_steps_give_the_features_of_a_stroke() -> None:
    # The same definitions, once written for the press and once declared.
    edges = [BANDS[0].low_hz, *(band.high_hz for band in BANDS)]
    steps: Steps = [
        {"step": "statistics", "measures": ["rms", "peak", "crest_factor", "kurtosis"]},
        {"step": "fft_bands", "edges_hz": edges},
        {"step": "context"},
    ]
    stroke = StrokeFeatures(sample_count=ROWS, sample_rate_hz=RATE_HZ, context=CAPTURE.context)
    chain = Chain(CAPTURE, steps)
    waveform = np.random.default_rng(5).normal(size=ROWS).astype(np.float32)

    row = chain.extract(waveform, RATE_HZ, (41.5, 4711.0))

    assert chain.names == stroke.names
    assert chain.units == stroke.units
    np.testing.assert_allclose(row, stroke.extract(waveform, RATE_HZ, (41.5, 4711.0)), rtol=1e-6)


@given(levels)
def test_statistics_are_those_of_each_channel(samples: npt.NDArray[np.float32]) -> None:
    measures = ["mean", "std", "min", "max", "median", "first", "last", "rms", "peak", "peak_to_peak"]
    found = features_of(TAGS, [{"step": "statistics", "measures": measures}], samples)
    exact = samples.astype(np.float64)
    wanted = {
        "mean": exact.mean(axis=0),
        "std": exact.std(axis=0),
        "min": exact.min(axis=0),
        "max": exact.max(axis=0),
        "median": np.median(exact, axis=0),
        "first": exact[0],
        "last": exact[-1],
        "rms": [rms(column) for column in exact.T],
        "peak": [peak(column) for column in exact.T],
        "peak_to_peak": np.ptp(exact, axis=0),
    }
    for name, values in wanted.items():
        got = [found[f"{channel.name}.{name}"] for channel in TAGS.channels]
        np.testing.assert_allclose(got, values, rtol=1e-5, atol=1e-6 * np.abs(exact).max())


@given(levels)
def test_shape_of_a_signal_is_that_of_the_definitions(samples: npt.NDArray[np.float32]) -> None:
    found = features_of(TAGS, [{"step": "statistics", "measures": ["crest_factor", "kurtosis"]}], samples)
    for number, channel in enumerate(TAGS.channels):
        column = samples[:, number].astype(np.float64)
        wanted = (crest_factor(column), kurtosis(column))
        got = (found[f"{channel.name}.crest_factor"], found[f"{channel.name}.kurtosis"])
        np.testing.assert_allclose(got, wanted, rtol=1e-4)  # NaN where it does not exist, in both


def test_a_slope_is_per_second_and_skewness_has_a_sign() -> None:
    time = np.arange(20) / 2.0
    samples = np.column_stack([3.0 * time + 1.0, -time, np.r_[np.zeros(19), 1.0]])
    found = features_of(TAGS, [{"step": "statistics", "measures": ["slope", "skewness"]}], samples)
    assert found["level.slope"] == pytest.approx(3.0, rel=1e-5)
    assert found["flow.slope"] == pytest.approx(-1.0, rel=1e-5)
    assert found["valve.skewness"] == pytest.approx(18 / math.sqrt(19), rel=1e-5)  # Bernoulli, p = 1/20
    assert Chain(TAGS, [{"step": "statistics", "measures": ["slope"]}]).units[0] == "m/s"


def test_a_window_keeps_the_rows_it_names() -> None:
    samples = np.arange(60.0).reshape(20, 3)
    np.testing.assert_array_equal(samples_of(TAGS, [{"step": "window", "last": 2}], samples), samples[18:].T)
    middle = samples_of(TAGS, [{"step": "window", "first": 5, "rows": 3}], samples)
    np.testing.assert_array_equal(middle, samples[5:8].T)
    np.testing.assert_array_equal(
        samples_of(TAGS, [{"step": "window", "first": 18}], samples), samples[18:].T
    )


def test_a_taper_ends_softly_and_keeps_the_power_of_noise() -> None:
    noise = np.random.default_rng(2).normal(size=ROWS)
    kept = samples_of(CAPTURE, [{"step": "window", "taper": "hann"}], noise)[0]
    assert np.sqrt(np.mean(kept**2)) == pytest.approx(1.0, abs=0.05)
    assert abs(kept[0]) < 1e-4 * abs(kept).max()


def test_a_taper_keeps_a_tone_between_two_lines_in_its_band() -> None:
    # Without it, a tone of 402.5 Hz (lines are 5 Hz apart) leaks far beyond 500 Hz.
    bands = {"step": "fft_bands", "edges_hz": [500, 5_000]}
    plain = features_of(CAPTURE, [bands], wave(402.5))["band_500_5000_hz"]
    tapered = features_of(CAPTURE, [{"step": "window", "taper": "hann"}, bands], wave(402.5))
    assert tapered["band_500_5000_hz"] < plain / 100


@pytest.mark.parametrize("method", ["linear", "mean", "fourier"])
def test_resampling_keeps_a_slow_signal(method: str) -> None:
    slow = wave(10.0) + 2.0
    kept = samples_of(CAPTURE, [{"step": "resample", "rows": 500, "method": method}], slow)[0]
    shift = 1.5 if method == "mean" else 0.0  # the mean of four rows stands for their middle
    at = (np.arange(500) * 4 + shift) / RATE_HZ
    np.testing.assert_allclose(kept, np.sin(2 * np.pi * 10.0 * at) + 2.0, atol=1e-3)


@pytest.mark.parametrize("rows", [500, 501, 3_000, 2_000])
def test_fourier_resampling_is_exact_below_half_of_both_rates(rows: int) -> None:
    signal = wave(100.0) + 0.5 * np.cos(2 * np.pi * 55.0 * np.arange(ROWS) / RATE_HZ)
    kept = samples_of(CAPTURE, [{"step": "resample", "rows": rows, "method": "fourier"}], signal)[0]
    time = np.arange(rows) / rows * ROWS / RATE_HZ
    wanted = np.sin(2 * np.pi * 100.0 * time) + 0.5 * np.cos(2 * np.pi * 55.0 * time)
    np.testing.assert_allclose(kept, wanted, atol=1e-5)


def test_fourier_resampling_lets_nothing_through_above_half_the_new_rate() -> None:
    # Linear would fold 3 kHz down to 500 Hz.
    steps: Steps = [{"step": "resample", "rate_hz": 2_500, "method": "fourier"}]
    np.testing.assert_allclose(samples_of(CAPTURE, steps, wave(3_000.0)), 0.0, atol=1e-6)


def test_up_and_down_again_is_the_same_signal_also_at_half_the_rate() -> None:
    # The line at half of the rate stands alone in one spectrum and for two in the other.
    noise = np.random.default_rng(3).normal(size=ROWS)
    there_and_back: Steps = [
        {"step": "resample", "rows": rows, "method": "fourier"} for rows in (4_000, ROWS)
    ]
    np.testing.assert_allclose(samples_of(CAPTURE, there_and_back, noise)[0], noise, atol=1e-5)


def test_what_was_resampled_has_another_rate() -> None:
    steps: Steps = [
        {"step": "resample", "rate_hz": 5_000},
        {"step": "fft_bands", "edges_hz": [50, 150, 2_500]},
    ]
    found = features_of(CAPTURE, steps, wave(100.0))
    assert found["band_50_150_hz"] == pytest.approx(math.sqrt(0.5), rel=1e-3)


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_detrending_takes_away_mean_and_line(offset: float, slope: float) -> None:
    ripple = np.tile([1.0, -1.0, -1.0, 1.0], 5)  # neither a mean nor a slope
    line = offset + slope * np.arange(20)
    samples = np.column_stack([ripple + line, np.full(20, offset), ripple])
    found = samples_of(TAGS, [{"step": "detrend", "kind": "linear"}], samples)
    np.testing.assert_allclose(found, [ripple, np.zeros(20), ripple], atol=1e-3)
    constant = samples_of(TAGS, [{"step": "detrend"}], samples)
    np.testing.assert_allclose(constant.mean(axis=1), 0.0, atol=1e-3)


def test_differences_of_samples_and_of_features() -> None:
    samples = np.column_stack([np.arange(20) ** 2, np.arange(20), np.zeros(20)])
    np.testing.assert_allclose(samples_of(TAGS, [{"step": "difference"}], samples)[0], 2 * np.arange(19) + 1)
    per_second = samples_of(TAGS, [{"step": "difference", "per_second": True}], samples)
    np.testing.assert_allclose(per_second[1], 2.0)
    steps: Steps = [
        {"step": "statistics", "measures": ["max", "min"]},
        {"step": "difference", "feature": "level.max", "minus": "level.min", "result": "swing"},
    ]
    assert features_of(TAGS, steps, samples)["swing"] == 361.0
    assert Chain(TAGS, steps).units[-1] == "m"


def test_the_envelope_shows_how_often_a_resonance_is_hit() -> None:
    # 2 kHz, its amplitude swinging by half, 60 times a second: the spectrum has nothing at 60 Hz.
    time = np.arange(ROWS) / RATE_HZ
    ringing = (1.0 + 0.5 * np.sin(2 * np.pi * 60.0 * time)) * np.sin(2 * np.pi * 2_000.0 * time)
    steps: Steps = [
        {"step": "fft_bands", "bands_hz": [[50, 70]]},
        {"step": "envelope_spectrum", "carrier_hz": [1_500, 2_500], "bands_hz": [[50, 70], [70, 500]]},
    ]
    found = features_of(CAPTURE, steps, ringing)
    assert found["band_50_70_hz"] < 1e-6
    assert found["envelope_band_50_70_hz"] == pytest.approx(0.5 / math.sqrt(2.0), rel=1e-3)
    assert found["envelope_band_70_500_hz"] < 1e-3


def test_measures_can_go_back_to_the_signal_as_it_came() -> None:
    mean = {"step": "statistics", "measures": ["mean"]}
    steps: Steps = [{"step": "detrend"}, mean, {"step": "signal"}, {**mean, "prefix": "raw_"}]
    found = features_of(CAPTURE, steps, np.full(ROWS, 7.0))
    assert found == {"mean": 0.0, "raw_mean": 7.0}


def test_logarithm_and_limits_touch_only_what_they_name() -> None:
    steps: Steps = [
        {"step": "statistics", "measures": ["last"]},
        {"step": "log", "features": ["level.last"], "smallest": 0.5},
        {"step": "clip", "features": ["flow.last"], "low": [-1.0], "high": [1.0]},
    ]
    low, high = np.full((20, 3), -9.0), np.full((20, 3), 9.0)
    assert list(features_of(TAGS, steps, low).values()) == pytest.approx([math.log(0.5), -1.0, -9.0])
    assert list(features_of(TAGS, steps, high).values()) == pytest.approx([math.log(9.0), 1.0, 9.0])
    assert Chain(TAGS, steps).units == ("ln(m)", "l/s", "%")


def test_elementwise_steps_work_on_channels_too() -> None:
    samples = np.column_stack([np.full(20, math.e), np.full(20, 4.0), np.full(20, 50.0)])
    steps: Steps = [
        {"step": "select", "on": "signal", "channels": ["flow", "level"]},
        {"step": "log", "on": "signal", "channels": ["level"]},
        {"step": "normalise", "on": "signal", "channels": ["flow"], "mean": [2.0], "scale": [4.0]},
        {"step": "clip", "on": "signal", "high": [0.75]},
    ]
    wanted = np.repeat([[0.5], [0.75]], 20, axis=1)
    np.testing.assert_allclose(samples_of(TAGS, steps, samples), wanted, rtol=1e-6)


def test_selecting_keeps_the_order_in_which_features_are_named() -> None:
    flat = [{"step": "statistics", "measures": ["last"]}]
    samples = np.tile([1.0, 2.0, 3.0], (20, 1))
    kept = features_of(TAGS, [*flat, {"step": "select", "features": ["valve.last", "level.last"]}], samples)
    assert kept == {"valve.last": 3.0, "level.last": 1.0}
    left = features_of(TAGS, [*flat, {"step": "select", "drop": ["flow.last"]}], samples)
    assert left == {"level.last": 1.0, "valve.last": 3.0}


def test_samples_lie_as_a_model_wants_them() -> None:
    # (1, rows, channels) for a transformer, (1, channels, rows) for a convolution.
    samples = np.arange(60.0).reshape(20, 3)
    chain = Chain(TAGS)
    assert chain.feature_set == "tags/1"
    assert chain.names[:4] == ("level.t-19", "flow.t-19", "valve.t-19", "level.t-18")
    row = chain.extract(samples.astype(np.float32).reshape(-1), 2.0, ())
    np.testing.assert_array_equal(row.reshape(20, 3), samples)
    found = features_of(TAGS, [{"step": "flatten", "order": "channel", "prefix": "x_"}], samples)
    np.testing.assert_array_equal(np.reshape(list(found.values()), (3, 20)), samples.T)
    assert next(iter(found)) == "x_level.t-19"


def test_one_row_of_tags_is_the_tags() -> None:
    assert Chain(Source(TAGS.channels, 1, 0.0)).names == ("level", "flow", "valve")


def test_context_comes_as_it_is_or_in_another_order() -> None:
    assert features_of(CAPTURE, [{"step": "context", "tags": ["recipe"]}], wave(1.0), (20.0, 3.0)) == {
        "recipe": 3.0
    }


RECIPES = [(np.ones(ROWS, np.float32), (20.0 + number, 4711.0 + number % 3)) for number in range(9)]


def test_a_name_becomes_a_feature_for_each_value_that_was_seen() -> None:
    steps: Steps = [{"step": "context"}, {"step": "one_hot", "feature": "recipe"}]
    fitted = list(fit_steps(CAPTURE, steps, RECIPES))
    assert fitted[1] == {
        "step": "one_hot",
        "feature": "recipe",
        "categories": [4711.0, 4712.0, 4713.0],
        "unknown": "refuse",
    }
    found = features_of(CAPTURE, fitted, wave(1.0), (25.0, 4712.0))
    assert found == {"die_temp": 25.0, "recipe.4711": 0.0, "recipe.4712": 1.0, "recipe.4713": 0.0}


def test_a_value_nobody_has_seen_gives_no_verdict_unless_it_may() -> None:
    steps: Steps = [{"step": "context"}, {"step": "one_hot", "feature": "recipe", "categories": [1, 2]}]
    assert math.isnan(features_of(CAPTURE, steps, wave(1.0), (25.0, 3.0))["recipe.1"])
    steps[1]["unknown"] = "zeros"
    found = features_of(CAPTURE, steps, wave(1.0), (25.0, 3.0))
    assert found == {"die_temp": 25.0, "recipe.1": 0.0, "recipe.2": 0.0}


def test_normalising_learns_mean_and_scale() -> None:
    fitted = list(fit_steps(CAPTURE, [{"step": "context"}, {"step": "normalise"}], RECIPES))
    chain = Chain(CAPTURE, fitted)
    rows = np.array([chain.extract(waveform, RATE_HZ, context) for waveform, context in RECIPES])
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(rows.std(axis=0), 1.0, rtol=1e-6)
    assert chain.units == ("1", "1")


def test_normalising_to_the_range_seen() -> None:
    steps: Steps = [{"step": "context"}, {"step": "normalise", "features": ["die_temp"], "method": "minmax"}]
    fitted = list(fit_steps(CAPTURE, steps, RECIPES))
    assert fitted[1]["low"] == [20.0]
    assert fitted[1]["high"] == [28.0]
    found = features_of(CAPTURE, fitted, wave(1.0), (22.0, 4711.0))
    assert found == {"die_temp": 0.25, "recipe": 4711.0}


@pytest.mark.parametrize("method", ["standard", "minmax"])
def test_what_never_changed_is_not_divided_by_zero(method: str) -> None:
    steps: Steps = [{"step": "statistics", "measures": ["mean"]}, {"step": "normalise", "method": method}]
    fitted = list(fit_steps(CAPTURE, steps, RECIPES))
    assert features_of(CAPTURE, fitted, np.full(ROWS, 1.5)) == {"mean": 0.5}


def test_channels_are_normalised_by_all_their_samples() -> None:
    samples = (
        np.random.default_rng(4).normal([1.0, 2.0, 3.0], [1.0, 5.0, 9.0], (50, 20, 3)).astype(np.float32)
    )
    windows = [(window.reshape(-1), ()) for window in samples]
    (fitted,) = fit_steps(TAGS, [{"step": "normalise", "on": "signal"}], windows)
    np.testing.assert_allclose(fitted["mean"], samples.reshape(-1, 3).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fitted["scale"], samples.reshape(-1, 3).std(axis=0), rtol=1e-5)


def test_limits_can_be_learned_as_quantiles() -> None:
    steps: Steps = [{"step": "context"}, {"step": "clip", "features": ["die_temp"], "quantiles": [0.0, 0.5]}]
    fitted = list(fit_steps(CAPTURE, steps, RECIPES))
    assert (fitted[1]["low"], fitted[1]["high"]) == ([20.0], [24.0])
    assert features_of(CAPTURE, fitted, wave(1.0), (90.0, 1.0))["die_temp"] == 24.0
