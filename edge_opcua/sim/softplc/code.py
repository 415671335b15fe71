"""Pieces of compiled expressions, and how a value gets the type that is wanted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_opcua.sim.softplc.errors import StError
from edge_opcua.sim.softplc.tree import Place
from edge_opcua.sim.softplc.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    LITERALS,
    Elementary,
    Kind,
    Type,
    single,
    widens,
)

_DEEPEST_BRACKETS: Final = 150
"""Python reads 200."""

Known = int | float | bool
"""A value that is known before the program runs."""


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled expression.

    Args:
        text: Python that gives its value, in brackets if it is more than a name or a call.
        type: Of the value.
        value: The value, if it is known.
    """

    text: str
    type: Type
    value: Known | None = None


def constant(value: Known, kind: Elementary) -> Code:
    """Return a value that is known."""
    if kind.kind is Kind.REAL:
        value = float(value)
        if kind.bits == 32:
            value = single(value)
    text = repr(value)
    if text.lstrip("-") in ("inf", "nan"):
        text = f"float('{text}')"
    return Code(f"({text})" if text.startswith("-") else text, kind, value)


def elementary(code: Code, at: Place) -> Elementary:
    """Return the type of a single value.

    Raises:
        StError: It is an array, a structure or a function block.
    """
    if not isinstance(code.type, Elementary):
        raise error(f"{code.type.name} is no single value", at)
    return code.type


def as_type(code: Code, target: Type, at: Place) -> Code:
    """Return a value as another type that takes it without being asked.

    Raises:
        StError: Something could be lost, or the types have nothing in common.
    """
    if code.type == target:
        return code
    if not isinstance(code.type, Elementary) or not isinstance(target, Elementary):
        raise error(f"{code.type.name} is no {target.name}", at)
    if code.type in LITERALS:
        return _literal_as(code, target, at)
    if not widens(code.type, target):
        raise error(f"{code.type.name} does not become {target.name} by itself: {_advice(code, target)}", at)
    if target.kind is Kind.REAL and code.type.kind is not Kind.REAL:
        return Code(f"float({code.text})", target)
    return Code(code.text, target)


def wrapped(text: str, kind: Elementary) -> str:
    """Return Python that cuts a whole number to the bits of its type."""
    mask = (1 << kind.bits) - 1
    if kind.kind is Kind.SIGNED:
        half = 1 << kind.bits - 1
        return f"(({text} + {half} & {mask}) - {half})"
    return f"({text} & {mask})"


def checked(code: Code, at: Place) -> str:
    """Return the text of an expression that is complete.

    Raises:
        StError: It is too deep for Python.
    """
    depth = 0
    for character in code.text:
        depth += (character in "([") - (character in ")]")
        if depth > _DEEPEST_BRACKETS:
            raise error("this expression is too deep: work it out in several statements", at)
    return code.text


def error(message: str, at: Place) -> StError:
    """Return an error with its place."""
    return StError(message, at.line, at.column)


def _literal_as(code: Code, target: Elementary, at: Place) -> Code:
    value = code.value
    assert value is not None
    if code.type == ANY_REAL:
        if target == ANY_REAL or target.kind is Kind.REAL:
            return _real(value, target, at)
        raise error(f"{value} is no {target.name}", at)
    if target == ANY_REAL or target.kind is Kind.REAL:
        return _real(value, target, at)
    if target == BOOL:
        if value not in (0, 1):
            raise error(f"{value} is no BOOL", at)
        return constant(bool(value), BOOL)
    if target.kind is Kind.TIME:
        raise error(f"{value} is no TIME: write T#{value}ms", at)
    if target != ANY_INT and not target.low <= value <= target.high:
        raise error(f"{value} is not in {target.name}: {target.low}..{target.high}", at)
    return constant(value, target)


def _real(value: float, target: Elementary, at: Place) -> Code:
    try:
        found = constant(value, target)
    except OverflowError as exc:
        raise error(f"a number that is too large for {target.name}", at) from exc
    if found.value in (float("inf"), float("-inf")):
        raise error(f"{value} is too large for {target.name}", at)
    return found


def _advice(code: Code, target: Elementary) -> str:
    return f"write {code.type.name}_TO_{target.name}"
