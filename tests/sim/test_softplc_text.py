"""Reading Structured Text: what is outside the subset is said with its place, and nothing hangs."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_opcua.assets import examples_dir
from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.library import compile_st
from edge_opcua.sim.softplc.parser import parse
from edge_opcua.sim.softplc.tree import Text
from tests.sim.sttext import TEXTS, printed

BLOCK = (examples_dir() / "press" / "plc" / "codesys" / "FB_EdgeAI_verdict.st").read_text("utf-8")


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_what_is_printed_is_read_as_the_same_tree(text: Text) -> None:
    assert parse(printed(text)) == text


ONE = "FUNCTION f : INT VAR_INPUT a : INT; END_VAR END_FUNCTION"
_WORDS = [
    *re.findall(
        r"\S+",
        """
        PROGRAM FUNCTION_BLOCK FUNCTION TYPE STRUCT UNION VAR VAR_INPUT END_VAR IF THEN ELSE ELSIF END_IF
        CASE OF END_CASE FOR TO BY DO END_FOR WHILE END_WHILE REPEAT UNTIL END_REPEAT EXIT RETURN
        END_PROGRAM END_FUNCTION_BLOCK END_TYPE END_STRUCT a b TON INT REAL BOOL TRUE NOT AND OR MOD
        1 16#FF 2.5 T#1s UINT#7 := => ; , : . .. ( ) [ ] + - * / < > = <> % (* *) // ' { LIMIT ARRAY
        """,
    ),
    "\n",
]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=60).map(" ".join))
def test_a_soup_of_words_is_compiled_or_refused_with_its_place(soup: str) -> None:
    for text in (soup, f"PROGRAM p VAR a : INT; b : BOOL; END_VAR {soup}; END_PROGRAM"):
        with contextlib.suppress(StError):
            compile_st(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(BLOCK)), st.integers(1, 60), st.sampled_from(["", " ", ";", "(", "END_IF", "1"]))
def test_the_exported_block_with_a_hole_in_it_is_compiled_or_refused(at: int, size: int, patch: str) -> None:
    with contextlib.suppress(StError):
        compile_st(BLOCK[:at] + patch + BLOCK[at + size :])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_characters_are_compiled_or_refused(text: str) -> None:
    with contextlib.suppress(StError):
        compile_st(text)


def body(
    statements: str, variables: str = "a : INT; b : BOOL; w : WORD; r : REAL; f : ARRAY[1..3] OF INT;"
) -> str:
    return f"PROGRAM p\nVAR\n{variables}\nEND_VAR\n{statements}\nEND_PROGRAM"


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        (body("a := 1"), 6, 1, "expected ';', found END_PROGRAM"),
        (body("a := nobody;"), 5, 6, "no variable nobody"),
        (body("a := r;"), 5, 6, "REAL_TO_INT"),
        (body("a := w;"), 5, 6, "WORD_TO_INT"),
        (body("a := 40000;"), 5, 6, "-32768..32767"),
        (body("b := a;"), 5, 6, "INT_TO_BOOL"),
        (body("a := w + 1;"), 5, 8, "takes numbers"),
        (body("f[4] := 1;"), 5, 3, "not in 1..3"),
        (body("a := INT_TO_NOTHING(1);"), 5, 6, "no function"),
        (body("a := a ** 2;"), 5, 8, "outside the subset"),
        (body("a := %MW4;"), 5, 6, "direct addresses"),
        (body("EXIT;"), 5, 1, "no loop"),
        (body("GOTO x;"), 5, 1, "outside the subset"),
        (body("CASE a OF 1: ; 1: ; END_CASE;"), 5, 1, "twice"),
        (body("a := 1; {attribute 'x'}"), 5, 9, "a pragma"),
        (body("(* no end"), 5, 1, "no end"),
        (body("", "A : INT; a : INT;"), 3, 10, "declared twice (case does not count)"),
        (body("", "s : STRING;"), 3, 5, "outside the subset"),
        (body("", "e AT %QX0.0 : BOOL;"), 3, 3, "AT is outside"),
        (body("", "e__f : BOOL;"), 3, 1, "underscores"),
        (body("", "t : TIME := T#1us;"), 3, 13, "nothing finer"),
        ("PROGRAM p VAR RETAIN a : INT; END_VAR END_PROGRAM", 1, 15, "RETAIN is outside the subset"),
        ("PROGRAM p VAR_GLOBAL a : INT; END_VAR END_PROGRAM", 1, 11, "outside the subset"),
        ("TYPE e : (red, green); END_TYPE", 1, 10, "enumerations"),
        ("FUNCTION_BLOCK f VAR g : f; END_VAR END_FUNCTION_BLOCK", 1, 26, "contains itself"),
        ("FUNCTION_BLOCK ton END_FUNCTION_BLOCK", 1, 1, "a name of the standard"),
    ],
)
def test_what_is_not_executed_is_said_with_line_and_column(
    text: str, line: int, column: int, says: str
) -> None:
    with pytest.raises(StError) as caught:
        compile_st(text)

    assert (caught.value.line, caught.value.column) == (line, column), str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "expression",
    ["(" * 500 + "a" + ")" * 500, " + ".join(["a"] * 2000), "-" * 3000 + "a", "NOT " * 3000 + "b"],
)
def test_an_expression_that_is_too_deep_is_refused(expression: str) -> None:
    for statement in (f"a := {expression};", f"f[{expression}] := 1;", f"f[1] := f[{expression}];"):
        with pytest.raises(StError):
            compile_st(body(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "IF b THEN a := 1; " + "ELSIF b THEN a := 2; " * 600 + "END_IF;",
        "CASE a OF " + "".join(f"{number}: a := 1; " for number in range(600)) + "END_CASE;",
        "IF b THEN " * 30 + "END_IF; " * 30,
        "a := " + "9" * 200 + ";",
        "a := " + " * ".join(["99999999"] * 20) + ";",
    ],
    ids=["elsif", "case", "nested", "digits", "literals"],
)
def test_a_text_that_is_too_large_for_its_place_is_refused(statement: str) -> None:
    with pytest.raises(StError):
        compile_st(body(statement))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("b := w.16;", "WORD has no bit 16"),
        ("b := a.1;", "no bits that can be named"),
        ("b := w.%B1;", "only bits"),
        ("b := w.%X1.%X2;", "a bit has no parts"),
        ("a := f;", "ARRAY[1..3] OF INT is no INT"),
        ("a := f[1, 1];", "no further index"),
        ("a := f[r];", "an index is a whole number"),
        ("a := a.x;", "INT has no field x"),
        ("b := NOT a;", "NOT takes"),
        ("w := -w;", "no negative numbers"),
        ("b := b < b;", "none is larger"),
        ("a := a AND a;", "AND takes"),
        ("r := r MOD r;", "MOD takes"),
        ("a := 1 / 0;", "division by zero"),
        ("a := 1.5 MOD 2;", "MOD takes whole"),
        ("a := 1.5;", "1.5 is no INT"),
        ("b := 2;", "2 is no BOOL"),
        ("r := 1.0E39;", "too large for REAL"),
        ("r := INT#1.5;", "1.5 is no INT"),
        ("a := UINT#70000;", "not in UINT"),
        ("b := BOOL#2;", "a BOOL is 0 or 1"),
        ("a := STRING#1;", "outside the subset"),
        ("t := 5;", "write T#5ms"),
        ("t := t * t;", "takes numbers"),
        ("t := T#-1s;", "negative durations"),
        ("t := T#60000d;", "up to T#49d"),
        ("a := f2(1);", "no function f2"),
        ("a := b(1);", "is a statement"),
        ("a := LIMIT(1, 2);", "2 arguments, and it takes 3"),
        ("a := MAX(1, 2);", "needs a type"),
        ("a := LIMIT(MN := 0, X := a, MX := 1);", "takes MN, IN, MX"),
        ("b := ABS(b);", "takes a number"),
        ("a := MUX(r, a, a);", "selects by a whole number"),
        ("a := SHL(a, 1);", "not shifted"),
        ("w := SHL(w, a);", "unsigned"),
        ("w := SHL(w, -1);", "not negative"),
        ("a := TRUNC(a);", "TRUNC takes"),
        ("r := SQRT(a);", "SQRT takes"),
        ("a := TO_INT(f);", "no single value"),
        ("f := 1;", "is no ARRAY"),
        ("edge := edge;", "not assigned"),
        ("edge.Q := TRUE;", "cannot be written here"),
        ("k := 1;", "cannot be written here"),
        ("edge(NOTHING := b);", "has no input NOTHING"),
        ("edge(IN := b, IN := b);", "each argument once"),
        ("edge(b);", "by its name"),
        ("edge(Q => a);", "assign it with BOOL_TO_INT"),
        ("edge(X => b);", "has no output X"),
        ("a(IN := b);", "no function block"),
        ("CASE r OF 1: ; END_CASE;", "CASE selects"),
        ("CASE a OF 40000: ; END_CASE;", "not in INT"),
        ("FOR r := 1 TO 2 DO ; END_FOR;", "whole number type"),
        ("FOR f[1] := 1 TO 2 DO ; END_FOR;", "a whole variable"),
        ("FOR a := 1 TO 2 BY 0 DO ; END_FOR;", "no end"),
        ("CONTINUE;", "outside the subset"),
        ("b := b AND_THEN b;", "AND_THEN is outside"),
        ("a := ADR(b);", "no function ADR"),
    ],
)
def test_a_statement_outside_the_subset_says_what_is_wrong(statement: str, says: str) -> None:
    variables = (
        "a : INT; b : BOOL; w : WORD; r : REAL; t : TIME; f : ARRAY[1..3] OF INT; edge : TON; END_VAR "
        "VAR CONSTANT k : INT := 3;"
    )
    with pytest.raises(StError, match=re.escape(says)):
        compile_st(body(statement, variables))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("PROGRAM p VAR CONSTANT k : INT; END_VAR END_PROGRAM", "has no value"),
        ("PROGRAM p VAR f : ARRAY[3..1] OF INT; END_VAR END_PROGRAM", "an array from 3 to 1"),
        ("PROGRAM p VAR f : ARRAY[0..99999] OF INT; END_VAR END_PROGRAM", "more than 65536 elements"),
        ("PROGRAM p VAR f : ARRAY[0..1] OF INT := [3(0)]; END_VAR END_PROGRAM", "3 first values"),
        ("PROGRAM p VAR f : ARRAY[0..1, 0..1] OF INT := [1]; END_VAR END_PROGRAM", "one dimension"),
        ("PROGRAM p VAR t : TON := 5; END_VAR END_PROGRAM", "outside the subset"),
        ("PROGRAM p VAR_INPUT t : TON; END_VAR END_PROGRAM", "a function block in VAR_INPUT"),
        ("PROGRAM p VAR_IN_OUT a : ARRAY[0..1] OF INT; END_VAR END_PROGRAM", "VAR_IN_OUT of a program"),
        ("FUNCTION_BLOCK b VAR_IN_OUT a : INT; END_VAR END_FUNCTION_BLOCK", "VAR_IN_OUT takes"),
        ("FUNCTION f : INT VAR_OUTPUT a : INT; END_VAR END_FUNCTION", "VAR_OUTPUT of a function"),
        ("FUNCTION f : INT VAR t : TON; END_VAR END_FUNCTION", "keeps no state"),
        ("FUNCTION f : TON END_FUNCTION", "more than a single value"),
        ("FUNCTION f : INT VAR_INPUT a : ARRAY[0..1] OF INT; END_VAR END_FUNCTION", "takes single values"),
        ("FUNCTION f : INT f := f(); END_FUNCTION", "is a variable"),
        (
            f"{ONE} FUNCTION g : INT g := f(1, 2); END_FUNCTION",
            "takes 1 arguments",
        ),
        (
            f"{ONE} FUNCTION g : INT g := f(c := 2); END_FUNCTION",
            "takes no c",
        ),
        ("TYPE s : STRUCT a, A : INT; END_STRUCT; END_TYPE", "declared twice"),
        ("TYPE s : STRUCT t : TON; END_STRUCT; END_TYPE", "in a STRUCT"),
        ("TYPE u : UNION a : INT := 1; END_UNION; END_TYPE", "a UNION holds"),
        ("TYPE a : a; END_TYPE", "contains itself"),
        ("TYPE a : INT(0..5); END_TYPE", "ranges"),
        ("TYPE a : INT := 5; END_TYPE", "first values"),
        ("TYPE x : INT; END_TYPE PROGRAM X END_PROGRAM", "declared twice"),
        ("TYPE lreal : INT; END_TYPE", "a name of the standard"),
        ("VAR a : INT; END_VAR", "expected TYPE, PROGRAM"),
        ("PROGRAM int END_PROGRAM", "a name of the standard"),
    ],
)
def test_a_declaration_outside_the_subset_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(StError, match=re.escape(says)):
        compile_st(text)


def test_a_bit_string_never_becomes_a_real_by_name_since_plcs_differ_in_what_that_means() -> None:
    with pytest.raises(StError, match="use a UNION"):
        compile_st(body("r := DWORD_TO_REAL(16#40490FDB);"))
