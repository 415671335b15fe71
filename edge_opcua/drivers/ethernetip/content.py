"""What an answer holds, as codecs read it: type checked, BOOLs unpacked, lengths of texts in front; pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, cast

import numpy as np

from edge_opcua.drivers.ethernetip.address import ATTRIBUTE, ATTRIBUTE_TEXT, BITS, BOOLS, TEXT, Space
from edge_opcua.drivers.ethernetip.types import (
    BOOL,
    CIP_TYPES,
    COUNTED_8,
    COUNTED_16,
    DWORD,
    STRING_HANDLE,
    STRUCTURE,
    accepts,
    type_name,
)
from edge_opcua.drivers.planner import Fragment
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import DeviceError

_OVERLONG: Final = 0xFF


def fragment_name(fragment: Fragment) -> str:
    """Return what people call the first element of a fragment."""
    space = cast(Space, fragment.space)
    if space.path.endswith(","):
        return f"{space.path}{fragment.start}]"
    indexed = fragment.start and not space.generic and space.kind != BITS
    return f"{space.path}[{fragment.start}]" if indexed else space.path


def split_type(payload: bytes) -> tuple[bytes, bytes]:
    """Return the type of an answered tag, as a write repeats it, and the value; DeviceError without one."""
    length = 4 if payload[:1] == bytes((STRUCTURE,)) else 2
    if len(payload) < length:
        raise DeviceError(f"a value of {len(payload)} bytes has no type")
    return payload[:length], payload[length:]


def tag_image(fragment: Fragment, head: bytes, value: bytes) -> bytes | Fault:
    """Return the image of a fragment of a tag.

    Args:
        fragment: What was asked for.
        head: Type that the device named.
        value: What follows.

    Returns:
        Its bytes, or a refusal if the tag is of another type or shorter than was asked.

    Raises:
        DeviceError: The answer has another length than its type and the request say.
    """
    convert = _CONVERT.get(cast(Space, fragment.space).kind, _numbers)
    return convert(fragment, head, value)


def _numbers(fragment: Fragment, head: bytes, value: bytes) -> bytes | Fault:
    space = cast(Space, fragment.space)
    if not accepts(space.kind, head[0]):
        return _mismatch(fragment, head)
    if len(value) != fragment.size * space.unit_bytes:
        raise _wrong_length(fragment, value)
    return value


def _bools(fragment: Fragment, head: bytes, value: bytes) -> bytes | Fault:
    """Unpack the DWORDs of a Logix BOOL array, or take the bytes of a device that has one per BOOL."""
    if head[0] == BOOL:
        if len(value) != fragment.size:
            raise _wrong_length(fragment, value)
        return value
    if head[0] != DWORD:
        return _mismatch(fragment, head)
    first = fragment.start % 32
    if len(value) != (first + fragment.size + 31) // 32 * 4:
        raise _wrong_length(fragment, value)
    bits = np.unpackbits(np.frombuffer(value, np.uint8), bitorder="little")
    return bits[first : first + fragment.size].tobytes()


def _bits(fragment: Fragment, head: bytes, value: bytes) -> bytes | Fault:
    kind = CIP_TYPES.get(head[0])
    if kind is None or not kind.size_bytes or head[0] == BOOL or kind.name in ("REAL", "LREAL"):
        name = fragment_name(fragment)
        return Fault(FaultKind.DENIED, f"D364 {name} is {type_name(head[0])}, which has no bits")
    if len(value) != kind.size_bytes:
        raise _wrong_length(fragment, value)
    if fragment.start + fragment.size > len(value):
        reason = f"D365 {fragment_name(fragment)} is {kind.name}: its bits are 0..{8 * kind.size_bytes - 1}"
        return Fault(FaultKind.ADDRESS, reason)
    return value[fragment.start : fragment.start + fragment.size]


def _texts(fragment: Fragment, head: bytes, value: bytes) -> bytes | Fault:
    most = cast(Space, fragment.space).unit_bytes - 2
    if head[0] == STRUCTURE:
        texts = _structures(fragment, value)
    elif head[0] in (COUNTED_16, COUNTED_8):
        texts = _counted(fragment, value, 2 if head[0] == COUNTED_16 else 1)
    else:
        return _mismatch(fragment, head)
    if texts is None:
        reason = f"D364 {fragment_name(fragment)} is a structure, but no string of up to {most} characters"
        return Fault(FaultKind.DENIED, reason)
    return b"".join(_counted_twice(text, length, most) for length, text in texts)


def _structures(fragment: Fragment, value: bytes) -> list[tuple[int, bytes]] | None:
    """Divide Logix strings into length and characters; None if they are structures of something else."""
    each, rest = divmod(len(value), fragment.size)
    if rest or each < 4:
        return None
    texts = []
    for at in range(0, len(value), each):
        (length,) = struct.unpack_from("<I", value, at)
        if length > each - 4:
            return None
        texts.append((length, value[at + 4 : at + each]))
    return texts


def _counted(fragment: Fragment, value: bytes, width: int) -> list[tuple[int, bytes]]:
    texts, at = [], 0
    for _ in range(fragment.size):
        length = int.from_bytes(value[at : at + width], "little")
        text = value[at + width : at + width + length]
        if len(value) < at + width or len(text) != length:
            raise _wrong_length(fragment, value)
        texts.append((length, text))
        at += width + length
    if len(value) - at not in (0, 1):  # some pad to an even length
        raise _wrong_length(fragment, value)
    return texts


def _counted_twice(text: bytes, length: int, most: int) -> bytes:
    """Return a text as the codec reads it: greatest and present length, then the characters."""
    shown = length if length <= most else _OVERLONG
    return bytes((most, shown)) + text[: min(length, most)].ljust(most, b"\0")


def attribute_image(fragment: Fragment, value: bytes) -> bytes | Fault:
    """Return the image of a fragment of an attribute, or a refusal if the attribute is shorter."""
    space = cast(Space, fragment.space)
    if space.kind == ATTRIBUTE_TEXT:
        most = space.unit_bytes - 2
        length = value[0] if value else -1
        if len(value) < 1 + length or length < 0:
            return Fault(FaultKind.DENIED, f"D364 {space.path} is no text: {value[:8].hex(' ')}")
        return _counted_twice(value[1 : 1 + length], length, most)
    if fragment.start + fragment.size > len(value):
        return Fault(FaultKind.ADDRESS, f"D365 {space.path} has {len(value)} bytes")
    return value[fragment.start : fragment.start + fragment.size]


def _mismatch(fragment: Fragment, head: bytes) -> Fault:
    """Return a refusal that names the right type."""
    name, space = fragment_name(fragment), cast(Space, fragment.space)
    wanted = {BOOLS: "BOOL", TEXT: "STRING"}.get(space.kind, space.kind)
    kind = CIP_TYPES.get(head[0])
    if head[0] == STRUCTURE:
        handle = int.from_bytes(head[2:4], "little")
        advice = (
            f"write {name}:STRING" if handle == STRING_HANDLE else f"name one of its members: {name}.Member"
        )
    elif kind is None:
        advice = "it cannot be read"
    elif space.kind == BOOLS and kind.size_bytes and kind.name not in ("REAL", "LREAL"):
        advice = f"write {name}.0:BOOL for a bit of it, or {name}:{kind.read_as[0]}"
    elif head[0] == DWORD:
        advice = f"write {name}:BOOL, or {name}:DWORD"
    else:
        advice = f"write {name}:{kind.read_as[0]}"
    return Fault(FaultKind.DENIED, f"D364 {name} is {type_name(head[0])}, not {wanted}: {advice}")


def _wrong_length(fragment: Fragment, value: bytes) -> DeviceError:
    return DeviceError(
        f"{len(value)} bytes of {fragment_name(fragment)} were answered, asked was another length"
    )


_CONVERT: Final[dict[str, Callable[[Fragment, bytes, bytes], bytes | Fault]]] = {
    BOOLS: _bools,
    BITS: _bits,
    TEXT: _texts,
}
assert ATTRIBUTE not in _CONVERT
