"""An output as a task: woken by results and by the PLC's words, never held up by a write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from edge_opcua.config.eai import Stat, StatusWord
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import Verdict
from tests.writeback.line import Line, configuration


@asynccontextmanager
async def running(line: Line) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(line.output.run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)  # the selector has to see the eventfd


async def scans(line: Line, count: int) -> None:
    """Let the PLC scan and be read; our own clock moves with it."""
    for _ in range(count):
        line.writers["wear.result"].beat()
        line.source.refreshed_ns = line.clock.monotonic_ns()
        line.plc.scan(line.clock.monotonic_ns())
        line.read_plc()
        await line.clock.advance(0.02)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    yield made
    made.close()


async def test_a_result_is_written_at_once_not_at_the_next_tick(line: Line) -> None:
    line.judge()
    async with running(line):
        await scans(line, 30)
        assert line.state == "ACTIVE"
        sent = len(line.plc.sent)
        line.judge(Verdict.NOT_OK)  # the clock stands still from here on
        await settle()
        assert len(line.plc.sent) == sent + 1
        assert line.stat()[13] == Verdict.NOT_OK
    assert line.plc.heard == {"verdict.control": []}


async def test_what_the_plc_says_is_heard_at_once(line: Line) -> None:
    line.judge()
    async with running(line):
        await scans(line, 30)
        line.plc.set(SetOffline=True)
        await line.clock.advance(0.02)
        line.plc.scan(line.clock.monotonic_ns())
        line.read_plc()
        await settle()
        assert not line.stat()[StatusWord.STAT] & Stat.AUTHORITY_ACTIVE


async def test_a_write_that_takes_its_time_delays_no_decision(line: Line) -> None:
    line.judge()
    async with running(line):
        await scans(line, 30)
        answer = asyncio.Event()
        begun: list[bytes] = []

        async def slow(area: str, offset: int, payload: bytes, *, timeout_s: float = 1.0) -> WriteOutcome:
            begun.append(payload)
            await answer.wait()
            return WriteOutcome()

        line.plc.write_bytes = slow  # type: ignore[method-assign]
        line.judge()
        await settle()
        assert len(begun) == 1
        line.judge_late()
        await settle()
        assert line.state == "FAILSAFE", "although the write before has not ended"
        assert len(begun) == 1
        answer.set()
        await settle()
        assert len(begun) == 2
        assert not begun[1][0] << 8 & Stat.AUTHORITY_ACTIVE


async def test_a_command_is_carried_out_beside_the_decisions() -> None:
    line = Line(configuration(interface={"commands": ["load_model"]}))
    line.judge()
    async with running(line):
        await scans(line, 30)
        assert line.plc.main is not None
        line.plc.main.set("Command", 1)
        line.plc.main.set("CommandArg", 2)
        line.plc.set(ExecuteCmd=True)
        await scans(line, 5)
        await settle()
        assert line.commands == [("load_model", 2)]
        await scans(line, 2)
        assert line.stat()[StatusWord.STAT] & Stat.CMD_COMPLETED
    await line.output.obey()
    assert line.commands == [("load_model", 2)], "only once"
    line.close()


async def test_each_output_of_a_pipeline_is_woken_by_its_results() -> None:
    alone = configuration()
    (verdict,) = alone.outputs
    other = verdict.model_copy(update={"name": "other"})
    line = Line(alone.model_copy(update={"outputs": (other, verdict)}))
    line.judge()
    async with running(line):
        await scans(line, 30)
        line.judge(Verdict.NOT_OK)
        await settle()  # no time passes: only who is woken can have seen it
        assert line.stat()[13] == Verdict.NOT_OK
    line.close()


async def test_writes_that_begin_to_fail_are_told_once(line: Line) -> None:
    line.judge()
    await line.until("ACTIVE")
    with structlog.testing.capture_logs() as logs:
        line.plc.fails = "lost"
        await line.run(0.3)
        line.plc.fails = ""
        await line.run(0.2)
    told = [entry for entry in logs if entry["event"] == "authority.write_failed"]
    assert [entry["reason"] for entry in told] == ["no answer"]


async def test_the_last_word_has_a_deadline(line: Line) -> None:
    line.judge()
    await line.until("ACTIVE")

    async def never(*arguments: Any, **named: Any) -> WriteOutcome:
        await asyncio.Event().wait()
        raise AssertionError

    line.plc.write_bytes = never  # type: ignore[method-assign]
    assert not await line.output.release(0.02)


async def test_the_last_word_waits_for_a_link_that_refuses_for_a_moment(line: Line) -> None:
    line.judge()
    await line.until("ACTIVE")
    line.plc.fails = "lost"

    async def mend() -> None:
        await asyncio.sleep(0.005)
        line.plc.fails = ""
        for _ in range(40):
            await line.clock.advance(0.01)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(line.output.release(1.0))
        tasks.create_task(mend())
    assert task.result()


async def test_an_eventfd_that_somebody_else_has_read_is_no_fault(line: Line) -> None:
    fd = line.bus.wake_fds("wear.result")[0]
    line.output._wake(fd)
    line.output._wake(fd)
    line.output.step()
    assert line.state == "INHIBITED"
