"""S7 addresses as Kepware, Ignition, Neuron and TIA Portal write them, to ours and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge_opcua.config.exchange.listing import UntranslatableError, elements
from edge_opcua.config.problem import quoted

SIZES: Final = {
    "SINT": 1,
    "USINT": 1,
    "BYTE": 1,
    "INT": 2,
    "UINT": 2,
    "WORD": 2,
    "DATE": 2,
    "DINT": 4,
    "UDINT": 4,
    "DWORD": 4,
    "REAL": 4,
    "TIME": 4,
    "TOD": 4,
    "LINT": 8,
    "ULINT": 8,
    "LWORD": 8,
    "LREAL": 8,
    "LTIME": 8,
    "LTOD": 8,
    "LDT": 8,
    "DT": 8,
    "DTL": 12,
}
_LETTER: Final = {1: "B", 2: "W", 4: "D"}
_WIDTH: Final = {"B": 1, "BYTE": 1, "W": 2, "WORD": 2, "D": 4, "DW": 4, "DWORD": 4}
_UNTYPED: Final = {1: "BYTE", 2: "WORD", 4: "DWORD"}
# Letters of the address that say the type by themselves, in Kepware and Ignition.
_TYPED: Final = {
    "I": "INT",
    "INT": "INT",
    "DI": "DINT",
    "DINT": "DINT",
    "REAL": "REAL",
    "STRING": "STRING",
    "X": "BOOL",
    "": "",
}
_AREAS: Final = {"I": "I", "E": "I", "Q": "Q", "A": "Q", "M": "M", "F": "M"}
_OURS: Final = re.compile(
    r"(?:DB(?P<db>\d+)\.DB[XBWD]|(?P<area>[IQM])[XBWD]?)(?P<start>\d+)(?:\.(?P<bit>\d))?"
    r":(?P<type>[A-Z_]+)(?:\[(?P<count>\d+)\])?"
)
_TAIL: Final = r"(?P<kind>[A-Z]*)(?P<start>\d{1,5})(?:\.(?P<dot>\d{1,3}))?(?P<dims>(?: ?\[\d{1,5}\]){0,2})"
_DB: Final = re.compile(r"%?DB(?P<db>\d{1,5})(?:,|\.(?:DB)?)" + _TAIL)
_OTHER: Final = re.compile(r"%?(?P<area>[EIQAMF])" + _TAIL)
_PERIPHERY: Final = re.compile(r"%?P[EIQA][A-Z]*\d.*")
_TIMER: Final = re.compile(r"%?[TCZ]\d+.*")


@dataclass(frozen=True, slots=True)
class S7Place:
    """Where a tag lies in an S7 PLC.

    Args:
        area: ``DB``, ``I``, ``Q`` or ``M``.
        db: Number of the block, 0 for other areas.
        start: First byte.
        type: IEC type.
        count: 0 for a single value, elements of an array, characters of a STRING.
        bit: Bit for BOOL, None for others.
    """

    area: str
    db: int
    start: int
    type: str
    count: int = 0
    bit: int | None = None

    def ours(self) -> str:
        """Return our address."""
        count = f"[{self.count}]" if self.count else ""
        bit = "" if self.bit is None else f".{self.bit}"
        letter = "X" if self.bit is not None else _LETTER.get(SIZES.get(self.type, 0), "B")
        if self.area == "DB":
            return f"DB{self.db}.DB{letter}{self.start}{bit}:{self.type}{count}"
        return f"{self.area}{'' if letter == 'X' else letter}{self.start}{bit}:{self.type}{count}"


def from_ours(text: str) -> S7Place:
    """Return the parts of one of our addresses in its canonical spelling.

    Raises:
        UntranslatableError: It is not one.
    """
    match = _OURS.fullmatch(text)
    if match is None:
        raise UntranslatableError(f"{quoted(text)} is not an S7 address", code="T250")
    return S7Place(
        match["area"] or "DB",
        int(match["db"] or 0),
        int(match["start"]),
        match["type"],
        int(match["count"] or 0),
        None if match["bit"] is None else int(match["bit"]),
    )


def from_foreign(text: str, kind: str, *, is_array: bool = False, loose: bool = False) -> str:
    """Return our address for one of Kepware, Ignition, Neuron or a tag table.

    Args:
        text: E.g. ``DB1,REAL4``, ``DB1.DBD4``, ``DB1,STRING24.50``, ``%MW10``, ``M10.0``.
        kind: IEC type of its data type; empty if only the address says it.
        is_array: Whether the data type is an array.
        loose: Whether the width in the address means nothing (Neuron writes DBW for all).

    Raises:
        UntranslatableError: It cannot be had here (T254), or address and type do not fit (T237).
    """
    clean = text.upper().strip()
    match = None if _PERIPHERY.fullmatch(clean) else _DB.fullmatch(clean) or _OTHER.fullmatch(clean)
    if match is None:
        raise _not_understood(text, clean)
    groups = match.groupdict()
    area, db = ("DB", int(groups["db"])) if groups.get("db") else (_AREAS[groups["area"]], 0)
    letters, dims = groups["kind"], elements(groups["dims"])
    if is_array and not dims:
        raise UntranslatableError(f"{quoted(text)}: how many elements?", hint="write e.g. DB1,INT4[10]")
    dot = None if groups["dot"] is None else int(groups["dot"])
    iec = _type(text, letters, kind, dot, loose=loose)
    start = int(groups["start"])
    if iec == "BOOL":
        if dot is None or dot > 7:
            raise UntranslatableError(f"{quoted(text)}: which of the 8 bits?", hint="write e.g. DB1.DBX4.0")
        return S7Place(area, db, start, iec, dims, dot).ours()
    if iec == "STRING":
        return S7Place(area, db, start, iec, dot or 254).ours()
    if dot:
        raise UntranslatableError(f"{quoted(text)}: {iec} has no bits of its own")
    return S7Place(area, db, start, iec, dims).ours()


def _not_understood(text: str, clean: str) -> UntranslatableError:
    if _TIMER.fullmatch(clean):
        return UntranslatableError(
            f"{quoted(text)}: timers and counters cannot be read", hint="copy the value into a data block"
        )
    if _PERIPHERY.fullmatch(clean):
        return UntranslatableError(
            f"{quoted(text)}: the periphery is not read past the process image", hint="use I or Q"
        )
    return UntranslatableError(
        f"{quoted(text)} is not an S7 address",
        hint="understood are DB1.DBD4, DB1,REAL4, DB1.DBX0.3, MW10, I0.0 and DB1,STRING24.50",
    )


def _type(text: str, letters: str, kind: str, dot: int | None, *, loose: bool) -> str:
    """Return the IEC type that address and data type agree on."""
    if letters in _TYPED:
        own = _TYPED[letters] or kind or ("BOOL" if dot is not None else "")
        if not own:
            raise UntranslatableError(f"{quoted(text)} has no type", code="T237")
        if letters and kind not in ("", own) and not loose:
            raise UntranslatableError(
                f"{quoted(text)} is {own}, but its data type says {kind}",
                code="T237",
                hint="the address counts in the PLC: correct one of them",
            )
        return kind if loose and kind else own
    width = _WIDTH.get(letters)
    if width is None:
        raise UntranslatableError(f"{quoted(text)}: {letters} has no type here", code="T237")
    own = kind or _UNTYPED[width]
    if loose or SIZES.get(own) == width or (own == "BOOL" and dot is not None):
        return own
    if own == "STRING":
        raise UntranslatableError(
            f"{quoted(text)}: characters without the two length bytes of a STRING", code="T237"
        )
    raise UntranslatableError(f"{quoted(text)} is {width} bytes wide, {own} is not", code="T237")


_OUT: Final = {
    "BOOL": "X",
    "SINT": "B",
    "USINT": "B",
    "BYTE": "B",
    "INT": "INT",
    "UINT": "WORD",
    "WORD": "WORD",
    "DINT": "DINT",
    "UDINT": "DWORD",
    "DWORD": "DWORD",
    "REAL": "REAL",
    "STRING": "STRING",
}


def to_item(place: S7Place) -> str:
    """Return the address as Kepware and Ignition have it, ``DB1,REAL4``.

    Raises:
        UntranslatableError: They have no such type (T250).
    """
    letters = _OUT.get(place.type)
    if letters is None:
        raise UntranslatableError(f"there is no {place.type} in its S7 driver", code="T250")
    head = f"DB{place.db},{letters}" if place.area == "DB" else f"{place.area}{letters}"
    if place.type == "STRING":
        return f"{head}{place.start}.{place.count}"
    if place.bit is not None and place.count:
        raise UntranslatableError("arrays of BOOL have no address there", code="T250")
    bit = "" if place.bit is None else f".{place.bit}"
    return f"{head}{place.start}{bit}" + (f"[{place.count}]" if place.count else "")


def to_plain(place: S7Place) -> str:
    """Return the address as TIA Portal and Neuron have it, ``DB1.DBD4``, ``MW10``, ``I0.0``.

    Raises:
        UntranslatableError: They have no address for it (T250).
    """
    if place.count and place.type != "STRING":
        raise UntranslatableError("arrays have no address there", code="T250")
    text = place.ours().partition(":")[0]
    return f"{text}.{place.count}" if place.type == "STRING" else text
