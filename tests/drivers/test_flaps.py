"""A thousand losses of a link in no time: what is told, what is kept, and that every one of them ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog

from edge_opcua.config.schema import DeviceConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, is_good
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.linkstate import State
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.plan import plan_device
from edge_opcua.drivers.planner import Place, Request
from edge_opcua.drivers.poller import Device
from edge_opcua.drivers.wire import Reading, Traffic, Wire
from edge_opcua.errors import DeviceError
from edge_opcua.testing import ManualClock
from tests.drivers.peers import Known, config

FLAPS = 1_000
SETTINGS: dict[str, Any] = {"hold_s": 0.1, "groups": [{"name": "fast", "period_ms": 200}]}
STEP_S = 0.1


class Wobbly:
    """A connection that can be taken away and given back."""

    def __init__(self, cfg: DeviceConfig) -> None:
        self.shape = ModbusDriver.shape(cfg)
        self.traffic = Traffic()
        self.depth = 1
        self.plugged = True
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        if not self.plugged:
            raise DeviceError("unplugged")
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        if not self.plugged:
            raise DeviceError("unplugged")
        return [[bytes(2 * part.size) for part in request.fragments] for request in requests]

    async def write(self, place: Place, encoded: bytes) -> None:
        raise NotImplementedError

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        raise NotImplementedError


async def test_a_thousand_flaps_are_told_once_each_way_and_leave_nothing_behind() -> None:
    cfg = config("modbus", "modbus://127.0.0.1:1/1", {"a": "hr:0:INT"}, **SETTINGS)
    clock = ManualClock()
    bus = Bus.create(plan_device(cfg, plugins=Known()).blocks, clock=clock)
    wire = Wobbly(cfg)

    class Driver(ModbusDriver):
        @classmethod
        def wire(cls, cfg: DeviceConfig, clock: Clock, lines: Lines) -> Wire:
            return wire

    device = Device(cfg, Driver, bus, clock, Lines(), draw=lambda: 0.0)
    reader = bus.reader("dev.fast")

    def status() -> int:
        batch = reader.latest()
        return -1 if batch is None else int(reader.effective(batch)[0])

    async def until(state: State, *, within_s: float) -> None:
        end_s = clock.monotonic_s() + within_s
        while device.status.state is not state:
            assert clock.monotonic_s() < end_s, (device.status, state)
            await clock.advance(STEP_S)

    asyncio.get_running_loop().set_debug(False)
    before = len(asyncio.all_tasks())
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(device.run())
            await until(State.ONLINE, within_s=10.0)
            at_work = len(asyncio.all_tasks())
            for _ in range(FLAPS):
                wire.plugged = False
                await until(State.OFFLINE, within_s=10.0)
                assert not is_good(status())
                wire.plugged = True
                await until(State.ONLINE, within_s=10.0)
                assert status() == GOOD
            assert len(asyncio.all_tasks()) <= at_work
            running.cancel()
    bus.close()
    assert len(asyncio.all_tasks()) == before
    told = Counter(line["event"] for line in logs)
    assert told["driver.lost"] == FLAPS
    assert told["driver.connected"] == FLAPS + 1
    assert wire.closed >= wire.opened == FLAPS + 1
