"""What CIP's status codes mean for a tag or a link: kind of fault, status of a write, stable code, words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_INVALID_STATE,
    BAD_NOT_SUPPORTED,
    BAD_OUT_OF_RANGE,
    BAD_TYPE_MISMATCH,
    BAD_USER_ACCESS_DENIED,
)
from edge_opcua.drivers.ethernetip.cip import Reply
from edge_opcua.drivers.wire import Fault, FaultKind


@dataclass(frozen=True, slots=True)
class Reason:
    """What one status means.

    Args:
        kind: What it means for a read.
        status: StatusCode of a write that was refused so.
        code: Stable code.
        text: In words.
    """

    kind: FaultKind
    status: int
    code: str
    text: str


def _path(text: str) -> Reason:
    return Reason(FaultKind.ADDRESS, BAD_CONFIGURATION_ERROR, "D363", text)


def _busy(text: str) -> Reason:
    return Reason(FaultKind.BUSY, BAD_INVALID_STATE, "D368", text)


def _denied(text: str, status: int = BAD_USER_ACCESS_DENIED) -> Reason:
    return Reason(FaultKind.DENIED, status, "D366", text)


def _unsupported(text: str) -> Reason:
    return Reason(FaultKind.DENIED, BAD_NOT_SUPPORTED, "D367", text)


def _device(text: str) -> Reason:
    return Reason(FaultKind.DEVICE, BAD_DEVICE_FAILURE, "D369", text)


NO_SUCH_OBJECT: Final = "the device has no such object"
NO_SUCH_TAG: Final = "the controller has no such tag, or its External Access is None"
BEYOND_END: Final = Reason(FaultKind.ADDRESS, BAD_OUT_OF_RANGE, "D365", "beyond the end of the array")
TYPE_MISMATCH: Final = Reason(FaultKind.DENIED, BAD_TYPE_MISMATCH, "D364", "the tag has another type")

# CIP Vol 1 appendix B-1; 1756-PM020 on Logix.
GENERAL: Final[dict[int, Reason]] = {
    0x01: _busy("the connection behind the device failed"),
    0x02: _busy("out of resources"),
    0x03: Reason(FaultKind.ADDRESS, BAD_OUT_OF_RANGE, "D369", "invalid parameter value"),
    0x04: _path(NO_SUCH_TAG),
    0x05: _path(NO_SUCH_TAG),
    0x08: _unsupported("service not supported"),
    0x09: Reason(FaultKind.DEVICE, BAD_OUT_OF_RANGE, "D369", "invalid attribute value"),
    0x0B: _device("already in that state"),
    0x0C: _denied("not allowed in the present state of the object", BAD_INVALID_STATE),
    0x0E: _denied("the attribute cannot be written"),
    0x0F: _denied("privilege violation: External Access is Read Only or None"),
    0x10: _denied(
        "not allowed in the present state of the device: look at its key switch", BAD_INVALID_STATE
    ),
    0x11: Reason(FaultKind.ADDRESS, BAD_NOT_SUPPORTED, "D369", "the answer is too large"),
    0x13: _device("not enough data"),
    0x14: _unsupported("attribute not supported"),
    0x15: Reason(FaultKind.DEVICE, BAD_OUT_OF_RANGE, "D369", "too much data"),
    0x16: _path(NO_SUCH_OBJECT),
    0x19: _device("the value could not be stored"),
    0x1C: _unsupported("the attributes cannot be read together"),
    0x20: Reason(FaultKind.ADDRESS, BAD_OUT_OF_RANGE, "D369", "invalid parameter"),
    0x26: _path("the path has another length than it says"),
}
_EXTENDED: Final[dict[tuple[int, int], Reason]] = {
    (0xFF, 0x2104): BEYOND_END,
    (0xFF, 0x2105): BEYOND_END,
    (0xFF, 0x2107): TYPE_MISMATCH,
}
_UNKNOWN: Final = _device("unknown status")

# Connection manager (CIP Vol 1 table 3-5.29): extended status behind general status 0x01.
CONNECTION: Final[dict[int, tuple[str, str]]] = {
    0x0100: ("D362", "a connection of this name is still open in the device"),
    0x0106: ("D362", "another device owns the connection"),
    0x0107: ("D362", "the device knows no such connection"),
    0x0108: ("D362", "the device does not take this kind of connection"),
    0x0109: ("D362", "the device does not take a connection of this size"),
    0x0111: ("D362", "the device does not take this interval"),
    0x0113: ("D362", "the device has no connection left"),
    0x0203: ("D368", "the connection timed out"),
    0x0204: ("D361", "nobody answered at the end of the route: no module in that slot, or it is starting"),
    0x0205: ("D361", "the route is not understood"),
    0x0301: ("D362", "the device has no memory left for a connection"),
    0x0302: ("D362", "the device has no bandwidth left"),
    0x0311: ("D361", "the device has no such port"),
    0x0312: ("D361", "no module in that slot"),
    0x0315: ("D361", "the route has a segment that the device does not know"),
    0x0317: ("D362", "the device takes no connection in this state"),
    0x0318: ("D361", "the route leads back to where it begins"),
}

# Encapsulation (CIP Vol 2 table 2-3.3).
ENCAPSULATION: Final[dict[int, str]] = {
    0x0001: "it does not know this command",
    0x0002: "it is out of memory",
    0x0003: "it could not read the data",
    0x0064: "the session is not valid any more",
    0x0065: "the length is wrong",
    0x0069: "it speaks another version of the protocol",
}


def reason_of(reply: Reply) -> Reason:
    """Return what the status of an answer means."""
    special = _EXTENDED.get((reply.status, reply.extended))
    return special or GENERAL.get(reply.status, _UNKNOWN)


def status_text(reply: Reply) -> str:
    """Return the numbers of a status, e.g. ``CIP status 0xFF/0x2105``."""
    return f"CIP status 0x{reply.status:02X}" + (f"/0x{reply.extended:04X}" if reply.extended else "")


def fault_of(reply: Reply, what: str) -> Fault:
    """Return the refusal that an answer is.

    Args:
        reply: The answer.
        what: What was asked, e.g. ``read of Pump.Speed``.
    """
    reason = reason_of(reply)
    text = NO_SUCH_OBJECT if "@" in what and reason.text == NO_SUCH_TAG else reason.text
    return Fault(reason.kind, f"{reason.code} {what}: {text} ({status_text(reply)})")


def connection_refusal(reply: Reply) -> tuple[str, str]:
    """Return code and sentence of what the connection manager said."""
    if reply.status == 0x01 and reply.extended in CONNECTION:
        code, text = CONNECTION[reply.extended]
    else:
        reason = reason_of(reply)
        code, text = ("D362", "out of resources") if reply.status == 0x02 else (reason.code, reason.text)
    return code, f"{text} ({status_text(reply)})"


def is_route_failure(reply: Reply) -> bool:
    """Return whether it was not the device that refused, but something on the way to it."""
    return reply.status == 0x01 and reply.extended in CONNECTION
