"""The samplers of pipelines on tags: they run beside the devices and follow a change of the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.process import Child
from edge_opcua.core.supervise import supervise
from edge_opcua.drivers.poller import Device
from edge_opcua.errors import ConfigError
from edge_opcua.inference.fed import Fed, fed_with
from edge_opcua.inference.tagsampler import Listen, TagSampler

STOP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Running:
    """A sampler at work, and what it was made from: another one is made when that changes."""

    made_from: tuple[object, ...]
    task: asyncio.Task[Any]


class Samplers:
    """Starts and stops samplers.

    Args:
        child: The io process.
        group: Group that their tasks belong to.
    """

    def __init__(self, child: Child, group: asyncio.TaskGroup) -> None:
        self._child = child
        self._group = group
        self._running: dict[str, _Running] = {}

    async def follow(self, config: EdgeConfig, devices: Mapping[str, Device]) -> None:
        """Let exactly the samplers of a configuration run; those that nothing changes for go on.

        Args:
            config: The configuration.
            devices: The devices at work, by name.

        Raises:
            ConfigError: One does not stop (D388).
            ModelError: A tag is not a number (M504).
        """
        wanted = {each.name: each for each in config.pipelines if each.capture is None}
        made_from = {name: self._made_from(config, each, devices) for name, each in wanted.items()}
        gone = [name for name, each in self._running.items() if made_from.get(name) != each.made_from]
        await self._stop(gone)
        for name, pipeline in wanted.items():
            if name not in self._running:
                self._start(config, pipeline, made_from[name], devices)

    def cancel(self) -> None:
        """End all of them; nobody waits for that."""
        for running in self._running.values():
            running.task.cancel()

    def _made_from(
        self, config: EdgeConfig, pipeline: PipelineConfig, devices: Mapping[str, Device]
    ) -> tuple[object, ...]:
        """Return what a sampler depends on: its tags, where their blocks lie, and who reads the trigger."""
        fed, homes = _fed(config, pipeline), self._child.bus.homes
        blocks = [pipeline.samples_block, *(tag.block for tag in fed.tags)]
        blocks += [] if fed.trigger is None else [fed.trigger.block]
        source = None if pipeline.trigger is None else devices[pipeline.trigger.partition("/")[0]]
        return fed, tuple(homes[block] for block in blocks), source

    def _start(
        self,
        config: EdgeConfig,
        pipeline: PipelineConfig,
        made_from: tuple[object, ...],
        devices: Mapping[str, Device],
    ) -> None:
        name, clock = pipeline.samples_block, self._child.clock
        listen = None if pipeline.trigger is None else _listen(config, pipeline.trigger, devices)
        sampler = TagSampler(_fed(config, pipeline), name, self._child.bus, clock, listen)
        task = self._group.create_task(supervise(name, sampler.run, clock=clock), name=name)
        self._running[pipeline.name] = _Running(made_from, task)

    async def _stop(self, names: list[str]) -> None:
        tasks = {self._running[name].task for name in names}
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=STOP_S)
            if pending:
                raise ConfigError("the samples of a pipeline do not stop", code="D388")
        for name in names:
            del self._running[name]


def _fed(config: EdgeConfig, pipeline: PipelineConfig) -> Fed:
    fed = fed_with(config, pipeline)
    assert fed is not None, "it is fed with tags"
    return fed


def _listen(config: EdgeConfig, trigger: str, devices: Mapping[str, Device]) -> Listen:
    owner, tag = config.tag(trigger)

    def listen(call: Callable[[], None]) -> Callable[[], None]:
        return devices[owner.name].listen(tag.group, call)

    return listen
