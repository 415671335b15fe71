"""The messages of the control channel and their form on the wire, without any I/O.

A frame is a length (uint32, big-endian) and that many bytes of JSON, at most :data:`MAX_FRAME_BYTES`::

    {"v":1, "t":"request", "id":7, "to":"io", "kind":"write", "origin":"opcua", "timeout_s":2.0, "body":{…}}
    {"v":1, "t":"reply",   "id":7, "status":0, "reason":"", "body":{…}}
    {"v":1, "t":"notify",  "to":"records", "kind":"audit", "origin":"opcua", "body":{…}}
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_TIMEOUT,
    BAD_USER_ACCESS_DENIED,
    GOOD,
    is_bad,
)
from edge_opcua.errors import (
    ConfigError,
    ControlError,
    DeviceError,
    DeviceRefusedError,
    DeviceTimeoutError,
    EdgeError,
    SecurityError,
    WriteRejectedError,
)

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20
MAX_TIMEOUT_S: Final = 3600.0

_LENGTH: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Request:
    """A request or notification as its handler sees it.

    Args:
        to: Role it is addressed to.
        kind: What is asked for, e.g. ``write``.
        body: Its arguments, JSON types.
        origin: Role of the sender, vouched for by the hub.
        timeout_s: Time the sender gave it; a handler that takes longer is cancelled.
        reply_wanted: False for a notification.
    """

    to: str
    kind: str
    body: dict[str, Any]
    origin: str = ""
    timeout_s: float = 60.0
    reply_wanted: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request.

    Args:
        status: OPC UA StatusCode.
        reason: One sentence for people; empty when all is well.
        body: What was asked for, JSON types.
    """

    status: int = GOOD
    reason: str = ""
    body: dict[str, Any] = field(default_factory=dict)


Message: TypeAlias = dict[str, Any]


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as a frame.

    Raises:
        ControlError: It holds something that JSON has no form for, or is too long.
    """
    try:
        text = json.dumps({"v": VERSION, **message}, separators=(",", ":"), default=json_plain).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ControlError(f"a message cannot be written as JSON: {exc}") from exc
    if len(text) > MAX_FRAME_BYTES:
        raise ControlError(f"a message of {len(text)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(text)) + text


def json_plain(value: object) -> object:
    """Return what JSON has a form for, instead of numpy's own types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON type")


class Decoder:
    """Cuts a stream of bytes into messages, however it arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[Message]:
        """Return the messages completed by ``chunk``.

        Raises:
            ControlError: The stream is not of this protocol; nothing after it can be read.
        """
        self._rest += chunk
        found: list[Message] = []
        at = 0
        while len(self._rest) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._rest, at)
            if size > MAX_FRAME_BYTES:
                raise ControlError(f"a frame claims {size} bytes, the limit is {MAX_FRAME_BYTES}")
            end = at + _LENGTH.size + size
            if len(self._rest) < end:
                break
            found.append(_checked(bytes(self._rest[at + _LENGTH.size : end])))
            at = end
        del self._rest[:at]
        return found


_FIELDS: Final[dict[str, dict[str, type | tuple[type, ...]]]] = {
    "request": {"id": int, "to": str, "kind": str, "origin": str, "timeout_s": (int, float), "body": dict},
    "reply": {"id": int, "status": int, "reason": str, "body": dict},
    "notify": {"to": str, "kind": str, "origin": str, "body": dict},
}


def _checked(text: bytes) -> Message:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ControlError(f"a frame does not hold JSON: {exc}") from exc
    if not isinstance(message, dict):
        raise ControlError("a frame holds no JSON object")
    if message.get("v") != VERSION:
        raise ControlError(f"a frame has version {message.get('v')!r}, this program speaks {VERSION}")
    kind = message.get("t")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise ControlError(f"a frame has the unknown type {kind!r}")
    for name, types in fields.items():
        value = message.get(name)
        if not isinstance(value, types) or isinstance(value, bool):
            raise ControlError(f"a {kind} has no proper {name!r}")
    if kind == "request" and not 0 <= message["timeout_s"] <= MAX_TIMEOUT_S:
        raise ControlError(f"a request has a timeout of {message['timeout_s']} s")
    if kind == "reply" and not 0 <= message["status"] < 1 << 32:
        raise ControlError(f"a reply has the status {message['status']}")
    return message


def refusal(exc: EdgeError) -> Reply:
    """Return the reply that tells a caller about an error of ours."""
    if isinstance(exc, WriteRejectedError | DeviceRefusedError):
        status = exc.status if is_bad(exc.status) else BAD_INTERNAL_ERROR
    elif isinstance(exc, SecurityError):
        return Reply(BAD_USER_ACCESS_DENIED, "not allowed")  # the exact reason is for the log only
    elif isinstance(exc, DeviceTimeoutError):
        status = BAD_TIMEOUT
    elif isinstance(exc, DeviceError):
        status = BAD_COMMUNICATION_ERROR
    elif isinstance(exc, ConfigError):
        status = BAD_CONFIGURATION_ERROR
    else:
        status = BAD_INTERNAL_ERROR
    return Reply(status, str(exc))


def request_message(number: int, request: Request) -> Message:
    """Return a request as a message."""
    return {
        "t": "request",
        "id": number,
        "to": request.to,
        "kind": request.kind,
        "origin": request.origin,
        "timeout_s": request.timeout_s,
        "body": request.body,
    }


def reply_message(number: int, reply: Reply) -> Message:
    """Return a reply as a message."""
    return {"t": "reply", "id": number, "status": reply.status, "reason": reply.reason, "body": reply.body}


def notify_message(request: Request) -> Message:
    """Return a notification as a message."""
    return {
        "t": "notify",
        "to": request.to,
        "kind": request.kind,
        "origin": request.origin,
        "body": request.body,
    }


def late(request: Request) -> Reply:
    """Return the reply to a request that was not answered in time."""
    return Reply(BAD_TIMEOUT, f"{request.to} did not answer {request.kind} in {request.timeout_s:g} s")
