"""The modes in which a PLC uses results without asking for each, against the exported block."""

from __future__ import annotations

import itertools

from edge_opcua.core.values import Verdict
from tests.writeback.line import SCAN_S, Line, configuration


async def in_use(line: Line) -> None:
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    assert line.plc.get("InUse")


async def test_a_setpoint_is_ramped_and_falls_back_without_a_jump_and_comes_back_without_one() -> None:
    line = Line(configuration(mode="setpoint", interface={"low": 0, "high": 10, "rate_per_s": 2}))
    assert line.plc.main is not None
    line.plc.main.set("Fallback", 1.0)
    await in_use(line)
    out = [line.plc.get("Out")]

    def note() -> None:
        out.append(line.plc.get("Out"))

    line.judge(score=4.0)
    await line.run(2.5, each=note)
    assert out[-1] == 4.0
    line.lane_lives = False
    await line.run(3.0, each=note)
    assert out[-1] == 1.0
    line.lane_lives = True
    line.judge(score=40.0)
    await line.until("ACK_REQUIRED")
    await line.output.acts.acknowledge("anna")
    await line.run(0.5, each=note)
    assert line.plc.get("InUse")
    line.judge(score=40.0)
    await line.run(5.0, each=note)
    assert out[-1] == 10.0, "the PLC clamps"
    steps = [abs(after - before) for before, after in itertools.pairwise(out)]
    assert max(steps) <= 2 * SCAN_S * 1.1
    line.close()


async def test_a_veto_can_only_restrict() -> None:
    line = Line(configuration(mode="veto"))
    line.plc.set(PlcPermit=True, FallbackPermit=False)
    await in_use(line)
    for verdict, permitted in ((Verdict.OK, True), (Verdict.NOT_OK, False), (Verdict.OK, True)):
        line.judge(verdict)
        await line.run(0.1)
        assert line.plc.get("Permit") is permitted
    line.plc.set(PlcPermit=False)
    await line.run(0.1)
    assert line.plc.get("Permit") is False, "what the PLC forbids the edge cannot permit"
    line.plc.set(PlcPermit=True)
    line.judge_degraded()
    await line.run(0.1)
    assert line.plc.get("Permit") is False, "not decidable is no permit"
    line.judge()
    await line.run(0.1)
    line.lane_lives = False
    await line.run(1.0)
    assert line.plc.get("Permit") is False
    line.plc.set(FallbackPermit=True)
    await line.run(0.1)
    assert line.plc.get("Permit") is True, "the fallback is the PLC's own"
    line.close()
