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


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_what_is_printed_is_read_as_the_same_tree(text: Text) -> None:
    assert parse(printed(text)) == text


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


@settings(max_examples=150, deadline=None)
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


def test_a_bit_string_never_becomes_a_real_by_name_since_plcs_differ_in_what_that_means() -> None:
    with pytest.raises(StError, match="use a UNION"):
        compile_st(body("r := DWORD_TO_REAL(16#40490FDB);"))
