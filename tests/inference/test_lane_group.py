"""Lanes of one process: who wins, what is refused, what is late, who goes on, and what readers see of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_NO_COMMUNICATION,
    BAD_RESOURCE_UNAVAILABLE,
    BAD_SENSOR_FAILURE,
    BAD_TIMEOUT,
    GOOD,
    UNCERTAIN_SUBSTITUTE,
    Link,
    Verdict,
)
from edge_opcua.errors import ModelError
from edge_opcua.inference.blocks import result_policy
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.group import LaneGroup
from edge_opcua.inference.lane import Lane, LaneSpec
from edge_opcua.inference.readiness import Readiness
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.testing import ManualClock
from tests.inference.line import PIPELINE, Line, OneLane, delivered, plain, spec

MS = 1_000_000
SAFETY = PIPELINE.model_copy(update={"lane": "safety", "deadline_ms": 5})
STUDY = PIPELINE.model_copy(update={"name": "study", "lane": "best_effort"})


def safety_spec() -> LaneSpec:
    return replace(spec(), lane=LaneClass.SAFETY, deadline_ms=5.0)


def study_spec() -> LaneSpec:
    return replace(
        spec(),
        pipeline="study",
        wake=1,
        lane=LaneClass.BEST_EFFORT,
        deadline_ms=2_000.0,
        result_block=STUDY.result_block,
        lane_block=STUDY.lane_block,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def line(clock: ManualClock) -> Iterator[Line]:
    made = Line(clock)
    yield made
    made.close()


@pytest.fixture
def safety(clock: ManualClock) -> Iterator[Line]:
    made = Line(clock, pipelines=(SAFETY,))
    yield made
    made.close()


def active(line: Line, **given: Any) -> OneLane:
    lane = line.lane(delivered(), **given)
    lane.prepare()
    lane.activate(None)
    return lane


# --- the safety lane ----------------------------------------------------------------------------------


def test_in_a_safety_lane_the_newest_capture_wins_and_the_others_are_counted(safety: Line) -> None:
    lane = active(safety, lane_spec=safety_spec())
    for number in range(1, 6):
        safety.stroke(number)
    lane.step()
    result = safety.verdict()
    assert (result["stroke"], result["verdict"]) == (5, Verdict.OK)
    assert safety.counters()["superseded"] == 4
    assert safety.counters()["processed"] == 1
    assert safety.counters()["missed"] == 0


def test_a_lane_that_is_asked_for_more_than_it_can_do_leaves_the_others_of_its_process_a_turn(
    safety: Line,
) -> None:
    lane = active(safety, lane_spec=safety_spec())
    binding = lane.lane.model.bind()
    run, strokes = binding._run, iter(range(2, 12))

    def slower_than_the_press() -> None:
        run()
        if (number := next(strokes, None)) is not None:
            safety.stroke(number)

    binding._run = slower_than_the_press
    safety.stroke(1)
    for number in range(1, 11):
        assert lane.group.turn(), "there is more to do at once"
        assert safety.verdict()["stroke"] == number
    assert not lane.group.turn()
    assert safety.verdict()["stroke"] == 11


def test_a_change_of_the_link_supersedes_no_capture(safety: Line, clock: ManualClock) -> None:
    lane = active(safety, lane_spec=safety_spec())
    safety.stroke(1)
    safety.stroke(2)
    clock.step(0.001)
    safety.link(Link.LOST)
    lane.step()
    judged, lost = safety.judged()
    assert (judged["stroke"], judged["verdict"]) == (2, Verdict.OK)
    assert lost["stroke.status"] == BAD_NO_COMMUNICATION
    assert safety.counters()["superseded"] == 1


def test_a_capture_that_the_device_refuses_is_told_behind_the_one_before_it(safety: Line) -> None:
    lane = active(safety, lane_spec=safety_spec())
    safety.stroke(1)
    safety.stroke(2)
    safety.captures.batch.status[:] = BAD_CONFIGURATION_ERROR  # as the capture reader publishes it
    safety.captures.publish()
    lane.step()
    assert [row["stroke"] for row in safety.judged()] == [2, None]
    assert safety.counters()["superseded"] == 1


def test_silence_of_a_safety_lane_is_the_fail_safe_verdict_for_every_reader(
    safety: Line, clock: ManualClock
) -> None:
    # Nobody tells: the reader derives it from what the lane has promised (deadline 5 ms, tick 5 ms).
    lane = active(safety, lane_spec=safety_spec())
    safety.stroke(1)
    lane.step()
    batch = safety.results.latest()
    assert batch is not None
    verdict, score = batch.row("verdict"), batch.row("score")
    clock.step(0.009)
    assert safety.results.effective(batch)[verdict] == GOOD
    clock.step(0.002)
    shown = safety.results.effective(batch)
    assert shown[verdict] == UNCERTAIN_SUBSTITUTE
    assert shown[batch.row("fail_safe_active")] == UNCERTAIN_SUBSTITUTE
    assert shown[score] == BAD_COMMUNICATION_ERROR
    assert batch.layout.spec.tags[verdict].substitute == Verdict.NOT_DECIDABLE
    lane.step()
    assert safety.results.effective(batch)[verdict] == GOOD


@pytest.fixture
def live() -> Iterator[OneLane]:
    line = Line(SystemClock(), pipelines=(SAFETY,))
    yield active(line, lane_spec=safety_spec())
    line.close()


async def test_a_safety_lane_shows_that_it_lives_within_each_deadline(live: OneLane) -> None:
    results = live.bus.reader(SAFETY.result_block)
    beats: set[int] = set()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(live.run())
        while len(beats) < 10:
            beats.add(results.beat_ns)
            await asyncio.sleep(0.001)
        live.retire()
        await running
    stamps = sorted(beats)
    gaps_ms = [(after - before) / MS for before, after in itertools.pairwise(stamps)]
    assert min(gaps_ms) < 20.0, "the others do so every 50 ms"


# --- what is not judged -------------------------------------------------------------------------------


def test_what_cannot_be_met_is_refused_at_once_with_the_reason(line: Line) -> None:
    lane = active(line)
    lane.costs.seed("press-anomaly/1", 1, [150 * MS] * 10)
    line.stroke(7)
    lane.step()
    result = line.verdict()
    assert result["verdict.status"] == UNCERTAIN_SUBSTITUTE
    assert result["score.status"] == BAD_TIMEOUT
    assert str(result["reason"]).startswith("M551: not accepted: it takes 150.")
    assert result["total_ms"] == 20.0  # nothing was waited for: all of it is the way to us
    assert line.counters()["rejected"] == 1
    assert line.counters()["processed"] == 1
    assert line.counters()["p99_ms"] == 0.0  # a rejection is quick, which says nothing


def test_a_cheaper_version_answers_where_the_model_would_be_late_and_the_result_names_it(line: Line) -> None:
    lane = line.lane(delivered(1), cheaper=(delivered(2),))
    lane.prepare()
    lane.activate(None)
    line.stroke(6)
    lane.step()
    lane.costs.seed("press-anomaly/1", 1, [150 * MS] * 10)
    line.stroke(7)
    lane.step()
    first, second = line.judged()
    assert (first["model_version"], second["model_version"]) == (1, 2)
    assert second["model_sha256"] == delivered(2).manifest.sha256
    assert (second["verdict"], second["verdict.status"]) == (Verdict.OK, GOOD)
    assert line.counters()["degraded"] is True
    lane.costs.seed("press-anomaly/1", 1, [MS] * 10)
    line.stroke(8)
    lane.step()
    assert line.verdict()["model_version"] == 1
    assert line.counters()["degraded"] is False


def test_a_cheaper_version_decides_nothing_about_what_it_has_not_learned(line: Line) -> None:
    less = delivered(2)
    first, *others = less.manifest.features
    narrow = replace(less.manifest, features=(replace(first, low=-2.0, high=-1.0), *others))
    lane = line.lane(delivered(1), cheaper=(replace(less, manifest=narrow),))
    lane.prepare()
    lane.activate(None)
    lane.costs.seed("press-anomaly/1", 1, [150 * MS] * 10)
    line.stroke(7)
    lane.step()
    result = line.verdict()
    assert result["verdict"] == Verdict.NOT_DECIDABLE
    assert str(result["reason"]).startswith(f"not learned: {first.name}")
    assert result["score"] is None


def test_best_effort_is_given_up_while_the_machine_is_too_hot(clock: ManualClock) -> None:
    line = Line(clock, pipelines=(STUDY,))
    lane = active(line, lane_spec=replace(study_spec(), wake=0))
    lane.engine.shed(True)
    line.stroke(7)
    lane.step()
    result = line.verdict()
    assert result["score.status"] == BAD_RESOURCE_UNAVAILABLE
    assert result["verdict.status"] == UNCERTAIN_SUBSTITUTE
    assert str(result["reason"]).startswith("M553: given up: ")
    assert (line.counters()["shed"], line.counters()["rejected"]) == (1, 0)
    lane.engine.shed(False)
    line.stroke(8)
    lane.step()
    assert line.verdict()["verdict.status"] == GOOD
    line.close()


def test_a_model_that_fails_is_told_with_its_code(line: Line) -> None:
    lane = active(line)

    def broken() -> None:
        raise ModelError("no memory", code="M532")

    lane.lane.model.bind()._run = broken
    line.stroke(7)
    lane.step()
    result = line.verdict()
    assert result["score.status"] == BAD_INTERNAL_ERROR
    assert result["reason"] == "M532: no memory"
    assert line.counters()["failed"] == 1
    assert line.counters()["state"] == "FailSafe"


# --- in order, and in time ----------------------------------------------------------------------------


def test_a_verdict_that_is_known_at_once_does_not_overtake_the_stroke_before_it(line: Line) -> None:
    # A reader that looks at the newest result only must never go back to an older stroke.
    lane = active(line)
    lane.engine.stalled = True
    line.stroke(6)
    lane.step()
    line.stroke(7, status=BAD_SENSOR_FAILURE)
    lane.step()
    assert line.judged() == []
    lane.engine.stalled = False
    lane.step()
    assert [(row["stroke"], row["verdict.status"]) for row in line.judged()] == [
        (6, GOOD),
        (7, UNCERTAIN_SUBSTITUTE),
    ]


def test_the_loss_of_the_source_does_not_overtake_the_stroke_before_it(
    line: Line, clock: ManualClock
) -> None:
    lane = active(line)
    lane.engine.stalled = True
    line.stroke(6)
    clock.step(0.001)
    line.link(Link.LOST)
    lane.step()
    assert line.judged() == []
    lane.engine.stalled = False
    lane.step()
    assert [(row["stroke"], row["fail_safe_active"]) for row in line.judged()] == [(6, False), (None, True)]
    assert line.counters()["processed"] == 1
    assert line.counters()["cursor"] == 2, "the change of the link is dealt with too"


def test_an_answer_that_does_not_come_is_late_at_its_deadline_and_ignored_afterwards(
    line: Line, clock: ManualClock
) -> None:
    lane = active(line)
    lane.engine.stalled = True
    line.stroke(6)
    lane.step()
    clock.step(0.1)
    lane.step()
    assert line.judged() == []
    clock.step(0.001)
    line.tags()
    lane.step()
    result = line.verdict()
    assert (result["stroke"], result["score.status"]) == (6, BAD_TIMEOUT)
    assert str(result["reason"]).startswith("late: 101 ms")
    assert line.counters()["late"] == 1
    lane.engine.stalled = False
    lane.step()
    assert line.judged() == []
    assert line.counters()["processed"] == 1


def test_what_is_not_answered_when_a_lane_is_retired_is_judged_by_its_successor(line: Line) -> None:
    former, successor = active(line), line.lane(delivered(2))
    successor.prepare()
    former.engine.stalled = True
    line.stroke(6)
    former.step()
    handover = former.retire()
    assert handover.cursor == 0
    successor.activate(handover.cursor)
    former.engine.stalled = False
    former.step()  # its answer comes too late, and the block is no longer its own
    assert [(row["stroke"], row["model_version"]) for row in line.judged()] == [(6, 2)]


# --- several lanes ------------------------------------------------------------------------------------


class Pair:
    """A realtime and a best-effort lane of one process, on one model."""

    def __init__(self, line: Line, *, workers: int = 0) -> None:
        self.line = line
        costs = CostTable()
        readiness = Readiness(line.bus, SystemClock(), costs)
        ready = [
            readiness.prepare(line.lane(delivered(), lane_spec=each).wanted)
            for each in (spec(), study_spec())
        ]
        self.models = readiness.models
        self.engine = Engine(readiness.models, costs, line.clock, workers=workers, most=readiness.most)
        self.engine.start()
        lanes = [
            Lane(each.spec, each.models, line.bus, line.clock, extractor=each.extractor, engine=self.engine)
            for each in ready
        ]
        self.group = LaneGroup(lanes, self.engine, line.bus, line.clock)
        self.study = line.bus.reader(STUDY.result_block, from_newest=False)

    def strokes(self) -> tuple[list[Any], list[Any]]:
        """Strokes judged by each lane since the last call."""
        first = [row["stroke"] for row in self.line.judged()]
        return first, [plain(batch)["stroke"] for batch in self.study.poll()]


@pytest.fixture
def pair(clock: ManualClock) -> Iterator[Pair]:
    line = Line(clock, pipelines=(PIPELINE, STUDY))
    made = Pair(line)
    yield made
    made.engine.close()
    line.close()


def test_pipelines_with_the_same_model_share_it(pair: Pair) -> None:
    assert list(pair.models) == ["press-anomaly/1"]


def test_every_lane_of_a_process_judges_every_capture(pair: Pair) -> None:
    pair.group.activate({"press-anomaly": None, "study": None})
    for number in (1, 2, 3):
        pair.line.stroke(number)
    pair.group.step()
    assert pair.strokes() == ([1, 2, 3], [1, 2, 3])


def test_a_lane_is_retired_alone_and_the_others_go_on(pair: Pair) -> None:
    pair.group.activate({"press-anomaly": None, "study": None})
    pair.line.stroke(1)
    pair.group.step()
    handovers = pair.group.retire(["study"])
    assert {name: each.cursor for name, each in handovers.items()} == {"study": 1}
    pair.line.stroke(2)
    pair.group.step()
    assert pair.strokes() == ([1, 2], [1])
    with pytest.raises(ModelError, match="not active: study") as caught:
        pair.group.retire()
    assert caught.value.code == "M534"
    assert pair.group.is_active, "a refused order changes nothing"


def test_a_group_takes_over_whole_or_not_at_all(pair: Pair) -> None:
    with pytest.raises(ModelError, match="no cursor for study"):
        pair.group.activate({"press-anomaly": None})
    assert not pair.group.is_active


@pytest.fixture
def workers() -> Iterator[Pair]:
    line = Line(SystemClock(), capture_depth=64, pipelines=(PIPELINE, STUDY))
    made = Pair(line, workers=2)
    yield made
    made.engine.close()
    line.close()


async def test_with_workers_every_stroke_is_judged_in_order_by_both(workers: Pair) -> None:
    strokes = 30
    async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
        workers.group.activate({"press-anomaly": None, "study": None})
        running = tasks.create_task(workers.group.run())
        for number in range(1, strokes + 1):
            workers.line.stroke(number)
            await asyncio.sleep(0.005)
        while workers.line.results.newest < strokes or workers.study.newest < strokes:
            await asyncio.sleep(0.01)
        handovers = workers.group.retire()
        await running
    assert workers.strokes() == (list(range(1, strokes + 1)),) * 2
    assert [each.cursor for each in handovers.values()] == [strokes, strokes]


def test_a_lane_that_flickers_does_not_fill_the_log(line: Line, clock: ManualClock) -> None:
    lane = active(line)
    with capture_logs() as logs:
        for number in range(1, 40):
            line.stroke(number, status=BAD_SENSOR_FAILURE if number % 2 else GOOD)
            lane.step()
            clock.step(0.01)
        assert [log["event"] for log in logs] == ["lane.fail_safe"]
        line.stroke(40)
        lane.step()
        clock.step(1.0)
        line.captures.beat()
        lane.step()
        assert [log["event"] for log in logs] == ["lane.fail_safe", "lane.recovered"]
    assert line.counters()["processed"] == 40


def test_a_result_says_what_ran_it_and_in_how_large_a_batch(line: Line) -> None:
    lane = active(line)
    line.stroke(7)
    lane.step()
    result = line.verdict()
    assert (result["source"], result["batch"]) == ("CPUExecutionProvider", 1)
    counters = line.counters()
    assert (counters["provider"], counters["accelerated"]) == ("CPUExecutionProvider", 1.0)
    assert counters["batch_mean"] == 1.0


def test_only_safety_promises_more_than_the_usual() -> None:
    usual = result_policy(PIPELINE)
    assert (usual.hold_s, usual.writer_lost_s) == (2.0, 1.0)
    slow = PipelineConfig.model_validate({**SAFETY.model_dump(), "deadline_ms": 400})
    assert (result_policy(slow).hold_s, result_policy(slow).writer_lost_s) == (0.0, 0.45)
