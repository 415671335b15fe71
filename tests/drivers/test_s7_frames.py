"""Answers of a PLC: taken apart per item, and nothing is believed that does not fit to the byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snap7.s7protocol import S7Protocol

from edge_opcua.core.values import BAD_CONFIGURATION_ERROR, BAD_DEVICE_FAILURE, BAD_USER_ACCESS_DENIED
from edge_opcua.drivers.s7 import reasons
from edge_opcua.drivers.s7.frames import (
    HeaderRefusedError,
    parse_read,
    parse_setup,
    parse_system,
    parse_write,
    read_request,
    sequence_of,
)
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import DeviceError, DeviceRefusedError

NUMBER = 77


def answer(
    parameters: bytes, data: bytes, *, number: int = NUMBER, kind: int = 3, error: tuple[int, int] = (0, 0)
) -> bytes:
    return (
        struct.pack(">BBHHHHBB", 0x32, kind, 0, number, len(parameters), len(data), *error)
        + parameters
        + data
    )


def item(payload: bytes, *, last: bool = False) -> bytes:
    pad = b"" if last or len(payload) % 2 == 0 else b"\0"
    return struct.pack(">BBH", 0xFF, 0x04, 8 * len(payload)) + payload + pad


def read(pdu: bytes, *sizes: int) -> list[bytes | Fault]:
    return parse_read(pdu, NUMBER, [f"DB{i}" for i in range(len(sizes))], sizes)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=20), st.booleans())
def test_items_come_apart_as_they_were_put_together(parts: list[bytes], padded: bool) -> None:
    data = b"".join(item(part) for part in parts[:-1]) + item(parts[-1], last=not padded)
    pdu = answer(bytes((4, len(parts))), data)

    assert read(pdu, *(len(part) for part in parts)) == parts


def test_one_refused_item_does_not_cost_the_others() -> None:
    # python-snap7 raises here and gives nothing of the other two.
    data = item(b"abc") + struct.pack(">BBH", 0x0A, 0, 0) + item(b"wxyz", last=True)

    first, refused, last = read(answer(b"\x04\x03", data), 3, 10, 4)

    assert (first, last) == (b"abc", b"wxyz")
    assert isinstance(refused, Fault)
    assert refused.kind is FaultKind.DENIED
    assert refused.reason.startswith("D331 read of DB1")


@pytest.mark.parametrize(
    ("code", "kind", "stable"),
    [
        (0x01, FaultKind.DEVICE, "D344"),
        (0x03, FaultKind.DENIED, "D331"),
        (0x05, FaultKind.ADDRESS, "D332"),
        (0x06, FaultKind.ADDRESS, "D334"),
        (0x07, FaultKind.ADDRESS, "D334"),
        (0x0A, FaultKind.DENIED, "D331"),
        (0x77, FaultKind.DEVICE, "D340"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, kind: FaultKind, stable: str) -> None:
    (fault,) = read(answer(b"\x04\x01", struct.pack(">BBH", code, 0, 4)), 10)

    assert isinstance(fault, Fault)
    assert fault.kind is kind
    assert fault.reason.startswith(stable)


def test_access_denied_in_the_header_names_put_get() -> None:
    with pytest.raises(HeaderRefusedError) as caught:
        read(answer(b"", b"", error=(0x81, 0x04)), 10)
    fault = caught.value.fault("read of DB1")
    assert fault.kind is FaultKind.DENIED
    assert fault.reason.startswith("D331 read of DB1: access denied")
    assert "PUT/GET" in fault.reason


@pytest.mark.parametrize(
    ("error", "kind", "stable"),
    [
        ((0x83, 0x01), FaultKind.BUSY, "D335"),
        ((0x85, 0x00), FaultKind.DEVICE, "D337"),
        ((0x87, 0x02), FaultKind.DENIED, "D331"),
        ((0xD2, 0x41), FaultKind.DENIED, "D336"),
        ((0x99, 0x00), FaultKind.DEVICE, "D340"),
    ],
)
def test_a_refused_request_says_what_to_do(error: tuple[int, int], kind: FaultKind, stable: str) -> None:
    with pytest.raises(HeaderRefusedError) as caught:
        read(answer(b"", b"", error=error), 10)
    fault = caught.value.fault("read of M")
    assert (fault.kind, fault.reason[:4]) == (kind, stable)


BROKEN = {
    "too short": b"\x32\x03\0\0",
    "another protocol": b"\x33" + answer(b"\x04\x01", item(b"ab"))[1:],
    "a request": answer(b"\x04\x01", item(b"ab"), kind=1),
    "another request's answer": answer(b"\x04\x01", item(b"ab"), number=NUMBER - 1),
    "an answer to a write": answer(b"\x05\x01", item(b"ab")),
    "too few items": answer(b"\x04\x00", b""),
    "cut data": answer(b"\x04\x01", item(b"ab"))[:-1],
    "a shorter item": answer(b"\x04\x01", item(b"a", last=True)),
    "a longer item": answer(b"\x04\x01", item(b"abcd")),
    "an item header cut": answer(b"\x04\x01", b"\xff\x04"),
    "bytes behind": answer(b"\x04\x01", item(b"ab") + b"\0\0\0"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_nothing_is_believed_that_does_not_fit(what: str) -> None:
    with pytest.raises(DeviceError):
        read(BROKEN[what], 2)


@given(st.binary(max_size=80))
def test_no_bytes_at_all_do_harm(garbage: bytes) -> None:
    for parse in (
        lambda: read(garbage, 2),
        lambda: parse_setup(garbage, 1),
        lambda: parse_write(garbage, 1, "DB1"),
        lambda: parse_system(garbage, 1),
    ):
        with pytest.raises(DeviceError):
            parse()


def test_the_pdu_size_is_agreed() -> None:
    assert parse_setup(answer(struct.pack(">BBHHH", 0xF0, 0, 3, 1, 240), b""), NUMBER) == (240, 3)
    assert parse_setup(answer(struct.pack(">BBHHH", 0xF0, 0, 0, 0, 960), b""), NUMBER) == (960, 1)
    assert parse_setup(answer(struct.pack(">BBHHH", 0xF0, 0, 99, 9, 480), b""), NUMBER) == (480, 8)
    with pytest.raises(DeviceError):
        parse_setup(answer(struct.pack(">BBHHH", 0xF0, 0, 1, 1, 20), b""), NUMBER)
    with pytest.raises(DeviceError):
        parse_setup(answer(b"\x04\x01", item(b"ab")), NUMBER)


@pytest.mark.parametrize(
    ("pdu", "status", "code"),
    [
        (answer(b"\x05\x01", b"\x0a"), BAD_CONFIGURATION_ERROR, "D331"),
        (answer(b"\x05\x01", b"\x05"), BAD_CONFIGURATION_ERROR, "D332"),
        (answer(b"\x05\x01", b"\x55"), BAD_DEVICE_FAILURE, "D340"),
        (answer(b"", b"", error=(0x81, 0x04)), BAD_USER_ACCESS_DENIED, "D331"),
        (answer(b"", b"", error=(0x85, 0x00)), BAD_DEVICE_FAILURE, "D337"),
    ],
)
def test_a_refused_write_has_a_status_and_a_code(pdu: bytes, status: int, code: str) -> None:
    with pytest.raises(DeviceRefusedError) as caught:
        parse_write(pdu, NUMBER, "DB11")
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_write_is_good_only_with_one_success_code() -> None:
    parse_write(answer(b"\x05\x01", b"\xff"), NUMBER, "DB11")
    with pytest.raises(DeviceError):
        parse_write(answer(b"\x05\x01", b""), NUMBER, "DB11")


def test_a_request_is_that_of_the_library() -> None:
    # python-snap7 is the other opinion on the twelve bytes of an address.
    protocol = S7Protocol()
    items = [(0x84, 10, 3, 5), (0x83, 0, 65_535, 1), (0x81, 0, 0, 200)]
    theirs = protocol.build_multi_read_request(items)
    assert read_request(protocol.sequence, items) == theirs
    assert sequence_of(theirs) == protocol.sequence
    assert sequence_of(b"HTTP/1.1 400") == -1


def system(content: bytes, *, more: int = 0, error: bytes = b"\0\0", code: int = 0xFF) -> bytes:
    """A part of an answer to a system request: Type 8 (response), group 4 (SZL)."""
    parameters = bytes((0, 1, 0x12, 8, 0x12, 0x84, 1, more or 1, 0, 1 if more else 0)) + error
    data = struct.pack(">BBH", code, 9, len(content)) + content
    return struct.pack(">BBHHHH", 0x32, 7, 0, NUMBER, len(parameters), len(data)) + parameters + data


def test_a_system_answer_is_its_content_and_where_it_goes_on() -> None:
    assert parse_system(system(b"abcd"), NUMBER) == (b"abcd", 0)
    assert parse_system(system(b"abcd", more=7), NUMBER) == (b"abcd", 7)


@pytest.mark.parametrize(
    ("pdu", "stable"),
    [
        (system(b"", error=b"\xd4\x01"), "D337"),
        (system(b"", error=b"\xd2\x41"), "D336"),
        (system(b"", code=0x0A), "D337"),
        (answer(b"", b"", error=(0x81, 0x04)), "D331"),
    ],
)
def test_a_cpu_that_does_not_tell_says_why(pdu: bytes, stable: str) -> None:
    with pytest.raises(HeaderRefusedError) as caught:
        parse_system(pdu, NUMBER)
    assert caught.value.refusal.reason.code == stable


def test_the_reason_of_a_refused_connection_is_told() -> None:
    # ISO 8073 13.5.3: 2 is "session entity not attached to the TSAP", 1 congestion.
    assert reasons.of_transport(2).code == "D320"
    assert reasons.of_transport(1).code == "D321"
    assert reasons.of_transport(0).code == "D320"
