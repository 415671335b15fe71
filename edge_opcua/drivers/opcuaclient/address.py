"""OPC UA addresses: a NodeId as clients show it, and the type behind: ``ns=3;s="DB1"."speed":REAL``."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge_opcua.core.values import Scalar
from edge_opcua.drivers.codec import BitCodec, Codec, NumberCodec, TextCodec
from edge_opcua.drivers.iec import BOOL, DATETIME, TEXTS, IecType, TypeText, parse_type
from edge_opcua.errors import AddressError

_NODE: Final = re.compile(
    r"(?:ns=(?P<index>\d{1,9});|nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<identifier>.*)", re.DOTALL
)
_FIRST: Final = re.compile(r"FROM=(?P<first>\d{1,12})", re.IGNORECASE)
_HIGHEST_INDEX: Final = 65_535
_HIGHEST_ID: Final = 0xFFFF_FFFF
_HIGHEST_ELEMENT: Final = 0x7FFF_FFFF
_MOST_CHARACTERS: Final = 4096  # Part 3 §8.2.4
_UTF8_BYTES: Final = 3  # of a character of the basic plane
_SYNTAX_HINT: Final = (
    'write e.g. ns=3;s="DB1"."speed":REAL, nsu=http://acme.com/plc/;i=1001:DINT[8] or i=2258:LDT'
)
# Types that are structures or bytes in a PLC and have no built-in type of OPC UA (Part 6 §5.1.2).
_UNKNOWN: Final = {"DT": "LDT", "DTL": "LDT"}


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a server, before it is known which index its namespace has there.

    Args:
        namespace: Index, or URI.
        kind: ``i``, ``s``, ``g`` or ``b``.
        identifier: The identifier in its one spelling.
    """

    namespace: int | str
    kind: str
    identifier: str

    def __str__(self) -> str:
        """The NodeId as Part 6 §5.3.1.10 writes it."""
        if isinstance(self.namespace, str):
            return f"nsu={self.namespace};{self.kind}={self.identifier}"
        return f"{f'ns={self.namespace};' if self.namespace else ''}{self.kind}={self.identifier}"


@dataclass(frozen=True, slots=True)
class Space:
    """What one entry of a Read asks for.

    Args:
        node: The node.
        type: Type and length.
        first: First element of a longer array that is wanted; -1: the value as it is.
    """

    node: Node
    type: TypeText
    first: int = -1

    @property
    def unit_bytes(self) -> int:
        """Bytes of the image that the value takes."""
        return codec_of(self.type).size_bytes

    @property
    def range(self) -> str:
        """NumericRange of the elements (Part 4 §7.27); empty for the whole value."""
        if self.first < 0:
            return ""
        last = self.first + max(1, self.type.count) - 1
        return str(self.first) if last == self.first else f"{self.first}:{last}"


@dataclass(frozen=True, slots=True)
class OpcUaAddress:
    """Where a tag lies in an OPC UA server.

    Args:
        space: Node, type and elements.
    """

    space: Space

    @property
    def type(self) -> TypeText:
        """Type and length."""
        return self.space.type

    @property
    def scalar(self) -> Scalar:
        """Type of the value, or of one element."""
        return self.space.type.type.scalar

    @property
    def length(self) -> int:
        """0 for a scalar, elements of an array, UTF-8 bytes of a string."""
        return length_of(self.space.type)

    @property
    def writable(self) -> bool:
        """True: whether the node can be written is the server's to say."""
        return True

    @property
    def canonical(self) -> str:
        """The address in its one spelling."""
        first = f";from={self.space.first}" if self.space.first >= 0 else ""
        return f"{self.space.node}:{self.space.type}{first}"

    @property
    def start(self) -> int:
        """0: every value is a space of its own."""
        return 0

    @property
    def size(self) -> int:
        """1: a value is read as a whole."""
        return 1

    @property
    def element_size(self) -> int:
        """1: nothing to be torn apart."""
        return 1

    @property
    def codec(self) -> Codec:
        """How the bytes become the value; OPC UA is little-endian throughout (Part 6 §5.2.2)."""
        return codec_of(self.space.type)


def length_of(kind: TypeText) -> int:
    """Return 0 for a scalar, elements of an array, UTF-8 bytes of a string."""
    return _UTF8_BYTES * kind.count if kind.type in TEXTS else kind.count


@lru_cache(maxsize=1024)
def codec_of(kind: TypeText) -> Codec:
    """Return the codec of a type: one for all tags of it."""
    iec, count = kind.type, kind.count
    if iec is BOOL:
        each = range(max(1, count))
        return BitCodec(iec, count, tuple((at, 0xFF) for at in each), len(each))
    if iec in TEXTS:
        size = length_of(kind)
        return TextCodec(iec, size, tuple(range(size)), size, counted=False)
    raw = DATETIME if iec.name == "LDT" else iec
    return NumberCodec(raw, count, tuple(range(raw.size_bytes)), raw.size_bytes)


def builtin_of(kind: IecType) -> int:
    """Return the built-in type that carries an IEC type (OPC 30000 §5.2: the mapping of PLCopen).

    Days since 1990 and S5TIME are UInt16; what else is a DateTime on our side is one on the server's.
    """
    if kind.name in ("DATE", "S5TIME"):
        return int(Scalar.UINT16)
    return int(kind.scalar)


def parse(text: str) -> OpcUaAddress:
    """Read one address.

    Raises:
        AddressError: The text does not follow the grammar (T211), has no type (T213), an unknown one
            (T214), or a number out of range (T216).
    """
    clean = text.strip()
    node_text, colon, type_text = clean.rpartition(":")
    if not colon or not _NODE.fullmatch(node_text):
        if _NODE.fullmatch(clean):
            raise AddressError(f"{clean} has no type", hint=f"write e.g. {clean}:REAL", code="T213")
        raise AddressError(f'"{text}" is not an OPC UA address', hint=_SYNTAX_HINT, code="T211")
    type_text, semicolon, rest = type_text.partition(";")
    first = _first(rest, clean) if semicolon else -1
    kind = _type(type_text.strip(), clean, node_text)
    if first >= 0 and kind.type in TEXTS:
        raise AddressError(f"{clean}: characters of a text cannot be picked", code="T216")
    if first + max(1, kind.count) > _HIGHEST_ELEMENT:
        raise AddressError(f"{clean} ends behind element {_HIGHEST_ELEMENT}", code="T216")
    return OpcUaAddress(Space(parse_node(node_text), kind, first))


def _type(text: str, address: str, node: str) -> TypeText:
    name = text.upper()
    if name in _UNKNOWN:
        raise AddressError(
            f"{address}: OPC UA has no {name}", hint=f"a DateTime is {node}:{_UNKNOWN[name]}", code="T214"
        )
    return parse_type(text, address=address)


def _first(text: str, address: str) -> int:
    match = _FIRST.fullmatch(text.strip())
    if match is None:
        raise AddressError(
            f'";{text}" in {address} means nothing',
            hint="write e.g. ;from=100 for the elements of an array from 100 on",
            code="T211",
        )
    return int(match["first"])


def parse_node(text: str) -> Node:
    """Read a NodeId.

    Raises:
        AddressError: It is none (T211), or a number in it is out of range (T216).
    """
    match = _NODE.fullmatch(text.strip())
    if match is None:
        raise AddressError(f'"{text}" is not a NodeId', hint=_SYNTAX_HINT, code="T211")
    namespace: int | str = match["uri"] or int(match["index"] or 0)
    if isinstance(namespace, int) and namespace > _HIGHEST_INDEX:
        raise AddressError(f"ns={namespace} in {text}: indices are 0..{_HIGHEST_INDEX}", code="T216")
    return Node(namespace, match["kind"], _identifier(match["kind"], match["identifier"], text))


def _identifier(kind: str, text: str, address: str) -> str:
    """Return an identifier in its one spelling."""
    if not text or len(text) > _MOST_CHARACTERS or not text.isprintable():
        raise AddressError(
            f'"{address}": {kind}= needs 1..{_MOST_CHARACTERS} printable characters', code="T211"
        )
    if kind == "i":
        if not (text.isascii() and text.isdigit()):
            raise AddressError(f"{address}: i= is a number", hint="a name is s=", code="T211")
        number = int(text) if len(text) <= 20 else _HIGHEST_ID + 1
        if number > _HIGHEST_ID:
            raise AddressError(f"i={text} in {address}: numbers are 0..{_HIGHEST_ID}", code="T216")
        return str(number)
    try:
        if kind == "g":
            return str(uuid.UUID(text)).upper()
        if kind == "b":
            return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except (ValueError, binascii.Error) as exc:
        form = "a GUID such as 72962B91-FA75-4AE6-8D28-B404DC7DAF63" if kind == "g" else "base64"
        raise AddressError(f"{address}: {kind}= is {form}", code="T211") from exc
    return text
