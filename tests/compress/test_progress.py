"""How far a run is: the rest is estimated from what its steps took, and it never goes back."""

from __future__ import annotations

import pytest

from edge_opcua.compress.search.progress import FIRST_GUESS_S, Advance, Pace
from edge_opcua.testing import ManualClock


class Watch:
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seen: list[Advance] = []
        self.pace = Pace(self.clock, self.seen.append)

    async def step(self, kind: str, took_s: float, *, again: bool = False) -> None:
        self.pace.begin(kind, f"{kind} of x")
        await self.clock.advance(took_s)
        self.pace.end(again=again)


async def test_the_rest_is_what_steps_of_its_kind_took_so_far() -> None:
    watch = Watch()
    watch.pace.expect("timing", 4)
    await watch.step("timing", 3.0)
    await watch.step("timing", 5.0)
    watch.pace.begin("timing", "timing of y")
    assert watch.seen[-1].remaining_s == pytest.approx(2 * 4.0)
    assert watch.seen[-1].share == pytest.approx(8.0 / 16.0)


def test_before_anything_was_seen_the_rest_is_a_guess() -> None:
    watch = Watch()
    watch.pace.expect("timing", 2)
    watch.pace.begin("timing", "timing of x")
    assert watch.seen[-1] == Advance(0.0, 2 * FIRST_GUESS_S["timing"], "timing of x")


async def test_a_step_that_was_done_before_says_nothing_of_what_others_take() -> None:
    watch = Watch()
    watch.pace.expect("pruned", 2)
    await watch.step("pruned", 0.001, again=True)
    watch.pace.begin("pruned", "make y")
    assert watch.seen[-1].remaining_s == pytest.approx(FIRST_GUESS_S["pruned"])


async def test_a_step_that_tells_how_far_it_is_is_believed() -> None:
    watch = Watch()
    watch.pace.expect("pruned")
    watch.pace.begin("pruned", "train y")
    await watch.clock.advance(30.0)
    watch.pace.within(0.25, "epoch 5 of 20")
    assert watch.seen[-1].remaining_s == pytest.approx(90.0)
    assert watch.seen[-1].text == "train y: epoch 5 of 20"


async def test_the_share_never_goes_back_when_there_is_more_to_do_than_expected() -> None:
    watch = Watch()
    watch.pace.expect("pruned", 2)
    await watch.step("pruned", 4.0)
    watch.pace.expect("pruned", 20)
    watch.pace.begin("pruned", "make y")
    await watch.clock.advance(4.0)
    watch.pace.within(0.5, "")
    shares = [each.share for each in watch.seen]
    assert shares == sorted(shares)
    assert watch.seen[-1].remaining_s > 60.0
