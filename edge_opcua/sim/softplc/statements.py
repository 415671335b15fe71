"""Reads statements: the body of a program (IEC 61131-3 ed. 3, table 72)."""

from __future__ import annotations

from typing import Final

from edge_opcua.sim.softplc.cursor import DEEPEST, Cursor
from edge_opcua.sim.softplc.expressions import arguments, expression, path
from edge_opcua.sim.softplc.tree import (
    Assign,
    Case,
    Expression,
    For,
    If,
    Invoke,
    Leave,
    Place,
    Statement,
    While,
)

MOST_BRANCHES: Final = 500
"""Of one IF or CASE; Python reads some thousands."""


def statements(cursor: Cursor, *ends: str) -> tuple[Statement, ...]:
    """Read statements up to one of these words, which stays.

    Raises:
        StError: Something is no statement, or outside the subset.
    """
    found: list[Statement] = []
    with cursor.deeper(DEEPEST):
        while not cursor.is_word(*ends):
            if not cursor.sign(";"):  # an empty statement
                found.append(_statement(cursor))
                cursor.expect_sign(";")
    return tuple(found)


def _statement(cursor: Cursor) -> Statement:
    at = cursor.place
    if cursor.word("if"):
        return _if(cursor, at)
    if cursor.word("case"):
        return _case(cursor, at)
    if cursor.word("for"):
        return _for(cursor, at)
    if cursor.word("while"):
        condition = expression(cursor)
        cursor.expect_word("do")
        return While(condition, _until(cursor, "end_while"), at=at)
    if cursor.word("repeat"):
        body = statements(cursor, "until")
        cursor.take()
        condition = expression(cursor)
        cursor.expect_word("end_repeat")
        return While(condition, body, repeats=True, at=at)
    if cursor.is_word("exit", "return"):
        return Leave(cursor.take().text.upper(), at)
    return _simple(cursor, at)


def _simple(cursor: Cursor, at: Place) -> Statement:
    target = path(cursor)
    if cursor.is_sign("("):
        with cursor.level():
            return Invoke(target, arguments(cursor), at)
    cursor.expect_sign(":=")
    return Assign(target, expression(cursor), at)


def _until(cursor: Cursor, end: str) -> tuple[Statement, ...]:
    body = statements(cursor, end)
    cursor.take()
    return body


def _if(cursor: Cursor, at: Place) -> If:
    branches: list[tuple[Expression, tuple[Statement, ...]]] = []
    word = "elsif"
    while word == "elsif":
        condition = expression(cursor)
        cursor.expect_word("then")
        _count(cursor, len(branches))
        branches.append((condition, statements(cursor, "elsif", "else", "end_if")))
        word = cursor.take().lower
    otherwise = _until(cursor, "end_if") if word == "else" else ()
    return If(tuple(branches), otherwise, at)


def _case(cursor: Cursor, at: Place) -> Case:
    selector = expression(cursor)
    cursor.expect_word("of")
    branches: list[tuple[tuple[tuple[int, int], ...], tuple[Statement, ...]]] = []
    while not cursor.is_word("else", "end_case"):
        labels = [_label(cursor)]
        while cursor.sign(","):
            labels.append(_label(cursor))
        cursor.expect_sign(":")
        _count(cursor, len(branches))
        branches.append((tuple(labels), _branch(cursor)))
    otherwise = _until(cursor, "end_case") if cursor.take().lower == "else" else ()
    return Case(selector, tuple(branches), otherwise, at)


def _count(cursor: Cursor, branches: int) -> None:
    if branches >= MOST_BRANCHES:
        raise cursor.fail(f"more than {MOST_BRANCHES} branches")


def _label(cursor: Cursor) -> tuple[int, int]:
    first = cursor.whole("a number of a CASE")
    last = cursor.whole("a number of a CASE") if cursor.sign("..") else first
    if last < first:
        raise cursor.fail(f"a range from {first} to {last}")
    return first, last


def _branch(cursor: Cursor) -> tuple[Statement, ...]:
    """Read the statements of one branch: up to a number, which starts the next."""
    found: list[Statement] = []
    with cursor.deeper(DEEPEST):
        while not (cursor.is_word("else", "end_case") or cursor.here.kind == "int" or cursor.is_sign("-")):
            if not cursor.sign(";"):
                found.append(_statement(cursor))
                cursor.expect_sign(";")
    return tuple(found)


def _for(cursor: Cursor, at: Place) -> For:
    variable = path(cursor)
    cursor.expect_sign(":=")
    first = expression(cursor)
    cursor.expect_word("to")
    last = expression(cursor)
    step = cursor.whole("a number after BY") if cursor.word("by") else 1
    if step == 0:
        raise cursor.fail("a FOR with a step of 0 has no end")
    cursor.expect_word("do")
    return For(variable, first, last, step, _until(cursor, "end_for"), at)
