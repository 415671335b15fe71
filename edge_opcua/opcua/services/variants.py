"""Variants as bytes (Part 6 §5.2.2.16), scalars without asking the codec."""

from __future__ import annotations

import struct
from typing import Final

from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary

__all__ = ["NULL", "SCALARS", "variant"]

NULL: Final = b"\x00"
# A scalar: its type in one byte, then the value.
SCALARS: Final = {
    kind: struct.Struct(f"<B{letter}")
    for kind, letter in (
        (ua.VariantType.Boolean, "?"),
        (ua.VariantType.SByte, "b"),
        (ua.VariantType.Byte, "B"),
        (ua.VariantType.Int16, "h"),
        (ua.VariantType.UInt16, "H"),
        (ua.VariantType.Int32, "i"),
        (ua.VariantType.UInt32, "I"),
        (ua.VariantType.Int64, "q"),
        (ua.VariantType.UInt64, "Q"),
        (ua.VariantType.Float, "f"),
        (ua.VariantType.Double, "d"),
    )
}
_KIND_BYTE: Final = {kind: int(kind) for kind in SCALARS}


def variant(value: ua.Variant) -> bytes:
    """Return a Variant as bytes."""
    scalar = SCALARS.get(value.VariantType)
    if scalar is not None and not value.is_array:
        try:
            return scalar.pack(_KIND_BYTE[value.VariantType], value.Value)
        except (struct.error, TypeError, OverflowError):
            pass  # an array without its flag, a number of another type: the codec says what is wrong
    return bytes(variant_to_binary(value))
