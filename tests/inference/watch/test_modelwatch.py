"""The watch of one model, fed with results."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from edge_opcua.core.values import Verdict
from edge_opcua.inference.watch.age import AgeTerms
from edge_opcua.inference.watch.findings import Persistence, Recent
from edge_opcua.inference.watch.kinds import CODES, KINDS, bits_of, kinds_of, most_important
from edge_opcua.inference.watch.latency import BOUNDS_US, BUCKETS, LatencyHistogram, quantile_us
from edge_opcua.inference.watch.modelwatch import ModelWatch
from edge_opcua.inference.watch.profile import make_profile
from edge_opcua.inference.watch.quality import InputTerms
from edge_opcua.inference.watch.seen import Seen
from edge_opcua.inference.watch.terms import WatchTerms

INPUTS = InputTerms(("a", "b"), ("mm", "mm"), (-math.inf,) * 2, (math.inf,) * 2, 60.0)
TERMS = WatchTerms("line", "model/1", INPUTS, AgeTerms(0), window=20)
SEEN = Seen(
    10**9,
    "model/1",
    Verdict.OK,
    0.4,
    0.9,
    np.array([1.0, 2.0]),
    800.0,
    700.0,
    False,
    False,
    False,
    False,
    "",
    "",
)


def seen(number: int, **changes: object) -> Seen:
    return replace(SEEN, captured_ns=number * 10**9, **changes)  # type: ignore[arg-type]


def test_kinds_and_bits_are_the_same_thing() -> None:
    assert all(kinds_of(bits_of([kind])) == (kind,) for kind in KINDS)
    assert kinds_of(bits_of(KINDS) | 1 << 31) == KINDS, "a newer program may know more"
    assert set(CODES) == set(KINDS)
    assert most_important(["drift", "quality", "trend"]) == "quality"
    assert most_important([]) == ""


def test_the_histogram_has_a_bucket_for_everything() -> None:
    histogram = LatencyHistogram()
    for latency_us in (0.0, 50.0, 51.0, 1e9):
        histogram.add(latency_us)
    assert histogram.counts.tolist()[:2] == [2, 1]
    assert histogram.counts[-1] == 1
    assert len(histogram.counts) == BUCKETS == len(BOUNDS_US) + 1
    assert list(BOUNDS_US) == sorted(set(BOUNDS_US))
    assert math.isinf(quantile_us(histogram.counts, 1.0))
    assert math.isnan(quantile_us([], 0.5))
    again = LatencyHistogram(histogram.counts, histogram.sum_us)
    again.add(10.0)
    assert (int(again.counts[0]), again.sum_us) == (3, histogram.sum_us + 10)
    assert LatencyHistogram(np.ones(3, np.uint64), 5.0).sum_us == 0.0, "of another program: not believed"


def test_two_of_three_windows_make_an_alarm_and_three_calm_ones_end_it() -> None:
    alarm = Persistence()
    assert [alarm.take(value, 1.0) for value in (2.0, 0.5, 0.5, 2.0, 0.5, 2.0)] == [*[False] * 5, True]
    assert [alarm.take(value, 1.0) for value in (0.9, 0.5, 0.5)] == [True] * 3
    assert alarm.take(0.5, 1.0) is False


def test_a_share_ends_its_alarm_at_half_of_what_began_it() -> None:
    alarm = Recent(20, 0.2)
    assert [alarm.take(mark=True) for _ in range(4)] == [False, False, False, True]
    assert all(alarm.take(mark=False) for _ in range(16))
    assert alarm.take(mark=False) is True
    assert alarm.take(mark=False) is False


def test_what_a_lane_refused_for_lack_of_time_counts_as_late() -> None:
    watch = ModelWatch(TERMS, None)
    for number in range(5):
        watch.take(seen(number, score=math.nan, refused=True, latency_us=10.0))
    assert [finding.kind for finding in watch.report(0).findings] == ["latency"]


def test_failed_runs_are_told_with_the_last_reason() -> None:
    watch = ModelWatch(TERMS, None)
    for number in range(3):
        watch.take(seen(number, score=math.nan, failed=True, reason="M532: the backend failed"))
    (finding,) = watch.report(0).findings
    assert finding.text == "3 of the last 3 runs failed: M532: the backend failed"
    for number in range(3, 24):
        watch.take(seen(number))
    assert watch.report(0).findings == ()


def test_features_that_have_no_room_in_a_result_are_said_to_be_unwatched() -> None:
    watch = ModelWatch(TERMS, None)
    watch.take(seen(1, features=None))
    assert "of what it is given nothing is watched" in watch.report(0).note


def test_a_note_has_room_for_all_it_says_however_many_columns_are_unknown() -> None:
    random = np.random.default_rng(5)
    names = tuple(f"band_{number}_of_many_hz" for number in range(12))
    slow = np.cumsum(random.normal(size=(300, len(names))), axis=0)
    units = ("m/s²",) * len(names)
    profile = make_profile(slow, names=names, units=units, scores=random.normal(size=300))
    inputs = InputTerms(names, units, (-math.inf,) * len(names), (math.inf,) * len(names), 60.0)
    note = ModelWatch(replace(TERMS, inputs=inputs), profile).report(0).note
    assert "in the profile of band_0_of_many_hz, band_1_of_many_hz and 10 more; drift is watched once" in note


def test_a_limit_of_the_confidence_holds_without_a_profile() -> None:
    watch = ModelWatch(replace(TERMS, confidence_low=0.8), None)
    for number in range(60):
        watch.take(seen(number, confidence=0.7))
    (finding,) = watch.report(0).findings
    assert finding.kind == "confidence"
    assert finding.text.startswith("mean confidence 0.700 of the last 20 results, limit 0.800")


def test_a_model_that_does_not_say_how_sure_it_is_has_no_such_figure() -> None:
    watch = ModelWatch(TERMS, None)
    for number in range(30):
        watch.take(seen(number, confidence=math.nan))
    assert math.isnan(watch.report(0).confidence)
