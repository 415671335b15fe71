"""The report on what can be promised, against the worst case tried out and the demand-bound criterion."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edge_opcua.inference.schedule.feasibility import Machine, Task, report
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.schedule.response import (
    Sporadic,
    earliest_deadline,
    several_workers,
    whatever_the_order,
)

MS = 1_000_000
SAFETY, REALTIME, BEST_EFFORT = LaneClass


@dataclass(frozen=True, order=True)
class Job:
    """Of two that wait, the smaller one runs first."""

    deadline: int
    tie: int
    number: int
    release: int
    cost: int


def edf(jobs: Sequence[Job], workers: int = 1) -> dict[int, int]:
    """Run jobs without interruption, the earliest deadline first; returns when each ended, by number."""
    coming = deque(sorted(jobs, key=lambda job: job.release))
    frees = [coming[0].release] * workers
    waiting: list[Job] = []
    ended: dict[int, int] = {}
    while coming or waiting:
        now = heapq.heappop(frees)
        if not waiting:
            now = max(now, coming[0].release)
        while coming and coming[0].release <= now:
            heapq.heappush(waiting, coming.popleft())
        job = heapq.heappop(waiting)
        ended[job.number] = now + job.cost
        heapq.heappush(frees, now + job.cost)
    return ended


def worst_by_trying(task: Sporadic, others: Sequence[Sporadic], horizon: int) -> int:
    """Return the longest response over all instants of a busy period.

    One with a later deadline, the longest, has just begun; all others come at once, and as often as they may.
    """
    worst = 0
    for instant in range(horizon):
        due = instant + task.deadline
        blocking = max((each.cost for each in others if each.deadline > due), default=0)
        jobs = [Job(-1, 0, -1, -1, blocking)] if blocking else []
        releases = [(each, at) for each in others for at in range(0, horizon, each.period)]
        before = [(each, at) for each, at in releases if at + each.deadline <= due]
        jobs += [Job(at + each.deadline, 0, -2 - n, at, each.cost) for n, (each, at) in enumerate(before)]
        own = range(instant % task.period, instant + 1, task.period)
        jobs += [Job(at + task.deadline, 1, at, at, task.cost) for at in own]
        worst = max(worst, edf(jobs)[instant] - instant)
    return worst


def busy_period(tasks: Sequence[Sporadic]) -> int:
    length = max(each.cost for each in tasks)
    while True:
        following = max(each.cost for each in tasks) + sum(-(-length // e.period) * e.cost for e in tasks)
        if following == length:
            return length
        length = following


sporadic = st.builds(
    lambda cost, slack, more: Sporadic(cost, cost + slack, cost + more),
    st.integers(1, 5),
    st.integers(3, 25),
    st.integers(0, 25),
)
systems = st.lists(sporadic, min_size=2, max_size=4).filter(
    lambda tasks: sum(each.cost / each.period for each in tasks) < 0.95
)


@settings(max_examples=60)
@given(systems)
def test_the_longest_response_is_the_one_that_trying_finds(tasks: list[Sporadic]) -> None:
    # George, Rivierre and Spuri 1996: exact
    task, *others = tasks
    assert earliest_deadline(task, others, 0) == worst_by_trying(task, others, busy_period(tasks) + 1)


@given(systems)
def test_all_deadlines_hold_exactly_where_the_demand_bound_holds(tasks: list[Sporadic]) -> None:
    # Baruah, Rosier and Howell 1990, with the blocking of Jeffay, Stanat and Martel 1991
    horizon = busy_period(tasks) + max(each.deadline for each in tasks)
    demand_holds = all(
        sum(((t - each.deadline) // each.period + 1) * each.cost for each in tasks if each.deadline <= t)
        + max((each.cost - 1 for each in tasks if each.deadline > t), default=0)
        <= t
        for t in range(min(each.deadline for each in tasks), horizon)
    )
    responses = [
        earliest_deadline(task, [other for other in tasks if other is not task], 0) for task in tasks
    ]
    assert demand_holds == all(
        worst is not None and worst <= task.deadline for worst, task in zip(responses, tasks, strict=True)
    )


@given(systems, st.integers(0, 1000))
def test_several_workers_answer_within_their_bound(tasks: list[Sporadic], seed: int) -> None:
    bounds = [several_workers(t, [other for other in tasks if other is not t], 2, 0) for t in tasks]
    assume(None not in bounds)
    rng = random.Random(seed)
    jobs: list[Job] = []
    until: dict[int, int] = {}
    for task, bound in zip(tasks, bounds, strict=True):
        now = rng.randrange(task.period)
        while now < 300:
            until[len(jobs)] = now + (bound or 0)
            jobs.append(Job(now + task.deadline, 0, len(jobs), now, task.cost))
            now += task.period + rng.choice((0, 0, rng.randrange(5)))
    assert all(end <= until[number] for number, end in edf(jobs, workers=2).items())


@given(systems, st.integers(0, 1000))
def test_a_thread_answers_within_its_bound_in_the_order_of_arrival(tasks: list[Sporadic], seed: int) -> None:
    rng = random.Random(seed)
    jobs: list[Job] = []
    until: dict[int, int] = {}
    for task in tasks:
        bound = whatever_the_order(task, [other for other in tasks if other is not task], [], 1)
        assume(bound is not None)
        for now in range(rng.randrange(3), 300, task.period):
            until[len(jobs)] = now + (bound or 0)
            jobs.append(Job(now, 0, len(jobs), now, task.cost))  # the first that came is the first
    assert all(end <= until[number] for number, end in edf(jobs).items())


def task(
    name: str, lane: LaneClass, cost_ms: float, deadline_ms: float, group: str = "", period_ms: float = 0
) -> Task:
    period_ns = round((period_ms or deadline_ms) * MS)
    return Task(name, group or name, lane, round(cost_ms * MS), period_ns, round(deadline_ms * MS))


def test_a_safety_lane_is_not_moved_by_anything_below_it() -> None:
    alone = report([task("stop", SAFETY, 1, 5)], {}, Machine(cores=1))
    beside = report(
        [task("stop", SAFETY, 1, 5), task("a", REALTIME, 90, 100), task("b", BEST_EFFORT, 900, 1000)],
        {},
        Machine(cores=1),
    )
    assert alone.findings[0] == beside.findings[0]
    assert beside.findings[0].worst_ns == 1 * MS


def test_safety_lanes_wait_for_one_another_only_where_there_are_fewer_cores() -> None:
    stops = [task(f"stop{number}", SAFETY, 2, 5) for number in range(3)]
    assert [each.worst_ns for each in report(stops, {}, Machine(cores=3)).findings] == [2 * MS] * 3
    one_core = report(stops, {}, Machine(cores=1))
    assert [each.ok for each in one_core.findings] == [False] * 3
    assert one_core.total == pytest.approx(1.2)


def test_pipelines_of_a_group_wait_for_the_longest_run_of_another() -> None:
    group = [task("fast", REALTIME, 1, 10, "line"), task("vision", REALTIME, 30, 200, "line")]
    fast, vision = report(group, {}, Machine(cores=4)).findings
    assert not fast.ok
    assert fast.why == "a run of vision takes 30.0 ms and is not interrupted"
    assert vision.ok
    apart = report([task("fast", REALTIME, 1, 10), task("vision", REALTIME, 30, 200)], {}, Machine(cores=4))
    assert all(each.ok for each in apart.findings)


def test_a_second_worker_helps_against_the_longest_run_of_another() -> None:
    group = [
        task("fast", REALTIME, 1, 18, "line"),
        task("vision", REALTIME, 30, 400, "line"),
    ]
    assert not report(group, {"line": 1}, Machine(cores=4)).findings[0].ok
    assert report(group, {"line": 2}, Machine(cores=4)).findings[0].ok


def test_best_effort_holds_up_realtime_of_its_group_by_one_run() -> None:
    group = [task("fast", REALTIME, 1, 40, "line"), task("survey", BEST_EFFORT, 30, 1000, "line")]
    fast, survey = report(group, {}, Machine(cores=2)).findings
    assert fast.worst_ns == 31 * MS
    assert survey.ok


def test_an_overload_is_named_with_its_share() -> None:
    group = [task("a", REALTIME, 7, 10, "line"), task("b", REALTIME, 6, 10, "line")]
    found = report(group, {}, Machine(cores=2))
    assert found.groups["line"] == pytest.approx(1.3)
    assert [each.worst_ns for each in found.findings] == [None, None]
    assert found.findings[0].why == "the pipelines of line ask for 130% of the time there is"


def test_a_model_slower_than_its_deadline_is_named() -> None:
    (finding,) = report([task("slow", REALTIME, 12, 10, period_ms=50)], {}, Machine(cores=1)).findings
    assert (finding.ok, finding.why) == (False, "a run alone takes 12.0 ms, and it has 10.0 ms")


def test_what_safety_takes_is_missing_for_the_others() -> None:
    both = [task("stop", SAFETY, 4, 5), task("sort", REALTIME, 5, 20)]
    assert report(both, {}, Machine(cores=2)).findings[1].ok
    starved = report(both, {}, Machine(cores=1)).findings[1]
    assert not starved.ok
    assert "gets 20% of a core" in starved.why


def test_realtime_groups_share_the_cores_that_are_left() -> None:
    lines = [task(f"line{number}", REALTIME, 10, 30) for number in range(4)]
    assert all(each.ok for each in report(lines, {}, Machine(cores=4)).findings)
    crowded = report(lines, {}, Machine(cores=2)).findings
    # Half a core each: twice the time, and a turn has to be waited for.
    assert [each.worst_ns for each in crowded] == [24 * MS] * 4
    assert not any(each.ok for each in report(lines, {}, Machine(cores=1)).findings)
