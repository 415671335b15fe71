"""docs/reference/write-back.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from edge_opcua.writeback.faults import Fault
from edge_opcua.writeback.states import TABLE, State, Trigger, diagram

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "write-back.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def test_the_diagram_is_made_from_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in TEXT
    drawn = [line for line in diagram().splitlines() if "-->" in line and "[*]" not in line]
    assert len(drawn) == sum(trigger is not Trigger.TAKEN for _, trigger in TABLE)


def test_every_state_names_every_way_out() -> None:
    page = {row[0]: row[2] for row in rows("## Authority")}
    assert list(page) == [state.name for state in State]
    for state in State:
        targets = {target.name for (source, _), target in TABLE.items() if source is state}
        assert set(re.findall(r"[A-Z_]{4,}", page[state.name])) == targets


def test_every_fault_has_its_row_in_the_order_of_search() -> None:
    page = rows("## Faults")
    assert [row[0] for row in page] == [fault.name for fault in Fault]
    assert [row[2] == "yes" for row in page] == [fault.rides_through for fault in Fault]
