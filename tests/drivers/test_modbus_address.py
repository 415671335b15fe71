"""Modbus addresses: what is understood, and what people who are wrong are told."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.iec import TYPES
from edge_opcua.drivers.modbus import ModbusDriver
from edge_opcua.drivers.modbus.address import byte_places, expand_order, parse
from edge_opcua.errors import AddressError


@pytest.mark.parametrize(
    ("text", "canonical", "scalar", "length", "size"),
    [
        ("1/hr:100:REAL", "1/hr:100:REAL", Scalar.FLOAT, 0, 2),
        ("hr:100:real", "hr:100:REAL", Scalar.FLOAT, 0, 2),
        ("3/hr:20.4:BOOL", "3/hr:20.4:BOOL", Scalar.BOOLEAN, 0, 1),
        ("3/hr:20.4", "3/hr:20.4:BOOL", Scalar.BOOLEAN, 0, 1),
        ("co:7", "co:7:BOOL", Scalar.BOOLEAN, 0, 1),
        ("di:7:BOOL[16]", "di:7:BOOL[16]", Scalar.BOOLEAN, 16, 16),
        ("hr:0.12:BOOL[8]", "hr:0.12:BOOL[8]", Scalar.BOOLEAN, 8, 2),
        ("1/hr:200:STRING[20];order=LH", "1/hr:200:STRING[20];order=LH", Scalar.STRING, 40, 10),
        ("1/hr:200:STRING[3]", "1/hr:200:STRING[3]", Scalar.STRING, 6, 2),
        ("1/hr:100:INT[2000]", "1/hr:100:INT[2000]", Scalar.INT16, 2000, 2000),
        ("1/ir:100:INTx8", "1/ir:100:INT[8]", Scalar.INT16, 8, 8),
        ("hr:2:ULINT;order=cdab", "hr:2:ULINT;order=CDAB", Scalar.UINT64, 0, 4),
        ("hr:2:LREAL;order=GHEFCDAB", "hr:2:LREAL;order=GHEFCDAB", Scalar.DOUBLE, 0, 4),
        ("hr:5:USINT;order=H", "hr:5:USINT;order=H", Scalar.BYTE, 0, 1),
        ("hr:101:INT;base=1", "hr:100:INT", Scalar.INT16, 0, 1),
        ("40101:REAL", "hr:100:REAL", Scalar.FLOAT, 0, 2),
        ("400101:REAL", "hr:100:REAL", Scalar.FLOAT, 0, 2),
        ("2/30001:UINT", "2/ir:0:UINT", Scalar.UINT16, 0, 1),
        ("10001", "di:0:BOOL", Scalar.BOOLEAN, 0, 1),
        ("00008", "co:7:BOOL", Scalar.BOOLEAN, 0, 1),
        ("40021.3", "hr:20.3:BOOL", Scalar.BOOLEAN, 0, 1),
        ("hr:40101:INT;base=0", "hr:40101:INT", Scalar.INT16, 0, 1),
        ("hr:40000:INT", "hr:40000:INT", Scalar.INT16, 0, 1),
        ("hr:65535:INT", "hr:65535:INT", Scalar.INT16, 0, 1),
    ],
)
def test_an_address_is_understood(text: str, canonical: str, scalar: Scalar, length: int, size: int) -> None:
    address = ModbusDriver.parse_address(text)

    assert address.canonical == canonical
    assert (address.scalar, address.length, address.size) == (scalar, length, size)
    again = parse(canonical if "40101" not in canonical else canonical + ";base=0")
    assert again == address


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("40101", "T213", "REAL"),
        ("hr:100", "T213", "hr:100:INT"),
        ("hr:40101:INT", "T212", "did you mean hr:100 (Modicon 40101)?"),
        ("hr:400101:INT", "T212", "hr:100"),
        ("ir:30011:INT", "T212", "ir:10"),
        ("co:00012", "T212", "co:11"),
        ("40101:INT;base=0", "T212", "hr:40101;base=0"),
        ("hr:100:FLOAT", "T214", "did you mean REAL?"),
        ("hr:100:INT16", "T214", "did you mean INT?"),
        ("hr:100:DOUBLE", "T214", "did you mean LREAL?"),
        ("hr:100:REEL", "T214", "did you mean REAL?"),
        ("hr:100:QQQQ", "T214", "there are: BOOL"),
        ("hr:100:RE AL", "T214", "REAL"),
        ("hr:100:BOOL", "T215", "hr:100.0:BOOL"),
        ("hr:20.16:BOOL", "T215", "hr:21.0:BOOL"),
        ("co:20.1", "T215", "co:20"),
        ("hr:65536:INT", "T216", ""),
        ("hr:0:INT;base=1", "T216", ""),
        ("40000:INT", "T216", ""),
        ("hr:65535:REAL", "T216", ""),
        ("300/hr:1:INT", "T216", ""),
        ("hr:1:STRING", "T216", "STRING[20]"),
        ("hr:1:STRING[0]", "T216", ""),
        ("hr:1:STRING[500]", "T216", ""),
        ("hr:1:STRINGx4", "T216", "one tag per string"),
        ("hr:1:INT[4]x4", "T216", ""),
        ("hr:1:INT[0]", "T216", "leave the length out"),
        ("hr:1:INT[70000]", "T216", ""),
        ("hr:1:REAL;order=ABDC", "T217", ""),
        ("hr:1:REAL;order=XYZW", "T217", "ABCD, BADC, CDAB, DCBA"),
        ("hr:1:STRING[4];order=ABCD", "T217", ""),
        ("hr:1.1:BOOL;order=CDAB", "T217", "leave ;order away"),
        ("co:1:INT", "T218", "co:1:BOOL"),
        ("hr:1.1:INT", "T218", "hr:1:INT"),
        ("hr:1:INT;swap=yes", "T211", "order=CDAB"),
        ("hr:1:INT;base=7", "T211", ""),
        ("xx:1:INT", "T211", "holding registers"),
        ("DB1.DBD0:REAL", "T211", "1/hr:100:REAL"),
        ("", "T211", "hr:100"),
    ],
)
def test_a_wrong_address_is_explained(text: str, code: str, hint: str) -> None:
    if code == "T217" and text.endswith("ABDC"):
        assert parse(text).order == "ABDC"  # unusual, but an order of four bytes
        return
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert str(caught.value)


def test_only_what_the_protocol_can_write_is_writable() -> None:
    assert parse("hr:0:INT").writable
    assert parse("co:0").writable
    assert not parse("ir:0:INT").writable
    assert not parse("di:0").writable
    # Half a register cannot be written without touching the other half.
    assert not parse("hr:0:BYTE").writable


def test_the_old_notation_is_shown_too() -> None:
    assert parse("hr:100:REAL").modicon == "40101"
    assert parse("hr:20000:REAL").modicon == "420001"
    assert parse("co:0").modicon == "00001"


def test_unit_and_order_come_from_the_device_where_the_address_names_none() -> None:
    plain = parse("hr:0:REAL").at_device(unit=7, order="CDAB")
    own = parse("3/hr:0:REAL;order=DCBA").at_device(unit=7, order="CDAB")
    text = parse("hr:0:STRING[4]").at_device(unit=7, order="CDAB")

    assert plain.canonical == "7/hr:0:REAL;order=CDAB"
    assert own.canonical == "3/hr:0:REAL;order=DCBA"
    assert text.canonical == "7/hr:0:STRING[4]"


@pytest.mark.parametrize(
    ("order", "wide"),
    [("ABCD", "ABCDEFGH"), ("BADC", "BADCFEHG"), ("CDAB", "GHEFCDAB"), ("DCBA", "HGFEDCBA")],
)
def test_an_order_of_four_letters_holds_for_other_sizes(order: str, wide: str) -> None:
    assert expand_order(order, 8) == wide
    assert expand_order(order, 4) == order
    assert expand_order(order, 2) == ("BA" if order in ("BADC", "DCBA") else "AB")


def test_places_name_the_wire_offset_of_each_byte_from_the_least_significant() -> None:
    assert byte_places("ABCD", 4) == (3, 2, 1, 0)
    assert byte_places("DCBA", 4) == (0, 1, 2, 3)
    assert byte_places("CDAB", 4) == (1, 0, 3, 2)


@pytest.mark.parametrize(
    ("order", "swap_quads", "swap_words", "swap_bytes"),
    [
        ("ABCDEFGH", False, False, False),
        ("BADCFEHG", False, False, True),
        ("CDABGHEF", False, True, False),
        ("DCBAHGFE", False, True, True),
        ("EFGHABCD", True, False, False),
        ("FEHGBADC", True, False, True),
        ("GHEFCDAB", True, True, False),
        ("HGFEDCBA", True, True, True),
    ],
)
@given(value=st.integers(-(2**63), 2**63 - 1))
def test_64_bits_are_exact_in_every_order_of_the_field(
    order: str, swap_quads: bool, swap_words: bool, swap_bytes: bool, value: int
) -> None:
    words = list(struct.unpack(">4H", struct.pack(">q", value)))  # put in order by an encoder of its own
    if swap_quads:
        words = words[2:] + words[:2]
    if swap_words:
        words = [words[1], words[0], words[3], words[2]]
    if swap_bytes:
        words = [word >> 8 | (word & 0xFF) << 8 for word in words]
    codec = parse(f"hr:0:LINT;order={order}").codec
    wire = struct.pack(">4H", *words)
    assert codec.decode(wire) == value
    assert codec.encode(value) == wire
    by_device = parse("hr:0:LINT").at_device(unit=1, order="CDAB", order64=order)
    assert by_device.codec.decode(wire) == value
    assert parse("hr:0:REAL").at_device(unit=1, order="CDAB", order64=order).order == "CDAB"


@pytest.mark.parametrize(
    ("order", "wire", "text", "size"),
    [
        ("HL", b"Teil 7", "Teil 7", 3),
        ("LH", b"eTli7 ", "Teil 7", 3),
        ("H", b"T\xffe\xffi\xffl\xff \xff7\xff", "Teil 7", 6),
        ("L", b"\xffT\xffe\xffi\xffl\xff \xff7", "Teil 7", 6),
    ],
)
def test_a_text_lies_in_both_bytes_of_a_register_or_in_one(
    order: str, wire: bytes, text: str, size: int
) -> None:
    address = parse(f"hr:0:STRING[6];order={order}")
    assert address.size == size
    assert address.codec.decode(wire) == text
    assert address.writable is (len(order) == 2)


@given(
    st.sampled_from(("hr", "ir")),
    st.integers(0, 60_000),
    st.sampled_from([name for name in TYPES if name not in ("BOOL", "STRING", "WSTRING")]),
    st.integers(0, 200),
)
def test_what_is_printed_is_read_again(area: str, start: int, kind: str, count: int) -> None:
    text = f"{area}:{start}:{kind}" + (f"[{count}]" if count else "") + ";base=0"
    address = parse(text)

    assert parse(address.canonical + ";base=0") == address
    assert parse(f"{address.modicon}:{address.type}") == address


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = parse(text)
    except AddressError as exc:
        assert exc.code.startswith("T21")  # noqa: PT017 - either outcome is right
    else:
        assert address.size >= 1
