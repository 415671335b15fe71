"""What the gate is asked and in which order: refusals make it stricter, what is proved costs nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edge_opcua.compress.gate import FOR_THE_REPORT, Entrant
from edge_opcua.compress.intervals.tango import Turned
from edge_opcua.compress.measure.timing import Timing
from edge_opcua.compress.search.entering import better_than, reach_of
from edge_opcua.compress.search.judging import Tried, doubtful, judge, no_int8_is_proved, worth_a_closer_look
from edge_opcua.compress.search.plan import Tasted
from edge_opcua.compress.task import Comparison
from edge_opcua.compress.tasks.decision import PERCENT, POINTS, Found, decide
from edge_opcua.compress.variant import Family, Made, Variant
from edge_opcua.errors import ModelError

SAMPLES = 2000
PROVED, REFUSED = Turned(0, 0, SAMPLES), Turned(40, 0, SAMPLES)


class Asked:
    """Holds variants against an original whose decisions they change like that."""

    def __init__(self, turned: Mapping[str, Turned | ModelError]) -> None:
        self.levels: dict[str, float] = {}
        self._turned = turned

    def compare(self, made: Made, *, allowed: float | None, level: float) -> Comparison:
        self.levels[made.variant.name] = level
        turned = self._turned[made.variant.name]
        if isinstance(turned, ModelError):
            raise turned
        return compared(turned, level, allowed)


def compared(turned: Turned, level: float, allowed: float | None = None, unit: str = POINTS) -> Comparison:
    changed = int(turned.worse + turned.better) if unit == POINTS else None
    found = Found("accuracy", unit, 0.9, 0.9 - turned.loss, "Tango", int(turned.samples), turned, changed)
    return decide(found, allowed=allowed, level=level)


def tried(
    name: str, damage: float, ratio: float = 0.5, size: int = 400, family: Family = "int8-static"
) -> Tried:
    variant = Variant(name, family)
    speed = "slower" if ratio > 1.02 else "faster" if ratio < 0.98 else "as fast"
    timing = Timing(
        p50_us=10.0 * ratio,
        p99_us=20.0 * ratio,
        original_p50_us=10.0,
        original_p99_us=20.0,
        ratio=ratio,
        ratio_low=ratio,
        ratio_high=ratio,
        p99_ratio=ratio,
        p99_low=ratio,
        p99_high=ratio,
        runs=100,
        memory_mb=1.0,
        original_memory_mb=1.0,
        load_ms=1.0,
        original_load_ms=1.0,
        size_bytes=size,
        original_size_bytes=1000,
        verdict=speed,  # type: ignore[arg-type]  # one of the three
        provider="cpu",
        threads=1,
    )
    return Tried(Tasted(variant, Made(variant, Path(f"{name}.onnx")), damage), timing)


def test_a_refusal_halves_the_level_for_all_behind_it_and_what_is_proved_does_not() -> None:
    asked = Asked({"a": PROVED, "b": REFUSED, "c": PROVED, "d": REFUSED, "e": REFUSED})
    variants = [tried(name, 0.001 * number, 0.9 - 0.1 * number) for number, name in enumerate("abcde")]
    judged = judge(asked, variants, allowed=None)
    assert asked.levels == {"a": 0.025, "b": 0.025, "c": 0.0125, "d": 0.0125, "e": 0.00625}
    assert [place.number for place in judged.places] == [1, 2, 3, 4, 5]
    assert judged.choice.chosen == "c"


def test_of_those_as_fast_and_as_small_only_the_one_with_the_least_damage_is_asked_about() -> None:
    asked = Asked(dict.fromkeys("abcd", PROVED))
    judged = judge(
        asked,
        [tried("a", 0.002), tried("b", 0.001), tried("c", 0.003, ratio=0.4), tried("d", 0.004, size=300)],
        allowed=None,
    )
    assert {place.name: place.number for place in judged.places} == {"b": 1, "c": 2, "d": 3, "a": 0}
    assert asked.levels["a"] == FOR_THE_REPORT
    assert judged.choice.reasons["a"].startswith("not entered: b is as fast and as small")
    assert judged.comparisons["a"].verdict == "not proved", "nothing is proved without a place"


def test_what_is_made_because_all_were_refused_is_asked_about_last_and_most_strictly() -> None:
    asked = Asked({"a": REFUSED, "b": REFUSED, "qat": PROVED})
    variants = [tried("a", 0.001, 0.6), tried("b", 0.002, 0.5)]
    first = judge(asked, variants, allowed=None)
    assert no_int8_is_proved(variants, first)
    variants.append(tried("qat", 0.0, 0.4, family="qat"))
    second = judge(asked, variants, allowed=None, before=first)
    assert asked.levels == {"a": 0.025, "b": 0.0125, "qat": 0.00625}
    assert second.choice.chosen == "qat"


def test_a_variant_whose_answers_cannot_be_compared_is_told_and_costs_nobody_anything() -> None:
    asked = Asked({"a": ModelError("no answers", code="M671"), "b": PROVED})
    judged = judge(asked, [tried("a", 0.001, 0.6), tried("b", 0.002)], allowed=None)
    assert judged.failures == {"a": "M671: no answers"}
    assert asked.levels["b"] == 0.025
    assert judged.choice.chosen == "b"


def test_a_slower_variant_is_compared_for_the_report_and_takes_no_place() -> None:
    asked = Asked({"slow": REFUSED, "b": PROVED})
    judged = judge(asked, [tried("slow", 0.0, 1.3), tried("b", 0.002)], allowed=None)
    assert {place.name: place.number for place in judged.places} == {"slow": 0, "b": 1}
    assert asked.levels == {"slow": 0.025, "b": 0.025}


@pytest.mark.parametrize(
    ("ratio", "size", "place"), [(1.0, 960, 0), (1.0, 940, 1), (0.96, 960, 0), (0.94, 960, 1)]
)
def test_what_is_hardly_smaller_or_faster_is_nothing_to_change_a_model_for(
    ratio: float, size: int, place: int
) -> None:
    judged = judge(Asked({"a": PROVED}), [tried("a", 0.0, ratio=ratio, size=size)], allowed=None)
    assert [each.number for each in judged.places] == [place]
    if not place:
        assert judged.choice.reasons["a"] == "neither faster nor smaller than the original by 5 %"


def test_only_what_is_proved_and_nearly_the_fastest_is_timed_longer() -> None:
    variants = [tried("a", 0.001, 0.52), tried("b", 0.002, 0.5), tried("c", 0.003, 0.4), tried("d", 0.0, 0.9)]
    asked = Asked({"a": PROVED, "b": PROVED, "c": REFUSED, "d": PROVED})
    variants[1] = replace(variants[1], timing=tried("b", 0.002, 0.5, size=300).timing)
    assert worth_a_closer_look(variants, judge(asked, variants, allowed=None)) == {"a", "b"}


def test_who_turns_out_to_be_slow_is_not_chosen_and_no_place_changes() -> None:
    asked = Asked({"a": PROVED, "b": PROVED, "c": REFUSED})
    variants = [tried("a", 0.001, 0.8), tried("b", 0.002, 0.5), tried("c", 0.003, 0.4)]
    first = judge(asked, variants, allowed=None)
    levels = dict(asked.levels)
    variants[1] = tried("b", 0.002, 1.1)
    second = judge(asked, variants, allowed=None, before=first)
    assert (first.choice.chosen, second.choice.chosen) == ("b", "a")
    assert second.places == first.places
    assert asked.levels == levels


def test_why_a_variant_was_not_entered_stays_true_when_times_are_known_better() -> None:
    asked = Asked({"a": PROVED, "b": PROVED, "c": PROVED})
    variants = [tried("a", 0.001), tried("b", 0.002), tried("c", 0.003)]
    first = judge(asked, variants, allowed=None)
    variants[0] = tried("a", 0.001, 0.6)
    second = judge(asked, variants, allowed=None, before=first)
    for name in "bc":
        assert second.choice.reasons[name] == first.choice.reasons[name]
        assert second.choice.reasons[name].startswith("not entered: a is as fast")


def test_who_may_be_as_fast_after_all_is_timed_longer_before_the_gate_is_asked() -> None:
    slow = tried("slow", 0.0, 1.1)
    assert slow.timing is not None
    open_one = Tried(slow.tasted, replace(slow.timing, ratio_low=0.99, p99_low=0.9))
    assert doubtful([slow]) == set()
    assert doubtful([open_one, tried("b", 0.0)]) == {"slow"}


def test_int8_counts_as_refused_only_if_none_is_proved() -> None:
    variants = [tried("int8", 0.001), tried("pruned", 0.002, 0.4, family="pruned")]
    for int8, refused in ((PROVED, False), (REFUSED, True)):
        judged = judge(Asked({"int8": int8, "pruned": PROVED}), variants, allowed=None)
        assert no_int8_is_proved(variants, judged) == refused


def test_who_is_covered_by_another_that_is_not_entered_itself_is_entered() -> None:
    # b is as fast as a, c as fast as b, but c is clearly smaller than a.
    entrants = [
        Entrant(name, 0.5, damage, size, is_slower=False, is_better=True)
        for name, damage, size in (("a", 0.001, 1000), ("b", 0.002, 985), ("c", 0.003, 970))
    ]
    assert list(better_than(entrants)) == ["b"]


@pytest.mark.parametrize(("samples", "most"), [(2000, 0.01302), (500, math.nan)])
def test_the_samples_say_how_many_changed_decisions_they_could_forgive(samples: int, most: float) -> None:
    reach = reach_of(compared(Turned(0, 0, samples), FOR_THE_REPORT))
    if math.isnan(most):
        assert reach.note.startswith("gate: 500 samples cannot show a loss below 0.5 pp")
        assert "about 770 can" in reach.note
    else:
        assert reach.note == ""
        assert reach.most_changed == pytest.approx(most, rel=1e-3)


def test_where_nothing_is_decided_no_changed_decision_is_too_many() -> None:
    assert reach_of(compared(Turned(0, 0, 2000), FOR_THE_REPORT, unit=PERCENT)).most_changed == math.inf
