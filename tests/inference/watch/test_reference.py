"""Reference samples that are run again: through the engine of everybody, in quiet moments, in any thread."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.schedule.request import Fate, LaneClass, Request
from edge_opcua.inference.watch.reference import MOST, ReferenceCheck, References, references_of
from edge_opcua.testing import ManualClock
from tests.inference.line import Line, OneLane, delivered


class Asked:
    """An engine that keeps what it is asked for."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def submit(self, request: Request) -> bool:
        self.requests.append(request)
        return True

    def judge(self, request: Request) -> None:
        raise AssertionError("it is no safety lane")


@pytest.fixture
def lane() -> Iterator[OneLane]:
    line = Line(ManualClock())
    made = line.lane(delivered())
    made.prepare()
    yield made
    line.close()


def references(lane: OneLane) -> References:
    return references_of(lane.lane.model, delivered().golden)


def checked(lane: OneLane, engine: Asked, *, cost_us: float = 100.0) -> tuple[ReferenceCheck, ManualClock]:
    clock = ManualClock()
    check = ReferenceCheck(
        references(lane),
        engine,
        clock,
        lane=LaneClass.REALTIME,
        every_s=60.0,
        deadline_ms=100.0,
        cost_us=cost_us,
    )
    clock.step(10.0)
    return check, clock


def answered(request: Request, found: References, at: int) -> Request:
    request.fate = Fate.DONE
    request.answers = {name: rows[at].copy() for name, rows in found.answers.items()}
    return request


def test_at_most_so_many_samples_are_kept_and_known_by_their_number(lane: OneLane) -> None:
    found = references(lane)
    assert 1 <= len(found.rows) <= MOST
    assert len(found.numbers) == len(found.rows)
    assert set(found.answers) == {"score", "confidence", "expected", "contributions"}


def test_one_sample_at_a_time_is_asked_as_best_effort(lane: OneLane) -> None:
    engine = Asked()
    check, _ = checked(lane, engine)
    for _ in range(5):
        check.tick(math.inf, math.nan)
    (request,) = engine.requests
    assert request.lane is LaneClass.BEST_EFFORT


def test_a_sample_that_takes_long_waits_for_a_moment_in_which_it_fits(lane: OneLane) -> None:
    engine = Asked()
    check, _ = checked(lane, engine, cost_us=20_000.0)
    check.tick(0.95, 1.0)  # the next capture is due in 50 ms
    check.tick(0.5, math.nan)  # nobody knows when
    assert engine.requests == []
    check.tick(0.1, 1.0)
    assert len(engine.requests) == 1


@pytest.mark.parametrize("fate", [Fate.REJECTED, Fate.SHED, Fate.EXPIRED])
def test_a_sample_for_which_there_is_no_time_proves_nothing_and_comes_later(
    lane: OneLane, fate: Fate
) -> None:
    engine = Asked()
    check, clock = checked(lane, engine)
    check.tick(math.inf, math.nan)
    engine.requests[0].fate = fate
    check.finish(engine.requests[0])
    check.tick(math.inf, math.nan)
    assert len(engine.requests) == 1
    assert check.finding() is None
    clock.step(11.0)
    check.tick(math.inf, math.nan)
    assert len(engine.requests) == 2


def test_once_wrong_is_looked_at_again_and_twice_is_an_alarm_until_a_round_is_right(lane: OneLane) -> None:
    engine, found = Asked(), references(lane)
    check, clock = checked(lane, engine)

    def run(at: int, *, off: float = 0.0) -> None:
        check.tick(math.inf, math.nan)
        request = answered(engine.requests.pop(), found, at)
        request.answers["score"] += np.float32(off)
        check.finish(request)

    run(0, off=0.5)
    assert check.finding() is None
    run(0)  # a moment's disturbance
    run(1, off=0.5)
    run(1, off=0.5)
    finding = check.finding()
    assert finding is not None
    assert finding.text.startswith("reference sample 2: score is ")
    clock.step(11.0)
    for at in range(len(found.rows)):
        assert check.finding() is not None, "until the round is over"
        run(at)
    assert check.finding() is None
    assert check.checked_ns > 0


def test_a_run_that_fails_is_told_with_its_code(lane: OneLane) -> None:
    engine = Asked()
    check, _ = checked(lane, engine)
    for _ in range(2):
        check.tick(math.inf, math.nan)
        request = engine.requests.pop()
        request.fate, request.code, request.reason = Fate.FAILED, "M532", "no memory on the card"
        check.finish(request)
    finding = check.finding()
    assert finding is not None
    assert finding.text == "reference sample 1 failed: M532: no memory on the card"


def test_a_run_for_which_there_is_no_model_server_is_tried_later_and_told_of_nobody(lane: OneLane) -> None:
    engine = Asked()
    check, clock = checked(lane, engine)
    for _ in range(3):
        check.tick(math.inf, math.nan)
        request = engine.requests.pop()
        request.fate, request.code, request.reason = Fate.FAILED, "M570", "it cannot be reached"
        check.finish(request)
        clock.step(11.0)
    assert check.finding() is None
    assert check.checked_ns == 0


def test_workers_of_the_engine_run_them_too(lane: OneLane) -> None:
    clock = SystemClock()
    models = {lane.lane.model.key: lane.lane.model}
    engine = Engine(models, lane.costs, clock, workers=1)
    engine.start()
    check = ReferenceCheck(
        references(lane),
        engine,
        clock,
        lane=LaneClass.REALTIME,
        every_s=0.001,
        deadline_ms=1_000.0,
        cost_us=100.0,
    )
    until_s = clock.monotonic_s() + 10.0
    try:
        while not check.checked_ns and clock.monotonic_s() < until_s:
            check.tick(math.inf, math.nan)
            for request in engine.turn():
                request.tag.lane.finish(request)
    finally:
        engine.close()
    assert check.checked_ns
    assert check.is_ok
