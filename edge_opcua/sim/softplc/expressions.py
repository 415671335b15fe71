"""Reads expressions: what stands on the right of := (IEC 61131-3 ed. 3, table 71)."""

from __future__ import annotations

import re
from typing import Final

from edge_opcua.sim.softplc.cursor import DEEPEST_EXPRESSION, Cursor
from edge_opcua.sim.softplc.tree import (
    Argument,
    Binary,
    BitOf,
    Call,
    Expression,
    FieldOf,
    Index,
    Literal,
    Path,
    Place,
    Unary,
)
from edge_opcua.sim.softplc.types import ELEMENTARY

_LEVELS: Final = (
    ("or",),
    ("xor",),
    ("and", "&"),
    ("=", "<>"),
    ("<", ">", "<=", ">="),
    ("+", "-"),
    ("*", "/", "mod"),
)
"""Operators, those that bind least first; all of a level from the left."""

_BIT: Final = re.compile(r"x([0-9]{1,2})", re.IGNORECASE | re.ASCII)


def expression(cursor: Cursor) -> Expression:
    """Read an expression.

    Raises:
        StError: There is none, or it uses something outside the subset.
    """
    with cursor.level():
        return _inner(cursor)


def path(cursor: Cursor) -> Path:
    """Read a variable, or a part of one."""
    at = cursor.place
    name = cursor.name("a variable")
    return Path(name, _steps(cursor), at)


def arguments(cursor: Cursor) -> tuple[Argument, ...]:
    """Read the arguments of a call, from the opening bracket to the closing one."""
    cursor.expect_sign("(")
    found: list[Argument] = []
    while not cursor.sign(")"):
        if found:
            cursor.expect_sign(",")
        found.append(_argument(cursor))
    return tuple(found)


def literal(cursor: Cursor) -> Literal:
    """Read a number, BOOL or TIME, with or without its type."""
    at, token = cursor.place, cursor.here
    if cursor.word("true", "false"):
        return Literal(token.lower == "true", "BOOL", at)
    if token.kind == "time":
        return Literal(cursor.take().value, "TIME", at)
    if token.kind == "prefix":
        return _typed(cursor)
    minus = cursor.sign("-")
    if cursor.here.kind not in ("int", "real"):
        raise cursor.unexpected("a value")
    value = cursor.take().value
    return Literal(-value if minus else value, "", at)


def _typed(cursor: Cursor) -> Literal:
    """Read ``UINT#5``."""
    at = cursor.place
    name = cursor.here.lower[:-1]
    if name.upper() not in ELEMENTARY or name.upper() == "TIME":
        raise cursor.fail(f"{cursor.here.text} starts a literal that is outside the subset")
    cursor.take()
    if name == "bool" and cursor.is_word("true", "false"):
        return Literal(cursor.take().lower == "true", "BOOL", at)
    minus = cursor.sign("-")
    if cursor.here.kind not in ("int", "real"):
        raise cursor.unexpected("a number")
    value = cursor.take().value
    if name == "bool":
        if value not in (0, 1) or minus:
            raise cursor.fail("a BOOL is 0 or 1")
        return Literal(bool(value), "BOOL", at)
    return Literal(-value if minus else value, name.upper(), at)


def _inner(cursor: Cursor) -> Expression:
    with cursor.deeper(DEEPEST_EXPRESSION):
        return _binary(cursor, 0)


def _binary(cursor: Cursor, level: int) -> Expression:
    if level == len(_LEVELS):
        return _unary(cursor)
    left = _binary(cursor, level + 1)
    while (found := _operator(cursor, level)) is not None:
        at = cursor.place
        cursor.take()
        cursor.count_operator()
        left = Binary(found, left, _binary(cursor, level + 1), at)
    return left


def _operator(cursor: Cursor, level: int) -> str | None:
    token = cursor.here
    if token.kind == "sign" and token.text == "**":
        raise cursor.fail("** is outside the subset that is executed here")
    if token.kind not in ("sign", "name") or token.lower not in _LEVELS[level]:
        return None
    return "AND" if token.text == "&" else token.text.upper()


def _unary(cursor: Cursor) -> Expression:
    at = cursor.place
    if cursor.word("not"):
        return _prefixed(cursor, "NOT", at)
    if cursor.sign("-"):
        if cursor.here.kind in ("int", "real"):
            return Literal(-cursor.take().value, "", at)
        return _prefixed(cursor, "-", at)
    if cursor.sign("("):
        inner = _inner(cursor)
        cursor.expect_sign(")")
        return inner
    if cursor.here.kind in ("int", "real", "time", "prefix") or cursor.is_word("true", "false"):
        return literal(cursor)
    if cursor.is_second_sign("("):
        name = cursor.name("a function")
        return Call(name, arguments(cursor), at)
    return path(cursor)


def _prefixed(cursor: Cursor, operator: str, at: Place) -> Unary:
    cursor.count_operator()
    with cursor.deeper(DEEPEST_EXPRESSION):
        return Unary(operator, _unary(cursor), at)


def _steps(cursor: Cursor) -> tuple[FieldOf | Index | BitOf, ...]:
    steps: list[FieldOf | Index | BitOf] = []
    while True:
        at = cursor.place
        if cursor.sign("["):
            indexes = [_inner(cursor)]
            while cursor.sign(","):
                indexes.append(_inner(cursor))
            cursor.expect_sign("]")
            steps.append(Index(tuple(indexes), at))
        elif cursor.sign("."):
            steps.append(_after_dot(cursor))
        else:
            return tuple(steps)
        if len(steps) > DEEPEST_EXPRESSION:
            raise cursor.fail(f"more than {DEEPEST_EXPRESSION} steps into a variable")


def _after_dot(cursor: Cursor) -> FieldOf | BitOf:
    at = cursor.place
    if cursor.here.kind == "int":
        return BitOf(int(cursor.take().value), at)
    if cursor.sign("%"):
        match = _BIT.fullmatch(cursor.here.text)
        if match is None:
            raise cursor.fail("of the parts of a variable only bits (.%X3) are in the subset")
        cursor.take()
        return BitOf(int(match[1]), at)
    return FieldOf(cursor.name("the name of a field"), at)


def _argument(cursor: Cursor) -> Argument:
    at = cursor.place
    if cursor.here.kind == "name" and cursor.is_second_sign(":="):
        name = cursor.name("an argument")
        cursor.expect_sign(":=")
        return Argument(name, _inner(cursor), at=at)
    if cursor.here.kind == "name" and cursor.is_second_sign("=>"):
        name = cursor.name("an argument")
        cursor.expect_sign("=>")
        return Argument(name, path(cursor), takes=True, at=at)
    return Argument("", _inner(cursor), at=at)
