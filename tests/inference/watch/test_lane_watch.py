"""A model that is watched while it judges: seeded bad ones are found, and nothing where nothing is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import numpy as np
import pytest

from edge_opcua.core.values import UNCERTAIN_SUBNORMAL, UNCERTAIN_SUBSTITUTE, Link, Verdict
from edge_opcua.errors import ModelError
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.watch.age import AgeTerms
from edge_opcua.inference.watch.lanemodelwatch import LaneModelWatch
from edge_opcua.inference.watch.latency import BUCKETS, quantile_us
from tests.inference.line import PIPELINE, OneLane, delivered, slow_down
from tests.inference.watch.watched import CYCLE_S, WatchedLine, healthy_profile, number

DAY_NS = 86_400 * 10**9


@pytest.fixture
def watched() -> Iterator[WatchedLine]:
    made = WatchedLine()
    yield made
    made.close()


def spoiled(lane: OneLane, answer: str, value: float, *, add: bool = False) -> None:
    """Let the loaded model answer something else, as one does whose memory was overwritten."""
    binding = lane.lane.model.bind()
    run = binding._run

    def wrong() -> None:
        run()
        binding.answer[answer][:] = binding.answer[answer] + value if add else value

    binding._run = wrong


def test_a_healthy_model_raises_no_alarm_and_its_figures_are_shown(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, healthy_profile(), period_ms=CYCLE_S * 1e3)
    lane.activate(None)
    watched.strokes(lane, view, 130)
    shown = watched.shown()
    assert watched.alarms == ()
    assert watched.notices == []
    assert (shown["model_name"], shown["model_version"]) == ("press-anomaly", 1)
    assert shown["results"] == 129, "the first one was there before the first tick"
    assert shown["error_share"] == 0.0
    assert 0.3 < number(shown["score_mean"]) < 0.8
    assert number(shown["score_p50"]) <= number(shown["score_p99"])
    assert shown["psi_feature"] in healthy_profile().names
    assert shown["input_quality"] == ""
    assert shown["reference_ok"] is True
    assert shown["false_alarms_per_month"] == 1.0


def test_the_histogram_counts_every_verdict_in_microseconds(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, healthy_profile())
    slow_down(lane, watched.clock, 0.004)
    lane.activate(None)
    watched.strokes(lane, view, 50)
    watched.strokes(lane, view, 1)
    counts = watched.shown()["latency_us"]
    assert isinstance(counts, np.ndarray)
    assert counts.shape == (BUCKETS,)
    assert counts.sum() == 50
    assert quantile_us(counts.tolist(), 0.99) == 5_000
    assert number(watched.shown()["latency_sum_us"]) == pytest.approx(50 * 4_000, rel=0.01)


def test_a_model_that_makes_no_numbers_is_found_after_five_strokes(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, reference_every_s=0.0)
    lane.activate(None)
    watched.strokes(lane, view, 20)
    spoiled(lane, "score", math.nan)
    watched.strokes(lane, view, 4)
    assert watched.notices == []
    watched.strokes(lane, view, 2)
    kinds = {notice["kind"]: notice for notice in watched.notices}
    assert set(kinds) == {"not_a_number", "errors"}
    assert kinds["not_a_number"]["code"] == "M651"
    assert kinds["not_a_number"]["model"] == "press-anomaly/1"
    assert kinds["not_a_number"]["text"] == "5 of the last 25 answers are no number"
    assert str(watched.shown()["alarm"]).startswith("M651: ")


@pytest.mark.parametrize("code", ["M570", "M572", "M564"])
def test_that_a_model_server_or_a_device_is_gone_is_not_held_against_the_model(
    watched: WatchedLine, code: str
) -> None:
    # The former version would run nowhere else: to go back, and to distrust this one, would help nobody.
    lane = watched.lane()
    view = watched.view(lane)
    lane.activate(None)
    watched.strokes(lane, view, 20)

    def gone() -> None:
        raise ModelError("it cannot be reached", code=code)

    lane.lane.model.bind()._run = gone
    watched.strokes(lane, view, 30)
    assert watched.notices == []
    assert watched.shown()["error_share"] == 0.0


def test_a_model_that_becomes_five_times_slower_is_found_once_it_is_late(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, reference_every_s=0.0)
    slow_down(lane, watched.clock, 0.030)
    lane.activate(None)
    watched.strokes(lane, view, 50)
    assert watched.alarms == ()
    slow_down(lane, watched.clock, 0.120)
    watched.strokes(lane, view, 7)
    (notice,) = watched.notices
    assert (notice["kind"], notice["active"]) == ("latency", True)
    assert "verdicts were not there in 100 ms" in notice["text"]


def test_a_version_five_times_slower_than_the_former_is_found_before_it_is_late(watched: WatchedLine) -> None:
    first = watched.lane()
    slow_down(first, watched.clock, 0.012)
    view = watched.view(first, reference_every_s=0.0)
    first.activate(None)
    watched.strokes(first, view, 60)
    second = watched.lane(delivered(2))
    slow_down(second, watched.clock, 0.060)
    successor = watched.view(second, files=delivered(2), reference_every_s=0.0, probation_s=3_600.0)
    second.activate(first.retire().cursor)
    watched.strokes(second, successor, 40)
    (notice,) = [notice for notice in watched.notices if notice["active"]]
    assert notice["kind"] == "latency"
    text = r"takes 60 ms, 5.0 times as long as press-anomaly/1; found 1?\d\d.\d s after it took over"
    assert re.fullmatch(text, notice["text"])
    assert notice["after_results"] >= 29
    assert notice["after_s"] == pytest.approx(notice["after_results"] * CYCLE_S, rel=0.1)
    assert watched.shown()["probation"] is True
    assert watched.shown()["late_share"] == 0.0


def test_a_subtly_biased_model_is_found_by_its_scores(watched: WatchedLine) -> None:
    lane = watched.lane()
    profile = healthy_profile()
    view = watched.view(lane, profile, reference_every_s=0.0, period_ms=CYCLE_S * 1e3)
    lane.activate(None)
    watched.strokes(lane, view, 60)
    spoiled(lane, "score", 0.3, add=True)  # still below the limit
    # The scores of this press are slow: only one in so many tells something new.
    assert 0 < _found_after(watched, lane, view, "drift", 400) <= 20 * int(profile.stride[0])
    (notice,) = watched.notices
    assert notice["text"].startswith("score is above what was trained")


def test_a_biased_version_is_found_by_its_verdicts_beside_the_former(watched: WatchedLine) -> None:
    first = watched.lane()
    view = watched.view(first)
    first.activate(None)
    watched.strokes(first, view, 60)
    second = watched.lane(delivered(2))
    spoiled(second, "score", 0.6, add=True)
    successor = watched.view(second, files=delivered(2), reference_every_s=0.0, probation_s=3_600.0)
    second.activate(first.retire().cursor)
    watched.strokes(second, successor, 35)
    (notice,) = [notice for notice in watched.notices if notice["active"]]
    assert notice["kind"] == "drift"
    assert "of its verdicts are NotOk, 0% were with press-anomaly/1" in notice["text"]


def test_a_model_whose_reference_samples_go_wrong_is_found_and_told_which(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, reference_every_s=60.0)
    lane.activate(None)
    watched.strokes(lane, view, 60)
    assert watched.shown()["reference_ok"] is True
    checked_ns = watched.shown()["reference_checked_ns"]
    spoiled(lane, "confidence", -0.05, add=True)
    watched.strokes(lane, view, 40)
    shown = watched.shown()
    assert shown["reference_ok"] is False
    assert shown["reference_checked_ns"] != checked_ns
    (notice,) = watched.notices
    assert (notice["kind"], notice["code"]) == ("reference", "M653")
    assert re.match(r"reference sample \d+: confidence is 0.9\d+ here, 0.9\d+ where", notice["text"])


def test_reference_samples_disturb_no_verdict(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, reference_every_s=1.0)
    lane.activate(None)
    watched.strokes(lane, view, 100)
    results = watched.line.judged()
    assert [result["stroke"] for result in results] == list(range(1, 101))
    assert {result["batch"] for result in results} == {1}
    assert watched.line.counters()["processed"] == 100
    assert number(watched.shown()["reference_checked_ns"]) > 0


def test_a_safety_lane_runs_its_reference_samples_itself() -> None:
    watched = WatchedLine(lane_class=LaneClass.SAFETY)
    lane = watched.lane()
    view = watched.view(lane, reference_every_s=30.0)
    lane.activate(None)
    watched.strokes(lane, view, 30)
    assert watched.shown()["reference_ok"] is True
    spoiled(lane, "score", 0.3, add=True)
    watched.strokes(lane, view, 30)
    assert watched.alarms == ("reference",)
    watched.close()


@pytest.mark.parametrize(
    ("then", "verdict", "status"),
    [
        ("warn", Verdict.OK, 0),
        ("degrade", Verdict.OK, UNCERTAIN_SUBNORMAL),
        ("fail_safe", Verdict.NOT_DECIDABLE, UNCERTAIN_SUBSTITUTE),
    ],
)
def test_a_stale_model_gives_what_its_policy_says_from_the_first_stroke_on(
    watched: WatchedLine, then: str, verdict: Verdict, status: int
) -> None:
    lane = watched.lane()
    trained_ns = watched.clock.utc_ns() - 400 * DAY_NS
    view = watched.view(lane, age=AgeTerms(trained_ns, 365.0, then))  # type: ignore[arg-type]
    lane.activate(None)
    watched.strokes(lane, view, 1)
    result = watched.line.verdict()
    assert (result["verdict"], result["verdict.status"]) == (int(verdict), status)
    if then != "warn":
        assert "M657: trained 400 days ago, 365 are allowed" in str(result["reason"])
    watched.strokes(lane, view, 1)
    assert watched.alarms == ("age",)
    assert watched.shown()["age_state"] == "old"
    assert number(watched.shown()["age_days"]) == pytest.approx(400, abs=0.1)


def test_a_stuck_context_tag_is_named_within_its_time(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, healthy_profile(), reference_every_s=0.0)
    lane.activate(None)
    watched.strokes(lane, view, 30)
    tags = watched.line.tags
    watched.line.tags = lambda **values: tags(**{**values, "tonnage": 812.5})  # type: ignore[method-assign]
    # 60 s, and one stroke until the next tick: what a lane publishes is seen at once, but shown each second.
    assert _found_after(watched, lane, view, "quality", 40) <= 21
    assert watched.notices[0]["text"].startswith("tonnage is stuck at 812.5 kN for 6")
    assert watched.shown()["input_quality"] == watched.notices[0]["text"]


def test_a_context_tag_in_another_unit_is_named(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane, healthy_profile(), reference_every_s=0.0)
    lane.activate(None)
    watched.strokes(lane, view, 30)
    tags = watched.line.tags

    def kelvin(**values: float) -> None:
        values["die_temp"] = values.get("die_temp", 45.0) + 273.15
        tags(link=Link.UP, refreshed=True, **values)

    watched.line.tags = kelvin  # type: ignore[method-assign]
    assert _found_after(watched, lane, view, "quality", 20) <= 16
    assert watched.notices[0]["text"].startswith("die_temp looks in K: 30")


def test_without_a_profile_it_works_and_says_what_it_cannot_know(watched: WatchedLine) -> None:
    lane = watched.lane()
    view = watched.view(lane)
    lane.activate(None)
    watched.strokes(lane, view, 120)
    shown = watched.shown()
    assert shown["psi_score"] is None
    assert shown["ks"] is None
    assert shown["page_hinkley"] is None
    assert str(shown["note"]).startswith("no reference profile: drift is not watched")
    assert number(shown["score_mean"]) > 0


def test_a_successor_goes_on_with_the_counters_and_ends_the_alarms_of_the_former(
    watched: WatchedLine,
) -> None:
    first = watched.lane()
    view = watched.view(first, reference_every_s=0.0)
    first.activate(None)
    spoiled(first, "score", math.nan)
    watched.strokes(first, view, 10)
    assert set(watched.alarms) == {"errors", "not_a_number"}
    counted = watched.shown()["results"]
    watched.notices.clear()

    second = watched.lane(delivered(2))
    successor = watched.view(second, files=delivered(2), reference_every_s=0.0)
    second.activate(first.retire().cursor)
    successor.tick()
    assert watched.alarms == ()
    assert {(each["kind"], each["active"], each["model"]) for each in watched.notices} == {
        ("errors", False, "press-anomaly/1"),
        ("not_a_number", False, "press-anomaly/1"),
    }
    watched.strokes(second, successor, 5)
    shown = watched.shown()
    assert (shown["model_version"], shown["results"]) == (2, int(number(counted)) + 5)


def test_a_relieved_lane_writes_nothing_and_begins_anew_when_it_comes_back(watched: WatchedLine) -> None:
    first, second = watched.lane(), watched.lane(delivered(2))
    view = watched.view(first)
    other = watched.view(second, files=delivered(2))
    first.activate(None)
    watched.strokes(first, view, 5)
    second.activate(first.retire().cursor)
    watched.strokes(second, other, 5)
    before = watched.line.bus.reader(PIPELINE.watch_block).newest
    for _ in range(5):
        watched.clock.step(CYCLE_S)
        view.tick()
    assert watched.line.bus.reader(PIPELINE.watch_block).newest == before
    first.activate(second.retire().cursor)
    watched.strokes(first, view, 3)
    assert watched.shown()["model_version"] == 1
    assert watched.shown()["probation"] is True


def test_a_lane_that_is_asked_for_more_than_can_be_looked_at_loses_samples_and_no_verdict() -> None:
    watched = WatchedLine()
    lane = watched.lane()
    view = watched.view(lane, healthy_profile(), reference_every_s=0.0)
    lane.activate(None)
    watched.strokes(lane, view, 1)
    watched.strokes(lane, None, 300)  # more than the ring of results holds, in one tick
    view.tick()
    assert watched.alarms == ()
    assert 200 < number(watched.shown()["results"]) <= 301
    watched.close()


def test_one_lane_is_looked_at_in_a_tick_so_that_it_is_short(watched: WatchedLine) -> None:
    ticks: list[str] = []

    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def tick(self) -> None:
            ticks.append(self.name)

    watch = LaneModelWatch((), watched.line.bus, watched.clock, lambda kind, body: None)
    watch._watches = [Counting("a"), Counting("b")]  # type: ignore[list-item]
    for _ in range(4):
        watch.tick()
    assert ticks == ["a", "b", "a", "b"]


def _found_after(watched: WatchedLine, lane: OneLane, view: object, kind: str, most: int) -> int:
    """Return after how many strokes an alarm came; 0 if none did."""
    for count in range(1, most + 1):
        watched.strokes(lane, view, 1)  # type: ignore[arg-type]
        if any(notice["kind"] == kind and notice["active"] for notice in watched.notices):
            return count
    return 0


def test_a_safety_lane_is_not_looked_at_when_its_next_capture_may_come() -> None:
    watched = WatchedLine(lane_class=LaneClass.SAFETY)
    lane = watched.lane()
    view = watched.view(lane, reference_every_s=0.0)
    lane.activate(None)
    watched.strokes(lane, view, 40)
    block = watched.line.bus.reader(PIPELINE.watch_block)
    view.tick()  # 3.3 s after the last capture: the next one is due
    before = block.newest
    for _ in range(20):
        view.tick()
    assert block.newest == before
    watched.strokes(lane, view, 1)
    assert block.newest > before
    watched.clock.step(11.0)  # the press stands still: it is looked at all the same
    view.tick()
    assert block.newest > before + 1
    watched.close()
