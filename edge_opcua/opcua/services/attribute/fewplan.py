"""A plan for a list of few: value by value, since columns pay only from a dozen on."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.services.attribute import rows
from edge_opcua.opcua.services.attribute.encoding import data_value
from edge_opcua.opcua.services.attribute.lastanswer import LastAnswer
from edge_opcua.opcua.services.attribute.plans import (
    NO_DIAGNOSTICS,
    OTHER_BYTES,
    PLAN_BYTES,
    VALUE,
    ReadOne,
)
from edge_opcua.opcua.services.attribute.readlist import ReadList
from edge_opcua.opcua.services.attribute.rights import DENIED, Rights
from edge_opcua.opcua.services.service import Caller
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import TagTable

# As many are cheaper one by one than as columns.
FEW: Final = 12
_REFUSED: Final = rows.refused(DENIED)


class FewPlan:
    """How a list of few is answered, for anybody; see :class:`~.plans.Plan`.

    Args:
        wanted: The list.
        timestamps: TimestampsToReturn, a valid one.
        tags: The tags.
    """

    __slots__ = ("_items", "_keeps", "_last", "_timestamps", "cost")

    def __init__(self, wanted: ReadList, timestamps: int, tags: TagTable) -> None:
        self._timestamps = timestamps
        items: list[tuple[LiveBlock, int, int] | ua.ReadValueId] = []
        for number in wanted.numbers:
            block, row = tags.place(number)
            columned = block.scalars[row]
            items.append((block, row, number) if columned else ua.ReadValueId(tags.node_id(number), VALUE))
        for place, item in wanted.others:  # in ascending order
            items.insert(place, item)
        self._items = items
        blocks = [item[0] for item in items if isinstance(item, tuple)]
        self._keeps = len(blocks) == len(items)
        self._last = LastAnswer(dict.fromkeys(blocks))
        self.cost = PLAN_BYTES + OTHER_BYTES * len(items)

    def last(self, caller: Caller, rights: Rights) -> bytes | None:
        """Return the last answer if it is that of now, too."""
        return self._last.get(caller.roles, rights) if self._keeps else None

    def answer(
        self, caller: Caller, rights: Rights, read_one: ReadOne, clock: Clock, most_bytes: int
    ) -> Generator[None, None, bytes]:
        """See :meth:`~.plans.Plan.answer`."""
        yield from ()
        roles = caller.roles
        now = records.tick(clock.utc_ns())
        parts = [len(self._items).to_bytes(4, "little")]
        any_timed = False
        for item in self._items:
            if not isinstance(item, tuple):
                parts.append(data_value(read_one(caller, item, self._timestamps)))
            elif rights.may_read(roles, item[2]):
                value, timed = rows.one(item[0].record(item[1]), self._timestamps, now)
                any_timed |= timed
                parts.append(value)
            else:
                parts.append(_REFUSED)
        parts.append(NO_DIAGNOSTICS)
        body = b"".join(parts)
        if len(body) > most_bytes:
            raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
        if self._keeps and not any_timed:
            self._last.put(body, roles, rights)
        return body
