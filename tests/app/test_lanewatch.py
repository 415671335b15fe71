"""What a lane process tells of its machine: heat and memory, once when it begins and once when it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from edge_opcua.app.serving.surroundings import LaneParts, LaneWatch
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.core.bus import Bus
from edge_opcua.core.control import Peer, Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.realtime import Granted
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.group import LaneGroup
from edge_opcua.inference.memory import MB, Limit, Room
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.thermal import Heat
from edge_opcua.testing import ManualClock


class Channel(Peer):
    """The end of a control channel that remembers what was told."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end, self._handle, "supervisor")
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def _handle(self, request: Request) -> Reply:
        return Reply()

    def notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        self.told.append((kind, dict(body)))

    @property
    def codes(self) -> list[tuple[str, str]]:
        return [(kind, str(body["code"])) for kind, body in self.told]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[LaneWatch, Channel, CostTable, Engine]]:
    clock = ManualClock()
    ends = socket.socketpair()
    config = load(examples_dir() / "press" / "press.toml", env={}).config
    bus = Bus.create(())
    channel, costs = Channel(ends[0]), CostTable()
    engine = Engine({}, costs, clock)
    group = LaneGroup([], engine, bus, clock)
    child = Child("lane/press-anomaly/1", bus, memoryview(b""), channel, clock, tmp_path)
    limit = Limit(keep_free_bytes=128 * MB)
    granted = Granted("SCHED_OTHER", locked=False, cores=(0,), notes=())
    assert config is not None
    yield (
        LaneWatch(child, config, "g", LaneParts(group, engine, costs, limit, granted, 0)),
        channel,
        costs,
        engine,
    )
    engine.close()
    bus.close()
    for end in ends:
        end.close()


ENOUGH = Room(90 * MB, 500 * MB, 400 * MB, short=False)
SHORT = Room(90 * MB, 60 * MB, 106 * MB, short=True)
COOL = Heat(60.0, where="cpu-thermal 60 °C")
HOT = Heat(88.0, warm=True, throttled=True, factor=1.6, where="cpu-thermal 88 °C; cpu0 core_throttle_count 9")


def test_heat_is_told_once_with_its_place_scales_the_costs_and_is_taken_back(
    watched: tuple[LaneWatch, Channel, CostTable, Engine],
) -> None:
    watch, channel, costs, _ = watched
    watch._apply(COOL, ENOUGH)
    channel.told.clear()
    for _ in range(3):
        watch._apply(HOT, ENOUGH)
    assert channel.told == [
        (
            "fault",
            {"source": "machine/heat", "code": "M584", "text": f"best effort is shed: {HOT.where}"},
        )
    ]
    assert costs.scale == 1.6
    channel.told.clear()
    for _ in range(3):
        watch._apply(COOL, ENOUGH)
    assert channel.codes == [("fault_over", "M584")]
    assert costs.scale == 1.0


def test_memory_that_is_short_is_told_with_the_figures(
    watched: tuple[LaneWatch, Channel, CostTable, Engine],
) -> None:
    watch, channel, _, _ = watched
    watch._apply(COOL, ENOUGH)
    channel.told.clear()
    for _ in range(3):
        watch._apply(COOL, SHORT)
    assert channel.codes == [("fault", "M583")]
    assert "60 MB of memory are free, 128 must stay free" in channel.told[0][1]["text"]
    watch._apply(COOL, ENOUGH)
    assert channel.codes[1:] == [("fault_over", "M583")]


def test_a_new_process_takes_back_what_a_former_one_has_told(
    watched: tuple[LaneWatch, Channel, CostTable, Engine],
) -> None:
    watch, channel, _, _ = watched
    watch._apply(COOL, ENOUGH)
    assert channel.codes == [("fault_over", "M584"), ("fault_over", "M583")]


def test_a_machine_that_tells_nothing_is_taken_for_cool(
    watched: tuple[LaneWatch, Channel, CostTable, Engine],
) -> None:
    watch, channel, costs, _ = watched
    watch._apply(Heat(), None)
    assert [kind for kind, _ in channel.told] == ["fault_over", "fault_over"]
    assert costs.scale == 1.0


async def test_a_driver_that_fails_in_its_own_way_ends_no_lane(
    watched: tuple[LaneWatch, Channel, CostTable, Engine],
) -> None:
    watch, channel, _, _ = watched

    def broken() -> tuple[Heat, Room | None]:
        raise AttributeError("the library of an old driver has no such function")

    watch._read = broken  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(watch.run())
            async with asyncio.timeout(5):
                while ("fault_over", "M583") not in channel.codes:
                    await asyncio.sleep(0.005)
            assert not running.done()
            running.cancel()
    assert [line["event"] for line in logs] == ["lane.blind"]
    assert "no such function" in logs[0]["error"]


async def test_a_sensor_that_fails_has_not_become_cool(
    watched: tuple[LaneWatch, Channel, CostTable, Engine],
) -> None:
    watch, _, costs, _ = watched
    clock = watch._child.clock
    assert isinstance(clock, ManualClock)
    looks = 0

    def read() -> tuple[Heat, Room | None]:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise OSError("the sensor is gone")
        return HOT, ENOUGH

    watch._read = read  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(watch.run())
            async with asyncio.timeout(5):
                while not any(line["event"] == "lane.blind" for line in logs):
                    await asyncio.sleep(0.005)
                    await clock.advance(1.0)
                await asyncio.sleep(0.02)
            running.cancel()
    assert costs.scale == HOT.factor
    assert "lane.serves_all" not in [line["event"] for line in logs]
