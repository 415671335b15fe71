"""What is delivered equals a slow, obvious model: queues, deadbands, modes and publishing in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.opcua.publishing import (
    DISABLED,
    REPORTING,
    SAMPLING,
    FakeReply,
    Plant,
    changes,
    data_value,
    deadband,
    decoded,
)

# Close together, so that deadbands matter.
NUMBERS = st.one_of(
    st.integers(-6, 6).map(lambda n: n * 0.3),
    st.integers(-6, 6).map(lambda n: n * 0.3),
    st.sampled_from([-0.0, math.nan, math.inf, -math.inf]),
)
STATUSES = st.sampled_from([0] * 8 + [0x40940000, int(ua.StatusCodes.BadNoCommunication)])
OVERFLOW = 0x480
Row = tuple[str, int]  # the value as text, so that NaN equals itself, and the status


@dataclass
class ModelItem:
    """One item, as Part 4 describes it."""

    size: int
    oldest: bool
    band: float
    mode: int = REPORTING
    last: tuple[float | None, int] | None = None
    queue: list[Row] = field(default_factory=list)

    def sample(self, value: float | None, status: int) -> None:
        if self.mode == DISABLED or not self.is_change(value, status):
            return
        self.last = (value, status)
        self.queue.append((str(value), status))
        if len(self.queue) <= self.size:
            return
        if self.size == 1:
            del self.queue[0]
        elif self.oldest:
            del self.queue[0]
            self.queue[0] = (self.queue[0][0], self.queue[0][1] | OVERFLOW)
        else:
            del self.queue[-2]
            self.queue[-1] = (self.queue[-1][0], self.queue[-1][1] | OVERFLOW)

    def is_change(self, value: float | None, status: int) -> bool:
        if self.last is None or self.last[1] != status:
            return True
        before = self.last[0]
        if before is None or value is None:
            return before is not value
        if math.isnan(before) or math.isnan(value):
            return math.isnan(before) != math.isnan(value)
        return before != value and abs(before - value) > self.band


class Publishing(RuleBasedStateMachine):
    """Three items of one subscription, and a client that asks when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.plant = Plant()
        self.number = self.plant.subscribe(interval_ms=100, keep_alive=10_000, lifetime=30_000)
        self.nodes = [self.plant.variable(f"v{i}") for i in range(3)]
        self.values: list[tuple[float | None, int]] = [(0.0, 0)] * 3
        self.items: list[ModelItem] = []
        self.ids: list[int] = []
        self.enabled, self.late, self.requests = True, False, 0
        self.expected: list[list[list[Row]]] = []  # per message and item
        self.replies: list[FakeReply] = []
        self.kept: dict[int, list[Any]] = {}

    @initialize(
        shapes=st.lists(
            st.tuples(st.integers(1, 4), st.booleans(), st.sampled_from([0.0, 0.5, 1.0])),
            min_size=3,
            max_size=3,
        )
    )
    def begin(self, shapes: list[tuple[int, bool, float]]) -> None:
        for i, (size, oldest, band) in enumerate(shapes):
            self.items.append(ModelItem(size, oldest, band))
            made = self.plant.monitor(
                self.number,
                self.nodes[i],
                handle=i,
                queue=size,
                discard_oldest=oldest,
                filter=deadband(band) if band else None,
            )
            self.ids.append(made.MonitoredItemId)
            self.items[i].sample(0.0, 0)
        self.ask()
        self.tick()

    @rule(i=st.integers(0, 2), samples=st.lists(st.tuples(NUMBERS, STATUSES), min_size=1, max_size=7))
    def write(self, i: int, samples: list[tuple[float, int]]) -> None:
        for value, status in samples:
            self._write(i, value, status)

    def _write(self, i: int, value: float, status: int) -> None:
        shown = None if status & 0x80000000 else value
        kind = ua.VariantType.Null if shown is None else ua.VariantType.Double
        self.plant.write(self.nodes[i], data_value(shown, kind, status=status))
        self.values[i] = (shown, status)
        self.items[i].sample(shown, status)

    @rule(i=st.integers(0, 2), mode=st.sampled_from([DISABLED, SAMPLING, REPORTING]))
    def set_mode(self, i: int, mode: int) -> None:
        self.plant.set_mode(self.number, mode, self.ids[i])
        one = self.items[i]
        was_off, one.mode = one.mode == DISABLED, mode
        if mode == DISABLED:
            one.queue.clear()
        elif was_off:
            one.last = None
            one.sample(*self.values[i])

    @rule(enabled=st.booleans())
    def set_publishing(self, *, enabled: bool) -> None:
        params = ua.SetPublishingModeParameters(enabled, [self.number])
        self.plant.service.set_publishing(self.plant.session, params)
        self.enabled = enabled

    @rule()
    def ask(self) -> None:
        if self.requests >= 5:
            return
        self.replies.append(self.plant.publish())
        self.requests += 1
        if self.late:
            self.late = False
            self.send()

    @rule(i=st.integers(0, 2), samples=st.lists(st.tuples(NUMBERS, STATUSES), min_size=1, max_size=7))
    def write_and_look(self, i: int, samples: list[tuple[float, int]]) -> None:
        for value, status in samples:
            self._write(i, value, status)
        self.ask()
        self.tick()

    @rule()
    def tick(self) -> None:
        self.plant.pass_ms(100)
        if self.late or not (self.enabled and self.has_something()):
            return
        if self.requests:
            self.send()
        else:
            self.late = True

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        if not self.kept:
            return
        sequence = data.draw(st.sampled_from(sorted(self.kept)))
        del self.kept[sequence]
        assert self.plant.found(self.number).acknowledge(sequence) == 0

    def has_something(self) -> bool:
        return any(one.mode == REPORTING and one.queue for one in self.items)

    def send(self) -> None:
        self.requests -= 1
        message: list[list[Row]] = [[], [], []]
        if self.enabled:
            for i, one in enumerate(self.items):
                if one.mode == REPORTING:
                    message[i], one.queue = one.queue, []
        self.expected.append(message)

    def teardown(self) -> None:
        """Whatever happened: in the end the client has everything."""
        if not self.items:
            return
        params = ua.SetPublishingModeParameters(True, [self.number])
        self.plant.service.set_publishing(self.plant.session, params)
        self.enabled = True
        self.ask()
        self.tick()
        self.the_client_has_what_the_model_says()

    @invariant()
    def the_client_has_what_the_model_says(self) -> None:
        done = [reply for reply in self.replies if not reply.open]
        self.replies = [reply for reply in self.replies if reply.open]
        for reply in done:
            got: list[list[Row]] = [[], [], []]
            for handle, value, status in reply.changes:
                got[handle].append((str(value), status))
            assert got == self.expected.pop(0)
            if reply.message.NotificationData:
                self.kept[reply.message.SequenceNumber] = reply.changes
            assert reply.result.AvailableSequenceNumbers == sorted(self.kept)
        assert not self.expected
        assert len(self.replies) == self.requests

    @invariant()
    def what_was_sent_can_be_had_again(self) -> None:
        for sequence, sent in self.kept.items():
            again = self.plant.found(self.number).republish(sequence)
            assert again is not None
            assert repr(changes(decoded(again))) == repr(sent)


TestPublishing = Publishing.TestCase
TestPublishing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
