"""From bytes to columns: every type and order, exact to the last bit, honest about what is no value."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_SENSOR_FAILURE,
    GOOD,
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    BlockSpec,
    Scalar,
    TagSpec,
)
from edge_opcua.drivers.decode import Decoder, Row
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import ReadPlan, Shape, plan_reads
from edge_opcua.drivers.s7 import address as s7
from edge_opcua.drivers.s7.settings import S7Shape
from tests.drivers.rows import BYTES, NUMBERS, ORDERS, layout_of, packed, registers_of


def fill(plan: ReadPlan, memory: bytes, unit_bytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Answer a plan from a memory, as a device would."""
    image = np.zeros(plan.image_bytes, np.uint8)
    for request in plan.requests:
        for fragment in request.fragments:
            wire = memory[fragment.start * unit_bytes : (fragment.start + fragment.size) * unit_bytes]
            assert len(wire) == fragment.size * unit_bytes, "a read behind the end of the device"
            image[fragment.image_at : fragment.image_at + len(wire)] = np.frombuffer(wire, np.uint8)
    return image


def decode(rows: list[Row], shape: Shape, memory: bytes, unit_bytes: int) -> tuple[TagBatch, list[int]]:
    layout = layout_of(rows)
    plan = plan_reads([row.place for row in rows], shape)
    batch = TagBatch(layout)
    status = Decoder(rows, plan.image_at, layout).decode(fill(plan, memory, unit_bytes), batch)
    return batch, status.tolist()


@st.composite
def register_maps(draw: st.DrawFn) -> tuple[list[str], list[Any], list[int]]:
    """Draw addresses, their values and the registers of a device that holds them; tags may be neighbours."""
    texts, values, registers = [], [], []
    for _ in range(draw(st.integers(1, 30))):
        registers += draw(st.lists(st.integers(0, 65535), max_size=3))
        what = draw(st.sampled_from(("number", "array", "byte", "bit", "text")))
        at = len(registers)
        if what == "number" or what == "array":
            kind = draw(st.sampled_from(sorted(NUMBERS)))
            order = draw(st.sampled_from(ORDERS))
            count = draw(st.integers(1, 9)) if what == "array" else 0
            items = [draw(NUMBERS[kind][1]) for _ in range(max(1, count))]
            for item in items:
                registers += registers_of(kind, item, order)
            texts.append(f"1/hr:{at}:{kind}" + (f"[{count}]" if count else "") + f";order={order};base=0")
            values.append(items if count else items[0])
        elif what == "byte":
            kind = draw(st.sampled_from(sorted(BYTES)))
            value, other = draw(BYTES[kind][1]), draw(st.integers(0, 255))
            high = draw(st.booleans())
            own = packed(kind, value)[0]
            registers.append(own << 8 | other if high else other << 8 | own)
            texts.append(f"1/hr:{at}:{kind};order={'H' if high else 'L'};base=0")
            values.append(value)
        elif what == "bit":
            bit = draw(st.integers(0, 15))
            registers.append(draw(st.integers(0, 65535)))
            texts.append(f"1/hr:{at}.{bit}:BOOL;base=0")
            values.append(bool(registers[-1] >> bit & 1))
        else:
            text = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12))
            raw = text.encode().ljust(12, b"\0")
            low_first = draw(st.booleans())
            registers += struct.unpack("<6H" if low_first else ">6H", raw)
            texts.append(f"1/hr:{at}:STRING[12];order={'LH' if low_first else 'HL'};base=0")
            values.append(text)
    return texts, values, registers


@given(register_maps(), st.sampled_from((4, 10, 125)), st.sampled_from((0, 2, 125)))
def test_a_register_map_is_read_as_it_was_written(
    drawn: tuple[list[str], list[Any], list[int]], limit: int, gap: int
) -> None:
    texts, values, registers = drawn
    limit = max(limit, 9 * 4) if any("[" in text for text in texts) else limit
    rows = [Row(modbus.parse(text)) for text in texts]
    memory = struct.pack(f">{len(registers)}H", *registers)

    batch, status = decode(rows, ModbusShape(limit, 2000, gap), memory, 2)

    for row, expected in enumerate(values):
        found = batch.value(row)
        if isinstance(expected, list):
            assert isinstance(found, np.ndarray)
            assert found.tolist() == expected
        else:
            assert found == expected
            assert type(found) is type(expected)
    assert set(status) == {GOOD}


@st.composite
def data_blocks(draw: st.DrawFn) -> tuple[list[str], list[Any], bytes]:
    texts: list[str] = []
    values: list[Any] = []
    memory = bytearray()
    for _ in range(draw(st.integers(1, 30))):
        memory += draw(st.binary(max_size=25))
        at = len(memory)
        what = draw(st.sampled_from(("number", "array", "bit", "text")))
        if what == "bit":
            memory.append(draw(st.integers(0, 255)))
            bit = draw(st.integers(0, 7))
            texts.append(f"DB3.DBX{at}.{bit}:BOOL")
            values.append(bool(memory[-1] >> bit & 1))
        elif what == "text":
            text = draw(st.text(st.characters(max_codepoint=255, min_codepoint=1), max_size=20))
            raw = text.encode("latin-1")
            rest = draw(st.binary(min_size=20 - len(raw), max_size=20 - len(raw)))
            memory += bytes((20, len(raw))) + raw + rest
            texts.append(f"DB3.DBB{at}:STRING[20]")
            values.append(text)
        else:
            kinds = {**NUMBERS, **BYTES}
            kind = draw(st.sampled_from(sorted(kinds)))
            count = draw(st.integers(1, 40)) if what == "array" else 0
            items = [draw(kinds[kind][1]) for _ in range(max(1, count))]
            for item in items:
                memory += packed(kind, item)
            texts.append(f"DB3:{at}:{kind}" + (f"[{count}]" if count else ""))
            values.append(items if count else items[0])
    return texts, values, bytes(memory)


@given(data_blocks(), st.sampled_from((112, 240, 480, 960)))
def test_a_data_block_is_read_as_it_was_written(drawn: tuple[list[str], list[Any], bytes], pdu: int) -> None:
    texts, values, memory = drawn
    rows = [Row(s7.parse(text)) for text in texts]

    batch, status = decode(rows, S7Shape(pdu), memory, 1)

    for row, expected in enumerate(values):
        found = batch.value(row)
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == expected
    assert set(status) == {GOOD}


def scaled_block(rows: list[Row], kinds: list[Scalar]) -> BlockLayout:
    tags = tuple(TagSpec(f"t{i}", kind) for i, kind in enumerate(kinds))
    assert len(tags) == len(rows)
    return BlockLayout(BlockSpec("block", tags, 2))


@given(st.lists(st.tuples(st.integers(-(2**15), 2**15 - 1), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_scaling_is_exact_in_double_precision(items: list[tuple[int, float]]) -> None:
    rows = [Row(modbus.parse(f"hr:{i}:INT"), scale, 1.5) for i, (_, scale) in enumerate(items)]
    layout = scaled_block(rows, [Scalar.DOUBLE if row.scaled else Scalar.INT16 for row in rows])
    plan = plan_reads([row.place for row in rows], ModbusShape())
    batch = TagBatch(layout)
    memory = struct.pack(f">{len(items)}h", *(raw for raw, _ in items))

    Decoder(rows, plan.image_at, layout).decode(fill(plan, memory, 2), batch)

    assert [batch.value(i) for i in range(len(items))] == [raw * scale + 1.5 for raw, scale in items]


def test_a_value_outside_its_range_is_uncertain_and_says_on_which_side() -> None:
    rows = [Row(modbus.parse(f"hr:{2 * i}:REAL"), low=0.0, high=100.0) for i in range(4)]
    memory = struct.pack(">4f", -0.5, 50.0, 100.5, 100.0)

    batch, status = decode(rows, ModbusShape(), memory, 2)

    assert status == [UNCERTAIN_EU_EXCEEDED | LIMIT_LOW, GOOD, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH, GOOD]
    assert batch.value(0) == -0.5  # the value stays readable (architecture §4)


def test_no_number_is_a_sensor_failure_also_in_an_array() -> None:
    rows = [
        Row(modbus.parse("hr:0:REAL"), low=0.0, high=1.0),
        Row(modbus.parse("hr:2:REAL[2]")),
        Row(modbus.parse("hr:6:LREAL"), scale=2.0),
    ]
    layout = BlockLayout(
        BlockSpec(
            "block",
            (TagSpec("a", Scalar.FLOAT), TagSpec("b", Scalar.FLOAT, 2), TagSpec("c", Scalar.DOUBLE)),
            2,
        )
    )
    plan = plan_reads([row.place for row in rows], ModbusShape())
    memory = struct.pack(">3fd", math.nan, 1.0, math.nan, math.nan)

    status = Decoder(rows, plan.image_at, layout).decode(fill(plan, memory, 2), TagBatch(layout))

    assert status.tolist() == [BAD_SENSOR_FAILURE] * 3


@given(st.binary(min_size=16, max_size=16), st.sampled_from(ORDERS))
def test_any_bits_at_all_are_a_value_or_a_failure(wire: bytes, order: str) -> None:
    # Signalling NaN, infinities and denormals among them; warnings are errors here.
    texts = ("hr:0:REAL", "hr:2:REAL[2]", "hr:4:LREAL", "hr:6:REAL", "hr:0:LREAL[2]")
    rows = [Row(modbus.parse(f"{text};order={order}"), 1e300, -1e308, low=-1.0, high=1.0) for text in texts]
    layout = BlockLayout(
        BlockSpec(
            "block", tuple(TagSpec(f"t{i}", Scalar.DOUBLE, row.place.length) for i, row in enumerate(rows)), 2
        )
    )
    plan = plan_reads([row.place for row in rows], ModbusShape())
    batch = TagBatch(layout)

    status = Decoder(rows, plan.image_at, layout).decode(fill(plan, wire, 2), batch)

    for row, code in enumerate(status.tolist()):
        assert (code == BAD_SENSOR_FAILURE) == bool(np.isnan(np.asarray(batch.value(row), float)).any())


def test_a_signalling_nan_is_a_sensor_failure_and_no_warning_where_there_is_a_range() -> None:
    # Warnings are errors here. Without a scale the value is compared as the REAL it is.
    rows = [Row(modbus.parse("hr:0:REAL"), low=-1.0, high=1.0), Row(modbus.parse("hr:2:REAL"), low=0.0)]
    signalling = bytes.fromhex("7f800001")

    _, status = decode(rows, ModbusShape(), 2 * signalling, 2)

    assert status == [BAD_SENSOR_FAILURE] * 2


def test_bytes_that_are_no_string_are_a_configuration_fault() -> None:
    # An S7 string leads with its greatest and present length; 16 present of 4 is another variable.
    _, status = decode([Row(s7.parse("DB1.DBB0:STRING[4]"))], S7Shape(), bytes((4, 16)) + b"abcd", 1)

    assert status == [BAD_CONFIGURATION_ERROR]


def test_coils_come_as_one_byte_each() -> None:
    rows = [Row(modbus.parse("co:3")), Row(modbus.parse("co:5:BOOL[3]"))]

    batch, _ = decode(rows, ModbusShape(), bytes((0, 0, 0, 1, 0, 1, 0, 1)), 1)

    assert batch.value(0) is True
    assert batch.array(1).tolist() == [True, False, True]


def test_rows_that_are_not_read_keep_their_value() -> None:
    rows = [Row(modbus.parse("hr:0:INT")), Row(modbus.parse("hr:1:INT"))]
    layout = layout_of(rows)
    batch = TagBatch(layout)
    batch.set(1, 77)

    Decoder(rows, (0, -1), layout).decode(np.array([0, 5], np.uint8), batch)

    assert batch.value(0) == 5
    assert batch.value(1) == 77


@pytest.mark.parametrize(("raw", "text"), [(b"Dr\xfcck\0\0\0", "Drück"), ("Drück\0\0".encode(), "Drück")])
def test_a_modbus_string_may_be_utf8_or_latin1(raw: bytes, text: str) -> None:
    batch, _ = decode([Row(modbus.parse("hr:0:STRING[8]"))], ModbusShape(), raw.ljust(8, b"\0"), 2)

    assert batch.text(0) == text
