"""A bus that gets other blocks while it is used: what stays is not touched, what goes is freed."""

import gc
import os
import select
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.bus import BlockReader, BlockWriter, Bus
from edge_opcua.core.segment import Segment
from edge_opcua.core.values import (
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    BlockSpec,
    Policy,
    Scalar,
    TagSpec,
)
from edge_opcua.errors import BusError

N = TagSpec("n", Scalar.UINT64)
A = BlockSpec("a", (N,), depth=4)
B = BlockSpec("b", (N, TagSpec("x", Scalar.DOUBLE)), depth=4)
OTHER_B = BlockSpec("b", (N, TagSpec("y", Scalar.DOUBLE)), depth=4)


def publish(writer: BlockWriter, value: int) -> None:
    writer.batch.set(0, value)
    writer.publish()


def seen(reader: BlockReader) -> list[int]:
    return [int(batch.column(Scalar.UINT64)[0]) for batch in reader.poll()]


def change(bus: Bus, *specs: BlockSpec) -> Segment:
    segment = bus.extend(specs)
    bus.switch(segment)
    return segment


def descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_block_that_stays_keeps_its_place_its_readers_and_its_writer() -> None:
    bus = Bus.create([A, B])
    writer, reader = bus.writer("a"), bus.reader("a")
    publish(writer, 1)
    change(bus, A, OTHER_B, BlockSpec("c", (N,), depth=2))
    publish(writer, 2)
    assert seen(reader) == [1, 2]
    assert (reader.epoch, reader.lost) == (1, 0)
    assert dict(bus.homes) == {"a": 0, "b": 1, "c": 1}
    assert seen(bus.reader("a", from_newest=False)) == [1, 2]
    bus.close()


def test_a_block_with_other_rows_is_another_block_and_the_old_one_lives_on_for_who_holds_it() -> None:
    bus = Bus.create([A, B])
    writer, reader = bus.writer("b"), bus.reader("b")
    publish(writer, 1)
    change(bus, A, OTHER_B)
    assert [tag.name for tag in bus.blocks["b"].tags] == ["n", "y"]
    assert bus.reader("b").newest == 0
    publish(writer, 2)
    assert seen(reader) == [1, 2]
    bus.close()


def test_depth_policy_and_deadline_readers_make_another_block_as_well() -> None:
    for other in (
        BlockSpec("a", (N,), depth=5),
        BlockSpec("a", (N,), depth=4, policy=Policy(hold_s=1)),
        BlockSpec("a", (N,), depth=4, wakes=1),
        BlockSpec("a", (TagSpec("n", Scalar.UINT64, substitute=3),), depth=4),
    ):
        bus = Bus.create([A])
        change(bus, other)
        assert bus.homes["a"] == 1
        bus.close()


def test_going_back_puts_the_old_blocks_in_force_with_all_they_held() -> None:
    bus = Bus.create([A, B])
    before = bus.front
    publish(bus.writer("b"), 7)
    change(bus, OTHER_B)
    with pytest.raises(BusError, match="no block a"):
        bus.reader("a")
    bus.switch(before)
    bus.retire()
    assert dict(bus.homes) == {"a": 0, "b": 0}
    assert seen(bus.reader("b", from_newest=False)) == [7]
    # The next attempt has a number of its own: who kept the failed segment cannot take it for this one.
    assert change(bus, A).number == 2
    bus.close()


def test_who_starts_later_gets_all_segments_and_the_newest_one_is_in_force() -> None:
    bus = Bus.create([A, B])
    publish(bus.writer("a"), 5)
    change(bus, A, OTHER_B)
    publish(bus.writer("b"), 6)
    late = Bus.attach(*map(os.dup, bus.fds))
    assert late.homes == bus.homes
    assert seen(late.reader("a", from_newest=False)) == [5]
    assert seen(late.reader("b", from_newest=False)) == [6]
    late.close()
    bus.close()


def test_a_running_process_takes_a_segment_with_its_eventfds_from_a_socket() -> None:
    bus = Bus.create([A])
    child = Bus.attach(os.dup(bus.fd))
    woken = BlockSpec("w", (N,), depth=4, wakes=2)
    segment = bus.extend([A, woken])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(ours, [b"x"], list(segment.fds))
        _, fds, _, _ = socket.recv_fds(theirs, 16, 16)
    received = Segment(fds[0], wake_fds=fds[1:])
    child.take(received)
    child.switch(received)
    bus.switch(segment)
    publish(bus.writer("w"), 3)
    reader = child.reader("w", from_newest=False)
    waiting = [reader.wake_fd(0), reader.wake_fd(1)]
    assert select.select(waiting, [], [], 0)[0] == waiting
    assert seen(reader) == [3]
    child.close()
    bus.close()


def test_a_segment_without_its_eventfds_or_of_another_bus_is_refused() -> None:
    bus, other = Bus.create([A]), Bus.create([A])
    segment = bus.extend([BlockSpec("w", (N,), depth=4, wakes=2)])
    with pytest.raises(BusError, match="without its eventfds"):
        Segment(segment.fd, wake_fds=[])
    with pytest.raises(BusError, match="another tag bus"):
        other.take(segment)
    third = bus.extend([A])
    with pytest.raises(BusError, match="segment 0 of the tag bus is missing"):
        Bus([segment, third])
    for each in (segment, third, bus, other):
        each.close()


def test_what_is_gone_is_freed_and_many_changes_leave_nothing() -> None:
    large = BlockSpec("large", tuple(TagSpec(f"x{i}", Scalar.DOUBLE) for i in range(1000)), depth=100)
    bus = Bus.create([A, large])
    writer = bus.writer("large")
    writer.batch.column(Scalar.DOUBLE)[:] = np.pi
    for _ in range(101):
        writer.publish()
    del writer
    taken = os.fstat(bus.fd).st_blocks
    change(bus, A)
    bus.retire(free=True)
    first = bus.segments[0]
    assert os.fstat(first.fd).st_blocks < taken / 20  # block a lies there still
    publish(bus.writer("a"), 1)
    before = descriptors()
    for number in range(30):
        change(bus, A, BlockSpec("more", (TagSpec(f"x{number}", Scalar.DOUBLE),), depth=4, wakes=2))
        bus.retire(free=True)
    change(bus, A)
    bus.retire(free=True)
    assert descriptors() == before
    assert len(bus.segments) == 2
    assert seen(bus.reader("a", from_newest=False)) == [1]
    bus.close()


KINDS = [(Scalar.UINT64, 0), (Scalar.DOUBLE, 0), (Scalar.BOOLEAN, 3), (Scalar.STRING, 3), (Scalar.UINT64, 3)]
ROWS = st.lists(
    st.builds(
        lambda name, kind: TagSpec(name, *kind),
        st.sampled_from([f"t{i}" for i in range(6)]),
        st.sampled_from(KINDS),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda tag: tag.name,
)


@given(ROWS, ROWS)
def test_rows_that_stay_are_taken_over_and_no_others(old: list[TagSpec], new: list[TagSpec]) -> None:
    before = TagBatch(BlockLayout(BlockSpec("b", tuple(old), 2)))
    after = TagBatch(BlockLayout(BlockSpec("b", tuple(new), 2)))
    for row, tag in enumerate(old):
        value = "ab" if tag.type is Scalar.STRING else [1, 0] if tag.length else 1
        before.set(row, value)
        before.status[row], before.source_ns[row], before.server_ns[row] = GOOD, 10 + row, 20 + row
    assert after.take_rows(before) == len(set(old) & set(new))
    for row, tag in enumerate(new):
        if tag not in old:
            assert after.status[row] == BAD_WAITING_FOR_INITIAL_DATA
            continue
        there = old.index(tag)
        assert str(after.value(row)) == str(before.value(there))
        assert (after.status[row], after.source_ns[row], after.server_ns[row]) == (
            GOOD,
            10 + there,
            20 + there,
        )


SPECS = st.lists(
    st.builds(
        lambda name, rows, depth: BlockSpec(
            name, tuple(TagSpec(f"t{i}", Scalar.UINT64) for i in range(rows)), depth
        ),
        st.sampled_from("abcd"),
        st.integers(1, 3),
        st.integers(2, 3),
    ),
    unique_by=lambda spec: spec.name,
)


@given(st.lists(SPECS, min_size=1, max_size=6))
def test_after_any_changes_the_bus_holds_what_was_asked_for_and_blocks_that_stayed_their_values(
    changes: list[list[BlockSpec]],
) -> None:
    bus = Bus.create([A])
    held = {"a": (A, 1)}
    publish(bus.writer("a"), 1)
    number = 1
    for specs in changes:
        change(bus, *specs)
        bus.retire(free=True)
        wanted = {spec.name: spec for spec in specs}
        assert dict(bus.blocks) == wanted
        held = {name: kept for name, kept in held.items() if wanted.get(name) == kept[0]}
        for name, (_, value) in held.items():
            assert seen(bus.reader(name, from_newest=False))[-1] == value
        for name, spec in wanted.items():
            number += 1
            publish(bus.writer(name), number)
            held[name] = (spec, number)
        late = Bus.attach(*map(os.dup, bus.fds))
        assert late.homes == bus.homes
        late.close()
    bus.close()
