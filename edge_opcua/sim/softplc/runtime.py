"""What compiled programs call while they run: the time of the scan, and operations that may fail."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from edge_opcua.sim.softplc.errors import StFaultError
from edge_opcua.sim.softplc.types import Array, Elementary, Kind, Record, Type, single

MOST_LOOPS: Final = 1_000_000
"""Rounds of all loops in one scan; a PLC's cycle time monitor would have stopped long before."""


class Scan:
    """The scan that runs: its time, and how many rounds its loops have left."""

    __slots__ = ("left", "now_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self.left = MOST_LOOPS

    def begin(self, now_ns: int) -> None:
        """Start a scan.

        Args:
            now_ns: Its time on any clock that never goes back.
        """
        self.now_ns = now_ns
        self.left = MOST_LOOPS


def endless(line: int) -> NoReturn:
    """Stop a loop that does not end."""
    raise StFaultError(f"line {line}: more than {MOST_LOOPS} rounds of loops in one scan")


def quotient(left: int, right: int, line: int) -> int:
    """Divide whole numbers, cut towards zero (ed. 3, table 29)."""
    if right == 0:
        raise StFaultError(f"line {line}: division by zero")
    whole = abs(left) // abs(right)
    return -whole if (left < 0) != (right < 0) else whole


def remainder(left: int, right: int, line: int) -> int:
    """Return what the division leaves; it has the sign of the dividend."""
    return left - quotient(left, right, line) * right


def ratio(left: float, right: float, line: int) -> float:
    """Divide floating point numbers."""
    if right == 0.0:
        raise StFaultError(f"line {line}: division by zero")
    return left / right


def root(value: float, line: int) -> float:
    """Return the square root."""
    if value < 0.0:
        raise StFaultError(f"line {line}: square root of a negative number")
    return math.sqrt(value)


def place(index: int, low: int, high: int, line: int) -> int:
    """Return where an element lies in its list."""
    if not low <= index <= high:
        raise StFaultError(f"line {line}: index {index} is not in {low}..{high}")
    return index - low


def rounded(value: float, low: int, high: int, line: int) -> int:
    """Return the nearest whole number, the even one of two (ed. 3, table 22; IEC 60559)."""
    if not math.isfinite(value) or not low <= (whole := round(value)) <= high:
        raise StFaultError(f"line {line}: {value} is not in {low}..{high}")
    return whole


def truncated(value: float, low: int, high: int, line: int) -> int:
    """Return the whole part."""
    if not math.isfinite(value) or not low <= (whole := int(value)) <= high:
        raise StFaultError(f"line {line}: {value} is not in {low}..{high}")
    return whole


def limit(lowest: Any, value: Any, highest: Any) -> Any:
    """Return MIN(MAX(value, lowest), highest), as the standard defines LIMIT."""
    return smallest(largest(value, lowest), highest)


def smallest(*values: Any) -> Any:
    """Return MIN; of numbers that cannot be compared (NaN) a later one."""
    found = values[0]
    for value in values[1:]:
        found = min(value, found)
    return found


def largest(*values: Any) -> Any:
    """Return MAX; of numbers that cannot be compared (NaN) a later one."""
    found = values[0]
    for value in values[1:]:
        found = max(value, found)
    return found


def selected(which: int, line: int, *values: Any) -> Any:
    """Return one of several values; all of them have been worked out."""
    if not 0 <= which < len(values):
        raise StFaultError(f"line {line}: MUX has no input {which}")
    return values[which]


def shifted(value: int, by: int, bits: int) -> int:
    """Shift a bit string to the left, or to the right if ``by`` is negative; zeros come in."""
    if abs(by) >= bits:
        return 0
    return (value << by) & ((1 << bits) - 1) if by >= 0 else value >> -by


def rotated(value: int, by: int, bits: int) -> int:
    """Rotate a bit string to the left."""
    by %= bits
    return ((value << by) | (value >> (bits - by))) & ((1 << bits) - 1)


class View:
    """An array in the bytes of a UNION."""

    __slots__ = ("_codec", "_memory", "_size")

    def __init__(self, memory: bytearray, codec: struct.Struct, size: int) -> None:
        self._memory = memory
        self._codec = codec
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(self._size))

    def __getitem__(self, index: int) -> Any:
        return self._codec.unpack_from(self._memory, index * self._codec.size)[0]

    def __setitem__(self, index: int | slice, value: Any) -> None:
        if isinstance(index, slice):
            for number, each in enumerate(value):
                self._codec.pack_into(self._memory, number * self._codec.size, each)
        else:
            self._codec.pack_into(self._memory, index * self._codec.size, value)


_FORMATS: Final = {
    (Kind.BOOL, 1): "?",
    **{(kind, 8): "B" for kind in (Kind.BITS, Kind.UNSIGNED)},
    **{(kind, 16): "H" for kind in (Kind.BITS, Kind.UNSIGNED)},
    **{(kind, 32): "I" for kind in (Kind.BITS, Kind.UNSIGNED, Kind.TIME)},
    **{(kind, 64): "Q" for kind in (Kind.BITS, Kind.UNSIGNED)},
    (Kind.SIGNED, 8): "b",
    (Kind.SIGNED, 16): "h",
    (Kind.SIGNED, 32): "i",
    (Kind.SIGNED, 64): "q",
    (Kind.REAL, 32): "f",
    (Kind.REAL, 64): "d",
}


def union(record: Record) -> type[Any]:
    """Return the class of a UNION; low byte first, as on the processors that CODESYS mostly runs on."""
    members: dict[str, Any] = {"__slots__": ("memory",)}
    size = 0
    for name, kind in record.fields.items():
        codec, count = _codec(kind)
        size = max(size, codec.size * count)
        members[f"v_{name}"] = _member(codec, count, is_array=isinstance(kind, Array))

    def start(self: Any) -> None:
        self.memory = bytearray(size)

    def assign(self: Any, other: Any) -> None:
        self.memory[:] = other.memory

    return type(record.name, (), {**members, "__init__": start, "assign": assign})


def fits_union(kind: Type) -> bool:
    """Return whether a type can be a field of a UNION."""
    if isinstance(kind, Array):
        return len(kind.bounds) == 1 and isinstance(kind.element, Elementary)
    return isinstance(kind, Elementary)


def _codec(kind: Type) -> tuple[struct.Struct, int]:
    element, count = kind, 1
    if isinstance(kind, Array):
        (low, high), element = kind.bounds[0], kind.element
        count = high - low + 1
    assert isinstance(element, Elementary)
    return struct.Struct("<" + _FORMATS[element.kind, element.bits]), count


def _member(codec: struct.Struct, count: int, *, is_array: bool) -> property:
    if is_array:
        return property(lambda self: View(self.memory, codec, count))

    def read(self: Any) -> Any:
        return codec.unpack_from(self.memory)[0]

    def write(self: Any, value: Any) -> None:
        codec.pack_into(self.memory, 0, value)

    return property(read, write)


HELPERS: Final[dict[str, Any]] = {
    "endless": endless,
    "quotient": quotient,
    "remainder": remainder,
    "ratio": ratio,
    "root": root,
    "place": place,
    "rounded": rounded,
    "truncated": truncated,
    "limit": limit,
    "smallest": smallest,
    "largest": largest,
    "selected": selected,
    "shifted": shifted,
    "rotated": rotated,
    "single": single,
}
"""What the text of a compiled program may call, by its name there."""
