"""What the producers write: a value is made of its sequence number and its item, so a client can check it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Array, Scalar

# Every scalar type in turn: item 0 is a Boolean, item 1 an SByte, …, item 10 a Double, item 11 a Boolean.
KINDS: Final = tuple(kind for kind in Scalar if kind.is_number or kind is Scalar.BOOLEAN)
# How many bits of the sequence number a type can carry: the integers that it holds exactly.
BITS: Final = {
    Scalar.BOOLEAN: 1,
    Scalar.SBYTE: 8,
    Scalar.BYTE: 8,
    Scalar.INT16: 16,
    Scalar.UINT16: 16,
    Scalar.INT32: 32,
    Scalar.UINT32: 32,
    Scalar.INT64: 53,
    Scalar.UINT64: 53,
    Scalar.FLOAT: 24,
    Scalar.DOUBLE: 53,
}
MODULUS: Final = {kind: 1 << bits for kind, bits in BITS.items()}
# How often a peer raises its events: as often as ours does, whose events come with its tick.
EVENTS_PERIOD_S: Final = 0.02
STEP: Final = 7  # odd, so that neighbours differ in every type, Boolean too


def kind_of(item: int) -> Scalar:
    """Return the type of an item of the mixed set."""
    return KINDS[item % len(KINDS)]


def value(kind: Scalar, sequence: int, item: int) -> Any:
    """Return what an item shows at a sequence number, as a Python object."""
    bits = (sequence + STEP * item) % MODULUS[kind]
    if kind is Scalar.BOOLEAN:
        return bool(bits)
    if kind in (Scalar.FLOAT, Scalar.DOUBLE):
        return float(bits)
    width = 8 * kind.dtype.itemsize
    return bits - (1 << width) if kind.dtype.kind == "i" and bits >> (width - 1) else bits


def column(kind: Scalar, sequence: int, items: npt.NDArray[np.uint64], out: Array) -> None:
    """Write what items of one type show at a sequence number.

    Args:
        kind: Their type.
        sequence: The sequence number.
        items: Numbers of the items.
        out: Column of the type's dtype, same length.
    """
    bits = items * np.uint64(STEP)
    bits += np.uint64(sequence)
    bits &= np.uint64(MODULUS[kind] - 1)
    if out.dtype.kind == "f":
        out[:] = bits.astype(np.int64)
    else:
        out.view(f"u{out.dtype.itemsize}")[:] = bits
