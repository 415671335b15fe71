"""The framing of protocol buffers, as far as the messages of the protocol need it; pure.

Source: protobuf.dev, Encoding. Fields of types that are not wanted are passed over, as the format asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value: TypeAlias = int | memoryview
"""A number for a varint, else the bytes of the field."""

_FIXED: Final = {FIXED64: 8, FIXED32: 4}
_MOST_VARINT: Final = 10
_SIGN: Final = 1 << 63
_MASK: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Return a number in its variable length; a negative one takes ten bytes."""
    value &= _MASK
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return a field with a number; nothing for 0, which is what an absent one means."""
    return varint(field << 3 | VARINT) + varint(value) if value else b""


def chunk(field: int, content: bytes) -> bytes:
    """Return a field with bytes, a text or another message."""
    return head(field, len(content)) + content


def text(field: int, content: str) -> bytes:
    """Return a field with a text; nothing for an empty one."""
    return chunk(field, content.encode()) if content else b""


def head(field: int, size: int) -> bytes:
    """Return what stands before the bytes of a field."""
    return varint(field << 3 | BYTES) + varint(size)


def packed(field: int, values: Sequence[int]) -> bytes:
    """Return a field with numbers one behind the other."""
    return chunk(field, b"".join(varint(value) for value in values)) if values else b""


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Yield number and value of each field.

    Raises:
        ValueError: The message is cut off, or none.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        field, kind = key >> 3, key & 7
        if not field:
            raise ValueError("a field without a number")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield field, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"a field of the unknown type {kind}")
        if size > end - at:
            raise ValueError("a message that is cut off")
        yield field, message[at : at + size]
        at += size


def signed(value: int) -> int:
    """Return an int64 of a varint."""
    return value - (_SIGN << 1) if value & _SIGN else value


def integers(value: Value) -> list[int]:
    """Return the int64 numbers of one field, whether they are packed or it is one alone."""
    if isinstance(value, int):
        return [signed(value)]
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(signed(one))
    return found


def as_text(value: Value) -> str:
    """Return a text; ValueError if the field holds none."""
    return str(as_bytes(value), "utf-8")


def as_bytes(value: Value) -> memoryview:
    """Return the bytes of a field; ValueError if it holds a number."""
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")  # noqa: TRY004 - of the message, not of a caller
    return value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    for place in range(at, min(at + _MOST_VARINT, len(message))):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, place + 1
        shift += 7
    raise ValueError("a number that does not end")
