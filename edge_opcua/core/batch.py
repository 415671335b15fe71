"""One batch of a block: where its rows lie, and the columns over one buffer that its holder owns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import (
    BAD_WAITING_FOR_INITIAL_DATA,
    Array,
    BlockSpec,
    Link,
    Scalar,
    Value,
)

ALIGN_BYTES: Final = 64
BLOCK_HEAD_BYTES: Final = 64

# Head of a batch image, as indices of a uint64 view; the CRC covers everything behind it.
CRC, SEQUENCE, EPOCH, STAMP, REFRESHED, LINK, LINK_SINCE = range(7)
HEAD_BYTES: Final = 64
CRC_BYTES: Final = 8

# By number: asking the enumeration takes several times as long.
SCALARS: Final = (Scalar.BOOLEAN, *Scalar)


def aligned(size: int) -> int:
    """Return a size in bytes rounded up to where the next part may begin."""
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES


class BlockLayout:
    """Where each row of a block lies inside a batch image.

    Args:
        spec: The block's declaration.

    Attributes:
        kinds: Built-in type of each row.
        lengths: Capacity of each row, 0 for a scalar.
        columns: Offset and number of rows of each type's column.
        slots: Offset of each array and string, by row.
    """

    def __init__(self, spec: BlockSpec) -> None:
        self.spec = spec
        tags = spec.columns
        n = len(tags)
        offset = HEAD_BYTES
        self.status_at, offset = offset, offset + aligned(4 * n)
        self.source_at, offset = offset, offset + aligned(8 * n)
        self.server_at, offset = offset, offset + aligned(8 * n)
        self.kinds: npt.NDArray[np.uint8] = tags.types
        self.lengths = tags.lengths
        self._index: npt.NDArray[np.int32] = np.full(n, -1, np.int32)
        self.columns: dict[Scalar, tuple[int, int]] = {}
        for scalar in Scalar:
            members = self.rows_of(scalar)
            if not len(members):
                continue
            self._index[members] = np.arange(len(members))
            self.columns[scalar] = (offset, len(members))
            offset += aligned(scalar.dtype.itemsize * len(members))
        self.slots: dict[int, int] = {}
        for row in np.flatnonzero(self.lengths).tolist():
            self.slots[row] = offset
            offset += aligned(8 + SCALARS[self.kinds[row]].dtype.itemsize * int(self.lengths[row]))
        self.image_bytes = offset
        # One slot more than batches are kept: the one being written, or left half-written by a dead writer.
        self.slot_count = spec.depth + 1
        self.block_bytes = BLOCK_HEAD_BYTES + self.slot_count * self.image_bytes

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Row of each name; made when it is first asked for, since most readers of large blocks do not."""
        return MappingProxyType({name: row for row, name in enumerate(self.spec.columns.names)})

    @cached_property
    def has_substitute(self) -> npt.NDArray[np.bool_]:
        """Which rows have a substitute, shape ``(n_tags,)``."""
        return self.spec.columns.has_substitute

    def rows_of(self, scalar: Scalar) -> npt.NDArray[np.intp]:
        """Return the rows of a type's column, in the order of the column."""
        return np.flatnonzero((self.kinds == scalar) & (self.lengths == 0))

    def place(self, row: int) -> tuple[Scalar, int]:
        """Return type and index in its column of a scalar row; the index is -1 for arrays and strings."""
        return SCALARS[self.kinds[row]], int(self._index[row])

    def places_of(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int32]:
        """Return the indices of many rows in their columns, -1 for arrays and strings."""
        found: npt.NDArray[np.int32] = self._index[rows]
        return found


class TagBatch:
    """One batch of one block: columns over one contiguous buffer that belongs to its holder alone.

    Attributes:
        layout: Where the rows lie.
        status: StatusCode as the writer saw it, uint32, shape ``(n_tags,)``.
        source_ns: When the device said it, ns UTC, int64, shape ``(n_tags,)``.
        server_ns: When we took it, ns UTC, int64, shape ``(n_tags,)``.
        view: The whole image; ``head`` its counters, ``checked`` what the CRC covers.
    """

    def __init__(self, layout: BlockLayout) -> None:
        self.layout = layout
        n = len(layout.kinds)
        self.image = bytearray(layout.image_bytes)
        self.view = memoryview(self.image)
        self.head = self.view[:HEAD_BYTES].cast("Q")
        self.checked = self.view[CRC_BYTES:]
        self.status: npt.NDArray[np.uint32] = self._vector(layout.status_at, np.dtype(np.uint32), n)
        self.source_ns: npt.NDArray[np.int64] = self._vector(layout.source_at, np.dtype(np.int64), n)
        self.server_ns: npt.NDArray[np.int64] = self._vector(layout.server_at, np.dtype(np.int64), n)
        self._columns: dict[Scalar, Array] = {
            scalar: self._vector(at, scalar.dtype, count) for scalar, (at, count) in layout.columns.items()
        }
        self._lengths: dict[int, npt.NDArray[np.uint64]] = {}
        self._arrays: dict[int, Array] = {}
        for row, at in layout.slots.items():
            dtype, length = SCALARS[layout.kinds[row]].dtype, int(layout.lengths[row])
            self._lengths[row] = self._vector(at, np.dtype(np.uint64), 1)
            self._arrays[row] = self._vector(at + 8, dtype, length)
        self.status[:] = BAD_WAITING_FOR_INITIAL_DATA

    def _vector(self, offset: int, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.image, dtype, count, offset)

    @property
    def sequence(self) -> int:
        """Number of this batch in its block, from 1."""
        return self.head[SEQUENCE]

    @property
    def epoch(self) -> int:
        """Number of the writer, from 1; grows when a block gets a new writer."""
        return self.head[EPOCH]

    @property
    def stamp_ns(self) -> int:
        """Monotonic time of publication, ns."""
        return self.head[STAMP]

    @property
    def refreshed_ns(self) -> int:
        """Monotonic time of the last batch that held fresh values, ns; 0 if there was none."""
        return self.head[REFRESHED]

    @property
    def link(self) -> Link:
        """State of the source behind the block at publication."""
        return Link(self.head[LINK])

    @property
    def link_since_ns(self) -> int:
        """Monotonic time at which the link last came up or was last lost, ns."""
        return self.head[LINK_SINCE]

    def row(self, name: str) -> int:
        """Return the row of a tag; KeyError if the block has none of this name."""
        return self.layout.rows[name]

    def place(self, row: int) -> tuple[Scalar, int]:
        """Return type and index in its column of a scalar row; the index is -1 for arrays and strings."""
        return self.layout.place(row)

    def column(self, scalar: Scalar) -> Array:
        """Return the scalar rows of one type, shape ``(k,)``, in row order; empty if there are none."""
        found = self._columns.get(scalar)
        return found if found is not None else np.empty(0, scalar.dtype)

    def array(self, row: int) -> Array:
        """Return a view of the elements an array row holds now, shape ``(length,)``."""
        return self._arrays[row][: int(self._lengths[row][0])]

    def set_array(self, row: int, elements: npt.ArrayLike) -> None:
        """Store up to the capacity of elements in an array row; ValueError if there are more."""
        target = self._arrays[row]
        # A list is read in the row's own type: numpy's guess for large 64-bit integers is a float.
        source = elements if isinstance(elements, np.ndarray) else np.asarray(elements, target.dtype)
        if source.ndim != 1 or source.size > target.size:
            tag = self.layout.spec.tags[row]
            raise ValueError(f"{tag.name}: shape {source.shape} does not fit a capacity of {tag.length}")
        target[: source.size] = source
        self._lengths[row][0] = source.size

    def text(self, row: int) -> str:
        """Return the text of a STRING row; bytes cut in mid-character become U+FFFD."""
        return self.array(row).tobytes().decode("utf-8", "replace")

    def set_text(self, row: int, text: str) -> None:
        """Store a text in a STRING row, cut at a character border if it exceeds the capacity."""
        capacity = int(self.layout.lengths[row])
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > capacity:
            encoded = encoded[:capacity].decode("utf-8", "ignore").encode("utf-8")
        self.set_array(row, np.frombuffer(encoded, np.uint8))

    def value(self, row: int) -> Value:
        """Return the value of one row as a Python object (a copy for arrays), whatever its status."""
        scalar, place = self.layout.place(row)
        if place >= 0:
            value: bool | int | float = self._columns[scalar][place].item()
            return value
        if scalar is Scalar.STRING:
            return self.text(row)
        return self.array(row).copy()

    def set(self, row: int, value: Any) -> None:
        """Store one value; TypeError, ValueError or OverflowError if it does not fit the row's type."""
        scalar, place = self.layout.place(row)
        if place >= 0:
            self._columns[scalar][place] = value
        elif scalar is Scalar.STRING:
            self.set_text(row, value)
        else:
            self.set_array(row, value)

    def copy_from(self, other: TagBatch) -> None:
        """Take over the image of another batch of the same block."""
        self.view[:] = other.view

    def take_rows(self, other: TagBatch) -> int:
        """Take over the rows of a batch of another block that have the same name, type and capacity.

        Returns:
            How many there are.
        """
        mine, theirs = self.layout, other.layout
        there = theirs.rows
        pairs = [(row, there[name]) for name, row in mine.rows.items() if name in there]
        if not pairs:
            return 0
        rows, from_rows = np.array(pairs, np.intp).T
        same = (mine.kinds[rows] == theirs.kinds[from_rows]) & (
            mine.lengths[rows] == theirs.lengths[from_rows]
        )
        rows, from_rows = rows[same], from_rows[same]
        for name in ("status", "source_ns", "server_ns"):
            getattr(self, name)[rows] = getattr(other, name)[from_rows]
        self._take_values(other, rows, from_rows)
        return len(rows)

    def _take_values(
        self, other: TagBatch, rows: npt.NDArray[np.intp], from_rows: npt.NDArray[np.intp]
    ) -> None:
        places, from_places = self.layout.places_of(rows), other.layout.places_of(from_rows)
        for scalar, column in self._columns.items():
            chosen = (places >= 0) & (self.layout.kinds[rows] == scalar)
            column[places[chosen]] = other.column(scalar)[from_places[chosen]]
        for row, there in zip(rows[places < 0].tolist(), from_rows[places < 0].tolist(), strict=True):
            self.set_array(row, other.array(there))
