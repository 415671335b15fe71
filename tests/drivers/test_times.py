"""Dates and times of PLCs, by an encoder that writes digits as text and counts with datetime."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.batch import TagBatch
from edge_opcua.core.ticks import from_text, from_utc, to_utc
from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_SENSOR_FAILURE, GOOD, Scalar
from edge_opcua.drivers.codec import Codec
from edge_opcua.drivers.decode import Decoder, Row
from edge_opcua.drivers.iec import DATETIME
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.planner import Place
from edge_opcua.drivers.s7.address import parse
from edge_opcua.errors import AddressError, WriteRejectedError
from tests.drivers.rows import layout_of

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MS = dt.timedelta(milliseconds=1)
US = dt.timedelta(microseconds=1)


def moments(first: str, last: str, step: dt.timedelta) -> st.SearchStrategy[dt.datetime]:
    start, end = (dt.datetime.fromisoformat(each).replace(tzinfo=dt.UTC) for each in (first, last))
    return st.integers(0, (end - start) // step).map(lambda n: start + n * step)


def sunday_is_one(moment: dt.datetime) -> int:
    return (moment.weekday() + 1) % 7 + 1


def date_bytes(moment: dt.datetime) -> bytes:
    return struct.pack(">H", (moment.date() - dt.date(1990, 1, 1)).days)


def dt_bytes(moment: dt.datetime) -> bytes:
    digits = f"{moment:%y%m%d%H%M%S}{moment.microsecond // 1000:03d}{sunday_is_one(moment)}"
    return bytes.fromhex(digits)


def dtl_bytes(moment: dt.datetime) -> bytes:
    time = (moment.hour, moment.minute, moment.second, 1000 * moment.microsecond)
    return struct.pack(">HBBBBBBI", moment.year, moment.month, moment.day, sunday_is_one(moment), *time)


def ldt_bytes(moment: dt.datetime) -> bytes:
    return struct.pack(">q", (moment - EPOCH) // US * 1000)


# Type, the moments it can hold (TIA Portal's help), and how it holds them.
KINDS: dict[str, tuple[st.SearchStrategy[dt.datetime], Any]] = {
    "DATE": (moments("1990-01-01", "2169-06-06", dt.timedelta(days=1)), date_bytes),
    "DT": (moments("1990-01-01", "2089-12-31T23:59:59.999", MS), dt_bytes),
    "DTL": (moments("1970-01-01", "2554-12-31T23:59:59.999999", US), dtl_bytes),
    "LDT": (moments("1970-01-01", "2262-04-11T23:47:16.854775", US), ldt_bytes),
}


def codec_of(text: str) -> Codec:
    return parse(text).codec


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
def test_a_moment_is_read_and_written_to_the_last_microsecond(kind: str, data: st.DataObject) -> None:
    moment = data.draw(KINDS[kind][0])
    wire, codec = KINDS[kind][1](moment), codec_of(f"DB1.DBB0:{kind}")
    ticks: Any = codec.decode(wire)
    assert to_utc(ticks) == moment
    assert codec.encode(ticks) == wire


def decoded(addresses: list[str], memory: bytes) -> tuple[TagBatch, list[int]]:
    places: list[Place] = [parse(text) for text in addresses]
    rows = [Row(place) for place in places]
    layout = layout_of(rows)
    batch = TagBatch(layout)
    image = np.frombuffer(memory, np.uint8)
    status = Decoder(rows, [place.start for place in places], layout).decode(image, batch)
    return batch, status.tolist()


@given(
    st.lists(
        st.sampled_from(sorted(KINDS)).flatmap(lambda kind: st.tuples(st.just(kind), KINDS[kind][0])),
        min_size=1,
    )
)
def test_a_block_of_times_of_all_types_is_decoded_at_once(rows: list[tuple[str, dt.datetime]]) -> None:
    memory, addresses = b"", []
    for kind, moment in rows:
        addresses.append(f"DB1.DBB{len(memory)}:{kind}")
        memory += KINDS[kind][1](moment)
    batch, status = decoded(addresses, memory)
    assert set(status) == {GOOD}
    assert [to_utc(int(each)) for each in batch.column(Scalar.DATETIME)] == [moment for _, moment in rows]


@pytest.mark.parametrize(
    ("kind", "wire"),
    [
        ("DT", "0000000000000000"),  # never set: month 0
        ("DT", "2602300000000000"),  # 30 February
        ("DT", "26010124000000 00"),  # hour 24
        ("DT", "2601010000000A00"),  # no digit
        ("DT", "26010100000000A1"),
        ("DTL", "07EA 0D 01 01 00 00 00 00000000"),  # month 13
        ("DTL", "0000 01 01 01 00 00 00 00000000"),
        ("DTL", "07EA 02 1D 01 00 00 00 00000000"),  # 29 February 2026
        ("DTL", "07EA 01 01 01 00 00 00 3B9ACA00"),  # a whole second of nanoseconds
        ("S5TIME", "0A00"),
        ("S5TIME", "00A0"),
    ],
)
def test_what_is_no_time_is_a_sensor_failure_and_costs_no_other_row(kind: str, wire: str) -> None:
    raw = bytes.fromhex(wire)
    good = bytes.fromhex("2603011200000001") if kind == "DT" else b""
    addresses = [f"DB1.DBB0:{kind}", f"DB1.DBB{len(raw)}:INT", f"DB1.DBB0:{kind}[1]"]
    memory = raw + struct.pack(">h", -5) + good
    if good:
        addresses.append(f"DB1.DBB{len(raw) + 2}:DT")
    batch, status = decoded(addresses, memory)
    assert status == [BAD_SENSOR_FAILURE, GOOD, BAD_SENSOR_FAILURE, GOOD][: len(addresses)]
    assert batch.value(1) == -5
    assert codec_of(f"DB1.DBB0:{kind}").decode(raw) is None
    if good:
        assert batch.value(3) == from_text("2026-03-01T12:00:00")


@given(st.integers(0, 3), st.integers(0, 999))
def test_an_s5time_is_milliseconds_and_written_with_the_finest_base(base: int, count: int) -> None:
    ms = count * 10 ** (base + 1)
    codec = codec_of("DB1.DBW0:S5TIME")
    assert codec.decode(bytes.fromhex(f"{base}{count:03d}")) == ms
    written = codec.encode(ms)
    assert codec.decode(written) == ms
    assert written[0] >> 4 <= base


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("DATE", "2026-03-01T12:00:00"),  # no whole day
        ("DATE", "1989-12-31"),
        ("DT", "2090-01-01"),
        ("DTL", "1969-12-31"),
        ("LDT", "2300-01-01"),
    ],
)
def test_a_time_that_the_type_cannot_hold_is_not_written(kind: str, value: str) -> None:
    with pytest.raises(WriteRejectedError) as refused:
        codec_of(f"DB1.DBB0:{kind}").encode(from_text(value))
    assert refused.value.status == BAD_OUT_OF_RANGE


@pytest.mark.parametrize("ms", [5, 12_345, 10_000_000, -10])
def test_a_duration_that_needs_more_than_three_digits_is_no_s5time(ms: int) -> None:
    with pytest.raises(WriteRejectedError):
        codec_of("DB1.DBW0:S5TIME").encode(ms)


def test_the_long_names_of_the_standard_are_taken() -> None:
    for long, short in (
        ("DATE_AND_TIME", "DT"),
        ("DATE_AND_LTIME", "LDT"),
        ("TIME_OF_DAY", "TOD"),
        ("LTIME_OF_DAY", "LTOD"),
    ):
        assert parse(f"DB1.DBB0:{long}").canonical.endswith(f":{short}")


def test_registers_hold_dates_in_the_byte_order_of_the_device() -> None:
    swapped = modbus.parse("1/hr:0:LDT;order=HGFEDCBA;base=0").codec
    moment = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    assert swapped.decode(ldt_bytes(moment)[::-1]) == from_utc(moment)
    whole = modbus.parse("1/hr:0:DTL;base=0")
    assert whole.size == 6
    assert whole.codec.decode(dtl_bytes(moment)) == from_utc(moment)


def test_a_date_time_of_opc_ua_is_on_the_wire_as_on_the_bus() -> None:
    assert DATETIME.raw == np.dtype("<i8")
    assert (DATETIME.scalar, DATETIME.form) == (Scalar.DATETIME, None)


# --- WSTRING -------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=10))
def test_a_wide_string_is_utf_16_behind_two_words(text: str) -> None:
    units = text.encode("utf-16-be")
    wire = struct.pack(">HH", 20, len(units) // 2) + units + bytes(40 - len(units))
    codec = codec_of("DB1.DBB0:WSTRING[20]")
    assert codec.decode(wire) == text
    assert codec.encode(text) == wire
    batch, status = decoded(["DB1.DBB0:WSTRING[20]"], wire)
    assert (batch.value(0), status) == (text, [GOOD])


def test_a_wide_string_longer_than_declared_is_none() -> None:
    codec = codec_of("DB1.DBB0:WSTRING[2]")
    assert codec.decode(struct.pack(">HHHH", 2, 3, 65, 66)) is None
    with pytest.raises(WriteRejectedError):
        codec.encode("abc")
    with pytest.raises(AddressError, match="WSTRING is a type of S7"):
        modbus.parse("1/hr:0:WSTRING[4];base=0")
