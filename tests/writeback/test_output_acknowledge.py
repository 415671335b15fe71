"""An acknowledge answers the question that is asked now, however long it takes, and no question gets lost."""

from __future__ import annotations

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
