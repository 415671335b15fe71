"""The load client's decoder against asyncua's encoder, and its check against values that are wrong."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.bench.opcua import answers, capacity
from edge_opcua.bench.opcua.answers import published, read, text_of
from edge_opcua.bench.opcua.capacity import answer, publish_answer
from edge_opcua.bench.opcua.check import SequenceCheck
from edge_opcua.bench.opcua.values import BITS, KINDS, column, kind_of, value
from edge_opcua.bench.opcua.wire import OVERFLOW, PAD, DecodeError, Decoder, walk
from edge_opcua.core.values import Scalar

NOW = dt.datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=dt.UTC)
NOW_TICKS = 134_397_360_001_234_560
LIMITS: dict[Scalar, tuple[Any, ...]] = {
    Scalar.BOOLEAN: (False, True),
    Scalar.SBYTE: (-128, 127),
    Scalar.BYTE: (0, 255),
    Scalar.INT16: (-32768, 32767),
    Scalar.UINT16: (0, 65535),
    Scalar.INT32: (-(2**31), 2**31 - 1),
    Scalar.UINT32: (0, 2**32 - 1),
    Scalar.INT64: (-(2**63), 2**63 - 1),
    Scalar.UINT64: (0, 2**64 - 1),
    Scalar.FLOAT: (-1.5, 3.0e38),
    Scalar.DOUBLE: (-1.5, 1.7e308),
}


def shown(
    kind: Scalar, content: Any, status: int, *, source: bool = True, server: bool = True
) -> ua.DataValue:
    return ua.DataValue(
        ua.Variant(content, ua.VariantType(int(kind))) if content is not None else None,
        ua.StatusCode(ua.UInt32(status)),
        SourceTimestamp=NOW if source else None,
        ServerTimestamp=NOW if server else None,
    )


def notification(values: list[ua.DataValue]) -> bytes:
    items = [ua.MonitoredItemNotification(ua.IntegerId(at), each) for at, each in enumerate(values)]
    return publish_answer(ua.DataChangeNotification(MonitoredItems=items))


SCALARS = st.sampled_from(KINDS).flatmap(
    lambda kind: st.builds(
        shown,
        st.just(kind),
        st.none() | st.sampled_from(LIMITS[kind]),
        st.sampled_from((0, 0x480, 0x40900000, 0x80310000)),
        source=st.booleans(),
        server=st.booleans(),
    )
)


@settings(max_examples=40)
@given(st.lists(SCALARS, min_size=1, max_size=20))
def test_records_of_every_type_mask_and_status_are_what_was_encoded(values: list[ua.DataValue]) -> None:
    decoder = Decoder()
    for _ in range(2):  # walked, then laid over the plan
        (columns,) = published(notification(values), decoder).values
        assert columns.handles.tolist() == list(range(len(values)))
        assert columns.status.tolist() == [each.StatusCode.value if each.StatusCode else 0 for each in values]
        assert columns.source.tolist() == [NOW_TICKS if each.SourceTimestamp else 0 for each in values]
        for at, each in enumerate(values):
            wanted = each.Value.Value if each.Value is not None else None
            found = columns.value(at)
            assert found == (np.float32(wanted) if isinstance(found, float) and wanted == 3.0e38 else wanted)
    assert decoder.walked == decoder.planned == len(values)


@settings(max_examples=25)
@given(st.lists(SCALARS, min_size=1, max_size=10), st.lists(SCALARS, min_size=1, max_size=10))
def test_a_message_of_another_layout_is_never_read_with_a_wrong_plan(
    first: list[ua.DataValue], other: list[ua.DataValue]
) -> None:
    decoder = Decoder()
    for values in (first, other, first):
        (columns,) = published(notification(values), decoder).values
        kinds = [int(each.Value.VariantType) if each.Value is not None else 0 for each in values]
        assert columns.kinds.tolist() == kinds


def test_strings_and_arrays_are_walked_past() -> None:
    others = [
        ua.Variant("text", ua.VariantType.String),
        ua.Variant([1, 2, 3], ua.VariantType.Int16),
        ua.Variant(["a", None], ua.VariantType.String),
        ua.Variant([[1.0, 2.0], [3.0, 4.0]], ua.VariantType.Double),
        ua.Variant(ua.LocalizedText("text", "en")),
        ua.Variant(ua.NodeId("name", 3)),
        ua.Variant(ua.Argument()),
    ]
    values = [ua.DataValue(other, SourceTimestamp=NOW) for other in others]
    values.append(shown(Scalar.INT32, -5, 0))
    decoder = Decoder()
    (columns,) = published(notification(values), decoder).values
    assert columns.value(len(others)) == -5
    assert set(columns.kinds[: len(others)].tolist()) == {255}
    assert decoder.planned == 0


def test_a_read_answer_is_columns_without_handles() -> None:
    response = ua.ReadResponse()
    response.Results = [shown(kind, LIMITS[kind][0], 0) for kind in KINDS] + [
        shown(Scalar.BYTE, None, 0x80340000)
    ]
    columns = read(bytes(struct_to_binary(response)) + PAD, Decoder())
    assert [columns.value(at) for at in range(len(KINDS))] == [LIMITS[kind][0] for kind in KINDS]
    assert columns.status[-1] == 0x80340000


def test_a_fault_is_no_answer() -> None:
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadNoSubscription))
    encoded = bytes(struct_to_binary(fault)) + PAD
    assert answers.head(encoded).result == ua.StatusCodes.BadNoSubscription
    with pytest.raises(DecodeError, match="0x80790000"):
        published(encoded, Decoder())


def test_events_tell_where_their_fields_are() -> None:
    fields = [
        ua.Variant(b"id", ua.VariantType.ByteString),
        ua.Variant(ua.NodeId(2041)),
        ua.Variant("Server"),
        ua.Variant(NOW, ua.VariantType.DateTime),
        ua.Variant(ua.LocalizedText("17", "en")),
        ua.Variant(500, ua.VariantType.UInt16),
    ]
    events = ua.EventNotificationList(Events=[ua.EventFieldList(ua.IntegerId(3), fields)] * 2)
    message = publish_answer(events)
    found = published(message, Decoder())
    assert [one.handle for one in found.events] == [3, 3]
    assert [text_of(message, one.fields[4]) for one in found.events] == ["17", "17"]
    assert struct.unpack_from("<H", message, found.events[1].fields[5] + 1) == (500,)


def test_a_keep_alive_is_not_acknowledged() -> None:
    found = published(publish_answer(sequence=5), Decoder())
    assert (found.sequence, found.values, found.events) == (0, [], [])


def test_the_end_of_a_subscription_is_seen() -> None:
    status = ua.StatusChangeNotification(Status=ua.StatusCode(ua.UInt32(ua.StatusCodes.BadTimeout)))
    assert published(publish_answer(status), Decoder()).ended == ua.StatusCodes.BadTimeout


@given(st.integers(0, 60))
def test_bytes_that_end_too_early_are_refused(missing: int) -> None:
    message = notification([shown(kind, LIMITS[kind][0], 0) for kind in KINDS])
    at = message.index(struct.pack("<I", len(KINDS)))
    cut = message[: len(message) - len(PAD) - 8 - missing]
    with pytest.raises(DecodeError):
        walk(cut, at + 4, len(KINDS), 4)


# --- the values and their check ------------------------------------------------------------------------


@given(st.sampled_from(KINDS), st.integers(0, 2**40), st.integers(0, 100_000))
def test_a_column_holds_what_single_values_are(kind: Scalar, sequence: int, item: int) -> None:
    out = np.empty(1, kind.dtype)
    column(kind, sequence, np.array([item], np.uint64), out)
    assert out[0].item() == value(kind, sequence, item)


ITEMS = [kind_of(item) for item in range(33)]


def checked(*messages: bytes) -> SequenceCheck:
    check, decoder = SequenceCheck(ITEMS), Decoder()
    for message in messages:
        for columns in published(message, decoder).values:
            check.take(columns)
    return check


def test_values_in_sequence_are_right_across_messages_and_wraps() -> None:
    start = 250  # the bytes wrap
    counts = checked(
        answer(ITEMS, start, 1), answer(ITEMS, start + 1, 10), answer(ITEMS, start + 11, 10)
    ).counts
    assert counts.values == 21 * len(ITEMS)
    assert (counts.missing, counts.doubled, counts.silent, counts.strangers) == (0, 0, 0, 0)


def test_a_gap_without_the_overflow_bit_is_silent() -> None:
    counts = checked(answer(ITEMS, 1, 2), answer(ITEMS, 5, 2)).counts
    able = sum(BITS[kind] > 1 for kind in ITEMS)
    assert (counts.missing, counts.silent) == (2 * able, able)


def test_a_gap_with_the_overflow_bit_is_told() -> None:
    marked = [shown(kind, value(kind, 5, item), OVERFLOW) for item, kind in enumerate(ITEMS)]
    counts = checked(answer(ITEMS, 1, 2), notification(marked)).counts
    assert counts.missing > 0
    assert (counts.silent, counts.overflow) == (0, len(ITEMS))


def test_repeated_and_foreign_values_are_counted() -> None:
    assert checked(answer(ITEMS, 1, 1), answer(ITEMS, 1, 1)).counts.doubled == sum(
        BITS[kind] > 1 for kind in ITEMS
    )
    assert checked(answer([*ITEMS, Scalar.BYTE], 1, 1)).counts.strangers == 1
    assert checked(answer(ITEMS[::-1], 1, 1)).counts.strangers > 0


def test_the_client_can_tell_its_own_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "ITEMS", 50)
    monkeypatch.setattr(capacity, "_SECONDS", 0.01)
    assert capacity.measure() > 0
