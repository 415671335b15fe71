"""What a lane process does with orders, with heat, and with rights it does not have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from edge_opcua.app.processes import exit_text
from edge_opcua.app.serving.duty import Duty, DutyParts, Rank
from edge_opcua.app.serving.shadowing import Shadowed, Shadowing
from edge_opcua.app.serving.surroundings import LaneParts, LaneWatch
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.control import Request
from edge_opcua.core.process import EXIT_HUNG, Child
from edge_opcua.core.realtime import Granted
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_NOT_SUPPORTED,
    BAD_RESOURCE_UNAVAILABLE,
    GOOD,
)
from edge_opcua.inference.memory import MB, Limit, Room, lift
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.thermal import Heat
from edge_opcua.testing import ManualClock
from tests.inference.line import Line, OneLane, delivered, plain, spec

COOL, ROOMY = Heat(40.0), Room(60 * MB, 900 * MB, 500 * MB, short=False)


class Control:
    """The supervisor's ear."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        assert to == "supervisor"
        self.heard.append((kind, dict(body)))

    def take(self, code: str) -> list[tuple[str, Any]]:
        """What was heard with this code since the last call."""
        heard, self.heard = self.heard, []
        return [each for each in heard if each[1]["code"] == code]


class Process:
    """A lane process with one pipeline, as far as its watch sees it."""

    def __init__(self, config: EdgeConfig, lane_class: LaneClass, granted: Granted) -> None:
        self.clock = ManualClock()
        self.line = Line(self.clock, capture_depth=64)
        self.lane: OneLane = self.line.lane(delivered(), lane_spec=replace(spec(), lane=lane_class))
        self.lane.prepare()
        self.control = Control()
        self.cost_ns = 1_000_000
        self._strokes = 0
        parts = LaneParts(
            self.lane.group, self.lane.engine, self.lane.costs, Limit(keep_free_bytes=0), granted, 0
        )
        child = cast("Child", _Child(self.control, self.clock))
        self.watch = LaneWatch(child, config, "press-anomaly", parts)

    def look(self, heat: Heat = COOL, room: Room | None = ROOMY) -> None:
        self._strokes += 1
        self.line.stroke(self._strokes)
        self.lane.step()
        self.clock.step(2.0)
        self.line.captures.beat()
        self.line.tags()
        measured_ns = round(self.cost_ns * self.lane.costs.scale)  # as hot as it was until now
        self.lane.costs.seed("press-anomaly/1", 1, [measured_ns] * 10)
        self.watch._apply(heat, room)
        self.lane.step()


class _Child:
    def __init__(self, control: Control, clock: ManualClock, bus: Bus | None = None) -> None:
        self.control = control
        self.clock = clock
        self.bus = bus


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    found = load(examples_dir() / "press" / "press.toml").config
    assert found is not None
    return found


GRANTED = Granted("SCHED_OTHER", locked=False, cores=(0, 1), notes=())


@pytest.fixture
def process(config: EdgeConfig) -> Iterator[Process]:
    made = Process(config, LaneClass.BEST_EFFORT, GRANTED)
    yield made
    made.line.close()
    lift()


def test_what_the_process_got_and_how_it_is_there_stands_in_the_health_of_its_lanes(process: Process) -> None:
    process.lane.activate(None)
    assert process.line.counters()["scheduler"] == "SCHED_OTHER"
    assert process.line.counters()["celsius"] is None  # nobody has looked yet
    process.look(replace(COOL, throttled=True))
    counters = process.line.counters()
    assert (counters["celsius"], counters["throttled"], counters["rss_mb"]) == (40.0, True, 60.0)
    assert counters["memory_locked"] is False
    assert counters["schedulable"] is True


def test_best_effort_is_shed_while_it_is_warm_or_memory_is_short(process: Process) -> None:
    process.lane.activate(None)
    for reason in ({"heat": replace(COOL, warm=True)}, {"room": replace(ROOMY, short=True)}):
        process.look(**reason)
        process.line.judged()
        process.look(**reason)
        assert process.line.verdict()["score.status"] == BAD_RESOURCE_UNAVAILABLE
        process.look()
        process.line.judged()
        process.look()
        assert process.line.verdict()["score.status"] == GOOD


def test_heat_makes_everything_cost_more_and_the_alarm_comes_before_the_first_miss(
    config: EdgeConfig,
) -> None:
    process = Process(config, LaneClass.REALTIME, GRANTED)
    process.lane.activate(None)
    process.cost_ns = 60_000_000  # of 100 ms
    for _ in range(3):
        process.look()
    assert process.control.take("M590") == []
    hot = replace(COOL, throttled=True, factor=2.0)
    for _ in range(3):
        process.look(hot)
    ((kind, body),) = process.control.take("M590")
    assert (kind, body["source"], body["code"]) == ("fault", "press-anomaly", "M590")
    assert process.line.counters()["schedulable"] is False
    for _ in range(6):
        process.look()
    assert ("fault_over", {"source": "press-anomaly", "code": "M590"}) in process.control.take("M590")
    assert process.line.counters()["schedulable"] is True
    process.line.close()
    lift()


@pytest.mark.parametrize(
    ("lane_class", "notes", "kind"),
    [
        (LaneClass.SAFETY, ("no real-time scheduling: …",), "fault"),
        (LaneClass.SAFETY, (), "fault_over"),
        (LaneClass.REALTIME, ("processors 7 are not there",), "fault_over"),
    ],
)
async def test_rights_that_a_safety_lane_lacks_are_told_to_people(
    processes: dict[LaneClass, Process], lane_class: LaneClass, notes: tuple[str, ...], kind: str
) -> None:
    process = processes[lane_class]
    process.watch._granted = replace(GRANTED, notes=notes)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(process.watch.run())
        while not process.control.heard:
            await asyncio.sleep(0.01)
        running.cancel()
    told, body = process.control.heard[0]
    assert (told, body["source"], body["code"]) == (kind, "lane/press-anomaly", "M593")
    assert body.get("text", "") == ("; ".join(notes) if kind == "fault" else "")


@pytest.fixture
def processes(config: EdgeConfig) -> Iterator[dict[LaneClass, Process]]:
    made = {each: Process(config, each, GRANTED) for each in (LaneClass.SAFETY, LaneClass.REALTIME)}
    yield made
    for process in made.values():
        process.line.close()
    lift()


class NoRank(Rank):
    """The process of a test becomes nothing else; what it would become is written down."""

    def __init__(self) -> None:
        super().__init__(LaneClass.REALTIME, (), ManualClock())
        self.became: list[str] = []

    def promote(self) -> None:
        self.became.append("promoted")

    def relieve(self) -> None:
        self.became.append("relieved")


def duty_of(process: Process) -> Duty:
    """The orders of a process."""
    lane, child = process.lane, cast("Child", _Child(process.control, process.clock, process.line.bus))
    made = [Shadowed(lane.wanted.spec, lane.lane.model.manifest, lane.unseen)]
    shadowing = Shadowing(child, lane.engine, made)
    return Duty(DutyParts(lane.group, lane.engine, process.line.bus, made, shadowing, NoRank()))


async def test_orders_are_obeyed_or_refused_with_a_reason(process: Process) -> None:
    duty = duty_of(process)

    async def order(kind: str, **body: Any) -> tuple[int, dict[str, Any]]:
        reply = await duty.handle(Request("lane", kind, body))
        return reply.status, reply.body

    assert await order("sing") == (BAD_NOT_SUPPORTED, {})
    assert await order("retire") == (BAD_INVALID_STATE, {})
    assert await order("activate") == (BAD_INVALID_STATE, {})
    assert await order("activate", cursors={"press-anomaly": "later"}) == (BAD_INVALID_ARGUMENT, {})
    assert await order("activate", cursors={"press-anomaly": None}) == (GOOD, {})
    assert await order("retire", pipelines=["nobody"]) == (BAD_INVALID_STATE, {})
    status, body = await order("retire", pipelines=["press-anomaly"])
    assert (status, body) == (GOOD, {"pipelines": {"press-anomaly": {"cursor": 0, "sequence": 0}}})


def test_an_end_because_a_model_hung_is_said_in_words() -> None:
    assert exit_text(EXIT_HUNG) == "ended itself because a model hung"


async def test_a_process_becomes_urgent_only_when_it_is_about_to_take_over(process: Process) -> None:
    process.line.stroke(1)
    duty = duty_of(process)
    rank = cast("NoRank", duty._parts.rank)
    assert (await duty.handle(Request("lane", "shadow", {"wanted": {"press-anomaly": 5}}))).status == GOOD
    assert rank.became == []
    assert (await duty.handle(Request("lane", "promote", {}))).status == GOOD
    assert rank.became == ["promoted"]
    cursors = {"cursors": {"press-anomaly": None}}
    assert (await duty.handle(Request("lane", "activate", cursors))).status == GOOD
    assert (await duty.handle(Request("lane", "shadow", {}))).status == BAD_INVALID_STATE
    body = {"pipelines": ["press-anomaly"]}
    assert (await duty.handle(Request("lane", "retire", body))).status == GOOD
    assert rank.became[-1] == "relieved"


@pytest.fixture
def beside(process: Process) -> OneLane:
    """The lane that judges while the process does not yet."""
    other = process.line.lane(delivered(2))
    other.prepare()
    other.activate(None)
    return other


async def test_a_shadow_shows_and_tells_how_far_it_is_and_is_over_when_the_process_takes_over(
    process: Process, beside: OneLane
) -> None:
    duty = duty_of(process)
    assert (await duty.handle(Request("lane", "shadow", {"wanted": {"press-anomaly": 3}}))).status == GOOD
    assert (
        await duty.handle(Request("lane", "shadow", {"wanted": {"nobody": 3}}))
    ).status == BAD_INVALID_STATE
    shadowing, shown = duty._parts.shadowing, process.line.bus.reader("press-anomaly.shadow")
    shadowing.begin({"press-anomaly": 3})
    for number in range(1, 4):
        process.line.stroke(number)
        beside.step()
        shadowing._step()
        process.clock.step(0.2)
    told = [body["pipelines"]["press-anomaly"] for kind, body in process.control.heard if kind == "shadow"]
    assert told[-1]["compared"] == 3, "at once, however short ago the last one was told"
    batch = shown.latest()
    assert batch is not None
    row = plain(batch)
    assert (row["state"], row["model_version"], row["wanted"], row["compared"]) == ("Compared", 1, 3, 3)
    assert row["agreement"] == 1.0
    assert 0.3 < float(str(row["agreement_low"])) < 0.5  # three of three say little
    await duty.handle(Request("lane", "promote", {}))
    batch = shown.latest()
    assert batch is not None
    assert plain(batch)["state"] == "Promoted"


async def test_a_lane_judges_again_after_it_was_relieved(process: Process) -> None:
    duty, group = duty_of(process), process.lane.group

    async def order(kind: str, **body: Any) -> dict[str, Any]:
        reply = await duty.handle(Request("lane", kind, body))
        assert reply.status == GOOD, reply.reason
        return reply.body

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(duty.run())
        cursor = None
        for number in range(1, 5):
            await order("activate", cursors={"press-anomaly": cursor})
            process.line.stroke(number)
            async with asyncio.timeout(5):
                while not process.line.health.behind or process.line.counters()["processed"] != number:
                    await asyncio.sleep(0.005)
            if number % 2:  # also at once, before its loop has noticed that it was relieved
                await asyncio.sleep(0.02)
            cursor = (await order("retire"))["pipelines"]["press-anomaly"]["cursor"]
        running.cancel()
    assert [row["stroke"] for row in process.line.judged()] == [1, 2, 3, 4]
    assert not group.is_active


async def test_a_lane_is_relieved_in_the_moment_after_a_verdict(process: Process) -> None:
    duty = duty_of(process)
    await duty.handle(Request("lane", "activate", {"cursors": {"press-anomaly": None}}))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(duty.run())
        body = {"pipelines": ["press-anomaly"], "quiet_s": 5.0}
        retiring = tasks.create_task(duty.handle(Request("lane", "retire", body)))
        await asyncio.sleep(0.05)
        assert not retiring.done()
        sequence = process.line.stroke(1)
        async with asyncio.timeout(5):
            reply = await retiring
        assert reply.body["pipelines"]["press-anomaly"]["cursor"] == sequence
        assert process.line.verdict()["stroke"] == 1
        running.cancel()


async def test_a_lane_to_which_nothing_comes_is_relieved_when_it_has_waited_long_enough(
    process: Process,
) -> None:
    duty = duty_of(process)
    await duty.handle(Request("lane", "activate", {"cursors": {"press-anomaly": None}}))
    body = {"pipelines": ["press-anomaly"], "quiet_s": 1.0}
    async with asyncio.TaskGroup() as tasks:
        retiring = tasks.create_task(duty.handle(Request("lane", "retire", body)))
        await asyncio.sleep(0.01)
        await process.clock.advance(1.1)
        assert (await retiring).status == GOOD
