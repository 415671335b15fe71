"""A simulated device: values that could be, never taken for real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from edge_opcua.core.values import GOOD, UNCERTAIN_SIMULATED, Scalar
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.planner import Fragment, Request
from edge_opcua.drivers.simulate import SimulatedWire
from edge_opcua.testing import ManualClock
from tests.drivers.peers import Bench, config

MODBUS = {
    "speed": "hr:0:INT",
    "force": "hr:2:REAL",
    "count": "hr:6:ULINT",
    "mode": "hr:10:UINT",
    "door": "hr:11.3:BOOL",
    "other": "hr:11.4:BOOL",
    "pump": "co:5",
    "lamps": "hr:12.0:BOOL[4]",
    "curve": "hr:20:INT[6]",
    "name": "hr:40:STRING[10]",
    "target": "3/hr:60:REAL",
}
EXTRA: dict[str, Any] = {
    "speed": {"low": 10, "high": 20},
    "force": {"low": 0.5, "high": 1.5},
    "mode": {"states": ((0, "off"), (2, "auto"), (4, "hand"))},
    "name": {"initial": "press 7"},
    "target": {"access": "rw", "initial": 42.5, "low": 0, "high": 100},
}
S7 = {
    "level": "DB1.DBD0:REAL",
    "text": "DB1.DBB8:STRING[12]",
    "on": "DB1.DBX30.2:BOOL",
    "when": "DB1.DBB40:DT",
}


@asynccontextmanager
async def simulated(driver: str, url: str, tags: dict[str, str], **more: Any) -> AsyncIterator[Bench]:
    # No server is there: a simulated device connects to nothing.
    bench = Bench(config(driver, url, tags, simulate=True, **more))
    async with bench.running():
        await bench.until(lambda: set(bench.statuses("fast").values()) == {UNCERTAIN_SIMULATED})
        yield bench


async def test_every_value_is_plausible_and_marked() -> None:
    with structlog.testing.capture_logs() as logs:
        async with simulated("modbus", "modbus://192.0.2.1/1", MODBUS, extra=EXTRA) as bench:
            values = bench.values("fast")
            assert 10 <= values["speed"] <= 20
            assert 0.5 <= values["force"] <= 1.5
            assert 0 <= values["count"] <= 100
            assert values["mode"] in (0, 2, 4)
            assert values["name"] == "press 7"
            assert values["target"] == 42.5
            assert len(values["curve"]) == 6
            link = bench.values("link")
            assert (link["state_text"], link["simulated"], link["reconnects"]) == ("SIMULATED", True, 0)
    assert [(entry["event"], entry["code"]) for entry in logs] == [("driver.simulated", "D390")]


async def test_the_numbers_move() -> None:
    async with simulated("modbus", "modbus://192.0.2.1/1", MODBUS, extra=EXTRA) as bench:
        before = bench.values("fast")
        await bench.until(lambda: bench.values("fast")["force"] != before["force"], timeout_s=10.0)


async def test_what_is_written_goes_to_the_simulation_and_stays() -> None:
    extra = EXTRA | {"force": {"access": "rw"}, "door": {"access": "rw"}}
    async with simulated("modbus", "modbus://192.0.2.1/1", MODBUS, extra=extra) as bench:
        device = bench.device
        for tag, value in (("target", 7.5), ("force", 123.0), ("door", True)):
            assert (await device.write(tag, value)).status == GOOD
        await asyncio.sleep(0.4)  # longer than values stay the same
        values = bench.values("fast")
        assert (values["target"], values["force"], values["door"]) == (7.5, 123.0, True)
        assert set(bench.statuses("fast").values()) == {UNCERTAIN_SIMULATED}
        assert (await device.write_bytes("hr:0", 0, b"\0\x0f")).status == GOOD
        await bench.until(lambda: bench.values("fast")["speed"] == 15)


async def test_s7_devices_are_simulated_in_their_own_types() -> None:
    types = {"when": {"type": Scalar.DATETIME}}
    async with simulated("s7", "s7://192.0.2.1", S7, extra=types) as bench:
        values = bench.values("fast")
        assert 0 <= values["level"] <= 100
        assert values["text"] == "text"
        assert isinstance(values["on"], bool)
        assert values["when"] > 0
        assert (await bench.device.write_bytes("DB1", 0, bytes(4))).status == GOOD
        await bench.until(lambda: bench.values("fast")["level"] == 0.0)


async def test_captures_come_every_two_seconds_and_are_marked() -> None:
    capture = {
        "name": "wave",
        "poll_ms": 20,
        "sequence": "hr:100:UINT",
        "ready": "hr:101.0:BOOL",
        "samples": "hr:110:INT[50]",
        "sample_rate_hz": 1000.0,
        "sample_count": 50,
        "low": -100.0,
        "high": 100.0,
    }
    async with simulated("modbus", "modbus://192.0.2.1/1", {"a": "hr:0:INT"}, captures=[capture]) as bench:
        await bench.until(lambda: bench.reader("wave").newest > 1)
        await bench.until(lambda: set(bench.statuses("wave").values()) == {UNCERTAIN_SIMULATED})
        samples = bench.values("wave")["waveform"]
        assert samples.size == 50
        assert -100 <= samples.min() < samples.max() <= 100


@pytest.mark.parametrize(
    ("row", "low", "high"),
    [
        ({}, 0, 100),
        ({"low": 50}, 50, 150),
        ({"high": -50}, -150, -50),
        ({"initial": 1000, "high": 1010}, 10, 1010),
        ({"initial": -3}, -6, 0),
        ({"low": 0, "high": 10, "scale": 0.1, "type": Scalar.DOUBLE}, 0, 10),
        ({"low": 0, "high": 1e9}, 0, 32767),
    ],
)
async def test_values_keep_to_range_and_type(row: dict[str, Any], low: float, high: float) -> None:
    async with simulated("modbus", "modbus://192.0.2.1/1", {"a": "hr:0:INT"}, extra={"a": row}) as bench:
        assert low <= bench.values("fast")["a"] <= high


async def test_values_go_on_when_the_clock_is_set_back() -> None:
    clock = ManualClock()
    cfg = config("modbus", "modbus://192.0.2.1/1", {"speed": "hr:0:REAL"}, simulate=True)
    wire = SimulatedWire(cfg, ModbusDriver, clock)
    request = Request((Fragment((1, "hr"), 0, 2),))
    seen = set()
    for hours in (0, -1, -2, -3):
        clock.set_utc_ns(1_700_000_000_000_000_000 + hours * 3_601_000_000_000)
        ((value,),) = await wire.read((request,))
        seen.add(value)
    assert len(seen) == 4
