"""Random tag tables, and an encoder for them that shares only the standard with the code under test."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from edge_opcua.core.batch import BlockLayout
from edge_opcua.core.values import BlockSpec, TagSpec
from edge_opcua.drivers.decode import Row

# IEC name: struct code and the range of its values.
NUMBERS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "INT": ("h", st.integers(-(2**15), 2**15 - 1)),
    "UINT": ("H", st.integers(0, 2**16 - 1)),
    "WORD": ("H", st.integers(0, 2**16 - 1)),
    "DINT": ("i", st.integers(-(2**31), 2**31 - 1)),
    "UDINT": ("I", st.integers(0, 2**32 - 1)),
    "LINT": ("q", st.integers(-(2**63), 2**63 - 1)),
    "ULINT": ("Q", st.integers(0, 2**64 - 1)),
    "REAL": ("f", st.floats(width=32, allow_nan=False)),
    "LREAL": ("d", st.floats(allow_nan=False)),
}
BYTES: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "SINT": ("b", st.integers(-128, 127)),
    "USINT": ("B", st.integers(0, 255)),
    "BYTE": ("B", st.integers(0, 255)),
}
ORDERS = ("ABCD", "BADC", "CDAB", "DCBA")


def registers_of(kind: str, value: Any, order: str) -> list[int]:
    """Encode a number as a Modbus device of that byte order shows it, by swapping words and bytes."""
    words = list(struct.unpack(f">{struct.calcsize(NUMBERS[kind][0]) // 2}H", packed(kind, value)))
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [(word & 0xFF) << 8 | word >> 8 for word in words]
    return words


def packed(kind: str, value: Any) -> bytes:
    """Encode a number big-endian."""
    return struct.pack(">" + {**NUMBERS, **BYTES}[kind][0], value)


def layout_of(rows: list[Row]) -> BlockLayout:
    """Return a layout for rows that are not scaled."""
    tags = tuple(TagSpec(f"t{i}", row.place.scalar, row.place.length) for i, row in enumerate(rows))
    return BlockLayout(BlockSpec("block", tags, 2))
