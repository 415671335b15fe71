"""The IEC 61131-3 types a tag address can name, and how one is written in an address."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_opcua.core.values import Scalar
from edge_opcua.drivers import times
from edge_opcua.errors import AddressError


@dataclass(frozen=True, slots=True)
class IecType:
    """One elementary type.

    Args:
        name: IEC name, e.g. ``DINT``.
        scalar: Type of the value on the bus, unscaled.
        size_bytes: Bytes of one element on the wire; 0 for BOOL and texts.
        form: How a date or time is coded; None for what is on the wire as it is on the bus.
    """

    name: str
    scalar: Scalar
    size_bytes: int
    form: times.TimeForm | None = None

    @property
    def raw(self) -> np.dtype[np.generic]:
        """Little-endian numpy type of one element after its bytes were put in order, and decoded."""
        return self.scalar.dtype.newbyteorder("<")


def _numbers() -> dict[str, IecType]:
    carriers = {
        Scalar.SBYTE: ("SINT",),
        Scalar.BYTE: ("USINT", "BYTE"),
        Scalar.INT16: ("INT",),
        Scalar.UINT16: ("UINT", "WORD"),
        Scalar.INT32: ("DINT", "TIME"),
        Scalar.UINT32: ("UDINT", "DWORD", "TOD"),
        Scalar.INT64: ("LINT", "LTIME"),
        Scalar.UINT64: ("ULINT", "LWORD", "LTOD"),
        Scalar.FLOAT: ("REAL",),
        Scalar.DOUBLE: ("LREAL",),
    }
    return {
        name: IecType(name, scalar, scalar.dtype.itemsize)
        for scalar, names in carriers.items()
        for name in names
    }


BOOL: Final = IecType("BOOL", Scalar.BOOLEAN, 0)
STRING: Final = IecType("STRING", Scalar.STRING, 0)
WSTRING: Final = IecType("WSTRING", Scalar.STRING, 0)
TEXTS: Final = (STRING, WSTRING)
# A DateTime as OPC UA has it; no address can name it, since people who write DATETIME mean DT.
DATETIME: Final = IecType("DATETIME", Scalar.DATETIME, 8)
_TIMES: Final = (
    IecType("S5TIME", Scalar.INT32, 2, times.S5TIME),
    IecType("DATE", Scalar.DATETIME, 2, times.DATE),
    IecType("DT", Scalar.DATETIME, 8, times.DATE_AND_TIME),
    IecType("DTL", Scalar.DATETIME, 12, times.DTL),
    IecType("LDT", Scalar.DATETIME, 8, times.LDT),
)
# Durations and times of day are integers: TIME, TOD and S5TIME ms, LTIME and LTOD ns.
TYPES: Final[dict[str, IecType]] = {
    "BOOL": BOOL,
    "STRING": STRING,
    "WSTRING": WSTRING,
    **_numbers(),
    **{iec.name: iec for iec in _TIMES},
}
# The long names of the standard.
_ALIASES: Final = {
    "DATE_AND_TIME": "DT",
    "DATE_AND_LTIME": "LDT",
    "TIME_OF_DAY": "TOD",
    "LTIME_OF_DAY": "LTOD",
}

MAX_ELEMENTS: Final = 65_536
MAX_STRING: Final = 254
MAX_WSTRING: Final = 16_382

# What people who come from elsewhere write.
_FOREIGN: Final = {
    "BIT": "BOOL",
    "BOOLEAN": "BOOL",
    "INT8": "SINT",
    "UINT8": "USINT",
    "CHAR": "STRING[1]",
    "SHORT": "INT",
    "INT16": "INT",
    "USHORT": "UINT",
    "UINT16": "UINT",
    "LONG": "DINT",
    "INT32": "DINT",
    "ULONG": "UDINT",
    "UINT32": "UDINT",
    "INT64": "LINT",
    "UINT64": "ULINT",
    "QWORD": "LWORD",
    "FLOAT": "REAL",
    "FLOAT32": "REAL",
    "SINGLE": "REAL",
    "DOUBLE": "LREAL",
    "FLOAT64": "LREAL",
    "DATETIME": "DT",
    "WCHAR": "WSTRING[1]",
}
_TYPE: Final = re.compile(r"(?P<name>[A-Z][A-Z0-9_]*?)(?:\[(?P<length>\d{1,9})\])?(?:X(?P<times>\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class TypeText:
    """The type part of an address.

    Args:
        type: Elementary type.
        count: 0 for a single value; otherwise elements of an array or characters of a STRING.
    """

    type: IecType
    count: int

    @property
    def length(self) -> int:
        """0 for a scalar, elements of an array, UTF-8 bytes of a string (2 or 3 for each character)."""
        if self.type is WSTRING:
            return 3 * self.count
        return 2 * self.count if self.type is STRING else self.count

    def __str__(self) -> str:
        return f"{self.type.name}[{self.count}]" if self.count else self.type.name


# Most addresses end in one of these as it stands; they share what it means.
_PLAIN: Final = {name: TypeText(iec, 0) for name, iec in TYPES.items() if iec not in TEXTS}


def parse_type(text: str, *, address: str) -> TypeText:
    """Read the type part of an address.

    Args:
        text: E.g. ``REAL``, ``INT[8]``, ``INTx8`` or ``STRING[20]``; case does not matter.
        address: The whole address, for messages.

    Raises:
        AddressError: No such type (T214), or a length that cannot be (T216).
    """
    plain = _PLAIN.get(text)
    if plain is not None:
        return plain
    match = _TYPE.fullmatch(text.strip().upper())
    if match is None:
        raise AddressError(
            f'"{text}" in {address} is not a type', hint="write e.g. REAL, INT[8] or STRING[20]", code="T214"
        )
    name = match["name"]
    iec = TYPES.get(_ALIASES.get(name, name))
    if iec is None:
        raise AddressError(f"{name} in {address} is not a type", hint=_advise(name), code="T214")
    if match["length"] and match["times"]:
        raise AddressError(
            f"{address} has two lengths", hint="arrays of strings or of arrays do not exist here", code="T216"
        )
    count = int(match["length"] or match["times"] or 0)
    if iec in TEXTS:
        _check_string(iec, match["length"], match["times"], address)
    elif match["length"] or match["times"]:
        _check_array(count, address)
    return TypeText(iec, count)


def _check_string(iec: IecType, length: str | None, times: str | None, address: str) -> None:
    if times:
        raise AddressError(
            f"{address}: arrays of strings do not exist here", hint="write one tag per string", code="T216"
        )
    if not length:
        raise AddressError(
            f"{iec.name} in {address} has no length", hint=f"write e.g. {iec.name}[20]", code="T216"
        )
    most = MAX_STRING if iec is STRING else MAX_WSTRING
    if not 1 <= int(length) <= most:
        raise AddressError(
            f"{iec.name}[{length}] in {address}: the length must lie in 1..{most}", code="T216"
        )


def _check_array(count: int, address: str) -> None:
    if not 1 <= count <= MAX_ELEMENTS:
        raise AddressError(
            f"{address} has {count} elements; an array has 1..{MAX_ELEMENTS}",
            hint="leave the length out for a single value",
            code="T216",
        )


def _advise(name: str) -> str:
    close = _FOREIGN.get(name) or next(iter(difflib.get_close_matches(name, TYPES, n=1, cutoff=0.6)), None)
    return f"did you mean {close}?" if close else f"there are: {', '.join(TYPES)}"
