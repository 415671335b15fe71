"""The standard functions (IEC 61131-3 ed. 3, tables 22 to 31), as far as they are executed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from edge_opcua.sim.softplc.code import Code, as_type, constant, elementary, error, wrapped
from edge_opcua.sim.softplc.tree import Place
from edge_opcua.sim.softplc.types import (
    ANY_INT,
    ANY_REAL,
    BOOL,
    DINT,
    ELEMENTARY,
    LITERALS,
    LREAL,
    REAL,
    Elementary,
    Kind,
    widens,
)

Make = Callable[[Sequence[Code], Place], Code]

_CONVERSION: Final = re.compile(r"(?:([a-z]+)_)?to_([a-z]+)")
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "limit": ("mn", "in", "mx"),
    "sel": ("g", "in0", "in1"),
    "shl": ("in", "n"),
    "shr": ("in", "n"),
    "rol": ("in", "n"),
    "ror": ("in", "n"),
}
"""Names of the arguments, of functions that are called with them."""


def standard(name: str) -> Make | None:
    """Return what compiles a standard function, by its lower-case name; None if it is none of them."""
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    match = _CONVERSION.fullmatch(name)
    if match is None:
        return None
    source = ELEMENTARY.get((match[1] or "").upper())
    target = ELEMENTARY.get(match[2].upper())
    if target is None or (match[1] and source is None):
        return None
    return lambda given, at: _converted(given, source, target, at)


def common(codes: Sequence[Code], at: Place) -> tuple[Elementary, list[Code]]:
    """Return the type that all values become without being asked, and the values as that type.

    Raises:
        StError: There is none.
    """
    found = elementary(codes[0], at)
    for code in codes[1:]:
        found = _wider(found, elementary(code, at), at)
    return found, [as_type(code, found, at) for code in codes]


def _wider(left: Elementary, right: Elementary, at: Place) -> Elementary:
    if left in LITERALS and right in LITERALS:
        return ANY_REAL if ANY_REAL in (left, right) else ANY_INT
    if left in LITERALS:
        return right
    if right in LITERALS or widens(right, left):
        return left
    if widens(left, right):
        return right
    raise error(f"{left.name} and {right.name} do not mix: convert one of them", at)


def _count(given: Sequence[Code], least: int, most: int, at: Place) -> None:
    if not least <= len(given) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise error(f"{len(given)} arguments, and it takes {wanted}", at)


def _joined(codes: Sequence[Code]) -> str:
    return ", ".join(code.text for code in codes)


def _typed(kind: Elementary, at: Place) -> Elementary:
    """Refuse a function of literals alone."""
    if kind in LITERALS:
        raise error("one of the values needs a type, as in INT#5", at)
    return kind


def _limit(given: Sequence[Code], at: Place) -> Code:
    _count(given, 3, 3, at)
    kind, codes = common(given, at)
    return Code(f"limit({_joined(codes)})", _typed(kind, at))


def _extreme(helper: str) -> Make:
    def make(given: Sequence[Code], at: Place) -> Code:
        _count(given, 2, 16, at)
        kind, codes = common(given, at)
        return Code(f"{helper}({_joined(codes)})", _typed(kind, at))

    return make


def _absolute(given: Sequence[Code], at: Place) -> Code:
    _count(given, 1, 1, at)
    kind = _typed(elementary(given[0], at), at)
    if not kind.is_number:
        raise error(f"ABS takes a number, not {kind.name}", at)
    text = f"abs({given[0].text})"
    return Code(wrapped(text, kind) if kind.is_whole else text, kind)


def _select(given: Sequence[Code], at: Place) -> Code:
    _count(given, 3, 3, at)
    which = as_type(given[0], BOOL, at)
    kind, codes = common(given[1:], at)
    return Code(f"selected({which.text}, {at.line}, {_joined(codes)})", _typed(kind, at))


def _multiplex(given: Sequence[Code], at: Place) -> Code:
    _count(given, 3, 17, at)
    which = elementary(given[0], at)
    if which.kind not in (Kind.SIGNED, Kind.UNSIGNED):
        raise error(f"MUX selects by a whole number, not by {which.name}", at)
    kind, codes = common(given[1:], at)
    return Code(f"selected({given[0].text}, {at.line}, {_joined(codes)})", _typed(kind, at))


def _shift(helper: str, sign: str) -> Make:
    def make(given: Sequence[Code], at: Place) -> Code:
        _count(given, 2, 2, at)
        kind, by = elementary(given[0], at), elementary(given[1], at)
        if kind.kind is not Kind.BITS:
            raise error(f"bits of {kind.name} are not shifted: convert it to a bit string", at)
        if by != ANY_INT and by.kind is not Kind.UNSIGNED:
            # What a negative number does differs from PLC to PLC.
            raise error(f"shift by a constant or an unsigned number, not by {by.name}", at)
        if isinstance(given[1].value, int) and given[1].value < 0:
            raise error("shift by a number that is not negative", at)
        return Code(f"{helper}({given[0].text}, {sign}{given[1].text}, {kind.bits})", kind)

    return make


def _truncate(given: Sequence[Code], at: Place) -> Code:
    _count(given, 1, 1, at)
    if elementary(given[0], at).kind is not Kind.REAL:
        raise error("TRUNC takes a REAL or an LREAL", at)
    return Code(f"truncated({given[0].text}, {DINT.low}, {DINT.high}, {at.line})", DINT)


def _root(given: Sequence[Code], at: Place) -> Code:
    _count(given, 1, 1, at)
    kind = elementary(given[0], at)
    if kind not in (REAL, LREAL):
        raise error("SQRT takes a REAL or an LREAL", at)
    text = f"root({given[0].text}, {at.line})"
    return Code(f"single({text})" if kind == REAL else text, kind)


def _converted(given: Sequence[Code], source: Elementary | None, target: Elementary, at: Place) -> Code:
    _count(given, 1, 1, at)
    code = given[0]
    kind = elementary(code, at)
    if kind in LITERALS and source is None:
        return as_type(code, target, at)
    if source is not None:
        code = as_type(code, source, at)
        kind = source
    return _cast(code, kind, target, at)


def _cast(code: Code, source: Elementary, target: Elementary, at: Place) -> Code:
    if source == target:
        return code
    if {source.kind, target.kind} == {Kind.BITS, Kind.REAL}:
        raise error(
            f"{source.name}_TO_{target.name} moves bits in one PLC, a number in another: use a UNION",
            at,
        )
    if target == BOOL:
        return Code(f"({code.text} != 0)", BOOL)
    if source == BOOL:
        return Code(f"float({code.text})" if target.kind is Kind.REAL else f"int({code.text})", target)
    if target.kind is Kind.REAL:
        text = f"float({code.text})" if source.kind is not Kind.REAL else code.text
        return Code(f"single({text})" if target == REAL else text, target)
    if source.kind is Kind.REAL:
        return Code(f"rounded({code.text}, {target.low}, {target.high}, {at.line})", target)
    if isinstance(code.value, int):
        return constant(_cut(code.value, target), target)
    return Code(wrapped(code.text, target), target)


def _cut(value: int, kind: Elementary) -> int:
    cut = value & ((1 << kind.bits) - 1)
    return cut - (1 << kind.bits) if cut > kind.high else cut


_FUNCTIONS: Final[dict[str, Make]] = {
    "limit": _limit,
    "min": _extreme("smallest"),
    "max": _extreme("largest"),
    "abs": _absolute,
    "sel": _select,
    "mux": _multiplex,
    "shl": _shift("shifted", ""),
    "shr": _shift("shifted", "-"),
    "rol": _shift("rotated", ""),
    "ror": _shift("rotated", "-"),
    "trunc": _truncate,
    "sqrt": _root,
}
