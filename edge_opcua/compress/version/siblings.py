"""Which variants of a search become versions: the chosen one, and those that may stand in for it."""

from __future__ import annotations

from typing import Final

from edge_opcua.compress.report.report import Report, Row
from edge_opcua.errors import ModelError

MOST_SIBLINGS: Final = 3


def worth_keeping(report: Report) -> list[Row]:
    """Return the chosen variant and after it its siblings, the fastest first.

    A sibling is proved in its place of the order, measured to be faster than the original, and no other
    variant is better than it in every respect: a pipeline may fall back on it when time is short.

    Raises:
        ModelError: Nothing was chosen (M693).
    """
    chosen = report.chosen_row
    if chosen is None:
        why = f": {report.reasons[0]}" if report.reasons else ""
        raise ModelError(f"the original of {report.original.name} stays{why}", code="M693")
    timed = [
        (row.timing.ratio, row)
        for row in report.rows
        if row.name != chosen.name
        and row.is_usable
        and row.on_front
        and row.timing is not None
        and row.timing.verdict == "faster"
    ]
    timed.sort(key=lambda one: one[0])
    other = {row.sha256: row for _, row in reversed(timed) if row.sha256 != chosen.sha256}  # once each file
    siblings = [row for _, row in timed if other.get(row.sha256) is row]
    return [chosen, *siblings[:MOST_SIBLINGS]]
