"""Whether deadlines can be promised, from costs and periods alone: for ``check``, and before a miss; pure.

What a group of pipelines gets of the machine is a rate and a delay (Mok, Feng and Chen, "Resource partition
for real-time systems", RTAS 2001). Safety goes before everything on every core; the realtime groups share
what it leaves, best effort what those leave. Within a group :mod:`~edge_opcua.inference.schedule.response`
tells.

Every capture counts as a run of its own: batches are for bursts, a promise must hold without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.schedule.response import (
    Sporadic,
    earliest_deadline,
    several_workers,
    whatever_the_order,
)

TURN_NS: Final = 4_000_000
"""Longest wait for a turn of a thread that shares a core (Linux: the other's slice of 3 ms, and a tick)."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one pipeline asks for.

    Args:
        pipeline: Its name.
        group: Its lane process.
        lane: Class of its lane.
        cost_ns: What a run for one sample takes, 99th percentile.
        period_ns: Shortest time between two captures.
        deadline_ns: Time from the capture to the answer.
    """

    pipeline: str
    group: str
    lane: LaneClass
    cost_ns: int
    period_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What the lane processes have in common.

    Args:
        cores: Processors they may use.
    """

    cores: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What can be promised to one pipeline.

    Args:
        pipeline: Its name.
        worst_ns: Longest time from capture to answer; None if there is no bound.
        deadline_ns: Time it has.
        ok: Whether the deadline can be promised.
        why: One sentence for people.
    """

    pipeline: str
    worst_ns: int | None
    deadline_ns: int
    ok: bool
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What can be promised to all pipelines.

    Args:
        findings: One per task, in their order.
        groups: Utilisation of each group's workers, 0 and up.
        total: Utilisation of the machine's processors, 0 and up.
    """

    findings: tuple[Finding, ...]
    groups: Mapping[str, float]
    total: float


def report(tasks: Sequence[Task], groups: Mapping[str, int], machine: Machine) -> Report:
    """Return what can be promised.

    Args:
        tasks: All pipelines of the machine.
        groups: Workers of each group; 1 for a group that is not there.
        machine: What they share.
    """
    plant = _Plant(tasks, groups, machine.cores)
    names = dict.fromkeys(task.group for task in tasks)
    return Report(
        tuple(_finding(task, plant) for task in tasks),
        {name: _utilisation(plant.of(name)) / plant.workers(name) for name in names},
        _utilisation(tasks) / machine.cores,
    )


@dataclass(frozen=True, slots=True)
class _Supply:
    """What a worker gets of a core.

    Args:
        rate: Share of the time, 0..1.
        delay_ns: Longest time without any.
    """

    rate: float
    delay_ns: int


class _Plant:
    """The tasks of the machine by class and group."""

    def __init__(self, tasks: Sequence[Task], groups: Mapping[str, int], cores: int) -> None:
        self.tasks = tasks
        self.cores = cores
        self._groups = groups
        self._members: dict[str, list[Task]] = {}
        for task in tasks:
            self._members.setdefault(task.group, []).append(task)
        self._classes = {name: min(task.lane for task in members) for name, members in self._members.items()}
        self._supplies: dict[str, _Supply] = {}
        self.worst: dict[Task, int | None] = {}  # of tasks that differ in their names only
        self._threads = {lane: self._workers_of(lane) for lane in LaneClass}

    def workers(self, group: str) -> int:
        return self._groups.get(group, 1)

    def of(self, group: str) -> list[Task]:
        return self._members[group]

    def of_class(self, *lanes: LaneClass) -> list[Task]:
        return [task for task in self.tasks if task.lane in lanes]

    def threads(self, lane: LaneClass) -> int:
        """Return how many threads run a class and those above."""
        return sum(count for above, count in self._threads.items() if above <= lane)

    def supply(self, group: str) -> _Supply:
        """Return what each worker of a group gets."""
        if group not in self._supplies:
            self._supplies[group] = self._supply(self._classes[group])
        return self._supplies[group]

    def _supply(self, lane: LaneClass) -> _Supply:
        if self.threads(lane) <= self.cores:
            return _Supply(1.0, 0)
        above = [task for task in self.tasks if self._classes[task.group] < lane]
        rate = (self.cores - _utilisation(above)) / self._threads[lane]
        return _Supply(min(1.0, max(0.0, rate)), sum(task.cost_ns for task in above) + TURN_NS)

    def _workers_of(self, lane: LaneClass) -> int:
        return sum(self.workers(name) for name, group_class in self._classes.items() if group_class is lane)


def _finding(task: Task, plant: _Plant) -> Finding:
    alike = replace(task, pipeline="")
    if alike not in plant.worst:
        plant.worst[alike] = _worst(task, plant)
    worst_ns = plant.worst[alike]
    ok = worst_ns is not None and worst_ns <= task.deadline_ns
    why = "" if ok else _why_not(task, worst_ns, plant)
    return Finding(task.pipeline, worst_ns, task.deadline_ns, ok, why)


def _worst(task: Task, plant: _Plant) -> int | None:
    """Return the longest time from capture to answer (ns); None if there is no bound."""
    group = [other for other in plant.of(task.group) if other is not task]
    if task.lane is LaneClass.SAFETY:
        crowd = plant.threads(LaneClass.SAFETY) > plant.cores
        others = [other for other in plant.of_class(LaneClass.SAFETY) if other.group != task.group and crowd]
        return whatever_the_order(_at(task, 1.0), _all_at(group, 1.0), _all_at(others, 1.0), plant.cores)
    supply, workers = plant.supply(task.group), plant.workers(task.group)
    above = [other for other in group if other.lane < task.lane]
    below = [other for other in group if other.lane > task.lane]
    rate = supply.rate - _utilisation(above) / workers
    if rate <= 0:
        return None
    equals = _all_at([other for other in group if other.lane is task.lane], rate)
    held_up_ns = supply.delay_ns + sum(_scaled(other.cost_ns, rate) for other in above)
    if workers > 1:
        held_up_ns += (
            sum(sorted((_scaled(other.cost_ns, rate) for other in below), reverse=True)[:workers]) // workers
        )
        return several_workers(_at(task, rate), equals, workers, held_up_ns)
    held_up_ns += max((_scaled(other.cost_ns, rate) for other in below), default=0)
    return earliest_deadline(_at(task, rate), equals, held_up_ns)


def _why_not(task: Task, worst_ns: int | None, plant: _Plant) -> str:
    group = plant.of(task.group)
    needs_ms, has_ms = task.cost_ns / 1e6, task.deadline_ns / 1e6
    if task.cost_ns > task.deadline_ns:
        return f"a run alone takes {needs_ms:.1f} ms, and it has {has_ms:.1f} ms"
    asked = _utilisation([other for other in group if other.lane <= task.lane]) / plant.workers(task.group)
    if asked >= 1:
        return f"the pipelines of {task.group} ask for {asked:.0%} of the time there is"
    if (
        task.lane is not LaneClass.SAFETY
        and (supply := plant.supply(task.group)).rate < 1
        and worst_ns is None
    ):
        return f"{task.group} gets {supply.rate:.0%} of a core: the other lanes take the rest"
    longest = max(
        (other for other in group if other is not task), key=lambda other: other.cost_ns, default=task
    )
    if longest is not task and longest.cost_ns + task.cost_ns > task.deadline_ns:
        return f"a run of {longest.pipeline} takes {longest.cost_ns / 1e6:.1f} ms and is not interrupted"
    if worst_ns is None:
        return f"there is no bound below {min(task.period_ns, task.deadline_ns) / 1e6:.1f} ms"
    waits_ms = 0.0 if task.lane is LaneClass.SAFETY else plant.supply(task.group).delay_ns / 1e6
    waits = f" ({waits_ms:.1f} ms while other lanes have the processors)" if waits_ms else ""
    return f"it can take {worst_ns / 1e6:.1f} ms{waits}, and has {has_ms:.1f} ms"


def _utilisation(tasks: Sequence[Task]) -> float:
    return sum(task.cost_ns / task.period_ns for task in tasks)


def _scaled(cost_ns: int, rate: float) -> int:
    return max(1, -int(-cost_ns // rate))


def _at(task: Task, rate: float) -> Sporadic:
    return Sporadic(_scaled(task.cost_ns, rate), task.period_ns, task.deadline_ns)


def _all_at(tasks: Sequence[Task], rate: float) -> list[Sporadic]:
    return [_at(task, rate) for task in tasks]
