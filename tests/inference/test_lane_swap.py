"""The warm swap: whatever happens around it, every stroke is judged once and by one model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import Link, Verdict
from edge_opcua.core.worker import Worker
from edge_opcua.inference.repository import ModelFiles
from edge_opcua.testing import ManualClock
from tests.inference.line import Line, OneLane, delivered

FILES: dict[int, ModelFiles] = {version: delivered(version) for version in (1, 2)}


def prepared(line: Line, version: int) -> OneLane:
    lane = line.lane(FILES[version])
    lane.prepare()
    return lane


# What can happen on a line, in any order: strokes, the lane looking, swaps, a lane killed and started again
# from the cursor that the supervisor reads on the bus, the io process publishing a capture again, a link
# that reconnects, answers that are not there yet.
EVENTS = st.lists(
    st.sampled_from(
        ["stroke", "stroke", "stroke", "step", "step", "swap", "kill", "repeat", "link", "stall", "go"]
    ),
    max_size=40,
)


@settings(max_examples=30)
@given(EVENTS)
def test_every_stroke_is_judged_exactly_once_over_swaps_and_crashes(events: list[str]) -> None:
    clock = ManualClock()
    line = Line(clock, capture_depth=64)
    lanes = {version: prepared(line, version) for version in (1, 2)}
    version, strokes = 1, 0
    active = lanes[1]
    active.activate(None)
    for event in events:
        clock.step(0.001)
        if event == "stroke":
            strokes += 1
            line.stroke(strokes)
        elif event == "step":
            active.step()
        elif event == "swap":
            handover = active.retire()
            version = 3 - version
            active = lanes[version]
            active.activate(handover.cursor)
        elif event == "kill":
            cursor = int(str(line.counters()["cursor"]))
            active = prepared(line, version)
            active.activate(cursor)
            lanes[version] = active
        elif event == "repeat" and strokes:
            line.captures.publish()
        elif event == "link":
            line.link(Link.CONNECTING)
        elif event in ("stall", "go"):  # answers that are not there yet when the lane is retired or killed
            active.engine.stalled = event == "stall"
    active.engine.stalled = False
    active.step()
    judged = line.judged()
    assert [result["stroke"] for result in judged] == list(range(1, strokes + 1))
    ids = [int(str(result["result_id"])) for result in judged]
    assert ids == list(range(ids[0], ids[0] + strokes)) if ids else not strokes
    assert line.counters()["processed"] == strokes
    assert line.counters()["missed"] == 0
    line.close()


def test_results_say_which_model_judged_them() -> None:
    line = Line()
    first, second = prepared(line, 1), prepared(line, 2)
    first.activate(None)
    line.stroke(1, wear=0.6)
    first.step()
    line.stroke(2, wear=0.6)
    second.activate(first.retire().cursor)
    line.stroke(3, wear=0.6)
    first.step()  # a retired lane touches nothing
    second.step()
    judged = line.judged()
    assert [(r["stroke"], r["model_version"]) for r in judged] == [(1, 1), (2, 2), (3, 2)]
    assert [r["model_sha256"] for r in judged] == [FILES[v].manifest.sha256 for v in (1, 2, 2)]
    assert {r["verdict"] for r in judged} == {Verdict.NOT_OK}
    line.close()


def test_a_lane_killed_between_result_and_cursor_judges_nothing_twice() -> None:
    line = Line()
    lane = prepared(line, 1)
    lane.activate(None)
    line.stroke(1)
    lane.step()
    line.stroke(2)
    cursor = int(str(line.counters()["cursor"]))
    lane.step()
    successor = prepared(line, 1)
    successor.activate(cursor)  # the cursor is older than the last result
    successor.step()
    assert [r["stroke"] for r in line.judged()] == [1, 2]
    line.close()


def test_a_lane_started_during_an_outage_tells_the_loss_only_once() -> None:
    line = Line()
    lane = prepared(line, 1)
    lane.activate(None)
    line.stroke(1)
    line.link(Link.LOST)
    lane.step()
    assert len(line.judged()) == 2
    successor = prepared(line, 2)
    successor.activate(lane.retire().cursor)
    successor.step()
    assert line.judged() == []
    line.close()


def test_a_first_lane_begins_with_the_next_capture() -> None:
    line = Line()
    line.stroke(1)
    lane = prepared(line, 1)
    lane.activate(None)
    line.stroke(2)
    lane.step()
    assert [r["stroke"] for r in line.judged()] == [2]
    line.close()


@pytest.fixture
def live() -> Iterator[Line]:
    line = Line(SystemClock(), capture_depth=64)
    yield line
    line.close()


async def test_no_stroke_is_lost_when_models_change_under_continuous_captures(live: Line) -> None:
    # Lanes with buses of their own, as in two processes; loading happens in a thread beside the running lane.
    worker = Worker("model")
    strokes = 40

    def attached(version: int) -> tuple[OneLane, Bus]:
        bus = Bus.attach(live.bus.fd, clock=live.clock)
        lane = live.lane(FILES[version], bus=bus)
        lane.prepare()
        return lane, bus

    async def press() -> None:
        for number in range(1, strokes + 1):
            live.stroke(number)
            await asyncio.sleep(0.01)

    async with asyncio.timeout(15), asyncio.TaskGroup() as group:
        lane, _ = await worker.call(attached, 1, timeout_s=10.0)
        lane.activate(None)
        group.create_task(lane.run())
        pressing = group.create_task(press())
        for version in (2, 1, 2):
            successor, _ = await worker.call(attached, version, timeout_s=10.0)
            await asyncio.sleep(0.02)
            successor.activate(lane.retire().cursor)
            group.create_task(successor.run())
            lane = successor
        await pressing
        while live.captures.sequence > int(str(live.counters()["cursor"])):
            await asyncio.sleep(0.01)
        lane.retire()
    worker.close()
    judged = live.judged()
    assert [r["stroke"] for r in judged] == list(range(1, strokes + 1))
    versions = [int(str(r["model_version"])) for r in judged]
    assert versions[0] == 1
    assert versions[-1] == 2
    assert live.counters()["missed"] == 0
