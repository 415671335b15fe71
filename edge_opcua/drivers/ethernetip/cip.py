"""CIP requests and answers: paths, services, several of them in one packet; pure (CIP Vol 1, 1756-PM020)."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from edge_opcua.errors import DeviceError

GET_ATTRIBUTES_ALL: Final = 0x01
MULTIPLE: Final = 0x0A
GET_ATTRIBUTE: Final = 0x0E
SET_ATTRIBUTE: Final = 0x10
READ_TAG: Final = 0x4C
WRITE_TAG: Final = 0x4D
MODIFY_TAG: Final = 0x4E
READ_FRAGMENT: Final = 0x52
LIST_INSTANCES: Final = 0x55

SUCCESS: Final = 0x00
PARTIAL: Final = 0x06
SERVICE_FAILED: Final = 0x1E  # one or more services of a multiple service packet

_REPLY: Final = 0x80
_ROUTER: Final = bytes.fromhex("20022401")
_SEGMENT: Final = re.compile(r"(?P<name>[^\[]+)(?:\[(?P<index>[\d,]*))?")


class Reply(NamedTuple):
    """What came for one service.

    Args:
        status: General status; 0 is success.
        extended: First word of the extended status, 0 if there is none.
        payload: Bytes behind it.
    """

    status: int
    extended: int
    payload: bytes


def _number(code: int, number: int) -> bytes:
    """Return a logical segment: class 0x20, instance 0x24, element 0x28 or attribute 0x30."""
    if number <= 0xFF:
        return bytes((code, number))
    if number <= 0xFFFF:
        return struct.pack("<BBH", code | 1, 0, number)
    return struct.pack("<BBI", code | 2, 0, number)


def _symbol(name: str) -> bytes:
    raw = name.encode("ascii")
    return bytes((0x91, len(raw))) + raw + b"\0" * (len(raw) % 2)


def object_path(cip_class: int, instance: int, attribute: int | None = None) -> bytes:
    """Return the path of an object, or of one of its attributes."""
    path = _number(0x20, cip_class) + _number(0x24, instance)
    return path if attribute is None else path + _number(0x30, attribute)


@lru_cache(maxsize=4096)
def tag_path(path: str, index: int) -> bytes:
    """Return the path of a tag or of an element of it.

    Args:
        path: Names and indices, e.g. ``Program:Main.Pump[3].Level``, or ``T[1,`` of two dimensions.
        index: Element of the last array; 0 is left out, unless ``path`` ends with a comma.
    """
    made = b""
    for part in path.split("."):
        match = _SEGMENT.match(part)
        assert match is not None
        made += _symbol(match["name"])
        for number in (match["index"] or "").split(","):
            if number:
                made += _number(0x28, int(number))
    return made + _number(0x28, index) if index or path.endswith(",") else made


def attribute_path(path: str) -> bytes:
    """Return the path of ``@class/instance/attribute``."""
    cip_class, instance, attribute = (int(part) for part in path[1:].split("/"))
    return object_path(cip_class, instance, attribute)


def service(code: int, path: bytes, payload: bytes = b"") -> bytes:
    """Return one request."""
    return bytes((code, len(path) // 2)) + path + payload


def read_tag(path: bytes, count: int) -> bytes:
    """Return a request for some elements."""
    return service(READ_TAG, path, struct.pack("<H", count))


def read_fragment(path: bytes, count: int, offset: int) -> bytes:
    """Return a request for what lies behind the first ``offset`` bytes of some elements."""
    return service(READ_FRAGMENT, path, struct.pack("<HI", count, offset))


def write_tag(path: bytes, kind: bytes, count: int, payload: bytes) -> bytes:
    """Return a request that writes some elements; ``kind`` is the type as an answer shows it."""
    return service(WRITE_TAG, path, kind + struct.pack("<H", count) + payload)


def modify_tag(path: bytes, ones: int, keep: int, size_bytes: int) -> bytes:
    """Return a request that sets and clears bits of an integer: ``value & keep | ones``."""
    masks = ones.to_bytes(size_bytes, "little") + keep.to_bytes(size_bytes, "little")
    return service(MODIFY_TAG, path, struct.pack("<H", size_bytes) + masks)


def multiple(requests: Sequence[bytes]) -> bytes:
    """Return one request that carries several."""
    at = 2 + 2 * len(requests)
    offsets = []
    for request in requests:
        offsets.append(at)
        at += len(request)
    head = struct.pack(f"<{1 + len(offsets)}H", len(offsets), *offsets)
    return service(MULTIPLE, _ROUTER, head + b"".join(requests))


def parse_reply(raw: bytes, code: int) -> Reply:
    """Read the answer to one request.

    Args:
        raw: Its bytes.
        code: Service that was asked for.

    Raises:
        DeviceError: It is not an answer to that service.
    """
    if len(raw) < 4 or raw[0] != code | _REPLY:
        raise DeviceError(f"the answer begins {raw[:4].hex(' ')}, asked was service 0x{code:02X}")
    words = raw[3]
    if not words:
        return Reply(raw[2], 0, raw[4:])
    if len(raw) < 4 + 2 * words:
        raise DeviceError("the answer ends within its status")
    return Reply(raw[2], raw[4] | raw[5] << 8, raw[4 + 2 * words :])


def parse_multiple(reply: Reply, codes: Sequence[int]) -> list[Reply]:
    """Read the answers that a multiple service packet carries.

    Raises:
        DeviceError: They are not the answers to those services.
    """
    body = reply.payload
    if len(body) < 2 + 2 * len(codes) or body[0] | body[1] << 8 != len(codes):
        raise DeviceError(f"{len(codes)} services were asked for, the answer has {body[:2].hex()}")
    offsets = struct.unpack_from(f"<{len(codes)}H", body, 2)
    ends = (*offsets[1:], len(body))
    answers = []
    for code, start, end in zip(codes, offsets, ends, strict=True):
        if not 2 + 2 * len(codes) <= start <= end <= len(body):
            raise DeviceError("the answers overlap or lie outside their packet")
        answers.append(parse_reply(body[start:end], code))
    return answers
