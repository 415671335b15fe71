"""The registers of the vibration unit, before they meet a network."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from edge_opcua.sim.physics import Fault, PressPhysics
from edge_opcua.sim.shock import Shock
from edge_opcua.sim.vibration import REGISTERS, SAMPLES_AT, Captures

UTC_NS = 1_800_000_000_123_456_789


def shock(stroke: int, *, fault: bool = False) -> Shock:
    faults = frozenset({Fault.ACCELEROMETER} if fault else ())
    made = PressPhysics(7).stroke(stroke, wear=0.1, faults=faults)
    return Shock(stroke, 5, fault, made.die_temp, made.raw.astype("<i2").tobytes())


def test_a_shock_survives_its_datagram() -> None:
    assert Shock.unpack(shock(3).pack()).raw == shock(3).raw
    assert Shock.unpack(shock(70_000, fault=True).pack()).stroke == 70_000
    assert Shock.unpack(shock(3, fault=True).pack()).sensor_fault


def test_before_the_first_capture_nothing_is_ready() -> None:
    registers = Captures().registers

    assert len(registers) == REGISTERS
    assert registers[:16] == [0] * 6 + [10_000, 2_000] + [0] * 8


def test_a_capture_stands_where_the_register_map_says() -> None:
    captures = Captures()
    stroke = PressPhysics(7).stroke(70_000, wear=0.1)
    captures.complete(shock(70_000), utc_ns=UTC_NS)
    raw = struct.pack(f">{REGISTERS}H", *captures.registers)

    def at(form: str, register: int) -> float:
        return float(struct.unpack_from(form, raw, 2 * register)[0])

    assert at(">H", 0) == 1
    assert at(">H", 1) == 1
    assert struct.unpack_from(">Q", raw, 4)[0] == UTC_NS
    assert (at(">H", 6), at(">H", 7), at(">H", 8)) == (10_000, 2_000, 0)
    assert 20.0 < at(">f", 10) < stroke.die_temp
    assert at(">f", 12) == pytest.approx(stroke.rms, rel=1e-6)
    assert at(">I", 14) == 70_000
    np.testing.assert_array_equal(np.frombuffer(raw, ">i2", offset=2 * SAMPLES_AT), stroke.raw)


def test_while_the_next_stroke_is_sampled_the_last_capture_stays_but_is_not_ready() -> None:
    captures = Captures()
    captures.complete(shock(1), utc_ns=UTC_NS)
    before = list(captures.registers)
    captures.begin()

    assert captures.registers[1] == 0
    assert captures.registers[2:] == before[2:]
    assert captures.registers[0] == before[0]


def test_a_broken_accelerometer_is_reported_with_its_capture() -> None:
    captures = Captures()
    captures.complete(shock(1, fault=True), utc_ns=UTC_NS)
    assert captures.registers[8] == 1

    captures.complete(shock(2), utc_ns=UTC_NS)
    assert captures.registers[8] == 0


def test_the_sequence_number_wraps_to_1() -> None:
    captures = Captures()
    captures.sequence = 65_535
    captures.complete(shock(1), utc_ns=UTC_NS)

    assert captures.registers[0] == 1
