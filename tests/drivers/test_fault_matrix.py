"""Every driver against every fault of a network: what clients see, how soon, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from asyncua import ua

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import BAD_COMMUNICATION_ERROR, GOOD
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.plan import plan_device
from edge_opcua.drivers.poller import Device
from edge_opcua.sim.proxy import Link as Cable
from edge_opcua.sim.proxy import Mode
from edge_opcua.sim.s7server import DataBlock, S7Server
from tests.drivers.logixpeer import LogixPeer
from tests.drivers.peers import DRIVERS, Known, ModbusPeer, config, proxied
from tests.drivers.uapeer import standard_nodes, ua_peer

PERIOD_MS = 50
TIMEOUT_MS = 450
PATIENT_MS = 3_000  # for who has no fault: only this computer could keep it waiting
HOLD_S = 0.2
STALE_S = 0.6
BACKOFF_S = 0.3
# A busy machine may hold everything up for as long as this, which says nothing about a driver.
SLACK_S = 1.0
SOME = ("cut", "freeze", "garbage")
FAULTS = (*SOME, "freeze:replies", "freeze:half")


@dataclass(frozen=True)
class Rig:
    """One protocol: a server for it, and a few tags of it.

    Args:
        driver: Name of the driver.
        serving: Runs the server and yields its port.
        url: URL of a device at a port.
        tags: Addresses by name.
        options: Options of the device.
    """

    driver: str
    serving: Callable[[], AbstractAsyncContextManager[int]]
    url: str
    tags: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def modbus() -> AsyncIterator[int]:
    async with ModbusPeer().serving() as peer:
        yield peer.port


@asynccontextmanager
async def s7() -> AsyncIterator[int]:
    server = S7Server((DataBlock(10, 200, writable=True), DataBlock(11, 2_000, writable=True)))
    port = await server.open("127.0.0.1", 0)
    try:
        yield port
    finally:
        server.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def ethernet_ip() -> AsyncIterator[int]:
    peer = LogixPeer()
    peer.put("Recipe", "DINT", *range(100))
    peer.put("Program:Main.Speed", "REAL", 1.5)
    async with peer.serving():
        yield peer.port


@asynccontextmanager
async def opcua() -> AsyncIterator[int]:
    async with ua_peer() as peer:
        await peer.put("a", ua.VariantType.Int16, 7)
        await peer.put("b", ua.VariantType.Float, 1.5)
        yield peer.port


RIGS = {
    "ethernet-ip": Rig(
        "ethernet-ip",
        ethernet_ip,
        "eip://127.0.0.1:{port}/0",
        {"a": "Recipe[3]:DINT", "b": "Program:Main.Speed:REAL", "c": "Recipe[90]:DINT[8]"},
    ),
    "modbus": Rig(
        "modbus", modbus, "modbus://127.0.0.1:{port}/1", {"a": "hr:0:INT", "b": "hr:900:REAL", "c": "co:7"}
    ),
    "opcua": Rig(
        "opcua",
        opcua,
        "opc.tcp://127.0.0.1:{port}",
        {"a": "nsu=urn:tests:plant;s=a:INT", "b": "nsu=urn:tests:plant;s=b:REAL", "c": "i=2258:LDT"},
        {"security": "None"},
    ),
    "opcua-subscribe": Rig(
        "opcua",
        opcua,
        "opc.tcp://127.0.0.1:{port}",
        {"a": "nsu=urn:tests:plant;s=a:INT", "b": "nsu=urn:tests:plant;s=b:REAL", "c": "i=2258:LDT"},
        {"security": "None", "mode": "subscribe"},
    ),
    "s7": Rig(
        "s7", s7, "s7://127.0.0.1:{port}?rack=0&slot=1", {"a": "DB10.DBW0:INT", "b": "DB11.DBD1900:REAL"}
    ),
}


@pytest.fixture(scope="module", autouse=True)
def standard_nodes_are_made_once() -> Iterator[None]:
    with standard_nodes():
        yield


class Pair:
    """Two devices of one protocol on one bus: the first behind a cable, the second on its own way."""

    def __init__(self, rig: Rig, cable_port: int, port: int, *, timeout_ms: int = TIMEOUT_MS) -> None:
        self.clock = SystemClock()
        settings: dict[str, Any] = {
            "stale_after_s": STALE_S,
            "hold_s": HOLD_S,
            "reconnect_max_s": BACKOFF_S,
            "groups": [{"name": "fast", "period_ms": PERIOD_MS}],
        }
        self.configs = [
            config(
                rig.driver,
                rig.url.format(port=at),
                rig.tags,
                name=name,
                options=rig.options,
                timeout_ms=timeout,
                **settings,
            )
            for name, at, timeout in (("broken", cable_port, timeout_ms), ("other", port, PATIENT_MS))
        ]
        plans = [plan_device(cfg, plugins=Known()) for cfg in self.configs]
        self.bus = Bus.create([block for plan in plans for block in plan.blocks], clock=self.clock)
        lines = Lines()
        self.devices = [
            Device(cfg, DRIVERS[cfg.driver], self.bus, self.clock, lines, draw=lambda: 0.0)
            for cfg in self.configs
        ]

    def statuses(self, name: str) -> set[int]:
        """Return the statuses that clients see now."""
        reader = self.bus.reader(f"{name}.fast")
        batch = reader.latest()
        return {-1} if batch is None else set(reader.effective(batch).tolist())

    def age_s(self, name: str) -> float:
        """Return how old the values of a device are."""
        batch = self.bus.reader(f"{name}.fast").latest()
        return float("inf") if batch is None else (self.clock.monotonic_ns() - batch.refreshed_ns) / 1e9

    async def until(self, condition: Callable[[], bool], *, within_s: float) -> float:
        """Wait until something is so, and return how long that took."""
        started_s = self.clock.monotonic_s()
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.005)
        return self.clock.monotonic_s() - started_s

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(device.run()) for device in self.devices]
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
        self.bus.close()


@asynccontextmanager
async def pair(rig: Rig, port: int) -> AsyncIterator[tuple[Cable, Pair]]:
    async with proxied(port) as cable:
        devices = Pair(rig, cable.port, port)
        async with devices.running():
            await devices.until(
                lambda: devices.statuses("broken") == devices.statuses("other") == {GOOD}, within_s=5.0
            )
            yield cable, devices


async def ages(devices: Pair, name: str, into: list[float]) -> None:
    while True:
        into.append(devices.age_s(name))
        await asyncio.sleep(0.005)


def source_of(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_filename if code is not None else ""


def held() -> Counter[str]:
    """Return what the process holds: tasks, threads, and what each descriptor is."""
    # The OPC UA server of the rig lives here too, and keeps the subscriptions of clients that went away.
    tasks = Counter(
        f"task {task.get_name()}" for task in asyncio.all_tasks() if "/asyncua/server/" not in source_of(task)
    )
    threads = Counter(f"thread {thread.name}" for thread in threading.enumerate())
    links = Counter(str(Path(each.path).readlink()).partition(":")[0] for each in os.scandir("/proc/self/fd"))
    return tasks + threads + links


@pytest.mark.parametrize("name", RIGS)
async def test_a_fault_is_shown_in_time_harms_nobody_else_and_ends(name: str) -> None:
    rig = RIGS[name]
    # Nearly all of it is waiting: the faults of a protocol wait side by side, each on a cable of its own.
    # A subscription has the connection of the driver that reads: one way to be silent is enough for it.
    async with rig.serving() as port, asyncio.TaskGroup() as tasks:
        for fault in SOME if name == "opcua-subscribe" else FAULTS:
            tasks.create_task(endured(rig, port, fault))


async def endured(rig: Rig, port: int, fault: str) -> None:
    seen: list[float] = []
    try:
        async with pair(rig, port) as (cable, devices), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(ages(devices, "other", seen))
            await broken_and_mended(cable, devices, fault)
            watching.cancel()
        # Polled every 50 ms: a device that waited for the broken one would be 450 ms old at least.
        assert np.percentile(seen, 99) < 6 * PERIOD_MS / 1000
    except Exception as exc:
        exc.add_note(f"fault: {fault}")
        raise


async def broken_and_mended(cable: Cable, devices: Pair, fault: str) -> None:
    await cable.set(Mode.parse(fault))
    late_s = STALE_S + PERIOD_MS / 1000 + SLACK_S
    await devices.until(lambda: GOOD not in devices.statuses("broken"), within_s=late_s)
    # After `hold_s` nothing is left of a value that nobody can vouch for (architecture §4).
    await devices.until(
        lambda: devices.statuses("broken") == {BAD_COMMUNICATION_ERROR},
        within_s=STALE_S + HOLD_S + TIMEOUT_MS / 1000 + SLACK_S,
    )
    await cable.set(Mode.parse("pass"))
    await devices.until(
        lambda: devices.statuses("broken") == {GOOD},
        within_s=BACKOFF_S + 2 * TIMEOUT_MS / 1000 + 1.0 + SLACK_S,
    )


async def flaps(rig: Rig, cable: Cable, devices: Pair) -> None:
    # How soon is shown above; here five protocols share the computer.
    async with devices.running():
        await devices.until(lambda: devices.statuses("broken") == {GOOD}, within_s=15.0)
        for count in range(20):
            try:
                await cable.set(Mode.parse("cut"))
                await devices.until(lambda: GOOD not in devices.statuses("broken"), within_s=15.0)
                await cable.set(Mode.parse("pass"))
                await devices.until(lambda: devices.statuses("broken") == {GOOD}, within_s=15.0)
            except TimeoutError as exc:
                raise AssertionError(f"{rig.url}: flap {count}, {devices.statuses('broken')}") from exc


@pytest.mark.timeout(120)
async def test_twenty_flaps_of_each_protocol_leave_no_task_no_thread_and_no_descriptor() -> None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        plugged = []
        for rig in RIGS.values():
            port = await stack.enter_async_context(rig.serving())
            cable = await stack.enter_async_context(proxied(port))
            plugged.append((rig, cable, Pair(rig, cable.port, port, timeout_ms=PATIENT_MS)))
        before = held()
        with structlog.testing.capture_logs() as logs:
            async with asyncio.TaskGroup() as tasks:
                for rig, cable, devices in plugged:
                    tasks.create_task(flaps(rig, cable, devices))
        deadline_s = clock.monotonic_s() + 5.0
        while left := held() - before:
            assert clock.monotonic_s() < deadline_s, left
            await asyncio.sleep(0.01)
    lost = [line for line in logs if line["event"] == "driver.lost"]
    assert len(RIGS) <= len(lost) <= 20 * len(RIGS)
    assert {line["device"] for line in lost} == {"broken"}
