"""Notifications as bytes, each encoded once (Part 6 §5.2.2): the hot path does not go through dataclasses."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from asyncua import ua

from edge_opcua.opcua.services.subscription.messages import DATA_CHANGE, EVENTS, notification_message
from edge_opcua.opcua.services.subscription.queues import OVERFLOW
from edge_opcua.opcua.services.variants import variant

_EPOCH: Final = dt.datetime(1601, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_UINT32: Final = struct.Struct("<I")
_HANDLE_MASK: Final = struct.Struct("<IB")
_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PICO, _SERVER_PICO = 1, 2, 4, 8, 16, 32
_LENGTH: Final = 4
_HEAD: Final = struct.Struct("<ii")  # length of a body, and how many notifications are in it
_NO_DIAGNOSTICS: Final = struct.pack("<i", -1)
SOURCE_STAMP: Final = frozenset({ua.TimestampsToReturn.Source, ua.TimestampsToReturn.Both})
SERVER_STAMP: Final = frozenset({ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both})


@lru_cache(maxsize=64)
def _stamp(when: dt.datetime) -> bytes:
    """Return a DateTime: 100 ns since 1601. The rows of one block share theirs."""
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return struct.pack("<q", max(0, (when - _EPOCH) // _MICROSECOND * 10))


def notification(handle: int, value: ua.DataValue, *, overflow: bool, source: bool, server: bool) -> bytes:
    """Return one MonitoredItemNotification.

    Args:
        handle: ClientHandle of the item.
        value: The value; it is not changed.
        overflow: Whether the Overflow bit is set on it.
        source: Whether the source timestamp goes along.
        server: Whether the server timestamp goes along.
    """
    status = value.StatusCode.value if value.StatusCode is not None else 0
    if overflow:
        status |= OVERFLOW
    mask = _STATUS
    parts = [b"", b"", _UINT32.pack(status)]
    shown = value.Value
    if shown is not None and shown.VariantType is not ua.VariantType.Null:
        mask |= _VALUE
        parts[1] = variant(shown)
    if source and value.SourceTimestamp is not None:
        mask |= _SOURCE
        parts.append(_stamp(value.SourceTimestamp))
        if value.SourcePicoseconds is not None:
            mask |= _SOURCE_PICO
            parts.append(struct.pack("<H", value.SourcePicoseconds))
    if server and value.ServerTimestamp is not None:
        mask |= _SERVER
        parts.append(_stamp(value.ServerTimestamp))
        if value.ServerPicoseconds is not None:
            mask |= _SERVER_PICO
            parts.append(struct.pack("<H", value.ServerPicoseconds))
    parts[0] = _HANDLE_MASK.pack(handle, mask)
    return b"".join(parts)


def unencodable(handle: int) -> bytes:
    """Return the MonitoredItemNotification for a value that cannot be encoded."""
    return _HANDLE_MASK.pack(handle, _STATUS) + _UINT32.pack(ua.StatusCodes.BadEncodingError)


class Parcel:
    """What goes into one NotificationMessage.

    Args:
        most: Most notifications.
        most_bytes: About how large it may become; a single value may be larger.

    Attributes:
        data: MonitoredItemNotifications, one or many in a piece.
        events: EventFieldLists.
        values: How many MonitoredItemNotifications there are.
        size: How many bytes they are.
    """

    __slots__ = ("_bytes", "_left", "data", "events", "size", "values")

    def __init__(self, most: int, most_bytes: int) -> None:
        self.data: list[bytes] = []
        self.events: list[bytes] = []
        self._left = most
        self._bytes = most_bytes
        self.values = 0
        self.size = 0

    @property
    def places(self) -> int:
        """How many more notifications fit."""
        return self._left

    @property
    def room(self) -> int:
        """How many more bytes fit."""
        return self._bytes

    @property
    def has_room(self) -> bool:
        """Whether anything more fits."""
        return self._left > 0 and self._bytes > 0

    def put(self, into: list[bytes], part: bytes) -> None:
        """Put one notification in."""
        into.append(part)
        self._count(part, 1)
        if into is self.data:
            self.values += 1

    def put_values(self, part: bytes, count: int) -> None:
        """Put many MonitoredItemNotifications in, in one piece."""
        self.data.append(part)
        self._count(part, count)
        self.values += count

    def put_events(self, head: bytes, pop: Callable[[], bytes], count: int) -> int:
        """Put EventFieldLists in, as many as fit.

        Args:
            head: The ClientHandle.
            pop: Returns the next one without it.
            count: How many there are.

        Returns:
            How many went in.
        """
        room = before = self._bytes
        most, put = min(count, self._left), self.events.append
        taken = 0
        while taken < most and room > 0:
            part = head + pop()
            put(part)
            room -= len(part)
            taken += 1
        self._left -= taken
        self._bytes = room
        self.size += before - room
        return taken

    def _count(self, part: bytes, count: int) -> None:
        self._left -= count
        self._bytes -= len(part)
        self.size += len(part)

    def message(self, sequence: int, utc_ns: int) -> bytes:
        """Return the NotificationMessage of all this.

        Args:
            sequence: SequenceNumber.
            utc_ns: PublishTime, ns UTC.
        """
        parts: list[bytes] = []
        kinds = 0
        if self.data:
            size = sum(map(len, self.data)) + 2 * _LENGTH
            parts += (DATA_CHANGE, _HEAD.pack(size, self.values), *self.data, _NO_DIAGNOSTICS)
            kinds += 1
        if self.events:
            size = sum(map(len, self.events)) + _LENGTH
            parts += (EVENTS, _HEAD.pack(size, len(self.events)), *self.events)
            kinds += 1
        return notification_message(sequence, utc_ns, parts, kinds)
