"""What nodes show of one block: made when somebody reads it, and when it changed and somebody watches it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from asyncua import ua

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import Array, Scalar
from edge_opcua.opcua.rows import Binding
from edge_opcua.opcua.slots import notify, watches_time
from edge_opcua.opcua.values import SharedDataValue, data_value, shown_value


@dataclass(slots=True)
class FeedCounts:
    """What the feed did since start.

    Attributes:
        results: Results handed out as events.
        lost: Results overwritten on the bus before they could be handed out.
        notified: Values handed to subscriptions, those of tags apart.
    """

    results: int = 0
    lost: int = 0
    notified: int = 0


class BlockView:
    """What clients see of one block: its newest batch with the effective status of each row.

    Args:
        reader: The block's reader.
        bindings: Rows that are shown.
        clock: For the time of a change of status.
    """

    def __init__(self, reader: BlockReader, bindings: Sequence[Binding], clock: Clock) -> None:
        self.reader = reader
        self.batch: TagBatch | None = None
        self._clock = clock
        self._bindings = tuple(bindings)
        n = len(reader.spec.tags)
        self.status: npt.NDArray[np.uint32] = np.zeros(n, np.uint32)
        # When the effective status of a row last changed without its being read, ns UTC.
        self._noticed_ns: npt.NDArray[np.int64] = np.zeros(n, np.int64)
        self._by_row: list[Binding | None] = [None] * n
        for binding in self._bindings:
            self._by_row[binding.row] = binding
            binding.slot.value_callback = partial(self._read, binding)
        self._bound: npt.NDArray[np.bool_] = np.array([each is not None for each in self._by_row], np.bool_)
        self._rows_of = _rows_of_columns(reader)
        self._steady_ns = -math.inf

    def shows(self, bindings: Sequence[Binding]) -> bool:
        """Whether these are the rows that it shows, and where."""
        return self._bindings is bindings

    @property
    def is_watched(self) -> bool:
        """Whether anybody is to be told of changes."""
        return any(binding.slot.datachange_callbacks for binding in self._bindings)

    def take(self, batch: TagBatch) -> Iterable[Binding]:
        """Show a new batch; returns the bindings whose value or status changed, if anybody watches one."""
        status = self.reader.effective(batch)
        before = self.batch
        changed: npt.NDArray[np.bool_] | None = self._bound
        if before is None:
            self.batch = before = TagBatch(batch.layout)
        else:
            other = self._differing(before, batch) | (status != self.status) if self.is_watched else None
            changed = other
        before.copy_from(batch)
        self._note(status)
        return () if changed is None else self._chosen(changed)

    def reassess(self) -> Iterable[Binding]:
        """Look at the age of what is shown; returns the bindings whose status changed."""
        if self.batch is None or self._clock.monotonic_ns() <= self._steady_ns:
            return ()
        status = self.reader.effective(self.batch)
        changed = status != self.status
        self._note(status)
        return self._chosen(changed) if changed.any() else ()

    def value_of(self, binding: Binding) -> SharedDataValue:
        """Return what a client reads for a binding; there is a batch."""
        batch = self.batch
        assert batch is not None, "only called after the first batch"
        row, status = binding.row, int(self.status[binding.row])
        value = None if status & 0x80000000 else shown_value(batch, row, status)
        if binding.convert is not None and value is not None:
            value = binding.convert(value)
        server_ns = max(int(batch.server_ns[row]), int(self._noticed_ns[row]))
        return data_value(value, binding.kind, status, int(batch.source_ns[row]), server_ns)

    def field(self, name: str) -> Any:
        """Return a row's value whatever its status, None before the first batch."""
        return None if self.batch is None else self.batch.value(self.batch.row(name))

    def timed(self) -> Iterable[Binding]:
        """Return the bindings that somebody watches for new source times, too."""
        return (binding for binding in self._bindings if watches_time(binding.slot))

    def _read(self, binding: Binding, node_id: ua.NodeId, attribute: ua.AttributeIds) -> ua.DataValue:  # noqa: ARG002 - asyncua's callback
        if self.batch is None:
            return binding.slot.value
        return self.value_of(binding)

    def _note(self, status: npt.NDArray[np.uint32]) -> None:
        assert self.batch is not None
        overlaid = (status != self.status) & (status != self.batch.status)
        if overlaid.any():
            self._noticed_ns[overlaid] = self._clock.utc_ns()
        self.status = status
        self._steady_ns = self.reader.steady_until(self.batch)

    def _chosen(self, changed: npt.NDArray[np.bool_]) -> list[Binding]:
        return [each for row in np.flatnonzero(changed & self._bound) if (each := self._by_row[row])]

    def _differing(self, before: TagBatch, now: TagBatch) -> npt.NDArray[np.bool_]:
        differing = np.zeros(len(self._by_row), np.bool_)
        for scalar, rows in self._rows_of.items():
            differing[rows] = _bits(before.column(scalar)) != _bits(now.column(scalar))
        for row in before.layout.slots:
            differing[row] = before.array(row).tobytes() != now.array(row).tobytes()
        return differing


def refresh(view: BlockView, counts: FeedCounts, *, assess: bool) -> bool:
    """Show the newest batch of a block, the latest wins, and notify what changed.

    Returns:
        Whether there was anything new: a batch, or a status that changed with time.
    """
    newest = None
    for batch in view.reader.poll():
        newest = batch
    if newest is None:
        aged = list(view.reassess()) if assess else []
        notify_all(view, aged, counts)
        return bool(aged)
    changed = list(view.take(newest))
    notify_all(view, changed, counts)
    told = {id(binding) for binding in changed}
    notify_all(view, (each for each in view.timed() if id(each) not in told), counts)
    return True


def notify_all(view: BlockView, bindings: Iterable[Binding], counts: FeedCounts) -> None:
    """Tell who watches these rows, and count it."""
    for binding in bindings:
        if binding.slot.datachange_callbacks:
            notify(binding.slot, view.value_of(binding))
            counts.notified += 1


def _rows_of_columns(reader: BlockReader) -> dict[Scalar, npt.NDArray[np.intp]]:
    rows: dict[Scalar, list[int]] = {}
    for row, tag in enumerate(reader.spec.tags):
        if tag.length == 0:
            rows.setdefault(tag.type, []).append(row)
    return {scalar: np.array(members, np.intp) for scalar, members in rows.items()}


def _bits(column: Array) -> Array:
    """Return a column as bits, so that NaN equals itself and -0.0 does not equal 0.0."""
    return column.view(f"u{column.dtype.itemsize}")
