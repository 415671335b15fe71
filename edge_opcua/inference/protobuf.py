"""Reads the framing of protobuf messages of any size that nobody has vouched for, with bounded effort.

No schema and no package: a message is a sequence of numbered fields, and that is all this knows. A file is
read in small pieces, so that a model of two gigabytes costs the reader a megabyte; it is not mapped, because
a file that shrinks while it is mapped ends the process that looks at it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

SMALL_BYTES: Final = 2**20
"""A field up to this size is read whole; what is larger is walked through, or skipped."""

_WINDOW_BYTES: Final = 2**16
_HEAD_BYTES: Final = 20  # a tag and a length, at most
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE: Final = {_FIXED64: 8, _FIXED32: 4}


class TooManyFieldsError(ValueError):
    """A message holds more fields than may be read."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of an open file.

    Args:
        fd: Descriptor, open for reading.
        start: First byte.
        end: Byte behind the last one.
    """

    fd: int
    start: int
    end: int


Part: TypeAlias = memoryview | Stretch


def text(part: Part) -> str:
    """Return a field as text.

    Raises:
        ValueError: It is not UTF-8, or so long that it is no name.
    """
    if isinstance(part, Stretch):
        raise ValueError("a name in it is longer than a megabyte")  # noqa: TRY004 - of the file, not of the caller
    return str(part, "utf-8")


class Fields:
    """Yields the fields of messages, so many altogether.

    Args:
        most: Fields that may be read; a file of nothing but tiny fields would take hours.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def of(self, part: Part, *, varints: bool = False) -> Iterator[tuple[int, Part]]:
        """Yield number and content of each length-delimited field of one message.

        Args:
            part: The message.
            varints: Whether numbers are yielded too, as little-endian bytes.

        Raises:
            TooManyFieldsError: The effort is used up.
            ValueError: This is not a protobuf message.
        """
        return self._in_file(part, varints) if isinstance(part, Stretch) else self._in_memory(part, varints)

    def _in_memory(self, part: memoryview, varints: bool) -> Iterator[tuple[int, Part]]:  # noqa: FBT001
        at, size = 0, len(part)
        while at < size:
            self._count()
            number, kind, length, at = _head(part, at)
            if kind == _BYTES:
                if length > size - at:
                    raise ValueError("it ends in the middle of a field")
                yield number, part[at : at + length]
                at += length
            elif kind == _VARINT:
                if varints:
                    yield number, memoryview(length.to_bytes(10, "little"))
            else:
                at += length

    def _in_file(self, part: Stretch, varints: bool) -> Iterator[tuple[int, Part]]:  # noqa: FBT001
        at, base, window = part.start, part.start, memoryview(b"")
        while at < part.end:
            self._count()
            if at + _HEAD_BYTES > base + len(window):
                base, window = at, _read(part.fd, at, min(_WINDOW_BYTES, part.end - at))
            number, kind, length, behind = _head(window, at - base)
            at = base + behind
            if kind == _BYTES:
                if length > part.end - at:
                    raise ValueError("it ends in the middle of a field")
                yield number, _field(part.fd, at, length, window, at - base)
                at += length
            elif kind == _VARINT:
                if varints:
                    yield number, memoryview(length.to_bytes(10, "little"))
            else:
                at += length

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooManyFieldsError("it holds more fields than are read")


def _field(fd: int, at: int, length: int, window: memoryview, offset: int) -> Part:
    if offset + length <= len(window):
        return window[offset : offset + length]
    return Stretch(fd, at, at + length) if length > SMALL_BYTES else _read(fd, at, length)


def _read(fd: int, at: int, length: int) -> memoryview:
    found = os.pread(fd, length, at)
    if len(found) < length:
        raise ValueError("it became shorter while it was read")
    return memoryview(found)


def _head(part: memoryview, at: int) -> tuple[int, int, int, int]:
    """Return number, kind, then the length of the content (of a varint: its value), and where that begins."""
    tag, at = _varint(part, at)
    number, kind = tag >> 3, tag & 7
    if kind in {_VARINT, _BYTES}:
        value, at = _varint(part, at)
        return number, kind, value, at
    if kind in _FIXED_SIZE:
        return number, kind, _FIXED_SIZE[kind], at
    raise ValueError("it is not a protobuf message")


def _varint(part: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(part):
            raise ValueError("it ends in the middle of a number")
        byte = part[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it holds a number of more than 10 bytes")
