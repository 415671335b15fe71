"""What is exported for TIA Portal and Studio 5000 does in every scan what the text for CODESYS does."""

from __future__ import annotations

import math
import re
import struct

import pytest

from edge_opcua.ladder.export import exported
from edge_opcua.ladder.facts import Facts
from edge_opcua.sim.softplc.library import compile_st
from tests.ladder.blocks import Bench, facts
from tests.ladder.course import Course
from tests.ladder.translate import of_l5x, of_scl

MODES = ("polled", "triggered", "setpoint", "veto")
OUTPUTS = "CommOk InUse AckReq NewResult Done Busy Error ErrorId ResultCode ResultSeq Verdict Score Cycle Out"


def _text(of: Facts, target: str, ending: str) -> str:
    (text,) = [file.text for file in exported(of, target) if file.name.endswith(ending)]
    return text


_LAYOUTS = {"Word": ">H", "UInt": ">H", "DInt": ">i", "Real": ">f"}


def _fields(udt: str) -> list[tuple[str, str, int]]:
    """Return name, layout and first byte of each field of the status area."""
    rows = re.findall(r"      (\w+) : (\w+);   // byte (\d+):", udt.partition("END_TYPE")[0])
    return [(name, _LAYOUTS[kind], int(at)) for name, kind, at in rows]


@pytest.mark.parametrize("mode", MODES)
def test_the_text_for_tia_portal_does_the_same(mode: str) -> None:
    of = facts(mode=mode, commands=("load_model",), ack_timeout_ms=200)
    udt = _text(of, "siemens", ".udt")
    other = compile_st(of_scl(udt, _text(of, "siemens", f"{of.block}.scl"))).instance(of.block)
    fields = _fields(udt)
    course = Course(of, seed=5)
    for given in course.scans(500):
        for name, value in course.given.items():
            other.set(name, value)
        words = [int(word) for word in given[1 + len(course.given) :]]
        data = struct.pack(f">{len(words)}H", *words)  # as the memory of an S7
        for name, layout, at in fields:
            other.set(f"Status.{name}", struct.unpack_from(layout, data, at)[0])
        other.scan(course.now_ms / 1000)
        _same(course.bench, {name: other.get(name) for name in OUTPUTS.split()})
        control = other.get("Control")
        assert list(control.values()) == course.bench.control


@pytest.mark.parametrize("order", ["high_first", "low_first"])
@pytest.mark.parametrize("mode", MODES)
def test_the_add_on_instruction_does_the_same(mode: str, order: str) -> None:
    of = facts("ethernet-ip", mode=mode, control="C1", status="S1", word_order=order, ack_timeout_ms=200)
    other = compile_st(of_l5x(_text(of, "rockwell", ".L5X"))).instance(of.block)
    course = Course(of, seed=6)
    for given in course.scans(300):
        for name, value in course.given.items():
            other.set(name, value)
        other.set("Status", [int(word) for word in given[1 + len(course.given) :]])
        other.scan(course.now_ms / 1000)
        _same(course.bench, {name: other.get(name) for name in OUTPUTS.split()})
        assert other.get("Control") == course.bench.control


def _same(bench: Bench, found: dict[str, object]) -> None:
    for name, value in found.items():
        wanted = bench.get(name)
        both_nan = isinstance(value, float) and math.isnan(value) and math.isnan(wanted)
        assert value == wanted or both_nan, name
