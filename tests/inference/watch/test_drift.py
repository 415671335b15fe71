"""Drift: no more false alarms than were accepted, and how soon what is wrong is found."""

from __future__ import annotations

import numpy as np
import pytest

from edge_opcua.inference.watch.drift import DriftWatch
from edge_opcua.inference.watch.limits import page_limit, psi_limit, psi_of, window_share
from edge_opcua.inference.watch.profile import make_profile
from tests.inference.watch.healthy import PER_MONTH, Plant, false_alarms, watch

FOUND_BY = 400
"""Results after which a change must be found in these tests; docs/explanation/watching.md has the figures."""


def changed(which: int, *, mean: float = 0.0, spread: float = 1.0, still: bool = False, seed: int = 1) -> int:
    """Return after how many results drift is found in a column that changes, -1 for never."""
    plant, random = Plant(), np.random.default_rng(seed)
    watched = watch(plant.profile(random, 2_000))
    for score, confidence, features in plant.results(random, 1_000):
        watched.take(score, confidence, features)
    assert not watched.findings()
    for at, (score, confidence, features) in enumerate(plant.results(random, FOUND_BY), 1):
        features[which] = 41.0 if still else 40 + (features[which] - 40) * spread + 3 * mean
        watched.take(score, confidence, features)
        if any(finding.kind == "drift" for finding in watched.findings()):
            return at
    return -1


def test_a_shift_of_the_mean_is_found() -> None:
    assert 0 < changed(2, mean=1.0) < 120
    assert 0 < changed(2, mean=-2.0) < 30


def test_more_and_less_variance_is_found() -> None:
    assert 0 < changed(3, spread=2.0) < 120
    assert 0 < changed(3, spread=0.3) < 120


def test_a_value_that_stands_still_is_found_although_it_is_a_usual_one() -> None:
    # Two full windows; that it is stuck is said sooner, by the quality of the inputs.
    assert 0 < changed(4, still=True) <= 300


def test_what_drifts_is_named_with_its_value_and_unit() -> None:
    plant, random = Plant(), np.random.default_rng(2)
    watched = watch(plant.profile(random, 2_000))
    for score, confidence, features in plant.results(random, 200):
        features[5] += 9
        watched.take(score, confidence, features)
    (finding,) = watched.findings()
    assert finding.kind == "drift"
    assert finding.text.startswith("f5 is above what was trained (now 4")
    assert "mm/s" in finding.text
    assert watched.worst[1] == "f5"


def test_lower_confidence_is_found_and_a_limit_of_the_configuration_goes_before_the_profile() -> None:
    plant, random = Plant(), np.random.default_rng(3)
    profile = plant.profile(random, 2_000)
    learned = watch(profile)
    given = DriftWatch(profile, window=100, accepted=1.0, confidence_low=0.5)
    given.set_pace(PER_MONTH)
    for score, _, features in plant.results(random, 300):
        learned.take(score, 0.9, features)
        given.take(score, 0.9, features)
    assert [finding.kind for finding in learned.findings()] == ["confidence"]
    assert given.findings() == []


def test_an_alarm_ends_when_what_was_wrong_is_over_and_not_before() -> None:
    plant, random = Plant(), np.random.default_rng(4)
    watched = watch(plant.profile(random, 2_000))
    results = plant.results(random, 2_000)
    for score, confidence, features in (next(results) for _ in range(300)):
        watched.take(score, confidence, [value + 6 for value in features])
    assert watched.findings()
    for _ in range(20):
        watched.take(*next(results))
    assert watched.findings(), "a few good results prove nothing"
    for _ in range(500):
        watched.take(*next(results))
    assert watched.findings() == []


def test_no_more_false_alarms_than_were_accepted() -> None:
    # 10 a month are accepted, so that two months show something: 20 of a Poisson distribution, at most 30.
    found = false_alarms(Plant(), samples=2_000, months=1, accepted=10.0, seed=0)
    found += false_alarms(Plant(0.9), samples=5_000, months=1, accepted=10.0, seed=1)
    assert found <= 30


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("memory", [0.0, 0.9])
@pytest.mark.parametrize("samples", [500, 2_000])
def test_no_more_false_alarms_than_were_accepted_in_three_years(memory: float, samples: int) -> None:
    found = sum(
        false_alarms(Plant(memory), samples=samples, months=3, accepted=2.0, seed=seed) for seed in range(12)
    )
    assert found <= 72 + 3 * 72**0.5


def test_a_column_of_which_the_profile_knows_too_little_is_said_to_be_unknown() -> None:
    random = np.random.default_rng(5)
    slow = np.cumsum(random.normal(size=300)) / 10
    profile = make_profile(
        np.column_stack([slow, random.normal(size=300)]),
        names=("oil_temp", "rms"),
        units=("°C", "mm/s"),
        scores=random.normal(size=300),
    )
    watched = DriftWatch(profile, window=100, accepted=1.0)
    assert watched.unknown == ["oil_temp"]


def test_a_set_point_with_few_values_raises_no_alarm_until_their_shares_change() -> None:
    random = np.random.default_rng(6)

    def rows(count: int, share: float) -> np.ndarray:
        return np.where(random.random(count) < share, 18.0, 24.0)

    profile = make_profile(
        rows(2_000, 0.8)[:, None], names=("rate",), units=("1/min",), scores=random.normal(size=2_000)
    )
    watched = watch(profile)
    for value in rows(5_000, 0.8):
        watched.take(float(random.normal()), float("nan"), [float(value)])
    assert watched.findings() == []
    for value in rows(600, 0.2):
        watched.take(float(random.normal()), float("nan"), [float(value)])
    assert [finding.kind for finding in watched.findings()] == ["drift"]


def test_what_is_no_number_leaves_out_its_column_only() -> None:
    plant, random = Plant(), np.random.default_rng(7)
    watched = watch(plant.profile(random, 500))
    for _, _, features in plant.results(random, 200):
        features[0] = float("inf")
        watched.take(float("nan"), float("nan"), features)
    assert np.isnan(watched.score[0])
    assert watched.worst[1] not in {"", "f0"}


def test_fewer_accepted_alarms_mean_higher_limits() -> None:
    shares = np.full(10, 0.1)
    often, seldom = window_share(10, 8_000), window_share(0.1, 8_000)
    assert seldom < often
    assert psi_limit(seldom, 100, shares, 2_000) > psi_limit(often, 100, shares, 2_000)
    assert page_limit(0.1, 1e5, slack=0.5, off=0.05) > page_limit(10, 1e5, slack=0.5, off=0.05)


def test_a_small_reference_leaves_more_room() -> None:
    shares = np.full(10, 0.1)
    assert psi_limit(1e-3, 100, shares, 100) > psi_limit(1e-3, 100, shares, 10_000)
    assert page_limit(1, 1e5, slack=0.5, off=0.3) > page_limit(1, 1e5, slack=0.5, off=0.01)


def test_page_limit_keeps_the_run_length_that_was_asked_for() -> None:
    # A cumulated sum of N(0, 1) less 0.5 reaches the limit once in 2 000 samples, within a tenth or two.
    limit = page_limit(1.0, 2_000, slack=0.5, off=0.0)
    random = np.random.default_rng(8)
    sums, reached, samples = np.zeros(400), 0, 10_000
    for steps in random.normal(size=(samples, 400)):
        sums = np.maximum(0, sums + steps - 0.5)
        reached += int((over := sums > limit).sum())
        sums[over] = 0
    assert 1_500 < samples * 400 / reached < 2_700


def test_psi_is_zero_for_the_reference_itself_and_large_for_another_distribution() -> None:
    shares = np.full(10, 0.1)
    assert float(psi_of(np.full(10, 10), shares)) == pytest.approx(0)
    assert float(psi_of(np.array([100, *[0] * 9]), shares)) > 2
