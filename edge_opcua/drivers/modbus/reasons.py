"""What a Modbus exception means: for the tag, for a write, and for who stands before the device; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_INVALID_STATE,
    BAD_NO_COMMUNICATION,
    BAD_OUT_OF_RANGE,
)
from edge_opcua.drivers.reasons import Reason
from edge_opcua.drivers.wire import Fault, FaultKind


@dataclass(frozen=True, slots=True)
class Refusal:
    """One exception code.

    Args:
        kind: What the poller makes of it.
        status: StatusCode of a write that was refused with it.
        reason: Code, sentence and step.
    """

    kind: FaultKind
    status: int
    reason: Reason

    def text(self, what: str, code: int) -> str:
        """Return the whole text.

        Args:
            what: What was asked for, e.g. ``unit 1 hr:100``.
            code: The exception code, shown in brackets.
        """
        told = Reason(self.reason.code, f"{self.reason.sentence} (Modbus exception {code})", self.reason.step)
        return told.of(what)

    def fault(self, what: str, code: int) -> Fault:
        """Return the answer to a read."""
        return Fault(self.kind, self.text(what, code))


def _refusal(kind: FaultKind, status: int, code: str, sentence: str, step: str) -> Refusal:
    return Refusal(kind, status, Reason(code, sentence, step))


# Application protocol V1.1b3 §7.
EXCEPTIONS: Final[dict[int, Refusal]] = {
    1: _refusal(
        FaultKind.ADDRESS,
        BAD_CONFIGURATION_ERROR,
        "D342",
        "illegal function",
        "try hr instead of ir, co instead of di; for a bit bit_writes",
    ),
    2: _refusal(
        FaultKind.ADDRESS,
        BAD_CONFIGURATION_ERROR,
        "D341",
        "illegal data address",
        "try the number minus one; check area and unit with the manual",
    ),
    3: _refusal(
        FaultKind.ADDRESS,
        BAD_OUT_OF_RANGE,
        "D343",
        "illegal data value",
        "lower max_registers; check the range of the value",
    ),
    4: _refusal(
        FaultKind.DEVICE, BAD_DEVICE_FAILURE, "D344", "device failure", "look at the device's own diagnosis"
    ),
    5: _refusal(
        FaultKind.BUSY,
        BAD_INVALID_STATE,
        "D345",
        "accepted, still working",
        "poll slower; raise busy_wait_ms",
    ),
    6: _refusal(FaultKind.BUSY, BAD_INVALID_STATE, "D345", "device busy", "poll slower; raise busy_wait_ms"),
    7: _refusal(
        FaultKind.DEVICE,
        BAD_DEVICE_FAILURE,
        "D347",
        "negative acknowledge",
        "look at its mode switch and diagnosis",
    ),
    8: _refusal(
        FaultKind.DEVICE,
        BAD_DEVICE_FAILURE,
        "D344",
        "memory parity error",
        "switch it off and on; replace it",
    ),
    9: _refusal(
        FaultKind.DEVICE,
        BAD_DEVICE_FAILURE,
        "D340",
        "reserved exception",
        "look it up in the device's manual",
    ),
    10: _refusal(
        FaultKind.ABSENT,
        BAD_NO_COMMUNICATION,
        "D346",
        "gateway has no path to the unit",
        "check the unit number and the routing of the gateway",
    ),
    11: _refusal(
        FaultKind.ABSENT,
        BAD_NO_COMMUNICATION,
        "D346",
        "unit behind the gateway does not answer",
        "check its power, address switch, wiring and the gateway's baud rate",
    ),
}
_OTHER: Final = _refusal(
    FaultKind.DEVICE, BAD_DEVICE_FAILURE, "D340", "unknown exception", "look it up in the device's manual"
)
ABSENT: Final = Reason(
    "D349", "is silent while others on its line answer", "check its power, address switch and wiring"
)
CHECKSUM: Final = Reason(
    "D348", "answers with a wrong checksum", "check baud, parity, termination and shield of the line"
)
ECHO: Final = Reason("D355", "line does not bring back what was sent", "check A and B; set echo to false")
DEAD: Final = Reason(
    "D356", "line has fallen silent, no unit answers", "look at the gateway, its plug and A/B"
)


def refusal(code: int) -> Refusal:
    """Return what an exception code means."""
    return EXCEPTIONS.get(code, _OTHER)
