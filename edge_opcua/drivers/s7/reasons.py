"""Why an S7 CPU says no: a stable code, a sentence, and what to do in TIA Portal, LOGO!Soft or with hands.

The numbers are those of the S7 protocol: return codes of data items, error class and code of a header, error
codes of system requests, and the reason of a refused ISO transport connection (ISO 8073 §13.5.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_OUT_OF_RANGE,
    BAD_USER_ACCESS_DENIED,
)
from edge_opcua.drivers.reasons import Reason
from edge_opcua.drivers.wire import Fault, FaultKind

_STANDARD: Final = 'clear "Optimized block access" of the block'


@dataclass(frozen=True, slots=True)
class Refusal:
    """What one code of the protocol means.

    Args:
        kind: What follows for the tags.
        status: StatusCode of a write that got it.
        reason: For people.
    """

    kind: FaultKind
    status: int
    reason: Reason

    def text(self, what: str, code: str) -> str:
        """Return the whole message, e.g. of ``read of DB10``."""
        return f"{self.reason.code} {what}: {self.reason.sentence} ({code}): {self.reason.step}"

    def fault(self, what: str, code: str) -> Fault:
        """Return it as the answer to a read."""
        return Fault(self.kind, self.text(what, code))


DENIED: Final = Refusal(
    FaultKind.DENIED,
    BAD_USER_ACCESS_DENIED,
    Reason(
        "D331",
        'access denied: PUT/GET is off in the CPU, or the block has "optimized block access"',
        f"in TIA Portal permit PUT/GET, {_STANDARD}, download both",
    ),
)
_ABSENT: Final = Refusal(
    FaultKind.DENIED,
    BAD_CONFIGURATION_ERROR,
    Reason(
        "D331",
        'the block does not exist, or has "optimized block access"',
        f"compare its number with TIA Portal, {_STANDARD}, download it",
    ),
)
_BEYOND: Final = Refusal(
    FaultKind.ADDRESS,
    BAD_CONFIGURATION_ERROR,
    Reason("D332", "address out of range", "compare number and length of the block with TIA Portal"),
)
_TYPE: Final = Refusal(
    FaultKind.ADDRESS,
    BAD_CONFIGURATION_ERROR,
    Reason("D334", "type not supported", "read it as BYTE, WORD or DWORD"),
)
_SIZE: Final = Refusal(
    FaultKind.ADDRESS,
    BAD_OUT_OF_RANGE,
    Reason("D334", "type inconsistent", "compare type and length with TIA Portal"),
)
_HARDWARE: Final = Refusal(
    FaultKind.DEVICE,
    BAD_DEVICE_FAILURE,
    Reason("D344", "hardware error", "look at the diagnostic buffer of the CPU"),
)
_BUSY: Final = Refusal(
    FaultKind.BUSY,
    BAD_DEVICE_FAILURE,
    Reason("D335", "the CPU has no resources free", "close other connections, or poll slower"),
)
_PROTECTED: Final = Refusal(
    FaultKind.DENIED,
    BAD_USER_ACCESS_DENIED,
    Reason("D336", "the protection level of the CPU forbids it", "lower the access level in TIA Portal"),
)
_SERVICE: Final = Refusal(
    FaultKind.DEVICE,
    BAD_DEVICE_FAILURE,
    Reason("D337", "the CPU cannot do this request", "lower pdu or parallel in the options"),
)
_UNKNOWN: Final = Refusal(
    FaultKind.DEVICE,
    BAD_DEVICE_FAILURE,
    Reason("D340", "unknown refusal", "look the code up in the manual of the CPU"),
)

_ITEMS: Final[dict[int, Refusal]] = {
    0x01: _HARDWARE,
    0x03: DENIED,
    0x05: _BEYOND,
    0x06: _TYPE,
    0x07: _SIZE,
    0x0A: _ABSENT,
}
# By error class; single codes of it first.
_HEADERS: Final[dict[tuple[int, int] | int, Refusal]] = {
    (0x81, 0x04): DENIED,
    0x81: _SERVICE,
    0x82: _ABSENT,
    0x83: _BUSY,
    0x84: _SERVICE,
    0x85: _SERVICE,
    0x87: DENIED,
    (0xD2, 0x41): _PROTECTED,
    (0xD4, 0x01): _SERVICE,  # no such system status list
    (0xD4, 0x02): _SERVICE,  # or not this part of it
    (0xD6, 0x01): _PROTECTED,
    (0xD6, 0x02): _PROTECTED,  # wrong password
}

STOPPED: Final = Reason("D333", "is in STOP: values do not change", "look at its diagnostic buffer")

_NO_CPU: Final = Reason(
    "D320", "has no CPU at this rack and slot, or not with this TSAP", "try slot=1, slot=2 or slot=0"
)
_NO_CONNECTION: Final = Reason(
    "D321", "has no connection left", "close other clients (HMI, PG) or raise their number in TIA Portal"
)
_TRANSPORT: Final[dict[int, Reason]] = {
    0x01: _NO_CONNECTION,  # congestion at the TSAP
    0x02: _NO_CPU,  # session entity not attached to the TSAP
    0x03: _NO_CPU,  # address unknown
    0x85: _NO_CONNECTION,
    0x87: _NO_CONNECTION,  # reference overflow
    0x88: _NO_CONNECTION,  # refused on this network connection
}


def of_item(code: int) -> Refusal:
    """Return what the return code of a data item means."""
    return _ITEMS.get(code, _UNKNOWN)


def of_header(error_class: int, error_code: int) -> Refusal:
    """Return what error class and code of a header, or of a system request, mean."""
    return _HEADERS.get((error_class, error_code)) or _HEADERS.get(error_class, _UNKNOWN)


def of_transport(code: int) -> Reason:
    """Return why the transport connection was refused."""
    return _TRANSPORT.get(code, _NO_CPU)
