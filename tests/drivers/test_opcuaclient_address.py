"""OPC UA addresses: what is understood, and what people who are wrong are told."""

from __future__ import annotations

import base64
import uuid

import pytest
from asyncua import ua
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.iec import TEXTS, TYPES
from edge_opcua.drivers.opcuaclient import OpcUaDriver
from edge_opcua.drivers.opcuaclient.address import OpcUaAddress, parse
from edge_opcua.drivers.opcuaclient.names import Names
from edge_opcua.drivers.opcuaclient.settings import OpcUaShape
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.drivers.wire import Fault
from edge_opcua.errors import AddressError
from edge_opcua.testing import check_driver

GUID = "72962B91-FA75-4AE6-8D28-B404DC7DAF63"


@pytest.mark.parametrize(
    ("text", "canonical", "scalar", "length"),
    [
        ('ns=3;s="DB1"."speed":REAL', 'ns=3;s="DB1"."speed":REAL', Scalar.FLOAT, 0),
        ("ns=2;s=Channel1.Device1.Tag1:INT", "ns=2;s=Channel1.Device1.Tag1:INT", Scalar.INT16, 0),
        ("ns=2;s=a:b;c=d:INT", "ns=2;s=a:b;c=d:INT", Scalar.INT16, 0),
        ("ns=0;i=02258:ldt", "i=2258:LDT", Scalar.DATETIME, 0),
        (
            "nsu=http://acme.com/plc/;i=1001:DINT[8]",
            "nsu=http://acme.com/plc/;i=1001:DINT[8]",
            Scalar.INT32,
            8,
        ),
        ("ns=4;s=profile:INT[50];from=100", "ns=4;s=profile:INT[50];from=100", Scalar.INT16, 50),
        ("ns=4;s=profile:INT;FROM=3", "ns=4;s=profile:INT;from=3", Scalar.INT16, 0),
        (f"ns=2;g={GUID.lower()}:BOOL", f"ns=2;g={GUID}:BOOL", Scalar.BOOLEAN, 0),
        ("ns=2;b=AQIDBA==:LREAL", "ns=2;b=AQIDBA==:LREAL", Scalar.DOUBLE, 0),
        ("ns=3;s=recipe:STRING[20]", "ns=3;s=recipe:STRING[20]", Scalar.STRING, 60),
        ("ns=3;s=recipe:WSTRING[300]", "ns=3;s=recipe:WSTRING[300]", Scalar.STRING, 900),
        ("ns=3;s=day:DATE", "ns=3;s=day:DATE", Scalar.DATETIME, 0),
        ("ns=3;s=pause:S5TIME", "ns=3;s=pause:S5TIME", Scalar.INT32, 0),
    ],
)
def test_an_address_is_understood(text: str, canonical: str, scalar: Scalar, length: int) -> None:
    address = OpcUaDriver.parse_address(text)

    assert address.canonical == canonical
    assert (address.scalar, address.length) == (scalar, length)
    assert parse(canonical) == address


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ('ns=3;s="DB1"."speed"', "T213", 'ns=3;s="DB1"."speed":REAL'),
        ("i=2258", "T213", "i=2258:REAL"),
        ("ns=3;s=speed:FLOAT", "T214", "did you mean REAL?"),
        ("ns=3;s=time:DTL", "T214", "ns=3;s=time:LDT"),
        ("ns=3;s=time:DT", "T214", "LDT"),
        ("DB1.DBD0:REAL", "T211", 'ns=3;s="DB1"."speed":REAL'),
        ("speed:REAL", "T211", "nsu="),
        ("ns=x;s=speed:REAL", "T211", ""),
        ("ns=70000;s=speed:REAL", "T216", ""),
        ("ns=2;i=speed:REAL", "T211", "a name is s="),
        ("i=4294967296:REAL", "T216", ""),
        ("ns=2;g=speed:REAL", "T211", ""),
        ("ns=2;b=*:REAL", "T211", ""),
        ("ns=2;s=:REAL", "T211", ""),
        ("ns=2;s=a:REAL;to=3", "T211", ";from=100"),
        ("ns=2;s=a:STRING[9];from=3", "T216", ""),
        ("ns=2;s=a:STRING", "T216", "STRING[20]"),
        ("ns=2;s=a:REAL;from=2147483647", "T216", ""),
        ("", "T211", ""),
    ],
)
def test_who_is_wrong_is_told_what_to_write(text: str, code: str, hint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_the_driver_keeps_the_contract_of_all_drivers() -> None:
    check_driver(
        OpcUaDriver,
        addresses={
            'ns=3;s="DB1"."speed":REAL': (Scalar.FLOAT, 0),
            "nsu=urn:plant;i=7:DINT[8];from=2": (Scalar.INT32, 8),
            "i=2258:LDT": (Scalar.DATETIME, 0),
        },
        not_addresses=["", "speed", "ns=1", "DB1.DBW0:INT", "hr:1:INT"],
        urls=["opc.tcp://10.0.0.1", "opc.tcp://plc:4840/UA/Plant", "opc.tcp://[::1]:4841"],
        not_urls=[
            "http://10.0.0.1",
            "opc.tcp://",
            "opc.tcp://u:p@plc",
            "opc.tcp://plc:0x",
            "opc.tcp://a?b=c",
            "",
        ],
    )


types = st.sampled_from(sorted(name for name in TYPES if name not in ("DT", "DTL")))


@st.composite
def addresses(draw: st.DrawFn) -> str:
    name = draw(types)
    length = draw(st.integers(0, 99))
    text = TYPES[name] in TEXTS
    kind = f"{name}[{length + 1}]" if text or length else name
    first = f";from={draw(st.integers(0, 10**6))}" if not text and draw(st.booleans()) else ""
    space = draw(
        st.one_of(st.just(""), st.integers(0, 65_535).map(lambda i: f"ns={i};"), st.just("nsu=urn:a:b;"))
    )
    identifier = draw(
        st.one_of(
            st.integers(0, 2**32 - 1).map(lambda i: f"i={i}"),
            st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40).map(
                lambda s: f"s={s}"
            ),
            st.uuids().map(lambda u: f"g={u}"),
            st.binary(min_size=1, max_size=20).map(lambda b: f"b={base64.b64encode(b).decode()}"),
        )
    )
    return f"{space}{identifier}:{kind}{first}"


@given(addresses())
def test_every_address_has_one_spelling(text: str) -> None:
    address = parse(text)
    again = parse(address.canonical)
    assert again == address
    assert again.canonical == address.canonical
    assert address.space.unit_bytes == address.codec.size_bytes > 0


@given(st.text(max_size=60))
def test_whatever_is_written_is_an_address_or_refused_with_a_reason(text: str) -> None:
    try:
        parse(text)
    except AddressError as exc:
        assert str(exc)  # noqa: PT017 - either outcome is right


def places(*texts: str) -> list[OpcUaAddress]:
    return [parse(text) for text in texts]


def test_values_are_asked_for_together_up_to_the_limit_and_none_twice() -> None:
    rows = places("i=1:INT", "i=2:INT", "i=1:INT", "i=1:REAL", "i=3:INT[4];from=1", "i=3:INT[4];from=5")

    plan = plan_reads(rows, OpcUaShape(3))

    assert [len(request.fragments) for request in plan.requests] == [3, 2]
    assert plan.image_at[0] == plan.image_at[2]
    assert plan.image_bytes == 2 + 2 + 4 + 8 + 8


def test_the_elements_of_an_array_are_a_range_as_the_standard_writes_it() -> None:
    # Part 4 §7.27
    assert parse("i=3:INT[4];from=10").space.range == "10:13"
    assert parse("i=3:INT;from=10").space.range == "10"
    assert parse("i=3:INT[4]").space.range == ""


def test_an_index_means_the_namespace_it_meant_at_first() -> None:
    names = Names()
    names.learn(["http://opcfoundation.org/UA/", "urn:plc", "urn:db"])
    assert names.resolve(parse("ns=2;s=a:INT").space.node) == ua.NodeId("a", 2)

    names.learn(["http://opcfoundation.org/UA/", "urn:db", "urn:plc"])

    assert names.resolve(parse("ns=2;s=a:INT").space.node) == ua.NodeId("a", 1)
    assert names.resolve(parse("nsu=urn:plc;s=a:INT").space.node) == ua.NodeId("a", 2)
    assert names.resolve(parse("i=2258:LDT").space.node) == ua.NodeId(2258, 0)
    names.learn(["http://opcfoundation.org/UA/", "urn:plc"])
    gone = names.resolve(parse("ns=2;s=a:INT").space.node)
    assert isinstance(gone, Fault)
    assert "D375" in gone.reason
    assert "urn:db" in gone.reason


def test_every_kind_of_identifier_becomes_the_node_it_names() -> None:
    names = Names()
    names.learn(["http://opcfoundation.org/UA/", "urn:plc"])
    assert names.resolve(parse(f"ns=1;g={GUID}:INT").space.node).Identifier == uuid.UUID(GUID)
    assert names.resolve(parse("ns=1;b=AQID:INT").space.node).Identifier == b"\1\2\3"
    assert names.resolve(parse("ns=1;i=7:INT").space.node).Identifier == 7
