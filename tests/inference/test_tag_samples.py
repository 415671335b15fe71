"""Samples of tags: what a window is worth, when samples are taken, and what a lane sees of it on the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    BlockSpec,
    Link,
    Policy,
    Scalar,
    TagSpec,
)
from edge_opcua.inference.fed import Fed, samples_block
from edge_opcua.inference.intake import ContextTag
from edge_opcua.inference.tagsampler import TagSampler
from edge_opcua.inference.tagwindow import TagWindow
from edge_opcua.testing import ManualClock
from tests.inference.line import plain

NAMES = ("speed", "oil_temp")
PIPELINE = PipelineConfig(
    name="oil",
    model="oil",
    inputs={name: f"press/{name}" for name in NAMES},
    every_ms=100,
    window=3,
)


def tag(name: str, block: str = "press.fast") -> ContextTag:
    return ContextTag(f"press/{name}", block, name, "")


def fed(*, window: int = 3, trigger: str | None = None) -> Fed:
    every_ms = None if trigger else 100.0
    return Fed(tuple(map(tag, NAMES)), NAMES, window, every_ms, None if trigger is None else tag(trigger))


class Press:
    """A poll group written by hand, and a sampler of it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        rows = (*(TagSpec(name, Scalar.FLOAT) for name in NAMES), TagSpec("strokes", Scalar.UINT32))
        group = BlockSpec("press.fast", rows, 8, Policy(stale_after_s=0.5, hold_s=0.5))
        self.bus = Bus.create((group, samples_block(PIPELINE)), clock=self.clock)
        self.fast = self.bus.writer("press.fast")
        self.samples = self.bus.reader("oil.samples", from_newest=False)
        self.heard: list[Callable[[], None]] = []

    def tags(self, *, link: Link = Link.UP, status: int = GOOD, **values: float) -> None:
        batch = self.fast.batch
        batch.status[:] = status
        batch.source_ns[:] = self.clock.utc_ns()
        for name, value in values.items():
            batch.set(batch.row(name), value)
        self.fast.publish(link=link, refreshed=link is Link.UP)
        for call in self.heard:
            call()

    def sampler(self, **options: Any) -> TagSampler:
        def listen(call: Callable[[], None]) -> Callable[[], None]:
            self.heard.append(call)
            return lambda: self.heard.remove(call)

        return TagSampler(fed(**options), "oil.samples", self.bus, self.clock, listen)

    def taken(self) -> list[dict[str, Any]]:
        return [plain(batch) for batch in self.samples.poll()]


@pytest.fixture
def press() -> Iterator[Press]:
    made = Press()
    yield made
    made.bus.close()


def test_a_window_is_worth_nothing_until_it_is_full() -> None:
    window = TagWindow(("a", "b"), 2)
    window.add([1.0, 2.0], [GOOD, GOOD])

    assert window.worst() == (BAD_WAITING_FOR_INITIAL_DATA, "1 of 2 samples are there")
    window.add([3.0, 4.0], [GOOD, GOOD])
    assert window.worst() == (GOOD, "")
    assert window.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_window_is_worth_what_the_worst_of_its_samples_is_and_names_tag_and_age() -> None:
    window = TagWindow(("a", "b"), 3)
    window.add([1.0, 2.0], [GOOD, BAD_COMMUNICATION_ERROR])
    window.add([1.0, 2.0], [GOOD, GOOD])
    window.add([1.0, 2.0], [UNCERTAIN_LAST_USABLE, GOOD])

    assert window.worst() == (BAD_COMMUNICATION_ERROR, "b: BadCommunicationError, 2 samples ago")
    window.add([1.0, 2.0], [GOOD, GOOD])
    assert window.worst() == (UNCERTAIN_LAST_USABLE, "a: UncertainLastUsableValue, 1 sample ago")


def test_what_is_no_number_although_it_is_good_is_a_broken_sensor() -> None:
    window = TagWindow(("a", "b"), 1)
    window.add([1.0, float("nan")], [GOOD, GOOD])

    assert window.worst() == (BAD_SENSOR_FAILURE, "b: BadSensorFailure")
    window.add([1e39, 0.0], [GOOD, GOOD])  # more than a float32 holds
    assert window.worst()[1] == "a: BadSensorFailure"


def test_samples_that_were_not_taken_hold_the_last_one_as_uncertain() -> None:
    window = TagWindow(("a",), 4)
    for value in (1.0, 2.0):
        window.add([value], [GOOD])
    window.repeat(1)
    window.add([5.0], [GOOD])

    assert window.values.reshape(-1).tolist() == [1.0, 2.0, 2.0, 5.0]
    assert window.worst() == (UNCERTAIN_LAST_USABLE, "a: UncertainLastUsableValue, 1 sample ago")
    window.repeat(9)
    assert window.values.reshape(-1).tolist() == [5.0] * 4


async def test_samples_by_time_come_on_the_grid_and_look_like_captures(press: Press) -> None:
    sampler = press.sampler()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        for number in range(4):
            press.tags(speed=float(number), oil_temp=40.0)
            await press.clock.advance(0.1 if number else 0.05)
        running.cancel()

    found = press.taken()
    assert [each["sequence"] for each in found] == [1, 2, 3, 4]
    assert found[1]["reason"] == "2 of 3 samples are there"
    assert found[1]["waveform"] is None
    np.testing.assert_array_equal(found[3]["waveform"], [1.0, 40.0, 2.0, 40.0, 3.0, 40.0])
    assert found[3]["sample_rate_hz"] == 10.0
    assert found[3]["waveform.status"] == GOOD


async def test_a_sampler_that_was_held_up_keeps_its_window_in_step_with_time(press: Press) -> None:
    class HeldUp(TagSampler):
        def take(self, cycle: int | None = None) -> None:
            super().take(cycle)
            press.clock.step(0.25)  # the process stood still

    press.tags(speed=1.0, oil_temp=40.0)
    sampler = HeldUp(fed(), "oil.samples", press.bus, press.clock)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        await press.clock.advance(0.01)
        running.cancel()

    first, second, *_ = press.taken()
    assert (first["missed"], second["missed"]) == (0, 1)  # that of 0.1 s; at 0.25 s that of 0.2 s was taken
    assert second["waveform.status"] == UNCERTAIN_LAST_USABLE
    assert second["reason"] == "press/speed: UncertainLastUsableValue, 1 sample ago"


async def test_a_device_that_is_lost_makes_its_samples_worthless_and_says_which_tag(press: Press) -> None:
    sampler = press.sampler(window=3)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        for _ in range(4):
            press.tags(speed=1.0, oil_temp=40.0)
            await press.clock.advance(0.1)
        press.tags(link=Link.LOST)
        await press.clock.advance(0.1)
        held = press.taken()[-1]
        for _ in range(10):  # longer than hold_s
            await press.clock.advance(0.1)
        lost = press.taken()[-1]
        running.cancel()

    assert held["reason"].startswith("press/speed: UncertainNoCommunicationLastUsable")
    assert lost["waveform"] is None
    assert lost["reason"] == "press/speed: BadCommunicationError"


async def test_a_trigger_makes_one_sample_for_each_change_and_gives_its_number(press: Press) -> None:
    sampler = press.sampler(trigger="strokes")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        await press.clock.advance(0.01)
        for strokes in (7, 7, 8, 8, 9, 9, 10):  # the first value is no change
            press.tags(speed=float(strokes), oil_temp=40.0, strokes=strokes)
        running.cancel()
        await asyncio.sleep(0)

    found = press.taken()
    assert [each["stroke"] for each in found] == [8, 9, 10]
    assert [each["sequence"] for each in found] == [1, 2, 3]
    np.testing.assert_array_equal(found[2]["waveform"], [8.0, 40.0, 9.0, 40.0, 10.0, 40.0])
    assert found[2]["sample_rate_hz"] == 0.0
    assert not press.heard, "it is not called any more"


async def test_a_trigger_whose_link_is_lost_says_so_because_no_sample_can_come(press: Press) -> None:
    sampler = press.sampler(trigger="strokes", window=3)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        press.tags(strokes=1)
        await press.clock.advance(0.2)
        press.tags(link=Link.LOST)
        await press.clock.advance(0.2)
        lost = press.samples.latest()
        assert lost is not None
        assert lost.link is Link.LOST
        press.tags(strokes=1)
        await press.clock.advance(0.2)
        back = press.samples.latest()
        assert back is not None
        assert back.link is Link.UP
        running.cancel()


async def test_a_new_process_numbers_on_and_begins_with_an_empty_window(press: Press) -> None:
    press.tags(speed=1.0, oil_temp=40.0)
    first = press.sampler(window=3)
    for _ in range(3):
        first.take()
    second = press.sampler(window=3)
    second.take()

    found = press.taken()
    assert [each["sequence"] for each in found] == [1, 2, 3, 4]
    assert found[3]["reason"] == "1 of 3 samples are there"


async def test_a_sampler_shows_that_it_lives_between_two_samples(press: Press) -> None:
    slow = Fed(tuple(map(tag, NAMES)), NAMES, 3, 60_000.0, None)
    sampler = TagSampler(slow, "oil.samples", press.bus, press.clock)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(sampler.run())
        await press.clock.advance(5.0)
        assert press.clock.monotonic_ns() - press.samples.beat_ns <= 200_000_000
        running.cancel()
