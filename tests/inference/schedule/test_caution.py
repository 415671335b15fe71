"""How far slow runs are reckoned with: learned from what was late."""

from __future__ import annotations

import random

import pytest

from edge_opcua.inference.schedule.caution import MOST, MOST_LATE, Caution


def test_a_slow_run_is_reckoned_with_until_enough_were_in_time() -> None:
    caution = Caution()
    assert caution.reckons(100, 300) == 300
    for _ in range(2_000):
        caution.note(late=False)
    assert caution.reckons(100, 300) == pytest.approx(200, abs=1)
    for _ in range(2_100):
        caution.note(late=False)
    assert caution.reckons(100, 300) == 100


def test_two_late_answers_bring_back_what_the_99th_percentile_asks_for() -> None:
    caution = Caution()
    for _ in range(5_000):
        caution.note(late=False)
    caution.note(late=True)
    caution.note(late=True)
    assert caution.reckons(100, 300) == pytest.approx(300, abs=1)


def test_caution_has_a_limit() -> None:
    caution = Caution()
    for _ in range(100):
        caution.note(late=True)
    assert caution.share == MOST


def test_in_the_long_run_one_answer_in_two_thousand_is_late() -> None:
    # An answer is late if its run takes longer than was reckoned with; runs vary without a bound.
    rng, caution = random.Random(1), Caution()
    late = 0
    for _ in range(100_000):
        is_late = rng.expovariate(1) > 3 + 4 * caution.share
        late += is_late
        caution.note(late=is_late)
    assert late / 100_000 == pytest.approx(MOST_LATE, rel=0.2)
