"""What a late verdict becomes: on the bus, for each policy, and never Good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from edge_opcua.config.lanes import LatePolicy
from edge_opcua.core.values import (
    BAD_SENSOR_FAILURE,
    BAD_TIMEOUT,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Verdict,
    is_good,
)
from edge_opcua.testing import ManualClock
from tests.inference.line import DEADLINE_MS, Line, OneLane, delivered, slow_down, spec

LATE_S = DEADLINE_MS / 1000 + 0.05


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def line(clock: ManualClock) -> Iterator[Line]:
    made = Line(clock)
    yield made
    made.close()


@pytest.fixture
def lane_with(line: Line) -> Callable[[LatePolicy], OneLane]:
    def make(policy: LatePolicy) -> OneLane:
        lane = line.lane(delivered(), lane_spec=replace(spec(), late=policy))
        lane.prepare()
        lane.activate(None)
        return lane

    return make


@pytest.mark.parametrize("policy", ["fail_safe", "hold_last", "publish_late"])
def test_no_policy_makes_a_late_verdict_good(
    line: Line, clock: ManualClock, lane_with: Callable[[LatePolicy], OneLane], policy: LatePolicy
) -> None:
    lane = lane_with(policy)
    line.stroke(6)
    lane.step()
    slow_down(lane, clock, LATE_S)
    line.stroke(7)
    lane.step()
    in_time, late = line.judged()
    assert in_time["verdict.status"] == GOOD
    assert not is_good(int(str(late["verdict.status"])))
    assert not is_good(int(str(late["score.status"])))
    assert str(late["reason"]).startswith("late: 150 ms after it was read, 100 ms allowed")
    assert line.counters()["late"] == 1


def test_a_late_verdict_that_is_published_is_whole_and_uncertain(
    line: Line, clock: ManualClock, lane_with: Callable[[LatePolicy], OneLane]
) -> None:
    lane = lane_with("publish_late")
    slow_down(lane, clock, LATE_S)
    line.stroke(7, wear=0.6)
    lane.step()
    result = line.verdict()
    assert result["verdict"] == Verdict.NOT_OK
    assert isinstance(result["score"], float)
    assert result["verdict.status"] == result["score.status"] == UNCERTAIN_LAST_USABLE
    assert result["fail_safe_active"] is False
    assert "; shows in band_200_400_hz" in str(result["reason"])


def test_the_last_verdict_is_held_with_its_time_and_the_reason(
    line: Line, clock: ManualClock, lane_with: Callable[[LatePolicy], OneLane]
) -> None:
    lane = lane_with("hold_last")
    line.stroke(6, wear=0.6)
    lane.step()
    held = line.verdict()
    assert held["verdict"] == Verdict.NOT_OK
    slow_down(lane, clock, LATE_S)
    for number in (7, 8):  # held over more than one
        clock.step(1.0)
        line.stroke(number)
        lane.step()
        result = line.verdict()
        assert result["verdict"] == Verdict.NOT_OK
        assert result["verdict.status"] == UNCERTAIN_LAST_USABLE
        assert result["verdict.source_ns"] == held["captured_ns"]
        assert result["stroke"] == number
        assert result["score"] is None
        assert result["score.status"] == BAD_TIMEOUT
        assert "; held from stroke 6; shows in band" in str(result["reason"])


def test_nothing_is_held_where_there_was_no_verdict_of_its_own(
    line: Line, clock: ManualClock, lane_with: Callable[[LatePolicy], OneLane]
) -> None:
    lane = lane_with("hold_last")
    slow_down(lane, clock, LATE_S)
    line.stroke(6)
    lane.step()
    assert line.verdict()["verdict.status"] == UNCERTAIN_SUBSTITUTE


def test_nothing_is_held_over_a_failure_of_the_inputs(
    line: Line, clock: ManualClock, lane_with: Callable[[LatePolicy], OneLane]
) -> None:
    lane = lane_with("hold_last")
    line.stroke(6)
    line.stroke(7, status=BAD_SENSOR_FAILURE)
    lane.step()
    slow_down(lane, clock, LATE_S)
    line.stroke(8)
    lane.step()
    assert [row["verdict.status"] for row in line.judged()] == [
        GOOD,
        UNCERTAIN_SUBSTITUTE,
        UNCERTAIN_SUBSTITUTE,
    ]


def test_what_expired_before_it_was_run_is_never_published_late(
    line: Line, clock: ManualClock, lane_with: Callable[[LatePolicy], OneLane]
) -> None:
    lane = lane_with("publish_late")
    line.stroke(7)
    clock.step(LATE_S)
    lane.step()
    result = line.verdict()
    assert result["verdict.status"] == UNCERTAIN_SUBSTITUTE
    assert result["score.status"] == BAD_TIMEOUT
    assert result["features"] is None
