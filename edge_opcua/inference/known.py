"""Which strokes of a pipeline have a result already, whoever has published it."""

from __future__ import annotations

from collections import deque
from typing import Final

from edge_opcua.core.bus import Bus
from edge_opcua.core.values import is_bad
from edge_opcua.inference.intake import number_of

REMEMBERED: Final = 256
"""Strokes a lane knows again: as many as the ring of results keeps."""

Stroke = tuple[int, int]
"""Number, and time of the capture, ns UTC."""


class Published:
    """Reads once what results there are, and then only what has come since.

    To read them all takes milliseconds, which nobody has when a lane takes over.

    Args:
        bus: The tag bus.
        block: Block of the results.
    """

    def __init__(self, bus: Bus, block: str) -> None:
        self._reader = bus.reader(block, from_newest=False)
        self._strokes: deque[Stroke] = deque(maxlen=REMEMBERED)

    def read(self) -> list[Stroke]:
        """Return the strokes whose results the bus still holds, oldest first."""
        for batch in self._reader.poll():
            if not is_bad(int(batch.status[batch.row("stroke")])):
                self._strokes.append((int(number_of(batch, "stroke")), int(number_of(batch, "captured_ns"))))
        return list(self._strokes)
