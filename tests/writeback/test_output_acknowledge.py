"""An acknowledge answers the question that is asked now, however long it takes, and no question gets lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge_opcua.sim.softplc.plc import MAIN
from tests.writeback.line import Line, configuration, exported


async def active(line: Line) -> None:
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    assert line.plc.get("InUse")


async def test_a_person_may_take_any_time_to_acknowledge() -> None:
    # The heartbeat has then gone further than counters are compared: 1000, which is 100 s by default.
    line = Line(configuration(heartbeat_ms=10))
    await active(line)
    line.judge_late()
    await line.until("FAILSAFE")
    line.judge()
    await line.until("ACK_REQUIRED")
    before = line.authority()["heartbeat"]
    await line.run(22.0)
    assert line.authority()["heartbeat"] - before > 1000
    assert (await line.output.acts.acknowledge("anna")).status == 0
    await line.run(0.5)
    assert line.state == "ACTIVE"
    assert line.plc.get("InUse")
    line.close()


async def test_what_the_plc_alone_has_latched_is_owed_here_too() -> None:
    # The PLC stood still for longer than its time-out, which nobody else noticed; then it lost its memory.
    line = Line()
    await active(line)
    line.scans = False
    await line.run(0.6)
    line.scans = True
    await line.until("ACK_REQUIRED")
    assert line.plc.get("AckReq")
    await line.output.acts.manual("anna")
    await line.run(0.1)
    line.plc.main = exported(line.config).instance(MAIN)
    line.plc.set(Enable=True, Grant=True)
    await line.run(0.5)
    assert not line.plc.get("AckReq")
    await line.output.acts.automatic("anna")
    await line.run(1.0)
    assert line.state == "ACK_REQUIRED"
    assert not line.plc.get("InUse")
    line.close()


# A device without a program of its own: nobody else remembers that an acknowledge is owed.
SPEED: dict[str, Any] = {
    "tag": "press/speed",
    "source": "score",
    "preset": 5.0,
    "writers": ["operator", "model"],
}


async def act(line: Line) -> None:
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)


async def fail(line: Line) -> None:
    await act(line)
    line.judge_late()
    await line.until("FAILSAFE")
    line.judge()


async def ask(line: Line) -> None:
    await fail(line)
    await line.until("ACK_REQUIRED")


async def take(line: Line) -> None:
    await act(line)
    await line.output.acts.manual("anna", {"press/speed": 7.0})


@pytest.mark.parametrize("orderly", [False, True])
@pytest.mark.parametrize("before", [fail, ask, take])
async def test_what_is_owed_is_still_owed_after_another_process_or_configuration_took_over(
    before: Callable[[Line], Awaitable[None]], orderly: bool
) -> None:
    line = Line(configuration(values=[SPEED]))
    await before(line)
    if orderly:
        assert await line.output.release(0.4)
        await line.run(0.4)
    line.restart()
    await line.run(2.0)
    assert line.state == "ACK_REQUIRED"
    assert (await line.output.acts.acknowledge("anna")).status == 0
    await line.run(0.5)
    assert line.state == "ACTIVE"
    line.close()


@pytest.mark.parametrize(("orderly", "state"), [(False, "ACK_REQUIRED"), (True, "ACTIVE")])
async def test_who_died_while_it_ruled_has_failed_and_who_was_stopped_has_not(
    orderly: bool, state: str
) -> None:
    line = Line(configuration(values=[SPEED]))
    await act(line)
    if orderly:
        assert await line.output.release(0.4)
    line.restart()
    await line.run(2.0)
    assert line.state == state
    line.close()


async def test_with_auto_restart_nothing_is_owed_after_a_restart_either() -> None:
    line = Line(configuration(values=[SPEED], auto_restart=True))
    await fail(line)
    line.restart()
    await line.run(2.0)
    assert line.state == "ACTIVE"
    line.close()


async def test_the_button_of_a_plc_without_our_block_acknowledges_by_its_rising_edge() -> None:
    line = Line(configuration(values=[SPEED], acknowledged_by="plc", acknowledge="press/ack"))
    line.tags["ack"] = True
    await ask(line)
    await line.run(1.0)
    assert line.state == "ACK_REQUIRED", "a button that hangs acknowledges nothing"
    line.tags["ack"] = False
    await line.run(0.1)
    line.tags["ack"] = True
    await line.run(0.3)
    assert line.state == "ACTIVE"
    line.close()
