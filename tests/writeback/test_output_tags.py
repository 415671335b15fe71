"""An output on single tags: shaped values, one writer at a time, fail-safe values by strategy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_INVALID_STATE,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_WRITABLE,
    BAD_OUT_OF_RANGE,
    GOOD_CLAMPED,
    GOOD_LOCAL_OVERRIDE,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Verdict,
)
from tests.writeback.line import Line, configuration

SPEED: dict[str, Any] = {
    "tag": "press/speed",
    "source": "score",
    "preset": 5.0,
    "low": 0.0,
    "high": 40.0,
    "writers": ["operator", "program", "model"],
}
LIMIT: dict[str, Any] = {"tag": "press/limit", "source": "cycle", "kind": "command", "strategy": "hold_last"}
DIVERT: dict[str, Any] = {
    "tag": "press/divert",
    "source": "verdict",
    "kind": "bit",
    "strategy": "low",
    "low": 0,
    "high": 1,
}


def made(*values: dict[str, Any], **more: Any) -> Line:
    return Line(configuration(values=list(values or (SPEED, LIMIT, DIVERT)), **more))


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    each = made(heartbeat="press/beat")
    yield each
    each.close()


@pytest.fixture
async def active(line: Line) -> Line:
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.plc.writes.clear()
    return line


def written(line: Line, tag: str) -> list[Any]:
    return [value for name, value, _ in line.plc.writes if name == tag]


async def test_at_the_start_each_tag_gets_its_fail_safe_value_once(line: Line) -> None:
    await line.run(1.0)
    assert line.state == "INHIBITED"
    assert [(name, value) for name, value, _ in line.plc.writes] == [
        ("speed", 5.0),
        ("divert", False),
        ("beat", 0),
    ]


async def test_each_result_becomes_values(active: Line) -> None:
    for stroke in (21, 22, 23):
        active.judge(Verdict.NOT_OK, stroke=stroke, score=stroke / 10)
    await active.run(0.3)
    assert written(active, "speed") == [2.3], "of set-points the latest wins"
    assert written(active, "limit") == [21, 22, 23], "of commands each counts, in order"
    assert written(active, "divert") == [False, False, False], "a BOOL gets whether the verdict is OK"
    kinds = {name: order.kind for name, _, order in active.plc.writes}
    assert kinds == {"speed": "setpoint", "limit": "command", "divert": "bit", "beat": "heartbeat"}
    shown = active.authority()
    assert (shown["value.0"], shown["value.1"], shown["writer"]) == (2.3, 23.0, "model")


async def test_the_heartbeat_is_written_too_and_stands_still_with_the_lane(active: Line) -> None:
    await active.run(1.0)
    beats = written(active, "beat")
    assert beats == list(range(beats[0], beats[0] + len(beats)))
    assert len(beats) >= 8
    active.lane_lives = False
    await active.run(0.6)
    before = len(written(active, "beat"))
    await active.run(1.0)
    assert len(written(active, "beat")) == before


async def test_values_stay_within_their_limits(active: Line) -> None:
    active.judge(score=99.0, stroke=60)
    await active.run(0.3)
    assert written(active, "speed") == [40.0]
    assert written(active, "limit") == [50], "the range of the tag itself"
    batch = active.shown.latest()
    assert batch is not None
    assert int(batch.status[batch.row("value.0")]) == GOOD_CLAMPED


async def test_what_fell_safe_says_so_and_moves_on_from_where_it_is() -> None:
    line = made({**SPEED, "rate_per_s": 10.0})
    line.judge()
    await line.until("ACTIVE")
    line.judge(score=7.0)
    await line.run(1.0)
    assert line.plc.held["speed"] == 7.0
    line.judge_late()
    await line.run(0.1)
    assert line.plc.held["speed"] == 5.0, "at once: a fail-safe value needs no ramp"
    await line.run(0.3)
    batch = line.shown.latest()
    assert batch is not None
    assert int(batch.status[batch.row("value.0")]) == UNCERTAIN_SUBSTITUTE
    line.judge(score=30.0)
    await line.until("ACK_REQUIRED")
    await line.output.acts.acknowledge("anna")
    await line.until("ACTIVE")
    line.plc.writes.clear()
    await line.run(0.5)
    assert written(line, "speed") == [], "what was judged meanwhile is history"
    line.judge(score=30.0)
    await line.run(0.6)
    steps = [5.0, *written(line, "speed")]
    assert len(steps) > 3
    assert all(0 < after - before <= 1.01 for before, after in pairwise(steps))
    line.close()


async def test_nothing_that_waited_is_sent_after_a_loss(active: Line) -> None:
    active.plc.link_up = False
    for stroke in range(31, 36):
        active.judge(stroke=stroke, score=9.0)
        await active.step()
    assert active.state == "FAILSAFE"
    active.plc.link_up = True
    await active.until("ACK_REQUIRED")
    await active.output.acts.acknowledge("anna")
    await active.run(1.0)
    assert active.state == "ACTIVE"
    assert written(active, "limit") == []
    assert written(active, "speed") == [5.0]


async def test_a_command_that_failed_is_not_sent_again_and_a_setpoint_is(active: Line) -> None:
    active.plc.fails = "lost"
    active.judge(stroke=44, score=4.4)
    await active.step()
    active.plc.fails = ""
    await active.run(0.3)
    assert written(active, "limit") == []
    assert written(active, "speed") == [4.4]
    assert active.authority()["indeterminate"] >= 1


async def test_a_device_that_holds_something_else_twice_is_a_fault(active: Line) -> None:
    active.plc.answers["speed"] = WriteOutcome(GOOD_CLAMPED, "the device holds 1.0")
    active.judge(score=2.0)
    await active.run(0.2)
    assert active.state == "ACTIVE"
    active.judge(score=3.0)
    await active.step()
    await active.step()
    assert active.authority()["fault"] == "READ_BACK"
    assert active.state == "FAILSAFE"
    active.plc.answers.clear()
    await active.until("ACK_REQUIRED")


async def test_values_that_nobody_renews_are_a_fault() -> None:
    line = made({**SPEED, "ttl_s": 0.5})
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.7)
    assert line.authority()["fault"] == "RESULT_AGE"
    line.close()


async def test_in_hold_nothing_is_written_and_the_value_is_marked() -> None:
    line = made(hold_s=2.0)
    line.judge(score=3.0)
    await line.until("ACTIVE")
    line.judge(score=3.0)
    await line.run(0.2)
    line.plc.writes.clear()
    line.judge_late()
    await line.run(0.4)
    assert line.state == "HOLD"
    assert line.plc.writes == []
    batch = line.shown.latest()
    assert batch is not None
    assert int(batch.status[batch.row("value.0")]) == UNCERTAIN_LAST_USABLE
    line.close()


async def test_a_person_who_writes_takes_the_output_over_until_it_is_given_back(active: Line) -> None:
    acts = active.output.acts
    before = active.plc.held["speed"]
    outcome = await acts.write("press/speed", 12.0, writer="operator", user="anna", why="trial")
    assert outcome.status == 0
    await active.run(0.3)
    assert active.state == "MANUAL"
    assert active.plc.held["speed"] == 12.0
    batch = active.shown.latest()
    assert batch is not None
    assert int(batch.status[batch.row("value.0")]) == GOOD_LOCAL_OVERRIDE
    active.judge(score=1.0)
    await active.run(0.3)
    assert active.plc.held["speed"] == 12.0
    refused = await acts.write("press/speed", 3.0, writer="program", user="mes")
    assert (refused.status, refused.reason) == (BAD_INVALID_STATE, "verdict is in the hands of anna")
    await acts.automatic("anna")
    await active.run(0.3)
    assert active.state == "ACTIVE"
    record = next(each for each in active.records if each.what == "write verdict")
    assert (record.who, record.why, record.new) == ("anna", "trial", {"press/speed": 12.0})
    assert record.old == {"press/speed": before}
    await acts.manual("anna")
    taken = next(each for each in active.records if each.what == "manual verdict")
    assert taken.old == "ACTIVE", "what it was before, not what the person made of it"


async def test_manual_may_bring_values_and_stops_at_the_first_that_fails(active: Line) -> None:
    acts = active.output.acts
    assert (await acts.manual("anna", {"press/speed": 8.0})).status == 0
    assert active.plc.held["speed"] == 8.0
    assert (await acts.manual("anna", {"press/speed": 80.0})).status == BAD_OUT_OF_RANGE
    assert (await acts.manual("anna", {"press/none": 8.0})).status == BAD_NODE_ID_UNKNOWN
    active.plc.fails = "lost"
    outcome = await acts.manual("anna", {"press/speed": 9.0})
    assert outcome.reason == "no answer"


async def test_a_program_holds_a_tag_before_the_model_until_it_goes(active: Line) -> None:
    acts = active.output.acts
    assert (await acts.write("press/speed", 20.0, writer="program", user="mes")).status == 0
    active.judge(score=1.0, stroke=9)
    await active.run(0.3)
    assert active.plc.held["speed"] == 20.0
    assert active.plc.held["limit"] == 9, "the other tags are the model's"
    assert active.authority()["writer"] == "program"
    other = await acts.write("press/speed", 3.0, writer="program", user="scada")
    assert other.reason == "press/speed: a program (mes) holds it"
    assert (await acts.write("press/speed", 22.0, writer="program", user="mes")).status == 0
    assert acts.writer_gone("nobody").status == BAD_INVALID_STATE
    assert acts.writer_gone("mes").status == 0
    await active.run(0.1)
    assert active.state == "FAILSAFE"
    assert active.reason == "a program (mes) is gone"
    await active.run(0.3)
    assert active.plc.held["speed"] == 5.0
    await active.until("ACK_REQUIRED")


async def test_a_program_that_falls_silent_and_comes_back_in_time_goes_on() -> None:
    line = made({**SPEED, "ttl_s": 0.5}, hold_s=1.0)
    line.judge()
    await line.until("ACTIVE")
    acts = line.output.acts
    await acts.write("press/speed", 20.0, writer="program", user="mes")
    for _ in range(4):
        line.judge()
        await line.run(0.2)
    assert line.state == "HOLD"
    line.judge()
    assert (await acts.write("press/speed", 21.0, writer="program", user="mes")).status == 0
    await line.run(0.1)
    assert line.state == "ACTIVE"
    assert line.plc.held["speed"] == 21.0
    line.close()


async def test_what_a_program_writes_moves_no_faster_than_it_may() -> None:
    line = made({**SPEED, "rate_per_s": 10.0})
    line.judge()
    await line.until("ACTIVE")
    await line.run(1.0)
    acts = line.output.acts
    outcome = await acts.write("press/speed", 15.0, writer="program", user="mes")
    assert (outcome.status, outcome.reason) == (GOOD_CLAMPED, "on its way at 10 per second")
    await line.run(2.0)
    assert line.plc.held["speed"] == 15.0
    again = await acts.write("press/speed", 15.0, writer="program", user="mes")
    assert again.status == 0, "it is there already"
    line.close()


async def test_who_may_not_write_is_told_why(active: Line) -> None:
    write = active.output.acts.write
    assert (await write("press/limit", 3, writer="operator", user="anna")).status == BAD_NOT_WRITABLE
    assert (await write("press/speed", "3", writer="operator", user="anna")).status == BAD_INVALID_ARGUMENT
    assert (await write("press/speed", float("nan"), writer="operator", user="a")).status == BAD_OUT_OF_RANGE
    active.lane_lives = False
    await active.run(1.0)
    refused = await write("press/speed", 3.0, writer="program", user="mes")
    assert refused.reason == "verdict is FAILSAFE"


async def test_where_the_model_comes_first_a_person_has_to_wait() -> None:
    line = made({**SPEED, "writers": ["model", "operator"]})
    line.judge()
    await line.until("ACTIVE")
    write = line.output.acts.write
    refused = await write("press/speed", 3.0, writer="operator", user="anna")
    assert refused.reason == "press/speed: the model holds it"
    line.lane_lives = False
    await line.run(1.0)
    assert (await write("press/speed", 3.0, writer="operator", user="anna")).status == 0
    line.close()


async def test_a_tag_that_the_model_may_not_write_is_left_alone() -> None:
    line = made({**SPEED, "writers": ["program"]})
    line.judge()
    await line.until("ACTIVE")
    line.plc.writes.clear()
    line.judge(score=3.0)
    await line.run(0.3)
    assert written(line, "speed") == []
    assert (await line.output.acts.write("press/speed", 4.0, writer="program", user="mes")).status == 0
    line.close()


PLC: dict[str, Any] = {
    "heartbeat": "press/beat",
    "ack_required": "press/latched",
    "plc_heartbeat": "press/alive",
    "echo_heartbeat": "press/echo",
    "grant": "press/grant",
    "plc_trusts": "press/trusts",
    "acknowledge": "press/ack",
    "granted_by": "plc",
}


def lives(line: Line) -> None:
    """Let the PLC's own program run: it counts, and gives our heartbeat back."""
    line.tags["alive"] = line.clock.monotonic_ns() // 100_000_000 % 65_536
    line.tags["echo"] = line.plc.held.get("beat", 0)


async def test_a_plc_with_a_program_of_its_own_is_heard() -> None:
    line = made(SPEED, **PLC)
    line.judge()
    line.tags["grant"] = False
    await line.run(1.0, each=lambda: lives(line))
    assert line.state == "READY"
    line.tags["grant"] = True
    await line.run(1.0, each=lambda: lives(line))
    assert line.state == "ACTIVE"
    line.tags["latched"] = True
    await line.run(0.5, each=lambda: lives(line))
    assert line.state == "ACK_REQUIRED"
    assert line.authority()["plc_latched"]
    await line.output.acts.acknowledge("anna")
    assert line.plc.held["ack"] is True, "the method presses the PLC's own button"
    await line.run(0.5, each=lambda: lives(line))
    assert line.state == "ACK_REQUIRED", "until the PLC has let go"
    line.tags["latched"] = False
    await line.run(0.5, each=lambda: lives(line))
    assert line.state == "ACTIVE"
    line.tags["latched"] = True
    await line.run(0.5, each=lambda: lives(line))
    line.tags["latched"] = False
    await line.run(0.5, each=lambda: lives(line))
    assert line.state == "ACTIVE", "a PLC that takes its latch back has acknowledged"
    await line.run(1.5)
    assert line.authority()["fault"] in ("PLC_HEARTBEAT", "ECHO")
    assert line.output.acts.acknowledged_at_plc("anna").status == BAD_INVALID_STATE
    line.close()


async def test_a_plc_that_does_not_give_our_heartbeat_back_is_a_fault() -> None:
    line = made(SPEED, **{**PLC, "plc_heartbeat": None})
    line.judge()
    await line.run(0.5, each=lambda: lives(line))
    assert line.state == "ACTIVE"
    await line.run(1.5)
    assert line.state == "FAILSAFE"
    assert line.reason == "the PLC does not give our heartbeat back"
    line.close()


async def test_handshake_tags_that_are_not_read_say_nothing(active: Line) -> None:
    line = made(SPEED, **PLC)
    await line.run(0.3, each=lambda: lives(line))
    line.plc.refreshed_ns += 10**12  # other groups are read, this one is not
    line.reads = False
    await line.run(2.0)
    assert line.authority()["fault"] == "CONTROL"
    line.close()


async def test_with_auto_restart_nobody_has_to_acknowledge() -> None:
    line = made(SPEED, auto_restart=True)
    line.judge()
    await line.until("ACTIVE")
    line.judge_late()
    await line.until("FAILSAFE")
    line.judge()
    await line.until("ACTIVE")
    line.close()


async def test_the_last_word_writes_fail_safe_values_but_not_over_a_person(active: Line) -> None:
    active.judge(score=9.0)
    await active.run(0.2)
    assert await active.output.release(0.4)
    assert active.plc.held["speed"] == 5.0
    line = made()
    line.judge()
    await line.until("ACTIVE")
    await line.output.acts.manual("anna", {"press/speed": 12.0})
    assert await line.output.release(0.4)
    assert line.plc.held["speed"] == 12.0
    line.close()


async def test_writes_that_landed_late_are_counted(active: Line) -> None:
    active.plc.landed["speed"] = 2
    await active.run(0.3)
    assert active.authority()["landed_late"] == 2


async def test_a_fail_safe_value_that_did_not_arrive_is_written_again(active: Line) -> None:
    active.lane_lives = False
    await active.run(0.3)
    active.plc.fails = "lost"
    await active.run(0.5)
    active.plc.writes.clear()
    active.plc.fails = ""
    await active.run(0.5)
    assert active.state == "FAILSAFE"
    assert written(active, "speed") == [5.0]
    assert written(active, "divert") == [False]


async def test_a_heartbeat_that_did_not_arrive_is_written_again(active: Line) -> None:
    active.plc.answers["beat"] = WriteOutcome(BAD_OUT_OF_RANGE, "no")
    await active.run(0.2)
    active.plc.answers.clear()
    active.plc.writes.clear()
    await active.run(0.3)
    assert written(active, "beat")
    assert active.state == "ACTIVE"


async def test_what_was_never_read_is_written_without_a_ramp() -> None:
    line = made({**SPEED, "rate_per_s": 1.0, "strategy": "hold_last"})
    line.read_plc = lambda: line.publish_words("press.verdict.control", line.words)  # type: ignore[method-assign]
    line.judge()
    for _ in range(30):
        line.plc.refreshed_ns = line.clock.monotonic_ns() + 20_000_000
        await line.step()
    assert line.state == "ACTIVE"
    line.judge(score=30.0)
    line.plc.refreshed_ns = line.clock.monotonic_ns() + 20_000_000
    await line.step()
    assert written(line, "speed") == [30.0]
    line.close()


async def test_where_nothing_is_due_nothing_is_sent(active: Line) -> None:
    active.judge(score=3.0)
    await active.run(0.2)
    active.plc.writes.clear()
    await active.output._face.send()
    assert written(active, "speed") == []
