"""Ranges that must not be read along, in the grammar of the driver."""

from __future__ import annotations

import pytest

from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.noread import closed_stretches
from edge_opcua.drivers.plan import plan_device
from edge_opcua.drivers.planner import Stretch
from edge_opcua.drivers.s7 import S7Driver
from edge_opcua.errors import ConfigError
from tests.drivers.peers import Known, config
from tests.drivers.scripted import scripted

MODBUS = config("modbus", "modbus://h/7", {"a": "hr:0:INT", "b": "hr:50:INT"})
S7 = config("s7", "s7://h", {"a": "DB10.DBW0:INT"})


@pytest.mark.parametrize(
    ("text", "stretch"),
    [
        ("hr:100-119", Stretch((7, "hr"), 100, 120)),
        ("3/ir:7", Stretch((3, "ir"), 7, 8)),
        ("co:5-9", Stretch((7, "co"), 5, 10)),
        ("40101-40103", Stretch((7, "hr"), 100, 103)),
        (" hr:1 - 2 ", Stretch((7, "hr"), 1, 3)),
    ],
)
def test_a_range_of_registers(text: str, stretch: Stretch) -> None:
    assert closed_stretches([text], MODBUS, ModbusDriver) == (stretch,)


@pytest.mark.parametrize(
    ("text", "start", "end"), [("DB10.DBB20-40", 20, 41), ("DB10.DBW20-40", 20, 42), ("MB3", 3, 4)]
)
def test_a_range_of_bytes(text: str, start: int, end: int) -> None:
    (found,) = closed_stretches([text], S7, S7Driver)
    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize("text", ["hr:9-3", "xy:1-2", "hr:1-70000", "hr", "1-2-3", "hr:100:REAL"])
def test_what_is_no_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="hr:100-119") as raised:
        closed_stretches([text], MODBUS, ModbusDriver)
    assert raised.value.code == "C127"


def test_a_tag_in_such_a_range_is_refused() -> None:
    tags = {"good": "hr:0:INT", "bad": "hr:10:REAL"}
    cfg = config("modbus", "modbus://h/1", tags, options={"no_read": ["hr:11-20"]})
    with pytest.raises(ConfigError, match=r"dev/bad: .*hr:10") as raised:
        plan_device(cfg, plugins=Known())
    assert raised.value.code == "T236"


async def test_no_request_touches_such_a_range() -> None:
    tags = {"a": "hr:0:INT", "b": "hr:50:INT"}
    async with scripted(tags, options={"no_read": ["hr:20-21"]}) as (wire, bench):
        assert bench.requests_per_period == {"fast": 2}
        async with bench.running():
            await bench.until(lambda: bench.values("fast") == {"a": 0, "b": 50})
        assert set(wire.asked) == {(1, 0, 1), (1, 50, 1)}
