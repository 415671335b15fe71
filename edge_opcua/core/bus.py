"""The tag bus: blocks of columns in shared memory, one writer each, any number of readers.

Its memory is a memfd, and one more for each change of what the bus holds
(:mod:`edge_opcua.core.segment`, which says how it is laid out). The segment in force names every block of the
bus and where it lies; blocks that do not change stay where they are, and so do their readers and writers.

A batch image is its head followed by the columns. A writer fills a private image, copies
it into the slot and publishes ``newest`` last. A reader copies the slot and then verifies sequence and
CRC on its private copy: that is what makes it right without memory fences, on x86 and Arm alike, and
what catches a writer that was overtaken or killed in mid-copy.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import (
    BLOCK_HEAD_BYTES,
    CRC,
    EPOCH,
    LINK,
    LINK_SINCE,
    REFRESHED,
    SEQUENCE,
    STAMP,
    BlockLayout,
    TagBatch,
)
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.quality import effective, steady_until
from edge_opcua.core.segment import Segment
from edge_opcua.core.values import BlockSpec, Link
from edge_opcua.errors import BusError

# Counters of a block's head, as indices of a uint64 view.
_NEWEST, _BEAT, _EPOCH, _PID = range(4)


class BlockWriter:
    """The one writer of a block.

    ``batch`` is the staging image: its values stay from one publication to the next, so that a poll
    touches only what it read. A new writer starts from the last good batch of the former one.
    """

    def __init__(self, segment: Segment, block: str, clock: Clock) -> None:
        layout, offset = segment.layouts[block], segment.offsets[block]
        self._clock = clock
        self._layout = layout
        self._memory = segment.memory
        self._head = segment.memory[offset : offset + BLOCK_HEAD_BYTES].cast("Q")
        self._slots_at = offset + BLOCK_HEAD_BYTES
        self._wakes = segment.wake_fds(block)
        self.batch = TagBatch(layout)
        last = BlockReader(segment, block, clock).latest()
        if last is not None:
            self.batch.copy_from(last)
        self._head[_EPOCH] += 1
        self._head[_PID] = os.getpid()
        self._batch_head = self.batch.head
        self._batch_head[EPOCH] = self._head[_EPOCH]
        self.beat()

    @property
    def sequence(self) -> int:
        """Sequence of the newest batch, 0 before the first."""
        return self._head[_NEWEST]

    def publish(self, *, link: Link = Link.UP, refreshed: bool = True) -> int:
        """Publish the staging batch and return its sequence.

        Args:
            link: State of the source behind the block.
            refreshed: Whether values were read just now; False repeats known ones, e.g. at a link loss.
        """
        now_ns = self._clock.monotonic_ns()
        head = self._batch_head
        sequence = self._head[_NEWEST] + 1
        head[SEQUENCE] = sequence
        head[STAMP] = now_ns
        if refreshed:
            head[REFRESHED] = now_ns
        if (head[LINK] == Link.UP) != (link is Link.UP) or not head[LINK_SINCE]:
            head[LINK_SINCE] = now_ns  # a lost link stays lost while it is tried again
        head[LINK] = link
        batch = self.batch
        head[CRC] = zlib.crc32(batch.checked)
        size = self._layout.image_bytes
        at = self._slots_at + (sequence % self._layout.slot_count) * size
        self._memory[at : at + size] = batch.view
        self._head[_BEAT] = now_ns
        self._head[_NEWEST] = sequence
        for fd in self._wakes:
            os.eventfd_write(fd, 1)
        return sequence

    def beat(self) -> None:
        """Say that the writer lives although it has nothing new."""
        self._head[_BEAT] = self._clock.monotonic_ns()


class BlockReader:
    """A reader with its own cursor: it sees every batch or counts what it lost.

    Attributes:
        cursor: Sequence of the last batch seen; may be set to go on where another reader stopped.
        lost: Batches overwritten before this reader came to them.
    """

    def __init__(self, segment: Segment, block: str, clock: Clock) -> None:
        layout, offset = segment.layouts[block], segment.offsets[block]
        self._clock = clock
        self._layout = layout
        self._memory = segment.memory
        self._head = segment.memory[offset : offset + BLOCK_HEAD_BYTES].cast("Q")
        self._slots_at = offset + BLOCK_HEAD_BYTES
        self._wakes = segment.wake_fds(block)
        self._batch = TagBatch(layout)
        self.spec = layout.spec
        self.cursor = 0
        self.lost = 0

    @property
    def newest(self) -> int:
        """Sequence of the newest published batch, 0 before the first."""
        return self._head[_NEWEST]

    @property
    def behind(self) -> bool:
        """Whether the bus holds more than this reader has seen."""
        return self._head[_NEWEST] > self.cursor

    @property
    def beat_ns(self) -> int:
        """Monotonic time at which the writer last showed that it lives, ns; 0 if there was none yet."""
        return self._head[_BEAT]

    @property
    def epoch(self) -> int:
        """Number of writers the block has had."""
        return self._head[_EPOCH]

    def wake_fd(self, index: int) -> int:
        """Return the eventfd of the deadline reader ``index``; written at every publication."""
        return self._wakes[index]

    def poll(self) -> Iterator[TagBatch]:
        """Yield every batch since the cursor; each is valid until the next step.

        A batch that does not verify although it was not overwritten ends the loop; it is tried again at
        the next poll (its bytes may not have arrived at this core yet). A reader never spins.
        """
        kept = self._layout.spec.depth
        while (newest := self._head[_NEWEST]) > self.cursor:
            wanted = self.cursor + 1
            oldest = newest - kept + 1
            if wanted < oldest:
                self.lost += oldest - wanted
                self.cursor = oldest - 1
            elif self._take(wanted):
                self.cursor = wanted
                yield self._batch
            elif self._head[_NEWEST] - wanted < kept:
                return

    def latest(self) -> TagBatch | None:
        """Return the newest batch that verifies, or None; the cursor stays. Valid until the next call."""
        newest = self._head[_NEWEST]
        for sequence in range(newest, max(0, newest - self._layout.spec.depth), -1):
            if self._take(sequence):
                return self._batch
        return None

    def effective(self, batch: TagBatch, *, at_ns: int | None = None) -> npt.NDArray[np.uint32]:
        """Return the effective status of each row (architecture §4), shape ``(n_tags,)``.

        Args:
            batch: A batch of this block.
            at_ns: Monotonic time of the question, ns; now if None.
        """
        return effective(
            batch,
            self._layout.spec.policy,
            beat_ns=max(self._head[_BEAT], batch.stamp_ns),
            now_ns=self._clock.monotonic_ns() if at_ns is None else at_ns,
        )

    def steady_until(self, batch: TagBatch) -> float:
        """Return the monotonic time until which :meth:`effective` says what it says now, ns.

        A new batch ends it before.
        """
        return steady_until(
            batch,
            self._layout.spec.policy,
            beat_ns=max(self._head[_BEAT], batch.stamp_ns),
            now_ns=self._clock.monotonic_ns(),
        )

    def _take(self, sequence: int) -> bool:
        size = self._layout.image_bytes
        at = self._slots_at + (sequence % self._layout.slot_count) * size
        batch = self._batch
        batch.view[:] = self._memory[at : at + size]
        head = batch.head
        return head[SEQUENCE] == sequence and head[CRC] == zlib.crc32(batch.checked)


class Bus:
    """The shared memory of one server; made by the supervisor, attached by its children.

    Args:
        segments: Its pieces; the one with the highest number is in force.
        clock: Clock for stamps and ages.

    Attributes:
        id: Number of this bus; sequences count within one, so who stores a cursor stores the id with it.
        blocks: Every block by name.
        homes: Number of the segment in which each block lies; another one is another block.
        front: The segment in force.

    Raises:
        BusError: A segment is missing.
    """

    blocks: Mapping[str, BlockSpec]
    homes: Mapping[str, int]
    front: Segment

    def __init__(self, segments: Sequence[Segment], *, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self._segments = {segment.number: segment for segment in segments}
        self.id = segments[0].bus_id
        self._last = max(self._segments)
        self.switch(self._segments[self._last])

    @classmethod
    def create(cls, specs: Sequence[BlockSpec], *, clock: Clock | None = None) -> Bus:
        """Make a bus that holds the given blocks; nothing of it appears in a file system.

        Raises:
            BusError: Two blocks have the same name.
            ValueError: Two rows of a block have the same name.
        """
        _check(specs)
        return cls([Segment.create(specs, bus_id=secrets.randbits(63), number=0)], clock=clock)

    @classmethod
    def attach(cls, *fds: int, clock: Clock | None = None) -> Bus:
        """Open a bus that another process made and passed on, all of its segments."""
        return cls([Segment(fd) for fd in fds], clock=clock)

    # --- being changed -------------------------------------------------------------------------------

    def kept(self, specs: Sequence[BlockSpec]) -> dict[str, int]:
        """Return which of these blocks are there already, with the same rows, and where."""
        found = {}
        for spec in specs:
            home = self.homes.get(spec.name)
            if home is not None and self._segments[home].holds(spec):
                found[spec.name] = home
        return found

    def extend(self, specs: Sequence[BlockSpec]) -> Segment:
        """Make the segment with which the bus will hold the given blocks and no others; not in force yet.

        Blocks that are there already, with the same rows, stay where they are.

        Raises:
            BusError: Two blocks have the same name.
            ValueError: Two rows of a block have the same name.
            OSError: There is no memory or no descriptor left.
        """
        _check(specs)
        homes = self.kept(specs)
        kept: dict[int, list[str]] = {}
        for name, home in homes.items():
            kept.setdefault(home, []).append(name)
        others = [spec for spec in specs if spec.name not in homes]
        self._last += 1
        return Segment.create(others, bus_id=self.id, number=self._last, kept=kept)

    def take(self, segment: Segment) -> None:
        """Know a segment that another process made, or that was made here; it is not in force yet."""
        if segment.bus_id != self.id:
            raise BusError("this segment is of another tag bus")
        self._segments[segment.number] = segment

    def switch(self, segment: Segment) -> None:
        """Let a segment be in force: from now on the bus holds what it says.

        Readers and writers of blocks that are no longer there work on, and nobody hears of them.

        Raises:
            BusError: A segment that it refers to is not here; all stays as it was.
        """
        homes = dict.fromkeys(segment.layouts, segment.number)
        for number, names in segment.kept.items():
            if number not in self._segments:
                raise BusError(f"segment {number} of the tag bus is missing")
            homes.update(dict.fromkeys(names, number))
        self._segments[segment.number] = segment
        self.front = segment
        self.homes = MappingProxyType(homes)
        self.blocks = MappingProxyType(
            {name: self._segments[number].layouts[name].spec for name, number in homes.items()}
        )

    def retire(self, *, free: bool = False) -> None:
        """Let go of all that is not in force.

        Args:
            free: Whether nobody else uses it either: then its memory goes back to the system at once.
        """
        used = {self.front.number, *self.homes.values()}
        for number in sorted(set(self._segments) - used):
            self._segments.pop(number).close()
        for number in used if free else ():
            segment = self._segments[number]
            segment.forget(name for name in segment.layouts if self.homes.get(name) != number)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments that are known, oldest first."""
        return tuple(self._segments[number] for number in sorted(self._segments))

    # --- being used ----------------------------------------------------------------------------------

    @property
    def fds(self) -> tuple[int, ...]:
        """Descriptors of the segments, for :meth:`attach` in a child that inherits :attr:`pass_fds`."""
        return tuple(segment.fd for segment in self.segments)

    @property
    def fd(self) -> int:
        """Descriptor of the only segment of a bus that was never changed."""
        return self.front.fd

    @property
    def memory(self) -> memoryview:
        """Memory of the segment in force."""
        return self.front.memory

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """Descriptors a child must inherit under the same numbers."""
        return tuple(fd for segment in self.segments for fd in segment.fds)

    def wake_fds(self, block: str) -> tuple[int, ...]:
        """Return the eventfds of a block's deadline readers."""
        home = self.homes.get(block)
        return () if home is None else self._segments[home].wake_fds(block)

    def layout(self, block: str) -> BlockLayout:
        """Return where the rows of a block lie; BusError if there is none of this name."""
        return self._home(block).layouts[block]

    def writer(self, block: str) -> BlockWriter:
        """Become the writer of a block, of which the caller is the only one; its epoch grows by one."""
        return BlockWriter(self._home(block), block, self.clock)

    def reader(self, block: str, *, from_newest: bool = True, home: int | None = None) -> BlockReader:
        """Return a new reader; its cursor stands at the newest batch, or at the oldest one kept.

        Args:
            block: Name of the block.
            from_newest: Where the cursor shall stand.
            home: Number of the segment, for a block that is no longer in force and not retired yet.

        Raises:
            BusError: There is no such block.
        """
        segment = self._home(block) if home is None else self._segments[home]
        reader = BlockReader(segment, block, self.clock)
        newest = reader.newest
        reader.cursor = newest if from_newest else max(0, newest - reader.spec.depth)
        return reader

    def close(self) -> None:
        """Close the descriptors; the memory goes with the last process that maps it."""
        for segment in self.segments:
            segment.close()

    def _home(self, block: str) -> Segment:
        try:
            return self._segments[self.homes[block]]
        except KeyError:
            raise BusError(f"the tag bus has no block {block}") from None


def memory_bytes(spec: BlockSpec) -> int:
    """Return what a block takes of the bus: one batch image for each it keeps, and one to write into."""
    return BlockLayout(spec).block_bytes


def _check(specs: Sequence[BlockSpec]) -> None:
    for spec in specs:
        spec.check_names()
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BusError(f"two blocks are called {twice[0]}")
