"""The executor obeys: what it gathers from the bus, what it writes, what it says about it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
import structlog

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_NO_COMMUNICATION,
    BAD_OUT_OF_RANGE,
    BAD_SENSOR_FAILURE,
    GOOD,
    UNCERTAIN_SUBNORMAL,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Link,
    Scalar,
    TagSpec,
    Verdict,
)
from edge_opcua.sim.press import Mailbox as PlcMailbox
from edge_opcua.testing import ManualClock
from edge_opcua.writeback.executor import Executor, authority_block, build_executor, read_result
from edge_opcua.writeback.mailbox import Code

HANDSHAKE = ("edge_trusted", "ack_required", "plc_heartbeat", "echo_edge_heartbeat")
CONFIG = EdgeConfig.model_validate(
    {
        "version": 1,
        "site": {"name": "plant", "machine": "Press01"},
        "devices": [
            {
                "name": "press",
                "driver": "s7",
                "url": "s7://localhost",
                "tags": [
                    *(
                        {"name": name, "address": "-", "type": 5 if "heart" in name else 1, "group": "fast"}
                        for name in HANDSHAKE
                    ),
                    {"name": "grant", "address": "-", "type": 1, "group": "slow"},
                ],
                "groups": [{"name": "fast", "period_ms": 100}, {"name": "slow", "period_ms": 500}],
            },
            {
                "name": "vib",
                "driver": "modbus",
                "url": "modbus://localhost",
                "captures": [
                    {
                        "name": "stroke",
                        "sequence": "-",
                        "samples": "-",
                        "sample_rate_hz": 10_000,
                        "poll_ms": 20,
                    }
                ],
            },
        ],
        "pipelines": [{"name": "wear", "model": "wear", "capture": "vib/stroke"}],
        "outputs": [
            {
                "name": "verdict",
                "device": "press",
                "db": "DB20",
                "pipeline": "wear",
                "plc_trusts": "press/edge_trusted",
                "ack_required": "press/ack_required",
                "plc_heartbeat": "press/plc_heartbeat",
                "echo_heartbeat": "press/echo_edge_heartbeat",
                "grant": "press/grant",
            }
        ],
    }
)
RESULT = BlockSpec(
    "wear.result",
    (
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("score", Scalar.DOUBLE),
        TagSpec("verdict", Scalar.INT32),
        TagSpec("fail_safe_active", Scalar.BOOLEAN),
        TagSpec("reason", Scalar.STRING, 120),
        TagSpec("result_id", Scalar.UINT64),
    ),
    8,
)


class Plc:
    """The device as the executor sees it: remembers what it was sent."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.link_up = True
        self.outcome = WriteOutcome()
        self.memory: list[PlcMailbox] = []
        self.places: set[tuple[str, int]] = set()
        self.refreshed_ns = clock.monotonic_ns()

    async def write_bytes(
        self, area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0
    ) -> WriteOutcome:
        assert 0 < timeout_s <= 1.0
        if self.outcome.status == GOOD:
            self.places.add((area, offset))
            self.memory.append(PlcMailbox.unpack(payload))
        return self.outcome


class Line:
    """The whole chain around an executor, moved by hand."""

    def __init__(self, *, wakes: int = 1) -> None:
        self.clock = ManualClock()
        fast = tuple(tag.spec for tag in CONFIG.devices[0].tags_of("fast"))
        slow = tuple(tag.spec for tag in CONFIG.devices[0].tags_of("slow"))
        capture = (TagSpec("sequence", Scalar.UINT32),)
        output = CONFIG.outputs[0]
        specs = [
            BlockSpec("press.fast", fast, 8),
            BlockSpec("press.slow", slow, 8),
            BlockSpec("vib.stroke", capture, 8),
            replace(RESULT, wakes=wakes),
            authority_block(output),
        ]
        self.bus = Bus.create(specs, clock=self.clock)
        self.plc = Plc(self.clock)
        self.changes: list[tuple[str, str, str]] = []
        self.executor: Executor = build_executor(
            CONFIG, output, self.plc, self.bus, self.clock, audit=lambda *change: self.changes.append(change)
        )
        self.fast = self.bus.writer("press.fast")
        self.slow = self.bus.writer("press.slow")
        self.stroke = self.bus.writer("vib.stroke")
        self.result = self.bus.writer("wear.result")
        self.shown = self.bus.reader("verdict.authority")
        self.number = 0
        self.lane_lives = True
        self.handshake: dict[str, object] = {"edge_trusted": False, "ack_required": False, "grant": True}
        self.status = GOOD
        self.publish_capture()

    def publish_capture(self, link: Link = Link.UP) -> None:
        self.stroke.batch.status[:] = GOOD
        self.stroke.publish(link=link)

    def judge(
        self,
        verdict: int = Verdict.OK,
        *,
        status: int = GOOD,
        late: bool = False,
        score: float = 0.5,
        reason: str = "",
        link: Link = Link.UP,
        score_status: int | None = None,
    ) -> None:
        self.number += 1
        batch = self.result.batch
        for name, value in (
            ("stroke", 100 + self.number),
            ("score", score),
            ("verdict", int(verdict)),
            ("fail_safe_active", late),
            ("reason", reason),
            ("result_id", self.number),
        ):
            batch.set(batch.row(name), value)
        batch.status[:] = status
        if score_status is not None:
            batch.status[batch.row("score")] = score_status
        self.result.publish(link=link)

    def poll_plc(self, *, slow: bool = True) -> None:
        for writer in (self.fast, self.slow) if slow else (self.fast,):
            batch = writer.batch
            for row, tag in enumerate(batch.layout.spec.tags):
                if tag.name == "plc_heartbeat":
                    batch.set(row, self.clock.monotonic_ns() // 100_000_000 % 65_536)
                elif tag.name == "echo_edge_heartbeat":
                    batch.set(row, self.plc.memory[-1].heartbeat if self.plc.memory else 0)
                else:
                    batch.set(row, self.handshake[tag.name])
            batch.status[:] = self.status
            writer.publish()
        self.plc.refreshed_ns = self.clock.monotonic_ns()

    async def run(self, duration_s: float) -> None:
        for _ in range(round(duration_s / 0.025)):
            self.clock.step(0.025)
            if self.lane_lives:
                self.result.beat()
            self.poll_plc()
            await self.executor.step()

    def authority(self) -> dict[str, object]:
        batch = self.shown.latest()
        assert batch is not None
        return {tag.name: batch.value(row) for row, tag in enumerate(batch.layout.spec.tags)}


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.bus.close()


@pytest.fixture
async def active(line: Line) -> Line:
    line.judge()
    await line.run(0.5)
    assert line.executor.state.name == "ACTIVE"
    return line


async def test_it_writes_the_mailbox_and_nothing_else(active: Line) -> None:
    active.judge(Verdict.NOT_OK, score=1.5)
    await active.run(1.0)

    assert active.plc.places == {("DB20", 0)}
    last = active.plc.memory[-1]
    assert (last.verdict, last.sequence, last.tail, last.score) == (Verdict.NOT_OK, 102, 102, 1.5)
    assert last.authority
    beats = [mailbox.heartbeat for mailbox in active.plc.memory]
    assert beats == sorted(beats)


async def test_it_says_who_rules(active: Line) -> None:
    active.handshake["edge_trusted"] = True
    await active.run(0.5)

    shown = active.authority()
    assert (shown["state"], shown["plc_trusts"], shown["ack_required"]) == ("ACTIVE", True, False)
    # At most four times a second, so it may be a heartbeat or two behind.
    assert len(active.plc.memory) - 3 <= int(str(shown["writes"])) <= len(active.plc.memory)
    assert active.changes == [("INHIBITED", "ACTIVE", "authority is granted")]


@pytest.mark.parametrize(
    "fail",
    [
        lambda line: line.judge(status=BAD_SENSOR_FAILURE),
        lambda line: line.judge(status=UNCERTAIN_SUBSTITUTE, late=True),
        lambda line: line.judge(late=True),
        lambda line: line.judge(verdict=0),
        lambda line: line.judge(link=Link.LOST),
        lambda line: line.publish_capture(Link.LOST),
        lambda line: setattr(line, "lane_lives", False),
        lambda line: setattr(line.plc, "link_up", False),
        lambda line: setattr(line, "status", BAD_SENSOR_FAILURE),
    ],
)
async def test_any_fault_of_the_chain_ends_authority(active: Line, fail: object) -> None:
    assert callable(fail)
    with structlog.testing.capture_logs() as logs:
        fail(active)
        await active.run(1.0)

    assert active.executor.state.name == "FAILSAFE"
    assert [entry["event"] for entry in logs] == ["authority.changed"]
    if active.plc.link_up:
        assert not active.plc.memory[-1].authority
        assert active.plc.memory[-1].verdict == Verdict.NOT_DECIDABLE


async def test_handshake_tags_that_are_no_longer_read_say_nothing(active: Line) -> None:
    for _ in range(80):
        active.clock.step(0.025)
        active.result.beat()
        active.poll_plc(slow=False)
        await active.executor.step()

    assert active.executor.state.name == "FAILSAFE"
    assert active.authority()["reason"] == "the PLC's handshake tags are not Good"


async def test_before_there_is_a_link_nothing_is_written(line: Line) -> None:
    line.plc.link_up = False
    await line.executor.step()
    assert line.plc.memory == []


async def test_nobody_has_to_listen_to_changes(line: Line) -> None:
    output = CONFIG.outputs[0]
    deaf = build_executor(CONFIG, output, line.plc, line.bus, line.clock)
    line.judge()
    for _ in range(20):
        line.clock.step(0.025)
        line.result.beat()
        line.poll_plc()
        await deaf.step()
    assert deaf.state.name == "ACTIVE"


async def test_it_works_without_being_woken() -> None:
    quiet = Line(wakes=0)
    quiet.judge()
    quiet.poll_plc()
    async with running(quiet.executor):
        await asyncio.sleep(0.06)
    assert quiet.plc.memory
    quiet.bus.close()


async def test_a_person_acknowledges_only_when_asked(active: Line) -> None:
    assert not active.executor.acknowledge("anna")
    active.judge(status=BAD_SENSOR_FAILURE)
    await active.run(1.0)
    assert not active.executor.acknowledge("anna")
    active.judge()
    await active.run(3.0)
    assert active.executor.state.name == "ACK_REQUIRED"
    assert active.authority()["ack_required"] is True

    with structlog.testing.capture_logs() as logs:
        assert active.executor.acknowledge("anna")
        await active.run(0.1)

    assert active.executor.state.name == "ACTIVE"
    assert logs[0]["user"] == "anna"


async def test_results_that_are_not_passed_on_are_counted(active: Line) -> None:
    refused = active.authority()["refused"]
    active.handshake["grant"] = False
    await active.run(0.5)
    active.judge()
    await active.run(0.5)
    active.judge()
    await active.run(0.5)

    assert active.authority()["refused"] == int(str(refused)) + 2


async def test_writes_that_fail_again_and_again_are_a_fault_and_one_line_in_the_log(active: Line) -> None:
    active.plc.outcome = WriteOutcome(BAD_NO_COMMUNICATION, "gone")
    with structlog.testing.capture_logs() as logs:
        await active.run(1.0)

    assert active.executor.state.name == "FAILSAFE"
    assert [entry["event"] for entry in logs] == ["authority.write_failed", "authority.changed"]


async def test_the_last_word_is_safe_and_nothing_follows_it(active: Line) -> None:
    assert await active.executor.release(0.4)
    count = len(active.plc.memory)
    assert not active.plc.memory[-1].authority
    await active.run(0.5)
    assert len(active.plc.memory) == count


async def test_a_last_word_that_does_not_arrive_is_said(active: Line) -> None:
    active.plc.outcome = WriteOutcome(BAD_NO_COMMUNICATION, "gone")
    with structlog.testing.capture_logs() as logs:
        assert not await active.executor.release(0.4)
    assert (logs[0]["event"], logs[0]["log_level"]) == ("authority.released", "warning")


@asynccontextmanager
async def running(executor: Executor) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(executor.run())
        try:
            yield
        finally:
            task.cancel()


async def test_a_new_result_wakes_it_at_once(active: Line) -> None:
    async with running(active.executor):
        await asyncio.sleep(0.01)
        active.judge(Verdict.NOT_OK)
        for _ in range(100):
            await asyncio.sleep(0.001)
            if active.plc.memory[-1].verdict == Verdict.NOT_OK:
                break
    assert active.plc.memory[-1].verdict == Verdict.NOT_OK
    with suppress(ValueError):  # the eventfd is no longer watched
        assert not asyncio.get_running_loop().remove_reader(active.bus.wake_fds("wear.result")[0])


def test_what_a_result_means(line: Line) -> None:
    reader = line.bus.reader("wear.result")
    safe = Verdict.NOT_DECIDABLE
    assert read_result(reader.latest(), safe) is None
    line.judge(Verdict.NOT_DECIDABLE)
    result = read_result(reader.latest(), safe)
    assert result is not None
    assert (result.verdict, result.code, result.usable) == (safe, Code.LOW_CONFIDENCE, True)
    line.judge(Verdict.NOT_DECIDABLE, score_status=BAD_OUT_OF_RANGE)  # "not learned"
    result = read_result(reader.latest(), safe)
    assert result is not None
    assert (result.verdict, result.code, result.usable) == (safe, Code.OUT_OF_TRAINING_RANGE, True)
    line.judge(Verdict.OK, status=UNCERTAIN_SUBNORMAL)
    result = read_result(reader.latest(), safe)
    assert result is not None
    assert (result.verdict, result.code, result.usable) == (safe, Code.INPUT_BAD, True)
    line.judge(Verdict.OK, late=True, reason="late", score=math.nan)
    result = read_result(reader.latest(), safe)
    assert result is not None
    assert (result.usable, result.reason) == (False, "late")


def test_an_output_without_handshake_tags_goes_by_the_link_alone() -> None:
    bare = CONFIG.outputs[0].model_copy(
        update=dict.fromkeys(("plc_trusts", "ack_required", "plc_heartbeat", "echo_heartbeat", "grant"))
    )
    line = Line()
    executor = build_executor(CONFIG, bare, line.plc, line.bus, line.clock)
    assert executor.state.name == "INHIBITED"
    assert executor._handshake.read(7, 9) is not None
    line.bus.close()
