"""What becomes of a value between wire and bus: deadband, clamp, age, and what its source says of it."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.batch import BlockLayout, TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    GOOD_CLAMPED,
    GOOD_LOCAL_OVERRIDE,
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SIMULATED,
    UNCERTAIN_SUBNORMAL,
    BlockSpec,
    Policy,
    Scalar,
    TagSpec,
)
from edge_opcua.drivers.decode import Decoder, Row
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.modbus.settings import ModbusShape
from edge_opcua.drivers.planner import plan_reads
from edge_opcua.drivers.staging import Staging
from edge_opcua.drivers.wire import Fault, FaultKind, Stamped
from edge_opcua.testing import ManualClock


def decoder_of(*rows: Row) -> tuple[Decoder, TagBatch]:
    """A decoder of rows that lie one behind the other, in the order in which they are given."""
    tags = tuple(
        TagSpec(f"t{i}", Scalar.DOUBLE if row.scaled else row.place.scalar, row.place.length)
        for i, row in enumerate(rows)
    )
    batch = TagBatch(BlockLayout(BlockSpec("block", tags, 2)))
    plan = plan_reads([row.place for row in rows], ModbusShape())
    return Decoder(rows, plan.image_at, batch.layout), batch


def image(form: str, *values: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(struct.pack(">" + form, *values), np.uint8)


# --- deadband --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), st.floats(0.1, 1000.0))
def test_a_value_stays_until_it_has_moved_by_the_deadband(values: list[float], deadband: float) -> None:
    decoder, batch = decoder_of(Row(modbus.parse("hr:0:REAL"), deadband=deadband))
    shown: float | None = None
    for value in values:
        decoder.decode(image("f", value), batch)
        if shown is None or not abs(value - shown) < deadband:
            shown = value
        assert batch.value(0) == shown


def test_a_deadband_is_in_engineering_units_and_of_its_row_alone() -> None:
    decoder, batch = decoder_of(
        Row(modbus.parse("hr:0:INT"), scale=0.1, deadband=0.5), Row(modbus.parse("hr:1:INT"), scale=0.1)
    )
    decoder.decode(image("hh", 100, 100), batch)
    decoder.decode(image("hh", 104, 104), batch)
    assert [batch.value(0), batch.value(1)] == [10.0, pytest.approx(10.4)]
    decoder.decode(image("hh", 105, 105), batch)
    assert batch.value(0) == 10.5


@pytest.mark.parametrize("kind", ["UINT", "ULINT", "LINT"])
def test_whole_numbers_may_fall_below_where_they_were(kind: str) -> None:
    decoder, batch = decoder_of(Row(modbus.parse(f"hr:0:{kind}"), deadband=5))
    form = {"UINT": "H", "ULINT": "Q", "LINT": "q"}[kind]
    for value, shown in ((10, 10), (6, 10), (4, 4), (0, 4), (9, 9)):
        decoder.decode(image(form, value), batch)
        assert batch.value(0) == shown


def test_what_has_become_no_number_passes_and_so_does_its_return() -> None:
    decoder, batch = decoder_of(Row(modbus.parse("hr:0:REAL"), deadband=10.0))
    decoder.decode(image("f", 1.0), batch)
    assert decoder.decode(image("f", math.nan), batch)[0] == BAD_SENSOR_FAILURE
    assert math.isnan(float(batch.value(0)))  # type: ignore[arg-type]
    decoder.decode(image("f", 1.5), batch)
    assert batch.value(0) == 1.5
    decoder.decode(image("f", math.inf), batch)
    assert batch.value(0) == math.inf
    decoder.decode(image("f", 2.5), batch)
    assert batch.value(0) == 2.5


def test_a_value_that_leaves_its_range_passes_its_deadband() -> None:
    decoder, batch = decoder_of(Row(modbus.parse("hr:0:INT"), high=100, deadband=10))
    decoder.decode(image("h", 98), batch)
    assert decoder.decode(image("h", 101), batch)[0] == UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH
    assert batch.value(0) == 101


def test_an_array_stays_if_all_of_it_does() -> None:
    decoder, batch = decoder_of(Row(modbus.parse("hr:0:INT[2]"), deadband=3))
    for values, shown in (((1, 1), [1, 1]), ((3, 3), [1, 1]), ((3, 4), [3, 4])):
        decoder.decode(image("hh", *values), batch)
        assert batch.array(0).tolist() == shown


# --- clamp -----------------------------------------------------------------------------------------------


@given(st.integers(-(2**15), 2**15 - 1))
def test_a_clamped_value_is_its_limit_and_says_so(value: int) -> None:
    clamped = Row(modbus.parse("hr:0:INT"), low=-10.5, high=20, clamp=True)
    plain = Row(modbus.parse("hr:0:INT"), low=-10.5, high=20)
    decoder, batch = decoder_of(clamped, plain)
    status = decoder.decode(image("h", value), batch).tolist()
    shown = [GOOD, GOOD]
    if value < -10.5:
        shown = [GOOD_CLAMPED | LIMIT_LOW, UNCERTAIN_EU_EXCEEDED | LIMIT_LOW]
    elif value > 20:
        shown = [GOOD_CLAMPED | LIMIT_HIGH, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH]
    assert (status, batch.value(0), batch.value(1)) == (shown, min(20, max(-10, value)), value)


def test_a_clamped_number_of_64_bits_is_exact_inside_its_range() -> None:
    decoder, batch = decoder_of(Row(modbus.parse("hr:0:LINT"), low=0, clamp=True))
    decoder.decode(image("q", 2**63 - 1), batch)
    assert batch.value(0) == 2**63 - 1
    decoder.decode(image("q", -1), batch)
    assert batch.value(0) == 0


def test_no_number_is_not_clamped() -> None:
    decoder, batch = decoder_of(Row(modbus.parse("hr:0:REAL"), low=0, high=1, clamp=True))
    assert decoder.decode(image("f", math.nan), batch)[0] == BAD_SENSOR_FAILURE
    assert decoder.decode(image("f", math.inf), batch)[0] == GOOD_CLAMPED | LIMIT_HIGH
    assert batch.value(0) == 1.0


# --- what the source says --------------------------------------------------------------------------------


class Desk:
    """Staging of some single registers."""

    def __init__(self, count: int, *, policy: Policy | None = None, mark: int = GOOD, **row: Any) -> None:
        self.clock = ManualClock()
        self.rows = [Row(modbus.parse(f"hr:{i}:INT"), **row) for i in range(count)]
        tags = tuple(TagSpec(f"t{i}", Scalar.INT16) for i in range(count))
        self.bus = Bus.create([BlockSpec("block", tags, 4, policy or Policy())], clock=self.clock)
        self.writer = self.bus.writer("block")
        self.staging = Staging(self.rows, self.writer, self.clock, mark=mark)
        self.plan = plan_reads([row.place for row in self.rows], ModbusShape(max_registers=1))
        self.staging.adopt(self.plan)

    def take(self, answers: list[Any], source_ns: int = 500, server_ns: int = 600) -> None:
        faults, stamps = [], []
        for request, answer in zip(self.plan.requests, answers, strict=True):
            (fragment,) = request.fragments
            if isinstance(answer, Fault):
                faults.append((fragment, answer))
                continue
            if isinstance(answer, Stamped):
                stamps.append((fragment, answer))
            self.staging.put(
                fragment.image_at,
                answer.wire if isinstance(answer, Stamped) else struct.pack(">h", answer),
            )
        self.staging.store(faults, stamps, source_ns, server_ns)
        self.writer.publish()

    @property
    def status(self) -> list[int]:
        return [int(status) for status in self.writer.batch.status]

    @property
    def values(self) -> list[Any]:
        return [self.writer.batch.value(row) for row in range(len(self.rows))]

    def close(self) -> None:
        self.bus.close()


@pytest.fixture
def desk() -> Any:
    made = Desk(4, low=-100, high=100)
    yield made
    made.close()


def test_the_source_is_believed_unless_the_value_says_worse(desk: Desk) -> None:
    def wire(value: int) -> bytes:
        return struct.pack(">h", value)

    desk.take(
        [
            Stamped(wire(1), GOOD_LOCAL_OVERRIDE, 111),
            Stamped(wire(2), UNCERTAIN_SUBNORMAL, 222),
            Stamped(b"", BAD_CONFIGURATION_ERROR, 0),
            Stamped(wire(101), GOOD),
        ]
    )
    assert desk.status == [
        GOOD_LOCAL_OVERRIDE,
        UNCERTAIN_SUBNORMAL,
        BAD_CONFIGURATION_ERROR,
        UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH,
    ]
    assert desk.writer.batch.source_ns.tolist() == [111, 222, 500, 500]
    assert desk.writer.batch.server_ns.tolist() == [600] * 4
    assert desk.values[:2] == [1, 2]


def test_rows_with_and_without_a_stamp_share_a_poll(desk: Desk) -> None:
    desk.take([7, Stamped(struct.pack(">h", 8), UNCERTAIN_SUBNORMAL, 9), 10, 11], source_ns=300)
    assert desk.status == [GOOD, UNCERTAIN_SUBNORMAL, GOOD, GOOD]
    assert desk.writer.batch.source_ns.tolist() == [300, 9, 300, 300]


def test_another_word_of_the_source_passes_the_deadband() -> None:
    desk = Desk(1, deadband=10)
    for value, status, shown in ((1, GOOD, 1), (5, GOOD, 1), (5, UNCERTAIN_SUBNORMAL, 5), (6, GOOD, 6)):
        desk.take([Stamped(struct.pack(">h", value), status)])
        assert (desk.values, desk.status) == ([shown], [status])
    desk.close()


def test_a_row_that_was_not_read_keeps_its_value_whatever_its_kind() -> None:
    clock = ManualClock()
    kinds = ("INT", "REAL[2]", "STRING[4]", "LINT")
    places = [modbus.parse(f"hr:{20 * i}:{kind}") for i, kind in enumerate(kinds)]
    tags = tuple(TagSpec(f"t{i}", place.scalar, place.length) for i, place in enumerate(places))
    bus = Bus.create([BlockSpec("block", tags, 4)], clock=clock)
    writer = bus.writer("block")
    writer.batch.set(0, -3)
    writer.batch.set_array(1, [1.5, 2.5])
    writer.batch.set_text(2, "Teil")
    writer.batch.set(3, 2**62)
    writer.batch.status[:] = GOOD
    staging = Staging([Row(place) for place in places], writer, clock)
    plan = plan_reads(places, ModbusShape(gap=0))
    staging.adopt(plan)
    # A restarted process has decoded nothing yet, and a busy device must not make a 0 of what was there.
    staging.store([(each.fragments[0], Fault(FaultKind.BUSY, "later")) for each in plan.requests], [], 1, 2)
    batch = writer.batch
    assert (batch.value(0), batch.array(1).tolist(), batch.text(2), batch.value(3)) == (
        -3,
        [1.5, 2.5],
        "Teil",
        2**62,
    )
    assert set(batch.status.tolist()) == {UNCERTAIN_LAST_USABLE}
    bus.close()


def test_every_value_of_a_simulated_device_is_marked() -> None:
    desk = Desk(2, low=-1, high=1, mark=UNCERTAIN_SIMULATED)
    desk.take([0, 5])
    assert desk.status == [UNCERTAIN_SIMULATED] * 2
    desk.take([0, Fault(FaultKind.DEVICE, "broken")])
    assert desk.status[0] == UNCERTAIN_SIMULATED
    assert desk.status[1] & 0x80000000
    desk.close()


def test_what_is_made_up_stays_marked_however_old_it_is() -> None:
    desk = Desk(1, policy=Policy(stale_after_s=1.0), mark=UNCERTAIN_SIMULATED)
    desk.take([0])
    desk.clock.step(5.0)
    assert not desk.staging.age()
    assert desk.status == [UNCERTAIN_SIMULATED]
    desk.close()


def test_a_row_left_out_of_polls_grows_old_by_itself() -> None:
    desk = Desk(2, policy=Policy(stale_after_s=3.0, hold_s=10.0))
    desk.take([1, 2])
    missed = Fault(FaultKind.MISSED, "not asked")
    for _ in range(3):
        desk.clock.step(1.0)
        desk.take([1, missed])
        assert not desk.staging.age()
    desk.clock.step(0.1)
    assert desk.staging.age()
    assert (desk.status, desk.values) == ([GOOD, UNCERTAIN_LAST_USABLE], [1, 2])
    assert not desk.staging.age()
    desk.take([1, 2])
    assert desk.status == [GOOD, GOOD]
    desk.close()


def test_what_was_never_read_does_not_become_old() -> None:
    desk = Desk(1, policy=Policy(stale_after_s=1.0))
    desk.take([Fault(FaultKind.MISSED, "not asked")])
    desk.clock.step(5.0)
    assert not desk.staging.age()
    assert desk.status == [BAD_WAITING_FOR_INITIAL_DATA]
    desk.close()
