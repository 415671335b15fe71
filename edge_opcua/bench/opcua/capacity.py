"""What the load client itself can take: values it decodes and checks per second of its own processor time."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_opcua.bench.opcua.answers import published
from edge_opcua.bench.opcua.check import SequenceCheck
from edge_opcua.bench.opcua.values import kind_of, value
from edge_opcua.bench.opcua.wire import PAD, Decoder
from edge_opcua.core.values import Scalar

ITEMS: Final = 1000
CYCLES: Final = 20
_SECONDS: Final = 0.5
_NOW: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def answer(kinds: Sequence[Scalar], first: int, cycles: int) -> bytes:
    """Return a Publish answer, made by asyncua's encoder, with every item's value of several cycles."""
    items = [
        ua.MonitoredItemNotification(ClientHandle=ua.IntegerId(item), Value=_shown(kind, sequence, item))
        for sequence in range(first, first + cycles)
        for item, kind in enumerate(kinds)
    ]
    return publish_answer(ua.DataChangeNotification(MonitoredItems=items))


def publish_answer(*notifications: Any, sequence: int = 1) -> bytes:
    """Return the bytes of a Publish answer with these notifications, padded."""
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.IntegerId(7)
    response.Parameters.AvailableSequenceNumbers = [ua.Counter(1), ua.Counter(2)]
    response.Parameters.NotificationMessage.SequenceNumber = ua.Counter(sequence)
    response.Parameters.NotificationMessage.NotificationData = list(notifications)
    return bytes(struct_to_binary(response)) + PAD


def _shown(kind: Scalar, sequence: int, item: int) -> ua.DataValue:
    return ua.DataValue(
        ua.Variant(value(kind, sequence, item), ua.VariantType(int(kind))),
        SourceTimestamp=_NOW,
        ServerTimestamp=_NOW,
    )


def measure() -> float:
    """Return values per second at 100 % of a core."""
    kinds = [kind_of(item) for item in range(ITEMS)]
    first, following = answer(kinds, 1, CYCLES), answer(kinds, 1 + CYCLES, CYCLES)
    decoder, check = Decoder(), SequenceCheck(kinds)
    for message in (first, following):
        for columns in published(message, decoder).values:
            check.take(columns)
    if check.counts.missing or check.counts.doubled or check.counts.strangers:
        raise AssertionError(f"the client does not count right: {check.counts}")
    done, began_s = 0, time.process_time()
    while (used_s := time.process_time() - began_s) < _SECONDS:
        for columns in published(following, decoder).values:
            check.take(columns)
        done += ITEMS * CYCLES
    return done / used_s
