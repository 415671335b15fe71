"""The io process: talks to the devices, writes what clients ask for, and carries the verdicts to the PLCs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import structlog

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.collector import paused, settle
from edge_opcua.core.control import SUPERVISOR, Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.supervise import supervise
from edge_opcua.core.values import BAD_NODE_ID_UNKNOWN, BAD_NOT_SUPPORTED, is_bad, status_name
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.poller import Device, build_device
from edge_opcua.writeback.executor import Executor, build_executor

_log = structlog.get_logger(__name__)

RECORDS = "records"
RELEASE_S = 0.4
TELL_S = 0.1


async def run(child: Child, config: EdgeConfig) -> None:
    """Poll and write until the process shall stop; then release the outputs while the links still work."""
    lines = Lines()
    with paused():
        devices = {cfg.name: build_device(cfg, child.bus, child.clock, lines) for cfg in config.devices}
    executors = [
        build_executor(
            config,
            output,
            devices[output.device],
            child.bus,
            child.clock,
            audit=partial(_audit_authority, child, output.name),
        )
        for output in config.outputs
    ]
    child.handle = _Writes(child, config, devices, executors).handle
    settle()  # addresses and plans stay; looking through them again and again would delay a poll
    child.starting = False
    async with asyncio.TaskGroup() as group:
        polling = [
            group.create_task(supervise(device.name, device.run, clock=child.clock), name=device.name)
            for device in devices.values()
        ]
        writing = [
            group.create_task(supervise(each.name, each.run, clock=child.clock), name=each.name)
            for each in executors
        ]
        await child.stopping.wait()
        for task in writing:
            task.cancel()
        async with asyncio.TaskGroup() as releasing:
            for each in executors:
                releasing.create_task(_release(child, each), name=f"release.{each.name}")
        for task in polling:
            task.cancel()


async def _release(child: Child, executor: Executor) -> None:
    """Release one output, and tell the supervisor if only the PLC's own time-out is left to do it."""
    if not await executor.release(RELEASE_S):
        await child.control.request(SUPERVISOR, "unreleased", {"output": executor.name}, timeout_s=TELL_S)


def _audit_authority(child: Child, output: str, old: str, new: str, reason: str) -> None:
    body = {"what": f"authority {output}", "who": "edge-opcua", "old": old, "new": new, "outcome": reason}
    child.control.notify(RECORDS, "audit", body)


class _Writes:
    """Answers ``write`` with what the device really did, and keeps a record of it."""

    def __init__(
        self, child: Child, config: EdgeConfig, devices: dict[str, Device], executors: list[Executor]
    ) -> None:
        self._child = child
        self._devices = devices
        self._acknowledged_by = {
            output.acknowledge: executor
            for output, executor in zip(config.outputs, executors, strict=True)
            if output.acknowledge is not None
        }

    async def handle(self, request: Request) -> Reply:
        """Write ``tag`` = ``value`` for ``user``."""
        if request.kind != "write":
            return Reply(BAD_NOT_SUPPORTED, f"the io process does not know {request.kind}")
        tag, value, user = str(request.body["tag"]), request.body["value"], str(request.body.get("user", ""))
        device_name, _, tag_name = tag.partition("/")
        device = self._devices.get(device_name)
        if device is None:
            return Reply(BAD_NODE_ID_UNKNOWN, f"there is no device {device_name}")
        outcome = await device.write(tag_name, value, timeout_s=request.timeout_s)
        self._record(tag, value, user, status_name(outcome.status), outcome.reason)
        if tag in self._acknowledged_by and value is True and not is_bad(outcome.status):
            self._acknowledged_by[tag].acknowledge(user)
        return Reply(outcome.status, outcome.reason, {"recorded": True})

    def _record(self, tag: str, value: Any, user: str, outcome: str, reason: str) -> None:
        _log.info("write.done", tag=tag, user=user, outcome=outcome, reason=reason)
        body = {"what": f"write {tag}", "who": user, "new": value, "outcome": f"{outcome} {reason}".strip()}
        self._child.control.notify(RECORDS, "audit", body)
