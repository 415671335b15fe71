"""The io process: talks to the devices, writes what clients ask for, and carries the verdicts to the PLCs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import structlog

from edge_opcua.app.changes import Change, Changes
from edge_opcua.app.impact import Impact, device_blocks
from edge_opcua.app.outputs import act, make_output, restart_watchdog, write_owned
from edge_opcua.app.samplers import Samplers
from edge_opcua.app.writerecords import Wanted, record_of, record_of_finding
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.collector import paused, settle
from edge_opcua.core.control import SUPERVISOR, Reply, Request
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.process import Child
from edge_opcua.core.supervise import supervise
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_SUPPORTED,
    Link,
    is_bad,
    status_name,
)
from edge_opcua.core.worker import Worker
from edge_opcua.drivers.doubts import Finding
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.poller import Device, build_device
from edge_opcua.drivers.writeterms import WriteTerms
from edge_opcua.errors import ConfigError
from edge_opcua.writeback.output import Output

_log = structlog.get_logger(__name__)

RECORDS = "records"
RELEASE_S = 0.4
TELL_S = 0.1
STOP_S = 2.0
BUILD_S = 25.0

_Part = TypeVar("_Part", Device, Output)
_Devices: TypeAlias = dict[str, Device]
_Outputs: TypeAlias = dict[str, Output]


async def run(child: Child, config: EdgeConfig) -> None:
    """Poll and write until the process shall stop; then release the outputs while the links still work."""
    plant = _Plant(child, config)
    child.handle = _Writes(child, plant).handle
    child.change = Changes(child, config, plant.change).handle
    settle()  # addresses and plans stay; looking through them again and again would delay a poll
    child.starting = False
    await plant.run()


@dataclass(frozen=True, slots=True)
class _Running(Generic[_Part]):
    """A device or an output at work."""

    part: _Part
    task: asyncio.Task[Any]

    async def stop(self) -> None:
        """End its work.

        Raises:
            ConfigError: It does not end; nobody else may take its place.
        """
        self.task.cancel()
        _, pending = await asyncio.wait({self.task}, timeout=STOP_S)
        if pending:
            raise ConfigError(f"{self.part.name} does not stop", code="D388")


class _Plant:
    """The devices and outputs at work.

    Attributes:
        config: What runs.
        devices: By name.
        outputs: By name of the output.
        pausing: Names of devices that are being changed now.
    """

    def __init__(self, child: Child, config: EdgeConfig) -> None:
        self.config = config
        self.devices: _Devices = {}
        self.outputs: _Outputs = {}
        self.pausing: frozenset[str] = frozenset()
        self._child = child
        self._lines = Lines(child.state_dir)
        self._worker = Worker("io.change")
        self._group = asyncio.TaskGroup()
        self._samplers = Samplers(child, self._group)
        self._running: dict[str, _Running[Device]] = {}
        self._writing: dict[str, _Running[Output]] = {}
        devices = [device.name for device in config.devices]
        self._take(*self._built(config, devices, [output.name for output in config.outputs]))

    async def run(self) -> None:
        """Work until the process shall stop; then release every output, and only then let the links go."""
        async with self._group:
            self._start(tuple(self.devices), tuple(self.outputs))
            await self._samplers.follow(self.config, self.devices)
            await self._child.stopping.wait()
            for writing in self._writing.values():
                writing.task.cancel()
            await self._release(self.outputs)
            self._samplers.cancel()
            for running in self._running.values():
                running.task.cancel()

    async def change(self, change: Change) -> None:
        """Stop what goes or changes, the outputs first, and start what comes; the others do not notice."""
        # Beside the event loop: a hundred thousand tags take seconds, and the other devices are polled on.
        impact = await self._worker.call(lambda: change.impact, timeout_s=BUILD_S)
        self.pausing = frozenset(impact.stopped_devices)
        try:
            await self._stop_outputs(impact.stopped_outputs)
            await self._stop_devices(impact.stopped_devices)
            self._take(*await self._worker.call(self._rebuild, change, impact, timeout_s=BUILD_S))
            self.config = change.new
            self._start(impact.started_devices, impact.started_outputs)
            await self._samplers.follow(change.new, self.devices)
        finally:
            self.pausing = frozenset()

    def _rebuild(self, change: Change, impact: Impact) -> tuple[_Devices, _Outputs]:
        self._carry_over(change)
        return self._built(change.new, impact.started_devices, impact.started_outputs)

    def _built(
        self, config: EdgeConfig, devices: Iterable[str], outputs: Iterable[str]
    ) -> tuple[_Devices, _Outputs]:
        """Make devices and outputs; what is made is nobody's until it is taken."""
        bus, clock = self._child.bus, self._child.clock
        wanted = {output.name: output for output in config.outputs}
        with paused():
            made = {
                name: build_device(
                    config.device(name),
                    bus,
                    clock,
                    self._lines.used_by(name),
                    tell=partial(_audit_finding, self._child, name),
                )
                for name in devices
            }
        for each in made.values():
            each.plan()
        there = {**self.devices, **made}
        return made, {name: make_output(self._child, config, wanted[name], there) for name in outputs}

    def _take(self, devices: _Devices, outputs: _Outputs) -> None:
        self.devices |= devices
        self.outputs |= outputs

    def _start(self, devices: Iterable[str], outputs: Iterable[str]) -> None:
        for name in devices:
            device = self.devices[name]
            self._running[name] = _Running(device, self._task(name, device.run))
        for name in outputs:
            output = self.outputs[name]
            self._writing[name] = _Running(output, self._task(name, output.run))

    def _task(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[Any]:
        return self._group.create_task(supervise(name, work, clock=self._child.clock), name=name)

    async def _stop_outputs(self, names: Iterable[str]) -> None:
        """Take authority away from outputs while their links still work."""
        stopping = {name: self.outputs[name] for name in names if name in self._writing}
        for name in stopping:
            await self._writing[name].stop()
        await self._release(stopping)
        for name in stopping:
            del self._writing[name], self.outputs[name]

    async def _stop_devices(self, names: Iterable[str]) -> None:
        stopping = [name for name in names if name in self._running]
        async with asyncio.TaskGroup() as group:
            for name in stopping:
                group.create_task(self._running[name].stop(), name=f"stop.{name}")
        for name in stopping:
            del self._running[name], self.devices[name]
            self._lines.leave(name)

    async def _release(self, outputs: _Outputs) -> None:
        async with asyncio.TaskGroup() as releasing:
            for name, output in outputs.items():
                releasing.create_task(_release(self._child, output), name=f"release.{name}")

    def _carry_over(self, change: Change) -> None:
        """Let the last values of tags that stay stand in the new blocks until they are read again.

        And what an output was when it was stopped: it may owe an acknowledge.
        """
        for device in change.new.devices:
            for block in device_blocks(device):
                if block != device.link_block:
                    self._carry(change, block)
        for output in change.new.outputs:
            self._carry(change, output.authority_block)

    def _carry(self, change: Change, block: str) -> None:
        bus, home = self._child.bus, change.before.get(block)
        if home is None or not change.has_moved(block):
            return
        last = bus.reader(block, home=home).latest()
        writer = bus.writer(block)
        if last is not None and not writer.sequence and writer.batch.take_rows(last):
            writer.publish(link=Link.LOST, refreshed=False)


async def _release(child: Child, output: Output) -> None:
    """Release one output, and tell the supervisor if only the PLC's own time-out is left to do it."""
    if not await output.release(RELEASE_S):
        await child.control.request(SUPERVISOR, "unreleased", {"output": output.name}, timeout_s=TELL_S)


def _audit_finding(child: Child, device: str, finding: Finding) -> None:
    child.control.notify(RECORDS, "audit", record_of_finding(device, finding))


class _Writes:
    """Answers ``write`` with what the device really did, and keeps a record of it; and ``poll``."""

    def __init__(self, child: Child, plant: _Plant) -> None:
        self._child = child
        self._plant = plant

    async def handle(self, request: Request) -> Reply:
        """Write ``tag`` = ``value`` for ``user`` (``writer``, ``why``), or poll ``group`` of ``device``."""
        if request.kind == "poll":
            return await self._poll(request)
        if request.kind == "output":
            plant = self._plant
            started = await restart_watchdog(self._child, plant.config, plant.devices, request)
            return started or await act(plant.outputs, request)
        if request.kind != "write":
            return Reply(BAD_NOT_SUPPORTED, f"the io process does not know {request.kind}")
        wanted = Wanted.of(request.body)
        device_name, _, tag_name = wanted.tag.partition("/")
        if device_name in self._plant.pausing:
            return Reply(BAD_INVALID_STATE, f"{device_name} is being changed")
        device = self._plant.devices.get(device_name)
        if device is None:
            return Reply(BAD_NODE_ID_UNKNOWN, f"there is no device {device_name}")
        owned = await write_owned(self._plant.outputs, self._plant.config, request.body)
        if owned is not None:
            return owned
        terms = WriteTerms(who=wanted.who, why=wanted.why)
        outcome = await device.write(tag_name, wanted.value, timeout_s=request.timeout_s, terms=terms)
        self._record(wanted, outcome)
        if wanted.value is True and not is_bad(outcome.status):
            self._acknowledge(wanted.tag, wanted.who)
        return Reply(outcome.status, outcome.reason, {"recorded": True})

    async def _poll(self, request: Request) -> Reply:
        """Poll ``group`` of ``device`` now."""
        name = str(request.body["device"])
        device = self._plant.devices.get(name)
        if device is None:
            return Reply(BAD_NODE_ID_UNKNOWN, f"there is no device {name}")
        outcome = await device.poll_now(str(request.body["group"]), timeout_s=request.timeout_s)
        return Reply(outcome.status, outcome.reason)

    def _acknowledge(self, tag: str, user: str) -> None:
        for output in self._plant.config.outputs:
            running = self._plant.outputs.get(output.name)
            if output.acknowledge == tag and running is not None:
                running.acts.acknowledged_at_plc(user)

    def _record(self, wanted: Wanted, outcome: WriteOutcome) -> None:
        _log.info(
            "write.done",
            tag=wanted.tag,
            user=wanted.who,
            outcome=status_name(outcome.status),
            reason=outcome.reason,
        )
        self._child.control.notify(RECORDS, "audit", record_of(wanted, outcome))
