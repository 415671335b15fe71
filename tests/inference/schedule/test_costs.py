"""What runs cost: quantiles that forget, sizes that pay, heat."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.inference.schedule.arrivals import REMEMBERED, Arrivals
from edge_opcua.inference.schedule.costs import REVIEW, STALE, CostTable
from edge_opcua.inference.schedule.window import LENGTH, Window


def table(**curves: dict[int, int]) -> CostTable:
    costs = CostTable()
    for key, curve in curves.items():
        for batch, each in curve.items():
            costs.seed(key, batch, [each] * 10)
    return costs


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=400))
def test_the_quantiles_are_those_of_the_last_runs(samples: list[int]) -> None:
    window = Window()
    for sample in samples:
        window.add(sample)
    last = sorted(samples[-LENGTH:])
    assert window.p50 == last[(len(last) - 1) // 2]
    assert window.p99 == last[math.ceil(0.99 * len(last)) - 1]
    assert len(window) == len(last)


def test_a_model_that_became_slower_is_seen_within_64_runs() -> None:
    costs = table(m={1: 100})
    for _ in range(LENGTH):
        costs.add("m", 1, 100)
    for _ in range(64):
        costs.add("m", 1, 300)
    assert costs.cost_ns("m", 1) == 300
    costs.add("m", 1, 300)
    assert costs.typical_ns("m", 1) == 300


def test_an_outlier_does_not_count_once_there_are_enough_runs() -> None:
    costs = table(m={1: 100})
    for _ in range(LENGTH):
        costs.add("m", 1, 100)
    costs.add("m", 1, 100_000)
    assert costs.cost_ns("m", 1) == 100


def test_an_outlier_among_the_first_runs_is_forgotten() -> None:
    costs = CostTable()
    costs.seed("m", 1, [100, 100_000, 100])
    assert costs.cost_ns("m", 1) == 100_000
    for _ in range(LENGTH):
        costs.add("m", 1, 100)
    assert costs.cost_ns("m", 1) == 100


def test_sizes_between_two_measured_lie_on_the_line_through_them() -> None:
    costs = table(m={1: 100, 4: 160, 8: 200})
    assert [costs.cost_ns("m", batch) for batch in (2, 3, 6, 8)] == [120, 140, 180, 200]


def test_sizes_beyond_the_largest_go_on_as_the_last_two() -> None:
    assert table(m={1: 100, 4: 160, 8: 200}).cost_ns("m", 10) == 220
    assert table(m={1: 100}).cost_ns("m", 3) == 300


def test_a_size_that_was_not_measured_counts_after_some_runs_of_its_own() -> None:
    costs = table(m={1: 100, 4: 160})
    for run in range(8):
        assert costs.cost_ns("m", 3) == (140 if run < 8 else 160)
        costs.add("m", 3, 160)
    assert costs.cost_ns("m", 3) == 160


def test_nothing_is_known_of_a_model_that_was_never_measured() -> None:
    with pytest.raises(KeyError):
        CostTable().cost_ns("m", 1)
    with pytest.raises(ValueError, match="no measurement"):
        CostTable().seed("m", 1, [])


def test_batches_pay_where_a_sample_in_them_costs_less() -> None:
    # Measured on one core (µs): an MLP, an autoencoder, a 1-D convolution.
    costs = table(
        mlp={1: 5600, 2: 5700, 4: 5800, 8: 6000, 16: 6200, 32: 6400},
        autoencoder={1: 24800, 2: 30000, 4: 42000, 8: 64000, 16: 100000, 32: 170000},
        conv={1: 827_000, 2: 1_670_000, 4: 3_350_000, 8: 6_700_000},
    )
    assert costs.sizes("mlp") == (1, 2, 4, 8, 16, 32)
    assert costs.sizes("autoencoder") == (1, 2, 4, 8, 16, 32)
    assert costs.sizes("conv") == (1,)
    assert table(one={1: 100}).sizes("one") == (1,)


def test_a_batch_that_pays_no_more_is_given_up_and_tried_again_later() -> None:
    costs = table(m={1: 100, 8: 200})
    assert costs.sizes("m") == (1, 8)
    for _ in range(LENGTH):
        costs.add("m", 8, 900)
    assert costs.sizes("m") == (1,)
    # Now it never runs in batches, so nothing would be learned about them any more.
    for _ in range(STALE + 2 * REVIEW):
        costs.add("m", 1, 100)
    assert costs.sizes("m") == (1, 8)


def test_a_stale_size_is_as_much_slower_as_the_one_that_runs() -> None:
    costs = table(m={1: 100, 8: 200})
    for _ in range(STALE + 2 * REVIEW):
        costs.add("m", 1, 300)
    assert costs.cost_ns("m", 8) == 600


def test_a_slow_moment_makes_no_batch_pay_that_gains_nothing() -> None:
    costs = table(conv={1: 100, 2: 199, 4: 398, 8: 795})
    for _ in range(20):  # the machine is slow, and fast again, before the median has followed
        for took in (300, 100):
            for _ in range(50):
                costs.add("conv", 1, took)
                assert costs.sizes("conv") == (1,)


def test_heat_makes_everything_take_longer_and_is_not_counted_twice() -> None:
    costs = table(m={1: 100})
    costs.scale = 2.0
    assert costs.cost_ns("m", 1) == 200
    for _ in range(LENGTH):
        costs.add("m", 1, 200)
    assert costs.cost_ns("m", 1) == 200
    costs.scale = 0.5  # nothing runs faster than it was measured
    assert (costs.scale, costs.cost_ns("m", 1)) == (1.0, 100)


def test_the_version_grows_only_when_costs_have_moved() -> None:
    costs = table(m={1: 1600})
    before = costs.version
    for _ in range(200):
        costs.add("m", 1, 1650)
    assert costs.version == before
    costs.add("m", 1, 1800)
    costs.add("m", 1, 1800)
    assert costs.version == before + 1


def test_what_is_kept_comes_back() -> None:
    costs = CostTable()
    costs.seed("press/3", 1, [100] * 20 + [150])
    costs.seed("press/3", 8, [200] * 20 + [250])
    kept = json.loads(json.dumps(costs.as_json()))
    assert kept == {"press/3": {"1": [100, 150], "8": [200, 250]}}
    assert CostTable.from_json(kept).as_json() == kept


@pytest.mark.parametrize(
    "kept", [{"m": 3}, {"m": {"x": [1, 2]}}, {"m": {"1": [1]}}, {"m": {"0": [1, 2]}}, [1]]
)
def test_what_is_no_table_of_costs_is_refused(kept: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        CostTable.from_json(kept)  # type: ignore[arg-type]


def test_the_pace_of_arrivals_is_that_of_the_last_ones() -> None:
    arrivals = Arrivals()
    assert arrivals.gap_ns() is arrivals.period_ns(5) is arrivals.last_ns is None
    for now in range(0, 100 * 7, 7):
        arrivals.add(now)
    assert arrivals.gap_ns() == 7
    for now in range(1000, 1000 + REMEMBERED * 20, 20):
        arrivals.add(now)
    assert arrivals.gap_ns() == 20


def test_a_stream_that_stops_becomes_slower_and_slower() -> None:
    arrivals = Arrivals()
    for now in range(0, 100, 10):
        arrivals.add(now)
    assert [arrivals.period_ns(now) for now in (95, 190, 990)] == [10, 19, 99]
