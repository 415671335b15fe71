"""Read and Write as bytes: what is asked with every poll is laid out once, values pass as they came; pure.

asyncua makes an object of every value, which costs fifteen times as much as all else that happens to it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_to_binary, struct_from_binary, variant_from_binary

from edge_opcua.core.ticks import EPOCH_TICKS
from edge_opcua.errors import DeviceError

_VALUE: Final = int(ua.AttributeIds.Value)
_NULL: Final = b"\xff\xff\xff\xff"
_U32: Final = struct.Struct("<I")
_I32: Final = struct.Struct("<i")
_I64: Final = struct.Struct("<q")
_DOUBLE: Final = struct.Struct("<d")
_NS_PER_TICK: Final = 100

# NodeIds of the encodings (Part 6 annex A): a four-byte NodeId of namespace 0.
READ: Final = b"\x01\x00" + (631).to_bytes(2, "little")
READ_ANSWER: Final = 634
WRITE: Final = b"\x01\x00" + (673).to_bytes(2, "little")
WRITE_ANSWER: Final = 676

PUBLISH: Final = b"\x01\x00" + (826).to_bytes(2, "little")
PUBLISH_ANSWER: Final = 829
_DATA_CHANGE: Final = 811
_STATUS_CHANGE: Final = 820

_LAST_NS: Final = (
    2**63 - 1
)  # in 2262; DateTime goes to 9999, where MaxDateTime says nothing (Part 6 §5.2.2.5)
# What reading bytes that are no message may raise, in asyncua too.
MALFORMED: Final = (
    struct.error,
    IndexError,
    KeyError,
    AttributeError,
    TypeError,
    ValueError,
    ArithmeticError,
    EOFError,
    RecursionError,
    ua.UaError,
)

STRING: Final = 12
_SIZES: Final = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 10: 4, 11: 8, 13: 8}
_ARRAY, _DIMENSIONS, _TYPE = 0x80, 0x40, 0x3F


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of the answer to a Read.

    Args:
        status: StatusCode.
        source_ns: Source time, ns UTC; 0 if there is none.
        type: Built-in type; 0 for no value.
        count: Elements of an array; -1 for a single value.
        raw: The value, elements side by side; the characters of a text.
    """

    status: int
    source_ns: int
    type: int
    count: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Notices:
    """One message of a subscription.

    Args:
        sequence: Its number.
        cells: Values by the handle of their item.
        status: Status of the subscription; Bad if it ends.
        empty: Whether it is a keep-alive, whose number is that of the next message.
    """

    sequence: int
    cells: tuple[tuple[int, Cell], ...]
    status: int
    empty: bool


def read_value_id(node: bytes, index_range: str) -> bytes:
    """Return what asks for one value.

    Args:
        node: The encoded NodeId.
        index_range: NumericRange, or empty for all of it.
    """
    wanted = index_range.encode()
    asked = _I32.pack(len(wanted)) + wanted if wanted else _NULL
    return node + _U32.pack(_VALUE) + asked + b"\0\0" + _NULL


def read_body(wanted: Sequence[bytes]) -> bytes:
    """Return a ReadRequest without its header: source times, of any age."""
    return _DOUBLE.pack(0.0) + _U32.pack(0) + _I32.pack(len(wanted)) + b"".join(wanted)


def write_body(node: bytes, index_range: str, builtin: int, count: int, raw: bytes) -> bytes:
    """Return a WriteRequest without its header, of one value without status and times.

    Args:
        node: The encoded NodeId.
        index_range: NumericRange, or empty for all of it.
        builtin: Built-in type of the value.
        count: Elements of an array; -1 for a single value.
        raw: The value; characters of a text.
    """
    wanted = index_range.encode()
    asked = _I32.pack(len(wanted)) + wanted if wanted else _NULL
    if builtin == STRING:
        raw = _I32.pack(len(raw)) + raw
    variant = bytes((builtin,)) + raw if count < 0 else bytes((builtin | _ARRAY,)) + _I32.pack(count) + raw
    return _I32.pack(1) + node + _U32.pack(_VALUE) + asked + b"\x01" + variant


def node_bytes(node: ua.NodeId) -> bytes:
    """Return an encoded NodeId."""
    encoded: bytes = nodeid_to_binary(node)
    return encoded


def parse_read(message: bytes, count: int) -> list[Cell]:
    """Return what was answered for each node.

    Args:
        message: The whole answer.
        count: How many were asked.

    Raises:
        DeviceError: It is no answer to that.
    """
    try:
        at = _past_header(message, READ_ANSWER)
        (found,) = _I32.unpack_from(message, at)
        if found != count:
            raise DeviceError(f"{found} values were answered, asked were {count}")
        at += 4
        cells = []
        for _ in range(count):
            cell, at = _data_value(message, at)
            cells.append(cell)
    except MALFORMED as exc:
        raise DeviceError(f"the answer cannot be read: {exc!r}") from exc
    return cells


def parse_write(message: bytes) -> int:
    """Return the StatusCode of the one value that was written.

    Raises:
        DeviceError: It is no answer to that.
    """
    try:
        at = _past_header(message, WRITE_ANSWER)
        (found,) = _I32.unpack_from(message, at)
        if found != 1:
            raise DeviceError(f"{found} writes were answered, asked was 1")
        return int(_U32.unpack_from(message, at + 4)[0])
    except MALFORMED as exc:
        raise DeviceError(f"the answer cannot be read: {exc!r}") from exc


def publish_body(subscription: int, numbers: Sequence[int]) -> bytes:
    """Return a PublishRequest without its header.

    Args:
        subscription: Id of the one subscription there is.
        numbers: Messages of it that have come.
    """
    told = b"".join(_U32.pack(subscription) + _U32.pack(number) for number in numbers)
    return _I32.pack(len(numbers)) + told


def parse_publish(message: bytes) -> Notices:
    """Return what a subscription sent.

    Raises:
        ServiceRefusedError: There is none, or too many requests are on the way.
        DeviceError: It is no answer to Publish.
    """
    try:
        at = _past_header(message, PUBLISH_ANSWER) + 4
        (available,) = _I32.unpack_from(message, at)
        at += 4 + 4 * max(0, available) + 1
        (sequence,) = _U32.unpack_from(message, at)
        at += 12
        (count,) = _I32.unpack_from(message, at)
        at += 4
        cells: list[tuple[int, Cell]] = []
        status = 0
        for _ in range(max(0, count)):
            kind, body, at = _extension(message, at)
            if kind == _DATA_CHANGE:
                cells += _changes(body)
            elif kind == _STATUS_CHANGE:
                (status,) = _U32.unpack_from(body, 0)
    except MALFORMED as exc:
        raise DeviceError(f"the message cannot be read: {exc!r}") from exc
    return Notices(sequence, tuple(cells), status, count <= 0)


def _extension(message: bytes, at: int) -> tuple[int, bytes, int]:
    """Return type and body of an ExtensionObject, and where it ends (Part 6 §5.2.2.15)."""
    kind, size = _numeric(message[at : at + 8])
    at += size
    if message[at] != 1:
        raise ValueError("a notification without a body")
    (length,) = _I32.unpack_from(message, at + 1)
    at += 5
    if length < 0 or at + length > len(message):
        raise EOFError("it ends in the middle of a notification")
    return kind, message[at : at + length], at + length


def _changes(body: bytes) -> list[tuple[int, Cell]]:
    (count,) = _I32.unpack_from(body, 0)
    at = 4
    found = []
    for _ in range(max(0, count)):
        (handle,) = _U32.unpack_from(body, at)
        cell, at = _data_value(body, at + 4)
        found.append((handle, cell))
    return found


class ServiceRefusedError(DeviceError):
    """The server refused a whole service.

    Args:
        status: StatusCode of the answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"0x{status:08X}")
        self.status = status


def _past_header(message: bytes, wanted: int) -> int:
    """Return where the answer begins behind its type and header; ServiceRefusedError if it is a no."""
    kind, at = _numeric(message)
    # Time 8, handle 4, result 4, then diagnostics 0, no string table (-1 or 0), no additional header.
    (status,) = _U32.unpack_from(message, at + 12)
    if status & 0x80000000:
        raise ServiceRefusedError(status)
    if kind != wanted:
        raise DeviceError(f"an answer of type i={kind} came, i={wanted} was expected")
    if message[at + 16] == 0 and message[at + 17 : at + 24] in (b"\xff\xff\xff\xff\0\0\0", bytes(7)):
        return at + 24
    rest = Buffer(message[at:])
    struct_from_binary(ua.ResponseHeader, rest)
    return len(message) - len(rest)


def _numeric(message: bytes) -> tuple[int, int]:
    """Return the number of the NodeId a message begins with, and where that ends."""
    form = message[0]
    if form == 0:
        return message[1], 2
    if form == 1:
        return int.from_bytes(message[2:4], "little"), 4
    if form == 2:
        return int.from_bytes(message[3:7], "little"), 7
    raise ValueError(f"NodeId of form {form}")


def _data_value(message: bytes, at: int) -> tuple[Cell, int]:
    """Read one DataValue (Part 6 §5.2.2.17)."""
    mask = message[at]
    at += 1
    kind, count, raw = 0, -1, b""
    if mask & 0x01:
        kind, count, raw, at = _variant(message, at)
    status = source_ns = 0
    if mask & 0x02:
        (status,) = _U32.unpack_from(message, at)
        at += 4
    if mask & 0x04:
        (ticks,) = _I64.unpack_from(message, at)
        source_ns = max(0, ticks - EPOCH_TICKS) * _NS_PER_TICK
        source_ns = source_ns if source_ns <= _LAST_NS else 0
        at += 8
    if mask & 0x10:
        at += 2
    if mask & 0x08:
        at += 8
    if mask & 0x20:
        at += 2
    if at > len(message):
        raise EOFError("it ends in the middle of a value")
    return Cell(status, source_ns, kind, count, raw), at


def _variant(message: bytes, at: int) -> tuple[int, int, bytes, int]:
    """Return type, elements (-1: single) and bytes of a Variant, and where it ends (Part 6 §5.2.2.16)."""
    form = message[at]
    kind, size = form & _TYPE, _SIZES.get(form & _TYPE, 0)
    if not size and not (kind == STRING and not form & _ARRAY) and kind:
        rest = Buffer(message[at:])
        value = variant_from_binary(rest)
        count = len(value.Value) if isinstance(value.Value, list) else -1
        return kind, count, b"", len(message) - len(rest)
    first, count = at + 1, -1
    if form & _ARRAY:
        (count,) = _I32.unpack_from(message, first)
        first += 4
        count = max(0, count)
        end = first + count * size
    elif kind == STRING:
        (length,) = _I32.unpack_from(message, first)
        first += 4
        end = first + max(0, length)
    else:
        end = first + size
    if end > len(message):
        raise EOFError("it ends in the middle of a value")
    raw = message[first:end]
    if form & _DIMENSIONS:
        (dimensions,) = _I32.unpack_from(message, end)
        end += 4 + 4 * max(0, dimensions)
    return kind, count, raw, end
