"""A plan for one list of a Read: which rows of which blocks answer it, and what has to be read one by one.

Who polls sends the same bytes again and again. What they mean is worked out once; then an answer is a few
copies of columns, and if nothing has changed since the last one it is that one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.services.attribute import rows
from edge_opcua.opcua.services.attribute.encoding import data_value
from edge_opcua.opcua.services.attribute.lastanswer import LastAnswer
from edge_opcua.opcua.services.attribute.readlist import ReadList
from edge_opcua.opcua.services.attribute.rights import DENIED, Flags, Rights, Roles
from edge_opcua.opcua.services.attribute.rows import Raw, Rows
from edge_opcua.opcua.services.service import Caller
from edge_opcua.opcua.services.slices import SLICE
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import TagTable

ReadOne = Callable[[Caller, ua.ReadValueId, int], ua.DataValue]

_MASKS: Final = 16
VALUE: Final = int(ua.AttributeIds.Value)
NO_DIAGNOSTICS: Final = b"\x00\x00\x00\x00"
# About a millisecond of drawing images: so many rows, where each image costs as much as some rows more.
_SLICE_ROWS: Final = 40_000
_DRAWING: Final = 1000
# Sets of roles for which a plan knows what they may read.
_MOST_ROLES: Final = 4
# What a plan takes beside the bytes of its list: itself, each row with its last answer, each object.
PLAN_BYTES: Final = 2048
_ROW_BYTES: Final = 64
OTHER_BYTES: Final = 700


class Layout:
    """Where all tags lie, as columns by the number of the tag.

    Args:
        tags: The tags, all of them.

    Attributes:
        tags: The same.
        block: Index of the block.
        row: Row in it.
        kind: Built-in type.
        scalar: Whether it is a column there.
    """

    def __init__(self, tags: TagTable) -> None:
        self.tags = tags
        self.block, self.row = tags.places()
        blocks = tags.blocks
        first = np.cumsum([0, *(len(block.kind) for block in blocks[:-1])], dtype=np.intp)
        every = first[self.block] + self.row if blocks else np.zeros(0, np.intp)
        self.kind: npt.NDArray[np.uint8] = np.concatenate([np.zeros(0, np.uint8), *(b.kind for b in blocks)])[
            every
        ]
        self.scalar: Flags = np.concatenate([np.zeros(0, np.bool_), *(b.scalars for b in blocks)])[every]


class Plan:
    """How one list is answered, for anybody.

    Args:
        wanted: The list.
        timestamps: TimestampsToReturn, a valid one.
        layout: Where the tags lie.

    Attributes:
        cost: What it takes beside the bytes of the list, roughly.
    """

    def __init__(self, wanted: ReadList, timestamps: int, layout: Layout) -> None:
        self._timestamps = timestamps
        self._count = len(wanted)
        numbers = np.array(wanted.numbers, np.intp)
        columns = layout.scalar[numbers]
        if columns.all():
            self._others = wanted.others
        else:
            self._others = _with_tags(wanted, numbers, columns, layout.tags)
            numbers = numbers[columns]
        self._numbers = numbers.astype(np.uint32)
        self._kinds: Rows = layout.kind[numbers].astype(np.intp) * _MASKS
        self._blocks: list[LiveBlock] = []
        self._rows: list[Rows] = []
        self._order: Rows | None = None
        self._group(layout, numbers)
        self._bounds = [place - index for index, (place, _) in enumerate(self._others)]
        self._denied: dict[Roles, tuple[int, Flags | None]] = {}
        self._last = LastAnswer(self._blocks)
        self.cost = PLAN_BYTES + _ROW_BYTES * len(numbers) + OTHER_BYTES * len(self._others)

    def _group(self, layout: Layout, numbers: Rows) -> None:
        """Put the rows of each block together, and remember the way back."""
        block, row = layout.block[numbers], layout.row[numbers].astype(np.intp)
        if (block[1:] < block[:-1]).any():
            order = np.argsort(block, kind="stable")
            block, row = block[order], row[order]
            self._order = np.empty_like(order)
            self._order[order] = np.arange(len(order))
        starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]])) if len(block) else block
        self._blocks = [layout.tags.blocks[index] for index in block[starts].tolist()]
        self._rows = np.split(row, starts[1:]) if len(block) else []

    # --- answering -----------------------------------------------------------------------------------

    def last(self, caller: Caller, rights: Rights) -> bytes | None:
        """Return the last answer if it is that of now, too."""
        return None if self._others else self._last.get(caller.roles, rights)

    def answer(
        self, caller: Caller, rights: Rights, read_one: ReadOne, clock: Clock, most_bytes: int
    ) -> Generator[None, None, bytes]:
        """Return what follows the header of a ReadResponse; yields after about a millisecond of work.

        Args:
            caller: Who asks.
            rights: Who may read which tag.
            read_one: Reads what is no column.
            clock: For ServerTimestamps where there are none.
            most_bytes: Largest answer.

        Raises:
            ServiceError: BadResponseTooLarge.
        """
        roles, changes = caller.roles, rights.changes
        denied = yield from self._denied_to(roles, rights)
        raw, versions = yield from self._gathered()
        parts, timed = self._values(raw, denied, records.tick(clock.utc_ns()))
        if self._others:
            parts = yield from self._with_others(parts, caller, read_one, most_bytes)
        body = b"".join([self._count.to_bytes(4, "little"), *parts, NO_DIAGNOSTICS])
        if not timed and not self._others:
            self._last.put(body, roles, changes, versions)
        return body

    def _denied_to(self, roles: Roles, rights: Rights) -> Generator[None, None, Flags | None]:
        known = self._denied.get(roles)
        changes = rights.changes
        if known is None or known[0] != changes:
            if len(self._denied) >= _MOST_ROLES:
                self._denied.clear()
            known = self._denied[roles] = changes, (yield from rights.denied(roles, self._numbers))
        return known[1]

    def _gathered(self) -> Generator[None, None, tuple[Raw, list[int]]]:
        """Return all rows in the order of the list, and the versions of the blocks that they are of."""
        parts = [np.zeros((0, records.BODY.itemsize), np.uint8)]
        versions = []
        work = 0
        for block, chosen in zip(self._blocks, self._rows, strict=True):
            if not block.drawn:
                work += _DRAWING + len(block.kind)
                if work > _SLICE_ROWS:
                    work = 0
                    yield
            versions.append(block.version)
            parts.append(rows.gathered(block, chosen))
        raw = parts[1] if len(parts) == 2 else np.concatenate(parts)
        return (raw if self._order is None else raw.take(self._order, axis=0)), versions

    def _values(self, raw: Raw, denied: Flags | None, now: int) -> tuple[list[bytes], bool]:
        """Return what comes before, between and after the others, and whether the present time is there."""
        if not len(raw):
            return [b""] * (len(self._others) + 1), False
        values = raw.view(records.BODY)[:, 0]
        if denied is not None:
            rows.refuse(values, denied, DENIED)
        timed = rows.stamp(values, self._timestamps, now)
        body = records.cut(values, self._kinds + values["mask"])
        if not self._others:
            return [body], timed
        ends = np.concatenate([[0], np.cumsum(records.sizes(values))])
        bounds = [0, *ends[self._bounds].tolist(), len(body)]
        return [body[bounds[i] : bounds[i + 1]] for i in range(len(bounds) - 1)], timed

    def _with_others(
        self, between: list[bytes], caller: Caller, read_one: ReadOne, most_bytes: int
    ) -> Generator[None, None, list[bytes]]:
        parts = [between[0]]
        size = sum(map(len, between))
        for index, (_, item) in enumerate(self._others):
            if index and not index % SLICE:
                yield
            part = data_value(read_one(caller, item, self._timestamps))
            size += len(part)
            if size > most_bytes:
                raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
            parts += (part, between[index + 1])
        return parts


def _with_tags(
    wanted: ReadList, numbers: Rows, columns: Flags, tags: TagTable
) -> list[tuple[int, ua.ReadValueId]]:
    """Return what is no column: what was none before, and tags that are strings or arrays."""
    places: npt.NDArray[Any] = np.ones(len(wanted), np.bool_)
    places[[place for place, _ in wanted.others]] = False
    others = list(wanted.others)
    for place, number in zip(
        np.flatnonzero(places)[~columns].tolist(), numbers[~columns].tolist(), strict=True
    ):
        others.append((place, ua.ReadValueId(tags.node_id(number), VALUE)))
    others.sort(key=lambda other: other[0])
    return others
