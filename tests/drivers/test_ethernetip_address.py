"""EtherNet/IP addresses: what is understood, and what people who are wrong are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.ethernetip import EtherNetIpDriver
from edge_opcua.drivers.ethernetip.address import EipAddress, parse
from edge_opcua.drivers.ethernetip.cip import attribute_path, tag_path
from edge_opcua.drivers.ethernetip.settings import EipShape, Endpoint, answer_bytes, parse_url, request_bytes
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.errors import AddressError, ConfigError
from edge_opcua.testing import check_driver
from tests.drivers.logixpeer import parse_path


@pytest.mark.parametrize(
    ("text", "canonical", "scalar", "length"),
    [
        ("Program:Main.Pump[3].Speed:REAL", "Program:Main.Pump[3].Speed:REAL", Scalar.FLOAT, 0),
        ("Total:dint", "Total:DINT", Scalar.INT32, 0),
        ("Recipe:DINT[10]", "Recipe:DINT[10]", Scalar.INT32, 10),
        ("Recipe[004]:DINTx10", "Recipe[4]:DINT[10]", Scalar.INT32, 10),
        ("Grid[1, 2]:INT", "Grid[1,2]:INT", Scalar.INT16, 0),
        ("Flags.3:BOOL", "Flags.3:BOOL", Scalar.BOOLEAN, 0),
        ("Alarms[2].31:BOOL", "Alarms[2].31:BOOL", Scalar.BOOLEAN, 0),
        ("Done:BOOL", "Done:BOOL", Scalar.BOOLEAN, 0),
        ("Doors[40]:BOOL[8]", "Doors[40]:BOOL[8]", Scalar.BOOLEAN, 8),
        ("Local:1:I.Data.0:BOOL", "Local:1:I.Data.0:BOOL", Scalar.BOOLEAN, 0),
        ("Local:3:I.Ch0Data:REAL", "Local:3:I.Ch0Data:REAL", Scalar.FLOAT, 0),
        ("Name:STRING", "Name:STRING[82]", Scalar.STRING, 164),
        ("Short:STRING[20]", "Short:STRING[20]", Scalar.STRING, 40),
        ("Energy:LINT", "Energy:LINT", Scalar.INT64, 0),
        ("Energy:ulint", "Energy:ULINT", Scalar.UINT64, 0),
        ("@4/154/3:BYTES[32]", "@4/154/3:BYTE[32]", Scalar.BYTE, 32),
        ("@0x04/154/3+8:REAL", "@4/154/3+8:REAL", Scalar.FLOAT, 0),
        ("@4/154/3+8.2:BOOL", "@4/154/3+8.2:BOOL", Scalar.BOOLEAN, 0),
        ("@1/1/7:STRING", "@1/1/7:STRING[32]", Scalar.STRING, 64),
    ],
)
def test_an_address_is_understood(text: str, canonical: str, scalar: Scalar, length: int) -> None:
    address = EtherNetIpDriver.parse_address(text)

    assert address.canonical == canonical
    assert (address.scalar, address.length) == (scalar, length)
    assert parse(canonical) == address


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("Pump.Speed", "T213", "Pump.Speed:REAL"),
        ("Program:Main.Speed", "T213", "Program:Main.Speed:REAL"),
        ("Local:1:I.Data.3", "T213", "Local:1:I.Data.3:REAL"),
        ("@4/154/3", "T213", "@4/154/3:BYTES[32]"),
        ("Pump.Speed:FLOAT", "T214", "did you mean REAL?"),
        ("Pump.Started:DTL", "T214", "LREAL"),
        ("Flags.64:BOOL", "T215", "Flags[64]:BOOL"),
        ("Flags.3:DINT", "T218", "write Flags:DINT"),
        ("@4/154/3:BOOL", "T215", "@4/154/3.0:BOOL"),
        ("@4/154/3.1:INT", "T218", "BOOL"),
        ("@4/154/3+2:STRING[8]", "T218", ""),
        ("@4/70000/3:INT", "T216", ""),
        ("Recipe:DINT[0]", "T216", ""),
        ("Names:STRING[20]x3", "T216", "one tag per string"),
        ("Recipe[9999999999]:DINT", "T216", ""),
        ("3Pump:REAL", "T211", "Studio 5000"),
        ("My Pump:REAL", "T211", "Studio 5000"),
        ("@4/154:INT", "T211", "class, instance and attribute"),
        ("Pump..Speed:REAL", "T211", "Studio 5000"),
        ("Grid[1,2,3,4]:REAL", "T211", ""),
        ("Program:Main", "T213", ""),
        ("Program:Main:DINT", "T211", "Studio 5000"),
        ("", "T211", "Studio 5000"),
    ],
)
def test_a_wrong_address_is_explained(text: str, code: str, hint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_the_driver_keeps_the_contract() -> None:
    check_driver(
        EtherNetIpDriver,
        addresses={
            "Program:Main.Pump[3].Speed:REAL": (Scalar.FLOAT, 0),
            "Recipe:DINT[10]": (Scalar.INT32, 10),
            "flags.3:bool": (Scalar.BOOLEAN, 0),
            "Name:STRING": (Scalar.STRING, 164),
            "@0x4/154/3:BYTES[32]": (Scalar.BYTE, 32),
        },
        not_addresses=["", "Pump", "DB10.DBD16:FLOAT", "@4:INT", "Pump:REAL:REAL.x"],
        urls=[
            "eip://10.0.0.1",
            "eip://10.0.0.1:44818/3",
            "eip://plc?micro800=1",
            "eip://plc?route=1,4,2,10.1.1.9",
        ],
        not_urls=[
            "",
            "s7://10.0.0.1",
            "eip://",
            "eip://h/99",
            "eip://h/x",
            "eip://h?route=1",
            "eip://h?cpu=1",
        ],
    )


@given(st.text(max_size=40) | st.from_regex(r"\A[@A-Za-z:.\[\]0-9/,+]{1,30}:(DINT|BOOL|STRING|REAL\[3\])\Z"))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = parse(text)
    except AddressError as exc:
        assert exc.code.startswith("T21")  # noqa: PT017 - either outcome is right
    else:
        assert address.size >= 1
        assert parse(address.canonical) == address


names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,12}\Z")
indices = st.sampled_from((0, 3, 255, 256, 65_535, 65_536))


@given(st.lists(st.tuples(names, st.lists(indices, max_size=2)), min_size=1, max_size=4), names, indices)
def test_a_path_names_what_the_address_named(
    parts: list[tuple[str, list[int]]], program: str, last: int
) -> None:
    written = [name + (f"[{','.join(map(str, numbers))}]" if numbers else "") for name, numbers in parts]
    path = f"Program:{program}." + ".".join(written)

    assert parse_path(tag_path(path, 0)) == (path.lower(), {})
    assert parse_path(tag_path(f"{path}.x", last))[0] == f"{path}.x".lower() + (f"[{last}]" if last else "")
    assert parse_path(tag_path(f"{path}.x[7,", last))[0] == f"{path}.x[7,{last}]".lower()


def test_a_path_of_an_attribute_is_a_class_an_instance_and_an_attribute() -> None:
    assert parse_path(attribute_path("@4/154/3")) == ("", {"class": 4, "instance": 154, "attribute": 3})
    assert parse_path(attribute_path("@768/1/300"))[1] == {"class": 768, "instance": 1, "attribute": 300}


def addresses(*texts: str) -> list[EipAddress]:
    return [parse(text) for text in texts]


def test_neighbouring_elements_are_one_service_and_distant_tags_share_a_request() -> None:
    plan = plan_reads(
        addresses("D[5]:DINT", "D[3]:DINT", "D[30]:DINT[4]", "D[900]:DINT", "R:REAL"), EipShape()
    )
    (request,) = plan.requests
    assert [(f.start, f.size) for f in request.fragments] == [(3, 31), (900, 1), (0, 1)]


def test_two_types_of_one_tag_are_not_read_together() -> None:
    (request,) = plan_reads(addresses("D[5]:DINT", "D[6]:REAL"), EipShape()).requests
    assert len(request.fragments) == 2


@pytest.mark.parametrize("limit", [480, 500, 4000])
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60, unique=True), st.integers(0, 30))
def test_no_request_and_no_answer_is_larger_than_a_connection(
    limit: int, starts: list[int], length: int
) -> None:
    kind = f"LREAL[{length}]" if length else "LREAL"
    texts = [f"Program:Main.Data{start}[{start}]:{kind}" for start in starts] + [
        f"F[{s}]:BOOL" for s in starts
    ]
    for request in plan_reads(addresses(*texts), EipShape(limit)).requests:
        assert 10 + sum(map(request_bytes, request.fragments)) <= limit
        assert 8 + sum(map(answer_bytes, request.fragments)) <= limit


def test_a_micro800_is_asked_for_one_thing_at_a_time() -> None:
    plan = plan_reads(addresses("A:DINT", "B:DINT"), EipShape(batches=False))
    assert [len(request.fragments) for request in plan.requests] == [1, 1]


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("eip://10.0.0.1", Endpoint("10.0.0.1", 44818, ((1, 0),), micro800=False)),
        ("eip://plc:2222/3", Endpoint("plc", 2222, ((1, 3),), micro800=False)),
        ("eip://plc?route=1,4,2,10.1.1.9", Endpoint("plc", 44818, ((1, 4), (2, "10.1.1.9")), micro800=False)),
        ("eip://drive?route=", Endpoint("drive", 44818, (), micro800=False)),
        ("eip://small?micro800=1", Endpoint("small", 44818, (), micro800=True)),
    ],
)
def test_a_url_names_host_and_route(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(
    "url",
    ["10.0.0.1", "eip:///1", "eip://h/-1", "eip://h?route=1,x", "eip://h/1?route=1,2", "eip://h?route=0,1"],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="eip://"):
        parse_url(url)
