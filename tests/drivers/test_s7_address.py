"""S7 addresses: what is understood, and what people who are wrong are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.s7 import S7Driver
from edge_opcua.drivers.s7.address import parse
from edge_opcua.errors import AddressError


@pytest.mark.parametrize(
    ("text", "canonical", "scalar", "length", "size"),
    [
        ("DB10.DBD16:REAL", "DB10.DBD16:REAL", Scalar.FLOAT, 0, 4),
        ("db10.dbd16:real", "DB10.DBD16:REAL", Scalar.FLOAT, 0, 4),
        ("DB10.DBX10.3:BOOL", "DB10.DBX10.3:BOOL", Scalar.BOOLEAN, 0, 1),
        ("DB10.DBX10.3", "DB10.DBX10.3:BOOL", Scalar.BOOLEAN, 0, 1),
        ("DB10.DBX10.6:BOOL[4]", "DB10.DBX10.6:BOOL[4]", Scalar.BOOLEAN, 4, 2),
        ("DB5.DBB10:STRING[32]", "DB5.DBB10:STRING[32]", Scalar.STRING, 64, 34),
        ("DB10:38:STRING[16]", "DB10.DBB38:STRING[16]", Scalar.STRING, 32, 18),
        ("DB1.DBB8:LREAL", "DB1.DBB8:LREAL", Scalar.DOUBLE, 0, 8),
        ("DB1.DBX8.0:LREAL", "DB1.DBB8:LREAL", Scalar.DOUBLE, 0, 8),
        ("DB1.DBD0:REAL[8]", "DB1.DBD0:REAL[8]", Scalar.FLOAT, 8, 32),
        ("DB1.DBW0:WORD", "DB1.DBW0:WORD", Scalar.UINT16, 0, 2),
        ("MW10:INT", "MW10:INT", Scalar.INT16, 0, 2),
        ("M10.1", "M10.1:BOOL", Scalar.BOOLEAN, 0, 1),
        ("%I0.0:BOOL", "I0.0:BOOL", Scalar.BOOLEAN, 0, 1),
        ("E0.7", "I0.7:BOOL", Scalar.BOOLEAN, 0, 1),
        ("AB4:BYTE", "QB4:BYTE", Scalar.BYTE, 0, 1),
        ("MD0:TIME", "MD0:TIME", Scalar.INT32, 0, 4),
        ("DB1.DBB0:DTL", "DB1.DBB0:DTL", Scalar.DATETIME, 0, 12),
        ("DB1.DBB0:DATE_AND_TIME[2]", "DB1.DBB0:DT[2]", Scalar.DATETIME, 2, 16),
        ("DB1.DBW2:DATE", "DB1.DBW2:DATE", Scalar.DATETIME, 0, 2),
        ("DB1.DBW2:S5TIME", "DB1.DBW2:S5TIME", Scalar.INT32, 0, 2),
        ("DB1.DBB4:WSTRING[10]", "DB1.DBB4:WSTRING[10]", Scalar.STRING, 30, 24),
        # LOGO! and S7-200: variable memory is data block 1.
        ("VW10:INT", "DB1.DBW10:INT", Scalar.INT16, 0, 2),
        ("V12.3", "DB1.DBX12.3:BOOL", Scalar.BOOLEAN, 0, 1),
        ("vd8:REAL", "DB1.DBD8:REAL", Scalar.FLOAT, 0, 4),
        ("VB0:USINT[4]", "DB1.DBB0:USINT[4]", Scalar.BYTE, 4, 4),
    ],
)
def test_an_address_is_understood(text: str, canonical: str, scalar: Scalar, length: int, size: int) -> None:
    address = S7Driver.parse_address(text)

    assert address.canonical == canonical
    assert (address.scalar, address.length, address.size) == (scalar, length, size)
    assert parse(canonical) == address


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("DB10.DBD16", "T213", "DB10.DBD16:REAL"),
        ("DB10.DBW16", "T213", "DB10.DBW16:INT"),
        ("DB10:16", "T213", "DB10:16:BOOL"),
        ("DB10.DBD16:FLOAT", "T214", "did you mean REAL?"),
        ("DB10.DBD16:", "T213", "REAL"),
        ("DB10.DBX10:BOOL", "T215", "DBX0.3"),
        ("DB10.DBX10.8:BOOL", "T215", "DBX11.0"),
        ("DB10.DBX10.3:REAL", "T215", ""),
        ("DB10.DBW10.3:INT", "T215", "leave the bit away"),
        ("DB10.DBW16:REAL", "T218", "write DB10.DBD16:REAL"),
        ("DB10.DBD16:LREAL", "T218", "write DB10.DBB16:LREAL"),
        ("MW10:REAL", "T218", "write MD10:REAL"),
        ("DB10.DBW16.0:BOOL", "T218", "DBX"),
        ("DB0.DBW0:INT", "T216", ""),
        ("VW0:REAL", "T218", "write VD0:REAL"),
        ("DB1.DBB0:DATETIME", "T214", "did you mean DT?"),
        ("DB99999.DBW0:INT", "T216", ""),
        ("DB1.DBW65535:INT", "T216", ""),
        ("DB1.DBQ0:INT", "T211", "DBX a bit"),
        ("T5:TIME", "T211", "copy the value into a data block"),
        ("hr:100:REAL", "T211", "DB10.DBD16:REAL"),
        ("", "T211", "DB10"),
    ],
)
def test_a_wrong_address_is_explained(text: str, code: str, hint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert caught.value.code == code
    assert hint in caught.value.hint


def test_inputs_cannot_be_written() -> None:
    assert not parse("I0.0").writable
    assert parse("Q0.0").writable
    assert parse("DB1.DBW0:INT").writable


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = parse(text)
    except AddressError as exc:
        assert exc.code.startswith("T21")  # noqa: PT017 - either outcome is right
    else:
        assert address.size >= 1
