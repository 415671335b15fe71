import gc
import json
import os
import select
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from edge_opcua.core.batch import TagBatch, aligned
from edge_opcua.core.bus import BlockReader, BlockWriter, Bus
from edge_opcua.core.table import Table
from edge_opcua.core.values import (
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    BlockSpec,
    Link,
    Policy,
    Scalar,
    TagSpec,
    TagSpecs,
)
from edge_opcua.errors import BusError
from edge_opcua.testing import ManualClock

NUMBER = BlockSpec("a.fast", (TagSpec("n", Scalar.UINT64), TagSpec("x", Scalar.DOUBLE)), depth=4)
_RANGES = {
    Scalar.SBYTE: (-(2**7), 2**7 - 1),
    Scalar.BYTE: (0, 2**8 - 1),
    Scalar.INT16: (-(2**15), 2**15 - 1),
    Scalar.UINT16: (0, 2**16 - 1),
    Scalar.INT32: (-(2**31), 2**31 - 1),
    Scalar.UINT32: (0, 2**32 - 1),
    Scalar.INT64: (-(2**63), 2**63 - 1),
    Scalar.UINT64: (0, 2**64 - 1),
    Scalar.DATETIME: (0, 2**63 - 1),
}


def _values(tag: TagSpec) -> st.SearchStrategy[Any]:
    if tag.type is Scalar.STRING:
        return st.text(max_size=tag.length)
    one: st.SearchStrategy[Any]
    if tag.type is Scalar.BOOLEAN:
        one = st.booleans()
    elif tag.type in _RANGES:
        one = st.integers(*_RANGES[tag.type])
    else:
        one = st.floats(width=32 if tag.type is Scalar.FLOAT else 64, allow_nan=False)
    return st.lists(one, max_size=tag.length) if tag.length else one


@st.composite
def _blocks(draw: st.DrawFn) -> tuple[BlockSpec, dict[str, Any]]:
    kinds = draw(st.lists(st.tuples(st.sampled_from(Scalar), st.integers(0, 5)), min_size=1, max_size=12))
    tags = tuple(
        TagSpec(f"t{i}", kind, max(length, 1) if kind is Scalar.STRING else length)
        for i, (kind, length) in enumerate(kinds)
    )
    return BlockSpec("b", tags, depth=2), {tag.name: draw(_values(tag)) for tag in tags}


def _cut(text: str, capacity: int) -> str:
    raw = text.encode("utf-8", "replace")
    while len(raw) > capacity:
        text = text[:-1]
        raw = text.encode("utf-8", "replace")
    return raw.decode()


@settings(max_examples=60)
@given(_blocks())
def test_every_type_comes_out_of_another_attachment_as_it_went_in(
    case: tuple[BlockSpec, dict[str, Any]],
) -> None:
    spec, values = case
    bus = Bus.create([spec])
    other = Bus.attach(os.dup(bus.fd))
    assert dict(other.blocks) == {"b": spec}
    writer, reader = bus.writer("b"), other.reader("b")
    for name, value in values.items():
        writer.batch.set(writer.batch.row(name), value)
    writer.publish()
    (batch,) = reader.poll()
    for tag in spec.tags:
        read: Any = batch.value(batch.row(tag.name))
        if tag.type is Scalar.STRING:
            assert read == _cut(values[tag.name], tag.length)
        elif tag.length:
            assert read.tolist() == np.array(values[tag.name], tag.type.dtype).tolist()
        else:
            assert (type(read), read) == (type(values[tag.name]), values[tag.name])
            scalar, place = batch.place(batch.row(tag.name))
            assert scalar is tag.type
            assert batch.column(scalar)[place] == values[tag.name]
    bus.close()
    other.close()


def make(*specs: BlockSpec, clock: ManualClock | None = None) -> Bus:
    return Bus.create(specs or (NUMBER,), clock=clock)


def publish(writer: BlockWriter, count: int = 1) -> None:
    for _ in range(count):
        writer.batch.set(0, writer.sequence + 1)
        writer.publish()


def numbers(reader: BlockReader) -> list[int]:
    return [int(batch.column(Scalar.UINT64)[0]) for batch in reader.poll()]


def test_a_reader_sees_every_batch_once() -> None:
    bus = make()
    writer, reader = bus.writer("a.fast"), bus.reader("a.fast")
    assert numbers(reader) == []
    publish(writer, 3)
    assert numbers(reader) == [1, 2, 3]
    assert numbers(reader) == []
    publish(writer)
    assert numbers(reader) == [4]
    assert reader.lost == 0
    bus.close()


def test_a_reader_that_falls_behind_counts_exactly_what_it_lost() -> None:
    bus = make()
    writer, reader = bus.writer("a.fast"), bus.reader("a.fast")
    publish(writer, 4)
    assert numbers(reader) == [1, 2, 3, 4]  # the ring keeps as many as declared
    publish(writer, 11)
    assert numbers(reader) == [12, 13, 14, 15]
    assert reader.lost == 7
    bus.close()


def test_a_new_reader_starts_at_the_newest_or_at_the_oldest_kept() -> None:
    bus = make()
    publish(bus.writer("a.fast"), 10)
    assert numbers(bus.reader("a.fast")) == []
    reader = bus.reader("a.fast", from_newest=False)
    assert numbers(reader) == [7, 8, 9, 10]
    assert reader.lost == 0
    reader.cursor = 8  # where another one stopped
    assert numbers(reader) == [9, 10]
    bus.close()


def test_latest_gives_the_newest_batch_and_leaves_the_cursor() -> None:
    bus = make()
    writer, reader = bus.writer("a.fast"), bus.reader("a.fast")
    assert reader.latest() is None
    publish(writer, 6)
    latest = reader.latest()
    assert latest is not None
    assert latest.sequence == reader.newest == 6
    assert numbers(reader) == [3, 4, 5, 6]
    bus.close()


def slot(bus: Bus, sequence: int, block: str = "a.fast") -> slice:
    layout = bus.layout(block)
    at = bus.front.offsets[block] + 64 + (sequence % layout.slot_count) * layout.image_bytes
    return slice(at, at + layout.image_bytes)


def spoil(bus: Bus, sequence: int) -> None:
    """Leave the slot as a writer does that was killed in the middle of copying into it."""
    at = slot(bus, sequence)
    half = (at.stop - at.start) // 2
    bus.memory[at.start : at.start + half] = os.urandom(half)


def test_a_slot_left_half_written_by_a_dead_writer_hurts_nobody() -> None:
    bus = make()
    writer, reader = bus.writer("a.fast"), bus.reader("a.fast")
    publish(writer, 7)
    spoil(bus, 8)  # where the eighth batch would go
    assert numbers(reader) == [4, 5, 6, 7]
    successor = bus.writer("a.fast")
    assert successor.batch.column(Scalar.UINT64)[0] == 7  # goes on from the last good batch
    publish(successor)
    (batch,) = reader.poll()
    assert (batch.sequence, batch.epoch, reader.epoch) == (8, 2, 2)
    assert reader.lost == 3
    bus.close()


def test_a_batch_that_does_not_verify_is_never_delivered_and_nobody_spins() -> None:
    bus = make()
    writer, reader = bus.writer("a.fast"), bus.reader("a.fast")
    publish(writer, 3)
    spoil(bus, 2)
    assert numbers(reader) == [1]
    assert numbers(reader) == []  # tried again at each poll, at once given up
    publish(writer, 3)
    assert numbers(reader) == [3, 4, 5, 6]  # overwritten meanwhile: counted
    assert reader.lost == 1
    spoil(bus, 6)
    latest = reader.latest()
    assert latest is not None
    assert latest.sequence == 5
    for sequence in range(3, 7):
        spoil(bus, sequence)
    assert reader.latest() is None
    bus.close()


class Overtaking(BlockReader):
    """A reader that is overtaken by the writer in the middle of its copy."""

    writer: BlockWriter
    times = 0

    def _take(self, sequence: int) -> bool:
        if self.times:
            self.times -= 1
            publish(self.writer, 3)
            return False
        return super()._take(sequence)


def test_a_reader_that_is_overtaken_while_it_copies_counts_and_goes_on() -> None:
    bus = make()
    writer = bus.writer("a.fast")
    reader = Overtaking(bus.front, "a.fast", bus.clock)
    reader.writer, reader.times = writer, 3
    publish(writer, 2)
    assert numbers(reader) == [8, 9, 10, 11]
    assert reader.lost == 7
    bus.close()


def test_the_staging_batch_keeps_its_values_and_its_times_say_what_happened() -> None:
    clock = ManualClock(monotonic_s=100)
    bus = make(clock=clock)
    writer, reader = bus.writer("a.fast"), bus.reader("a.fast")
    assert reader.beat_ns == 100_000_000_000
    writer.batch.set(1, 2.5)
    writer.publish()
    clock.step(1)
    writer.publish(link=Link.LOST, refreshed=False)
    clock.step(1)
    writer.publish(link=Link.FAILED, refreshed=False)
    clock.step(1)
    writer.publish()
    clock.step(1)
    writer.beat()
    seen = [
        (batch.value(1), batch.stamp_ns, batch.refreshed_ns, batch.link, batch.link_since_ns)
        for batch in reader.poll()
    ]
    second = 1_000_000_000
    assert seen == [
        (2.5, 100 * second, 100 * second, Link.UP, 100 * second),
        (2.5, 101 * second, 100 * second, Link.LOST, 101 * second),
        (2.5, 102 * second, 100 * second, Link.FAILED, 101 * second),  # lost since then, still
        (2.5, 103 * second, 103 * second, Link.UP, 103 * second),
    ]
    assert reader.beat_ns == 104 * second
    bus.close()


def test_the_effective_status_leaves_good_when_values_or_their_writer_grow_old() -> None:
    clock = ManualClock()
    policy = Policy(stale_after_s=0.5, hold_s=5, writer_lost_s=1.0)
    bus = make(BlockSpec("b", (TagSpec("x", Scalar.DOUBLE),), depth=4, policy=policy), clock=clock)
    writer, reader = bus.writer("b"), bus.reader("b")
    writer.batch.status[:] = GOOD
    writer.publish()
    batch = reader.latest()
    assert batch is not None
    assert reader.effective(batch).tolist() == [GOOD]
    clock.step(0.6)
    writer.beat()
    assert reader.effective(batch).tolist() == [UNCERTAIN_LAST_USABLE]
    clock.step(1.1)
    assert reader.effective(batch).tolist() == [UNCERTAIN_NO_COMMUNICATION_LAST_USABLE]
    bus.close()


def test_only_deadline_readers_are_woken_by_each_publication() -> None:
    bus = make(BlockSpec("b", NUMBER.tags, depth=4, wakes=2), NUMBER)
    writer, reader = bus.writer("b"), bus.reader("b")
    assert len(set(bus.pass_fds)) == 3
    publish(bus.writer("a.fast"))
    fds = [reader.wake_fd(0), reader.wake_fd(1)]
    assert select.select(fds, [], [], 0)[0] == []
    publish(writer, 3)
    assert select.select(fds, [], [], 0)[0] == fds
    assert os.eventfd_read(fds[0]) == 3
    assert bus.wake_fds("a.fast") == ()
    bus.close()


def test_rows_that_were_never_written_wait_for_their_first_value() -> None:
    bus = make()
    writer = bus.writer("a.fast")
    assert writer.batch.status.tolist() == [BAD_WAITING_FOR_INITIAL_DATA] * 2
    assert writer.batch.column(Scalar.INT16).size == 0
    bus.close()


@pytest.mark.parametrize(
    ("tag", "value", "error"),
    [
        (TagSpec("x", Scalar.INT16), 2**15, OverflowError),
        (TagSpec("x", Scalar.UINT32), -1, OverflowError),
        (TagSpec("x", Scalar.DOUBLE), "abc", ValueError),
        (TagSpec("x", Scalar.FLOAT, 3), [1.0] * 4, ValueError),
        (TagSpec("x", Scalar.FLOAT, 3), [[1.0]], ValueError),
        (TagSpec("x", Scalar.STRING, 3), 7, AttributeError),
        (TagSpec("x", Scalar.INT16, 3), [1, 2**15], OverflowError),
    ],
)
def test_a_value_that_does_not_fit_its_row_is_refused(
    tag: TagSpec, value: object, error: type[Exception]
) -> None:
    batch = TagBatch(make(BlockSpec("b", (tag,), depth=2)).layout("b"))
    with pytest.raises(error):
        batch.set(0, value)


def test_large_integers_stay_exact_in_arrays() -> None:
    batch = TagBatch(make(BlockSpec("b", (TagSpec("x", Scalar.UINT64, 2),), depth=2)).layout("b"))
    batch.set(0, [0, 2**63 + 1])
    assert batch.array(0).tolist() == [0, 2**63 + 1]


def test_an_array_shrinks_and_its_readers_get_a_copy() -> None:
    bus = make(BlockSpec("b", (TagSpec("x", Scalar.FLOAT, 8),), depth=2))
    writer, reader = bus.writer("b"), bus.reader("b")
    writer.batch.set(0, np.arange(8))
    writer.publish()
    batch = reader.latest()
    assert batch is not None
    kept = batch.value(0)
    writer.batch.set_array(0, np.arange(2))
    writer.publish()
    batch = reader.latest()
    assert batch is not None
    assert batch.array(0).tolist() == [0, 1]
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == list(range(8))
    bus.close()


def test_rows_that_are_columns_are_looked_at_when_a_bus_is_made() -> None:
    twice = TagSpecs(
        Table.of({"name": ["x", "x"], "type": [11, 11], "length": [0, 0], "substitute": [None] * 2}, 2)
    )
    with pytest.raises(ValueError, match="two rows have the same name"):
        make(BlockSpec("b", twice, depth=2))


def test_what_is_not_a_bus_is_refused() -> None:
    small, other, old, short, cut = (
        os.memfd_create(name) for name in ("small", "other", "old", "short", "cut")
    )
    os.write(small, b"x")
    os.write(other, b"x" * 4096)
    os.write(old, struct.pack("=8sIIQQ", b"EDGEBUS\0", 99, 0, 0, 0) + bytes(100))
    rows = TagSpecs.of([TagSpec("x", Scalar.DOUBLE)]).to_bytes()
    block = {"name": "b", "depth": 9, "wakes": 0, "policy": {}, "rows_bytes": len(rows)}
    declaration = json.dumps({"wakes": {}, "kept": {}, "blocks": [block]}).encode()
    head = struct.pack("=8sIIQQ", b"EDGEBUS\0", 3, len(declaration), 0, 0) + declaration
    head += bytes(aligned(len(head)) - len(head))
    os.write(short, head + rows + bytes(64))
    os.write(cut, head)
    for fd, reason in (
        (small, "1 bytes"),
        (other, "not a tag bus"),
        (old, "version 99"),
        (short, "its blocks need"),
        (cut, "its blocks need"),
    ):
        with pytest.raises(BusError, match=reason):
            Bus.attach(fd)
        os.close(fd)


def test_names_are_checked() -> None:
    with pytest.raises(BusError, match=r"a\.fast"):
        Bus.create([NUMBER, NUMBER])
    bus = make()
    with pytest.raises(BusError, match="no block b"):
        bus.reader("b")
    with pytest.raises(KeyError):
        bus.layout("a.fast").rows["nothing"]
    bus.close()


def test_a_bus_has_its_own_number_and_leaves_nothing_behind() -> None:
    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before, shared = descriptors(), sorted(path.name for path in Path("/dev/shm").iterdir())
    one, two = make(), make(BlockSpec("b", NUMBER.tags, depth=4, wakes=3))
    assert one.id != two.id
    assert Bus.attach(os.dup(one.fd)).id == one.id
    for bus in (one, two):
        publish(bus.writer(next(iter(bus.blocks))), 3)
        bus.close()
    del one, two, bus
    assert descriptors() <= before + 1  # the attachment was closed by nobody but went with its descriptor
    assert sorted(path.name for path in Path("/dev/shm").iterdir()) == shared


def test_nobody_can_shorten_the_memory_under_the_others() -> None:
    bus = make()
    with pytest.raises(PermissionError):
        os.ftruncate(bus.fd, 0)
    bus.close()


class BusModel(RuleBasedStateMachine):
    """Writers that publish, crash and are replaced; readers that come and poll when they like."""

    readers = Bundle("readers")

    @initialize(depth=st.integers(2, 6))
    def start(self, depth: int) -> None:
        self.depth = depth
        self.bus = make(BlockSpec("a.fast", NUMBER.tags, depth=depth))
        self.writer = self.bus.writer("a.fast")
        self.epochs: list[int] = []  # of each batch published
        self.writers = 1
        self.seen: dict[int, list[int]] = {}
        self.started: dict[int, int] = {}

    @rule(count=st.integers(1, 9))
    def publish(self, count: int) -> None:
        publish(self.writer, count)
        self.epochs += [self.writers] * count

    @rule(share=st.floats(0, 1))
    def crash_in_mid_write_and_replace(self, share: float) -> None:
        at = slot(self.bus, len(self.epochs) + 1)
        size = int(share * (at.stop - at.start))
        self.bus.memory[at.start : at.start + size] = os.urandom(size)
        self.writer = self.bus.writer("a.fast")
        self.writers += 1
        assert self.writer.batch.column(Scalar.UINT64)[0] == len(self.epochs)

    @rule(target=readers, from_newest=st.booleans())
    def attach(self, from_newest: bool) -> BlockReader:
        reader = self.bus.reader("a.fast", from_newest=from_newest)
        self.started[id(reader)] = reader.cursor
        self.seen[id(reader)] = []
        return reader

    @rule(reader=readers, at_most=st.integers(1, 8))
    def poll(self, reader: BlockReader, at_most: int) -> None:
        newest = len(self.epochs)
        for batch in reader.poll():
            number = int(batch.column(Scalar.UINT64)[0])
            assert batch.sequence == number
            assert batch.epoch == self.epochs[number - 1]
            self.seen[id(reader)].append(number)
            at_most -= 1
            if not at_most:
                return
        assert reader.cursor == newest

    @rule(reader=readers)
    def latest(self, reader: BlockReader) -> None:
        batch = reader.latest()
        assert (batch.sequence if batch is not None else 0) == len(self.epochs)

    @invariant()
    def what_was_not_delivered_was_counted(self) -> None:
        if not hasattr(self, "bus"):
            return
        for seen in self.seen.values():
            assert seen == sorted(set(seen))
        assert self.writer.sequence == len(self.epochs)

    @rule(reader=readers)
    def account(self, reader: BlockReader) -> None:
        seen = self.seen[id(reader)]
        assert self.started[id(reader)] + len(seen) + reader.lost == reader.cursor

    def teardown(self) -> None:
        if hasattr(self, "bus"):
            self.bus.close()


TestBusModel = BusModel.TestCase
TestBusModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
