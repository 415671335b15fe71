"""Whether deadlines can be promised, from costs and periods alone: for ``check``, and before a miss; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_opcua.inference.schedule.request import LaneClass


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
    raise NotImplementedError
