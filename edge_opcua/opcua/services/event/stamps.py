"""What every event has when it is emitted: an id, two times, a source (Part 5 §6.4.2)."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Final

from edge_opcua.core.clock import Clock

__all__ = ["Stamps"]

ID_BYTES: Final = 16
_IDS: Final = 256  # are drawn at once: a system call each would take as long as encoding the event
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NS_PER_US: Final = 1000


class Stamps:
    """Fills in what an event does not say itself.

    Args:
        clock: For the times.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ids = _ids()

    def fill(self, events: Sequence[Any]) -> None:
        """Fill EventId, Time, ReceiveTime and SourceNode in where they are empty; all get the same time.

        Args:
            events: asyncua's event objects, emitted at once.
        """
        now = _EPOCH + dt.timedelta(microseconds=self._clock.utc_ns() // _NS_PER_US)
        for event in events:
            if not event.EventId:
                event.EventId = next(self._ids)
            if not event.Time:
                event.Time = now
            if not event.ReceiveTime:
                event.ReceiveTime = now
            if not event.SourceNode:
                event.SourceNode = event.emitting_node


def _ids() -> Iterator[bytes]:
    while True:
        drawn = secrets.token_bytes(_IDS * ID_BYTES)
        for start in range(0, len(drawn), ID_BYTES):
            yield drawn[start : start + ID_BYTES]
