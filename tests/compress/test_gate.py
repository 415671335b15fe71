"""The gate: an order that labels had no part in, levels that together are 5 %, and who is chosen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edge_opcua.compress.gate import FOR_THE_REPORT, Entrant, Place, choose, heard, level_after, order
from edge_opcua.compress.intervals.estimate import z_of
from edge_opcua.compress.intervals.tango import Turned, score
from edge_opcua.compress.task import Comparison
from edge_opcua.compress.tasks.decision import POINTS, Found, decide

PLAIN = Entrant("plain", 0.8, 0.001, 400, is_slower=False, is_better=True)


def entrant(name: str, ratio: float = 0.8, damage: float = 0.001, size: int = 400, **more: bool) -> Entrant:
    return replace(PLAIN, name=name, p50_ratio=ratio, damage=damage, size_bytes=size, **more)


def compared(worse: int, better: int, samples: int, level: float = FOR_THE_REPORT) -> Comparison:
    turned = Turned(worse, better, samples)
    found = Found("accuracy", POINTS, 0.9, 0.9 - turned.loss, "Tango", samples, turned, worse + better)
    return decide(found, allowed=None, level=level)


def test_the_levels_of_all_refusals_are_five_percent_together() -> None:
    assert level_after(0) == FOR_THE_REPORT == 0.025
    assert sum(level_after(refused) for refused in range(60)) == pytest.approx(0.05)
    assert level_after(400) > 0.0


def test_the_safest_is_held_against_the_original_first_and_time_and_size_break_ties() -> None:
    entrants = [
        entrant("slow", 0.95),
        entrant("damaged", 0.30, damage=0.02),
        entrant("large", 0.501, size=500),
        entrant("small", 0.499, size=300),
        entrant("safest", 0.99, damage=0.0),
    ]
    assert [place.name for place in order(entrants)] == ["safest", "small", "large", "slow", "damaged"]
    assert [place.number for place in order(entrants)] == [1, 2, 3, 4, 5]


def test_a_ruined_variant_takes_no_place_from_a_sound_one_however_fast_it_is() -> None:
    entrants = [entrant("ruined", 0.2, damage=0.3), entrant("nan", 0.1, damage=math.nan), entrant("sound")]
    assert [place.name for place in order(entrants)] == ["sound", "nan", "ruined"]


def test_what_cannot_be_chosen_takes_no_place_at_all() -> None:
    places = order(
        [entrant("slower", 0.7, is_slower=True), entrant("equal", is_better=False), entrant("c", 0.9)]
    )
    assert places[0] == Place("c", 1)
    assert set(places[1:]) == {Place("slower", 0), Place("equal", 0)}


def test_nothing_is_proved_without_a_place_in_the_order() -> None:
    good, bad = compared(0, 0, 4000), compared(200, 0, 4000)
    assert heard(Place("a", 3), good) == good
    assert heard(Place("a", 0), bad) == bad
    found = heard(Place("a", 0), good)
    assert (found.verdict, found.loss, found.high) == ("not proved", good.loss, good.high)
    assert found.text.startswith("without a place in the order nothing is proved; alone it would be proved")


def test_who_comes_because_the_others_were_refused_stands_behind_them() -> None:
    first = order([entrant("a", 0.8), entrant("b", 0.9)])
    later = order([entrant("a", 0.8), entrant("b", 0.9), entrant("qat", 0.3)], first)
    assert later[:2] == first
    assert later[2] == Place("qat", 3)


def test_the_fastest_that_is_proved_is_chosen_and_the_smallest_of_those_as_fast() -> None:
    entrants = [
        entrant("fast", 0.5),
        entrant("good", 0.7),
        entrant("large", 0.7, size=900),
        entrant("better", 0.9),
    ]
    found = {"fast": compared(90, 0, 4000), "good": compared(3, 3, 4000)} | dict.fromkeys(
        ("large", "better"), compared(0, 0, 4000)
    )
    choice = choose(order(entrants), {each.name: each for each in entrants}, found)
    assert choice.chosen == "good"
    assert "failed" in choice.reasons["fast"]
    assert "nothing is faster" in choice.reasons["good"]
    assert choice.reasons["better"] == "proved as well, but good is faster, or about as fast and smaller"
    assert choice.text.startswith("good: proved")


def test_of_two_about_as_fast_as_each_other_the_smaller_is_chosen_wherever_their_times_lie() -> None:
    for fast in np.linspace(0.3, 0.9, 61):
        entrants = [
            entrant("fast", fast, size=900),
            entrant("small", 1.04 * fast),
            entrant("far", 1.06 * fast, size=1),
        ]
        found = dict.fromkeys(("fast", "small", "far"), compared(0, 0, 4000))
        assert choose(order(entrants), {each.name: each for each in entrants}, found).chosen == "small"


def test_a_slower_variant_is_not_chosen_however_good_it_is() -> None:
    entrants = [entrant("slower", 1.3, is_slower=True), entrant("equal", 1.0, is_better=False)]
    found = {each.name: compared(0, 0, 4000) for each in entrants}
    choice = choose(order(entrants), {each.name: each for each in entrants}, found)
    assert choice.chosen is None
    assert choice.reasons == {
        "slower": "slower than the original: 1.30 times its time",
        "equal": "neither faster nor smaller than the original by 5 %",
    }
    assert "nothing that was tried is smaller or faster" in choice.text


def test_too_few_samples_choose_nothing_and_say_how_many_would() -> None:
    # 569 samples, as scikit-learn's breast cancer data has: not even identical answers prove half a point.
    entrants = [entrant("same")]
    choice = choose(order(entrants), {"same": entrants[0]}, {"same": compared(0, 0, 569)})
    assert choice.chosen is None
    assert "about 770 samples would prove one" in choice.text
    assert choice.reasons["same"].startswith("not proved")


def test_a_variant_without_answers_is_passed_over() -> None:
    entrants = [entrant("broken", 0.5), entrant("good", 0.7)]
    choice = choose(order(entrants), {each.name: each for each in entrants}, {"good": compared(0, 0, 4000)})
    assert choice.chosen == "good"
    assert "broken" not in choice.reasons


def test_where_all_lose_too_much_no_number_of_samples_is_promised() -> None:
    entrants = [entrant("bad")]
    for found in (compared(200, 0, 4000), compared(7, 0, 1000)):
        choice = choose(order(entrants), {"bad": entrants[0]}, {"bad": found})
        assert choice.chosen is None
        assert "loses more than is accepted" in choice.text


@pytest.mark.parametrize(
    ("worse", "better", "samples", "verdict"),
    [(0, 0, 569, "not proved"), (0, 0, 2000, "proved"), (60, 0, 2000, "failed"), (12, 0, 2000, "not proved")],
)
def test_the_verdict_is_where_the_interval_lies(worse: int, better: int, samples: int, verdict: str) -> None:
    found = compared(worse, better, samples)
    assert found.verdict == verdict
    assert (found.high < 0.5) == (verdict == "proved")
    assert (found.low > 0.5) == (verdict == "failed")
    assert found.text.startswith(verdict)


def test_a_place_behind_refusals_asks_for_more_than_its_ordinary_interval_and_says_so() -> None:
    found = compared(0, 0, 1000, level=level_after(5))
    assert found.high < 0.5
    assert found.verdict == "not proved"
    assert found.needed == 2000
    assert "with the 99.9219 % that its place in the order asks for" in found.text


def test_of_forty_variants_that_all_lose_what_is_accepted_hardly_ever_one_is_chosen() -> None:
    # Without the levels, one of forty would be called proved in every other search. Up to the first that is
    # wrongly called proved, all before it were refused.
    random = np.random.default_rng(3)
    levels = np.array([level_after(refused) for refused in range(40)])
    turned = random.multinomial(4000, [0.0075, 0.0025, 0.99], size=(2000, 40))
    found = score(turned[:, :, 0], turned[:, :, 1], 4000, 0.005)
    wrong = (found < -np.array([z_of(level) for level in levels])).any(axis=1).mean()
    naive = (found < -z_of(FOR_THE_REPORT)).any(axis=1).mean()
    assert wrong < 0.06
    assert naive > 0.4


def test_good_variants_between_the_bad_ones_do_not_make_the_gate_more_lenient() -> None:
    # Every second loses exactly what is too much; the others lose nothing, and most of them are proved.
    random = np.random.default_rng(5)
    refused, wrong, proved = np.zeros(4000, np.int64), np.zeros(4000, np.bool_), 0
    limits = np.array([-z_of(level_after(count)) for count in range(41)])
    for number in range(40):
        is_bad = number % 2 == 1
        shares = [0.0075, 0.0025, 0.99] if is_bad else [0.0005, 0.0005, 0.999]
        turned = random.multinomial(4000, shares, size=4000)
        is_proved = score(turned[:, 0], turned[:, 1], 4000, 0.005) < limits[refused]
        refused += ~is_proved
        wrong |= is_proved & is_bad
        proved += int(is_proved.sum()) if number == 10 else 0
    assert wrong.mean() < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 4000)
    assert proved > 0.9 * 4000


def test_nothing_that_was_compared_is_not_called_slow_or_large() -> None:
    assert choose((), {}, {}).text.startswith("the original stays: no variant was compared with it")
