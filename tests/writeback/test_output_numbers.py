"""Numbers that the PLC's types cannot hold are marked as not Good; they never arrive as another number."""

from __future__ import annotations

from typing import Any

import pytest

from edge_opcua.config.eai import StatusWord
from edge_opcua.core.values import BAD_OUT_OF_RANGE, Verdict
from tests.writeback.line import Line, configuration

WHOLE: dict[str, Any] = {
    "results": [
        {"name": "Count", "source": "score", "type": "DINT"},
        {"name": "Cycle", "source": "cycle", "type": "DINT"},
    ],
    "value": "Count",
}


@pytest.mark.parametrize(
    ("score", "count", "is_bad"),
    [(2_147_483_647.0, 2_147_483_647, False), (3e9, 0, True), (-3e9, 0, True)],
)
async def test_a_score_that_no_dint_holds_is_not_good_instead_of_another_number(
    score: float, count: int, *, is_bad: bool
) -> None:
    line = Line(configuration(interface=WHOLE))
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.judge(score=score, stroke=4_294_967_295)
    await line.run(0.1)
    assert line.plc.get("Count") == count
    assert line.plc.get("Cycle") == -1, "a counter wraps"
    assert bool(line.stat()[StatusWord.QUALITY_MASK] & 1) is is_bad
    line.close()


async def test_of_many_results_each_that_is_no_number_is_marked_and_out_does_not_follow_it() -> None:
    results = [{"name": f"Value{index}", "source": "score", "type": "REAL"} for index in range(20)]
    line = Line(configuration(mode="setpoint", interface={"results": results, "value": "Value18"}))
    assert line.plc.main is not None
    line.plc.main.set("Fallback", 5.0)
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.judge(score=7.0)
    await line.run(0.1)
    assert line.plc.get("Out") == 7.0
    line.judge(Verdict.NOT_DECIDABLE, score_status=BAD_OUT_OF_RANGE)
    await line.run(0.1)
    assert line.stat()[StatusWord.QUALITY_MASK] == 0xFFFF
    assert line.plc.get("Out") == 5.0
    line.close()
