"""Items on tags are columns; what they send is what the slow, obvious model says, byte for byte."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_opcua.core.ticks import EPOCH_TICKS, LATEST
from edge_opcua.core.values import (
    BAD_DEVICE_FAILURE,
    BAD_NO_COMMUNICATION,
    BAD_USER_ACCESS_DENIED,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    LIMIT_HIGH,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Scalar,
)
from edge_opcua.opcua.services.subscription import recordlog, wire
from edge_opcua.opcua.services.subscription.deadband import changed
from edge_opcua.opcua.services.subscription.parameters import CreateParameters
from edge_opcua.opcua.services.subscription.queues import ValueQueue
from edge_opcua.opcua.services.subscription.tagitems import TagItem
from edge_opcua.opcua.values import SharedDataValue
from edge_opcua.security.roles import Role
from tests.opcua.publishing import DISABLED, REPORTING, deadband
from tests.opcua.publishing import item as request
from tests.opcua.tagplant import TagPlant, config, handle_of, parts

SCALARS = [each for each in Scalar if each is not Scalar.STRING]
TAGS = [
    *(config(each.name.lower(), each) for each in SCALARS),
    config("spare", Scalar.DOUBLE, substitute=-1.5, low=0.0, high=10.0),
    config("count", Scalar.INT64, substitute=7),
    config("secret", Scalar.FLOAT),
]
SECRET = len(TAGS) - 1
DENIED = SharedDataValue(StatusCode=ua.StatusCode(ua.UInt32(BAD_USER_ACCESS_DENIED)))
ADMIN, OBSERVER = frozenset({Role.SECURITY_ADMIN}), frozenset({Role.OBSERVER})
FLOATS = st.sampled_from([0.0, -0.0, 0.3, 0.6, 0.9, 1.5, math.nan, math.inf, -math.inf, 1.7e38, -1.7e38])
# Own status and the one that is shown.
STATUSES = st.sampled_from(
    [(GOOD, GOOD)] * 8
    + [
        (UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH),
        (BAD_DEVICE_FAILURE, BAD_DEVICE_FAILURE),
        (GOOD, UNCERTAIN_LAST_USABLE),
        (GOOD, UNCERTAIN_SUBSTITUTE),
        (UNCERTAIN_SUBSTITUTE, UNCERTAIN_SUBSTITUTE),
        (GOOD, BAD_NO_COMMUNICATION),
        (BAD_WAITING_FOR_INITIAL_DATA, BAD_WAITING_FOR_INITIAL_DATA),
    ]
)


def value_of(scalar: Scalar) -> st.SearchStrategy[Any]:
    if scalar is Scalar.BOOLEAN:
        return st.booleans()
    if scalar.dtype.kind == "f":
        return FLOATS
    if scalar is Scalar.DATETIME:  # whole microseconds from 1601 to 9999
        return st.sampled_from([0, 10, 20, EPOCH_TICKS, LATEST - 10])
    info = np.iinfo(scalar.dtype)  # type: ignore[type-var, unused-ignore]
    ends = [info.min, info.min + 1, info.max - 1, info.max]
    return st.one_of(st.integers(max(-3, int(info.min)), 3), st.sampled_from([int(each) for each in ends]))


FILTERS = st.one_of(
    st.none(),
    st.tuples(st.just(1), st.sampled_from([0.5, 1.0, 1.0, 2.5, 1e20])),
    st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0.0, 0.5, 1.0])),
)
SHAPES = st.fixed_dictionaries(
    {
        "queue": st.sampled_from([1, 1, 2, 3, 5]),
        "discard_oldest": st.booleans(),
        "filter": FILTERS,
        "sampling_ms": st.sampled_from([0.0, 0.0, 0.0, 50.0]),
    }
)
STAMPS = st.sampled_from(list(ua.TimestampsToReturn)[:4])


@dataclass
class ModelItem:
    """One item, as Part 4 describes it, with the pure functions for a single one."""

    row: int
    queue: ValueQueue[ua.DataValue]
    handle: int = 0
    trigger: int = 1
    band: float = 0.0
    slow: bool = False
    stamps: int = 2
    mode: int = REPORTING
    last: ua.DataValue | None = None
    gap: bool = False
    lost: int = 0

    @property
    def follows_the_block(self) -> bool:
        """Whether it takes over what changed in the block, and remembers nothing of its own."""
        return (self.trigger, self.band, self.slow) == (1, 0.0, False) and self.mode == REPORTING

    def look(self, value: ua.DataValue) -> None:
        if self.mode != DISABLED and changed(self.trigger, self.band, self.last, value):
            self.push(value)

    def push(self, value: ua.DataValue) -> None:
        self.last = value
        self.lost += self.queue.push(value)
        if self.gap:
            entries = list(self.queue)
            self.queue.clear()
            self.queue.restore([*entries[:-1], (entries[-1][0], True)])
            self.lost += 1
        self.gap = False

    def miss(self) -> None:
        if self.mode != DISABLED and self.queue.size > 1 and not self.slow:
            self.gap = True

    def shape(self, shape: dict[str, Any], stamps: int, handle: int) -> None:
        self.trigger, self.band = shape["filter"] or (1, 0.0)
        self.lost += self.queue.resize(shape["queue"], discard_oldest=shape["discard_oldest"])
        self.gap = self.gap and shape["queue"] > 1
        self.slow, self.stamps, self.handle = shape["sampling_ms"] > 10, stamps, handle

    def encoded(self, value: ua.DataValue, *, overflow: bool) -> bytes:
        return wire.notification(
            self.handle, value, overflow=overflow, source=self.stamps in (0, 2), server=self.stamps in (1, 2)
        )


class Columns(RuleBasedStateMachine):
    """Items on tags of all scalar types, made, changed and ended while batches come."""

    def __init__(self) -> None:
        super().__init__()
        self.plant = TagPlant(*TAGS)
        self.plant.session.roles = ADMIN
        self.number = self.plant.subscribe(interval_ms=1e6, keep_alive=10_000, lifetime=30_000)
        self.items: dict[int, ModelItem] = {}
        self.rows = list(range(len(TAGS)))
        self.handles = 0
        self.lost = 0

    @property
    def counts(self) -> int:
        return self.plant.found(self.number).counts.monitoring_queue_overflows

    def is_compared(self, number: int) -> bool:
        """Whether an item without a filter goes along with some that have one."""
        made = self.plant.found(self.number).items[number]
        return isinstance(made, TagItem) and made.group.key.compared

    def shown(self, row: int) -> ua.DataValue:
        denied = row == SECRET and self.plant.session.roles is OBSERVER
        return DENIED if denied else self.plant.block.data_value(row)

    def wanted(self, shape: dict[str, Any], row: int) -> dict[str, Any]:
        self.handles += 1
        given = dict(shape)
        if shape["filter"] is not None:
            trigger, band = shape["filter"]
            if row < len(SCALARS) and not SCALARS[row].is_number:
                shape["filter"] = trigger, band = trigger, 0.0
            kind = ua.DeadbandType.Absolute if band else ua.DeadbandType.None_
            given["filter"] = deadband(band, kind, trigger)
        return {"handle": self.handles, **given}

    @initialize(
        shapes=st.lists(SHAPES, min_size=3, max_size=6),
        rows=st.lists(st.one_of(st.integers(0, SECRET), st.just(SECRET)), min_size=1, max_size=3),
        stamps=STAMPS,
    )
    def begin(self, shapes: list[dict[str, Any]], rows: list[int], stamps: int) -> None:
        self.rows = rows  # few, so that much happens to each
        for i, shape in enumerate(shapes):
            self.add(rows[i % len(rows)], shape, stamps, REPORTING)

    @rule(
        row=st.integers(0, SECRET), shape=SHAPES, stamps=STAMPS, mode=st.sampled_from([REPORTING, DISABLED])
    )
    def add(self, row: int, shape: dict[str, Any], stamps: int, mode: int) -> None:
        if len(self.items) > 8:
            return
        row = self.rows[row % len(self.rows)]
        wanted = self.wanted(shape := dict(shape), row)
        made = self.plant.monitor(self.number, self.plant.nodes[row], mode=mode, timestamps=stamps, **wanted)
        assert made.StatusCode.is_good()
        assert made.RevisedQueueSize == shape["queue"]
        self.enter(made.MonitoredItemId, row, shape, stamps, mode, self.handles)

    def enter(
        self, number: int, row: int, shape: dict[str, Any], stamps: int, mode: int, handle: int
    ) -> None:
        item = self.items[number] = ModelItem(row, ValueQueue(1, discard_oldest=True))
        item.mode = mode
        item.shape(shape, stamps, handle)
        if mode == REPORTING:
            item.push(self.shown(row))

    @rule(shapes=st.lists(SHAPES, min_size=3, max_size=4), stamps=STAMPS)
    def add_at_once(self, shapes: list[dict[str, Any]], stamps: int) -> None:
        """Make items in one request: some without a filter go along with those that have one."""
        if len(self.items) > 8:
            return
        asked = []
        for i, given in enumerate(shapes):
            row = self.rows[i % len(self.rows)]
            wanted = self.wanted(shape := dict(given), row)
            asked.append((row, shape, wanted))
        requests = [request(self.plant.nodes[row], **wanted) for row, _, wanted in asked]
        params = CreateParameters(self.number, stamps, requests)
        made = self.plant.service.monitoring.create(self.plant.session, params).Results
        for (row, shape, wanted), result in zip(asked, made, strict=True):
            assert result.StatusCode.is_good()
            self.enter(result.MonitoredItemId, row, shape, stamps, REPORTING, wanted["handle"])

    @rule(data=st.data(), shape=SHAPES)
    def modify(self, data: st.DataObject, shape: dict[str, Any]) -> None:
        if not self.items:
            return
        number = data.draw(st.sampled_from(sorted(self.items)))
        item = self.items[number]
        wanted = self.wanted(shape := dict(shape), item.row)
        follows = item.follows_the_block and not self.is_compared(number)
        assert self.plant.modify(self.number, number, **wanted).StatusCode.is_good()
        if follows and item.last is not DENIED:
            # Part 4 §7.22.2: that a time changes counts from when it is asked for.
            item.last = self.plant.block.data_value(item.row)
        item.shape(shape, ua.TimestampsToReturn.Both, self.handles)

    @rule(data=st.data(), mode=st.sampled_from([REPORTING, DISABLED]))
    def set_mode(self, data: st.DataObject, mode: int) -> None:
        if not self.items:
            return
        number = data.draw(st.sampled_from(sorted(self.items)))
        self.plant.set_mode(self.number, mode, number)
        item = self.items[number]
        before, item.mode = item.mode, mode
        if mode == DISABLED:
            item.queue.clear()
            item.gap = False
        elif before == DISABLED:
            item.last = None
            item.push(self.shown(item.row))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if not self.items:
            return
        number = data.draw(st.sampled_from(sorted(self.items)))
        params = ua.DeleteMonitoredItemsParameters(self.number, [number])
        self.plant.service.monitoring.delete(self.plant.session, params)
        self.lost += self.items.pop(number).lost

    @rule(data=st.data(), missed=st.sampled_from([False, False, False, True]))
    def poll(self, data: st.DataObject, missed: bool) -> None:
        for _ in range(data.draw(st.integers(1, 4))):
            self._poll(data, missed=missed)

    @rule(data=st.data(), most=st.sampled_from([1, 2, 100]))
    def poll_and_publish(self, data: st.DataObject, most: int) -> None:
        self.poll(data, missed=False)
        self.publish(most, 10_000)

    def _poll(self, data: st.DataObject, *, missed: bool) -> None:
        plant, rows = self.plant, {item.row for item in self.items.values()}
        status = plant.block.status.copy() if plant.block.batch is not None else plant.batch.status.copy()
        for row in rows:
            if data.draw(st.integers(0, 2)):
                kind = Scalar(int(plant.block.kind[row]))
                plant.batch.set(row, data.draw(value_of(kind)))
                plant.batch.status[row], status[row] = data.draw(STATUSES)
        plant.stamp_s(data.draw(st.sampled_from([1.0, 1.000001, 2.0])))
        plant.batch.source_ns[0] = data.draw(st.sampled_from([0, 5_000]))
        plant.take(missed=missed, status=status)
        for item in self.items.values():
            if missed:
                item.miss()
            if not item.slow:
                item.look(self.shown(item.row))

    @rule(data=st.data())
    def reassess(self, data: st.DataObject) -> None:
        block = self.plant.block
        if block.batch is None:
            return
        status = block.batch.status.copy()
        status[:] = data.draw(st.sampled_from([UNCERTAIN_LAST_USABLE, UNCERTAIN_SUBSTITUTE, GOOD]))
        self.plant.clock.step(0.0001)
        if block.reassess(status):
            for item in self.items.values():
                if not item.slow:
                    item.look(self.shown(item.row))

    @rule()
    def sample(self) -> None:
        self.plant.pass_ms(50)
        for item in self.items.values():
            if item.slow:
                item.look(self.shown(item.row))

    @rule(data=st.data(), shrank=st.booleans())
    def other_user(self, data: st.DataObject, shrank: bool) -> None:
        session = self.plant.session
        session.roles = OBSERVER if session.roles is ADMIN else ADMIN
        if shrank:
            self.plant.service.rights_shrank(session)
            for item in self.items.values():
                if len(item.queue):
                    item.queue.clear()
                    item.gap = False
                    item.push(self.shown(item.row))
                item.gap = False
        self.poll(data, missed=False)

    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        self.poll(data, missed=False)
        for _ in self.plant.service._resend(self.plant.session, self.number):
            pass
        for item in self.items.values():
            if item.mode == REPORTING and not len(item.queue):
                item.push(self.shown(item.row))

    @rule(most=st.sampled_from([1, 2, 3, 100]), room=st.sampled_from([1, 60, 10_000]))
    def publish(self, most: int, room: int) -> None:
        """Whatever part of it comes: it is the oldest of each item, and as much as fits."""
        queued = sum(len(item.queue) for item in self.items.values())
        got = parts(self.plant.parcel(self.number, most=most, room=room))
        assert len(got) <= most
        assert len(got) == min(most, queued) or sum(map(len, got)) >= room
        by_handle = defaultdict(list)
        for part in got:
            by_handle[handle_of(part)].append(part)
        for item in self.items.values():
            for part in by_handle.pop(item.handle, ()):
                value, overflow = item.queue.pop()
                assert part == item.encoded(value, overflow=overflow)
        assert not by_handle

    def teardown(self) -> None:
        self.publish(100_000, 1 << 24)
        assert not self.plant.found(self.number).pending
        self.plant.service.delete(self.plant.session, ua.DeleteSubscriptionsParameters([self.number]))
        assert not self.plant.block.listeners
        assert not len(self.plant.service.sampling)
        assert self.plant.service.monitoring.count == 0
        assert self.plant.service.monitoring._places.taken == 0
        assert self.plant.service.monitoring._owned.taken == 0

    @invariant()
    def what_is_lost_is_counted(self) -> None:
        assert self.counts == self.lost + sum(item.lost for item in self.items.values())

    @invariant()
    def all_of_them_are_columns(self) -> None:
        found = self.plant.found(self.number)
        assert all(isinstance(item, TagItem) for item in found.items.values())
        assert sum(len(group) for group in found.groups.values()) == len(found.items)

    @invariant()
    def who_has_something_is_pending(self) -> None:
        found = self.plant.found(self.number)
        assert set(found.pending) == {group for group in found.groups.values() if group.reports()}


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs that are tidied and grow after a few values, not after a thousand."""
    monkeypatch.setattr(recordlog, "_LEAST", 2)
    monkeypatch.setattr(recordlog, "_MUCH", 4)
    monkeypatch.setattr(recordlog, "_GLANCE", 1)


TestColumns = Columns.TestCase
TestColumns.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
