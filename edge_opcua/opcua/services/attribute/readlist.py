"""The list of a Read request straight from its bytes: numbers of tags where it can, objects where it must.

Most elements of most lists are the Value of a tag, whole: a NodeId with a string, and fourteen bytes that
are always the same. They become the tag's number without any object. Whatever else there is becomes a
ReadValueId; no length is believed before it was looked at, and nothing of it can unfold (Part 4 §7.29: there
are only scalars).
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData, ServiceError
from asyncua.ua.ua_binary import struct_from_binary

from edge_opcua.opcua.tags.table import PLANT, TagTable

# About a millisecond: as many elements, of which one that is no tag counts as ten.
SLICE: Final = 1000
_OTHER: Final = 5

_VALUE: Final = int(ua.AttributeIds.Value)
# Part 6 §5.2.2.9: forms of a NodeId.
_TWO_BYTE, _FOUR_BYTE, _NUMERIC, _STRING, _GUID, _BYTES = range(6)
_STRING_FORM: Final = bytes([_STRING])
_FORM, _URI_FOLLOWS, _SERVER_FOLLOWS = 0x3F, 0x80, 0x40
_FIXED: Final = {_TWO_BYTE: 2, _FOUR_BYTE: 4, _NUMERIC: 7, _GUID: 19}
_NAME_AT: Final = 7
_NAME: Final = struct.Struct("<Hi")
_NUMBERS: Final = {_FOUR_BYTE: struct.Struct("<BH"), _NUMERIC: struct.Struct("<HI")}
_TYPES: Final = {
    form: ua.NodeIdType(form) for form in (_TWO_BYTE, _FOUR_BYTE, _NUMERIC, _STRING, _GUID, _BYTES)
}
_INT32: Final = struct.Struct("<i")
_UINT32: Final = struct.Struct("<I")
_NOTHING: Final = (-1, 0)  # a null String and an empty one ask for the same here
# What follows the attribute: no IndexRange, no DataEncoding.
_PLAIN: Final = frozenset(
    struct.pack("<iHi", index_range, 0, encoding) for index_range in _NOTHING for encoding in _NOTHING
)
_TAIL_BYTES: Final = 14
_WHOLE_VALUE: Final = frozenset(_UINT32.pack(_VALUE) + rest for rest in _PLAIN)


@dataclass(slots=True)
class ReadList:
    """What somebody wants to read.

    Attributes:
        numbers: The tags whose values are wanted whole, in the order of the list.
        others: Everything else, with its place in the list.
    """

    numbers: list[int] = field(default_factory=list)
    others: list[tuple[int, ua.ReadValueId]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.numbers) + len(self.others)


def read_list(
    data: bytes, at: int, count: int, tags: TagTable, longest_string: int
) -> Generator[None, None, ReadList]:
    """Decode the elements of NodesToRead; yields after about a millisecond of work each time.

    Args:
        data: The request.
        at: Where the first element begins.
        count: How many there are, as the caller has found acceptable.
        tags: The tags.
        longest_string: Longest string that is allowed, bytes.

    Raises:
        ServiceError: BadDecodingError: there are fewer, or one is none; BadEncodingLimitsExceeded.
    """
    found = ReadList()
    numbers, others, find, name_of = found.numbers, found.others, tags.find, _NAME.unpack_from
    pause = SLICE
    try:
        for place in range(count):
            if place >= pause:
                pause = place + SLICE
                yield
            if data[at] == _STRING:
                namespace, length = name_of(data, at + 1)
                end = at + _NAME_AT + length
                if namespace == PLANT and length > 0 and data[end : end + _TAIL_BYTES] in _WHOLE_VALUE:
                    number = find(data[at + _NAME_AT : end])
                    if number is not None:
                        numbers.append(number)
                        at = end + _TAIL_BYTES
                        continue
            item, at = _element(data, at, longest_string)
            others.append((place, item))
            pause -= _OTHER - 1
    except ServiceError:
        raise
    except (IndexError, ValueError, NotEnoughData, ua.UaError, struct.error) as exc:
        raise ServiceError(ua.StatusCodes.BadDecodingError) from exc
    return found


def whole_values(data: bytes, at: int, count: int, tags: TagTable) -> list[int] | None:
    """Return the numbers of few tags whose whole values are wanted, None if the list has anything else."""
    numbers = []
    for _ in range(count):
        if data[at : at + 1] != _STRING_FORM or at + _NAME_AT > len(data):
            return None
        namespace, length = _NAME.unpack_from(data, at + 1)
        end = at + _NAME_AT + length
        if namespace != PLANT or length <= 0 or data[end : end + _TAIL_BYTES] not in _WHOLE_VALUE:
            return None
        number = tags.find(data[at + _NAME_AT : end])
        if number is None:
            return None
        numbers.append(number)
        at = end + _TAIL_BYTES
    return numbers


def _element(data: bytes, at: int, longest_string: int) -> tuple[ua.ReadValueId, int]:
    """Return the element at a place, and where it ends."""
    end = _node_id_end(data, at, longest_string)
    tail_end = end + _TAIL_BYTES
    if data[end + 4 : tail_end] in _PLAIN:
        node = _node_id(data, at, end)
        if node is not None:
            return ua.ReadValueId(node, _UINT32.unpack_from(data, end)[0]), tail_end
    end = _text_end(data, end + 4, longest_string)
    end = _text_end(data, end + 2, longest_string)
    return struct_from_binary(ua.ReadValueId, Buffer(data[at:end])), end


def _node_id(data: bytes, at: int, end: int) -> ua.NodeId | None:
    """Return a NodeId of one of the four common forms, None: it is another one."""
    form = data[at]
    if form == _STRING:
        namespace, length = _NAME.unpack_from(data, at + 1)
        if length < 0:
            return None
        name = data[at + _NAME_AT : end].decode("utf-8", "surrogateescape")
        return ua.NodeId(name, namespace, _TYPES[form])
    if form == _TWO_BYTE:
        return ua.NodeId(data[at + 1], 0, _TYPES[form])
    numbers = _NUMBERS.get(form)
    if numbers is None:
        return None
    namespace, identifier = numbers.unpack_from(data, at + 1)
    return ua.NodeId(identifier, namespace, _TYPES[form])


def _node_id_end(data: bytes, at: int, longest: int) -> int:
    """Return where the NodeId or ExpandedNodeId at a place ends (Part 6 §5.2.2.9, §5.2.2.10)."""
    encoding = data[at]
    form = encoding & _FORM
    if form > _BYTES:
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    size = _FIXED.get(form)
    at = at + size if size else _text_end(data, at + 3, longest)
    if encoding & _URI_FOLLOWS:
        at = _text_end(data, at, longest)
    return at + 4 if encoding & _SERVER_FOLLOWS else at


def _text_end(data: bytes, at: int, longest: int) -> int:
    """Return where the String or ByteString at a place ends.

    Raises:
        ServiceError: It is not there, or too long.
    """
    (length,) = _INT32.unpack_from(data, at)
    end = at + 4 + max(length, 0)
    if length < -1 or end > len(data):
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    if length > longest:
        raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)
    return int(end)
