"""S7 addresses as TIA Portal shows them, with the type behind: ``DB10.DBD16:REAL``, ``DB10.DBX10.3:BOOL``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.codec import BitCodec, Codec, NumberCodec, TextCodec, WideTextCodec
from edge_opcua.drivers.iec import BOOL, STRING, WSTRING, TypeText, parse_type
from edge_opcua.errors import AddressError

# Inputs and outputs also by their German letters (Eingang, Ausgang), as exported by older projects.
_AREAS: Final = {"I": "I", "E": "I", "Q": "Q", "A": "Q", "M": "M"}
WRITABLE: Final = ("DB", "M", "Q")
_WIDTHS: Final = {"": 0, "X": 0, "B": 1, "W": 2, "D": 4}
_HIGHEST: Final = 65_535

_DB: Final = re.compile(
    r"DB(?P<db>\d{1,5})(?:\.DB(?P<width>[A-Z])|:)(?P<byte>\d{1,6})(?:\.(?P<bit>\d+))?(?::(?P<type>.*))?"
)
_OTHER: Final = re.compile(
    r"%?(?P<area>[IEQAM])(?P<width>[XBWD]?)(?P<byte>\d{1,6})(?:\.(?P<bit>\d+))?(?::(?P<type>.*))?"
)
# The variable memory of a LOGO! or an S7-200, which S7 communication shows as data block 1.
_VARIABLE: Final = re.compile(r"%?V(?P<width>[XBWD]?)(?P<byte>\d{1,6})(?:\.(?P<bit>\d+))?(?::(?P<type>.*))?")
_TIMER: Final = re.compile(r"%?[TCZ]\d+(?::.*)?")
_SYNTAX_HINT: Final = (
    "write e.g. DB10.DBD16:REAL, DB10.DBX10.3:BOOL, DB10.DBB38:STRING[16], MW10:INT or VW4:INT (LOGO!)"
)
_FITTING: Final = {1: "BYTE, USINT, SINT", 2: "INT, UINT, WORD", 4: "REAL, DINT, UDINT, DWORD"}
_VARIABLE_BLOCK: Final = 1
_LETTER: Final = {1: "B", 2: "W", 4: "D"}


@dataclass(frozen=True, slots=True)
class S7Address:
    """Where a tag lies in an S7 PLC.

    Args:
        area: ``DB``, ``I``, ``Q`` or ``M``.
        db: Number of the data block, 0 for other areas.
        start: First byte.
        bit: Bit of that byte for BOOL, otherwise None.
        type: Type and length.
    """

    area: str
    db: int
    start: int
    bit: int | None
    type: TypeText

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
        """Whether the area can be written at all."""
        return self.area in WRITABLE

    @property
    def canonical(self) -> str:
        """The address in its one spelling."""
        if self.bit is not None:
            place, bit = "X", f".{self.bit}"
        else:
            place, bit = _LETTER.get(self.type.type.size_bytes, "B"), ""
        if self.area == "DB":
            return f"DB{self.db}.DB{place}{self.start}{bit}:{self.type}"
        return f"{self.area}{'' if place == 'X' else place}{self.start}{bit}:{self.type}"

    @property
    def space(self) -> tuple[str, int]:
        """What one block of a request can cover: area and data block."""
        return (self.area, self.db)

    @property
    def size(self) -> int:
        """Bytes the value takes."""
        return self.codec.size_bytes

    @property
    def element_size(self) -> int:
        """Bytes that must not be torn apart by two requests."""
        return max(1, self.type.type.size_bytes)

    @property
    def codec(self) -> Codec:
        """How the bytes become the value; S7 is big-endian throughout."""
        return _codec(self.type, self.bit)


@lru_cache(maxsize=1024)
def _codec(kind: TypeText, bit: int | None) -> Codec:
    """Return the codec of a type: one for all tags of it."""
    iec, count = kind.type, kind.count
    if bit is not None:
        positions = range(bit, bit + max(1, count))
        bits = tuple((each // 8, 1 << each % 8) for each in positions)
        return BitCodec(iec, count, bits, positions[-1] // 8 + 1)
    if iec is STRING:
        return TextCodec(iec, count, tuple(range(2, 2 + count)), 2 + count, counted=True)
    if iec is WSTRING:
        return WideTextCodec(iec, count)
    return NumberCodec(iec, count, tuple(reversed(range(iec.size_bytes))), iec.size_bytes)


def parse(text: str) -> S7Address:
    """Read one address.

    Raises:
        AddressError: The text does not follow the grammar (T211), has no type (T213), an unknown one
            (T214), a bit (T215) or number (T216) out of range, or a type that its width does not fit (T218).
    """
    clean = text.strip()
    upper = clean.upper().replace(" ", "")
    match = _DB.fullmatch(upper) or _OTHER.fullmatch(upper) or _VARIABLE.fullmatch(upper)
    if match is None:
        if _TIMER.fullmatch(upper):
            raise AddressError(
                f"{clean}: timers and counters cannot be read",
                hint="copy the value into a data block",
                code="T211",
            )
        raise AddressError(f'"{text}" is not an S7 address', hint=_SYNTAX_HINT, code="T211")
    groups = match.groupdict()
    area = _AREAS[groups["area"]] if "area" in groups else "DB"
    db = 0 if area != "DB" else int(groups.get("db") or _VARIABLE_BLOCK)
    if area == "DB" and not 1 <= db <= _HIGHEST:
        raise AddressError(f"DB{db} in {clean}: data blocks are DB1..DB{_HIGHEST}", code="T216")
    start = int(groups["byte"])
    bit = None if groups["bit"] is None else int(groups["bit"])
    width = groups["width"]
    if width is not None and width not in _WIDTHS:
        raise AddressError(
            f"DB{width} in {clean} is not a width", hint="DBX a bit, DBB 1, DBW 2, DBD 4 bytes", code="T211"
        )
    kind = _type(groups["type"], width, bit, clean)
    bit = _check_bit(kind, width, bit, clean)
    _check_width(kind, width, start, clean)
    address = S7Address(area, db, start, bit, kind)
    if start + address.size - 1 > _HIGHEST:
        raise AddressError(f"{clean} ends behind byte {_HIGHEST}", code="T216")
    return address


def _type(text: str | None, width: str | None, bit: int | None, address: str) -> TypeText:
    if text:
        return parse_type(text, address=address)
    if bit is not None and width in ("", "X", None):
        return TypeText(BOOL, 0)
    fitting = _FITTING.get(_WIDTHS.get(width or "", 0), "")
    example = fitting.split(",", 1)[0] or "BOOL"
    raise AddressError(
        f"{address} has no type",
        hint=f"write {address}:{example}" + (f" (or {fitting.partition(', ')[2]})" if fitting else ""),
        code="T213",
    )


def _check_bit(kind: TypeText, width: str | None, bit: int | None, address: str) -> int | None:
    """Return the bit, or None for what is not BOOL; ``DBX8.0:LREAL`` is a byte address in disguise."""
    if kind.type is BOOL:
        if bit is None:
            raise AddressError(
                f"{address}: which of the 8 bits?", hint="write e.g. DB1.DBX0.3:BOOL", code="T215"
            )
        if bit > 7:
            raise AddressError(
                f"bit {bit} in {address} is not in 0..7",
                hint="bits are counted per byte: the ninth bit of DBX10 is DBX11.0",
                code="T215",
            )
        return bit
    if bit and width in ("X", "", None):
        raise AddressError(f"{address}: {kind} cannot start at bit {bit}", code="T215")
    if bit is not None and width not in ("X", None):
        raise AddressError(f"{address}: {kind} has no bit", hint="leave the bit away", code="T215")
    return None


def _check_width(kind: TypeText, width: str | None, start: int, address: str) -> None:
    size_bytes = _WIDTHS.get(width or "", 0)
    if kind.type is BOOL and size_bytes:
        raise AddressError(f"{address}: a BOOL needs DBX", hint="write e.g. DB1.DBX0.3:BOOL", code="T218")
    wanted = kind.type.size_bytes
    if size_bytes in (0, 1) or size_bytes == wanted:
        return
    place = address.split(":", 1)[0].upper().replace(f"{width}{start}", f"{_LETTER.get(wanted, 'B')}{start}")
    raise AddressError(
        f"{address}: {width} is {size_bytes} bytes wide, {kind.type.name} is not",
        hint=f"write {place}:{kind}",
        code="T218",
    )
