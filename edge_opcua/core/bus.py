"""The tag bus: blocks of columns in shared memory, one writer each, any number of readers.

Layout of the memfd (version 2, native byte order, every part aligned to 64 bytes)::

    preamble   magic, layout version, length of the declaration, id of this bus
    declaration (JSON: the blocks and the eventfd numbers)
    per block: its rows as columns, read where they lie
    per block: head   [newest, beat_ns, epoch, writer_pid]           counters, uint64
               slot 0 … slot depth, each one batch image

A batch image is its head followed by the columns. A writer fills a private image, copies
it into the slot and publishes ``newest`` last. A reader copies the slot and then verifies sequence and
CRC on its private copy: that is what makes it right without memory fences, on x86 and Arm alike, and
what catches a writer that was overtaken or killed in mid-copy.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

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
    aligned,
)
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.quality import effective, steady_until
from edge_opcua.core.values import (
    BlockSpec,
    Link,
    Policy,
    TagSpecs,
)
from edge_opcua.errors import BusError

_MAGIC: Final = b"EDGEBUS\0"
_LAYOUT_VERSION: Final = 2
_PREAMBLE: Final = struct.Struct("=8sIIQ")

# Counters of a block's head, as indices of a uint64 view.
_NEWEST, _BEAT, _EPOCH, _PID = range(4)


class BlockWriter:
    """The one writer of a block.

    ``batch`` is the staging image: its values stay from one publication to the next, so that a poll
    touches only what it read. A new writer starts from the last good batch of the former one.
    """

    def __init__(self, bus: Bus, layout: BlockLayout, offset: int) -> None:
        self._clock = bus.clock
        self._layout = layout
        self._memory = bus.memory
        self._head = bus.memory[offset : offset + BLOCK_HEAD_BYTES].cast("Q")
        self._slots_at = offset + BLOCK_HEAD_BYTES
        self._wakes = bus.wake_fds(layout.spec.name)
        self.batch = TagBatch(layout)
        last = BlockReader(bus, layout, offset).latest()
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

    def __init__(self, bus: Bus, layout: BlockLayout, offset: int) -> None:
        self._clock = bus.clock
        self._layout = layout
        self._memory = bus.memory
        self._head = bus.memory[offset : offset + BLOCK_HEAD_BYTES].cast("Q")
        self._slots_at = offset + BLOCK_HEAD_BYTES
        self._wakes = bus.wake_fds(layout.spec.name)
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
        fd: File descriptor of the memfd; the bus owns it.
        clock: Clock for stamps and ages.

    Attributes:
        id: Number of this bus; sequences count within one, so who stores a cursor stores the id with it.
    """

    id: int

    def __init__(self, fd: int, *, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < _PREAMBLE.size:
            raise BusError(f"descriptor {fd} holds {size} bytes: not a tag bus")
        self._map = mmap.mmap(fd, size)
        self.memory = memoryview(self._map)
        magic, version, declaration_bytes, self.id = _PREAMBLE.unpack_from(self._map)
        if magic != _MAGIC:
            raise BusError(f"descriptor {fd} is not a tag bus")
        if version != _LAYOUT_VERSION:
            raise BusError(f"the tag bus has layout version {version}, this program speaks {_LAYOUT_VERSION}")
        declared = json.loads(bytes(self.memory[_PREAMBLE.size : _PREAMBLE.size + declaration_bytes]))
        self._wake_fds: dict[str, tuple[int, ...]] = {
            name: tuple(fds) for name, fds in declared["wakes"].items()
        }
        self._layouts: dict[str, BlockLayout] = {}
        self._offsets: dict[str, int] = {}
        offset = aligned(_PREAMBLE.size + declaration_bytes)
        specs = []
        for raw in declared["blocks"]:
            end = offset + raw["rows_bytes"]
            if end > size:
                raise BusError(f"the tag bus holds {size} bytes, its blocks need more")
            specs.append(_spec_from_json(raw, TagSpecs.from_buffer(self.memory[offset:end])))
            offset = aligned(end)
        for spec in specs:
            layout = BlockLayout(spec)
            self._layouts[layout.spec.name] = layout
            self._offsets[layout.spec.name] = offset
            offset += layout.block_bytes
        if offset > size:
            raise BusError(f"the tag bus holds {size} bytes, its blocks need {offset}")
        self.blocks: Mapping[str, BlockSpec] = MappingProxyType(
            {name: layout.spec for name, layout in self._layouts.items()}
        )

    @classmethod
    def create(cls, specs: Sequence[BlockSpec], *, clock: Clock | None = None) -> Bus:
        """Make a bus that holds the given blocks; nothing of it appears in a file system.

        Raises:
            BusError: Two blocks have the same name.
            ValueError: Two rows of a block have the same name.
        """
        for spec in specs:
            spec.check_names()
        names = [spec.name for spec in specs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BusError(f"two blocks are called {twice[0]}")
        wakes = {
            spec.name: [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(spec.wakes)]
            for spec in specs
            if spec.wakes
        }
        rows = [spec.columns.to_bytes() for spec in specs]
        blocks = [_spec_to_json(spec, len(part)) for spec, part in zip(specs, rows, strict=True)]
        declaration = json.dumps({"blocks": blocks, "wakes": wakes}).encode()
        preamble = _PREAMBLE.pack(_MAGIC, _LAYOUT_VERSION, len(declaration), secrets.randbits(63))
        declared = b"".join(map(_padded, (preamble + declaration, *rows)))
        size = len(declared) + sum(memory_bytes(spec) for spec in specs)
        fd = os.memfd_create("edge_opcua.bus", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        with memoryview(declared) as rest:
            at = 0
            while at < len(rest):  # one call writes 2 GB at most
                at += os.pwrite(fd, rest[at:], at)
        # Nobody can shorten the memory under the others: that would kill them with SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, clock=clock)

    @classmethod
    def attach(cls, fd: int, *, clock: Clock | None = None) -> Bus:
        """Open a bus that another process made and passed on."""
        return cls(fd, clock=clock)

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """Descriptors a child must inherit under the same numbers."""
        return (self.fd, *(fd for fds in self._wake_fds.values() for fd in fds))

    def wake_fds(self, block: str) -> tuple[int, ...]:
        """Return the eventfds of a block's deadline readers."""
        return self._wake_fds.get(block, ())

    def layout(self, block: str) -> BlockLayout:
        """Return where the rows of a block lie; BusError if there is none of this name."""
        try:
            return self._layouts[block]
        except KeyError:
            raise BusError(f"the tag bus has no block {block}") from None

    def writer(self, block: str) -> BlockWriter:
        """Become the writer of a block, of which the caller is the only one; its epoch grows by one."""
        layout = self.layout(block)
        return BlockWriter(self, layout, self._offsets[block])

    def reader(self, block: str, *, from_newest: bool = True) -> BlockReader:
        """Return a new reader; its cursor stands at the newest batch, or at the oldest one kept."""
        layout = self.layout(block)
        reader = BlockReader(self, layout, self._offsets[block])
        newest = reader.newest
        reader.cursor = newest if from_newest else max(0, newest - layout.spec.depth)
        return reader

    def close(self) -> None:
        """Close the descriptors; the memory goes with the last process that maps it."""
        for fd in self.pass_fds:
            os.close(fd)
        self._wake_fds = {}
        self.fd = -1


def memory_bytes(spec: BlockSpec) -> int:
    """Return what a block takes of the bus: one batch image for each it keeps, and one to write into."""
    return BlockLayout(spec).block_bytes


def _spec_to_json(spec: BlockSpec, rows_bytes: int) -> dict[str, Any]:
    return {
        "name": spec.name,
        "depth": spec.depth,
        "wakes": spec.wakes,
        "policy": dataclasses.asdict(spec.policy),
        "rows_bytes": rows_bytes,
    }


def _spec_from_json(raw: Mapping[str, Any], tags: TagSpecs) -> BlockSpec:
    return BlockSpec(
        name=raw["name"],
        depth=raw["depth"],
        wakes=raw["wakes"],
        policy=Policy(**raw["policy"]),
        tags=tags,
    )


def _padded(part: bytes) -> bytes:
    return part + bytes(aligned(len(part)) - len(part))
