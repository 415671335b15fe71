"""The rule of the lossless maximum."""

from __future__ import annotations

import pytest

from edge_opcua.bench.opcua.floors import Floor, compared
from edge_opcua.bench.opcua.ladder import Step, best, climb, holds
from edge_opcua.bench.opcua.target import ASYNCUA, NODE, OURS


def test_a_rate_holds_if_nothing_is_lost_and_97_percent_arrive_in_time() -> None:
    assert holds(Step(1000, 970, 0, 1.0))
    assert not holds(Step(1000, 969, 0, 1.0))
    assert not holds(Step(1000, 1000, 1, 1.0))


@pytest.mark.parametrize("most", [70.0, 100.0, 333.0, 5000.0, 20_000.0])
def test_the_ladder_finds_the_maximum_within_a_fifth(most: float) -> None:
    steps = climb(lambda rate: Step(rate, min(rate, most), 0, 1.0), 100.0, top=1e6, steps=20)
    found = best(steps)
    assert found is not None
    assert most / 1.25 <= found.rate <= most / 0.97
    assert len(steps) < 20


def test_the_ladder_ends_at_its_top_and_after_so_many_steps() -> None:
    assert best(climb(lambda rate: Step(rate, rate, 0, 1.0), 100.0, top=399.0, steps=20)) == Step(
        200, 200, 0, 1.0
    )
    assert len(climb(lambda rate: Step(rate, 0.0, 9, 1.0), 100.0, top=1e6, steps=3)) == 3


def test_without_a_lossless_rate_there_is_no_maximum() -> None:
    assert best([Step(100, 100, 1, 1.0)]) is None


def test_a_figure_says_whether_its_floor_holds() -> None:
    seen = {OURS: 500.0, ASYNCUA: 2.0, NODE: 100.0}
    first, second = compared("values", "/s", seen, floor=Floor(200, 20), better="higher", note="quiet")
    assert first.note == "quiet; floor 200 x: holds"
    assert second.note == "floor 20 x: DOES NOT HOLD"
    (alone,) = compared("p99", "ms", {OURS: 13.0}, floor=Floor(most=12))
    assert (alone.peer, alone.note) == ("", "at most 12: DOES NOT HOLD")
