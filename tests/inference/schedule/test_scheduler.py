"""Admission, order, expiry, preemption and shedding, on times that the tests give."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Batch, Fate, LaneClass, Request
from edge_opcua.inference.schedule.scheduler import MOST_WAITING, Scheduler

MS = 1_000_000
SAFETY, REALTIME, BEST_EFFORT = LaneClass
ROW = np.zeros(1, np.float32)
NO_GAIN = {1: 1}


def scheduler(
    curves: Mapping[str, Mapping[int, int]], *, workers: int = 1, most: int = 32, guard: int = 0
) -> Scheduler:
    """Return a scheduler of models whose costs (ms by batch) are exact."""
    costs = CostTable()
    for key, curve in curves.items():
        for batch, each in curve.items():
            costs.seed(key, batch, [each * MS] * 10)
    return Scheduler(costs, workers=workers, most=dict.fromkeys(curves, most), guard_ns=guard)


def request(
    model: str,
    deadline: int,
    *,
    lane: LaneClass = REALTIME,
    at: int = 0,
    priority: int = 5,
    cheaper: tuple[str, ...] = (),
) -> Request:
    return Request(model, lane, at * MS, deadline * MS, ROW, cheaper, priority)


def take(scheduler: Scheduler, now: int, worker: int = 0) -> Batch:
    batch = scheduler.take(worker, now * MS)
    assert batch is not None
    return batch


def drain(scheduler: Scheduler, workers: int = 1) -> list[Request]:
    """Let everything run at exactly its cost; returns what was run."""
    running: list[Batch] = []
    idle = list(range(workers))
    done: list[Request] = []
    now = 0
    while True:
        while idle and (batch := scheduler.take(idle[0], now)) is not None:
            idle.pop(0)
            running.append(batch)
        until = scheduler.wait_ns(now) if idle else None
        first = min(running, key=lambda each: each.expected_ns, default=None)
        if until is not None and (first is None or until < first.expected_ns):
            now = until
            continue
        if first is None:
            return done
        running.remove(first)
        now = first.expected_ns
        scheduler.ended(first, now)
        idle.append(first.worker)
        done += first.requests


# --- order


def test_the_earliest_deadline_goes_first_and_of_equal_ones_the_first_that_came() -> None:
    line = scheduler({"m": {1: 1}})
    offered = [request("m", deadline) for deadline in (30, 10, 20, 10)]
    assert all(line.offer(each, 0) for each in offered)
    assert drain(line) == [offered[1], offered[3], offered[2], offered[0]]


def test_a_class_above_goes_first_whatever_the_deadlines() -> None:
    line = scheduler({"m": {1: 1}})
    offered = [request("m", 10, lane=BEST_EFFORT), request("m", 20), request("m", 30, lane=SAFETY)]
    assert all(line.offer(each, 0) for each in offered)
    assert drain(line) == [offered[2], offered[1], offered[0]]


def test_a_request_that_ran_says_when_with_whom_and_by_what() -> None:
    line = scheduler({"m": {1: 4, 2: 5}})
    first, second = request("m", 20), request("m", 30)
    line.offer(first, 0)
    line.offer(second, 0)
    batch = take(line, 1)
    assert (batch.requests, batch.model, batch.started_ns, batch.expected_ns) == (
        [first, second],
        "m",
        1 * MS,
        6 * MS,
    )
    line.ended(batch, 7 * MS)
    for each in (first, second):
        assert (each.fate, each.ran, each.batch, each.started_ns, each.ended_ns) == (
            Fate.DONE,
            "m",
            2,
            1 * MS,
            7 * MS,
        )


def test_a_fate_that_the_run_gave_a_request_stays() -> None:
    line = scheduler({"m": {1: 1}})
    bad = request("m", 20)
    line.offer(bad, 0)
    batch = take(line, 0)
    bad.fate = Fate.FAILED
    line.ended(batch, 1 * MS)
    assert bad.fate is Fate.FAILED


def test_a_run_that_failed_as_a_whole_does_not_count_as_a_cost() -> None:
    costs = CostTable()
    costs.seed("m", 1, [MS] * 10)
    line = Scheduler(costs, workers=1, most={}, guard_ns=0)
    bad = request("m", 50)
    line.offer(bad, 0)
    batch = take(line, 0)
    bad.fate = Fate.FAILED
    line.ended(batch, 40 * MS)
    assert costs.cost_ns("m", 1) == MS


def test_a_worker_runs_one_batch_at_a_time() -> None:
    line = scheduler({"m": {1: 1}})
    line.offer(request("m", 20), 0)
    line.offer(request("m", 20), 0)
    batch = take(line, 0)
    with pytest.raises(ValueError, match="is running"):
        line.take(0, 0)
    line.ended(batch, MS)
    with pytest.raises(ValueError, match="something else"):
        line.ended(batch, MS)


# --- admission


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 20)), min_size=1, max_size=6))
def test_one_worker_takes_exactly_what_some_order_could_meet(offers: list[tuple[str, int]]) -> None:
    cost = {"a": 1, "b": 3, "c": 5}
    line = scheduler({key: {1: each} for key, each in cost.items()})
    taken: list[tuple[str, int]] = []
    for model, deadline in offers:
        accepted = line.offer(request(model, deadline), 0)
        assert accepted == any(
            all(
                sum(cost[before] for before, _ in order[: place + 1]) <= end
                for place, (_, end) in enumerate(order)
            )
            for order in permutations([*taken, (model, deadline)])
        )
        if accepted:
            taken.append((model, deadline))
    done = drain(line)
    assert len(done) == len(taken)
    assert all(each.ended_ns <= each.deadline_ns for each in done)


curves = st.sampled_from([{1: 4}, {1: 5, 2: 6, 4: 8, 8: 12}, {1: 2, 2: 3, 4: 5}, {1: 3, 4: 4}])


@settings(max_examples=300)
@given(
    st.lists(curves, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(2, 60)), min_size=1, max_size=14),
    st.integers(1, 3),
)
def test_what_was_taken_is_answered_in_time_if_runs_take_what_they_should(
    models: list[dict[int, int]], offers: list[tuple[int, int]], workers: int
) -> None:
    line = scheduler({str(number): curve for number, curve in enumerate(models)}, workers=workers)
    taken = [
        each
        for number, deadline in offers
        if line.offer(each := request(str(number % len(models)), deadline), 0)
    ]
    done = drain(line, workers)
    assert not line.dropped()
    assert len(done) == len(taken)
    assert all(each.ended_ns <= each.deadline_ns for each in done)


def test_what_runs_now_counts() -> None:
    line = scheduler({"m": {1: 10}})
    line.offer(request("m", 10), 0)
    batch = take(line, 0)
    assert not line.offer(request("m", 19, at=4), 4 * MS)
    assert line.offer(request("m", 20, at=4), 4 * MS)
    line.ended(batch, 10 * MS)


def test_a_run_that_is_overdue_is_expected_to_take_as_long_again() -> None:
    line = scheduler({"m": {1: 10}})
    line.offer(request("m", 20), 0)
    take(line, 0)
    assert not line.offer(request("m", 35, at=18), 18 * MS)  # 8 late, so 8 more, and 10 of its own
    assert line.offer(request("m", 36, at=18), 18 * MS)


def test_the_guard_stays_free_before_each_deadline() -> None:
    line = scheduler({"m": {1: 10}}, guard=MS)
    assert not line.offer(request("m", 10), 0)
    assert line.offer(request("m", 11), 0)


def test_a_rejection_says_why_and_when_to_try_again() -> None:
    line = scheduler({"m": {1: 10}})
    line.offer(request("m", 12), 0)
    take(line, 0)
    refused = request("m", 13)
    assert not line.offer(refused, 0)
    assert (refused.fate, refused.code, refused.retry_after_ns) == (Fate.REJECTED, "M550", 7 * MS)
    assert "7.0 ms" in refused.reason
    again = request("m", 20, at=7)  # the same, 7 ms later
    assert line.offer(again, 7 * MS)


def test_a_model_slower_than_the_deadline_is_told_apart() -> None:
    line = scheduler({"m": {1: 10}})
    refused = request("m", 9)
    assert not line.offer(refused, 0)
    assert (refused.code, refused.retry_after_ns) == ("M551", 0)
    assert refused.reason == "it takes 10.0 ms and has 9.0 ms"


def test_a_capture_that_comes_late_is_no_fault_of_the_model() -> None:
    line = scheduler({"m": {1: 2}})
    refused = request("m", 9)
    assert not line.offer(refused, 10 * MS)
    assert refused.code == "M550"
    assert refused.reason == "10.0 ms were over when it came to the model, which takes 2.0 ms"


def test_what_waits_is_bounded() -> None:
    line = scheduler({"m": {1: 1}})
    for _ in range(MOST_WAITING):
        assert line.offer(request("m", 10_000), 0)
    refused = request("m", 10_000)
    assert not line.offer(refused, 0)
    assert refused.code == "M552"
    assert line.load(0).waiting == MOST_WAITING


def test_the_next_cheaper_variant_judges_what_would_be_late() -> None:
    line = scheduler({"m/2": {1: 10}, "m/1": {1: 5}, "m/0": {1: 1}})
    line.offer(request("m/2", 10), 0)
    second = request("m/2", 16, cheaper=("m/1", "m/0"))
    assert line.offer(second, 0)
    assert second.ran == "m/1"
    third = request("m/2", 16, cheaper=("m/1", "m/0"))
    assert line.offer(third, 0)
    assert third.ran == "m/0"
    assert not line.offer(request("m/2", 16, cheaper=("m/1", "m/0")), 0)
    assert line.load(0).cheaper == 2
    assert drain(line)[1].ran == "m/1"


def test_costs_that_have_changed_count_at_once() -> None:
    costs = CostTable()
    costs.seed("m", 1, [10 * MS] * 10)
    line = Scheduler(costs, workers=1, most={}, guard_ns=0)
    assert line.offer(request("m", 15), 0)
    costs.scale = 2.0
    assert not line.offer(request("m", 39), 0)
    assert line.offer(request("m", 40), 0)


# --- dispatch


def test_what_would_be_late_is_never_run() -> None:
    line = scheduler({"m": {1: 10}})
    first, second, third = request("m", 10), request("m", 20), request("m", 30)
    for each in (first, second, third):
        assert line.offer(each, 0)
    batch = take(line, 0)
    line.ended(batch, 14 * MS)  # it took longer than it ever did
    batch = take(line, 14)
    assert batch.requests == [third]
    assert line.dropped() == [second]
    assert (second.fate, second.code) == (Fate.EXPIRED, "M554")
    assert second.reason == "it would have been 8.0 ms late"  # 14 ms is what a run may take, as is known now
    assert not line.dropped()
    assert line.load(0).expired == 1


def test_a_cheaper_variant_is_tried_before_a_request_expires() -> None:
    line = scheduler({"m/2": {1: 10}, "m/1": {1: 3}})
    second = request("m/2", 20, cheaper=("m/1",))
    line.offer(request("m/2", 10), 0)
    line.offer(second, 0)
    line.ended(take(line, 0), 15 * MS)
    assert take(line, 15).model == "m/1"
    assert second.ran == "m/1"


def test_what_has_expired_is_known_without_a_free_worker() -> None:
    line = scheduler({"m": {1: 10}})
    line.offer(request("m", 10), 0)
    late = request("m", 20)
    line.offer(late, 0)
    take(line, 0)
    line.expire(11 * MS)
    assert line.dropped() == [late]


# --- batches


def test_requests_of_a_model_run_together_where_that_pays() -> None:
    line = scheduler({"m": {1: 4, 2: 5, 4: 6}})
    for _ in range(6):
        line.offer(request("m", 50), 0)
    assert [len(take(line, 0).requests), line.load(0).waiting] == [4, 2]


def test_batches_are_off_where_they_gain_nothing() -> None:
    line = scheduler({"conv": {1: 4, 2: 8, 4: 16}})
    for _ in range(6):
        line.offer(request("conv", 50), 0)
    assert len(take(line, 0).requests) == 1


def test_a_model_takes_no_more_than_it_may() -> None:
    line = scheduler({"m": {1: 4, 2: 5, 4: 6}}, most=3)
    for _ in range(6):
        line.offer(request("m", 50), 0)
    assert len(take(line, 0).requests) == 3


def test_a_batch_is_over_before_its_first_deadline() -> None:
    line = scheduler({"m": {1: 4, 2: 5, 4: 7}})
    line.offer(request("m", 5), 0)
    for _ in range(3):
        line.offer(request("m", 50), 0)
    assert len(take(line, 0).requests) == 2


def test_a_batch_makes_no_other_model_late() -> None:
    line = scheduler({"m": {1: 4, 2: 5, 4: 7, 8: 11}, "other": {1: 2}})
    for _ in range(8):
        line.offer(request("m", 20), 0)
    assert line.offer(request("other", 9), 0)
    assert take(line, 0).model == "other"
    line = scheduler({"m": {1: 4, 2: 5, 4: 7, 8: 11}, "other": {1: 2}})
    for _ in range(8):
        line.offer(request("m", 20), 0)
    assert line.offer(request("other", 21), 0)
    assert len(take(line, 0).requests) == 8


def test_a_worker_waits_for_one_more_only_if_joining_saves_more_than_waiting_costs() -> None:
    line = scheduler({"m": {1: 10, 2: 11, 4: 12}})
    for now in (0, 4, 8):  # one each 4 ms, and joining saves 9
        line.offer(request("m", 60, at=now), now * MS)
        batch = line.take(0, now * MS)
        if batch is not None:
            line.ended(batch, now * MS + 1)
    line.offer(request("m", 72, at=12), 12 * MS)
    assert line.take(0, 12 * MS) is None
    until = line.wait_ns(12 * MS)
    assert until == 18 * MS  # the next one is expected at 16
    assert line.offer(request("m", 76, at=16), 16 * MS)
    assert line.offer(request("m", 76, at=16), 16 * MS)
    assert line.offer(request("m", 76, at=16), 16 * MS)
    assert len(take(line, 16).requests) == 4


def test_a_worker_does_not_wait_where_requests_are_rare() -> None:
    line = scheduler({"m": {1: 10, 2: 11, 4: 12}})
    for now in (0, 40, 80, 120):
        line.offer(request("m", now + 60, at=now), now * MS)
        line.ended(take(line, now), (now + 10) * MS)
        assert line.wait_ns(now * MS) is None


def test_a_worker_does_not_wait_beyond_the_first_deadline() -> None:
    line = scheduler({"m": {1: 10, 2: 11, 4: 12}})
    for now in (0, 4):
        line.offer(request("m", now + 16, at=now), now * MS)
    assert line.take(0, 4 * MS) is None
    assert line.wait_ns(4 * MS) == 4.5 * MS  # three would take 11.5 ms, and the first must be over at 16
    batch = take(line, 5)
    assert len(batch.requests) == 2


# --- preemption


def preempted() -> tuple[Scheduler, Request, Batch]:
    line = scheduler({"survey": {1: 30}, "fast": {1: 2}})
    survey = request("survey", 400, lane=BEST_EFFORT)
    line.offer(survey, 0)
    return line, survey, take(line, 0)


def test_a_run_of_best_effort_is_cancelled_for_a_request_that_would_be_late() -> None:
    line, survey, batch = preempted()
    assert line.preempt(5 * MS) is None
    assert line.offer(request("fast", 15, at=5), 5 * MS)
    assert line.preempt(5 * MS) == 0
    assert batch.cancelled
    assert line.preempt(5 * MS) is None  # it was told already
    line.ended(batch, 6 * MS, cancelled=True)
    assert (survey.fate, survey.preempted) == (Fate.WAITING, 1)
    assert take(line, 6).model == "fast"
    assert line.load(0).preempted == 1


def test_a_run_of_best_effort_goes_on_if_the_request_can_wait() -> None:
    line, _, _ = preempted()
    assert line.offer(request("fast", 40, at=5), 5 * MS)
    assert line.preempt(5 * MS) is None


def test_a_run_that_is_nearly_over_is_not_cancelled() -> None:
    line, _, _ = preempted()
    line.offer(request("fast", 33, at=29), 29 * MS)
    assert line.preempt(29 * MS) is None


def test_a_cancelled_request_runs_to_its_end_the_second_time() -> None:
    line, survey, batch = preempted()
    line.offer(request("fast", 15, at=5), 5 * MS)
    line.preempt(5 * MS)
    line.ended(batch, 6 * MS, cancelled=True)
    line.ended(take(line, 6), 8 * MS)
    # It would hold up the fast ones, so it waits until its own deadline is near.
    assert line.take(0, 8 * MS) is None
    latest = line.wait_ns(8 * MS)
    assert latest is not None
    assert 360 * MS < latest <= 370 * MS
    batch = take(line, latest // MS + 1)
    assert batch.requests == [survey]
    assert not line.offer(request("fast", 375, at=368), 368 * MS)
    assert line.preempt(368 * MS) is None
    line.ended(batch, 398 * MS)
    assert survey.fate is Fate.DONE


def test_a_cancelled_request_need_not_wait_where_another_worker_can_be_had() -> None:
    line = scheduler({"survey": {1: 30}, "fast": {1: 2}}, workers=2)
    surveys = [request("survey", 400, lane=BEST_EFFORT) for _ in range(2)]
    for each in surveys:
        line.offer(each, 0)
    batches = [take(line, 0, worker) for worker in (0, 1)]
    line.offer(request("fast", 15, at=5), 5 * MS)
    worker = line.preempt(5 * MS)
    assert worker is not None
    assert line.preempt(5 * MS) is None  # one is enough
    line.ended(batches[worker], 6 * MS, cancelled=True)
    line.ended(take(line, 6, worker), 8 * MS)
    assert take(line, 8, worker).requests[0].preempted == 1


def test_a_second_cancellation_is_a_failure() -> None:
    line, survey, batch = preempted()
    line.ended(batch, 6 * MS, cancelled=True)
    line.ended(take(line, 6), 7 * MS, cancelled=True)
    assert (survey.fate, survey.code) == (Fate.FAILED, "M556")
    assert line.dropped() == [survey]


def test_runs_that_cannot_be_cancelled_are_not_counted_on() -> None:
    line = scheduler({"survey": {1: 30}, "fast": {1: 2}})
    now = 0
    for _ in range(3):  # each goes on to its end although it was told to stop
        line.offer(request("survey", now + 400, lane=BEST_EFFORT, at=now), now * MS)
        batch = take(line, now)
        line.offer(request("fast", now + 15, at=now + 5), (now + 5) * MS)
        line.preempt((now + 5) * MS)
        line.ended(batch, (now + 30) * MS)
        while line.take(0, (now + 30) * MS):
            pass
        line.dropped()
        now += 100
    line.offer(request("survey", now + 400, lane=BEST_EFFORT, at=now), now * MS)
    take(line, now)
    assert not line.offer(request("fast", now + 15, at=now + 5), (now + 5) * MS)


# --- shedding


def test_heat_sheds_best_effort_and_nothing_else() -> None:
    line = scheduler({"m": {1: 1}})
    survey, fast = request("m", 100, lane=BEST_EFFORT), request("m", 100)
    line.offer(survey, 0)
    line.offer(fast, 0)
    line.shed(BEST_EFFORT)
    assert line.dropped() == [survey]
    assert (survey.fate, survey.code) == (Fate.SHED, "M553")
    refused = request("m", 100, lane=BEST_EFFORT)
    assert not line.offer(refused, 0)
    assert refused.code == "M553"
    assert line.offer(request("m", 100), 0)
    line.unshed()
    assert line.offer(request("m", 100, lane=BEST_EFFORT), 0)
    with pytest.raises(ValueError, match="never shed"):
        line.shed(SAFETY)


def test_a_cancelled_request_is_shed_with_its_class() -> None:
    line, survey, batch = preempted()
    line.shed(BEST_EFFORT)
    line.ended(batch, 6 * MS, cancelled=True)
    assert survey.fate is Fate.SHED


def test_best_effort_that_realtime_makes_late_is_shed_by_priority() -> None:
    line = scheduler({"m": {1: 10}})
    surveys = [request("m", 40, lane=BEST_EFFORT, priority=priority) for priority in (3, 9, 5)]
    for each in surveys:
        assert line.offer(each, 0)
    assert line.offer(request("m", 15), 0)  # takes the 10 ms that were left
    assert not line.dropped()
    assert line.offer(request("m", 25), 0)
    assert line.dropped() == [surveys[1]]
    assert (surveys[1].fate, surveys[1].code) == (Fate.SHED, "M555")
    assert line.offer(request("m", 35), 0)
    assert line.dropped() == [surveys[2]]


def test_a_higher_priority_displaces_a_lower_one_of_its_class() -> None:
    line = scheduler({"m": {1: 10}})
    low, lower = request("m", 20, priority=6), request("m", 20, priority=8)
    assert line.offer(low, 0)
    assert line.offer(lower, 0)
    assert not line.offer(request("m", 20, priority=8), 0)
    high = request("m", 20, priority=2)
    assert line.offer(high, 0)
    assert line.dropped() == [lower]
    assert drain(line) == [low, high]


def test_nobody_is_displaced_in_vain() -> None:
    line = scheduler({"m": {1: 10}})
    low = request("m", 40, priority=8)
    line.offer(request("m", 10, priority=1), 0)
    line.offer(low, 0)
    assert not line.offer(request("m", 15, priority=2), 0)
    assert not line.dropped()
    assert low in drain(line)


# --- load


def test_the_load_is_what_is_asked_not_what_is_served() -> None:
    line = scheduler({"m": {1: 10}}, workers=2)
    for now in range(0, 400, 4):  # 10 ms each 4 ms, two workers
        line.offer(request("m", now + 12, at=now), now * MS)
    load = line.load(400 * MS)
    assert load.utilisation == pytest.approx(1.25, abs=0.02)
    assert load.rejected > 0


def test_the_load_counts_batches() -> None:
    line = scheduler({"m": {1: 4, 2: 5, 4: 6}})
    for _ in range(6):
        line.offer(request("m", 50), 0)
    drain(line)
    load = line.load(0)
    assert (load.batches, load.mean_batch, load.waiting) == (2, 3.0, 0)
