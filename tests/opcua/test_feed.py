"""From the bus to what clients see of a block of tags, batch by batch; no server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.values import (
    GOOD,
    UNCERTAIN_LAST_USABLE,
    BlockSpec,
    Policy,
    Scalar,
    TagSpec,
)
from edge_opcua.opcua.tags.feed import TagFeed
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.testing import ManualClock

SPEC = BlockSpec(
    "press.fast", (TagSpec("a", Scalar.FLOAT), TagSpec("b", Scalar.INT32)), 4, Policy(2.0, 60.0, 90.0)
)


@dataclass(eq=False)
class Listener:
    """Follows the block as columns."""

    every: bool = False
    seen: list[tuple[int, bool]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def block_changed(self, block: LiveBlock, *, missed: bool) -> None:
        shown = block.data_value(1)
        self.seen.append((shown.Value.Value, missed))
        self.statuses.append(shown.StatusCode.value)


class Rig:
    """A bus with one block, and its feed."""

    def __init__(self, bus: Bus, clock: ManualClock) -> None:
        self.clock = clock
        self.writer: BlockWriter = bus.writer(SPEC.name)
        self.block = LiveBlock(SPEC, clock)
        self.feed = TagFeed(bus.reader(SPEC.name), self.block, clock)

    def publish(self, *values: int) -> None:
        for value in values:
            batch = self.writer.batch
            batch.status[:] = GOOD
            batch.source_ns[:] = batch.server_ns[:] = self.clock.utc_ns()
            batch.set(1, value)
            self.writer.publish()

    def follow(self, *, every: bool) -> Listener:
        listener = Listener(every)
        self.block.listeners[listener] = None
        return listener


@pytest.fixture
def rig() -> Iterator[Rig]:
    clock = ManualClock()
    bus = Bus.create([SPEC], clock=clock)
    yield Rig(bus, clock)
    bus.close()


def test_of_batches_that_come_together_the_newest_is_shown(rig: Rig) -> None:
    listener = rig.follow(every=False)
    rig.publish(1, 2, 3)
    rig.feed.tick(assess=False)
    assert listener.seen == [(3, False)]


def test_who_wants_each_batch_gets_each(rig: Rig) -> None:
    # Part 4 §7.21: a queue of several values takes each of them.
    listener = rig.follow(every=True)
    rig.publish(1, 2, 3)
    rig.feed.tick(assess=False)
    assert listener.seen == [(1, False), (2, False), (3, False)]


@pytest.mark.parametrize(
    ("every", "seen"), [(False, [(9, True)]), (True, [(6, True), *((n, False) for n in (7, 8, 9))])]
)
def test_what_was_overwritten_on_the_bus_is_told_once(
    rig: Rig, every: bool, seen: list[tuple[int, bool]]
) -> None:
    listener = rig.follow(every=every)
    rig.publish(1, 2, 3, 4, 5, 6, 7, 8, 9)
    rig.feed.tick(assess=False)
    assert listener.seen == seen
    listener.seen.clear()
    rig.publish(10)
    rig.feed.tick(assess=False)
    assert listener.seen == [(10, False)]


def test_what_the_bus_holds_at_the_start_is_shown_once(rig: Rig) -> None:
    rig.publish(1, 2)
    listener = rig.follow(every=True)
    rig.feed.start()
    rig.feed.tick(assess=True)
    assert listener.seen == [(2, False)]


def test_age_is_looked_at_only_when_it_is_time(rig: Rig) -> None:
    rig.publish(1)
    rig.feed.tick(assess=False)
    rig.clock.step(3.0)
    rig.feed.tick(assess=False)
    assert rig.block.data_value(1).StatusCode.value == GOOD
    rig.feed.tick(assess=True)
    assert rig.block.data_value(1).StatusCode.value == UNCERTAIN_LAST_USABLE


def test_a_batch_that_was_taken_late_is_not_old_where_a_newer_one_followed(rig: Rig) -> None:
    # The poll was in time; that the server was not must not be told as a fault of the device.
    listener = rig.follow(every=True)
    for value in (1, 2, 3):
        rig.publish(value)
        rig.clock.step(1.5)
    rig.feed.tick(assess=True)
    assert listener.statuses == [GOOD, GOOD, GOOD]
    rig.clock.step(3.0)
    rig.feed.tick(assess=True)
    assert listener.statuses[-1] == UNCERTAIN_LAST_USABLE


def test_what_was_old_when_it_was_published_is_told_as_old(rig: Rig) -> None:
    listener = rig.follow(every=True)
    rig.publish(1)
    rig.clock.step(3.0)
    rig.writer.publish(refreshed=False)
    rig.publish(2)
    rig.feed.tick(assess=True)
    assert listener.statuses == [GOOD, UNCERTAIN_LAST_USABLE, GOOD]


def test_before_the_first_batch_there_is_no_age(rig: Rig) -> None:
    rig.feed.start()
    rig.feed.tick(assess=True)
    assert rig.block.version == 0


class Failing:
    """An item that cannot compare what it is told."""

    wants_time = False

    def changed(self, value: object) -> None:
        raise TypeError(value)


class Told:
    """An item."""

    wants_time = False

    def __init__(self) -> None:
        self.values: list[object] = []

    def changed(self, value: object) -> None:
        self.values.append(value)


def test_a_follower_that_fails_stops_nobody_else(rig: Rig) -> None:
    told = Told()
    for watcher in (Failing(), told):
        rig.block.watch(1, watcher)
    rig.publish(1)
    with capture_logs() as logs:
        rig.feed.tick(assess=False)
    assert len(told.values) == 1
    assert [entry["event"] for entry in logs] == ["notify.failed"]
    assert rig.block.handed == 2


def test_a_tick_ends_although_somebody_writes_faster_than_it_takes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.publish(1)

    class Writing(Listener):
        def block_changed(self, block: LiveBlock, *, missed: bool) -> None:
            super().block_changed(block, missed=missed)
            rig.publish(len(self.seen) + 1)

    listener = Writing(every=True)
    rig.block.listeners[listener] = None
    rig.feed.tick(assess=False)
    assert listener.seen == [(1, False)]
    rig.publish(3, 4)
    monkeypatch.setattr("edge_opcua.opcua.tags.feed.TURN_ROWS", 2)
    assert rig.feed.tick(assess=False) >= 2
    assert len(listener.seen) == 2
    assert rig.feed.behind
