"""The block in which the records process says how the windows are."""

from __future__ import annotations

from typing import Final

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock
from edge_opcua.core.values import GOOD, BlockSpec, Policy, Scalar, TagSpec
from edge_opcua.records.windows import WindowsState

WINDOWS_BLOCK: Final = "records.windows"
_EVERY_NS: Final = 1_000_000_000


def windows_block() -> BlockSpec:
    """Return the block in which the records process says how the windows are."""
    return BlockSpec(
        WINDOWS_BLOCK,
        (
            TagSpec("kept", Scalar.UINT64),
            TagSpec("answered", Scalar.UINT64),
            TagSpec("bytes", Scalar.UINT64),
            TagSpec("oldest_ns", Scalar.INT64),
            TagSpec("waiting", Scalar.UINT64),
            TagSpec("lost", Scalar.UINT64),
            TagSpec("thinned", Scalar.UINT64),
            TagSpec("fault", Scalar.STRING, 120),
        ),
        depth=16,
        policy=Policy(hold_s=10.0),
    )


class WindowHealth:
    """Publishes how the windows are, at most once a second; a sign of life otherwise.

    Args:
        bus: The tag bus.
        clock: Clock for stamps.
    """

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._writer = bus.writer(WINDOWS_BLOCK)
        self._clock = clock
        self._shown: WindowsState | None = None
        self._shown_ns = 0

    def show(self, state: WindowsState) -> None:
        """Publish the state of the windows."""
        now_ns = self._clock.monotonic_ns()
        due = self._shown is None or state.fault != self._shown.fault or now_ns - self._shown_ns >= _EVERY_NS
        if state == self._shown or not due:
            self._writer.beat()
            return
        kept = state.kept
        values = (kept.windows, kept.answered, kept.size_bytes, kept.oldest_ns)
        batch = self._writer.batch
        for row, value in enumerate((*values, state.waiting, state.lost, state.thinned, state.fault)):
            batch.set(row, value)
        batch.status[:] = GOOD
        batch.source_ns[:] = batch.server_ns[:] = self._clock.utc_ns()
        self._writer.publish()
        self._shown, self._shown_ns = state, now_ns
