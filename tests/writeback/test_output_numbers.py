"""Numbers that the PLC's types cannot hold are marked as not Good; they never arrive as another number."""

from __future__ import annotations

from typing import Any

import pytest

from edge_opcua.config.eai import StatusWord
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
