"""What a program does: wrap-around, division, conversions, loops, arrays, structures, state of blocks."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.sim.softplc.errors import StError, StFaultError
from edge_opcua.sim.softplc.instance import Instance
from edge_opcua.sim.softplc.library import compile_st
from edge_opcua.sim.softplc.types import ELEMENTARY, Elementary, Kind, single

WHOLE = [kind for kind in ELEMENTARY.values() if kind.kind in (Kind.SIGNED, Kind.UNSIGNED)]
BITS = [kind for kind in ELEMENTARY.values() if kind.kind is Kind.BITS]


def program(variables: str, statements: str, *, before: str = "") -> Instance:
    text = f"{before}\nPROGRAM Main VAR {variables} END_VAR\n{statements}\nEND_PROGRAM"
    return compile_st(text).instance("Main")


def cut(value: int, kind: Elementary) -> int:
    """Two's complement of a Python integer in the bits of a type."""
    rest = value % (1 << kind.bits)
    return rest - (1 << kind.bits) if rest > kind.high else rest


_CALCULATORS: dict[str, Instance] = {}


def calculator(kind: Elementary) -> Instance:
    if kind.name not in _CALCULATORS:
        _CALCULATORS[kind.name] = program(
            f"a, b, s, d, p, q, m, n : {kind.name}; less : BOOL;",
            "s := a + b; d := a - b; p := a * b; less := a < b; n := ABS(a);"
            "IF b <> 0 THEN q := a / b; m := a MOD b; END_IF;",
        )
    return _CALCULATORS[kind.name]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whole_numbers_wrap_around_and_divide_towards_zero(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(WHOLE))
    numbers = st.one_of(st.integers(kind.low, kind.high), st.sampled_from([kind.low, kind.high, 0, 1]))
    a, b = data.draw(numbers), data.draw(numbers)
    run = calculator(kind)
    run.set("a", a)
    run.set("b", b)

    run.scan(0.0)

    assert run.get("s") == cut(a + b, kind)
    assert run.get("d") == cut(a - b, kind)
    assert run.get("p") == cut(a * b, kind)
    assert run.get("less") is (a < b)
    assert run.get("n") == cut(abs(a), kind)
    if b:
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        assert run.get("q") == cut(quotient, kind)
        assert run.get("m") == cut(a - quotient * b, kind)


_SHIFTERS: dict[str, Instance] = {}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_bit_strings_are_shifted_rotated_and_joined(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(BITS))
    a, b = data.draw(st.integers(0, kind.high)), data.draw(st.integers(0, kind.high))
    by = data.draw(st.integers(0, 70))
    if kind.name not in _SHIFTERS:
        _SHIFTERS[kind.name] = program(
            f"a, b, l, r, o, i, both, any, one, none : {kind.name}; count : UINT;",
            "l := SHL(a, count); r := SHR(IN := a, N := count); o := ROL(a, count); i := ROR(o, count);"
            "both := a AND b; any := a OR b; one := a XOR b; none := NOT a;",
        )
    run = _SHIFTERS[kind.name]
    for name, value in (("a", a), ("b", b), ("count", by)):
        run.set(name, value)

    run.scan(0.0)

    assert run.get("l") == a << by & kind.high
    assert run.get("r") == a >> by
    assert run.get("o").bit_count() == a.bit_count()
    assert run.get("i") == a
    assert (run.get("both"), run.get("any"), run.get("one")) == (a & b, a | b, a ^ b)
    assert run.get("none") == a ^ kind.high


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(WHOLE), st.sampled_from(WHOLE), st.data())
def test_a_conversion_keeps_the_low_bits(source: Elementary, target: Elementary, data: st.DataObject) -> None:
    value = data.draw(st.integers(source.low, source.high))
    if source == target:
        return
    run = program(f"a : {source.name}; b : {target.name};", f"b := {source.name}_TO_{target.name}(a);")
    run.set("a", value)

    run.scan(0.0)

    assert run.get("b") == cut(value, target)


@settings(max_examples=100, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(width=32, allow_nan=False))
def test_every_step_of_a_calculation_with_reals_is_rounded_to_single_precision(a: float, b: float) -> None:
    run = _REALS
    run.set("a", a)
    run.set("b", b)

    run.scan(0.0)

    assert run.get("s") == single(single(a + b) * single(0.1)) or math.isnan(run.get("s"))


_REALS = program("a, b, s : REAL;", "s := (a + b) * 0.1;")


@pytest.mark.parametrize(
    ("value", "whole"), [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (1.6, 2), (-1.4, -1)]
)
def test_a_real_becomes_the_nearest_number_and_the_even_one_of_two(value: float, whole: int) -> None:
    # IEC 61131-3 ed. 3, table 22: rounding as in IEC 60559; TRUNC (table 22) cuts.
    run = program("a : REAL; b, c : DINT;", "b := REAL_TO_DINT(a); c := TRUNC(a);")
    run.set("a", value)
    run.scan(0.0)

    assert run.get("b") == whole
    assert run.get("c") == int(value)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("a := a / z;", "division by zero"),
        ("a := a MOD z;", "division by zero"),
        ("x := x / y;", "division by zero"),
        ("f[a] := 1;", "index 7"),
        ("a := REAL_TO_INT(1.0E9);", "not in"),
        ("WHILE TRUE DO a := 1; END_WHILE;", "rounds of loops"),
        ("a := MUX(a, 1, z);", "no input 7"),
    ],
)
def test_what_stops_a_plc_stops_the_program_and_names_the_line(statement: str, says: str) -> None:
    run = program("a : INT := 7; z : INT; x, y : REAL; f : ARRAY[0..6] OF INT;", statement)

    with pytest.raises(StFaultError, match=f"line 3: .*{says}"):
        run.scan(0.0)


def test_both_sides_of_and_are_always_worked_out() -> None:
    # A PLC may work out both (ed. 3, 7.3.2): a text that relies on one is found here.
    run = program("i : INT := 9; f : ARRAY[0..3] OF INT; b : BOOL;", "b := (i <= 3) AND (f[i] = 0);")

    with pytest.raises(StFaultError, match="index 9"):
        run.scan(0.0)


def test_operators_bind_as_in_table_71() -> None:
    run = program(
        "a, b : INT; p, q, r, s : BOOL;",
        "a := 2 + 3 * 4 - 10 / 4 MOD 3; b := -2 + 3;"
        "p := TRUE OR TRUE AND FALSE; q := NOT TRUE OR TRUE; r := 1 < 2 = TRUE; s := TRUE OR TRUE XOR TRUE;",
    )
    run.scan(0.0)

    assert (run.get("a"), run.get("b")) == (12, 1)
    assert (run.get("p"), run.get("q"), run.get("r"), run.get("s")) == (True, True, True, True)


def test_selection_functions_follow_table_30() -> None:
    run = program(
        "g : BOOL; a, b, c, d, e, f : INT; x : REAL;",
        "a := LIMIT(MN := 0, IN := INT#12, MX := 10); b := SEL(g, INT#1, INT#2); c := MUX(1, INT#5, INT#6);"
        "d := MIN(INT#3, 2, 5); e := MAX(INT#3, 2, 5); f := SEL(G := TRUE, IN0 := INT#1, IN1 := INT#2);"
        "x := LIMIT(0.0, REAL#-3.5, 10.0);",
    )
    run.scan(0.0)

    assert [run.get(name) for name in "abcdef"] == [10, 1, 6, 2, 5, 2]
    assert run.get("x") == 0.0


def test_loops_count_up_down_and_leave() -> None:
    run = program(
        "i, up, down, n, w, u : INT;",
        """
        FOR i := 1 TO 10 DO up := up + i; END_FOR;
        FOR i := 10 TO 1 BY -3 DO down := down + i; END_FOR;
        FOR i := 5 TO 4 DO n := 1; END_FOR;
        WHILE TRUE DO w := w + 1; IF w = 4 THEN EXIT; END_IF; END_WHILE;
        REPEAT u := u + 1; UNTIL u >= 3 END_REPEAT;
        """,
    )
    run.scan(0.0)

    assert (run.get("up"), run.get("down"), run.get("n"), run.get("w"), run.get("u")) == (55, 22, 0, 4, 3)


@pytest.mark.parametrize(("a", "found"), [(1, 10), (2, 20), (4, 20), (6, 20), (5, 99), (-3, 30)])
def test_case_takes_numbers_ranges_and_else(a: int, found: int) -> None:
    run = program(
        "a, b : INT;", "CASE a OF 1: b := 10; 2..4, 6: b := 20; -3: b := 30; ELSE b := 99; END_CASE;"
    )
    run.set("a", a)
    run.scan(0.0)

    assert run.get("b") == found


def test_bits_of_words_are_read_and_written_one_by_one() -> None:
    run = program(
        "w : WORD := 16#8001; a, b : BOOL; v : ARRAY[0..1] OF WORD;", "a := w.15; b := w.%X1; v[1].3 := a;"
    )
    run.scan(0.0)

    assert (run.get("a"), run.get("b"), run.get("v")) == (True, False, [0, 8])


def test_a_union_shows_the_bits_of_a_real() -> None:
    run = program(
        "u : Both; d : DWORD; w : WORD;",
        "u.r := 3.1415927; d := u.d; w := u.w[1]; u.w[0] := 0;",
        before="TYPE Both : UNION d : DWORD; r : REAL; w : ARRAY[0..1] OF WORD; END_UNION; END_TYPE",
    )
    run.scan(0.0)

    (bits,) = struct.unpack("<I", struct.pack("<f", 3.1415927))
    assert (run.get("d"), run.get("w")) == (bits, bits >> 16)
    assert run.get("u.r") == struct.unpack("<f", struct.pack("<I", bits & 0xFFFF_0000))[0]


def test_arrays_and_structures_are_copied_when_assigned() -> None:
    run = program(
        "one, two : Pair; m, n : ARRAY[0..1, 1..2] OF INT;",
        "one.x := 1; one.f[2] := 5; two := one; one.x := 2; one.f[2] := 6;"
        "m[1, 2] := 7; n := m; m[1, 2] := 8;",
        before="TYPE Pair : STRUCT x : INT; f : ARRAY[1..3] OF INT := [1, 2(4)]; END_STRUCT; END_TYPE",
    )
    run.scan(0.0)

    assert run.get("two") == {"x": 1, "f": [1, 5, 4]}
    assert run.get("n") == [[0, 0], [0, 7]]
    assert run.get("n[1, 2]") == 7


COUNTER = """
FUNCTION Twice : INT
VAR_INPUT x : INT := 4; END_VAR
Twice := x * 2; IF x = 4 THEN RETURN; END_IF; Twice := 0;
END_FUNCTION
FUNCTION_BLOCK Counter
VAR_INPUT plus : INT := 1; END_VAR
VAR_IN_OUT log : ARRAY[0..3] OF INT; END_VAR
VAR_OUTPUT total : INT; END_VAR
VAR_TEMP before : INT; END_VAR
before := total;
total := total + plus;
log[3] := Twice() + before;
END_FUNCTION_BLOCK
"""


def test_blocks_keep_their_state_and_change_what_they_are_lent() -> None:
    run = program(
        "a, b : Counter; log : ARRAY[0..3] OF INT; sum, t : INT;",
        "a(plus := 2, log := log, total => sum); b(log := log); t := Twice();",
        before=COUNTER,
    )
    for number in range(3):
        run.scan(number)

    assert (run.get("a.total"), run.get("B.Total"), run.get("sum")) == (6, 3, 6)
    assert run.get("log") == [0, 0, 0, 10]
    assert run.get("t") == 8


def test_names_do_not_care_for_case_and_a_block_hides_its_inner_variables() -> None:
    run = program("Alpha : INT;", "aLPHA := ALPHA + 1;")
    run.scan(0.0)
    assert run.get("alpha") == 1

    with pytest.raises(StError, match="cannot be seen"):
        program(
            "c : Inner; x : INT;",
            "x := c.secret;",
            before="FUNCTION_BLOCK Inner VAR secret : INT; END_VAR END_FUNCTION_BLOCK",
        )


@pytest.mark.parametrize(
    ("name", "value"), [("a", 1.5), ("a", True), ("a", 70_000), ("nobody", 1), ("f", [1]), ("f[9]", 1)]
)
def test_a_value_from_outside_has_to_fit(name: str, value: object) -> None:
    run = program("a : INT; f : ARRAY[0..1] OF INT;", "")

    with pytest.raises(StError):
        run.set(name, value)
