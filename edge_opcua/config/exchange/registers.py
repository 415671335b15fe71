"""Modbus addresses as Kepware, Ignition and Neuron write them, to ours and back."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.config.exchange.listing import Listing, Target, UntranslatableError, elements
from edge_opcua.config.problem import quoted

_AREA: Final = {"0": "co", "1": "di", "3": "ir", "4": "hr"}
_DIGIT: Final = {area: digit for digit, area in _AREA.items()}
_BITS: Final = ("co", "di")
_HIGHEST: Final = 65_535

_OURS: Final = re.compile(
    r"(?:(?P<unit>\d+)/)?(?P<area>co|di|hr|ir):(?P<start>\d+)(?:\.(?P<bit>\d+))?"
    r":(?P<type>[A-Z_]+)(?:\[(?P<count>\d+)\])?(?:;order=(?P<order>[A-H]+|HL|LH|L))?(?:;base=0)?"
)
_MODICON: Final = re.compile(
    r"S?(?P<area>[0134])(?P<number>\d{4,5})(?:\.(?P<suffix>\d{1,3})(?P<bytes>[HLDE]?))?"
    r"(?P<dims>(?: ?\[\d{1,5}\]){0,2})",
    re.IGNORECASE,
)
_BARE: Final = re.compile(r"\d{1,4}")
_NEURON: Final = re.compile(r"(?P<unit>\d{1,3})!(?P<rest>[^#]*)(?:#(?P<order>[A-Z]{1,2}))?(?P<tail>\..*)?")
_IGNITION: Final = re.compile(
    r"(?:(?P<unit>\d{1,3})\.)?(?P<area>HR|IR|DI|C)(?P<kind>[A-Z]*(?:_(?:32|64|[A-Z]+))?)(?P<number>\d{1,6})"
    r"(?:\.(?P<bit>\d{1,2})|:(?P<length>\d{1,3}))?(?P<dims>(?:\[\d{1,5}\])?)",
    re.IGNORECASE,
)
_IGNITION_AREA: Final = {"HR": "hr", "IR": "ir", "DI": "di", "C": "co"}
_IGNITION_TYPE: Final = {
    "": "INT",
    "US": "UINT",
    "I": "DINT",
    "UI": "UDINT",
    "I_64": "LINT",
    "UI_64": "ULINT",
    "F": "REAL",
    "D": "LREAL",
    "S": "STRING",
}
_IGNITION_KIND: Final = {
    **{name: kind for kind, name in _IGNITION_TYPE.items()},
    "WORD": "US",
    "DWORD": "UI",
    "LWORD": "UI_64",
}
# Digits of the manual (2.12 and later): 1 is the most significant byte, as A is in ours.
_NEURON_ORDER: Final = {
    "L": "",
    "B": "BADC",
    "LL": "ABCD",
    "LB": "BADC",
    "BL": "CDAB",
    "BB": "DCBA",
    "BE": "ABCD",
    "LE": "DCBA",
}
_ORDER_NEURON: Final = {"ABCD": "LL", "BADC": "LB", "CDAB": "BL", "DCBA": "BB"}


@dataclass(frozen=True, slots=True)
class Register:
    """Where a tag lies in a Modbus device.

    Args:
        area: ``co``, ``di``, ``hr`` or ``ir``.
        start: First register or bit, counted from 0.
        type: IEC type.
        count: 0 for a single value, elements of an array, characters of a STRING.
        bit: Bit of a register, None if it is none.
        unit: Unit, None for the one of the device.
        order: Byte order, empty for the one of the device.
    """

    area: str
    start: int
    type: str
    count: int = 0
    bit: int | None = None
    unit: int | None = None
    order: str = ""

    def ours(self) -> str:
        """Return our address; numbers that look like Modicon's say that they are none."""
        unit = "" if self.unit is None else f"{self.unit}/"
        bit = "" if self.bit is None else f".{self.bit}"
        count = f"[{self.count}]" if self.count else ""
        order = f";order={self.order}" if self.order else ""
        number = str(self.start)
        base = ";base=0" if len(number) >= 5 and number[0] == _DIGIT[self.area] else ""
        return f"{unit}{self.area}:{self.start}{bit}:{self.type}{count}{order}{base}"

    @property
    def modicon(self) -> str:
        """Its six-digit Modicon number."""
        return f"{_DIGIT[self.area]}{self.start + 1:05d}"


def from_ours(text: str, target: Target) -> Register:
    """Return the parts of one of our addresses in its canonical spelling.

    Raises:
        UntranslatableError: It is not one.
    """
    match = _OURS.fullmatch(text)
    if match is None:
        raise UntranslatableError(f"{quoted(text)} is not a Modbus address", code="T250")
    unit = None if match["unit"] is None else int(match["unit"])
    return Register(
        match["area"],
        int(match["start"]),
        match["type"],
        int(match["count"] or 0),
        None if match["bit"] is None else int(match["bit"]),
        None if unit == target.unit else unit,
        match["order"] or "",
    )


def from_kepware(text: str, kind: str, is_array: bool, listing: Listing, line: int) -> str:  # noqa: FBT001
    """Return our address for one of Kepware's Modbus drivers.

    Args:
        text: E.g. ``400001``, ``400001.05``, ``400010 [5]``, ``S400100.20H``.
        kind: IEC type of its data type; empty for the driver's default.
        is_array: Whether the data type is an array.
        listing: Where to note what is worth knowing.
        line: Its line.

    Raises:
        UntranslatableError: It cannot be had here (T254).
    """
    match = _MODICON.fullmatch(text)
    if match is None:
        if _BARE.fullmatch(text) and kind == "BOOL":
            message = f"{quoted(text)} is taken as coil 0{int(text):05d}: spreadsheets drop leading zeros"
            listing.note(line, "T244", message)
            return Register("co", _start(int(text), text), "BOOL").ours()
        raise UntranslatableError(
            f"{quoted(text)} is not an address of a Modbus register or bit",
            hint="understood are 400001, 40001, 400001.5, 400010 [5] and 400100.20H",
        )
    return _modicon(match, kind, is_array=is_array).ours()


def _modicon(match: re.Match[str], kind: str, *, is_array: bool) -> Register:
    text = match.group()
    area, start = _AREA[match["area"]], _start(int(match["number"]), text)
    count = elements(match["dims"])
    if is_array and not count:
        raise UntranslatableError(f"{quoted(text)}: how many elements?", hint="write e.g. 400010 [5]")
    if area in _BITS:
        return Register(area, start, "BOOL", count)
    if match["bytes"] or kind == "STRING":
        return _string(area, start, match, kind)
    if match["suffix"]:
        bit = int(match["suffix"])
        if bit > 15 or kind not in ("BOOL", ""):
            raise UntranslatableError(f"{quoted(text)} is not a bit of a register")
        return Register(area, start, "BOOL", bit=bit)
    if kind == "BOOL":
        raise UntranslatableError(
            f"{quoted(text)}: which of the 16 bits?", hint="write the bit behind it, e.g. 400001.0"
        )
    return Register(area, start, kind or "UINT", count)


def _string(area: str, start: int, match: re.Match[str], kind: str) -> Register:
    text, half = match.group(), (match["bytes"] or "").upper()
    if kind not in ("STRING", "") or not match["suffix"]:
        raise UntranslatableError(
            f"{quoted(text)} is not a text", hint="a text has its length behind it: 400100.20H"
        )
    if half in ("D", "E"):
        raise UntranslatableError(f"{quoted(text)}: a text with one character in each register")
    return Register(area, start, "STRING", int(match["suffix"]), order="LH" if half == "L" else "")


def _start(number: int, text: str) -> int:
    if not 1 <= number <= _HIGHEST + 1:
        raise UntranslatableError(f"{quoted(text)}: numbers are 1..{_HIGHEST + 1}")
    return number - 1


def to_kepware(place: Register, target: Target) -> str:
    """Return Kepware's address.

    Raises:
        UntranslatableError: Kepware has no address for it (T250).
    """
    if place.unit is not None:
        raise UntranslatableError(
            f"unit {place.unit}: in Kepware every unit is a device of its own", code="T250"
        )
    if place.type == "STRING":
        return f"{place.modicon}.{place.count}{'L' if place.order == 'LH' else 'H'}"
    if place.order not in ("", target.order):
        raise UntranslatableError(
            f"order={place.order}: in Kepware the byte order belongs to the device", code="T250"
        )
    if place.type in ("SINT", "USINT", "BYTE"):
        raise UntranslatableError(f"{place.type}: Kepware reads no single bytes of registers", code="T250")
    if place.bit is not None and place.count:
        raise UntranslatableError("Kepware has no arrays of bits in registers", code="T250")
    bit = "" if place.bit is None else f".{place.bit:02d}"
    return f"{place.modicon}{bit}" + (f" [{place.count}]" if place.count else "")


def from_ignition(text: str, target: Target, listing: Listing, line: int) -> str:
    """Return our address for an item of Ignition's Modbus driver.

    Args:
        text: What stands behind ``[device]``, e.g. ``HRF101`` or ``2.HR7.3``.
        target: Our device.
        listing: Where to note what is worth knowing.
        line: Its line.

    Raises:
        UntranslatableError: It cannot be had here (T254, T237).
    """
    match = _IGNITION.fullmatch(text)
    kind = re.sub(r"_(?!32|64)", "", match["kind"].upper()) if match else ""
    if match is None:
        raise UntranslatableError(
            f"{quoted(text)} is not an address of Ignition's Modbus driver",
            hint="understood are C, DI, IR and HR with their types: HR1, HRUS1, HRF1, HRI1, HR1.3, HRS1:20",
        )
    area, start = _IGNITION_AREA[match["area"].upper()], _start(int(match["number"]), text)
    unit = None if match["unit"] is None else int(match["unit"])
    unit = None if unit == target.unit else unit
    number = match["number"]
    if len(number) >= 5 and number[0] == _DIGIT[area] and int(number) % 10_000:
        modicon = f"{area}:{int(number[1:]) - 1}"
        message = f"{quoted(text)} is number {number} in Ignition, counted from 1, and is taken so"
        listing.note(line, "T244", message, f"if it never worked there and is a Modicon number: {modicon}")
    if area in _BITS:
        return Register(area, start, "BOOL", elements(match["dims"]), unit=unit).ours()
    if match["bit"] is not None:
        if kind or int(match["bit"]) > 15:
            raise UntranslatableError(f"{quoted(text)} is not a bit of a register")
        return Register(area, start, "BOOL", bit=int(match["bit"]), unit=unit).ours()
    if kind not in _IGNITION_TYPE:
        raise UntranslatableError(f"{quoted(text)}: {match['area']}{kind} has no type here", code="T237")
    iec = _IGNITION_TYPE[kind]
    if (iec == "STRING") != (match["length"] is not None):
        raise UntranslatableError(f"{quoted(text)}: a text has its length behind it", hint="write HRS1:20")
    count = int(match["length"] or 0) or elements(match["dims"])
    return Register(area, start, iec, count, unit=unit).ours()


def to_ignition(place: Register, target: Target) -> str:
    """Return what stands behind ``[device]`` in Ignition.

    Raises:
        UntranslatableError: Ignition has no address for it (T250).
    """
    unit = "" if place.unit is None else f"{place.unit}."
    if place.order not in ("", target.order):
        raise UntranslatableError(
            f"order={place.order}: in Ignition the byte order belongs to the device", code="T250"
        )
    number = place.start + 1
    if place.area in _BITS and not place.count:
        return f"{unit}{'C' if place.area == 'co' else 'DI'}{number}"
    area = place.area.upper()
    if place.bit is not None and not place.count:
        return f"{unit}{area}{number}.{place.bit}"
    if place.type == "STRING":
        return f"{unit}{area}S{number}:{place.count}"
    if place.count or place.type not in _IGNITION_KIND:
        shown = f"{place.type}[{place.count}]" if place.count else place.type
        raise UntranslatableError(f"Ignition's Modbus driver has no {shown}", code="T250")
    return f"{unit}{area}{_IGNITION_KIND[place.type]}{number}"


def from_neuron(text: str, kind: str, target: Target, listing: Listing, line: int) -> str:
    """Return our address for a tag of Neuron's Modbus plugins, ``1!400101#BL``.

    Raises:
        UntranslatableError: It cannot be had here (T254, T237).
    """
    split = _NEURON.fullmatch(text.strip())
    match = _MODICON.fullmatch(split["rest"] + (split["tail"] or "")) if split else None
    if split is None or match is None:
        raise UntranslatableError(
            f"{quoted(text)} is not an address of Neuron's Modbus plugin",
            hint="understood are 1!400001, 1!400001.3, 1!400001#BL and 1!400001.20H",
        )
    unit = int(split["unit"])
    place = _modicon(match, kind, is_array=False)
    order = split["order"] or ""
    if order and place.type not in ("STRING", "BOOL"):
        if order not in _NEURON_ORDER:
            raise UntranslatableError(f"{quoted(text)}: #{order} is not a byte order")
        if order in ("LE", "BE"):
            message = f"#{order} is taken as {_NEURON_ORDER[order]}; Neuron's manual does not know it"
            listing.note(line, "T244", message, "compare a value with the device's display")
        elif order in ("BB", "BL"):
            message = f"#{order} is taken as {_NEURON_ORDER[order]}, as in Neuron 2.12 and later"
            listing.note(line, "T244", message, "older manuals exchange #BB and #BL: compare a value")
        is_usual = _NEURON_ORDER[order] == (target.order or "ABCD")
        place = replace(place, order="" if is_usual else _NEURON_ORDER[order])
    return replace(place, unit=None if unit == target.unit else unit).ours()


def to_neuron(place: Register, target: Target) -> str:
    """Return Neuron's address.

    Raises:
        UntranslatableError: Neuron has no address for it (T250).
    """
    unit = place.unit if place.unit is not None else target.unit if target.unit is not None else 1
    head = f"{unit}!{place.modicon}"
    if place.type == "STRING":
        return f"{head}.{place.count}{'L' if place.order == 'LH' else 'H'}"
    if place.count:
        raise UntranslatableError("Neuron's Modbus plugin has no arrays", code="T250")
    if place.bit is not None:
        return f"{head}.{place.bit}"
    order = place.order or target.order
    if not order or place.area in _BITS:
        return head
    if place.type in ("INT", "UINT", "WORD"):
        order = {"BADC": "B", "DCBA": "B", "BA": "B"}.get(order, "L")
        return head if order == "L" else f"{head}#B"
    if order not in _ORDER_NEURON or place.type in ("SINT", "USINT", "BYTE"):
        raise UntranslatableError(f"Neuron has no byte order {order} for {place.type}", code="T250")
    return f"{head}#{_ORDER_NEURON[order]}"
