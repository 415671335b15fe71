"""On the front is what no other variant, nor the original, beats in one respect without losing in another."""

from __future__ import annotations

from edge_opcua.compress.report.pareto import with_front
from edge_opcua.compress.report.report import Row
from tests.compress.reports import row


def front(*rows: Row) -> set[str]:
    return {each.name for each in with_front(rows) if each.on_front}


def test_each_that_is_best_in_one_respect_is_on_it() -> None:
    rows = (
        row("fast", ratio=0.2, size=40_000, loss=0.1),
        row("small", ratio=0.4, size=20_000, loss=0.1),
        row("exact", ratio=0.4, size=40_000, loss=0.0),
        row("light", ratio=0.4, size=40_000, loss=0.1, memory_mb=1.0),
        row("none of it", ratio=0.4, size=40_000, loss=0.1),
    )
    assert front(*rows) == {"fast", "small", "exact", "light"}


def test_what_the_measurements_cannot_tell_apart_beats_nothing() -> None:
    assert front(row("a", ratio=0.500, loss=0.10), row("b", ratio=0.501, loss=0.11)) == {"a", "b"}


def test_what_the_original_beats_is_not_on_it() -> None:
    assert front(row("slower and larger", ratio=3.0, size=110_000, loss=0.3, memory_mb=5.0)) == set()
    assert front(row("slower but smaller", ratio=3.0, size=30_000, loss=0.3)) == {"slower but smaller"}


def test_what_failed_or_was_never_measured_is_not_on_it() -> None:
    rows = (
        row("ruined", ratio=0.1, size=1_000, loss=40.0),
        row("impossible", failure="it cannot be quantised"),
        row("sound"),
    )
    assert front(*rows) == {"sound"}


def test_nothing_measured_leaves_the_rows_as_they_are() -> None:
    rows = (row("impossible", failure="it cannot be quantised"),)
    assert with_front(rows) == rows
