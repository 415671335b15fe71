"""From the bus to the tags: the newest batch of a block, or each batch if somebody asked for each."""

from __future__ import annotations

import math
from typing import Final

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import BlockReader
from edge_opcua.core.clock import Clock
from edge_opcua.opcua.tags.live import LiveBlock

# Rows of tags after which others have their turn: some ten milliseconds' work with a subscription to each.
TURN_ROWS: Final = 32_768


class TagFeed:
    """Feeds one block of tags.

    Args:
        reader: The block's reader.
        block: What clients see of it.
        clock: Clock of the bus.

    Attributes:
        reader: See above.
    """

    def __init__(self, reader: BlockReader, block: LiveBlock, clock: Clock) -> None:
        self.reader = reader
        self._clock = clock
        self._block = block
        self._lost = 0
        self._steady_ns = -math.inf

    def start(self) -> None:
        """Show what the bus holds now."""
        latest = self.reader.latest()
        if latest is not None:
            self.reader.cursor = latest.sequence
            self._take(latest)

    @property
    def handed(self) -> int:
        """Values that were handed to whoever follows the block."""
        return self._block.handed

    @property
    def newest(self) -> int:
        """Sequence of the newest batch on the bus."""
        return self.reader.newest

    @property
    def cursor(self) -> int:
        """Sequence of the last batch that was taken."""
        return self.reader.cursor

    @property
    def behind(self) -> bool:
        """Whether the bus holds more than was taken."""
        return self.reader.behind

    def tick(self, *, assess: bool) -> int:
        """Show what is new: the newest batch, or each if somebody wants each; or look at its age.

        Only what was there when it began, and at most :data:`TURN_ROWS`: who writes faster than we take
        would never let it end.

        Args:
            assess: Whether it is time to look at the age of what is not new.

        Returns:
            How many rows were taken.
        """
        newest, rows, upto = None, 0, self.reader.newest
        behind = self.reader.behind
        every = behind and self._block.wants_every
        for batch in self.reader.poll() if behind else ():
            newest = batch
            if every:
                self._take(batch)
                rows += len(batch.status)
            if batch.sequence >= upto or rows >= TURN_ROWS:
                break
        if newest is None:
            if assess:
                self._reassess()
        elif not every:
            self._take(newest)
            rows = len(newest.status)
        return rows

    def _take(self, batch: TagBatch) -> None:
        missed = self.reader.lost > self._lost
        self._lost = self.reader.lost
        if batch.sequence < self.reader.newest:
            # It is not old because we come late: a newer one has taken its place long ago.
            status = self.reader.effective(batch, at_ns=batch.stamp_ns)
            self._steady_ns = -math.inf
        else:
            status = self.reader.effective(batch)
            self._steady_ns = self.reader.steady_until(batch)
        self._block.take(batch, status, missed=missed)

    def _reassess(self) -> None:
        """Look at the age of what is shown, if it can have become another quality by now."""
        batch = self._block.batch
        if batch is not None and self._clock.monotonic_ns() > self._steady_ns:
            self._block.reassess(self.reader.effective(batch))
            self._steady_ns = self.reader.steady_until(batch)
