"""Keeps the lanes of one group alive, and changes its models by warm processes without missing a capture.

Which of the pipelines share a process says :mod:`edge_opcua.app.quarantine`. From one process to the next all
cursors are handed over, so that no pipeline of the group misses a capture when the model of one is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from edge_opcua.app.choice import ModelChoice
from edge_opcua.app.laneprocess import (
    END_S,
    LaneHost,
    LaneProcess,
    LaneStarter,
    NotReadyError,
    Progress,
    in_the_way,
    lacks_memory,
    left_out,
    require_fit,
)
from edge_opcua.app.processes import exit_text
from edge_opcua.app.quarantine import MOST_ENDS, WITHIN_S, Quarantine
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import is_good
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import JobEvent

_log = structlog.get_logger(__name__)

ANSWER_S: Final = 5.0
FIRST_DELAY_S: Final = 0.2
MAX_DELAY_S: Final = 5.0
# While a part of the group is served: whoever tries again costs the others time and memory.
FIRST_RETRY_S: Final = 5.0
MAX_RETRY_S: Final = 60.0
SHORTEST_S: Final = 0.01
TIMES_TRIED: Final = 4
"""Waits grow to so many times what an attempt took: a fifth of the time is spent on them in the end."""


@dataclass(slots=True)
class _Pace:
    """When to try again, at growing intervals."""

    delay_s: float = FIRST_DELAY_S
    next_s: float = 0.0

    def later(self, now_s: float, least_s: float, most_s: float) -> None:
        self.delay_s = min(max(self.delay_s, least_s), most_s)
        self.next_s = now_s + self.delay_s
        self.delay_s *= 2


class LaneKeeper:
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
        self._lanes: list[LaneProcess] = []
        self._paces: dict[tuple[str, ...], _Pace] = {}
        self._generation = 0
        self._handing_over = asyncio.Lock()
        self._woken = asyncio.Event()
        self._ending = False
        self._tasks: asyncio.TaskGroup | None = None
        self._improving: asyncio.Task[None] | None = None

    @property
    def lanes(self) -> tuple[LaneProcess, ...]:
        """The active processes: one, or while a culprit is sought one for each pipeline."""
        return tuple(self._lanes)

    @property
    def fault_source(self) -> str:
        """Under which name faults of the group are reported that are not of one of its pipelines."""
        return f"group {self.group}"

    def on_notice(self, role: str, kind: str, body: dict[str, Any]) -> None:
        """Take a lane's ``loaded``, ``ready`` or ``refused``."""
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
        parts = [part for part in self._quarantine.parts(self._clock.monotonic_s()) if self._is_due(part)]
        async with asyncio.TaskGroup() as starts:
            for part in parts:
                if not self._lanes_of(part):
                    starts.create_task(self._attempt(part), name=f"start.{self.group}")
                elif self._improving is None or self._improving.done():
                    self._improving = tasks.create_task(self._improve(part), name=f"improve.{self.group}")

    def _is_due(self, part: tuple[str, ...]) -> bool:
        return not self._is_complete(part) and self._clock.monotonic_s() >= self._pace(part).next_s

    def _is_complete(self, part: tuple[str, ...]) -> bool:
        lanes = self._lanes_of(part)
        return len(lanes) == 1 and lanes[0].models.keys() == set(part) and not lanes[0].stale

    def _pace(self, part: tuple[str, ...]) -> _Pace:
        return self._paces.setdefault(part, _Pace())

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
            least_s, most_s = (FIRST_RETRY_S, MAX_RETRY_S) if served else (FIRST_DELAY_S, MAX_DELAY_S)
            now_s = self._clock.monotonic_s()
            # What takes long to be refused costs the others much; the first waits are short all the same.
            slow_s = min(TIMES_TRIED * (now_s - started_s), MAX_RETRY_S)
            self._pace(part).later(now_s, least_s, max(most_s, slow_s))

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
            await self._starter.discard(probe.child)
            if generation != self._generation:  # some of them may not be there any more
                return
        lane = await self._prepare(part)
        self._tell_refused(lane)
        async with self._handing_over:
            formers = self._lanes_of(part)
            gone = left_out(lane, formers)
            wanted = generation == self._generation
            if wanted and lane.models and not gone and self._is_better(lane, formers):
                await self._take_over(lane, formers)
                return
            if lane.models:
                await self._starter.discard(lane.child)
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
        self._lanes = [each for each in self._lanes if each not in formers]
        for former in formers:
            await self._retire(former, tuple(former.models))
            await self._starter.discard(former.child)

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
            return await self._starter.prepare(models, within_s=self._within_s)
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
        """Wait until an active process ends by itself; one that was replaced is none of our business."""
        code = await self._host.until_ended(lane.child)
        async with self._handing_over:
            if lane not in self._lanes:
                return
            self._lanes.remove(lane)
        self._host.disconnect(lane.role)
        self.restarts += 1
        _log.warning(
            "lane.ended",
            group=self.group,
            pipelines=sorted(lane.models),
            pid=lane.child.pid,
            how=exit_text(code),
        )
        self._count_end(lane.models, exit_text(code))
        now_s = self._clock.monotonic_s()
        for part in self._quarantine.parts(now_s):
            if not lane.models.keys().isdisjoint(part):
                pace = self._pace(part)
                if now_s - lane.since_s > MAX_DELAY_S:
                    pace.delay_s = FIRST_DELAY_S
                pace.later(now_s, FIRST_DELAY_S, MAX_DELAY_S)
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

    async def swap(self, changes: Mapping[str, ModelChoice], progress: Progress) -> None:
        """Change models: start and validate a new process, hand over all cursors, end the old one.

        Args:
            changes: Models to change to, by pipeline.
            progress: Told when the new process is started, and when it is proven.

        Raises:
            ModelError: A new model is not fit; the old ones go on, or are started again.
        """
        await progress(JobEvent.STARTED)
        generation = self._generation
        part = self._quarantine.part_of(changes, self._clock.monotonic_s())
        models = {name: changes.get(name, self.choices[name]) for name in part}
        lane = await self._starter.prepare(models, within_s=self._within_s, progress=progress)
        try:
            require_fit(lane, changes)
            await progress(JobEvent.READY)
            async with self._handing_over:
                formers = self._lanes_of(lane.models)
                self._require_room(lane, formers, generation)
                for name in changes:
                    self._quarantine.release(name)
                await self._take_over(lane, formers)
                self.choices |= changes
        except BaseException:
            if lane not in self._lanes and not lane.child.has_ended:
                await self._starter.discard(lane.child)
            raise
        finally:
            self._woken.set()

    def _require_room(self, lane: LaneProcess, formers: Sequence[LaneProcess], generation: int) -> None:
        gone = left_out(lane, formers)
        if gone or generation != self._generation:
            raise in_the_way(lane, gone)

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
        for lane in tuple(self._lanes):
            leaving = [name for name in lane.models if name in changed or name not in choices]
            lane.stale = True
            if len(leaving) == len(lane.models):
                self._lanes.remove(lane)
                await self._starter.discard(lane.child)
            elif leaving:
                await self._retire(lane, leaving)
                lane.models = {name: one for name, one in lane.models.items() if name not in leaving}
        self._woken.set()

    async def end(self) -> None:
        """End the active lanes, and start no other."""
        self._ending = True
        self._generation += 1
        self._woken.set()
        lanes, self._lanes = self._lanes, []
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(_end(lane), name=f"end.{lane.role}")

    async def _take_over(self, lane: LaneProcess, formers: list[LaneProcess]) -> None:
        """Retire the former processes, activate the new one behind what they have dealt with.

        Raises:
            ModelError: It did not become active (M531); it and the former ones have ended.
        """
        cursors: dict[str, int | None] = {}
        for former in formers:
            cursors |= await self._retire(former, tuple(former.models))
        for name in lane.models:
            cursors.setdefault(name, self._host.recorded_cursor(name))
        body = {"cursors": {name: cursors[name] for name in lane.models}}
        reply = await self._host.request(lane.role, "activate", body, timeout_s=ANSWER_S)
        self._lanes = [each for each in self._lanes if each not in formers]
        if is_good(reply.status):
            lane.since_s = self._clock.monotonic_s()
            self._lanes.append(lane)
            if self._tasks is not None:
                self._tasks.create_task(self._watch(lane), name=f"watch.{lane.role}")
            for name in lane.models:
                self._host.clear_fault(name)
            if not self._quarantine.stays_apart:
                self._host.clear_fault(self.fault_source)
        else:  # it judges from then on: what hangs or ends in its first run does so before it answers
            await self._starter.discard(lane.child)
            if lane.models.items() <= self.choices.items():  # of a swap the new model is refused instead
                self.restarts += 1
                self._count_end(lane.models, f"in its first run, {reply.reason}")
        for former in formers:
            await self._starter.discard(former.child)
        if not is_good(reply.status):
            raise ModelError(f"the lane did not become active: {reply.reason}", code="M531")

    async def _retire(self, lane: LaneProcess, pipelines: Collection[str]) -> dict[str, int | None]:
        """Stop pipelines after the capture in hand and return the last ones they dealt with."""
        body = {"pipelines": list(pipelines)}
        reply = await self._host.request(lane.role, "retire", body, timeout_s=ANSWER_S)
        rows = reply.body.get("pipelines")
        if is_good(reply.status) and isinstance(rows, dict):
            return {name: int(rows[name]["cursor"]) for name in pipelines if name in rows}
        lane.child.kill()  # frozen: it must not write its blocks once another does
        await lane.child.wait()
        return {}

    def _lanes_of(self, pipelines: Collection[str]) -> list[LaneProcess]:
        return [lane for lane in self._lanes if not lane.models.keys().isdisjoint(pipelines)]

    def _idle_s(self) -> float:
        """Return how long nothing will be due."""
        now_s = self._clock.monotonic_s()
        parts = self._quarantine.parts(now_s)
        self._paces = {part: pace for part, pace in self._paces.items() if part in parts}
        due_s = [pace.next_s - now_s for pace in self._paces.values() if pace.next_s > now_s]
        return max(SHORTEST_S, min([*due_s, self._quarantine.changes_in_s(now_s), MAX_RETRY_S]))


async def _end(lane: LaneProcess) -> None:
    await lane.child.end(grace_s=END_S)
