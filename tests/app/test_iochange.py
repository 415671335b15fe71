"""The io process while its configuration changes: who is touched refuses writes, the others go on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from edge_opcua.app.build import plan
from edge_opcua.app.changes import Change
from edge_opcua.app.io import _Plant, _Writes
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, GroupConfig, SiteConfig
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_NODE_ID_UNKNOWN, GOOD, Link, Scalar
from edge_opcua.core.worker import Worker
from tests.drivers.peers import ModbusPeer


def device(name: str, port: int, *extra: str) -> DeviceConfig:
    names = ("count", "setpoint", *extra)
    rows = [
        TagConfig(each, f"hr:{row}:UINT", Scalar.UINT16, group="fast", access="rw" if row == 1 else "r")
        for row, each in enumerate(names)
    ]
    return DeviceConfig(
        name=name,
        driver="modbus",
        url=f"modbus://127.0.0.1:{port}/1",
        tags=TagRows.of(rows),
        groups=(GroupConfig(name="fast", period_ms=20),),
    )


def plant_of(*devices: DeviceConfig) -> EdgeConfig:
    return EdgeConfig(version=1, site=SiteConfig(name="p", machine="M"), devices=devices)


class Notes:
    """The control channel of a child whose supervisor wants to know nothing."""

    def notify(self, to: str, kind: str, body: dict[str, Any]) -> None:
        """Take a record."""

    async def request(self, *_: Any, **__: Any) -> Reply:
        """Answer."""
        return Reply()


class Io:
    """The devices of an io process on a bus, without the process."""

    def __init__(self, config: EdgeConfig) -> None:
        self.config = config
        self.bus = Bus.create(plan(config).blocks)
        self.child = Child(
            "io", self.bus, memoryview(b""), cast(Any, Notes()), SystemClock(), Path("/nonexistent")
        )
        self.plant = _Plant(self.child, config)
        self.writes = _Writes(self.child, self.plant)

    async def write(self, tag: str, value: int) -> Reply:
        body = {"tag": tag, "value": value, "user": "u"}
        return await self.writes.handle(Request("io", "write", body, timeout_s=2.0))

    async def change(self, config: EdgeConfig) -> None:
        before, old = dict(self.bus.homes), self.config
        planned = await Worker("test").call(plan, config, timeout_s=10.0)
        self.bus.switch(self.bus.extend(planned.blocks))
        self.config = config
        await self.plant.change(Change(old, config, before, dict(self.bus.homes)))

    async def until_up(self, block: str) -> None:
        reader = self.bus.reader(block)
        async with asyncio.timeout(10):
            while True:
                batch = reader.latest()
                if batch is not None and batch.link is Link.UP and int(batch.status[0]) == GOOD:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(config: EdgeConfig) -> AsyncIterator[Io]:
    io = await Worker("test").call(Io, config, timeout_s=10.0)  # it looks for drivers on the disk
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(io.plant.run(), name="io")
        try:
            yield io
        finally:
            io.child.stopping.set()
    io.bus.close()


async def test_a_device_that_changes_keeps_its_last_values_and_the_other_one_its_connection() -> None:
    first, second = ModbusPeer(), ModbusPeer()
    for peer in (first, second):
        peer.put(0, "HHHH", 7, 8, 9, 10)
    async with first.serving(), second.serving():
        a, b = device("a", first.port), device("b", second.port)
        async with running(plant_of(a, b)) as io:
            await io.until_up("a.fast")
            await io.until_up("b.fast")
            untouched = io.plant.devices["a"]
            changed = plant_of(a, device("b", second.port, "more"))

            async def slow_stop(names: Any) -> None:
                await stop(names)
                refused.append(await io.write("b/setpoint", 1))
                taken = io.bus.reader("b.fast").latest()
                assert taken is None  # the new block is not written yet

            refused: list[Reply] = []
            stop = io.plant._stop_devices
            io.plant._stop_devices = slow_stop  # type: ignore[method-assign]
            await io.change(changed)
            io.plant._stop_devices = stop  # type: ignore[method-assign]
            assert [reply.status for reply in refused] == [BAD_INVALID_STATE]
            last = io.bus.reader("b.fast").latest()
            assert last is not None
            assert last.value(last.row("count")) == 7
            await io.until_up("b.fast")
            batch = io.bus.reader("b.fast").latest()
            assert batch is not None
            assert batch.value(batch.row("more")) == 9
            assert io.plant.devices["a"] is untouched
            assert (await io.write("gone/setpoint", 1)).status == BAD_NODE_ID_UNKNOWN
            await io.change(plant_of(a))
            assert set(io.plant.devices) == {"a"}
            assert (await io.write("b/setpoint", 1)).status == BAD_NODE_ID_UNKNOWN
            await io.until_up("a.fast")
