"""Whole devices behind one gateway: one that is dead, one that comes back, and a gateway that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from edge_opcua.core.values import GOOD, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.poller import Device
from edge_opcua.sim.proxy import Link as Cable
from edge_opcua.sim.proxy import Mode
from tests.drivers.peers import DRIVERS, Bench, ModbusPeer, config, proxied

UNITS = range(1, 6)


@asynccontextmanager
async def hall(**more: Any) -> AsyncIterator[tuple[ModbusPeer, Cable, dict[int, Bench]]]:
    """Five devices of one io process behind one gateway, running."""
    lines = Lines()
    async with ModbusPeer().serving() as gateway, proxied(gateway.port) as cable, AsyncExitStack() as stack:
        gateway.registers[:10] = range(100, 110)
        devices = {}
        for unit in UNITS:
            url = f"modbus://127.0.0.1:{cable.port}/{unit}"
            cfg = config("modbus", url, {"t": f"hr:{unit}:INT"}, name=f"unit{unit}", hold_s=30.0, **more)
            bench = Bench(cfg)
            bench.device = Device(cfg, DRIVERS["modbus"], bench.bus, bench.clock, lines, draw=lambda: 0.0)
            devices[unit] = bench
            await stack.enter_async_context(bench.running())
        yield gateway, cable, devices


def good(bench: Bench) -> bool:
    return bench.statuses("fast")["t"] == GOOD


def lost(bench: Bench) -> bool:
    return bench.statuses("fast")["t"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE


async def test_a_dead_unit_is_lost_alone_and_found_again() -> None:
    async with hall() as (gateway, _, devices):
        for bench in devices.values():
            await bench.until(lambda bench=bench: good(bench))  # type: ignore[misc]
        connections = gateway.connections
        gateway.mute = {3}
        await devices[3].until(lambda: lost(devices[3]))
        before = {unit: devices[unit].reader("fast").newest for unit in UNITS}
        await asyncio.sleep(0.5)
        for unit in set(UNITS) - {3}:
            assert good(devices[unit])
            assert devices[unit].reader("fast").newest > before[unit]
        gateway.mute = set()
        await devices[3].until(lambda: good(devices[3]))
        assert gateway.connections == connections
        assert {unit: bench.values("fast")["t"] for unit, bench in devices.items()} == {
            unit: 100 + unit for unit in UNITS
        }


@pytest.mark.parametrize("mode", ["cut", "freeze"])
async def test_a_gateway_that_goes_away_is_everybodys_loss_and_return(mode: str) -> None:
    async with hall() as (_, cable, devices):
        for bench in devices.values():
            await bench.until(lambda bench=bench: good(bench))  # type: ignore[misc]
        await cable.set(Mode.parse(mode))
        for bench in devices.values():
            await bench.until(lambda bench=bench: lost(bench), timeout_s=8.0)  # type: ignore[misc]
        await cable.set(Mode.parse("pass"))
        for bench in devices.values():
            await bench.until(lambda bench=bench: good(bench), timeout_s=8.0)  # type: ignore[misc]
        assert cable.connections == 1


async def test_writes_of_all_devices_get_through_a_busy_line() -> None:
    extra = {"t": {"access": "rw"}}
    async with hall(extra=extra) as (gateway, _, devices):
        for bench in devices.values():
            await bench.until(lambda bench=bench: bench.device.link_up)  # type: ignore[misc]
        async with asyncio.TaskGroup() as tasks:
            outcomes = [
                tasks.create_task(bench.device.write("t", 200 + unit)) for unit, bench in devices.items()
            ]
        assert [outcome.result().status for outcome in outcomes] == [GOOD] * 5
        assert gateway.registers[1:6] == [201, 202, 203, 204, 205]
