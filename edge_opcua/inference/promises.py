"""Whether deadlines can be kept with what was measured, told before the first one is missed.

``check`` holds the configuration against the costs; here it is what really comes and what it really costs
now, heat included. Two looks in a row have to agree before an alarm is raised, five before it is taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge_opcua.core.clock import Clock
from edge_opcua.inference.lane import Lane
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.feasibility import Machine, Task, report
from edge_opcua.inference.schedule.request import LaneClass

LOOKS: Final = 6
"""Looks over which arrivals are counted."""
RAISE_AFTER: Final = 2
CLEAR_AFTER: Final = 5
_MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Alarm:
    """That a deadline cannot be promised any more, or can be again.

    Args:
        pipeline: Whose.
        text: Why not, for people; empty: it can.
    """

    pipeline: str
    text: str


@dataclass(slots=True)
class _State:
    """What was found about one pipeline lately.

    Args:
        seen: Time (ns, monotonic) and captures so far, at the latest looks.
        streak: Looks in a row that disagree with what was told.
        told: Whether an alarm is raised.
    """

    seen: deque[tuple[int, int]]
    streak: int = 0
    told: bool = False


class Promises:
    """Looks after the deadlines of one lane process.

    Args:
        group: Its name.
        lanes: Its lanes.
        costs: What the models cost.
        clock: For the rates.
        workers: Models that run at the same time.
        cores: Processors it may use.

    Attributes:
        utilisation: Share of the workers' time that was asked for at the last look.
    """

    def __init__(
        self,
        group: str,
        lanes: Sequence[Lane],
        costs: CostTable,
        clock: Clock,
        *,
        workers: int = 1,
        cores: int = 1,
    ) -> None:
        self.utilisation = 0.0
        self._group = group
        self._lanes = lanes
        self._costs = costs
        self._clock = clock
        self._workers = max(1, workers)
        self._machine = Machine(cores)
        self._promised = {lane.spec.pipeline for lane in lanes if lane.spec.lane is not LaneClass.BEST_EFFORT}
        self._states = {lane.spec.pipeline: _State(deque(maxlen=LOOKS)) for lane in lanes}

    @property
    def schedulable(self) -> Mapping[str, bool]:
        """Whether the deadline of each pipeline can be promised."""
        return {pipeline: not state.told for pipeline, state in self._states.items()}

    def look(self) -> list[Alarm]:
        """Count what has come since, and return the alarms that are to be told, or to be taken back.

        Best effort is promised nothing: there is no alarm for it.
        """
        now_ns = self._clock.monotonic_ns()
        tasks = []
        for lane in self._lanes:
            seen = self._states[lane.spec.pipeline].seen
            seen.append((now_ns, lane.arrivals))
            if len(seen) > 1:
                tasks.append(self._task(lane, seen))
        if not tasks:
            return []
        found = report(tasks, {self._group: self._workers}, self._machine)
        self.utilisation = found.groups.get(self._group, 0.0)
        alarms = [self._judge(each.pipeline, ok=each.ok, why=each.why) for each in found.findings]
        return [alarm for alarm in alarms if alarm is not None and alarm.pipeline in self._promised]

    def _task(self, lane: Lane, seen: deque[tuple[int, int]]) -> Task:
        (first_ns, first), (last_ns, last) = seen[0], seen[-1]
        return Task(
            lane.spec.pipeline,
            self._group,
            lane.spec.lane,
            self._costs.cost_ns(lane.model.key, 1) + lane.features_ns,
            max(1, (last_ns - first_ns) // max(1, last - first)),
            round(lane.spec.deadline_ms * _MS),
        )

    def _judge(self, pipeline: str, *, ok: bool, why: str) -> Alarm | None:
        state = self._states[pipeline]
        if ok != state.told:
            state.streak = 0
            return None
        state.streak += 1
        if state.streak < (CLEAR_AFTER if state.told else RAISE_AFTER):
            return None
        state.streak, state.told = 0, not state.told
        return Alarm(pipeline, why if state.told else "")
