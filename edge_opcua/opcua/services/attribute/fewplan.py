"""A plan for a list of few: value by value, since columns pay only from a dozen on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
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
from edge_opcua.opcua.services.attribute.rights import DENIED, Rights, Roles
from edge_opcua.opcua.services.service import Caller
from edge_opcua.opcua.tags.live import LiveBlock
from edge_opcua.opcua.tags.table import TagTable

# As many are cheaper one by one than as columns.
FEW: Final = 12
# Block, row in it and number of a tag.
Row = tuple[LiveBlock, int, int]
_REFUSED: Final = rows.refused(DENIED)


class FewPlan:
    """How a list of few is answered, for anybody; see :class:`~.plans.Plan`.

    Args:
        wanted: The list.
        timestamps: TimestampsToReturn, a valid one.
        tags: The tags.
    """

    __slots__ = ("_keeps", "_last", "_others", "_rows", "_timestamps", "cost")

    def __init__(self, wanted: ReadList, timestamps: int, tags: TagTable) -> None:
        self._timestamps = timestamps
        places = [each for each in range(len(wanted)) if each not in {place for place, _ in wanted.others}]
        self._others = list(wanted.others)
        self._rows: list[Row] = []
        for place, number in zip(places, wanted.numbers, strict=True):
            block, row = tags.place(number)
            if block.scalars[row]:
                self._rows.append((block, row, number))
            else:
                self._others.append((place, ua.ReadValueId(tags.node_id(number), VALUE)))
        self._others.sort(key=lambda other: other[0])
        self._keeps = not self._others
        self._last = LastAnswer(dict.fromkeys(block for block, _, _ in self._rows))
        self.cost = PLAN_BYTES + OTHER_BYTES * len(wanted)

    def last(self, caller: Caller, rights: Rights) -> bytes | None:
        """Return the last answer if it is that of now, too."""
        return self._last.get(caller.roles, rights) if self._keeps else None

    def answer(
        self, caller: Caller, rights: Rights, read_one: ReadOne, clock: Clock, most_bytes: int
    ) -> Generator[None, None, bytes]:
        """See :meth:`~.plans.Plan.answer`."""
        yield from ()
        roles = caller.roles
        if self._keeps:
            body, timed = few_values(self._rows, roles, rights, self._timestamps, clock)
            if not timed:
                self._last.put(body, roles, rights.changes, self._last.versions())
        else:
            body = self._with_others(caller, rights, read_one, clock)
        if len(body) > most_bytes:
            raise ServiceError(ua.StatusCodes.BadResponseTooLarge)
        return body

    def _with_others(self, caller: Caller, rights: Rights, read_one: ReadOne, clock: Clock) -> bytes:
        values, _ = _few(self._rows, caller.roles, rights, self._timestamps, clock)
        for place, item in self._others:
            values.insert(place, data_value(read_one(caller, item, self._timestamps)))
        return _body(values)


def few_values(
    wanted: Sequence[Row], roles: Roles, rights: Rights, timestamps: int, clock: Clock
) -> tuple[bytes, bool]:
    """Return what follows the header of a ReadResponse, and whether the present time is in it.

    Args:
        wanted: Block, row and number of each tag; the rows are columns.
        roles: Who asks.
        rights: Who may read which tag.
        timestamps: TimestampsToReturn, a valid one.
        clock: For ServerTimestamps where there are none.
    """
    values, timed = _few(wanted, roles, rights, timestamps, clock)
    return _body(values), timed


def _few(
    wanted: Sequence[Row], roles: Roles, rights: Rights, timestamps: int, clock: Clock
) -> tuple[list[bytes], bool]:
    values = []
    any_timed = False
    for block, row, number in wanted:
        if rights.may_read(roles, number):
            value, timed = rows.one(block.record(row), timestamps, clock)
            any_timed |= timed
            values.append(value)
        else:
            values.append(_REFUSED)
    return values, any_timed


def _body(values: list[bytes]) -> bytes:
    return b"".join((len(values).to_bytes(4, "little"), *values, NO_DIAGNOSTICS))
