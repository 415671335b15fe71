"""Ranges: all that was seen, or less where that costs less; never what is no number."""

from __future__ import annotations

import numpy as np
import pytest

from edge_opcua.compress.quantise.ranges import BINS, Spread, observe, ranges
from edge_opcua.compress.quantise.recipe import Method
from edge_opcua.compress.quantise.static import METHODS
from edge_opcua.errors import ModelError
from tests.compress.models import autoencoder, conv_net, pictures, run, signals


def spread_of(values: np.ndarray) -> Spread:
    low, high = float(values.min()), float(values.max())
    return Spread(low, high, np.histogram(values, BINS, range=(low, high))[0])


def test_the_widest_range_holds_what_every_sample_leads_to() -> None:
    rows = pictures(77, 3).rows  # not a multiple of any batch
    rows[76] *= 5.0
    found = ranges(observe(conv_net(), ["x", "relu2"], rows), "minmax")
    inside = run(conv_net(), rows, "relu2")
    assert found["x"] == (rows.min(), rows.max())
    assert found["relu2"] == pytest.approx((inside.min(), inside.max()), rel=1e-5)


def test_a_model_of_one_sample_at_a_time_is_calibrated_like_any_other() -> None:
    rows = signals(50, 4).rows
    one, many = (observe(autoencoder(batch=batch), ["x", "act1"], rows) for batch in (1, "n"))
    for name in ("x", "act1"):
        assert ranges(one, "percentile")[name] == pytest.approx(ranges(many, "percentile")[name], rel=1e-4)


def test_a_percentile_leaves_out_what_is_far_off_and_rare() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 100_000)
    values[7] = 80.0
    low, high = spread_of(values).range_by("percentile")
    assert -5.0 < low < -3.0
    assert 3.0 < high < 5.0


def test_a_percentile_of_few_values_leaves_nothing_out() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 500)
    low, high = spread_of(values).range_by("percentile")
    assert (low, high) == pytest.approx((values.min(), values.max()), abs=0.01)


def test_entropy_cuts_a_long_tail_and_leaves_an_even_distribution_whole() -> None:
    random = np.random.default_rng(2)
    tail = np.append(np.abs(random.normal(0.0, 1.0, 200_000)), random.uniform(20.0, 60.0, 20))
    low, high = spread_of(tail).range_by("entropy")
    assert low == pytest.approx(0.0, abs=0.01)
    assert 3.0 < high < 20.0
    even = random.uniform(-1.0, 1.0, 200_000)
    assert spread_of(even).range_by("entropy") == pytest.approx((even.min(), even.max()), abs=0.02)


def test_entropy_is_not_led_astray_by_the_zeros_of_a_relu() -> None:
    values = np.maximum(np.random.default_rng(3).normal(-1.0, 1.0, 300_000), 0.0)
    low, high = spread_of(values).range_by("entropy")
    assert low == 0.0
    assert high > np.quantile(values, 0.999)


@pytest.mark.parametrize("method", METHODS)
def test_no_range_is_wider_than_what_was_seen_nor_empty(method: Method) -> None:
    random = np.random.default_rng(4)
    for values in (random.normal(300.0, 2.0, 4_000), random.normal(-7.0, 0.1, 4_000), random.normal(size=40)):
        spread = spread_of(values)
        low, high = spread.range_by(method)
        assert spread.low <= low < high <= spread.high


def test_what_never_changes_has_a_range_of_one_value() -> None:
    rows = np.full((10, 32), 2.0, np.float32)
    spreads = observe(autoencoder(), ["x"], rows)
    for method in METHODS:
        assert ranges(spreads, method)["x"] == (2.0, 2.0)


def test_samples_that_lead_to_no_number_are_refused_with_the_place() -> None:
    rows = signals(40, 5).rows
    rows[33, 2] = np.nan
    with pytest.raises(ModelError, match='"x" has values that are no numbers') as caught:
        observe(autoencoder(), ["x", "act1"], rows)
    assert caught.value.code == "M680"


def test_no_samples_are_refused() -> None:
    with pytest.raises(ModelError, match="no samples") as caught:
        observe(autoencoder(), ["x"], signals(40, 5).rows[:0])
    assert caught.value.code == "M680"
