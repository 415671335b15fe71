"""The staging batch of a poll group: what was read goes in, what was not keeps its value and its age."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_opcua.core.batch import SCALARS, TagBatch
from edge_opcua.core.bus import BlockWriter
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_NO_COMMUNICATION,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Link,
    bad_rows,
)
from edge_opcua.drivers.decode import Decoder, Row
from edge_opcua.drivers.planner import Fragment, ReadPlan
from edge_opcua.drivers.wire import Fault, FaultKind, Stamped

Rows: TypeAlias = npt.NDArray[np.intp]
Faults: TypeAlias = Sequence[tuple[Fragment, Fault]]
Stamps: TypeAlias = Sequence[tuple[Fragment, Stamped]]

_UNCERTAIN: Final = np.uint32(0x40000000)
_BAD: Final = np.uint32(0x80000000)
_NEVER_READ: Final = (BAD_WAITING_FOR_INITIAL_DATA, BAD_NO_COMMUNICATION)
_OLD_ALREADY: Final = (
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
)


class Staging:
    """Values, statuses and times of the rows of one block between two publications.

    Args:
        rows: Rows in the order of the block.
        writer: Writer of the block.
        clock: Clock for ages.
        max_age_s: Age of each row at which it becomes Uncertain, seconds; empty: none has one of its own.
        mark: Status of every value that is not Bad, instead of its own; GOOD for none.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        writer: BlockWriter,
        clock: Clock,
        max_age_s: Sequence[float | None] = (),
        *,
        mark: int = GOOD,
    ) -> None:
        self._rows = tuple(rows)
        self._batch = writer.batch
        self._clock = clock
        self._mark = np.uint32(mark)
        policy = writer.batch.layout.spec.policy
        self._hold_ns = policy.hold_s * 1e9
        count = len(self._rows)
        own = np.array([math.inf if each is None else each for each in max_age_s or [None] * count])
        self._limit_ns = np.minimum(own, policy.stale_after_s) * 1e9
        self._ages = bool(np.isfinite(self._limit_ns).any())
        self._fresh_ns = np.zeros(count, np.int64)  # monotonic; when each row was read last
        self._lost_ns = np.zeros(count, np.int64)  # monotonic; since when its unit is lost, 0: it is not
        self._any_lost = False
        self._codes = np.zeros(count, np.uint32)  # what the source said of each row last
        self._bytes = bytearray()
        self._image: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)  # the same bytes
        self._read: slice | Rows = slice(0)
        self._decoder: Decoder | None = None
        self._before: TagBatch | None = None

    def adopt(self, plan: ReadPlan) -> None:
        """Get ready for the answers to a plan."""
        self._bytes = bytearray(plan.image_bytes)
        self._image = np.frombuffer(self._bytes, np.uint8)
        self._decoder = Decoder(self._rows, plan.image_at, self._batch.layout)
        at = np.array(plan.image_at, np.int64)
        self._read = slice(None) if (at >= 0).all() else np.flatnonzero(at >= 0)

    def put(self, at: int, wire: bytes) -> None:
        """Take the bytes of a fragment, at a byte of the image."""
        self._bytes[at : at + len(wire)] = wire

    def refuse(self, rows: Sequence[int]) -> None:
        """Say of rows that they cannot be read as they are configured."""
        self._batch.status[list(rows)] = BAD_CONFIGURATION_ERROR

    def store(self, faults: Faults, stamps: Stamps, source_ns: int, server_ns: int) -> None:
        """Decode what was put, and give the rows of faults the status they deserve.

        Args:
            faults: Fragments that the device refused or did not answer; their rows keep their values.
            stamps: Fragments whose source said how good they are.
            source_ns: Middle of the poll, ns UTC.
            server_ns: End of the poll, ns UTC.
        """
        assert self._decoder is not None
        batch = self._batch
        fresh = self._fresh_rows(faults) if faults else self._read
        if stamps:
            self._note_codes(stamps)
        status = self._decode(fresh if faults else None)
        source: int | npt.NDArray[np.int64] = source_ns
        if stamps:
            status, source = self._as_stamped(stamps, status, source_ns)
            source = source[fresh]
        if self._mark:
            status = np.where(bad_rows(status), status, self._mark)
        now_ns = self._clock.monotonic_ns()
        batch.status[fresh] = status[fresh]
        batch.source_ns[fresh] = source
        batch.server_ns[fresh] = server_ns
        self._fresh_ns[fresh] = now_ns
        if self._any_lost:
            self._lost_ns[fresh] = 0
            self._any_lost = bool(self._lost_ns.any())
        for fragment, fault in faults:
            self._fail(np.array(fragment.rows, np.intp), fault, now_ns)
        if self._any_lost:
            self._judge_lost(now_ns)

    def _fresh_rows(self, faults: Faults) -> Rows:
        fresh = np.zeros(len(self._rows), np.bool_)
        fresh[self._read] = True
        for fragment, _ in faults:
            fresh[list(fragment.rows)] = False
        return np.flatnonzero(fresh)

    def _decode(self, fresh: slice | Rows | None) -> npt.NDArray[np.uint32]:
        """Decode the image; rows that were not read keep what the batch holds of them."""
        assert self._decoder is not None
        if fresh is None:
            return self._decoder.decode(self._image, self._batch)
        if self._before is None:
            self._before = TagBatch(self._batch.layout)
        self._before.copy_from(self._batch)
        status = self._decoder.decode(self._image, self._batch)
        kept = np.ones(len(self._rows), np.bool_)
        kept[fresh] = False
        self._put_back(kept, self._before)
        return status

    def _put_back(self, kept: npt.NDArray[np.bool_], before: TagBatch) -> None:
        layout = self._batch.layout
        for scalar in layout.columns:
            members = kept[layout.rows_of(scalar)]
            if members.any():
                self._batch.column(scalar)[members] = before.column(scalar)[members]
        for row, at in layout.slots.items():
            if kept[row]:
                size = 8 + SCALARS[layout.kinds[row]].dtype.itemsize * int(layout.lengths[row])
                self._batch.view[at : at + size] = before.view[at : at + size]

    def _note_codes(self, stamps: Stamps) -> None:
        """Let a value pass its deadband if its source speaks of it in another way than before."""
        assert self._decoder is not None
        rows, codes, _ = _columns(stamps)
        self._decoder.forget(rows[self._codes[rows] != codes])
        self._codes[rows] = codes

    @staticmethod
    def _as_stamped(
        stamps: Stamps, own: npt.NDArray[np.uint32], source_ns: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return statuses and source times: the worse of what the source says and what the value shows."""
        rows, codes, times = _columns(stamps)
        shown = own[rows]
        says = (codes >= _BAD) | ((shown < _BAD) & ((codes >= _UNCERTAIN) | (shown == GOOD)))
        status = own.copy()
        status[rows] = np.where(says, codes, shown)
        source = np.full(own.size, source_ns, np.int64)
        source[rows] = np.where(times > 0, times, source_ns)
        return status, source

    def lose(self, rows: Sequence[int]) -> bool:
        """Note that the unit of some rows is lost; return whether any status is another now."""
        now_ns = self._clock.monotonic_ns()
        self._lose(np.array(rows, np.intp), now_ns)
        return self._judge_lost(now_ns)

    def _lose(self, rows: Rows, now_ns: int) -> None:
        self._lost_ns[rows[self._lost_ns[rows] == 0]] = now_ns
        self._any_lost = True

    def _fail(self, rows: Rows, fault: Fault, now_ns: int) -> None:
        status = self._batch.status
        if fault.kind is FaultKind.DEVICE:
            status[rows] = BAD_DEVICE_FAILURE
        elif fault.kind is FaultKind.BUSY:
            # A busy device says nothing about the value: the last one, if there ever was one.
            status[rows[~bad_rows(status[rows])]] = UNCERTAIN_LAST_USABLE
        elif fault.kind is FaultKind.ABSENT:
            self._lose(rows, now_ns)

    def age(self) -> bool:
        """Let rows grow old that were not read; return whether any status is another now."""
        if self._batch.link is not Link.UP:
            return False
        now_ns = self._clock.monotonic_ns()
        changed = self._any_lost and self._judge_lost(now_ns)
        if not self._ages or self._mark:  # what is made up stays marked as that
            return changed
        old = (now_ns - self._fresh_ns) > self._limit_ns
        if old.any():
            status = self._batch.status
            old &= (status < _BAD) & ~np.isin(status, _OLD_ALREADY)
            status[old] = UNCERTAIN_LAST_USABLE
            changed |= bool(old.any())
        return changed

    def _judge_lost(self, now_ns: int) -> bool:
        """Set the statuses of rows whose unit is lost (architecture §4); return whether any changed."""
        status = self._batch.status
        rows = np.flatnonzero(self._lost_ns)
        own = status[rows]
        never = np.isin(own, _NEVER_READ)
        kept = bad_rows(own) & ~never  # the more exact reason
        held = now_ns - self._lost_ns[rows] <= self._hold_ns
        substitute = self._batch.layout.has_substitute[rows]
        shown = np.where(substitute, np.uint32(UNCERTAIN_SUBSTITUTE), np.uint32(BAD_COMMUNICATION_ERROR))
        shown[held] = UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
        shown[never] = BAD_NO_COMMUNICATION
        shown[kept] = own[kept]
        changed = shown != own
        if not changed.any():
            return False
        status[rows] = shown
        self._substitute(rows[changed & (shown == UNCERTAIN_SUBSTITUTE)])
        return True

    def _substitute(self, rows: Rows) -> None:
        tags = self._batch.layout.spec.columns
        for row in rows.tolist():
            self._batch.set(row, tags[row].substitute)
        if self._decoder is not None:
            self._decoder.forget(rows)


def _columns(stamps: Stamps) -> tuple[Rows, npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Return rows, statuses and source times of stamped answers."""
    rows: list[int] = []
    codes: list[int] = []
    times: list[int] = []
    for fragment, stamped in stamps:
        count = len(fragment.rows)
        rows += fragment.rows
        codes += [stamped.status] * count
        times += [stamped.source_ns] * count
    return np.array(rows, np.intp), np.array(codes, np.uint32), np.array(times, np.int64)
