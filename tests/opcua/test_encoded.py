"""What is encoded when an event is emitted has the bytes of the codec, whatever the event says."""

from __future__ import annotations

import datetime as dt
import gc
import struct
import uuid
import weakref
from contextlib import suppress
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.events import Event
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_opcua.opcua.events import BASE_TYPES, PlantEvent
from edge_opcua.opcua.services.event import encoded
from edge_opcua.opcua.services.event.encoded import EncodedEvents, FieldTypes, alike, plan
from edge_opcua.opcua.services.event.filters import Selection, compile_filter
from edge_opcua.opcua.services.event.stamps import ID_BYTES, Stamps
from edge_opcua.testing import ManualClock
from tests.opcua.publishing import Plant

K = ua.VariantType
BASE = ua.NodeId(ua.ObjectIds.BaseEventType)
OVERFLOW = ua.NodeId(ua.ObjectIds.EventQueueOverflowEventType)
NAMES = ("EventId", "EventType", "SourceNode", "Time", "LocalTime", "Message", "Severity", "Shape")
# What the codec raises at a value that is not of its type.
UNENCODABLE = (ua.UaError, TypeError, ValueError, AttributeError, OverflowError, KeyError, struct.error)
EMPTY = ("EventId", "Time", "ReceiveTime", "SourceNode")
RANGES = (None, "0", "0:1", "1:3", "7")


@pytest.fixture(scope="module")
def plant() -> Plant:
    made = Plant()
    made.event_types(*NAMES)
    return made


texts = st.one_of(st.none(), st.text(max_size=8), st.just("\udc80"), st.just("Maß" * 40))
stamps = st.one_of(
    st.datetimes(timezones=st.sampled_from([dt.UTC, None, dt.timezone(dt.timedelta(hours=-7))])),
    st.sampled_from([dt.datetime(9999, 12, 31, 23, 59, second, tzinfo=dt.UTC) for second in (58, 59)]),
)
nodes = st.one_of(
    st.builds(ua.NodeId, st.integers(0, 2**32 - 1), st.integers(0, 9)),
    st.builds(ua.NodeId, st.text(max_size=5), st.integers(0, 9)),
    st.builds(ua.TwoByteNodeId, st.integers(0, 255)),
    st.builds(ua.ExpandedNodeId, st.integers(0, 9), st.just(2), st.none(), st.just("urn:x"), st.just(1)),
)
integers = st.one_of(st.integers(-3, 300), st.integers(-(2**63), 2**64 - 1))
# A value and its type; some do not go together, and those an event must survive.
values = st.one_of(
    st.tuples(st.sampled_from([K.Byte, K.Int16, K.UInt16, K.Int32, K.Int64, K.UInt64, K.Double]), integers),
    st.tuples(st.sampled_from([K.Float, K.Double, K.Int32]), st.floats()),
    st.tuples(st.sampled_from([K.Boolean, K.UInt16, K.Double]), st.booleans()),
    st.tuples(st.sampled_from([K.String, K.ByteString]), texts),
    st.tuples(st.sampled_from([K.ByteString, K.String]), st.binary(max_size=9)),
    st.tuples(st.just(K.DateTime), stamps),
    st.tuples(st.sampled_from([K.NodeId, K.ExpandedNodeId]), nodes),
    st.tuples(st.just(K.LocalizedText), st.builds(ua.LocalizedText, texts, texts)),
    st.tuples(st.just(K.Guid), st.uuids()),
    st.tuples(
        st.just(K.ExtensionObject), st.builds(ua.TimeZoneDataType, st.integers(-99, 99), st.booleans())
    ),
    st.tuples(st.sampled_from([K.Int32, K.Double]), st.lists(st.integers(0, 9), max_size=4)),
    st.tuples(st.just(K.Int32), st.just([[1, 2], [3, 4]])),
    st.tuples(st.just(K.String), st.lists(texts, max_size=3)),
    st.tuples(
        st.sampled_from([K.StatusCode, K.Double]), st.builds(ua.StatusCode, st.just(ua.UInt32(0x80000000)))
    ),
    st.tuples(st.none(), st.one_of(st.integers(0, 9), st.text(max_size=3))),
    st.tuples(st.sampled_from([K.Int32, K.String, K.NodeId, K.ExtensionObject]), st.none()),
)
events = st.dictionaries(st.sampled_from([name for name in NAMES if name != "EventType"]), values)
clauses = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(RANGES)), min_size=1, max_size=10)


def event(fields: dict[str, tuple[Any, Any]], kind: ua.NodeId = OVERFLOW) -> Event:
    made = Event()
    made.add_property("EventType", kind, K.NodeId)
    for name, (variant_type, value) in fields.items():
        made.add_property(name, value, variant_type)
    return made


def selection(plant: Plant, wanted: list[tuple[str, str | None]], kind: ua.NodeId = BASE) -> Selection:
    select = [
        ua.SimpleAttributeOperand(kind, [ua.QualifiedName(name)], ua.AttributeIds.Value, part)
        for name, part in wanted
    ]
    found = compile_filter(plant.aspace, ua.EventFilter(SelectClauses=select)).selection
    assert found is not None
    return found


def general(chosen: Selection, made: Event) -> bytes | None:
    """What the codec says; None: it cannot."""
    with suppress(*UNENCODABLE):
        return bytes(struct_to_binary(ua.EventFieldList(7, chosen.fields(made))))[4:]
    return None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(fields={"Shape": (K.Int32, [1, 2])}, wanted=[("Shape", "1"), ("Shape", None), ("Shape", "1")])
@example(fields={"Time": (K.DateTime, dt.datetime(1601, 1, 1, tzinfo=dt.UTC))}, wanted=[("Time", None)])
@given(fields=events, wanted=clauses)
def test_any_event_has_the_bytes_of_the_codec(
    plant: Plant, fields: dict[str, Any], wanted: list[tuple[str, str | None]]
) -> None:
    chosen = selection(plant, wanted)
    made = event(fields)
    expected = general(chosen, made)
    for again in range(4):  # what is kept from before is the same, as is what many events share
        if again == 2:
            made.data_types = FieldTypes(made.data_types)
        if expected is None:
            with pytest.raises(UNENCODABLE):
                chosen.encoded(EncodedEvents([made]))
        else:
            assert chosen.encoded(EncodedEvents([made])) == [expected], again


@settings(max_examples=60, deadline=None)
@given(fields=events, filters=st.lists(clauses, min_size=2, max_size=4))
def test_filters_that_share_an_event_each_get_their_own_fields(
    plant: Plant, fields: dict[str, Any], filters: list[list[tuple[str, str | None]]]
) -> None:
    made = event(fields)
    shared = EncodedEvents([made])
    for wanted in filters:
        chosen = selection(plant, wanted)
        expected = general(chosen, made)
        if expected is not None:
            assert chosen.encoded(shared) == [expected]


@settings(max_examples=100, deadline=None)
@given(fields=events, wanted=clauses, data=st.data())
def test_events_that_are_encoded_together_have_the_bytes_that_each_has_alone(
    plant: Plant, fields: dict[str, Any], wanted: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    chosen = selection(plant, wanted)
    together = [event(fields)]
    types = together[0].data_types = FieldTypes(together[0].data_types)
    for _ in range(data.draw(st.integers(1, 4))):  # a field is the same one, or another value of any type
        other = {
            name: (types[name], data.draw(st.one_of(st.just(fields[name]), values))[1]) for name in fields
        }
        together.append(event(other))
        together[-1].data_types = types
    expected = [general(chosen, made) for made in together]
    if None in expected:
        with pytest.raises(UNENCODABLE):
            chosen.encoded(EncodedEvents(together))
    else:
        shared = EncodedEvents(together)
        assert chosen.encoded(shared) == expected
        backwards = selection(plant, wanted[::-1])
        assert backwards.encoded(shared) == [general(backwards, made) for made in together]


def test_equal_node_ids_that_are_encoded_in_different_ways_stay_different(plant: Plant) -> None:
    # Part 6 §5.2.2.9: what is common to all is told by identity, not by equality.
    chosen = selection(plant, [("SourceNode", None)])
    nodes = [ua.NodeId(5), ua.TwoByteNodeId(5), ua.NodeId(5)]
    together = [event({"SourceNode": (K.NodeId, node)}) for node in nodes]
    assert chosen.encoded(EncodedEvents(together)) == [general(chosen, made) for made in together]


def test_events_are_cut_where_type_source_emitter_or_types_of_fields_change() -> None:
    def made(
        kind: ua.NodeId, source: str, *, emitter: str = "", types: FieldTypes = BASE_TYPES
    ) -> PlantEvent:
        event = PlantEvent(
            kind, (ua.NodeId(source, 2), source), message="m", severity=5, time=None, types=types
        )
        event.emitting_node = ua.NodeId(emitter or source, 2)
        return event

    others = FieldTypes({**BASE_TYPES, "Shape": K.Int32})
    runs = [
        [made(BASE, "a"), made(BASE, "a")],
        [made(OVERFLOW, "a")],
        [made(OVERFLOW, "b")],
        [made(OVERFLOW, "b", emitter="c")],
        [made(BASE, "a", types=others), made(BASE, "a", types=others)],
        [made(BASE, "a")],
    ]
    found = alike([event for run in runs for event in run])
    assert [list(run) for run in found] == runs
    assert [list(run) for run in alike(runs[1])] == [runs[1]]


def test_an_event_that_gets_a_field_of_its_own_leaves_the_types_of_the_others_alone(plant: Plant) -> None:
    chosen = selection(plant, [("Severity", None), ("Shape", None)])
    for _ in range(2):
        made = PlantEvent(OVERFLOW, (BASE, "x"), message="m", severity=5, time=None)
        assert chosen.encoded(EncodedEvents([made])) == [b"\x02\0\0\0\x05\x05\0\0"]
        made.add_property("Shape", True, K.Boolean)
        assert chosen.encoded(EncodedEvents([made])) == [b"\x02\0\0\0\x05\x05\0\x01\x01"]
        assert "Shape" not in BASE_TYPES


def test_filters_that_select_the_same_share_a_plan_as_long_as_one_of_them_lives() -> None:
    keys = ("Message", "Severity")
    first = plan(keys)
    assert plan(("Message", "Severity")) is first
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None


def test_an_event_without_a_field_has_null_in_its_place(plant: Plant) -> None:
    # Part 4 §7.22.3: BaseEventType has no fields of its subtypes.
    chosen = selection(plant, [("Message", None), ("Severity", None)], kind=OVERFLOW)
    made = event({"Message": (K.String, "m"), "Severity": (K.UInt16, 5)}, kind=BASE)
    assert chosen.encoded(EncodedEvents([made])) == [b"\x02\0\0\0\0\0"] == [chosen.nulls()]
    made = event({"Message": (K.String, "m"), "Severity": (K.UInt16, 5)})
    expected = b"\x02\0\0\0\x0c\x01\0\0\0m\x05\x05\0"
    assert chosen.encoded(EncodedEvents([made])) == [expected] == [general(chosen, made)]


def test_an_event_without_stamps_gets_them_and_one_with_them_keeps_them() -> None:
    # Part 5 §6.4.2.
    clock = ManualClock()
    filling = Stamps(clock)
    ids = set()
    for _ in range(600):  # more than are drawn at once
        made = event({"EventId": (K.ByteString, None), "Time": (K.DateTime, None)})
        made.add_property("ReceiveTime", None, K.DateTime)
        made.add_property("SourceNode", None, K.NodeId)
        filling.fill([made])
        assert len(made.EventId) == ID_BYTES
        ids.add(made.EventId)
    assert len(ids) == 600
    assert made.SourceNode == made.emitting_node
    assert made.Time == made.ReceiveTime
    assert round(made.Time.timestamp() * 1e6) == clock.utc_ns() // 1000
    at_once = [event(dict.fromkeys(EMPTY, (K.Null, None))) for _ in range(300)]
    filling.fill(at_once)
    assert len({each.EventId for each in at_once} | ids) == 900
    assert {each.Time for each in at_once} == {at_once[0].ReceiveTime}
    before, own = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), uuid.uuid4().bytes
    made.Time, made.EventId, made.ReceiveTime = before, own, None
    filling.fill([made])
    assert (made.Time, made.EventId) == (before, own)
    assert made.ReceiveTime is not None


def test_long_node_ids_are_encoded_and_not_kept(plant: Plant) -> None:
    chosen = selection(plant, [("SourceNode", None)])
    for letter in ("x", b"x"):
        made = event({"SourceNode": (K.NodeId, ua.NodeId(letter * 5000, 2))})
        assert chosen.encoded(EncodedEvents([made])) == [general(chosen, made)]
        assert max(len(kept) for kept in encoded._node_ids.values()) < 5000
