"""What clients see of one block of tags: its newest batch with the effective status of each row, as columns.

Whoever needs bytes takes the image, which is made once for everybody and only if somebody asks. Strings and
arrays are no columns; their rows are read and notified one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import structlog

from edge_opcua.core.batch import SCALARS, TagBatch
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_WAITING_FOR_INITIAL_DATA,
    UNCERTAIN_SUBSTITUTE,
    Array,
    BlockSpec,
    Scalar,
    bad_rows,
)
from edge_opcua.opcua.tags import records
from edge_opcua.opcua.values import VARIANT_OF, SharedDataValue, data_value, shown_value

Flags = npt.NDArray[np.bool_]
_FLOATS: Final = (Scalar.FLOAT, Scalar.DOUBLE)
_WAITING: Final = data_value(None, VARIANT_OF[Scalar.BOOLEAN], BAD_WAITING_FOR_INITIAL_DATA, 0, 0)


_log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Who follows a block as columns.

    Attributes:
        every: Whether it wants each batch, not only the newest of those that came together.
    """

    every: bool

    def block_changed(self, block: LiveBlock, *, missed: bool) -> None:
        """Look at what is shown now; ``missed``: batches were lost since the last time."""
        ...


class Watcher(Protocol):
    """Who follows a single row, by whole values."""

    @property
    def wants_time(self) -> bool:
        """Whether a new source time alone is a change."""
        ...

    def changed(self, value: Any) -> None:
        """Take a new value."""
        ...


class LiveBlock:
    """One block as clients see it.

    Args:
        spec: The block's declaration.
        clock: For the time of a change of status.

    Attributes:
        version: Grows with every change of anything that is shown.
        batch: The newest batch; None before the first.
        scalars: Rows that are columns: neither strings nor arrays.
        kind: Built-in type of each row, uint8.
        status: Effective StatusCode of each row, uint32.
        listeners: Who follows it as columns.
        handed: Values that were handed to whoever follows it.
        gaps: How often batches were lost that somebody wanted.
    """

    def __init__(self, spec: BlockSpec, clock: Clock) -> None:
        self.spec = spec
        self.version = 0
        self.batch: TagBatch | None = None
        self.listeners: dict[Listener, None] = {}
        self.handed = self.gaps = 0
        self._clock = clock
        n = len(spec.tags)
        self.kind: npt.NDArray[np.uint8] = spec.columns.types
        self.scalars: Flags = spec.columns.lengths == 0
        self.status: npt.NDArray[np.uint32] = np.full(n, BAD_WAITING_FOR_INITIAL_DATA, np.uint32)
        # Whether all of it is Good, as it mostly is: then there is less to look at.
        self._all_good = False
        # Rows that changed, once somebody asked; and what was shown before, to work it out.
        self._changed: Flags | None = np.zeros(n, np.bool_)
        self._old_status = self.status
        self._old_bits: npt.NDArray[np.uint64] | None = None
        self._old_canonical: npt.NDArray[np.uint64] | None = None
        self._other_slots: list[int] = []
        # When the effective status of a row last changed without its being read, ns UTC.
        self._noticed_ns: npt.NDArray[np.int64] = np.zeros(n, np.int64)
        self._noticed = False
        # The columns side by side: where each one lies, where the value of each row does; one place for none.
        self._columns, self._place_of = _side_by_side(spec)
        self._beside = int(np.count_nonzero(self.scalars)) + 1
        self._viewed: TagBatch | None = None
        self._views: list[tuple[slice, Array]] = []
        self._bits: npt.NDArray[np.uint64] = np.zeros(self._beside, np.uint64)
        self._has_substitute, self._substitutes = _substitutes(spec)
        self._watchers: dict[int, dict[int, Watcher]] = {}
        self._canonical: npt.NDArray[np.uint64] = np.zeros(n, np.uint64)
        self._make_canonical: records.Canonical | None = None
        self._image: records.Records = np.zeros(n, records.BODY)
        self._image["kind"] = self.kind
        self._fields = {name: self._image[name] for name in records.BODY.names or ()}
        self._image_version = -1
        self._canonical_version = -1

    # --- being fed -----------------------------------------------------------------------------------

    @property
    def wants_every(self) -> bool:
        """Whether somebody wants each batch."""
        return any(listener.every for listener in self.listeners)

    def take(self, batch: TagBatch, status: npt.NDArray[np.uint32], *, missed: bool = False) -> None:
        """Show a new batch, and tell who follows.

        Args:
            batch: The batch; it is copied.
            status: Effective status of each row; it is kept.
            missed: Whether batches before it were lost.
        """
        self.gaps += missed and self.wants_every
        before, all_good = self.batch, not status.any()
        self._changed = self._old_canonical = self._old_bits = None
        self._old_status = self.status
        if before is None:
            self.batch = before = TagBatch(batch.layout)
        else:
            self._old_bits = self._bits
            self._other_slots = [
                row
                for row in before.layout.slots
                if before.array(row).tobytes() != batch.array(row).tobytes()
            ]
            if not (all_good or self._all_good) and _substituted(self.status) and _substituted(status):
                self._old_canonical = self.canonical()
        self._bits = self._bits_of(batch)
        before.copy_from(batch)
        self._note(status, all_good=all_good)
        self._tell(missed=missed, timed=True)

    def reassess(self, status: npt.NDArray[np.uint32]) -> bool:
        """Show another status of what is known; returns whether any row changed."""
        if self.batch is None:
            return False
        changed = status != self.status
        if not changed.any():
            return False
        self._changed = changed
        self._note(status, all_good=not status.any())
        self._tell(missed=False, timed=False)
        return True

    @property
    def changed(self) -> Flags:
        """Rows whose value or status is another than before the last take or reassessment."""
        if self._changed is None:
            self._changed = self._differing()
        return self._changed

    def _differing(self) -> Flags:
        """Work out what a batch changed."""
        differing = self._other_values()
        if not self._all_good:
            differing &= ~bad_rows(self.status)  # no value is shown
        if self._old_canonical is not None:  # what is shown may be another value than that of the batch
            np.not_equal(self._old_canonical, self.canonical(), out=differing, where=self.scalars)
        differing |= self.status != self._old_status
        return differing

    def _note(self, status: npt.NDArray[np.uint32], *, all_good: bool) -> None:
        assert self.batch is not None, "there is a batch by now"
        if not all_good:
            overlaid = (status != self.status) & (status != self.batch.status)
            if overlaid.any():
                self._noticed_ns[overlaid] = self._clock.utc_ns()
                self._noticed = True
        self.status = status
        self._all_good = all_good
        self.version += 1

    def _tell(self, *, missed: bool, timed: bool) -> None:
        for listener in tuple(self.listeners):
            self._tell_columns(listener, missed=missed)
        for row, watchers in tuple(self._watchers.items()):
            self._tell_watchers(row, tuple(watchers.values()), timed=timed)

    def _tell_columns(self, listener: Listener, *, missed: bool) -> None:
        """Tell one follower; what goes wrong for one client stops nobody else."""
        try:
            listener.block_changed(self, missed=missed)
        except Exception as exc:  # noqa: BLE001 - boundary: the feed serves all clients
            _log.error("notify.failed", block=self.spec.name, error=repr(exc), exc_info=exc)

    def _tell_watchers(self, row: int, watchers: tuple[Watcher, ...], *, timed: bool) -> None:
        changed = bool(self.changed[row])
        chosen = [each for each in watchers if changed or (timed and each.wants_time)]
        if chosen:
            value = self.data_value(row)
            for watcher in chosen:
                self._hand(watcher, value)

    def _hand(self, watcher: Watcher, value: SharedDataValue) -> None:
        """Tell one follower; what it makes of a value stops nobody else."""
        try:
            watcher.changed(value)
        except Exception as exc:  # noqa: BLE001 - boundary: an item compares whatever a value may be
            _log.error("notify.failed", error=repr(exc), exc_info=exc)
        self.handed += 1

    def _other_values(self) -> Flags:
        """Return the rows whose value is another one: NaN equals NaN, and zero has no sign."""
        old, now = self._old_bits, self._bits
        if old is None:
            return np.ones(len(self.status), np.bool_)
        beside: Flags = now != old
        for scalar in _FLOATS:
            place = self._columns.get(scalar)
            if place is not None and beside[place].any():
                before, after = records.narrowed(old[place], scalar), records.narrowed(now[place], scalar)
                beside[place] &= (before != after) & ((before == before) | (after == after))  # NaN != NaN
        differing: Flags = beside[self._place_of]
        if self._other_slots:
            differing[self._other_slots] = True
        return differing

    def _bits_of(self, batch: TagBatch) -> npt.NDArray[np.uint64]:
        """Return the bits of all columns, side by side."""
        if batch is not self._viewed:  # whoever reads the bus has one for all
            self._viewed = batch
            self._views = [
                (place, records.bits(batch.column(scalar))) for scalar, place in self._columns.items()
            ]
        beside = np.zeros(self._beside, np.uint64)
        for place, column in self._views:
            beside[place] = column
        return beside

    # --- as columns ----------------------------------------------------------------------------------

    @property
    def drawn(self) -> bool:
        """Whether :meth:`image` returns what is there already."""
        return self._image_version == self.version

    def image(self) -> records.Records:
        """Return every row as a :data:`~records.BODY`, shape ``(n,)``; rows that are no columns are void.

        It is valid until the next take or reassessment, and nobody writes to it.
        """
        if self._image_version != self.version:
            self._image_version = self.version
            self._draw(self._fields)
        return self._image

    def canonical(self) -> npt.NDArray[np.uint64]:
        """Return numbers of which two of a row are equal exactly if the values shown are; 0: there is none.

        Those of integers are in their order and as far apart; those of floats are a Double's bits.
        """
        if self._canonical_version != self.version:
            self._canonical_version = self.version
            if self._make_canonical is None:
                self._make_canonical = records.Canonical(self.kind)
            self._canonical = self._make_canonical.of(self.image()["value"])
            if not self._all_good:
                self._canonical[bad_rows(self.status)] = 0
        return self._canonical

    def _draw(self, image: Mapping[str, npt.NDArray[Any]]) -> None:
        batch = self.batch
        status = self.status
        image["status"][...] = status
        if batch is None:
            image["mask"][...] = records.STATUS
            return
        server_ns = np.maximum(batch.server_ns, self._noticed_ns) if self._noticed else batch.server_ns
        records.set_times(image, batch.source_ns, server_ns)
        if not self._all_good:
            image["mask"][bad_rows(status)] &= ~records.VALUE & 0xFF
        self._fill(image["value"], batch)

    def _fill(self, into: npt.NDArray[np.uint64], batch: TagBatch) -> None:
        """Write the bits of the values shown."""
        into[...] = self._bits[self._place_of]
        if self._all_good:
            return
        shown_as_substitute = (self.status == UNCERTAIN_SUBSTITUTE) & (batch.status != UNCERTAIN_SUBSTITUTE)
        if shown_as_substitute.any():
            chosen = np.flatnonzero(shown_as_substitute & self._has_substitute)
            into[chosen] = self._substitutes[chosen]

    # --- row by row ----------------------------------------------------------------------------------

    def data_value(self, row: int) -> SharedDataValue:
        """Return what a client reads for a row, of any type."""
        batch = self.batch
        if batch is None:
            return _WAITING
        status = int(self.status[row])
        value = None if status & 0x80000000 else shown_value(batch, row, status)
        server_ns = int(batch.server_ns[row])
        if self._noticed:
            server_ns = max(server_ns, int(self._noticed_ns[row]))
        kind = VARIANT_OF[SCALARS[self.kind[row]]]
        return data_value(value, kind, status, int(batch.source_ns[row]), server_ns)

    def record(self, row: int) -> bytes:
        """Return a row that is a column as one :data:`~records.BODY`, for who wants few of them."""
        batch, status = self.batch, self.status.item(row)
        if self._image_version == self.version or batch is None or status == UNCERTAIN_SUBSTITUTE:
            return bytes(self.image()[row].tobytes())
        server_ns = batch.server_ns.item(row)
        if self._noticed:
            server_ns = max(server_ns, self._noticed_ns.item(row))
        scalar, place = batch.place(row)
        value = batch.column(scalar)[place].tobytes()
        return records.record(int(scalar), value, status, batch.source_ns.item(row), server_ns)

    def watch(self, row: int, watcher: Watcher) -> None:
        """Tell somebody of each change of a row."""
        self._watchers.setdefault(row, {})[id(watcher)] = watcher

    def unwatch(self, row: int, watcher: Watcher) -> None:
        """Tell him no longer."""
        watchers = self._watchers.get(row, {})
        watchers.pop(id(watcher), None)
        if not watchers:
            self._watchers.pop(row, None)

    @property
    def is_watched(self) -> bool:
        """Whether anybody follows single rows."""
        return bool(self._watchers)

    def watchers(self) -> Iterator[Watcher]:
        """Return who follows single rows."""
        for watchers in self._watchers.values():
            yield from watchers.values()


def _substituted(status: npt.NDArray[np.uint32]) -> bool:
    return UNCERTAIN_SUBSTITUTE in status


def _side_by_side(spec: BlockSpec) -> tuple[dict[Scalar, slice], npt.NDArray[np.intp]]:
    """Return where each column lies among all, and where the value of each row does; none: at the end."""
    columns: dict[Scalar, slice] = {}
    scalars = spec.columns.lengths == 0
    place_of = np.full(len(spec.tags), np.count_nonzero(scalars), np.intp)
    end = 0
    for scalar in Scalar:
        rows = np.flatnonzero(scalars & (spec.columns.types == int(scalar)))
        if len(rows):
            columns[scalar] = slice(end, end + len(rows))
            place_of[rows] = np.arange(end, end + len(rows))
            end += len(rows)
    return columns, place_of


def _substitutes(spec: BlockSpec) -> tuple[Flags, npt.NDArray[np.uint64]]:
    """Return which rows that are columns have a substitute, and the bits of it."""
    n = len(spec.tags)
    has, bits = np.zeros(n, np.bool_), np.zeros(n, np.uint64)
    for row, given in enumerate(spec.columns.substitutes):
        if given is not None and not spec.columns.lengths[row]:
            scalar = SCALARS[spec.columns.types[row]]
            has[row] = True
            bits[row] = records.widened(np.array([given], scalar.dtype))[0]
    return has, bits
