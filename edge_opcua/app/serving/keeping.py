"""Keeps the lanes of one group alive: starts them, starts them again, and goes by another configuration.

Which of the pipelines share a process says :mod:`edge_opcua.app.serving.quarantine`. From one process to the
next all cursors are handed over, so that no pipeline of the group misses a capture when the model of one is
changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import structlog

from edge_opcua.app.processes import exit_text
from edge_opcua.app.serving.candidate import Candidate
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.pace import MAX_RETRY_S, Pace
from edge_opcua.app.serving.quarantine import MOST_ENDS, WITHIN_S, Quarantine
from edge_opcua.app.serving.served import QUIET_S, Served
from edge_opcua.app.serving.starting import (
    END_S,
    NO_MEMORY,
    LaneHost,
    LaneProcess,
    LaneStarter,
    NotReadyError,
    Progress,
    in_the_way,
    lacks_memory,
    left_out,
)
from edge_opcua.app.serving.trial import Trials
from edge_opcua.core.clock import Clock
from edge_opcua.core.control import Reply
from edge_opcua.core.values import is_good
from edge_opcua.errors import ModelError

_log = structlog.get_logger(__name__)

SHORTEST_S: Final = 0.01


class LaneKeeping:
    """The lanes of one group of pipelines.

    Args:
        group: Name of the group.
        choices: Models to start with, by pipeline, in the order of the configuration.
        host: The supervisor.
        clock: For the waits between restarts.
        within_s: Longest time the models of the group may take to load and be proven, seconds.

    Attributes:
        choices: Which model each pipeline runs, or shall run.
        restarts: How often a process of the group has ended by itself.
    """

    def __init__(
        self,
        group: str,
        choices: Mapping[str, ModelChoice],
        host: LaneHost,
        clock: Clock,
        *,
        within_s: float = 30.0,
    ) -> None:
        self.group = group
        self.choices = dict(choices)
        self.restarts = 0
        self._within_s = within_s
        self._host = host
        self._clock = clock
        self._starter = LaneStarter(group, host)
        self._quarantine = Quarantine(choices)
        self._served = Served(group, host, clock, self._starter)
        self._candidates: dict[str, Candidate] = {}
        self._trials = Trials(host, clock)
        self._paces: dict[tuple[str, ...], Pace] = {}
        self._generation = 0
        self._handing_over = asyncio.Lock()
        self._woken = asyncio.Event()
        self._ending = False
        self._tasks: asyncio.TaskGroup | None = None
        self._improving: asyncio.Task[None] | None = None

    @property
    def lanes(self) -> tuple[LaneProcess, ...]:
        """The active processes: one, or while a culprit is sought one for each pipeline."""
        return tuple(self._served.lanes)

    @property
    def fault_source(self) -> str:
        """Under which name faults of the group are reported that are not of one of its pipelines."""
        return f"group {self.group}"

    def on_notice(self, role: str, kind: str, body: dict[str, Any]) -> None:
        """Take a lane's ``loaded``, ``ready``, ``refused`` or ``shadow``."""
        if kind == "shadow":
            self._trials.on_notice(role, body)
        else:
            self._starter.on_notice(role, kind, body)

    async def run(self) -> None:
        """Keep the lanes active until :meth:`end`; what ends by itself is started again where it stopped."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                while not self._ending:
                    self._woken.clear()
                    await self._tend(self._tasks)
                    await self._clock.wait(self._woken, self._idle_s())
        finally:
            self._tasks = None

    async def _tend(self, tasks: asyncio.TaskGroup) -> None:
        """Start what is due: at once where nobody serves, beside the others where somebody does."""
        await self._end_what_stood_by()
        parts = [part for part in self._quarantine.parts(self._clock.monotonic_s()) if self._is_due(part)]
        async with asyncio.TaskGroup() as starts:
            for part in parts:
                if not self._lanes_of(part):
                    starts.create_task(self._attempt(part), name=f"start.{self.group}")
                elif self._improving is None or self._improving.done():
                    self._improving = tasks.create_task(self._improve(part), name=f"improve.{self.group}")

    async def _end_what_stood_by(self) -> None:
        standby = self._served.standby
        if standby is not None and self._clock.monotonic_s() >= standby.until_s:
            async with self._handing_over:
                if self._served.standby is standby:
                    await self._served.end_standby("its time is over, or memory is short")

    def _is_due(self, part: tuple[str, ...]) -> bool:
        return not self._is_complete(part) and self._clock.monotonic_s() >= self._pace(part).next_s

    def _is_complete(self, part: tuple[str, ...]) -> bool:
        lanes = self._lanes_of(part)
        return len(lanes) == 1 and lanes[0].models.keys() == set(part) and not lanes[0].stale

    def _pace(self, part: tuple[str, ...]) -> Pace:
        return self._paces.setdefault(part, Pace())

    async def _improve(self, part: tuple[str, ...]) -> None:
        await self._attempt(part)
        self._woken.set()

    async def _attempt(self, part: tuple[str, ...]) -> None:
        """Try to give some pipelines a process of their own, and see to it when that is tried next."""
        started_s = self._clock.monotonic_s()
        try:
            await self._complete(part)
        except ModelError as exc:
            self._report(part, exc)
        except OSError as exc:  # no memory or no descriptor for a process: that may end
            self._report(part, ModelError(f"no process can be started: {exc}", code="H651"))
        if not self._is_complete(part):
            served = bool(self._lanes_of(part))
            now_s = self._clock.monotonic_s()
            self._pace(part).failed(now_s, now_s - started_s, served=served)

    async def _complete(self, part: tuple[str, ...]) -> None:
        """Start a process for all of a part, and let it take over from what there is.

        Where only some are not served, these are looked at first, in a process of their own: else those that
        are served would be loaded a second time for nothing.
        """
        generation = self._generation
        lanes = self._lanes_of(part)
        served = {name for lane in lanes for name in lane.models}
        missing = [name for name in part if name not in served]
        if missing and len(lanes) == 1 and not lanes[0].stale:
            probe = await self._prepare(missing)
            self._tell_refused(probe)
            if not probe.models:
                return
            await self._served.discard(probe)
            if generation != self._generation:  # some of them may not be there any more
                return
        lane = await self._prepare(part)
        self._tell_refused(lane)
        if lane.models:
            await self._promote(lane)
        async with self._handing_over:
            formers = self._lanes_of(part)
            gone = left_out(lane, formers)
            wanted = generation == self._generation
            if wanted and lane.models and not gone and self._is_better(lane, formers):
                await self._take_over(lane, formers)
                return
            if lane.models:
                await self._served.discard(lane)
            if wanted and lacks_memory(lane, gone) and any(former.stale for former in formers):
                await self._make_room(formers)
                return
        if gone:
            self._host.report_fault(self.fault_source, "M597", str(in_the_way(lane, gone)))

    async def _make_room(self, formers: Sequence[LaneProcess]) -> None:
        """End what runs something that is not wanted any more, where no memory is left for its successor.

        Its captures wait on the bus until it is started again. What has changed would else never be served.
        """
        _log.warning("lane.made_room", group=self.group, roles=[former.role for former in formers])
        for former in formers:
            self._served.forget(former)
            await self._served.retire(former, tuple(former.models))
            await self._served.discard(former)

    def _is_better(self, lane: LaneProcess, formers: list[LaneProcess]) -> bool:
        """Whether a process does what is wanted now and is not done yet; a swap may have been quicker."""
        if any(self.choices.get(name) != choice for name, choice in lane.models.items()):
            return False
        if len(formers) == 1 and not formers[0].stale:
            return len(lane.models) > len(formers[0].models)
        return True

    async def _prepare(self, part: Iterable[str]) -> LaneProcess:
        models = {name: self.choices[name] for name in part}
        try:
            return await self._start(models)
        except NotReadyError as exc:
            if exc.perhaps_model:
                self._count_end(models, str(exc))
            raise

    def _report(self, pipelines: Iterable[str], exc: ModelError) -> None:
        for name in pipelines:
            known = name in self.choices and name not in self._quarantine.held
            if known and not self._lanes_of((name,)):
                self._host.report_fault(name, exc.code, str(exc))

    def _tell_refused(self, lane: LaneProcess) -> None:
        for name, refusal in lane.refused.items():
            self._report((name,), refusal.error())

    async def _watch(self, lane: LaneProcess) -> None:
        """Wait until a process ends by itself; one that was ended on purpose is none of our business."""
        code = await self._host.until_ended(lane.child)
        self._trials.ended(lane.role, exit_text(code))
        async with self._handing_over:
            was_active = self._served.forget(lane)
        self._host.disconnect(lane.role)
        if not was_active:
            return
        self.restarts += 1
        _log.warning(
            "lane.ended",
            group=self.group,
            pipelines=sorted(lane.models),
            pid=lane.child.pid,
            how=exit_text(code),
        )
        self._host.lane_ended(lane.models, exit_text(code))
        self._count_end(lane.models, exit_text(code))
        now_s = self._clock.monotonic_s()
        for part in self._quarantine.parts(now_s):
            if not lane.models.keys().isdisjoint(part):
                self._pace(part).ended(now_s, now_s - lane.since_s)
        self._woken.set()

    def _count_end(self, loaded: Collection[str], how: str) -> None:
        self._woken.set()  # others may share a process from now on
        now_s = self._clock.monotonic_s()
        trial_before = self._quarantine.is_trial(now_s)
        for name in self._quarantine.ended(loaded, now_s):
            choice = self.choices[name]
            often = f"its process ended {MOST_ENDS} times within {WITHIN_S:g} s, the last time: {how}"
            text = f"{choice.name} {choice.version} is not started any more: {often}; load another version"
            self._host.report_fault(name, "M595", text)
            _log.error("lane.quarantined", group=self.group, pipeline=name, **choice.as_json())
        if self._quarantine.is_trial(now_s) and not trial_before:
            _log.warning("lane.trial", group=self.group, stays_apart=self._quarantine.stays_apart)
        if self._quarantine.stays_apart:
            text = "its models end their process together, but not alone: each keeps a process of its own"
            self._host.report_fault(self.fault_source, "M596", text)

    async def _start(
        self, models: Mapping[str, ModelChoice], progress: Progress | None = None
    ) -> LaneProcess:
        """Start a process; where only the one that stands by is in its way, that one ends."""
        lane = await self._starter.prepare(models, within_s=self._within_s, progress=progress)
        if self._served.standby is None or not any(each.code in NO_MEMORY for each in lane.refused.values()):
            return lane
        if lane.models:
            await self._served.discard(lane)
        await self._served.end_standby("memory is short")
        return await self._starter.prepare(models, within_s=self._within_s)

    async def change(
        self, choices: Mapping[str, ModelChoice], changed: Collection[str], *, within_s: float
    ) -> None:
        """Go by another configuration: what has changed stops now, the rest goes on until it is taken over.

        Args:
            choices: The models there are now, by pipeline.
            changed: Pipelines that are not what they were.
            within_s: Longest time they may take to load, seconds.
        """
        async with self.still():
            await self.change_still(choices, changed, within_s=within_s)

    async def discard(self, candidate: Candidate) -> None:
        """End a candidate that shall not take over."""
        if self._candidates.pop(candidate.lane.role, None) is not None and not candidate.lane.child.has_ended:
            await self._served.discard(candidate.lane)

    def still(self) -> asyncio.Lock:
        """Return what is held while no process of the group may take over."""
        return self._handing_over

    async def change_still(
        self, choices: Mapping[str, ModelChoice], changed: Collection[str], *, within_s: float
    ) -> None:
        """Do as :meth:`change` for one who holds :meth:`still`, perhaps of several groups."""
        self._generation += 1
        for name in self.choices:
            if name not in choices:
                self._host.clear_fault(name)
        self.choices, self._within_s = dict(choices), within_s
        self._quarantine.change(choices, changed)
        self._paces.clear()
        for candidate in tuple(self._candidates.values()):
            self._trials.withdraw(candidate.lane.role)
            await self.discard(candidate)
        await self._served.end_standby("the configuration has changed")
        for lane in tuple(self._served.lanes):
            leaving = [name for name in lane.models if name in changed or name not in choices]
            lane.stale = True
            if len(leaving) == len(lane.models):
                self._served.forget(lane)
                await self._served.discard(lane)
            elif leaving:
                await self._served.retire(lane, leaving)
                lane.models = {name: one for name, one in lane.models.items() if name not in leaving}
        self._woken.set()

    async def end(self) -> None:
        """End the lanes, those that stand by and those that would take over, and start no other."""
        self._ending = True
        self._generation += 1
        self._woken.set()
        lanes = [*self._served.everyone(), *(each.lane for each in self._candidates.values())]
        for role in self._candidates:
            self._trials.withdraw(role)
        self._candidates.clear()
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(_end(lane), name=f"end.{lane.role}")

    async def _take_over(
        self,
        lane: LaneProcess,
        formers: list[LaneProcess],
        *,
        keep_warm_s: float = 0.0,
        quiet_s: float = QUIET_S,
    ) -> None:
        """Let a promoted process take over.

        Raises:
            ModelError: It did not become active (M531); it has ended, and the former ones go on if they can.
        """
        reply = await self._served.take_over(lane, formers, keep_warm_s=keep_warm_s, quiet_s=quiet_s)
        if not is_good(reply.status):
            raise self._not_active(lane, reply)
        self._look_after(lane)
        for name in lane.models:
            self._host.clear_fault(name)
        if not self._quarantine.stays_apart:
            self._host.clear_fault(self.fault_source)

    async def _promote(self, lane: LaneProcess) -> None:
        reply = await self._served.promote(lane)
        if not is_good(reply.status):
            await self._served.discard(lane)
            raise self._not_active(lane, reply)

    def _not_active(self, lane: LaneProcess, reply: Reply) -> ModelError:
        if lane.models.items() <= self.choices.items():  # of a swap the new model is refused instead
            self.restarts += 1
            self._count_end(lane.models, f"in its first run, {reply.reason}")
        return ModelError(f"the lane did not become active: {reply.reason}", code="M531")

    def _look_after(self, lane: LaneProcess) -> None:
        """Notice when a process ends, from now on."""
        if self._tasks is not None and not lane.watched:
            lane.watched = True
            self._tasks.create_task(self._watch(lane), name=f"watch.{lane.role}")

    def _lanes_of(self, pipelines: Collection[str]) -> list[LaneProcess]:
        return self._served.of(pipelines)

    def _idle_s(self) -> float:
        """Return how long nothing will be due."""
        now_s = self._clock.monotonic_s()
        parts = self._quarantine.parts(now_s)
        self._paces = {part: pace for part, pace in self._paces.items() if part in parts}
        due_s = [pace.next_s - now_s for pace in self._paces.values() if pace.next_s > now_s]
        if self._served.standby is not None:
            due_s.append(self._served.standby.until_s - now_s)
        return max(SHORTEST_S, min([*due_s, self._quarantine.changes_in_s(now_s), MAX_RETRY_S]))


async def _end(lane: LaneProcess) -> None:
    await lane.child.end(grace_s=END_S)
