"""Modbus addresses, e.g. ``1/hr:100:REAL``: which register, of which unit, holds which type.

Grammar: ``[unit/]area:addr[.bit]:TYPE[len][xN][;order=CDAB][;base=1]``; a Modicon number may stand for
``area:addr``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.codec import BitCodec, Codec, NumberCodec, TextCodec
from edge_opcua.drivers.iec import BOOL, STRING, WSTRING, TypeText, parse_type
from edge_opcua.errors import AddressError

REGISTERS: Final = ("hr", "ir")
BITS: Final = ("co", "di")
WRITABLE: Final = ("hr", "co")
AREA_WORDS: Final = {
    "co": "coil",
    "di": "discrete input",
    "hr": "holding register",
    "ir": "input register",
}
ORDER_CHOICES: Final = "ABCD, BADC, CDAB, DCBA"
_MODICON_DIGIT: Final = {"0": "co", "1": "di", "3": "ir", "4": "hr"}
_DIGIT_OF_AREA: Final = {area: digit for digit, area in _MODICON_DIGIT.items()}
_HIGHEST: Final = 65_535

_SHAPE: Final = re.compile(
    r"(?:(?P<unit>\d{1,3})/)?"
    r"(?:(?P<area>[A-Za-z]+):(?P<number>\d{1,6})|(?P<modicon>[0134]\d{4,5}))"
    r"(?:\.(?P<bit>\d{1,3}))?"
    r"(?::(?P<type>[^:;]*))?"
    r"(?P<settings>(?:;[^;]*)*)"
)
_SYNTAX_HINT: Final = "write [unit/]area:number[.bit]:TYPE, e.g. 1/hr:100:REAL; areas are co, di, hr, ir"


@dataclass(frozen=True, slots=True)
class ModbusAddress:
    """Where a tag lies in a Modbus device.

    Args:
        unit: Unit identifier, or None for the one of the device's URL.
        area: ``co``, ``di``, ``hr`` or ``ir``.
        start: First register or bit, counted from 0.
        bit: Bit of the register, 0 least significant; None if it is not a bit of a register.
        type: Type and length.
        order: Byte order on the wire (letter A is the most significant byte), or "" for the device's.
    """

    unit: int | None
    area: str
    start: int
    bit: int | None
    type: TypeText
    order: str = ""

    @property
    def scalar(self) -> Scalar:
        """Type of the value, or of one element."""
        return self.type.type.scalar

    @property
    def length(self) -> int:
        """0 for a scalar, elements of an array, bytes of a string."""
        return self.type.length

    @property
    def writable(self) -> bool:
        """Whether the value can be written; half a register cannot, without touching the other half."""
        halves = self.type.type.size_bytes == 1 or self.order in ("H", "L")
        return self.area in WRITABLE and (self.area in BITS or not halves)

    @property
    def canonical(self) -> str:
        """The address in its one spelling: 0-based, IEC type, order only where it is not the device's."""
        unit = "" if self.unit is None else f"{self.unit}/"
        bit = "" if self.bit is None else f".{self.bit}"
        order = f";order={self.order}" if self.order else ""
        return f"{unit}{self.area}:{self.start}{bit}:{self.type}{order}"

    @property
    def modicon(self) -> str:
        """The number in the old Modicon notation, counted from 1, e.g. ``40101``."""
        digits = 4 if self.start < 9_999 else 5
        return f"{_DIGIT_OF_AREA[self.area]}{self.start + 1:0{digits}d}"

    @property
    def space(self) -> tuple[int, str]:
        """What one request can cover: unit and area."""
        return (self.unit or 0, self.area)

    @property
    def size(self) -> int:
        """Registers or bits the value takes."""
        if self.area in BITS:
            return max(1, self.type.count)
        if self.bit is not None:
            return (self.bit + max(1, self.type.count) - 1) // 16 + 1
        return self.codec.size_bytes // 2

    @property
    def element_size(self) -> int:
        """Registers or bits that must not be torn apart by two requests."""
        if self.area in BITS or self.type.type is BOOL:
            return 1
        return max(1, self.type.type.size_bytes // 2)

    def at_device(self, *, unit: int, order: str, order64: str | None = None) -> ModbusAddress:
        """Return the address with the device's unit and byte order where it names none of its own.

        Args:
            unit: Unit of the device.
            order: Its byte order, of four letters.
            order64: Its byte order of 64-bit numbers, of eight letters; None if ``order`` holds for them.
        """
        usual = order64 if order64 and self.type.type.size_bytes == 8 else order
        own = self.order or ("" if self.type.type is BOOL or self.type.type is STRING else usual)
        return replace(self, unit=unit if self.unit is None else self.unit, order=own)

    @property
    def codec(self) -> Codec:
        """How the bytes of the registers, high byte first, become the value."""
        return _codec(self.area in BITS, self.bit, self.type, self.order)


@lru_cache(maxsize=1024)
def _codec(of_bits: bool, bit: int | None, kind: TypeText, order: str) -> Codec:  # noqa: FBT001 - a key of the cache
    """Return the codec of a type: one for all tags of it."""
    iec, count = kind.type, kind.count
    if of_bits:
        bits = tuple((i, 1) for i in range(max(1, count)))
        return BitCodec(iec, count, bits, len(bits))
    if bit is not None:
        return _register_bits(bit, count)
    if iec is STRING and order in ("H", "L"):  # one character per register
        half = 1 if order == "L" else 0
        return TextCodec(iec, count, tuple(2 * i + half for i in range(count)), 2 * count, counted=False)
    if iec is STRING:
        size_bytes = 2 * ((count + 1) // 2)
        swap = 1 if order == "LH" else 0
        return TextCodec(iec, count, tuple(i ^ swap for i in range(count)), size_bytes, counted=False)
    if iec.size_bytes == 1:  # one byte per register, the low one unless ``order=H``
        return NumberCodec(iec, count, (0 if order in ("H", "HL") else 1,), 2)
    return NumberCodec(iec, count, byte_places(order, iec.size_bytes), iec.size_bytes)


def _register_bits(first: int, count: int) -> BitCodec:
    positions = range(first, first + max(1, count))
    bits = tuple((2 * (bit // 16) + (0 if bit % 16 >= 8 else 1), 1 << bit % 8) for bit in positions)
    return BitCodec(BOOL, count, bits, 2 * (positions[-1] // 16 + 1))


def byte_places(order: str, size_bytes: int) -> tuple[int, ...]:
    """Return, for each byte of a number from the least significant, its offset on the wire.

    Args:
        order: Letters in the order of the wire, A the most significant byte; of four letters for another
            size, the order of bytes in a word and of words is taken over. Empty for big-endian.
        size_bytes: 2, 4 or 8.
    """
    letters = expand_order(order or "ABCD", size_bytes)
    return tuple(letters.index(chr(ord("A") + size_bytes - 1 - i)) for i in range(size_bytes))


def expand_order(order: str, size_bytes: int) -> str:
    """Return an order of exactly ``size_bytes`` letters, from one of that size or of four letters."""
    if len(order) == size_bytes:
        return order
    words = [chr(ord("A") + i) + chr(ord("A") + i + 1) for i in range(0, size_bytes, 2)]
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    return "".join(words)


def parse(text: str) -> ModbusAddress:
    """Read one address.

    Raises:
        AddressError: The text does not follow the grammar (T211), confuses Modicon numbers (T212), has no
            type (T213), an unknown one (T214), a bit (T215) or number (T216) out of range, an unusable
            byte order (T217), or a type its area cannot hold (T218).
    """
    clean = text.strip()
    match = _SHAPE.fullmatch(clean)
    if match is None:
        raise AddressError(f'"{text}" is not a Modbus address', hint=_SYNTAX_HINT, code="T211")
    settings = _settings(match["settings"], clean)
    area, start = _area_and_start(match, settings, clean)
    bit = None if match["bit"] is None else int(match["bit"])
    kind = _type(match["type"], area, bit, start, clean)
    unit = None if match["unit"] is None else int(match["unit"])
    if unit is not None and unit > 255:
        raise AddressError(f"unit {unit} in {clean} is not in 0..255", code="T216")
    _check_bit(area, bit, kind, start, clean)
    order = _order(settings.get("order", ""), kind, clean)
    address = ModbusAddress(unit, area, start, bit, kind, order)
    if start + address.size - 1 > _HIGHEST:
        raise AddressError(f"{clean} ends behind {area}:{_HIGHEST}, the last there is", code="T216")
    return address


def _settings(text: str, address: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(";")[1:]:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in ("order", "base"):
            raise AddressError(
                f'";{part}" in {address} means nothing',
                hint="settings are ;order=CDAB and ;base=1",
                code="T211",
            )
        found[key] = value.upper()
    return found


def _area_and_start(match: re.Match[str], settings: dict[str, str], address: str) -> tuple[str, int]:
    base = settings.get("base")
    if base not in (None, "0", "1"):
        raise AddressError(f"base={base} in {address}: a base is 0 or 1", code="T211")
    if match["modicon"]:
        return _from_modicon(match["modicon"], base, address)
    area = match["area"].lower()
    if area not in AREA_WORDS:
        raise AddressError(
            f'"{match["area"]}" in {address} is not an area',
            hint="co coils, di discrete inputs, hr holding registers, ir input registers",
            code="T211",
        )
    number = int(match["number"])
    digit = _DIGIT_OF_AREA[area]
    if base is None and len(match["number"]) >= 5 and match["number"][0] == digit and number % 10_000:
        _refuse_modicon_number(match["number"], area, address)
    start = number - 1 if base == "1" else number
    if not 0 <= start <= _HIGHEST:
        lowest = 1 if base == "1" else 0
        raise AddressError(
            f"{area}:{number} in {address} is not in {lowest}..{_HIGHEST + lowest}", code="T216"
        )
    return area, start


def _refuse_modicon_number(number: str, area: str, address: str) -> None:
    """Refuse ``hr:40101``: one in a thousand means that register, the others Modicon 40101."""
    if area in BITS and number[0] == "0":
        hint = f"write {area}:{int(number) - 1}"
    else:
        hint = f"did you mean {area}:{int(number[1:]) - 1} (Modicon {number})?"
    raise AddressError(
        f"{number} in {address} counts from 0 and means {AREA_WORDS[area]} number {int(number) + 1}",
        hint=f"{hint} If not, write ;base=0 behind it",
        code="T212",
    )


def _from_modicon(number: str, base: str | None, address: str) -> tuple[str, int]:
    area = _MODICON_DIGIT[number[0]]
    start = int(number[1:]) - 1
    if base == "0":
        raise AddressError(
            f"{number} with base = 0 means {area}:{number}; did you mean {area}:{start} (Modicon {number})?",
            hint=f"leave ;base=0 away, or write {area}:{number};base=0",
            code="T212",
        )
    if not 0 <= start <= _HIGHEST:
        raise AddressError(f"{number} in {address}: Modicon numbers start at {number[0]}0001", code="T216")
    return area, start


def _type(text: str | None, area: str, bit: int | None, start: int, address: str) -> TypeText:
    if text is None or not text.strip():
        if area in BITS or bit is not None:
            return TypeText(BOOL, 0)
        raise AddressError(
            f"{address} has no type",
            hint=f"write e.g. {area}:{start}:INT, {area}:{start}:REAL or {area}:{start}.0:BOOL",
            code="T213",
        )
    kind = parse_type(text, address=address)
    if kind.type is WSTRING:
        raise AddressError(
            f"{address}: WSTRING is a type of S7", hint=f"write STRING[{kind.count}]", code="T218"
        )
    if area in BITS and kind.type is not BOOL:
        raise AddressError(
            f"{address}: a {AREA_WORDS[area]} is a single bit and cannot hold {kind}",
            hint=f"write {area}:{start}:BOOL, or read a register (hr, ir)",
            code="T218",
        )
    return kind


def _check_bit(area: str, bit: int | None, kind: TypeText, start: int, address: str) -> None:
    if area in BITS:
        if bit is not None:
            raise AddressError(
                f"{address}: a {AREA_WORDS[area]} has no bits of its own",
                hint=f"write {area}:{start}",
                code="T215",
            )
        return
    if kind.type is BOOL and bit is None:
        raise AddressError(
            f"{address}: which of the 16 bits?", hint=f"write e.g. {area}:{start}.0:BOOL", code="T215"
        )
    if bit is None:
        return
    if kind.type is not BOOL:
        raise AddressError(
            f"{address}: a bit cannot hold {kind}", hint=f"write {area}:{start}:{kind}", code="T218"
        )
    if not 0 <= bit <= 15:
        raise AddressError(
            f"bit {bit} in {address} is not in 0..15",
            hint=f"write {area}:{start + bit // 16}.{bit % 16}:BOOL",
            code="T215",
        )


def _order(order: str, kind: TypeText, address: str) -> str:
    if not order:
        return ""
    if kind.type is BOOL:
        raise AddressError(f"{address}: a bit has no byte order", hint="leave ;order away", code="T217")
    if kind.type is STRING or kind.type.size_bytes == 1:
        allowed = {"H", "L", "HL", "LH"}
    else:
        return _number_order(order, kind, address)
    if order not in allowed:
        raise AddressError(
            f"order={order} in {address}: {kind.type.name} takes {' or '.join(sorted(allowed))}", code="T217"
        )
    return order


def _number_order(order: str, kind: TypeText, address: str) -> str:
    size_bytes = kind.type.size_bytes
    letters = "ABCDEFGH"[:size_bytes]
    if order in ("ABCD", "BADC", "CDAB", "DCBA") or sorted(order) == list(letters):
        return order
    raise AddressError(
        f"order={order} in {address} is not an order of the {size_bytes} bytes of {kind.type.name}",
        hint=f"write one of {ORDER_CHOICES}, or the {size_bytes} letters {letters} as they come on the wire",
        code="T217",
    )
