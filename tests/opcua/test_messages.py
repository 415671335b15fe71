"""What Publish and Republish answer has the bytes of the codec, and is read as the codec reads it."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.services.slices import Encoded
from edge_opcua.opcua.services.subscription import wire
from edge_opcua.opcua.services.subscription.messages import (
    PUBLISH_RESPONSE,
    acknowledgements,
    notification_message,
    publish_response,
    status_change,
)
from edge_opcua.opcua.values import utc
from tests.opcua.publishing import FakeReply, Plant, decoded

CODES = ua.StatusCodes
IDS = ua.ObjectIds
numbers = st.integers(0, 2**32 - 1)
times = st.integers(1, 4 * 10**18)
# A MonitoredItemNotification and an EventFieldList, as other tests show that they are made.
values = st.builds(
    lambda handle, value: wire.notification(handle, value, overflow=False, source=True, server=True),
    numbers,
    st.builds(ua.DataValue, st.builds(ua.Variant, st.floats(allow_nan=False))),
)
event_lists = st.builds(
    lambda handle, texts: bytes(struct_to_binary(ua.EventFieldList(handle, list(map(ua.Variant, texts))))),
    numbers,
    st.lists(st.text(max_size=5), max_size=3),
)


def general(sequence: int, utc_ns: int, data: list[bytes], events: list[bytes]) -> ua.NotificationMessage:
    """A message of the codec's objects."""
    bodies = []
    if data:
        body = struct.pack("<I", len(data)) + b"".join(data) + struct.pack("<i", -1)
        kind = IDS.DataChangeNotification_Encoding_DefaultBinary
        bodies.append(ua.ExtensionObject(ua.NodeId(kind), body))
    if events:
        body = struct.pack("<I", len(events)) + b"".join(events)
        kind = IDS.EventNotificationList_Encoding_DefaultBinary
        bodies.append(ua.ExtensionObject(ua.NodeId(kind), body))
    return ua.NotificationMessage(sequence, utc(utc_ns), bodies)


@settings(max_examples=60, deadline=None)
@given(
    number=numbers,
    sequence=numbers,
    utc_ns=times,
    data=st.lists(values, max_size=4),
    events=st.lists(event_lists, max_size=4),
    available=st.lists(numbers, max_size=5),
    results=st.lists(st.sampled_from([0, 0, int(CODES.BadSequenceNumberUnknown)]), max_size=4),
    more=st.booleans(),
)
def test_an_answer_has_the_bytes_of_the_codec(
    number: int,
    sequence: int,
    utc_ns: int,
    data: list[bytes],
    events: list[bytes],
    available: list[int],
    results: list[int],
    more: bool,
) -> None:
    parcel = wire.Parcel(100, 10**6)
    for value in data:
        parcel.put(parcel.data, value)
    parcel.put_events(b"", iter(events).__next__, len(events))
    message = parcel.message(sequence, utc_ns)
    response = ua.PublishResponse()
    response.Parameters = ua.PublishResult(
        number,
        available,
        more,
        general(sequence, utc_ns, data, events),
        [ua.StatusCode(ua.UInt32(code)) for code in results],
    )
    body = publish_response(number, available, message, results, more=more)
    assert PUBLISH_RESPONSE + struct_to_binary(response.ResponseHeader) + body == struct_to_binary(response)
    assert parcel.size == sum(map(len, (*data, *events)))
    again = ua.RepublishResponse(NotificationMessage=general(sequence, utc_ns, data, events))
    encoded = Encoded(again, message).to_binary()
    assert encoded == struct_to_binary(again)
    assert (
        struct_from_binary(ua.RepublishResponse, Buffer(encoded)).NotificationMessage.SequenceNumber
        == sequence
    )


@settings(max_examples=30)
@given(status=numbers, utc_ns=times)
def test_a_status_change_has_the_bytes_of_the_codec(status: int, utc_ns: int) -> None:
    # Part 4 §7.25.4.
    message = notification_message(5, utc_ns, [status_change(status)], 1)
    body = ua.StatusChangeNotification(ua.StatusCode(ua.UInt32(status)))
    assert message == struct_to_binary(ua.NotificationMessage(5, utc(utc_ns), [body]))
    assert decoded(message).NotificationData[0].Status.value == status


def test_a_message_without_notifications_has_none() -> None:
    # Part 4 §5.14.1.1: a keep-alive.
    message = notification_message(9, 10**18, (), 0)
    assert message == struct_to_binary(ua.NotificationMessage(9, utc(10**18), []))


# --- the request -------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(given=st.lists(st.tuples(numbers, numbers), max_size=6), before=st.binary(max_size=5))
def test_acknowledgements_are_read_as_the_codec_reads_them(
    given: list[tuple[int, int]], before: bytes
) -> None:
    params = ua.PublishParameters([ua.SubscriptionAcknowledgement(*each) for each in given])
    whole = before + bytes(struct_to_binary(params))
    found = acknowledgements(whole, len(before), 6)
    assert found is not None
    assert list(found) == given


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (struct.pack("<i", -1), []),
        (struct.pack("<i", 0), []),
        (struct.pack("<iII", 1, 7, 8) + b"more", [(7, 8)]),
        (b"", None),
        (b"\0\0", None),
        (struct.pack("<iI", 1, 7), None),
        (struct.pack("<iII", 2, 7, 8), None),
        (struct.pack("<i", 2**31 - 1), None),
        (struct.pack("<i", 4) + bytes(32), None),  # more than are allowed
    ],
)
def test_what_is_no_list_of_acknowledgements_is_left_to_the_decoder(raw: bytes, expected: Any) -> None:
    found = acknowledgements(raw, 0, 3)
    assert (found if found is None else list(found)) == expected


@pytest.fixture
def plant() -> Plant:
    return Plant()


class Bytes(FakeReply):
    """Keeps the answer as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = b""

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        super().send_bytes(type_id, body)
        self.body = body


def test_a_request_in_bytes_does_what_one_in_objects_does(plant: Plant) -> None:
    node = plant.variable("speed")
    number = plant.subscribe()
    plant.monitor(number, node)
    first = plant.next(number)
    raw = struct.pack("<iIIII", 2, number, first.message.SequenceNumber, number, 99)
    reply = FakeReply()
    assert plant.service.publish_bytes(plant.session, raw, 0, reply)
    plant.write(node, 2.0)
    plant.pass_ms(100)
    assert reply.values == [2.0]
    assert [each.value for each in reply.result.Results] == [0, CODES.BadSequenceNumberUnknown]
    assert reply.result.AvailableSequenceNumbers == [2]
    assert not plant.service.publish_bytes(plant.session, raw[:-1], 0, FakeReply())
    plant.service.delete(plant.session, ua.DeleteSubscriptionsParameters([number]))
    with pytest.raises(ServiceError) as caught:
        plant.service.publish_bytes(plant.session, raw, 0, FakeReply())
    assert caught.value.code == CODES.BadNoSubscription


def test_more_acknowledgements_than_allowed_are_not_read(plant: Plant) -> None:
    most = plant.limits.operations.acknowledgements
    plant.subscribe()
    for count, done in ((most, True), (most + 1, False)):
        raw = struct.pack("<i", count) + bytes(8 * count)
        assert plant.service.publish_bytes(plant.session, raw, 0, FakeReply()) is done


def test_republish_answers_the_very_bytes_that_were_sent(plant: Plant) -> None:
    # Part 4 §5.14.6.
    node = plant.variable("name", "a", ua.VariantType.String)
    number = plant.subscribe()
    plant.monitor(number, node)
    reply = Bytes()
    plant.publish(reply=reply)
    plant.pass_ms(100)
    message = plant.found(number).republish(1)
    assert message is not None
    assert message in reply.body
    plant.write(node, "what it says later")
    answer = plant.service.republish(plant.session, ua.RepublishParameters(number, 1)).to_binary()
    assert answer.endswith(message)
