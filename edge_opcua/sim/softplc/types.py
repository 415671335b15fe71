"""The data types of IEC 61131-3 that are executed, and which of them become another without being asked."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Kind(Enum):
    """What the bits of an elementary type mean."""

    BOOL = "BOOL"
    BITS = "bit string"
    SIGNED = "signed integer"
    UNSIGNED = "unsigned integer"
    REAL = "floating point number"
    TIME = "duration"


@dataclass(frozen=True, slots=True)
class Elementary:
    """One elementary type (IEC 61131-3 ed. 3, table 10).

    Args:
        name: In capitals.
        kind: What its bits mean.
        bits: Their number.
    """

    name: str
    kind: Kind
    bits: int

    @property
    def low(self) -> int:
        """Smallest value of an integer, bit string or duration."""
        return -(1 << self.bits - 1) if self.kind is Kind.SIGNED else 0

    @property
    def high(self) -> int:
        """Largest value of an integer, bit string or duration."""
        return (1 << (self.bits - 1 if self.kind is Kind.SIGNED else self.bits)) - 1

    @property
    def is_whole(self) -> bool:
        """Whether its values are Python integers."""
        return self.kind in (Kind.BITS, Kind.SIGNED, Kind.UNSIGNED, Kind.TIME)

    @property
    def is_number(self) -> bool:
        """Whether one can calculate with it (ANY_NUM)."""
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.REAL)


BOOL: Final = Elementary("BOOL", Kind.BOOL, 1)
WORD: Final = Elementary("WORD", Kind.BITS, 16)
DWORD: Final = Elementary("DWORD", Kind.BITS, 32)
INT: Final = Elementary("INT", Kind.SIGNED, 16)
DINT: Final = Elementary("DINT", Kind.SIGNED, 32)
REAL: Final = Elementary("REAL", Kind.REAL, 32)
LREAL: Final = Elementary("LREAL", Kind.REAL, 64)
TIME: Final = Elementary("TIME", Kind.TIME, 32)
"""Milliseconds, as most PLCs have it; wraps after 49 days."""

ANY_INT: Final = Elementary("ANY_INT", Kind.SIGNED, 0)
"""A literal without a type: takes that of its neighbour."""
ANY_REAL: Final = Elementary("ANY_REAL", Kind.REAL, 0)

ELEMENTARY: Final = {
    kind.name: kind
    for kind in (
        BOOL,
        Elementary("BYTE", Kind.BITS, 8),
        WORD,
        DWORD,
        Elementary("LWORD", Kind.BITS, 64),
        Elementary("SINT", Kind.SIGNED, 8),
        INT,
        DINT,
        Elementary("LINT", Kind.SIGNED, 64),
        Elementary("USINT", Kind.UNSIGNED, 8),
        Elementary("UINT", Kind.UNSIGNED, 16),
        Elementary("UDINT", Kind.UNSIGNED, 32),
        Elementary("ULINT", Kind.UNSIGNED, 64),
        REAL,
        LREAL,
        TIME,
    )
}
LITERALS: Final = (ANY_INT, ANY_REAL)


@dataclass(frozen=True, slots=True)
class Array:
    """An array of one or more dimensions.

    Args:
        bounds: First and last index of each dimension.
        element: Type of an element.
    """

    bounds: tuple[tuple[int, int], ...]
    element: Type

    @property
    def name(self) -> str:
        """How the type is written."""
        bounds = ", ".join(f"{low}..{high}" for low, high in self.bounds)
        return f"ARRAY[{bounds}] OF {self.element.name}"

    @property
    def row(self) -> Type:
        """What is left when the first index is given."""
        return Array(self.bounds[1:], self.element) if len(self.bounds) > 1 else self.element


@dataclass(frozen=True, slots=True)
class Record:
    """A STRUCT, or a UNION, whose fields share their bytes.

    Args:
        name: As declared.
        fields: Type of each field by its lower-case name, in order.
        is_union: Whether it is a UNION.
    """

    name: str
    fields: dict[str, Type] = field(hash=False)
    is_union: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A function block type, as far as its callers see it.

    Args:
        name: As declared.
        inputs: Type of each input by its lower-case name, in order.
        outputs: Type of each output.
        in_outs: Type of each variable that is passed by reference.
        inner: Type of each further variable; only tests look at them.
    """

    name: str
    inputs: dict[str, Type] = field(default_factory=dict, hash=False)
    outputs: dict[str, Type] = field(default_factory=dict, hash=False)
    in_outs: dict[str, Type] = field(default_factory=dict, hash=False)
    inner: dict[str, Type] = field(default_factory=dict, hash=False)

    def find(self, name: str) -> Type | None:
        """Return the type of a variable of the block by its lower-case name."""
        for group in (self.inputs, self.outputs, self.in_outs, self.inner):
            if name in group:
                return group[name]
        return None


Type = Elementary | Array | Record | Block


def widens(source: Elementary, target: Elementary) -> bool:
    """Return whether a value becomes another type without being asked (ed. 3, figure 12: nothing is lost)."""
    if source == target:
        return True
    if source.kind is target.kind and source.kind in (Kind.BITS, Kind.SIGNED, Kind.UNSIGNED, Kind.REAL):
        return source.bits < target.bits
    if target.kind is Kind.SIGNED:
        return source.kind is Kind.UNSIGNED and source.bits < target.bits
    if target.kind is Kind.REAL and source.kind in (Kind.SIGNED, Kind.UNSIGNED):
        return source.bits <= target.bits // 2  # 16 bits fit the 24 of a REAL, 32 the 53 of an LREAL
    return False


def single(value: float) -> float:
    """Return the nearest REAL."""
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


_SINGLE: Final = struct.Struct("<f")
