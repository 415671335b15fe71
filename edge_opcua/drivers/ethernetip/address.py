"""EtherNet/IP addresses: Logix tags by name, ``Pump[3].Speed:REAL``, and CIP attributes, ``@4/154/3:INT``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.codec import BitCodec, Codec, NumberCodec, TextCodec
from edge_opcua.drivers.ethernetip.cip import attribute_path, tag_path
from edge_opcua.drivers.ethernetip.types import LOGIX_STRING, READABLE
from edge_opcua.drivers.iec import BOOL, MAX_STRING, STRING, TYPES, TypeText, parse_type
from edge_opcua.errors import AddressError

# What one unit of a space is; see Space.kind.
BOOLS: Final = "bools"
BITS: Final = "bits"
TEXT: Final = "text"
ATTRIBUTE: Final = "attribute"
ATTRIBUTE_TEXT: Final = "attribute-text"

_HIGHEST_INDEX: Final = 0xFFFF_FFFF
_DIGITS: Final = "0123456789"
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,79}"
_INDEX: Final = r"\[(?:\d{1,10})(?:,\d{1,10}){0,2}\]"
# A module's tags have colons of their own (Local:1:I.Data), a program's tags begin with Program:Name.
_TAG: Final = re.compile(
    rf"(?:Program:{_NAME}\.)?{_NAME}(?::[A-Za-z0-9_]{{1,40}}){{0,2}}(?:{_INDEX})?(?:\.{_NAME}(?:{_INDEX})?)*(?:\.\d{{1,2}})?",
    re.IGNORECASE | re.ASCII,
)
_BIT: Final = re.compile(r"(?P<path>.+)\.(?P<bit>\d{1,2})", re.ASCII)
_INDEX_NUMBER: Final = re.compile(r"\d+(?=[,\]])", re.ASCII)
_IN_INDEX: Final = re.compile(r"(?<=[\[,])\s*0*(?=\d)|(?<=\d)\s+(?=[,\]])", re.ASCII)
_LAST_INDEX: Final = re.compile(r"(?P<path>.*?)(?P<before>\[\d+(?:,\d+)*,|\[)(?P<index>\d+)\]", re.ASCII)
_NUMBER: Final = r"(?:0[xX][0-9A-Fa-f]{1,8}|\d{1,10})"
_CIP: Final = re.compile(
    rf"@(?P<class>{_NUMBER})/(?P<instance>{_NUMBER})/(?P<attribute>{_NUMBER})"
    rf"(?:\+(?P<offset>{_NUMBER}))?(?:\.(?P<bit>\d{{1,2}}))?",
    re.ASCII,
)
_TYPE_LIKE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\[\d*\]|[xX]\d+)?", re.ASCII)
_BYTES: Final = re.compile(r"BYTES\[(\d{1,9})\]", re.IGNORECASE | re.ASCII)
_STRING_ARRAY: Final = re.compile(r"STRING\[\d+\](?:\[|[xX]).*|STRING[xX]\d+", re.IGNORECASE)

_HINT: Final = (
    "write a tag as Studio 5000 shows it and its type, e.g. Program:Main.Pump[3].Speed:REAL, "
    "Recipe:DINT[10], Flags.3:BOOL; or a CIP attribute, e.g. @4/154/3:BYTES[32]"
)


@dataclass(frozen=True, slots=True)
class Space:
    """What one read service can cover.

    Args:
        path: Tag without its last index (``[1,`` stays of ``T[1,2]``), or ``@class/instance/attribute``.
        kind: IEC name of the elements of an array of numbers; or :data:`BOOLS` (a unit is a BOOL),
            :data:`BITS` (a byte of an integer), :data:`TEXT` (a string), :data:`ATTRIBUTE` (a byte) or
            :data:`ATTRIBUTE_TEXT` (the text an attribute begins with).
        unit_bytes: Bytes of the image that one unit takes.
        path_bytes: Bytes of its path in a request, without the last index.
    """

    path: str
    kind: str
    unit_bytes: int
    path_bytes: int

    @classmethod
    def of_tag(cls, path: str, kind: str, unit_bytes: int) -> Space:
        """Return the space of a tag."""
        return cls(path, kind, unit_bytes, len(tag_path(path, 0)))

    @classmethod
    def of_attribute(cls, path: str, kind: str, unit_bytes: int) -> Space:
        """Return the space of an attribute."""
        return cls(path, kind, unit_bytes, len(attribute_path(path)))

    @property
    def generic(self) -> bool:
        """Whether it is a CIP attribute and not a tag."""
        return self.path.startswith("@")


@dataclass(frozen=True, slots=True)
class EipAddress:
    """Where a tag lies in a device that speaks EtherNet/IP.

    Args:
        place: The address without its type.
        space: What is read together with it.
        start: First unit of the space: element, or byte.
        size: Units.
        bit: Bit of an integer or byte, otherwise None.
        type: Type and length.
    """

    place: str
    space: Space
    start: int
    size: int
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
        """Whether the place can be written at all: of an attribute only the whole."""
        return not self.space.generic or (
            self.space.kind == ATTRIBUTE and not self.start and self.bit is None
        )

    @property
    def canonical(self) -> str:
        """The address in its one spelling."""
        return f"{self.place}:{self.type}"

    @property
    def element_size(self) -> int:
        """Units that two requests must not tear apart."""
        return max(1, self.type.type.size_bytes) if self.space.kind == ATTRIBUTE else 1

    @property
    def codec(self) -> Codec:
        """How the bytes of the image become the value; CIP is little-endian throughout."""
        return _codec(self.type, self.space.kind, (self.bit or 0) % 8)


@lru_cache(maxsize=1024)
def _codec(kind: TypeText, space_kind: str, bit: int) -> Codec:
    """Return the codec of a type: one for all tags of it."""
    iec, count = kind.type, kind.count
    if iec is BOOL:
        if space_kind == BOOLS:  # each is unpacked to a byte
            bits = tuple((i, 0xFF) for i in range(max(1, count)))
        else:
            bits = tuple((i // 8, 1 << i % 8) for i in range(bit, bit + max(1, count)))
        return BitCodec(iec, count, bits, bits[-1][0] + 1)
    if iec is STRING:
        return TextCodec(iec, count, tuple(range(2, 2 + count)), 2 + count, counted=True)
    return NumberCodec(iec, count, tuple(range(iec.size_bytes)), iec.size_bytes)


def parse(text: str) -> EipAddress:
    """Read one address.

    Raises:
        AddressError: The text does not follow the grammar (T211), has no type (T213), one that is unknown
            or not read here (T214), a bit (T215) or number (T216) out of range, or a type that its place
            cannot hold (T218).
    """
    clean = text.strip()
    if clean.startswith("@"):
        return _attribute(clean)
    place, colon, type_text = clean.rpartition(":")
    if place.strip().lower() == "program":  # Program:Main.Speed: the colon belongs to the tag
        place, colon, type_text = clean, "", ""
    if not colon or not _TYPE_LIKE.fullmatch(type_text.strip()):
        _refuse_untyped(clean, type_text)
    path = _normal(place) if "[" in place else place
    if not _TAG.fullmatch(path) or _is_program_only(path):
        raise AddressError(f'"{text}" is not an EtherNet/IP address', hint=_HINT, code="T211")
    return _tag(path, _type(type_text, clean), clean)


def _is_program_only(place: str) -> bool:
    """Return whether a place names a program, but no tag of it."""
    clean = place.strip().lower()
    return clean == "program" or (clean.startswith("program:") and "." not in clean)


def _refuse_untyped(address: str, type_text: str) -> None:
    """Say what is wrong with an address behind whose last colon there is no type."""
    if _STRING_ARRAY.fullmatch(type_text.strip()):
        raise AddressError(
            f"{address}: arrays of strings do not exist here", hint="write one tag per string", code="T216"
        )
    if _TAG.fullmatch(address):
        raise AddressError(
            f"{address} has no type",
            hint=f"write the data type that Studio 5000 shows, e.g. {address}:REAL or {address}:DINT",
            code="T213",
        )
    raise AddressError(f'"{address}" is not an EtherNet/IP address', hint=_HINT, code="T211")


def _type(text: str, address: str) -> TypeText:
    """Return the type; ``STRING`` is the Logix one of 82 characters, ``BYTES[n]`` an array of BYTE."""
    clean = text.strip()
    if clean.upper() == "STRING":
        return TypeText(STRING, LOGIX_STRING)
    counted = _BYTES.fullmatch(clean) if clean[-1:] == "]" else None
    kind = parse_type(f"BYTE[{counted[1]}]" if counted else clean, address=address)
    if kind.type.name not in READABLE:
        raise AddressError(
            f"{address}: {kind.type.name} is not read over EtherNet/IP",
            hint="there are BOOL, SINT, INT, DINT, LINT, their unsigned forms, REAL, LREAL, STRING",
            code="T214",
        )
    return kind


def _tag(path: str, kind: TypeText, address: str) -> EipAddress:
    bit_match = _BIT.fullmatch(path) if path[-1] in _DIGITS else None
    if bit_match is not None:
        return _bit_of_word(path, bit_match["path"], int(bit_match["bit"]), kind, address)
    base, start = _split_index(path, address)
    size = max(1, kind.count)
    if kind.type is STRING:
        space, size = Space.of_tag(base, TEXT, 2 + kind.count), 1
    elif kind.type is BOOL:
        space = Space.of_tag(base, BOOLS, 1)
    else:
        space = Space.of_tag(base, kind.type.name, kind.type.size_bytes)
    if start + size - 1 > _HIGHEST_INDEX:
        raise AddressError(f"{address}: no array has an element {start + size - 1}", code="T216")
    return EipAddress(path, space, start, size, None, kind)


def _split_index(path: str, address: str) -> tuple[str, int]:
    """Divide ``Pump[3].Level[4]`` into ``Pump[3].Level`` and 4, and ``T[1,2]`` into ``T[1,`` and 2."""
    if "[" not in path:
        return path, 0
    for index in _INDEX_NUMBER.findall(path):
        if int(index) > _HIGHEST_INDEX:
            raise AddressError(f"{address}: no array has an element {index}", code="T216")
    if not path.endswith("]"):
        return path, 0
    match = _LAST_INDEX.fullmatch(path[path.rindex("[") :])
    assert match is not None
    base = path[: path.rindex("[")]
    dimensions = match["before"] if match["before"] != "[" else ""
    return base + dimensions, int(match["index"])


def _normal(path: str) -> str:
    """Return the path with its indices without blanks and leading zeros."""
    return _IN_INDEX.sub("", path)


def _bit_of_word(path: str, word: str, bit: int, kind: TypeText, address: str) -> EipAddress:
    if kind.type is not BOOL:
        raise AddressError(
            f"{address}: a bit cannot hold {kind}", hint=f"write {word}:{kind}, or {path}:BOOL", code="T218"
        )
    last = bit + max(1, kind.count) - 1
    if last > 63:
        raise AddressError(
            f"{address}: bit {last} is not in 0..63",
            hint=f"a BOOL array is counted in brackets: write {word}[{bit}]:BOOL",
            code="T215",
        )
    size = last // 8 - bit // 8 + 1
    return EipAddress(f"{word}.{bit}", Space.of_tag(word, BITS, 1), bit // 8, size, bit, kind)


def _attribute(address: str) -> EipAddress:
    place, colon, type_text = address.partition(":")
    match = _CIP.fullmatch(place.replace(" ", ""))
    if match is None:
        raise AddressError(
            f'"{address}" is not a CIP attribute',
            hint="write class, instance and attribute, e.g. @4/154/3:BYTES[32] or @0x04/154/3:INT",
            code="T211",
        )
    if not colon or not type_text.strip():
        raise AddressError(
            f"{address} has no type", hint=f"write e.g. {place}:BYTES[32] or {place}:INT", code="T213"
        )
    numbers = [_integer(match[name] or "0") for name in ("class", "instance", "attribute", "offset")]
    if max(numbers[:3]) > 0xFFFF or numbers[3] > 0xFFFF:
        raise AddressError(f"{address}: class, instance and attribute go up to 65535", code="T216")
    kind = _type("STRING[32]" if type_text.strip().upper() == "STRING" else type_text, address)
    bit = None if match["bit"] is None else int(match["bit"])
    _check_attribute_bit(kind, bit, place, address)
    path = f"@{numbers[0]}/{numbers[1]}/{numbers[2]}"
    offset = numbers[3]
    shown = path + (f"+{offset}" if offset else "") + ("" if bit is None else f".{bit}")
    if kind.type is STRING:
        if offset:
            raise AddressError(f"{address}: a text begins its attribute", code="T218")
        return EipAddress(shown, Space.of_attribute(path, ATTRIBUTE_TEXT, 2 + kind.count), 0, 1, None, kind)
    if bit is None:
        size = kind.type.size_bytes * max(1, kind.count)
        return EipAddress(shown, Space.of_attribute(path, ATTRIBUTE, 1), offset, size, None, kind)
    size = (bit % 8 + max(1, kind.count) - 1) // 8 + 1
    return EipAddress(shown, Space.of_attribute(path, ATTRIBUTE, 1), offset + bit // 8, size, bit, kind)


def _integer(text: str) -> int:
    return int(text, 16) if text[:2] in ("0x", "0X") else int(text)


def _check_attribute_bit(kind: TypeText, bit: int | None, place: str, address: str) -> None:
    if kind.type is BOOL and bit is None:
        raise AddressError(
            f"{address}: which bit of the attribute?", hint=f"write e.g. {place}.0:BOOL", code="T215"
        )
    if kind.type is not BOOL and bit is not None:
        raise AddressError(f"{address}: a bit cannot hold {kind}", hint=f"write {place}:BOOL", code="T218")
    if bit is not None and bit > 63:
        raise AddressError(
            f"{address}: bit {bit} is not in 0..63", hint="name the byte: @4/154/3+8.0:BOOL", code="T215"
        )


assert set(READABLE) <= set(TYPES)
assert LOGIX_STRING <= MAX_STRING
