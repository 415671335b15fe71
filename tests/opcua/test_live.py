"""A block of tags as clients see it: columns, statuses, what changed, and who is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from asyncua import ua

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import (
    BAD_DEVICE_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Scalar,
    TagSpec,
)
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.testing import ManualClock

SPEC = BlockSpec(
    "press.fast",
    (
        TagSpec("temp", Scalar.FLOAT),
        TagSpec("count", Scalar.UINT64),
        TagSpec("closed", Scalar.BOOLEAN, substitute=False),
        TagSpec("recipe", Scalar.STRING, 16),
        TagSpec("profile", Scalar.INT16, 3),
        TagSpec("speed", Scalar.DOUBLE, substitute=-1.5),
    ),
    4,
)
TEMP, COUNT, CLOSED, RECIPE, PROFILE, SPEED = range(6)


class Follower:
    """Remembers what it was told."""

    def __init__(self, *, every: bool = False, wants_time: bool = False) -> None:
        self.every = every
        self.wants_time = wants_time
        self.seen: list[Any] = []

    def block_changed(self, block: LiveBlock, *, missed: bool) -> None:
        self.seen.append((np.flatnonzero(block.changed).tolist(), missed))

    def changed(self, value: Any) -> None:
        self.seen.append(value.Value.Value)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def live(clock: ManualClock) -> LiveBlock:
    return LiveBlock(SPEC, clock)


@pytest.fixture
def batch(clock: ManualClock) -> TagBatch:
    made = TagBatch(BlockLayout(SPEC))
    made.status[:] = GOOD
    made.source_ns[:] = made.server_ns[:] = clock.utc_ns()
    made.set(COUNT, 2**64 - 1)
    made.set(RECIPE, "R7")
    made.set(PROFILE, [1, 2, 3])
    return made


def alone(live: LiveBlock, row: int) -> bytes:
    """A row's value as the general path notifies it, without the handle before it."""
    value = live.data_value(row)
    return wire.notification(0, value, overflow=False, source=True, server=True)[4:]


def take(live: LiveBlock, batch: TagBatch, **more: bool) -> list[int]:
    live.take(batch, batch.status.copy(), **more)
    return np.flatnonzero(live.changed).tolist()


def test_before_the_first_batch_everything_waits(live: LiveBlock) -> None:
    assert set(live.status.tolist()) == {BAD_WAITING_FOR_INITIAL_DATA}
    value = live.data_value(TEMP)
    assert value.StatusCode.value == BAD_WAITING_FOR_INITIAL_DATA
    assert value.SourceTimestamp is value.ServerTimestamp is None
    assert records.to_bytes(live.image()[:1]) == alone(live, TEMP)
    assert not live.reassess(live.status)


def test_the_image_is_what_each_value_is_alone(live: LiveBlock, batch: TagBatch) -> None:
    batch.status[SPEED] = BAD_DEVICE_FAILURE
    take(live, batch)
    for row in (TEMP, COUNT, CLOSED, SPEED):
        assert records.to_bytes(live.image()[row : row + 1]) == alone(live, row), row


def test_a_value_that_did_not_change_is_no_change_whatever_its_bits(live: LiveBlock, batch: TagBatch) -> None:
    assert take(live, batch) == [TEMP, COUNT, CLOSED, RECIPE, PROFILE, SPEED]
    assert take(live, batch) == []
    batch.set(TEMP, math.nan)
    assert take(live, batch) == [TEMP]
    batch.column(Scalar.FLOAT).view(np.uint32)[0] |= 1  # NaN with another payload
    batch.set(SPEED, -0.0)
    assert take(live, batch) == []
    batch.set(PROFILE, [1, 2])
    batch.set(RECIPE, "R8")
    batch.set(COUNT, 2**64 - 2)
    assert take(live, batch) == [COUNT, RECIPE, PROFILE]


def test_a_substitute_stands_where_the_status_says_so(live: LiveBlock, batch: TagBatch) -> None:
    batch.set(SPEED, 12.0)
    batch.set(CLOSED, True)
    take(live, batch)
    shown = np.full(len(SPEC.tags), UNCERTAIN_SUBSTITUTE, np.uint32)
    assert live.reassess(shown)
    assert live.changed.all()
    assert live.data_value(SPEED).Value.Value == -1.5
    assert live.data_value(CLOSED).Value.Value is False
    assert live.data_value(TEMP).Value.Value == 0.0  # it has none
    for row in (TEMP, COUNT, CLOSED, SPEED):
        assert records.to_bytes(live.image()[row : row + 1]) == alone(live, row), row


def test_a_change_of_status_has_the_time_at_which_it_was_noticed(
    live: LiveBlock, batch: TagBatch, clock: ManualClock
) -> None:
    take(live, batch)
    read = live.data_value(TEMP)
    clock.step(5.0)
    status = batch.status.copy()
    status[TEMP] = UNCERTAIN_LAST_USABLE
    live.reassess(status)
    aged = live.data_value(TEMP)
    assert aged.SourceTimestamp == read.SourceTimestamp
    assert (aged.ServerTimestamp - read.ServerTimestamp).total_seconds() == 5.0
    assert live.data_value(COUNT).ServerTimestamp == read.ServerTimestamp
    assert records.to_bytes(live.image()[:1]) == alone(live, TEMP)


def test_the_version_grows_with_what_is_shown_and_only_then(live: LiveBlock, batch: TagBatch) -> None:
    assert live.version == 0
    take(live, batch)
    assert live.version == 1
    live.reassess(live.status.copy())
    assert live.version == 1
    live.reassess(np.full(len(SPEC.tags), BAD_DEVICE_FAILURE, np.uint32))
    assert live.version == 2


def test_equal_values_have_equal_canonical_numbers(live: LiveBlock, batch: TagBatch) -> None:
    batch.set(TEMP, -0.0)
    take(live, batch)
    first = live.canonical().copy()
    batch.set(TEMP, 0.0)
    batch.status[SPEED] = BAD_DEVICE_FAILURE
    take(live, batch)
    second = live.canonical()
    assert first[TEMP] == second[TEMP]
    assert second[SPEED] == 0  # a Bad value is null, whatever lies behind it
    assert first[COUNT] == second[COUNT] == 2**64 - 1


def test_followers_of_columns_are_told_of_each_take(live: LiveBlock, batch: TagBatch) -> None:
    follower = Follower(every=True)
    assert not live.wants_every
    live.listeners[follower] = None
    assert live.wants_every
    take(live, batch)
    batch.set(TEMP, 5.0)
    take(live, batch, missed=True)
    del live.listeners[follower]
    take(live, batch)
    assert follower.seen == [(list(range(6)), False), ([TEMP], True)]


def test_followers_of_a_row_are_told_of_its_changes(live: LiveBlock, batch: TagBatch) -> None:
    changes, times = Follower(), Follower(wants_time=True)
    live.watch(RECIPE, changes)
    live.watch(RECIPE, times)
    take(live, batch)
    batch.set(TEMP, 5.0)
    take(live, batch)
    batch.set(RECIPE, "R8")
    take(live, batch)
    live.unwatch(RECIPE, changes)
    live.reassess(np.full(len(SPEC.tags), UNCERTAIN_LAST_USABLE, np.uint32))
    assert changes.seen == ["R7", "R8"]
    assert times.seen == ["R7", "R7", "R8", "R8"]
    assert ua.VariantType.String == live.data_value(RECIPE).Value.VariantType


class Broken(Follower):
    """Fails."""

    def block_changed(self, block: LiveBlock, *, missed: bool) -> None:
        raise ValueError("no memory for this client")


def test_what_goes_wrong_for_one_follower_stops_nobody_else(live: LiveBlock, batch: TagBatch) -> None:
    fine = Follower()
    live.listeners.update({Broken(): None, fine: None})
    take(live, batch)
    assert len(fine.seen) == 1


@pytest.mark.parametrize("server_ns", [-(10**18), -1, 0, 1, 10**18])
@pytest.mark.parametrize("noticed", [False, True])
def test_a_clock_that_is_wrong_is_shown_the_same_in_every_way(
    live: LiveBlock, batch: TagBatch, server_ns: int, *, noticed: bool
) -> None:
    # A clock that stands before 1970, or a server time before the source's: what the device says is shown.
    batch.server_ns[:] = server_ns
    take(live, batch)
    if noticed:
        status = live.status.copy()
        status[TEMP] = UNCERTAIN_LAST_USABLE
        live.reassess(status)
    for row in (TEMP, COUNT, SPEED):
        single = live.record(row)
        assert live.image()[row].tobytes() == single
        shown = live.data_value(row)
        told = wire.notification(1, shown, overflow=False, source=True, server=True)
        assert records.to_bytes(live.image()[row : row + 1]) == told[4:]


def test_batches_that_somebody_wanted_are_counted_when_they_are_lost(
    live: LiveBlock, batch: TagBatch
) -> None:
    newest, every = Follower(), Follower(every=True)
    live.listeners[newest] = None
    live.take(batch, batch.status.copy(), missed=True)
    assert live.gaps == 0
    live.listeners[every] = None
    live.take(batch, batch.status.copy(), missed=True)
    live.take(batch, batch.status.copy())
    assert live.gaps == 1
