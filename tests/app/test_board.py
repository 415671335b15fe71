"""What is wrong now: told once, and taken back by whoever told it."""

from __future__ import annotations

from edge_opcua.app.board import Board
from edge_opcua.testing import ManualClock


def board() -> tuple[Board, list[str]]:
    said: list[str] = []
    return Board(ManualClock(), said.append), said


def test_a_fault_is_said_once_and_again_when_it_is_another_one() -> None:
    faults, said = board()
    for _ in range(3):
        faults.report("press", "M590", "too slow")
    faults.report("press", "M595", "held")
    assert [line.split()[0] for line in said] == ["error[M590]", "error[M595]"]
    assert [(row["source"], row["code"]) for row in faults.rows()] == [("press", "M595")]


def test_a_fault_is_taken_back_only_by_who_told_it() -> None:
    # The lane takes its alarm back; by then the supervisor may have told that it is not started any more.
    faults, said = board()
    faults.report("press", "M595", "held")
    faults.clear("press", code="M590")
    assert [row["code"] for row in faults.rows()] == ["M595"]
    faults.clear("press", code="M595")
    assert faults.rows() == []
    assert said[-1] == "press: over after 0.0 s (M595)"


def test_what_is_not_wrong_is_not_over_either() -> None:
    faults, said = board()
    faults.clear("press")
    faults.clear("press", code="M590")
    assert said == []
