"""Two that write to one area by mistake, and one that starts anew so quickly that the PLC might miss it."""

from __future__ import annotations

from dataclasses import replace

from edge_opcua.config.eai import HIGHEST
from edge_opcua.writeback.faults import Fault
from edge_opcua.writeback.output import Output
from tests.writeback.line import Line


def begins(output: Output, first: int) -> Output:
    output._authority = replace(output._authority, first=first)
    return output


async def test_each_edge_begins_to_count_elsewhere() -> None:
    line = Line()
    firsts = {line.output._authority.first}
    for _ in range(3):
        line.restart()
        firsts.add(line.output._authority.first)
    assert len(firsts) > 1
    assert all(1 <= first <= HIGHEST for first in firsts)
    line.close()


async def test_of_two_edges_that_start_together_the_plc_trusts_neither() -> None:
    line = Line()
    both = [begins(line.output, 1)]
    line.restart()
    both.append(begins(line.output, 20_000))
    line.judge()
    used = []
    for _ in range(250):
        for line.output in both:
            await line.step()
            used.append(line.plc.get("InUse"))
    assert not any(used[100:]), "two seconds after the start"
    assert Fault.READ_BACK in {output._authority.fault for output in both}, "and one of them says why"
    line.close()


async def test_an_edge_is_not_back_before_the_plc_has_seen_that_it_was_gone() -> None:
    line = Line()
    begins(line.output, HIGHEST - 3)
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.2)
    assert line.plc.get("InUse")
    line.scans = False  # a PLC with a slow program: it answers, but its blocks are not called meanwhile
    line.restart()
    begins(line.output, 1)  # just ahead of where the former one ended
    await line.run(0.2)
    assert line.state == "INHIBITED"
    line.scans = True
    await line.run(0.3)
    assert not line.plc.get("InUse")
    assert line.plc.get("AckReq")
    assert line.state == "ACK_REQUIRED"
    line.close()


async def test_a_question_is_heard_wherever_the_edge_begins_to_count() -> None:
    line = Line()
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.2)
    line.restart()
    begins(line.output, 40_000)
    await line.until("ACK_REQUIRED")
    assert (await line.output.acts.acknowledge("anna")).status == 0
    await line.run(0.5)
    assert line.plc.get("InUse")
    line.close()
