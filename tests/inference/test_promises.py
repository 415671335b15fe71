"""The alarm before the first miss: what really comes times what it really costs, with hysteresis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_opcua.inference.promises import CLEAR_AFTER, RAISE_AFTER, Alarm, Promises
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.testing import ManualClock
from tests.inference.line import DEADLINE_MS, Line, OneLane, delivered, spec

KEY = "press-anomaly/1"
MS = 1_000_000
PERIOD_S = 2.0


class Watched:
    """A lane, its promises, and a hand that lets time and captures come."""

    def __init__(self, lane_class: LaneClass = LaneClass.REALTIME) -> None:
        self.clock = ManualClock()
        self.line = Line(self.clock, capture_depth=128)
        self.lane: OneLane = self.line.lane(delivered(), lane_spec=replace(spec(), lane=lane_class))
        self.lane.prepare()
        self.lane.activate(None)
        self.promises = Promises(
            "press-anomaly", [self.lane.lane], self.lane.costs, self.clock, workers=1, cores=2
        )
        self._strokes = 0

    def look(self, *, captures: int, cost_ms: float, at_once: int = 1) -> list[Alarm]:
        """Let two seconds go by with so many captures of which each costs so much."""
        for number in range(captures):
            self._strokes += 1
            self.line.stroke(self._strokes)
            if (number + 1) % at_once == 0:
                self.lane.step()
        self.clock.step(PERIOD_S)
        self.lane.costs.seed(KEY, 1, [round(cost_ms * MS)] * 10)
        return self.promises.look()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.line.close()


def test_what_fits_raises_no_alarm(watched: Watched) -> None:
    for _ in range(4):
        assert watched.look(captures=10, cost_ms=20.0) == []
    assert watched.promises.schedulable == {"press-anomaly": True}
    assert watched.promises.utilisation == pytest.approx(10 * 20.0 / 2_000, rel=0.01)


def test_a_model_that_has_become_too_slow_is_told_before_anything_is_late(watched: Watched) -> None:
    found = [watched.look(captures=1, cost_ms=DEADLINE_MS + 1) for _ in range(1 + RAISE_AFTER)]
    assert found[:-1] == [[], []]  # once may be chance; the first look only begins to count
    (alarm,) = found[-1]
    assert alarm.pipeline == "press-anomaly"
    assert "a run alone takes 101.0 ms" in alarm.text
    assert watched.promises.schedulable == {"press-anomaly": False}
    assert watched.look(captures=1, cost_ms=DEADLINE_MS + 1) == []  # told once


def test_more_captures_than_there_is_time_for_are_told(watched: Watched) -> None:
    watched.look(captures=40, cost_ms=60.0)
    alarms = [watched.look(captures=40, cost_ms=60.0) for _ in range(RAISE_AFTER)]
    assert alarms[-1], "40 times 60 ms do not fit into 2 s"
    assert watched.promises.utilisation > 1.0


def test_captures_that_a_safety_lane_leaves_for_newer_ones_are_asked_for_all_the_same() -> None:
    # Of what it judges alone it would always be said that there is time for it.
    watched = Watched(LaneClass.SAFETY)
    watched.look(captures=40, cost_ms=60.0, at_once=4)
    alarms = [watched.look(captures=40, cost_ms=60.0, at_once=4) for _ in range(RAISE_AFTER)]
    assert watched.line.counters()["superseded"] == 3 * 10 * (1 + RAISE_AFTER)
    assert alarms[-1]
    assert watched.promises.utilisation > 1.0
    watched.line.close()


def test_the_alarm_is_taken_back_after_a_while_without_reason(watched: Watched) -> None:
    for _ in range(1 + RAISE_AFTER):
        watched.look(captures=1, cost_ms=200.0)
    for _ in range(CLEAR_AFTER - 1):
        assert watched.look(captures=1, cost_ms=5.0) == []
    watched.look(captures=1, cost_ms=200.0)  # not yet over
    for _ in range(CLEAR_AFTER - 1):
        assert watched.look(captures=1, cost_ms=5.0) == []
    assert watched.look(captures=1, cost_ms=5.0) == [Alarm("press-anomaly", "")]
    assert watched.promises.schedulable == {"press-anomaly": True}


def test_best_effort_is_shown_and_not_alarmed() -> None:
    watched = Watched(LaneClass.BEST_EFFORT)
    for _ in range(1 + RAISE_AFTER):
        assert watched.look(captures=1, cost_ms=200.0) == []
    assert watched.promises.schedulable == {"press-anomaly": False}
    watched.line.close()
