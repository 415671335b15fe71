"""Mode triggered, against the function block that is exported for it: one result for each trigger."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edge_opcua.config.eai import ErrorCode, ResultCode, Stat, StatusWord
from edge_opcua.core.values import Verdict
from tests.writeback.line import Line, configuration


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line(configuration(mode="triggered", interface={"commands": ["load_model"]}))
    assert made.plc.main is not None
    await made.until("ACTIVE")
    await made.run(0.3)
    assert made.plc.get("InUse")
    yield made
    made.close()


async def trigger(line: Line) -> int:
    """Press the trigger and let go of it; return the number of the request."""
    line.plc.set(Trigger=True)
    await line.run(0.06)
    line.plc.set(Trigger=False)
    return int(line.words[6] * 256 + line.words[7])


async def test_no_result_is_needed_before_the_first_trigger(line: Line) -> None:
    assert line.stat()[StatusWord.STAT] & Stat.TRIGGER_READY
    assert not line.plc.get("Busy")


async def test_each_trigger_gets_its_own_result(line: Line) -> None:
    for verdict in (Verdict.OK, Verdict.NOT_OK, Verdict.OK):
        number = await trigger(line)
        await line.run(0.1)
        assert line.stat()[StatusWord.STAT] & Stat.BUSY, "with the next heartbeat"
        line.judge(stroke=number + 5)  # about something else
        await line.run(0.06)
        assert line.plc.get("Busy")
        line.judge(verdict, stroke=number)
        done = 0
        for _ in range(10):
            await line.step()
            done += line.plc.get("Done")
        assert done == 1
        assert line.plc.get("Verdict") == verdict
        assert not line.plc.get("Error")
        assert line.stat()[StatusWord.STAT] & Stat.TRIGGER_READY


async def test_a_result_that_is_there_before_we_see_the_trigger_counts(line: Line) -> None:
    line.reads = False  # the capture is read more often than the control words
    line.plc.set(Trigger=True)
    await line.step()
    line.judge(Verdict.NOT_OK, stroke=1)
    await line.step()
    line.reads = True
    await line.run(0.1)
    assert line.plc.get("Verdict") == Verdict.NOT_OK


async def test_a_result_that_comes_first_lets_us_look_at_once(line: Line) -> None:
    line.plc.set(Trigger=True)
    line.plc.scan(line.clock.monotonic_ns())
    line.judge(Verdict.NOT_OK, stroke=1)
    line.plc.polled.clear()
    await line.decide()
    assert line.plc.polled == ["verdict.control"]
    await line.decide()
    assert line.stat()[StatusWord.STAT] & Stat.RESULTS_VALID, "no poll has passed"
    await line.run(0.2)
    assert line.plc.get("Verdict") == Verdict.NOT_OK
    assert line.plc.polled == ["verdict.control"], "once for each"


async def test_a_bad_result_is_told_with_its_reason_and_takes_no_authority(line: Line) -> None:
    number = await trigger(line)
    line.judge_late()
    await line.run(0.06)
    line.judge(Verdict.NOT_DECIDABLE, stroke=number, status=0x800A0000, late=True)
    await line.run(0.2)
    assert line.plc.get("ResultCode") == ResultCode.TIMEOUT
    assert line.plc.get("Verdict") == Verdict.NOT_DECIDABLE
    assert line.state == "ACTIVE"


async def test_a_trigger_without_a_result_is_answered_with_a_timeout_and_the_next_one_works(
    line: Line,
) -> None:
    await trigger(line)
    await line.run(1.5)
    assert line.plc.get("ResultCode") == ResultCode.TIMEOUT
    assert line.plc.get("Verdict") == Verdict.NOT_DECIDABLE
    number = await trigger(line)
    line.judge(stroke=number)
    await line.run(0.2)
    assert line.plc.get("ResultCode") == ResultCode.OK


async def test_after_an_edge_that_was_killed_in_mid_request_the_handshake_starts_over(line: Line) -> None:
    await trigger(line)
    line.restart()
    await line.run(3.0)
    assert line.state == "ACK_REQUIRED"
    await line.output.acts.acknowledge("anna")
    await line.run(1.5)
    assert line.state == "ACTIVE"
    number = await trigger(line)
    line.judge(Verdict.NOT_OK, stroke=number)
    await line.run(0.2)
    assert line.plc.get("Verdict") == Verdict.NOT_OK


async def test_after_a_plc_that_started_anew_in_mid_request_the_handshake_starts_over(line: Line) -> None:
    first = await trigger(line)
    library = line.plc.main
    line.plc.main = Line(line.config).plc.main
    assert line.plc.main is not library
    line.plc.set(Enable=True, Grant=True)
    await line.run(0.5)
    line.judge(Verdict.OK, stroke=first)  # of the time before
    await line.run(0.2)
    assert not line.stat()[StatusWord.STAT] & (Stat.RESULTS_VALID | Stat.BUSY)
    number = await trigger(line)
    assert line.plc.get("Busy")
    line.judge(Verdict.NOT_OK, stroke=number)
    await line.run(0.2)
    assert line.plc.get("Verdict") == Verdict.NOT_OK


async def test_what_failed_in_mid_request_is_not_answered_afterwards(line: Line) -> None:
    number = await trigger(line)
    line.lane_lives = False
    await line.run(1.0)
    assert line.state == "FAILSAFE"
    line.lane_lives = True
    line.judge(Verdict.NOT_OK, stroke=number)
    await line.until("ACK_REQUIRED")
    assert not line.stat()[StatusWord.STAT] & Stat.RESULTS_VALID
    assert not line.stat()[StatusWord.STAT] & Stat.TRIGGER_READY


async def test_a_plc_that_is_not_read_any_more_gets_no_result(line: Line) -> None:
    number = await trigger(line)
    line.reads = False
    await line.run(0.6)
    assert line.authority()["fault"] == "CONTROL"
    line.judge(Verdict.NOT_OK, stroke=number)
    await line.run(0.1)
    assert not line.stat()[StatusWord.STAT] & (Stat.RESULTS_VALID | Stat.BUSY)


async def test_a_command_of_the_plc_is_carried_out_once_and_its_end_told(line: Line) -> None:
    async def obey(*, works: bool) -> int:
        line.command_works = works
        line.plc.set(ExecuteCmd=True)
        assert line.plc.main is not None
        line.plc.main.set("Command", 1)
        line.plc.main.set("CommandArg", 4)
        await line.run(0.1)
        assert line.stat()[StatusWord.STAT] & Stat.CMD_EXECUTING
        await line.output.obey()
        await line.run(0.1)
        return line.stat()[StatusWord.STAT]

    assert await obey(works=True) & Stat.CMD_COMPLETED
    assert line.commands == [("load_model", 4)]
    assert line.stat()[StatusWord.COMMAND_ECHO] == 1
    line.plc.set(ExecuteCmd=False)
    await line.run(0.1)
    assert not line.stat()[StatusWord.STAT] & Stat.CMD_COMPLETED
    assert await obey(works=False) & Stat.CMD_FAILED
    assert line.stat()[StatusWord.ERROR_CODE] == ErrorCode.COMMAND_FAILED
    assert line.records[-1].what == "command verdict"


async def test_a_command_that_is_not_allowed_fails_at_once(line: Line) -> None:
    line.plc.set(ExecuteCmd=True)
    assert line.plc.main is not None
    line.plc.main.set("Command", 9)
    await line.run(0.1)
    words = line.stat()
    assert words[StatusWord.STAT] & Stat.CMD_FAILED
    assert words[StatusWord.ERROR_CODE] == ErrorCode.COMMAND_UNKNOWN
    assert line.commands == []
