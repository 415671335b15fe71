"""What a Browse or BrowseNext request wants, straight from its bytes, if it is one of the usual kind.

Clients browse node after node; the codec takes longer to read a request than the answer takes. Whatever is
unusual or wrong here is left to it, and it says so.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from asyncua import ua

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.services.view.search import Description

__all__ = ["browse_next_request", "browse_request"]

# No view: a null NodeId; then its time and version, which mean nothing without one.
_NO_VIEW: Final = b"\x00\x00"
_VIEW_BYTES: Final = 14
_HEAD: Final = struct.Struct("<Ii")
_COUNT: Final = struct.Struct("<i")
_DIRECTION: Final = struct.Struct("<i")
_TAIL: Final = struct.Struct("<?II")
_STRING: Final = 3
_STRING_HEAD: Final = struct.Struct("<xHi")
# Forms of NodeIds with numbers (Part 6 §5.2.2.9).
_NUMBERS: Final = {0: struct.Struct("<xB"), 1: struct.Struct("<xBH"), 2: struct.Struct("<xHI")}
_ELEMENT_BYTES: Final = 500  # what a description takes in memory, about
_TYPES: Final = 256


class _UnusualError(Exception):
    """Something for the codec."""


def browse_request(whole: bytes, at: int, limits: ServerLimits) -> tuple[int, list[Description]] | None:
    """Read the parameters of Browse.

    Args:
        whole: The request.
        at: Where they begin.
        limits: Most nodes, longest string.

    Returns:
        RequestedMaxReferencesPerNode and the descriptions; None: the codec shall look at it.
    """
    if whole[at : at + len(_NO_VIEW)] != _NO_VIEW:
        return None
    try:
        most, count = _HEAD.unpack_from(whole, at + _VIEW_BYTES)
        if not 0 < count <= _most(limits):
            return None
        at += _VIEW_BYTES + _HEAD.size
        found = []
        for _ in range(count):
            wanted, at = _description(whole, at, limits.string_bytes)
            found.append(wanted)
    except (_UnusualError, IndexError, struct.error):
        return None
    return (most, found) if at == len(whole) else None


def browse_next_request(whole: bytes, at: int, limits: ServerLimits) -> list[bytes] | None:
    """Read the continuation points of a BrowseNext that goes on; None: the codec shall look at it."""
    try:
        releases, (count,) = whole[at], _COUNT.unpack_from(whole, at + 1)
        if releases or not 0 < count <= _most(limits):
            return None
        at += 1 + _COUNT.size
        found = []
        for _ in range(count):
            (length,) = _COUNT.unpack_from(whole, at)
            end = at + _COUNT.size + length
            if not 0 <= length <= limits.string_bytes or end > len(whole):
                return None
            found.append(whole[at + _COUNT.size : end])
            at = end
    except (IndexError, struct.error):
        return None
    return found if at == len(whole) else None


def _most(limits: ServerLimits) -> int:
    fitting = min(limits.array_length, limits.unfolded_bytes // _ELEMENT_BYTES)
    return min(limits.operations.browse or fitting, fitting)


def _description(whole: bytes, at: int, longest: int) -> tuple[Description, int]:
    end = _end(whole, at, longest)
    node = _node_id(whole[at:end])
    (direction,) = _DIRECTION.unpack_from(whole, end)
    at = end + _DIRECTION.size
    end = _end(whole, at, longest)
    kind = _known(whole[at:end]) if end - at < _TYPES else _node_id(whole[at:end])
    subtypes, classes, mask = _TAIL.unpack_from(whole, end)
    return Description(node, direction, kind, subtypes, classes, mask), end + _TAIL.size


def _end(whole: bytes, at: int, longest: int) -> int:
    """Return where a NodeId ends."""
    form = whole[at]
    if form == _STRING:
        _, length = _STRING_HEAD.unpack_from(whole, at)
        end = int(at + _STRING_HEAD.size + length)
        if not 0 <= length <= longest or end > len(whole):
            raise _UnusualError
        return end
    numbers = _NUMBERS.get(form)
    if numbers is None:
        raise _UnusualError
    return at + numbers.size


def _node_id(encoded: bytes) -> ua.NodeId:
    form = encoded[0]
    if form == _STRING:
        index, _ = _STRING_HEAD.unpack_from(encoded)
        return ua.NodeId(encoded[_STRING_HEAD.size :].decode("utf-8", "surrogateescape"), index)
    *index, number = _NUMBERS[form].unpack(encoded)
    return ua.NodeId(number, *index)


# Of reference types clients use few.
_known = lru_cache(_TYPES)(_node_id)
