"""Reads a whole text: types, programs, function blocks and functions."""

from __future__ import annotations

from typing import Final

from edge_opcua.sim.softplc.cursor import Cursor
from edge_opcua.sim.softplc.expressions import literal
from edge_opcua.sim.softplc.statements import statements
from edge_opcua.sim.softplc.tree import (
    ArrayOf,
    Literal,
    Named,
    Specification,
    Text,
    TypeDeclaration,
    Unit,
    Variables,
)

_UNITS: Final = ("program", "function_block", "function")
_SECTIONS: Final = ("var", "var_input", "var_output", "var_in_out", "var_temp")
MOST_ELEMENTS: Final = 65_536


def parse(text: str) -> Text:
    """Read a text.

    Raises:
        StError: It is no Structured Text, or uses something outside the subset; with line and column.
    """
    cursor = Cursor(text)
    types: list[TypeDeclaration] = []
    units: list[Unit] = []
    while cursor.here.kind != "end":
        if cursor.word("type"):
            while not cursor.word("end_type"):
                types.append(_type(cursor))
        elif cursor.is_word(*_UNITS):
            units.append(_unit(cursor))
        elif not (units and cursor.sign(";")):
            raise cursor.unexpected("TYPE, PROGRAM, FUNCTION_BLOCK or FUNCTION")
    return Text(tuple(types), tuple(units))


def _type(cursor: Cursor) -> TypeDeclaration:
    at = cursor.place
    name = cursor.name("the name of a type")
    cursor.expect_sign(":")
    if cursor.is_word("struct", "union"):
        kind = cursor.take().lower
        fields = _variables(cursor, "VAR", f"end_{kind}", constant=False)
        cursor.sign(";")
        return TypeDeclaration(name, fields, kind == "union", at=at)
    if cursor.is_sign("("):
        raise cursor.fail("enumerations are outside the subset that is executed here")
    alias = _specification(cursor)
    if cursor.is_sign(":=", "("):
        raise cursor.fail("first values and ranges of a type are outside the subset that is executed here")
    cursor.expect_sign(";")
    return TypeDeclaration(name, alias=alias, at=at)


def _unit(cursor: Cursor) -> Unit:
    at = cursor.place
    kind = cursor.take().lower
    name = cursor.name(f"the name of a {kind.upper()}")
    returns = None
    if kind == "function":
        cursor.expect_sign(":")
        returns = _named(cursor)
    variables: list[Variables] = []
    while cursor.is_word(*_SECTIONS):
        section = cursor.take().text.upper()
        constant = cursor.word("constant")
        variables += _variables(cursor, section, "end_var", constant=constant)
    body = statements(cursor, f"end_{kind}")
    cursor.take()
    return Unit(kind.upper(), name, tuple(variables), body, returns, at)


def _variables(cursor: Cursor, section: str, end: str, *, constant: bool) -> tuple[Variables, ...]:
    found: list[Variables] = []
    while not cursor.word(end):
        at = cursor.place
        names = [cursor.name("the name of a variable")]
        while cursor.sign(","):
            names.append(cursor.name("the name of a variable"))
        if cursor.is_word("at"):
            raise cursor.fail("AT is outside the subset: areas are mapped where the PLC is started")
        cursor.expect_sign(":")
        specification = _specification(cursor)
        initial = _initial(cursor, specification) if cursor.sign(":=") else ()
        cursor.expect_sign(";")
        found.append(Variables(section, tuple(names), specification, initial, constant, at))
    return tuple(found)


def _specification(cursor: Cursor) -> Specification:
    at = cursor.place
    if not cursor.word("array"):
        return _named(cursor)
    cursor.expect_sign("[")
    bounds = [_bounds(cursor)]
    while cursor.sign(","):
        bounds.append(_bounds(cursor))
    cursor.expect_sign("]")
    cursor.expect_word("of")
    count = 1
    for low, high in bounds:
        count *= high - low + 1
    if count > MOST_ELEMENTS:
        raise cursor.fail(f"an array of more than {MOST_ELEMENTS} elements")
    return ArrayOf(tuple(bounds), _named(cursor), at)


def _bounds(cursor: Cursor) -> tuple[int, int]:
    low = cursor.whole("the first index")
    cursor.expect_sign("..")
    high = cursor.whole("the last index")
    if high < low:
        raise cursor.fail(f"an array from {low} to {high}")
    return low, high


def _named(cursor: Cursor) -> Named:
    at = cursor.place
    name = cursor.name("a type")
    if cursor.is_sign("("):
        raise cursor.fail("ranges and first values of a type are outside the subset that is executed here")
    return Named(name, at)


def _initial(cursor: Cursor, specification: Specification) -> tuple[Literal, ...]:
    if isinstance(specification, Named):
        if cursor.is_sign("("):
            raise cursor.fail("first values of a STRUCT are outside the subset that is executed here")
        return (literal(cursor),)
    values: list[Literal] = []
    cursor.expect_sign("[")
    while not cursor.sign("]"):
        if values:
            cursor.expect_sign(",")
        values += _repeated(cursor)
        if len(values) > MOST_ELEMENTS:
            raise cursor.fail(f"more than {MOST_ELEMENTS} first values")
    return tuple(values)


def _repeated(cursor: Cursor) -> list[Literal]:
    """Read one first value, or ``10(0)``."""
    value = literal(cursor)
    if not cursor.sign("("):
        return [value]
    count = value.value
    if value.type_name or not isinstance(count, int) or not 0 < count <= MOST_ELEMENTS:
        raise cursor.fail(f"a number of repetitions is 1 to {MOST_ELEMENTS}")
    repeated = literal(cursor)
    cursor.expect_sign(")")
    return [repeated] * count
