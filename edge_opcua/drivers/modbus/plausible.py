"""Which of the ways to read some registers is the likely one: few digits, moderate size; pure.

Numbers that people chose or sensors send have a moderate size, and in the right byte order often few digits;
in a wrong order the exponent is noise. It is a guess, and is not made where two ways are equally good.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_opcua.drivers.modbus.address import byte_places

ORDERS: Final[dict[int, tuple[str, ...]]] = {
    2: ("ABCD", "CDAB", "BADC", "DCBA"),
    4: (
        "ABCDEFGH",
        "GHEFCDAB",
        "CDABGHEF",
        "EFGHABCD",
        "BADCFEHG",
        "HGFEDCBA",
        "DCBAHGFE",
        "FEHGBADC",
    ),
}
_KINDS: Final[dict[int, tuple[tuple[str, str], ...]]] = {
    2: (("REAL", "<f"), ("DINT", "<i")),
    4: (("LREAL", "<d"), ("LINT", "<q")),
}
_ENOUGH: Final = 2
_MODERATE: Final = (1e-2, 1e5)
_POSSIBLE: Final = (1e-4, 1e7)
_FEW_DIGITS: Final = 6
_VERY_FEW_DIGITS: Final = 4
_WORD: Final = 65_536


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read registers.

    Args:
        order: Byte order.
        kind: IEC type that is meant if this is the plausible one.
        values: The value by IEC type.
        plausible: Why it is the likely one; empty if it is not.
    """

    order: str
    kind: str
    values: dict[str, Any]
    plausible: str = ""


def readings(wire: bytes, *, low: float | None = None, high: float | None = None) -> tuple[Reading, ...]:
    """Return every way to read two or four registers as one number, the plausible one marked.

    Args:
        wire: The registers, high byte first.
        low: Least value that can be, if known.
        high: Greatest value that can be, if known.
    """
    registers = len(wire) // 2
    kinds = _KINDS[registers]
    table = {
        order: {kind: struct.unpack(form, _straight(wire, order))[0] for kind, form in kinds}
        for order in ORDERS[registers]
    }
    best, reason = _best(table, low, high)
    found = []
    for order, values in table.items():
        is_best = best is not None and order == best[0]
        kind = best[1] if best is not None and is_best else kinds[0][0]
        found.append(Reading(order, kind, values, reason if is_best else ""))
    return tuple(found)


def _straight(wire: bytes, order: str) -> bytes:
    """Return the bytes from the least significant on."""
    return bytes(wire[place] for place in byte_places(order, len(wire)))


def _best(
    table: dict[str, dict[str, Any]], low: float | None, high: float | None
) -> tuple[tuple[str, str] | None, str]:
    scored = sorted(
        (
            (*judge(value, kind, order, low=low, high=high), order, kind)
            for order, values in table.items()
            for kind, value in values.items()
        ),
        key=lambda one: -one[0],
    )
    (score, reason, order, kind), second = scored[0], scored[1]
    if score < _ENOUGH or second[0] == score:
        return None, ""
    return (order, kind), reason


def judge(
    value: float, kind: str, order: str, *, low: float | None = None, high: float | None = None
) -> tuple[int, str]:
    """Return how likely a value is, and why; 0 for one that is not.

    Args:
        value: What was read in this way.
        kind: ``REAL``, ``LREAL``, ``DINT`` or ``LINT``.
        order: Byte order; those that swap the bytes of a word are rare.
        low: Least value that can be, if known.
        high: Greatest value that can be, if known.
    """
    if not math.isfinite(value) or not value:
        return 0, ""
    score, reasons = _of_float(value, kind) if "REAL" in kind else _of_whole(int(value), kind)
    if not score or (low is not None and value < low) or (high is not None and value > high):
        return 0, ""
    if low is not None and high is not None:
        score += 3
        reasons.append(f"within {low:g}..{high:g}")
    if "REAL" not in kind and order.startswith(("BA", "DC", "FE", "HG")):
        score -= 1
    return score, ", ".join(reasons)


def _of_float(value: float, kind: str) -> tuple[int, list[str]]:
    size = abs(value)
    if not _POSSIBLE[0] <= size < _POSSIBLE[1]:
        return 0, []
    moderate = _MODERATE[0] <= size < _MODERATE[1]
    digits = _digits(value, kind)
    score = 1 + moderate + (digits <= _FEW_DIGITS) + (digits <= _VERY_FEW_DIGITS)
    word = ("small" if size < 1000 else "moderate") if moderate else "possible size"
    return score, [word, *(["few digits"] if digits <= _FEW_DIGITS else [])]


def _of_whole(value: int, kind: str) -> tuple[int, list[str]]:
    if abs(value) < _WORD:
        return 3, ["small whole number"]
    if abs(value) < _POSSIBLE[1]:  # four registers of which two are 0 say more than two do
        return (2 if kind == "LINT" else 1), ["whole number"]
    return 0, []


def _digits(value: float, kind: str) -> int:
    """Return the digits of the shortest text that means this value."""
    number = np.float32(value) if kind == "REAL" else np.float64(value)
    return len(np.format_float_scientific(number, trim="-").split("e")[0].strip("-").replace(".", ""))


def text_of(wire: bytes) -> tuple[str, str] | None:
    """Return the text that registers hold and its byte order, or None if they hold none.

    Args:
        wire: At least three registers, high byte first.
    """
    for order, swap in (("HL", 0), ("LH", 1)):
        chars = bytes(wire[i ^ swap] for i in range(len(wire)))
        text = chars.rstrip(b"\0 ")
        if len(text) >= len(wire) // 2 and len(text) > 3 and all(0x20 <= char < 0x7F for char in text):
            return text.decode("ascii"), order
    return None


def registers_of(wire: bytes) -> Sequence[int]:
    """Return registers as whole numbers."""
    return struct.unpack(f">{len(wire) // 2}H", wire)
