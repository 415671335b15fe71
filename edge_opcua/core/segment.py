"""A piece of the tag bus's memory: a memfd with blocks, and the directory of the whole bus as of its making.

Layout (version 3, native byte order, every part aligned to 64 bytes)::

    preamble   magic, layout version, length of the declaration, id of the bus, number of the segment
    declaration (JSON: the blocks, their eventfds, and which blocks of older segments are still there)
    per block: its rows as columns, read where they lie
    per block: head   [newest, beat_ns, epoch, writer_pid]           counters, uint64
               slot 0 … slot depth, each one batch image

What a segment declares never changes. A bus that gets other blocks gets another segment; the newest one that
is in force says what the bus is (:class:`edge_opcua.core.bus.Bus`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import mmap
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from edge_opcua.core.batch import BlockLayout, aligned
from edge_opcua.core.values import BlockSpec, Policy, TagSpecs
from edge_opcua.errors import BusError

MAGIC: Final = b"EDGEBUS\0"
LAYOUT_VERSION: Final = 3
PREAMBLE: Final = struct.Struct("=8sIIQQ")


class Segment:
    """A memfd with blocks.

    Args:
        fd: File descriptor of the memfd; the segment owns it.
        wake_fds: Its eventfds in the order in which they are declared, if they came under other numbers than
            those that are declared; the segment owns them.

    Attributes:
        fd: See above; -1 once it is closed.
        memory: All of it.
        bus_id: Id of the bus.
        number: Its number; later ones have higher numbers.
        layouts: Where the rows of its blocks lie, by name.
        offsets: Where its blocks begin, by name.
        kept: Which blocks of older segments are there as well, by number of the segment.

    Raises:
        BusError: It is not a segment of a tag bus, or one of another version.
    """

    def __init__(self, fd: int, *, wake_fds: Sequence[int] | None = None) -> None:
        self.fd = fd
        size = os.fstat(fd).st_size
        if size < PREAMBLE.size:
            raise BusError(f"descriptor {fd} holds {size} bytes: not a tag bus")
        self._map = mmap.mmap(fd, size)
        self.memory = memoryview(self._map)
        magic, version, declared_bytes, self.bus_id, self.number = PREAMBLE.unpack_from(self._map)
        if magic != MAGIC:
            raise BusError(f"descriptor {fd} is not a tag bus")
        if version != LAYOUT_VERSION:
            raise BusError(f"the tag bus has layout version {version}, this program speaks {LAYOUT_VERSION}")
        declared = json.loads(bytes(self.memory[PREAMBLE.size : PREAMBLE.size + declared_bytes]))
        self._wakes = _wakes(declared["wakes"], wake_fds)
        self.kept: Mapping[int, tuple[str, ...]] = MappingProxyType(
            {int(number): tuple(names) for number, names in declared["kept"].items()}
        )
        self.layouts: dict[str, BlockLayout] = {}
        self.offsets: dict[str, int] = {}
        self._rows: dict[str, memoryview] = {}
        self._place(declared["blocks"], aligned(PREAMBLE.size + declared_bytes), size)

    def _place(self, blocks: Sequence[Mapping[str, Any]], offset: int, size: int) -> None:
        specs = []
        for raw in blocks:
            end = offset + raw["rows_bytes"]
            if end > size:
                raise BusError(f"the tag bus holds {size} bytes, its blocks need more")
            rows = self._rows[raw["name"]] = self.memory[offset:end]
            specs.append(_spec_from_json(raw, TagSpecs.from_buffer(rows)))
            offset = aligned(end)
        for spec in specs:
            layout = self.layouts[spec.name] = BlockLayout(spec)
            self.offsets[spec.name] = offset
            offset += layout.block_bytes
        if offset > size:
            raise BusError(f"the tag bus holds {size} bytes, its blocks need {offset}")

    @classmethod
    def create(
        cls,
        specs: Sequence[BlockSpec],
        *,
        bus_id: int,
        number: int,
        kept: Mapping[int, Sequence[str]] | None = None,
    ) -> Segment:
        """Make a segment; nothing of it appears in a file system.

        Args:
            specs: Its blocks.
            bus_id: Id of the bus.
            number: Number of the segment.
            kept: Blocks of older segments that stay, by number of the segment.

        Raises:
            OSError: There is no memory or no descriptor left.
        """
        wakes = {
            spec.name: [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(spec.wakes)]
            for spec in specs
            if spec.wakes
        }
        rows = [spec.columns.to_bytes() for spec in specs]
        blocks = [_spec_to_json(spec, len(part)) for spec, part in zip(specs, rows, strict=True)]
        declared = {"blocks": blocks, "wakes": wakes, "kept": kept or {}}
        declaration = json.dumps(declared).encode()
        preamble = PREAMBLE.pack(MAGIC, LAYOUT_VERSION, len(declaration), bus_id, number)
        head = b"".join(map(_padded, (preamble + declaration, *rows)))
        size = len(head) + sum(BlockLayout(spec).block_bytes for spec in specs)
        fd = os.memfd_create("edge_opcua.bus", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        with memoryview(head) as rest:
            at = 0
            while at < len(rest):  # one call writes 2 GB at most
                at += os.pwrite(fd, rest[at:], at)
        # Nobody can shorten the memory under the others: that would kill them with SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd)

    @property
    def fds(self) -> tuple[int, ...]:
        """The memfd and then the eventfds, in the order in which they are declared."""
        return (self.fd, *(fd for fds in self._wakes.values() for fd in fds))

    def wake_fds(self, block: str) -> tuple[int, ...]:
        """Return the eventfds of a block's deadline readers."""
        return self._wakes.get(block, ())

    def holds(self, spec: BlockSpec) -> bool:
        """Whether it has a block of this name with the same rows, kept in the same way."""
        layout = self.layouts.get(spec.name)
        if layout is None:
            return False
        own = layout.spec
        if (own.depth, own.wakes, own.policy) != (spec.depth, spec.wakes, spec.policy):
            return False
        return len(own.tags) == len(spec.tags) and bytes(self._rows[spec.name]) == spec.columns.to_bytes()

    def forget(self, blocks: Iterable[str]) -> None:
        """Give memory of blocks that nobody uses any more back to the system; they hold zeros then."""
        for name in blocks:
            start = -(-self.offsets[name] // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (self.offsets[name] + self.layouts[name].block_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if end > start:
                with contextlib.suppress(OSError):  # a kernel without it keeps the memory until the end
                    self._map.madvise(mmap.MADV_REMOVE, start, end - start)

    def close(self) -> None:
        """Close the descriptors; the memory goes with the last process that maps it."""
        for fd in self.fds if self.fd >= 0 else ():
            os.close(fd)
        self._wakes = {}
        self.fd = -1


def _wakes(declared: Mapping[str, Sequence[int]], given: Sequence[int] | None) -> dict[str, tuple[int, ...]]:
    if given is None:
        return {name: tuple(fds) for name, fds in declared.items()}
    rest = iter(given)
    try:
        return {name: tuple(next(rest) for _ in fds) for name, fds in declared.items()}
    except RuntimeError as exc:  # what StopIteration becomes in a generator
        raise BusError("a segment came without its eventfds") from exc


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
