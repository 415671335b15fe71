"""The lanes of all groups: which pipeline belongs to which process, and what a reload means for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol

from edge_opcua.app.impact import Impact
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.keeper import LaneKeeper
from edge_opcua.app.serving.starting import END_S, LaneHost
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock

_STOP_S: Final = END_S


class Chosen(Protocol):
    """Says which model each pipeline runs."""

    def choice(self, pipeline: str) -> ModelChoice:
        """Return the model to start a pipeline with."""
        ...


class LaneGroups:
    """All lanes of a server.

    Args:
        config: The pipelines and their groups.
        chosen: Which model each of them runs.
        host: The supervisor.
        clock: For the waits between restarts.
        end_children: Ends the processes whose role begins like this; those only just being started too.
    """

    def __init__(
        self,
        config: EdgeConfig,
        chosen: Chosen,
        host: LaneHost,
        clock: Clock,
        end_children: Callable[[str], Awaitable[None]],
    ) -> None:
        self._chosen = chosen
        self._host = host
        self._clock = clock
        self._end_children = end_children
        self._keepers: dict[str, LaneKeeper] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        for group in groups_of(config):
            self._keepers[group] = self._keeper(config, group)

    @property
    def keepers(self) -> tuple[LaneKeeper, ...]:
        """Who keeps the lanes, one for each group."""
        return tuple(self._keepers.values())

    def of(self, pipeline: str) -> LaneKeeper:
        """Return who keeps the lane of a pipeline.

        Raises:
            KeyError: There is no such pipeline.
        """
        for keeper in self._keepers.values():
            if pipeline in keeper.choices:
                return keeper
        raise KeyError(pipeline)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Keep them alive from now on, in tasks of this group."""
        self._tasks = tasks
        for keeper in self._keepers.values():
            self._run(keeper, tasks)

    def on_notice(self, role: str, kind: str, body: dict[str, Any]) -> None:
        """Take what a lane process says of its models."""
        for keeper in self._keepers.values():
            keeper.on_notice(role, kind, body)

    async def change(self, config: EdgeConfig, effect: Impact) -> None:
        """Go by another configuration from now on.

        What has changed stops before anything starts; the rest of a group goes on meanwhile.
        """
        wanted = groups_of(config)
        gone = [name for name in self._keepers if name not in wanted]
        ending = [(self._keepers.pop(name), self._running.pop(name, None)) for name in gone]
        async with contextlib.AsyncExitStack() as stack:
            # A pipeline that moves may have its next process before the last one has let go of its blocks.
            for name in effect.changed_groups:
                await stack.enter_async_context(self._keepers[name].still())
            async with asyncio.TaskGroup() as group:
                for keeper, task in ending:
                    group.create_task(self._end(keeper, task), name=f"end.{keeper.group}")
                for name in effect.changed_groups:
                    # A model that was loaded by a client stays what it is, also of an unchanged pipeline.
                    choices = {each: self._chosen.choice(each) for each in wanted[name]}
                    change = self._keepers[name].change_still(
                        choices, effect.stopped_lanes, within_s=load_s(config, name)
                    )
                    group.create_task(change, name=f"change.{name}")
        for name in wanted:
            if name not in self._keepers:
                self._keepers[name] = keeper = self._keeper(config, name)
                if self._tasks is not None:
                    self._run(keeper, self._tasks)

    async def end(self) -> None:
        """End every lane."""
        async with asyncio.TaskGroup() as group:
            for keeper in self._keepers.values():
                group.create_task(keeper.end(), name=f"end.{keeper.group}")

    def cancel(self) -> None:
        """Stop looking after them."""
        for task in self._running.values():
            task.cancel()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the processes for ``status``: one for each group, or for each of its pipelines if apart."""
        for keeper in self._keepers.values():
            row = {"role": f"lane/{keeper.group}", "restarts": keeper.restarts}
            lanes = keeper.lanes
            if not lanes:
                yield {**row, "pid": None, "pipelines": []}
            for lane in lanes:
                role = row["role"] if len(lanes) == 1 else f"{row['role']}/{'+'.join(lane.models)}"
                yield {**row, "role": role, "pid": lane.child.pid, "pipelines": list(lane.models)}
            for each in keeper.standbys():
                role = f"standby/{keeper.group}"
                yield {**row, "role": role, "pid": each["pid"], "pipelines": list(each["models"])}

    def standby_models(self) -> list[list[Any]]:
        """Return name and version of the models that stand by."""
        rows = [row for keeper in self._keepers.values() for row in keeper.standbys()]
        found = {(each["name"], each["version"]) for row in rows for each in row["models"].values()}
        return [list(each) for each in sorted(found)]

    def end_standbys(self) -> None:
        """Let all processes end that only stand by: memory is short."""
        for keeper in self._keepers.values():
            keeper.end_standby()

    def pipeline(self, name: str) -> dict[str, Any]:
        """Return for ``status`` what is known of a pipeline's model and process."""
        keeper = next((each for each in self._keepers.values() if name in each.choices), None)
        if keeper is None:  # a reload is about to start it
            return {"model": self._chosen.choice(name).as_json(), "facts": {}}
        facts = next((lane.facts[name] for lane in keeper.lanes if name in lane.models), {})
        standby = next((row["models"][name] for row in keeper.standbys() if name in row["models"]), None)
        model = keeper.choices[name].as_json()
        return {"model": model, "group": keeper.group, "facts": facts, "standby": standby}

    def _keeper(self, config: EdgeConfig, group: str) -> LaneKeeper:
        choices = {name: self._chosen.choice(name) for name in groups_of(config)[group]}
        return LaneKeeper(group, choices, self._host, self._clock, within_s=load_s(config, group))

    def _run(self, keeper: LaneKeeper, tasks: asyncio.TaskGroup) -> None:
        self._running[keeper.group] = tasks.create_task(keeper.run(), name=f"keep.{keeper.group}")

    async def _end(self, keeper: LaneKeeper, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=_STOP_S)
        await keeper.end()
        await self._end_children(f"lane/{keeper.group}/")
        for source in (*keeper.choices, keeper.fault_source):
            self._host.clear_fault(source)


def groups_of(config: EdgeConfig) -> dict[str, list[str]]:
    """Return the names of the pipelines of each group, in the order of the configuration."""
    found: dict[str, list[str]] = {}
    for pipeline in config.pipelines:
        found.setdefault(pipeline.process, []).append(pipeline.name)
    return found


def load_s(config: EdgeConfig, group: str) -> float:
    """Return how long the models of a group may take to load and to be proven, one after the other."""
    return sum(pipeline.load_s for pipeline in config.pipelines if pipeline.process == group)
