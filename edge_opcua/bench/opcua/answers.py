"""The answers on the hot path, taken apart by hand: Publish, Read, and what is common to all of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from asyncua import ua

from edge_opcua.bench.opcua.wire import (
    HANDLE_BYTES,
    PAD,
    Columns,
    DecodeError,
    Decoder,
    past_node_id,
    past_string,
    past_value,
    past_variant,
)

PUBLISH_RESPONSE: Final = ua.ObjectIds.PublishResponse_Encoding_DefaultBinary
READ_RESPONSE: Final = ua.ObjectIds.ReadResponse_Encoding_DefaultBinary
DATA_CHANGE: Final = ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary
EVENT_LIST: Final = ua.ObjectIds.EventNotificationList_Encoding_DefaultBinary
STATUS_CHANGE: Final = ua.ObjectIds.StatusChangeNotification_Encoding_DefaultBinary

_HEAD: Final = struct.Struct("<qII")
_NOTICE: Final = struct.Struct("<Iqi")


@dataclass(frozen=True, slots=True)
class Head:
    """What every answer begins with.

    Args:
        type_id: Numeric id of the encoding of the answer, namespace 0.
        result: ServiceResult.
        end: Where the service's own fields begin.
    """

    type_id: int
    result: int
    end: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the handle of its item, and where its field values lie."""

    handle: int
    fields: tuple[int, ...]


@dataclass(slots=True)
class Published:
    """What a Publish answer says.

    Attributes:
        subscription: Whose notifications these are.
        sequence: To be acknowledged; 0 for a keep-alive.
        more: Whether more waits.
        values: Data changes, one entry per notification.
        events: Events.
        ended: Status with which the subscription ended, if it did.
    """

    subscription: int
    sequence: int
    more: bool
    values: list[Columns]
    events: list[Event]
    ended: int | None = None


def head(message: bytes) -> Head:
    """Return what an answer begins with (Part 4 §7.33)."""
    type_id, here = _numeric(message, 0)
    _, _, result = _HEAD.unpack_from(message, here)
    here += _HEAD.size
    if message[here]:
        raise DecodeError("diagnostics were not asked for")
    here = _past_strings(message, here + 1)
    return Head(type_id, result, past_value(message, here, 22))


def published(message: bytes, decoder: Decoder) -> Published:
    """Take a Publish answer apart (Part 4 §5.14.5).

    Args:
        message: The answer, with :data:`~edge_opcua.bench.opcua.wire.PAD` behind it.
        decoder: For its records.

    Raises:
        DecodeError: It is a fault, or no Publish answer.
    """
    first = head(message)
    if first.type_id != PUBLISH_RESPONSE or first.result:
        raise DecodeError(f"Publish was answered by {first.type_id} with {first.result:#010x}")
    subscription, available = struct.unpack_from("<Ii", message, first.end)
    here = first.end + 8 + 4 * max(available, 0)
    more = bool(message[here])
    sequence, _, count = _NOTICE.unpack_from(message, here + 1)
    here += 1 + _NOTICE.size
    found = Published(subscription, sequence if count > 0 else 0, more, [], [])
    for _ in range(count):
        type_id, here = _numeric(message, here)
        (size,) = struct.unpack_from("<i", message, here + 1)
        here += 5
        _notification(message, here, size, type_id, found, decoder)
        here += size
    return found


def _notification(
    message: bytes, at: int, size: int, type_id: int, found: Published, decoder: Decoder
) -> None:
    (count,) = struct.unpack_from("<i", message, at)
    if type_id == DATA_CHANGE:
        found.values.append(decoder.records(message, at + 4, max(count, 0), HANDLE_BYTES, size))
    elif type_id == EVENT_LIST:
        found.events.extend(events(message, at + 4, count))
    elif type_id == STATUS_CHANGE:
        found.ended = count & 0xFFFFFFFF
    else:
        raise DecodeError(f"a notification of type {type_id} is not known here")


def events(message: bytes, at: int, count: int) -> Iterator[Event]:
    """Yield events: where each field's Variant begins."""
    here = at
    for _ in range(count):
        handle, fields = struct.unpack_from("<Ii", message, here)
        here += 8
        places = []
        for _ in range(fields):
            places.append(here)
            here = past_variant(message, here)
        yield Event(handle, tuple(places))


def text_of(message: bytes, at: int) -> str:
    """Return the text of a Variant that holds a String or LocalizedText."""
    kind, here = message[at], at + 1
    if kind == 21:
        mask = message[here]
        here += 1
        if mask & 1:
            here = past_string(message, here)
        if not mask & 2:
            return ""
    elif kind != 12:
        return ""
    end = past_string(message, here)
    return message[here + 4 : end].decode()


def read(message: bytes, decoder: Decoder) -> Columns:
    """Take a Read answer apart (Part 4 §5.11.2)."""
    first = head(message)
    if first.type_id != READ_RESPONSE or first.result:
        raise DecodeError(f"Read was answered by {first.type_id} with {first.result:#010x}")
    (count,) = struct.unpack_from("<i", message, first.end)
    return decoder.records(message, first.end + 4, max(count, 0), 0, len(message) - len(PAD) - first.end)


def _numeric(message: bytes, at: int) -> tuple[int, int]:
    """Return a numeric NodeId, and where it ends."""
    form = message[at]
    if form == 1:
        return message[at + 2] | message[at + 3] << 8, at + 4
    if form == 0:
        return message[at + 1], at + 2
    if form == 2:
        found: int = struct.unpack_from("<I", message, at + 3)[0]
        return found, at + 7
    raise DecodeError(f"a type id has the form {form}, ends at {past_node_id(message, at)}")


def _past_strings(message: bytes, at: int) -> int:
    (count,) = struct.unpack_from("<i", message, at)
    here = at + 4
    for _ in range(count):
        here = past_string(message, here)
    return here
