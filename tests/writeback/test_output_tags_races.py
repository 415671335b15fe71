"""Single tags when two things happen at once: what was written last counts, what came too late never does."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_OUT_OF_RANGE, GOOD_CLAMPED
from tests.writeback.line import SCAN_S, Line, configuration

SPEED: dict[str, Any] = {
    "tag": "press/speed",
    "source": "score",
    "preset": 5.0,
    "rate_per_s": 10.0,
    "writers": ["operator", "program", "model"],
}


@pytest.fixture
async def active() -> AsyncIterator[Line]:
    line = Line(configuration(values=[SPEED]))
    line.judge(score=6.0)
    await line.until("ACTIVE")
    await line.run(0.3)
    line.plc.writes.clear()
    yield line
    line.close()


def written(line: Line) -> list[float]:
    return [value for _, value, _ in line.plc.writes]


async def test_a_program_that_writes_in_the_moment_of_a_fault_is_refused_and_never_heard_later(
    active: Line,
) -> None:
    active.judge_late()  # the next decision will find it
    outcome = await active.output.acts.write("press/speed", 33.0, writer="program", user="recipes")
    assert outcome.status == BAD_INVALID_STATE
    await active.run(0.1)
    active.judge(score=6.0)
    await active.until("ACK_REQUIRED")
    await active.output.acts.acknowledge("anna")
    await active.run(1.0)
    assert active.state == "ACTIVE"
    assert set(written(active)) <= {5.0}


async def test_the_way_back_starts_where_a_person_left_it_although_the_tag_was_not_read_since(
    active: Line,
) -> None:
    active.judge(score=30.0)
    await active.run(5.0)
    assert active.plc.held["speed"] == 30.0
    await active.output.acts.manual("anna", {"press/speed": 7.0})
    await active.output.acts.automatic("anna")
    active.reads = False  # the control words were read, the slow group was not
    await active.decide()
    active.plc.writes.clear()
    active.judge(score=30.0)
    for _ in range(4):
        active.clock.step(SCAN_S * 2)
        active.writers["wear.result"].beat()
        await active.decide()
    assert active.state == "ACTIVE"
    assert written(active) == [8.0]


async def test_a_device_that_holds_another_value_has_not_fallen_safe(active: Line) -> None:
    active.plc.answers["speed"] = WriteOutcome(GOOD_CLAMPED, "the device holds 9")
    active.judge_late()
    await active.until("FAILSAFE")
    active.judge()
    await active.run(4.0)
    assert active.state == "FAILSAFE"
    assert active.authority()["fault"] == "READ_BACK"
    active.plc.answers.clear()
    await active.until("ACK_REQUIRED")
    assert active.plc.held["speed"] == 5.0


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
async def test_what_is_no_number_is_refused_whoever_writes_it(active: Line, value: float) -> None:
    outcome = await active.output.acts.write("press/speed", value, writer="operator", user="anna")
    assert outcome.status == BAD_OUT_OF_RANGE
    assert not written(active)
    assert active.state == "ACTIVE"


async def test_a_heartbeat_comes_round_where_its_tag_ends() -> None:
    # As an INT does after 54 minutes: a write that is refused for ever would stop the machine then.
    config = configuration(values=[SPEED], heartbeat="press/limit", heartbeat_ms=20)
    line = Line(config)
    line.judge()
    await line.run(3.0)
    beats = [value for name, value, _ in line.plc.writes if name == "limit"]
    assert beats[0] == 0
    assert max(beats) == 50, "the end of the tag's range"
    assert min(beats[1:]) == 1
    assert line.state == "ACTIVE"
    line.close()
