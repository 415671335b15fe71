"""docs/reference/write-back.md and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from edge_opcua.writeback import mailbox
from edge_opcua.writeback.states import TABLE, State

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "write-back.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = TEXT.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def test_the_mailbox_is_laid_out_as_the_module_says() -> None:
    lines = [line.split(None, 2) for line in (mailbox.__doc__ or "").splitlines() if line[:1].isdigit()]
    assert [[byte, kind] for byte, kind, _ in lines] == [
        [byte, kind] for byte, kind, _ in rows("## The mailbox")
    ]


def test_every_state_names_every_way_out() -> None:
    page = {row[0]: row[2] for row in rows("## Authority")}
    assert list(page) == [state.name for state in State]
    for state in State:
        targets = {target.name for (source, _), target in TABLE.items() if source is state}
        assert set(re.findall(r"[A-Z_]{4,}", page[state.name])) == targets
