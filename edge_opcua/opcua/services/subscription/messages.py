"""Publish and its messages as bytes, no object for any of them (Part 4 §5.14.5, §7.26; Part 6 §5.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from asyncua import ua
from asyncua.ua.ua_binary import nodeid_to_binary

__all__ = [
    "DATA_CHANGE",
    "EVENTS",
    "PUBLISH_RESPONSE",
    "acknowledgements",
    "notification_message",
    "publish_response",
    "status_change",
]

_AS_BYTES: Final = b"\x01"  # an ExtensionObject's body is a ByteString (Part 6 §5.2.2.15)


def _type_id(number: int) -> bytes:
    return bytes(nodeid_to_binary(ua.FourByteNodeId(number)))


PUBLISH_RESPONSE: Final = _type_id(ua.ObjectIds.PublishResponse_Encoding_DefaultBinary)
DATA_CHANGE: Final = _type_id(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary) + _AS_BYTES
EVENTS: Final = _type_id(ua.ObjectIds.EventNotificationList_Encoding_DefaultBinary) + _AS_BYTES
_STATUS_CHANGE: Final = _type_id(ua.ObjectIds.StatusChangeNotification_Encoding_DefaultBinary) + _AS_BYTES

# Part 6 §5.2.2.5: ticks of 100 ns since 1601; our stamps are whole microseconds.
_TICKS_AT_1970: Final = 116_444_736_000_000_000
_NS_PER_US: Final = 1000
_TICKS_PER_US: Final = 10
_INT32: Final = struct.Struct("<i")
_MESSAGE: Final = struct.Struct("<Iqi")  # SequenceNumber, PublishTime, how many NotificationData
_STATUS_AND_NULL: Final = struct.Struct("<iIB")  # length, status, DiagnosticInfo that says nothing
_RESPONSE: Final = struct.Struct("<Ii")  # SubscriptionId, how many AvailableSequenceNumbers
_ACKNOWLEDGEMENT: Final = struct.Struct("<II")
_NO_ELEMENTS: Final = _INT32.pack(0)
_ONE_GOOD: Final = struct.pack("<iIi", 1, 0, 0)  # one Good result, no DiagnosticInfos


def acknowledgements(whole: bytes, at: int, most: int) -> Iterator[tuple[int, int]] | None:
    """Read the SubscriptionAcknowledgements of a Publish request.

    Args:
        whole: The request.
        at: Where its parameters begin.
        most: Most that are read here.

    Returns:
        SubscriptionId and SequenceNumber of each; None: they are too many, or do not decode.
    """
    start = at + _INT32.size
    if len(whole) < start:
        return None
    (count,) = _INT32.unpack_from(whole, at)
    if count <= 0:  # null is empty
        return iter(())
    end = start + count * _ACKNOWLEDGEMENT.size
    if count > most or len(whole) < end:
        return None
    return _ACKNOWLEDGEMENT.iter_unpack(whole[start:end])


def notification_message(sequence: int, utc_ns: int, parts: Sequence[bytes], count: int) -> bytes:
    """Return a NotificationMessage.

    Args:
        sequence: SequenceNumber.
        utc_ns: PublishTime, ns UTC.
        parts: Its NotificationData, in pieces.
        count: How many there are.
    """
    ticks = utc_ns // _NS_PER_US * _TICKS_PER_US + _TICKS_AT_1970
    return b"".join((_MESSAGE.pack(sequence, ticks, count), *parts))


def status_change(status: int) -> bytes:
    """Return a StatusChangeNotification without DiagnosticInfo as NotificationData."""
    return _STATUS_CHANGE + _STATUS_AND_NULL.pack(_STATUS_AND_NULL.size - _INT32.size, status, 0)


def publish_response(
    number: int, available: Sequence[int], message: bytes, results: Sequence[int], *, more: bool
) -> bytes:
    """Return what follows the header of a PublishResponse.

    Args:
        number: SubscriptionId.
        available: AvailableSequenceNumbers.
        message: The NotificationMessage.
        results: StatusCode of each acknowledgement.
        more: MoreNotifications.
    """
    return b"".join(
        (
            _RESPONSE.pack(number, len(available)),
            _numbers(available),
            b"\1" if more else b"\0",
            message,
            _results(results),
        )
    )


def _numbers(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _results(results: Sequence[int]) -> bytes:
    """Return Results, and DiagnosticInfos of which there are none."""
    if len(results) == 1 and not results[0]:
        return _ONE_GOOD
    return _INT32.pack(len(results)) + _numbers(results) + _NO_ELEMENTS
