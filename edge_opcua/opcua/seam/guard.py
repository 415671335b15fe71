"""Walks through a request before asyncua decodes it, so that nobody sends a small one that unfolds large.

A client that is trusted is not therefore harmless: ten bytes can announce a matrix of a million elements,
four megabytes can hold as many Variants of one byte, and a Variant in a Variant in a Variant ends Python's
stack. The walk follows the same types in the same order as asyncua's decoder and makes no object: it counts,
and refuses before anything is built. What needs no walk (a list of plain structures at the end of a request:
Read, Browse) costs one look at its length.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum, IntFlag
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData, ServiceError
from asyncua.ua import ua_binary, uatypes
from asyncua.ua.ua_binary import nodeid_from_binary

from edge_opcua.opcua.limits import ServerLimits

# What one element of an array takes as Python objects, roughly.
NUMBER_BYTES: Final = 40
TEXT_BYTES: Final = 100
OBJECT_BYTES: Final = 500

_INT32: Final = struct.Struct("<i")
_MAX_PLANS: Final = 64
_NULL, _VARIANT, _LAST_BUILT_IN = 0, 24, 25
_BODY_AS_BYTES: Final = 0x01
_ARRAY, _DIMENSIONS, _KIND = 0x80, 0x40, 0x3F
_URI_FOLLOWS, _SERVER_FOLLOWS = 0x80, 0x40
# Part 6 §5.2.2.9: a NodeId's encodings of fixed size; the two others end with a length.
_NODE_ID_BYTES: Final = {0: 2, 1: 4, 2: 7, 4: 19}
_NODE_ID_LENGTH_AT: Final = {3: 3, 5: 3}
_STRING_NODE_ID: Final = 3


class Walk:
    """A place in a request, and what may still come.

    Args:
        data: The request; the walk starts where its caller says.
        end: Where it ends.
        limits: What is allowed.
    """

    __slots__ = ("data", "deepest", "depth", "end", "left", "longest_array", "longest_string")

    def __init__(self, data: bytes, end: int, limits: ServerLimits) -> None:
        self.data = data
        self.end = end
        self.depth = 0
        self.deepest = limits.nesting
        self.left = limits.unfolded_bytes
        self.longest_array = limits.array_length
        self.longest_string = limits.string_bytes

    def length(self, pos: int, cost: int) -> int:
        """Return the length of an array that is announced at ``pos``; null and empty are 0.

        Raises:
            ServiceError: It is longer than allowed, or all arrays together are.
        """
        (length,) = _INT32.unpack_from(self.data, pos)
        if length <= 0:
            return _none(length)
        self.left -= length * cost
        if length > self.longest_array or self.left < 0:
            raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)
        return int(length)

    def text(self, pos: int) -> int:
        """Return where the String or ByteString at ``pos`` ends."""
        (length,) = _INT32.unpack_from(self.data, pos)
        if length <= 0:
            return pos + 4 if length >= -1 else _none(length)
        if length > self.longest_string:
            raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)
        after = pos + 4 + length
        if after > self.end:
            raise ServiceError(ua.StatusCodes.BadDecodingError)
        return int(after)

    def deeper(self) -> None:
        """Enter a Variant, an ExtensionObject or a DiagnosticInfo; leave it with ``depth -= 1``."""
        self.depth += 1
        if self.depth > self.deepest:
            raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)


Step = Callable[[Walk, int], int]


@dataclass(frozen=True, slots=True)
class Kind:
    """How to pass over one type.

    Args:
        step: Passes over one value.
        size: Its size if that never differs, else 0.
        plain: Whether it holds nothing that could unfold: no list, Variant or ExtensionObject.
        cost: What one takes as Python objects, bytes.
        parts: What it consists of, one after the other; empty if that is not all there is to it.
    """

    step: Step
    size: int = 0
    plain: bool = True
    cost: int = OBJECT_BYTES
    parts: tuple[Kind, ...] = ()


def check_request(
    cls: Any,
    data: bytes,
    pos: int,
    limits: ServerLimits,
    most: Mapping[str, int] | None = None,
) -> None:
    """Refuse the parameters of a request that would unfold too far.

    Args:
        cls: Their class.
        data: The request.
        pos: Where the parameters begin.
        limits: What is allowed.
        most: Largest number of operations by the name of the list that holds them, 0: not limited.

    Raises:
        ServiceError: BadTooManyOperations; BadEncodingLimitsExceeded (Part 4 §7.38.2: an array, a string, the
            nesting or the whole are too large); BadDecodingError: it is no such request.
    """
    walk = Walk(data, len(data), limits)
    try:
        for name, kind, is_list in _top_level(cls):
            if is_list:
                _check_count(walk, pos, (most or {}).get(name, 0))
            if kind is None:  # plain, and nothing follows
                _check_rest(walk, pos)
                return
            pos = kind.step(walk, pos)
        if pos > walk.end:
            raise ServiceError(ua.StatusCodes.BadDecodingError)
    except (IndexError, KeyError, ValueError, NotEnoughData, struct.error) as exc:
        raise ServiceError(ua.StatusCodes.BadDecodingError) from exc
    except RecursionError as exc:
        raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded) from exc


def handle_of(data: bytes) -> int:
    """Return the RequestHandle of a request and decode nothing else (Part 4 §7.33).

    Raises:
        ServiceError: It has no header.
    """
    walk = Walk(data, len(data), ServerLimits())
    try:
        (handle,) = struct.unpack_from("<I", data, _node_id(walk, _node_id(walk, 0)) + 8)
    except (IndexError, KeyError, struct.error) as exc:
        raise ServiceError(ua.StatusCodes.BadDecodingError) from exc
    return int(handle)


def _check_count(walk: Walk, pos: int, most: int) -> None:
    (count,) = _INT32.unpack_from(walk.data, pos)
    if most and count > most:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)


def _check_rest(walk: Walk, pos: int) -> None:
    if walk.length(pos, OBJECT_BYTES) > walk.end - pos - 4:  # each takes a byte at least
        raise ServiceError(ua.StatusCodes.BadDecodingError)


def _none(length: int) -> int:
    """Part 6 §5.2.2.4: -1 is null; less is nothing that anybody sends."""
    if length < -1:
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    return 0


# --- built-in types ----------------------------------------------------------------------------------------


def _fixed(size: int) -> Kind:
    return Kind(lambda _, pos: pos + size, size, cost=NUMBER_BYTES)


def _node_id(walk: Walk, pos: int) -> int:
    encoding = walk.data[pos]
    if encoding == _STRING_NODE_ID:  # what tags have
        return walk.text(pos + 3)
    kind = encoding & _KIND
    size = _NODE_ID_BYTES.get(kind)
    pos = pos + size if size else walk.text(pos + _NODE_ID_LENGTH_AT[kind])
    if encoding & _URI_FOLLOWS:
        pos = walk.text(pos)
    if encoding & _SERVER_FOLLOWS:
        pos += 4
    return pos


def _extension_object(walk: Walk, pos: int) -> int:
    """Pass over an ExtensionObject (Part 6 §5.2.2.15) and through its body if asyncua would decode it."""
    after = _node_id(walk, pos)
    cls = _class_of(walk.data[pos:after])
    encoding = walk.data[after]
    pos = after + 1
    if not encoding & _BODY_AS_BYTES:
        return pos
    walk.left -= OBJECT_BYTES
    (length,) = _INT32.unpack_from(walk.data, pos)
    pos += 4
    if length < 0:  # asyncua decodes what follows; nobody needs that
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    end = pos + length
    if end > walk.end:
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    if cls is not None and length:
        walk.deeper()
        walk.end, outer = end, walk.end
        if _struct(cls).step(walk, pos) > end:
            raise ServiceError(ua.StatusCodes.BadDecodingError)
        walk.end = outer
        walk.depth -= 1
    return int(end)


_CLASSES: dict[bytes, Any] = {}


def _class_of(encoded: bytes) -> Any:
    """Return the class of a TypeId as it stands in a message; None if it stays opaque."""
    known = _CLASSES.get(encoded)
    if known is None:
        known = ua.extension_objects_by_typeid.get(nodeid_from_binary(Buffer(encoded)))
        if known is not None:  # only what exists: a client cannot fill this
            _CLASSES[encoded] = known
    return known


def _variant(walk: Walk, pos: int) -> int:
    """Pass over a Variant (Part 6 §5.2.2.16)."""
    encoding = walk.data[pos]
    pos += 1
    number = encoding & _KIND
    kind = _BUILT_IN[number] if number <= _LAST_BUILT_IN else _TEXT
    if not encoding & _ARRAY:
        if encoding & _DIMENSIONS or number == _VARIANT:  # "cannot directly contain another Variant"
            raise ServiceError(ua.StatusCodes.BadDecodingError)
        if kind.size:
            return pos + kind.size
        walk.deeper()
        pos = kind.step(walk, pos)
        walk.depth -= 1
        return pos
    walk.deeper()
    (length,) = _INT32.unpack_from(walk.data, pos)
    pos = _array(walk, pos, kind)
    if encoding & _DIMENSIONS:
        pos = _dimensions(walk, pos, length)
    walk.depth -= 1
    return pos


def _array(walk: Walk, pos: int, kind: Kind) -> int:
    length = walk.length(pos, kind.cost)
    pos += 4
    if kind.size or kind is _NOTHING:
        pos += length * kind.size
    else:
        step = kind.step
        for _ in range(length):
            pos = step(walk, pos)
    if pos > walk.end:
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    return pos


def _dimensions(walk: Walk, pos: int, length: int) -> int:
    """Pass over ArrayDimensions: their product is the number of elements (Part 6 §5.2.2.16).

    asyncua fills up what is missing with empty lists, and copies the elements once for each dimension.
    """
    count = walk.length(pos, NUMBER_BYTES)
    pos += 4
    if not 0 < count <= walk.deepest:
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    product = filled = 1
    for (size,) in struct.iter_unpack("<i", walk.data[pos : pos + 4 * count]):
        if size < 0:
            raise ServiceError(ua.StatusCodes.BadDecodingError)
        product *= size
        filled *= max(size, 1)
        if filled > walk.longest_array:
            raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)
    if product != max(length, 0):
        raise ServiceError(ua.StatusCodes.BadDecodingError)
    walk.left -= filled * count * NUMBER_BYTES
    if walk.left < 0:
        raise ServiceError(ua.StatusCodes.BadEncodingLimitsExceeded)
    return pos + 4 * count


def _diagnostic_info(walk: Walk, pos: int) -> int:
    walk.deeper()
    pos = _struct(ua.DiagnosticInfo).step(walk, pos)
    walk.depth -= 1
    return pos


_NOTHING: Final = Kind(lambda _, pos: pos, cost=NUMBER_BYTES)
_TEXT: Final = Kind(lambda walk, pos: walk.text(pos), cost=TEXT_BYTES)
_NODE_ID: Final = Kind(_node_id)
_OPAQUE: Final = Kind(_extension_object, plain=False)
_SIZES: Final = {
    **dict.fromkeys(("SByte", "Byte", "Boolean", "Char"), 1),
    **dict.fromkeys(("Int16", "UInt16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Double", "DateTime"), 8),
    "Guid": 16,
}
_KINDS: Final[dict[str, Kind]] = {
    **{name: _fixed(size) for name, size in _SIZES.items()},
    "Null": _NOTHING,
    **dict.fromkeys(("String", "Bytes", "ByteString", "CharArray"), _TEXT),
    **dict.fromkeys(("NodeId", "ExpandedNodeId"), _NODE_ID),
    "ExtensionObject": _OPAQUE,
    "Variant": Kind(_variant, plain=False),
    "DiagnosticInfo": Kind(_diagnostic_info, plain=False),
}


# --- structures --------------------------------------------------------------------------------------------


@functools.cache
def _struct(cls: Any) -> Kind:
    """Return how to pass over a structure, an enumeration or a union, as asyncua declares it."""
    if issubclass(cls, IntFlag):
        return _KINDS[cls.datatype() if hasattr(cls, "datatype") else "UInt32"]
    if issubclass(cls, Enum):
        return _KINDS["Int32"]
    if issubclass(cls, ua.UaUnion):
        return _union(cls)
    parts = _parts(cls)
    if any(bit for _, bit, _ in parts):
        return _with_optional_fields(parts)
    kinds = _merged([kind for _, _, kind in parts])
    if not kinds:
        return _NOTHING
    if len(kinds) == 1:
        return Kind(kinds[0].step, kinds[0].size, kinds[0].plain)
    steps = tuple(kind.step for kind in kinds)
    plain = all(kind.plain for kind in kinds)
    return Kind(functools.partial(_walk_all, steps), plain=plain, parts=tuple(kinds))


def _walk_all(steps: tuple[Step, ...], walk: Walk, pos: int) -> int:
    for step in steps:
        pos = step(walk, pos)
    return pos


def _merged(kinds: list[Kind]) -> list[Kind]:
    """Take structures apart and neighbours of fixed size together."""
    merged: list[Kind] = []
    for kind in (part for whole in kinds for part in (whole.parts or (whole,))):
        if kind.size and merged and merged[-1].size:
            merged[-1] = _fixed(merged[-1].size + kind.size)
        else:
            merged.append(kind)
    return merged


def _with_optional_fields(parts: list[tuple[str, int, Kind]]) -> Kind:
    mask = next((kind.size for name, _, kind in parts if name == "Encoding"), 0)
    rest = tuple((bit, kind) for name, bit, kind in parts if name != "Encoding")
    known = sum(bit for bit, _ in rest)

    # At most _MAX_PLANS each: whoever sends it chooses which fields are there.
    @functools.lru_cache(_MAX_PLANS)
    def steps_of(present: int) -> tuple[Step, ...]:
        return tuple(kind.step for kind in _merged([kind for bit, kind in rest if not bit or present & bit]))

    def walk_some(walk: Walk, pos: int) -> int:
        present = int.from_bytes(walk.data[pos : pos + mask], "little")
        pos += mask
        for step in steps_of(present & known):
            pos = step(walk, pos)
        return pos

    return Kind(walk_some, plain=all(kind.plain for _, _, kind in parts))


def _union(cls: type[Any]) -> Kind:
    choices = tuple(_kind(choice, cls) for choice in cls._union_types)

    def walk_one(walk: Walk, pos: int) -> int:
        (chosen,) = struct.unpack_from("<I", walk.data, pos)
        return choices[chosen - 1].step(walk, pos + 4) if 0 < chosen <= len(choices) else pos + 4

    return Kind(walk_one, plain=all(choice.plain for choice in choices))


def _parts(cls: type[Any]) -> list[tuple[str, int, Kind]]:
    """Return the fields of a structure with the bit of the mask that says whether they are there."""
    types = ua_binary.get_safe_type_hints(cls, {"ua": ua})
    parts: list[tuple[str, int, Kind]] = []
    bits = 0
    for field in fields(cls):
        kind, bit = types[field.name], 0
        if uatypes.type_is_optional(kind):
            bit, bits = 1 << bits, bits + 1
            kind = uatypes.type_from_optional(kind)
        parts.append((field.name, bit, _OPAQUE if uatypes.type_allow_subclass(kind) else _kind(kind, cls)))
    return parts


def _kind(uatype: Any, cls: type[Any]) -> Kind:
    uatype, optional = ua_binary.resolve_uatype(uatype)
    if not optional and uatypes.type_is_union(uatype):
        array, uatype = uatypes.types_or_list_from_union(uatype)
        if not array:
            return _kind(uatype, cls)
    if uatypes.type_is_list(uatype):
        return _list(uatypes.type_from_list(uatype), cls)
    if uatype.__name__ in _KINDS:
        return _KINDS[uatype.__name__]
    if uatype is cls:  # known only when it is finished
        return Kind(lambda walk, pos: _nested(uatype, walk, pos), plain=False)
    return _struct(uatype)


def _nested(cls: Any, walk: Walk, pos: int) -> int:
    walk.deeper()
    pos = _struct(cls).step(walk, pos)
    walk.depth -= 1
    return pos


def _list(element: Any, cls: Any) -> Kind:
    """Return how to pass over a list; what its elements are is asked when the first one comes."""

    @functools.cache
    def inner() -> Kind:
        found = ua_binary._resolve_type_in_dataclass_context(element, cls)  # noqa: SLF001 - seam
        return _kind(found, cls)

    return Kind(lambda walk, pos: _array(walk, pos, inner()), plain=False)


@functools.cache
def _top_level(cls: Any) -> tuple[tuple[str, Kind | None, bool], ...]:
    """Return the fields of a request's parameters; None: a plain list, after which nothing comes."""
    types = ua_binary.get_safe_type_hints(cls, {"ua": ua})
    parts = _parts(cls)
    if any(bit for _, bit, _ in parts):
        return (("", _struct(cls), False),)
    out: list[tuple[str, Kind | None, bool]] = [
        (name, kind, bool(uatypes.type_is_list(types[name]))) for name, _, kind in parts
    ]
    if out and out[-1][2]:
        name = out[-1][0]
        element = ua_binary._resolve_type_in_dataclass_context(uatypes.type_from_list(types[name]), cls)  # noqa: SLF001
        if _kind(element, cls).plain:
            out[-1] = (name, None, True)
    return tuple(out)


# Part 6 Table 1: the built-in types by their number in a Variant.
_BUILT_IN: Final = tuple(
    _KINDS.get(kind.name) or _struct(getattr(ua, kind.name))
    for kind in sorted(ua.VariantType, key=lambda kind: kind.value)
)
