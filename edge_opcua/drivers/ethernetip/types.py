"""CIP's elementary types (Vol 1 appendix C-6): their codes, sizes, and which IEC types may read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LOGIX_STRING: Final = 82
"""Characters of the Logix type STRING."""

STRUCTURE: Final = 0xA0
BOOL: Final = 0xC1
DWORD: Final = 0xD3
COUNTED_16: Final = 0xD0  # STRING: 16 bits of length, then the characters
COUNTED_8: Final = 0xDA  # SHORT_STRING: 8 bits of length; Micro800

STRING_HANDLE: Final = 0x0FCE
"""Structure handle of the Logix type STRING; a string type of the project has one of its own."""


@dataclass(frozen=True, slots=True)
class CipType:
    """One elementary type of CIP.

    Args:
        code: Its number on the wire.
        name: What Studio 5000 calls it.
        size_bytes: Bytes of one element; 0 if that differs from value to value.
        read_as: IEC types that may read it; the first one is the advice.
    """

    code: int
    name: str
    size_bytes: int
    read_as: tuple[str, ...]


CIP_TYPES: Final[dict[int, CipType]] = {
    kind.code: kind
    for kind in (
        CipType(0xC1, "BOOL", 1, ("BOOL",)),
        CipType(0xC2, "SINT", 1, ("SINT", "BYTE")),
        CipType(0xC3, "INT", 2, ("INT", "WORD")),
        CipType(0xC4, "DINT", 4, ("DINT", "DWORD", "TIME")),
        CipType(0xC5, "LINT", 8, ("LINT", "LWORD", "LTIME")),
        CipType(0xC6, "USINT", 1, ("USINT", "BYTE")),
        CipType(0xC7, "UINT", 2, ("UINT", "WORD")),
        CipType(0xC8, "UDINT", 4, ("UDINT", "DWORD")),
        CipType(0xC9, "ULINT", 8, ("ULINT", "LWORD")),
        CipType(0xCA, "REAL", 4, ("REAL",)),
        CipType(0xCB, "LREAL", 8, ("LREAL",)),
        CipType(0xD1, "BYTE", 1, ("BYTE", "USINT", "SINT")),
        CipType(0xD2, "WORD", 2, ("WORD", "UINT", "INT")),
        CipType(0xD3, "DWORD", 4, ("DWORD", "UDINT", "DINT")),
        CipType(0xD4, "LWORD", 8, ("LWORD", "ULINT", "LINT")),
        CipType(0xD6, "TIME32", 4, ("DINT", "TIME")),
        CipType(0xC0, "DT", 8, ("LINT", "LWORD")),
        CipType(0xCC, "LDT", 8, ("LINT", "LWORD")),
        CipType(0xD7, "TIME", 8, ("LINT", "LWORD")),
        CipType(0xDF, "LTIME", 8, ("LINT", "LWORD", "LTIME")),
        CipType(0xD0, "STRING", 0, ("STRING",)),
        CipType(0xDA, "SHORT_STRING", 0, ("STRING",)),
    )
}

READABLE: Final = (
    "BOOL", "SINT", "INT", "DINT", "LINT", "USINT", "UINT", "UDINT", "ULINT",
    "BYTE", "WORD", "DWORD", "LWORD", "REAL", "LREAL", "TIME", "LTIME", "STRING",
)  # fmt: skip
"""IEC types that an address may name."""

_CODES: Final[dict[str, frozenset[int]]] = {
    name: frozenset(kind.code for kind in CIP_TYPES.values() if name in kind.read_as) for name in READABLE
}


def accepts(iec: str, code: int) -> bool:
    """Return whether an address of that IEC type may read a value of that CIP type."""
    return code in _CODES[iec]


def type_name(code: int) -> str:
    """Return what people call a CIP type."""
    if code == STRUCTURE:
        return "a structure"
    kind = CIP_TYPES.get(code)
    return kind.name if kind else f"of CIP type 0x{code:02X}"
