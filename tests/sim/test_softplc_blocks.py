"""The standard function blocks, as IEC 61131-3 (ed. 3, tables 43 to 46) draws and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.sim.softplc.instance import Instance
from edge_opcua.sim.softplc.library import compile_st


def block(kind: str, inputs: str, outputs: str) -> Instance:
    given_names = [name for name, _, _ in (each.partition(":") for each in inputs.split())]
    calls = ", ".join(f"{name} := {name}" for name in given_names)
    takes = "".join(f", {each.partition(':')[0]} => {each.partition(':')[0]}" for each in outputs.split())
    variables = "".join(f"{each.replace(':', ' : ')}; " for each in f"{inputs} {outputs}".split())
    return compile_st(
        f"PROGRAM m VAR b : {kind}; {variables} END_VAR b({calls}{takes}); END_PROGRAM"
    ).instance("m")


def timer(kind: str, pt_ms: int = 100) -> Instance:
    run = block(kind, "IN:BOOL PT:TIME", "Q:BOOL ET:TIME")
    run.set("PT", pt_ms)
    return run


def at(run: Instance, now_s: float, on: bool) -> tuple[bool, int]:
    run.set("IN", on)
    run.scan(now_s)
    return run.get("Q"), run.get("ET")


def test_ton_follows_after_its_time_and_falls_at_once() -> None:
    run = timer("TON")

    assert at(run, 5.00, False) == (False, 0)
    assert at(run, 5.02, True) == (False, 0)
    assert at(run, 5.10, True) == (False, 80)
    assert at(run, 5.12, True) == (True, 100)
    assert at(run, 9.00, True) == (True, 100)  # ET stays at PT
    assert at(run, 9.02, False) == (False, 0)
    assert at(run, 9.04, True) == (False, 0)
    assert at(run, 9.06, False) == (False, 0)  # too short: nothing


def test_tof_follows_at_once_and_falls_after_its_time() -> None:
    run = timer("TOF")

    assert at(run, 0.00, False) == (False, 0)  # was never on
    assert at(run, 0.02, True) == (True, 0)
    assert at(run, 0.04, False) == (True, 0)
    assert at(run, 0.10, False) == (True, 60)
    assert at(run, 0.12, True) == (True, 0)  # on again: starts anew
    assert at(run, 0.14, False) == (True, 0)
    assert at(run, 0.24, False) == (False, 100)
    assert at(run, 0.50, False) == (False, 100)


def test_tp_gives_one_pulse_of_its_length_whatever_the_input_does() -> None:
    run = timer("TP")

    assert at(run, 0.00, True) == (True, 0)
    assert at(run, 0.02, False) == (True, 20)
    assert at(run, 0.04, True) == (True, 40)  # a rise in the pulse does not lengthen it
    assert at(run, 0.10, True) == (False, 100)
    assert at(run, 0.50, True) == (False, 100)  # ET stays until IN falls
    assert at(run, 0.52, False) == (False, 0)
    assert at(run, 0.54, True) == (True, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 80), st.booleans()), max_size=40), st.integers(0, 200))
def test_timers_agree_with_their_definition_on_any_course_of_the_input(
    course: list[tuple[int, bool]], pt_ms: int
) -> None:
    ton, tof = timer("TON", pt_ms), timer("TOF", pt_ms)
    now_ms, rose_ms, fell_ms = 0, None, None
    for step_ms, on in course:
        now_ms += step_ms
        rose_ms = (now_ms if rose_ms is None else rose_ms) if on else None
        if on:
            fell_ms = now_ms
            pending = True
        elif fell_ms is not None and pending:
            fell_ms, pending = now_ms, False

        assert at(ton, now_ms / 1000, on)[0] == (rose_ms is not None and now_ms - rose_ms >= pt_ms)
        assert at(tof, now_ms / 1000, on)[0] == (on or (fell_ms is not None and now_ms - fell_ms < pt_ms))


@pytest.mark.parametrize(
    ("kind", "course", "found"),
    [
        ("R_TRIG", [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]),
        ("R_TRIG", [1, 1], [1, 0]),
        # Table 44 gives M no first value: a CLK that is 0 at first counts as an edge.
        ("F_TRIG", [0, 1, 0, 0], [1, 0, 1, 0]),
        ("F_TRIG", [1, 0, 1, 0], [0, 1, 0, 1]),
    ],
)
def test_edges_last_one_scan(kind: str, course: list[int], found: list[int]) -> None:
    run = block(kind, "CLK:BOOL", "Q:BOOL")

    seen = []
    for on in course:
        run.set("CLK", bool(on))
        run.scan(0.0)
        seen.append(int(run.get("Q")))

    assert seen == found


@pytest.mark.parametrize(
    ("kind", "inputs", "both"), [("SR", "S1:BOOL R:BOOL", True), ("RS", "S:BOOL R1:BOOL", False)]
)
def test_bistables_differ_in_what_wins(kind: str, inputs: str, both: bool) -> None:
    run = block(kind, inputs, "Q1:BOOL")
    put, reset = (each.partition(":")[0] for each in inputs.split())

    for on, off, found in [
        (False, False, False),
        (True, False, True),
        (False, False, True),
        (True, True, both),
    ]:
        run.set(put, on)
        run.set(reset, off)
        run.scan(0.0)
        assert run.get("Q1") is found


def test_counters_count_rises_and_stop_at_their_ends() -> None:
    up = block("CTU", "CU:BOOL R:BOOL PV:INT", "Q:BOOL CV:INT")
    up.set("PV", 2)
    for on in (True, True, False, True):
        up.set("CU", on)
        up.scan(0.0)
    assert (up.get("Q"), up.get("CV")) == (True, 2)
    up.set("b.CV", 32_767)
    for on in (False, True):
        up.set("CU", on)
        up.scan(0.0)
    assert up.get("CV") == 32_767
    up.set("R", True)
    up.scan(0.0)
    assert (up.get("Q"), up.get("CV")) == (False, 0)

    down = block("CTD", "CD:BOOL LD:BOOL PV:INT", "Q:BOOL CV:INT")
    down.set("PV", 1)
    down.set("LD", True)
    down.scan(0.0)
    down.set("LD", False)
    down.set("CD", True)
    down.scan(0.0)
    assert (down.get("Q"), down.get("CV")) == (True, 0)
