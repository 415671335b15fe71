"""A version in shadow judges the same captures unseen, and is held against the active one in figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import GOOD
from edge_opcua.inference.comparison import PENDING, Comparison
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.shadow import Agreement, wilson
from edge_opcua.inference.unseen import Unseen, rehearse
from edge_opcua.testing import ManualClock
from tests.inference.line import Line, OneLane, delivered, slow_down, spec


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line(ManualClock(), capture_depth=64)
    yield made
    made.close()


def prepared(line: Line, version: int, lane: LaneClass = LaneClass.REALTIME) -> OneLane:
    made = line.lane(delivered(version), lane_spec=replace(spec(), lane=lane))
    made.prepare()
    return made


class Beside:
    """An active lane, another version in shadow beside it, and what holds one against the other."""

    def __init__(self, line: Line, *, wanted: int = 100, lane: LaneClass = LaneClass.REALTIME) -> None:
        self.line = line
        self.active = prepared(line, 1, lane)
        self.active.activate(None)
        self.process = prepared(line, 2, lane)
        self.shadow = Unseen(
            self.process.unseen, self.process.wanted.spec, line.bus, self.process.engine, shadow=True
        )
        self.comparison = Comparison(line.bus.reader("press-anomaly.result"), self.shadow.results, wanted)
        self.shadow.begin()

    def step(self) -> Agreement:
        self.active.step()
        self.shadow.group.step()
        self.comparison.missed = self.shadow.missed
        self.comparison.look()
        return self.comparison.agreement()


# Agresti, Coull: Approximate is Better than "Exact" …, Am. Stat. 52 (1998), table 1: 0 of 10, 5 of 10; and
# what R's prop.test(98, 100, correct = FALSE) gives.
@pytest.mark.parametrize(
    ("agreed", "compared", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (98, 100, 0.9300, 0.9945), (0, 0, 0.0, 1.0)],
)
def test_the_interval_of_the_agreement_is_wilsons(
    agreed: int, compared: int, low: float, high: float
) -> None:
    found = wilson(agreed, compared)
    assert found == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_the_interval_holds_the_share_and_lies_between_nothing_and_all(agreed: int, more: int) -> None:
    compared = agreed + more
    low, high = wilson(agreed, compared)
    assert 0.0 <= low <= agreed / compared <= high <= 1.0


def test_what_a_shadow_tells_comes_over_the_control_channel_as_it_was() -> None:
    found = Agreement(wanted=20, compared=8, agreed=7, lost_alarms=1, p99_ms=0.4, disagreement="stroke 3: …")
    body = found.notice()
    assert body["score_difference_p50"] is None  # JSON has no NaN
    again = Agreement.of(body)
    assert again.notice() == body
    assert math.isnan(again.score_difference_p50)


def test_a_shadow_judges_what_the_active_version_judges_and_nobody_sees_it(line: Line) -> None:
    beside = Beside(line)
    for number in range(1, 21):
        line.stroke(number, wear=0.6 if number % 4 == 0 else 0.0)
        found = beside.step()
    judged = line.judged()
    assert [row["stroke"] for row in judged] == list(range(1, 21))
    assert {row["model_version"] for row in judged} == {1}
    assert line.counters()["processed"] == 20
    assert (found.compared, found.undecided, found.missed) == (20, 0, 0)
    assert found.agreed == 20, found.disagreement  # both versions of the example see the same wear
    assert found.score_difference_p99 >= found.score_difference_p50 > 0.0
    assert found.p99_ms >= 0.0


def test_alarms_that_are_new_or_lost_are_counted_with_the_last_one_in_words(line: Line) -> None:
    beside = Beside(line)
    binding = beside.process.lane.model.bind()
    run = binding._run

    def inverted() -> None:
        run()
        limit = beside.process.lane.model.manifest.limit
        binding.answer["score"][:] = 0.0 if binding.answer["score"][0] >= limit else 9.0

    binding._run = inverted
    line.stroke(1)
    beside.step()
    line.stroke(2, wear=0.6)
    found = beside.step()
    assert (found.compared, found.agreed, found.new_alarms, found.lost_alarms) == (2, 0, 1, 1)
    assert found.disagreement.startswith("stroke 2: Ok (0) instead of NotOk (")


def test_a_stroke_without_a_verdict_of_its_own_is_not_compared(line: Line) -> None:
    beside = Beside(line)
    line.stroke(1, status=0x80310000)  # Bad_NoCommunication: both give the fail-safe verdict
    line.stroke(2)
    found = beside.step()
    assert (found.compared, found.undecided) == (1, 1)


def test_a_shadow_that_is_slow_is_neither_late_nor_in_the_way(line: Line) -> None:
    # Its deadline is not the lane's: what is looked for is what it says, and how long it takes.
    beside = Beside(line)
    assert isinstance(line.clock, ManualClock)
    slow_down(beside.process, line.clock, 0.3)  # 100 ms are allowed
    line.stroke(1)
    found = beside.step()
    assert (found.compared, found.agreed) == (1, 1)
    assert found.p99_ms >= 300.0
    assert line.verdict()["score.status"] == GOOD


def test_captures_that_a_shadow_comes_too_late_for_are_counted(line: Line) -> None:
    beside = Beside(line)
    for number in range(1, 101):
        line.stroke(number)
        beside.active.step()
    found = beside.step()
    assert found.missed == 100 - 64  # what the ring keeps
    assert found.state == "Behind"


def test_results_that_never_find_their_counterpart_take_no_more_room(line: Line) -> None:
    beside = Beside(line)
    beside.shadow.close()
    for number in range(1, PENDING + 50):
        line.stroke(number)
        beside.active.step()
        beside.comparison.look()
    assert len(beside.comparison._pending[0]) == PENDING


def test_a_shadow_ends_at_the_number_that_was_wanted(line: Line) -> None:
    beside = Beside(line, wanted=3)
    for number in range(1, 6):
        line.stroke(number)
        found = beside.step()
    assert found.is_complete
    assert (found.compared, found.state) == (3, "Compared")


def test_the_shadow_of_a_safety_lane_judges_every_stroke_although_the_lane_would_take_the_newest(
    line: Line,
) -> None:
    beside = Beside(line, lane=LaneClass.SAFETY)
    for number in range(1, 5):
        line.stroke(number)
        beside.active.step()
    found = beside.step()
    assert found.compared == 4


def test_a_rehearsal_judges_what_is_on_the_bus_and_leaves_no_trace(line: Line) -> None:
    for lane in (LaneClass.SAFETY, LaneClass.REALTIME):
        active = prepared(line, 1, lane)
        first = line.captures.sequence
        active.activate(None)
        for number in range(first + 1, first + 6):
            line.stroke(number)
            active.step()
        line.judged()
        before = line.counters()
        successor = prepared(line, 2, lane)
        assert rehearse(successor.unseen, successor.wanted.spec, line.bus, successor.engine) >= 1
        assert line.judged() == []
        assert line.counters() == before
        successor.activate(active.retire().cursor)
        line.stroke(first + 6)
        successor.step()
        assert line.verdict()["stroke"] == first + 6
        successor.retire()


def test_a_lane_that_was_relieved_can_take_over_again_without_a_stroke_lost_or_doubled(line: Line) -> None:
    # What it had taken in when it was retired was judged by its successor, or is still to be judged: by it.
    lanes = [prepared(line, 1), prepared(line, 2)]
    lanes[0].activate(None)
    for number in range(1, 41):
        line.stroke(number)
        now, following = lanes[number % 2 - 1], lanes[number % 2]
        now.engine.stalled = number % 3 == 0  # an answer that is not there yet
        now.step()
        following.engine.stalled = False
        following.lane.get_ready()
        following.activate(now.retire().cursor)
    judged = line.judged()
    assert [row["stroke"] for row in judged] == list(range(1, 41))
    assert line.counters()["processed"] == 40


def test_a_lane_whose_successor_failed_goes_on_with_what_it_had_not_published(line: Line) -> None:
    first, second = prepared(line, 1), prepared(line, 2)
    first.activate(None)
    line.stroke(1)
    first.engine.stalled = True
    first.step()
    line.stroke(2)
    first.retire()
    second.lane.get_ready()  # and then it ends before it has judged anything
    first.engine.stalled = False
    first.activate(int(str(line.counters()["cursor"])))
    first.step()
    assert [row["stroke"] for row in line.judged()] == [1, 2]
