"""Single values to bytes: what is written is what is read; what does not fit is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH, Scalar
from edge_opcua.drivers.codec import unscaled
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.s7 import address as s7
from edge_opcua.errors import WriteRejectedError
from tests.drivers.rows import NUMBERS, ORDERS, packed, registers_of


@given(st.data(), st.sampled_from(sorted(NUMBERS)), st.sampled_from(ORDERS))
def test_a_number_is_written_as_the_device_reads_it(data: st.DataObject, kind: str, order: str) -> None:
    value = data.draw(NUMBERS[kind][1].filter(lambda v: abs(v) != float("inf")))
    codec = modbus.parse(f"hr:0:{kind};order={order}").codec
    expected = b"".join(word.to_bytes(2, "big") for word in registers_of(kind, value, order))

    assert codec.encode(value) == expected
    assert codec.decode(expected) == value
    assert s7.parse(f"DB1:0:{kind}").codec.encode(value) == packed(kind, value)


@given(st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=16))
def test_an_s7_string_is_written_with_its_lengths(text: str) -> None:
    codec = s7.parse("DB1.DBB0:STRING[16]").codec
    wire = codec.encode(text)

    assert wire[:2] == bytes((16, len(text)))
    assert len(wire) == 18
    assert codec.decode(wire) == text


@pytest.mark.parametrize(
    ("address", "value", "status"),
    [
        ("hr:0:INT", 32768, BAD_OUT_OF_RANGE),
        ("hr:0:INT", -32769, BAD_OUT_OF_RANGE),
        ("hr:0:UINT", -1, BAD_OUT_OF_RANGE),
        ("hr:0:ULINT", 2**64, BAD_OUT_OF_RANGE),
        ("hr:0:LINT", 10**40, BAD_OUT_OF_RANGE),
        ("hr:0:INT", 1.5, BAD_TYPE_MISMATCH),
        ("hr:0:INT", True, BAD_TYPE_MISMATCH),
        ("hr:0:INT", "1", BAD_TYPE_MISMATCH),
        ("hr:0:INT", None, BAD_TYPE_MISMATCH),
        ("hr:0:INT", [1], BAD_TYPE_MISMATCH),
        ("hr:0:INT[2]", 1, BAD_TYPE_MISMATCH),
        ("hr:0:INT[2]", [1, 2, 3], BAD_TYPE_MISMATCH),
        ("hr:0:INT[2]", [[1], [2, 3]], BAD_TYPE_MISMATCH),
        ("hr:0:REAL", float("nan"), BAD_OUT_OF_RANGE),
        ("hr:0:REAL", float("inf"), BAD_OUT_OF_RANGE),
        ("hr:0:REAL", 1e39, BAD_OUT_OF_RANGE),
        ("hr:0.0:BOOL", 1, BAD_TYPE_MISMATCH),
        ("hr:0.0:BOOL[2]", [True], BAD_TYPE_MISMATCH),
        ("hr:0:STRING[4]", 4, BAD_TYPE_MISMATCH),
        ("hr:0:STRING[4]", "fünf5", BAD_OUT_OF_RANGE),
    ],
)
def test_what_does_not_fit_is_refused(address: str, value: Any, status: int) -> None:
    with pytest.raises(WriteRejectedError) as caught:
        modbus.parse(address).codec.encode(value)
    assert caught.value.status == status


def test_a_character_the_plc_cannot_hold_is_refused() -> None:
    with pytest.raises(WriteRejectedError) as caught:
        s7.parse("DB1.DBB0:STRING[4]").codec.encode("5 €")
    assert caught.value.status == BAD_OUT_OF_RANGE


def test_unsigned_integers_of_an_array_are_exact_beside_small_ones() -> None:
    codec = modbus.parse("hr:0:ULINT[2]").codec
    assert codec.encode([0, 2**64 - 1]) == bytes(8) + b"\xff" * 8
    assert codec.encode([0, 2**53 + 1]) == bytes(8) + (2**53 + 1).to_bytes(8, "big")


def test_a_whole_float_is_a_number_for_an_integer() -> None:
    # Clients such as UaExpert write 30.0 into an Int16 tag after scaling.
    assert modbus.parse("hr:0:INT").codec.encode(30.0) == b"\0\x1e"


@given(st.integers(-1000, 1000))
def test_scaling_is_undone_before_a_write(raw: int) -> None:
    assert unscaled(raw * 0.1 + 5.0, scalar=Scalar.INT16, scale=0.1, offset=5.0) == raw


@pytest.mark.parametrize("value", [True, "1", None, [1]])
def test_only_numbers_can_be_unscaled(value: Any) -> None:
    with pytest.raises(WriteRejectedError):
        unscaled(value, scalar=Scalar.INT16, scale=0.1, offset=0.0)


def test_infinity_cannot_be_unscaled() -> None:
    with pytest.raises(WriteRejectedError):
        unscaled(float("inf"), scalar=Scalar.FLOAT, scale=0.1, offset=0.0)
    assert unscaled(1.0, scalar=Scalar.FLOAT, scale=0.5, offset=0.0) == 2.0
