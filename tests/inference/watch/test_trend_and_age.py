"""Where a score is heading, and how old a model is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_opcua.inference.watch.age import AgeTerms, age_of
from edge_opcua.inference.watch.trend import TrendWatch

DAY_NS = 86_400 * 10**9
HOUR_NS = 3_600 * 10**9


def wear(
    per_hour: float, *, hours: float, noise: float = 0.05, seed: int = 1, start: float = 0.4
) -> TrendWatch:
    """Return the watch of a score that rises, every 10 s."""
    random = np.random.default_rng(seed)
    watched = TrendWatch(1.0, 12)
    for at in range(round(hours * 360)):
        score = start + per_hour * at / 360 + random.normal(0, noise)
        watched.take(score, DAY_NS + at * 10 * 10**9)
    return watched


def test_the_time_to_the_limit_is_told_with_its_uncertainty() -> None:
    watched = wear(0.05, hours=6)
    # At 0.7 after 6 h, 0.05 an hour: 6 h more.
    assert watched.now.low_hours < 6.0 < watched.now.high_hours
    assert watched.now.hours == pytest.approx(6.0, rel=0.15)
    finding = watched.finding()
    assert finding is not None
    assert finding.text.startswith("the score reaches the limit in about 6 h (")
    assert finding.text.endswith(" at this rate")


def test_what_has_been_seen_for_half_an_hour_is_not_drawn_out_over_a_day() -> None:
    warming = wear(0.05, hours=0.5, noise=0.001)
    assert warming.now.hours == pytest.approx(11.5, rel=0.15)  # told, at this rate
    assert warming.finding() is None


def test_the_truth_lies_within_the_bounds_nearly_always() -> None:
    inside = 0
    for seed in range(40):
        now = wear(0.05, hours=4, noise=0.1, seed=seed).now
        inside += now.is_heading_there and now.low_hours <= 8.0 <= now.high_hours
    assert inside >= 34


def test_a_score_that_stays_where_it_is_heads_nowhere() -> None:
    heading = sum(wear(0.0, hours=8, seed=seed).finding() is not None for seed in range(40))
    assert heading == 0


def test_slow_wander_is_not_taken_for_a_trend() -> None:
    # An AR(1) process: what follows each other is alike, and no straight line.
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        watched, level = TrendWatch(1.0, 12), 0.0
        for at in range(3_000):
            level = 0.99 * level + random.normal(0, 0.01)
            watched.take(0.4 + level, DAY_NS + at * 10 * 10**9)
        found += watched.finding() is not None
    assert found <= 1


def test_a_falling_score_and_one_over_its_limit_head_nowhere() -> None:
    assert not wear(-0.05, hours=4).now.is_heading_there
    assert not wear(0.05, hours=4, start=1.2).now.is_heading_there


def test_a_change_of_direction_is_found_after_weeks_without_one() -> None:
    random, watched = np.random.default_rng(3), TrendWatch(1.0, 12)
    for at in range(60_000):
        rise = max(0, at - 56_000) / 360 * 0.03
        watched.take(0.4 + rise + random.normal(0, 0.05), DAY_NS + at * 10 * 10**9)
    assert watched.now.is_heading_there
    assert watched.now.low_hours < (0.6 - 4_000 / 360 * 0.03) / 0.03 < watched.now.high_hours


def test_what_is_no_number_is_left_out() -> None:
    watched = TrendWatch(1.0, 2)
    for at in range(100):
        watched.take(math.nan, at * HOUR_NS)
    assert not watched.now.is_heading_there
    assert watched.now.text() == ""


def test_the_age_of_a_model_is_fresh_old_or_unknown() -> None:
    terms = AgeTerms(trained_ns=0, max_days=90, then="degrade")
    assert age_of(terms, 30 * DAY_NS).state == "fresh"
    old = age_of(terms, 120 * DAY_NS)
    assert (old.state, old.effect, old.days) == ("old", "degrade", 120.0)
    assert old.reason == "trained 120 days ago, 90 are allowed"
    assert age_of(AgeTerms(None), 0).state == "unknown"


def test_a_clock_before_the_training_makes_no_model_old() -> None:
    # A box without a battery starts in 1970: nothing is known then, and no verdict is taken away.
    age = age_of(AgeTerms(trained_ns=400 * DAY_NS, max_days=10, then="fail_safe"), 0)
    assert (age.state, age.effect) == ("unknown", None)
    assert "clock" in age.reason
