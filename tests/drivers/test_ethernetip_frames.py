"""Whatever bytes a device sends, they become values, refusals or a DeviceError; nothing else gets out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.drivers.ethernetip import cip, reasons
from edge_opcua.drivers.ethernetip.address import parse
from edge_opcua.drivers.ethernetip.cip import Reply
from edge_opcua.drivers.ethernetip.content import attribute_image, split_type, tag_image
from edge_opcua.drivers.ethernetip.probe import read_plate
from edge_opcua.drivers.ethernetip.session import route_path
from edge_opcua.drivers.ethernetip.settings import parse_url
from edge_opcua.drivers.ethernetip.taglist import read_symbols, read_template
from edge_opcua.drivers.ethernetip.types import CIP_TYPES, READABLE, accepts
from edge_opcua.drivers.planner import Fragment
from edge_opcua.drivers.wire import Fault
from edge_opcua.errors import DeviceError

ADDRESSES = (
    *("D:DINT", "D[7]:INT[5]", "B:BOOL", "B[40]:BOOL[9]", "D.3:BOOL", "D.30:BOOL[8]", "L:LREAL[3]"),
    *("S:STRING", "S[2]:STRING[5]", "@4/1/3:BYTES[8]", "@4/1/3+6.5:BOOL[4]", "@1/1/7:STRING[9]"),
)
raw = st.binary(max_size=200)
heads = st.sampled_from(
    [bytes((code, 0)) for code in (*CIP_TYPES, 0x00, 0x77)] + [b"\xa0\x02\xce\x0f", b"\xa0\x02\1\2"]
)


def fragment_of(text: str) -> Fragment:
    address = parse(text)
    return Fragment(address.space, address.start, address.size, rows=(0,))


@given(text=st.sampled_from(ADDRESSES), head=heads, value=raw)
def test_a_value_has_the_size_of_its_place_or_is_none(text: str, head: bytes, value: bytes) -> None:
    address, fragment = parse(text), fragment_of(text)
    try:
        image: bytes | Fault
        if address.space.generic:
            image = attribute_image(fragment, value)
        else:
            image = tag_image(fragment, *split_type(head + value))
    except DeviceError:
        return
    if isinstance(image, Fault):
        assert image.reason[:3] == "D36"
        return
    assert len(image) == address.size * address.space.unit_bytes
    address.codec.decode(image)


READERS: dict[str, Callable[[bytes], Any]] = {
    "reply": lambda body: cip.parse_reply(body, 0x4C),
    "reply that begins well": lambda body: cip.parse_reply(b"\xcc\0" + body, 0x4C),
    "packet": lambda body: cip.parse_multiple(Reply(0, 0, body), (0x4C, 0x0E)),
    "packet that begins well": lambda body: cip.parse_multiple(Reply(0, 0, b"\2\0\6\0" + body), (0x4C, 0x0E)),
    "type": split_type,
    "identity": read_plate,
    "symbols": lambda body: read_symbols(body, ""),
    "template": lambda body: read_template(body, 3),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
@given(body=raw)
def test_any_bytes_are_read_or_are_a_device_error(reader: Callable[[bytes], Any], body: bytes) -> None:
    try:
        reader(body)
    except DeviceError as exc:
        assert str(exc)  # noqa: PT017 - either outcome is right


@given(st.lists(st.tuples(st.sampled_from((0x4C, 0x0E)), raw), min_size=1, max_size=20))
def test_a_packet_gives_each_service_its_own_answer(answers: list[tuple[int, bytes]]) -> None:
    frames = [bytes((code | 0x80, 0, 0x1E, 1)) + b"\5\x21" + body for code, body in answers]
    at, offsets = 2 + 2 * len(frames), []
    for frame in frames:
        offsets.append(at)
        at += len(frame)
    packet = struct.pack(f"<{1 + len(offsets)}H", len(offsets), *offsets) + b"".join(frames)

    read = cip.parse_multiple(Reply(0x1E, 0, packet), [code for code, _ in answers])

    assert read == [Reply(0x1E, 0x2105, body) for _, body in answers]


def test_every_type_an_address_may_name_has_a_carrier_that_it_accepts() -> None:
    assert {name for kind in CIP_TYPES.values() for name in kind.read_as} == set(READABLE)
    for kind in CIP_TYPES.values():
        assert all(accepts(name, kind.code) for name in kind.read_as)
    # The same bits with another sign would be another number.
    assert not accepts("UDINT", 0xC4)
    assert not accepts("REAL", 0xC4)


def test_a_route_is_ports_and_links() -> None:
    def route(text: str) -> bytes:
        return route_path(parse_url(f"eip://h?route={text}").route)

    assert route("1,0") == bytes((1, 0))
    assert route("1,4,2,10.1.1.9,1,0") == bytes((1, 4, 0x12, 8)) + b"10.1.1.9" + bytes((1, 0))
    assert route("2,10.1.1.10") == bytes((0x12, 9)) + b"10.1.1.10\0"
    assert route("") == b""


def test_every_status_has_a_code_that_can_be_explained() -> None:
    replies = [Reply(status, 0, b"") for status in range(256)]
    replies += [Reply(1, extended, b"") for extended in reasons.CONNECTION]
    for reply in replies:
        assert reasons.fault_of(reply, "read of x").reason.startswith("D36")
        assert reasons.connection_refusal(reply)[0] in {f"D36{i}" for i in range(10)}
