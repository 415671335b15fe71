"""Checks that every item's values come in sequence, and counts what does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.bench.opcua.values import MODULUS, STEP
from edge_opcua.bench.opcua.wire import OVERFLOW, Columns
from edge_opcua.core.values import Scalar

_UNKNOWN: Final = -1
Marks = npt.NDArray[np.bool_] | None


@dataclass(slots=True)
class Counts:
    """What came.

    Attributes:
        values: Values.
        missing: Sequence numbers left out between two values of an item, as far as its type can tell.
        doubled: Values that repeat the one before.
        silent: Gaps behind which the value has no Overflow bit: a client could not know of them.
        overflow: Values with the Overflow bit.
        uncertain: Values with an Uncertain status.
        bad: Values with a Bad status, which carry no sequence.
        strangers: Handles or types that nobody asked for.
    """

    values: int = 0
    missing: int = 0
    doubled: int = 0
    silent: int = 0
    overflow: int = 0
    uncertain: int = 0
    bad: int = 0
    strangers: int = 0


@dataclass(frozen=True, slots=True)
class _Order:
    """Records grouped by handle, in the order in which they came.

    Args:
        rows: Row of each record in that order; None if every handle comes once.
        firsts: Places in that order where another handle begins.
        lasts: Places where it ends.
        handles: The handles, once each, in that order.
    """

    rows: npt.NDArray[np.intp] | None
    firsts: npt.NDArray[np.intp]
    lasts: npt.NDArray[np.intp]
    handles: npt.NDArray[np.uint32]


class SequenceCheck:
    """Follows the items of one client; the handle of an item is its number.

    Args:
        kinds: Type of each item.
    """

    def __init__(self, kinds: Sequence[Scalar]) -> None:
        count = len(kinds)
        self.counts = Counts()
        self._kinds = np.array([int(kind) for kind in kinds], np.uint8)
        self._modulus = np.array([MODULUS[kind] for kind in kinds], np.int64)
        self._offset = np.arange(count, dtype=np.int64) * STEP
        self._last = np.full(count, _UNKNOWN, np.int64)

    def take(self, columns: Columns) -> None:
        """Check the records of a message."""
        counts = self.counts
        handles = columns.handles
        if not len(handles):
            return
        counts.values += len(handles)
        if int(handles.max()) >= len(self._kinds):
            counts.strangers += int(np.count_nonzero(handles >= len(self._kinds)))
            return
        if columns.status.any():
            self._take_marked(columns)
            return
        counts.strangers += int(np.count_nonzero(self._kinds[handles] != columns.kinds))
        self._follow(columns, handles, numbers(columns))

    def reset(self) -> None:
        """Count from zero, and take each item from where it stands next."""
        self.counts = Counts()
        self._last[:] = _UNKNOWN

    def _take_marked(self, columns: Columns) -> None:
        """Check records of which some are not simply Good."""
        status = columns.status
        bad = status >= 0x80000000
        self.counts.bad += int(np.count_nonzero(bad))
        self.counts.uncertain += int(np.count_nonzero((status >= 0x40000000) & ~bad))
        self.counts.overflow += int(np.count_nonzero((status & OVERFLOW) == OVERFLOW))
        handles = columns.handles
        other = (self._kinds[handles] != columns.kinds) & ~bad
        self.counts.strangers += int(np.count_nonzero(other))
        good = np.flatnonzero(~bad)
        if len(good):
            marked = (status[good] & OVERFLOW) == OVERFLOW
            self._compare(handles[good], numbers(columns)[good], order_of(handles[good]), marked)

    def _follow(
        self, columns: Columns, handles: npt.NDArray[np.uint32], found: npt.NDArray[np.int64]
    ) -> None:
        plan = columns.plan
        if plan.handles is None or not np.array_equal(plan.handles, handles):
            plan.handles, plan.kept = handles, order_of(handles)
        self._compare(handles, found, plan.kept, None)

    def _compare(
        self, handles: npt.NDArray[np.uint32], found: npt.NDArray[np.int64], order: _Order, marked: Marks
    ) -> None:
        if order.rows is not None:
            handles, found = handles[order.rows], found[order.rows]
            marked = marked[order.rows] if marked is not None else None
        modulus = self._modulus[handles]
        found -= self._offset[handles]
        found %= modulus
        before = np.empty_like(found)
        before[1:] = found[:-1]
        before[order.firsts] = self._last[order.handles]
        known = before != _UNKNOWN
        step = (found - before) % modulus
        step[~known] = 1
        self._last[order.handles] = found[order.lasts]
        if not (step == 1).all():
            # A Boolean cannot tell two steps from none: what it repeats is counted by the others.
            tells = modulus > 2
            self.counts.doubled += int(np.count_nonzero((step == 0) & tells))
            gaps = (step > 1) & tells
            self.counts.missing += int((step[gaps] - 1).sum())
            self.counts.silent += int(np.count_nonzero(gaps if marked is None else gaps & ~marked))


def order_of(handles: npt.NDArray[np.uint32]) -> _Order:
    """Return the records grouped by handle."""
    rows: npt.NDArray[np.intp] | None = None
    ordered = handles
    rising = bool((handles[1:] > handles[:-1]).all())
    if not rising:
        narrow = handles.astype(np.uint16) if int(handles.max()) < 65536 else handles
        rows = np.argsort(narrow, kind="stable")
        ordered = handles[rows]
    begins = np.empty(len(ordered), np.bool_)
    begins[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:] - 1, len(ordered) - 1)
    return _Order(rows, firsts, lasts, ordered[firsts])


def numbers(columns: Columns) -> npt.NDArray[np.int64]:
    """Return the integers that the values stand for."""
    found = columns.bits.view(np.int64).copy()
    floats, doubles = columns.plan.floats, columns.plan.doubles
    if len(floats):
        found[floats] = columns.bits[floats].astype(np.uint32).view(np.float32).astype(np.int64)
    if len(doubles):
        found[doubles] = columns.bits[doubles].view(np.float64).astype(np.int64)
    return found
