"""Answers of an S7 PLC, checked to the last byte and taken apart per item; pure.

python-snap7 raises for the first item that was refused and gives nothing of the others, and takes the short
answer to a refused single item for a truncated one, which hides the PLC's reason.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_OUT_OF_RANGE,
    BAD_USER_ACCESS_DENIED,
)
from edge_opcua.drivers.wire import Fault, FaultKind
from edge_opcua.errors import DeviceError, DeviceRefusedError

_HEADER: Final = struct.Struct(">BBHHHHBB")
_ITEM: Final = struct.Struct(">BBH")
_PROTOCOL: Final = 0x32
_ACK: Final = 2
_ACK_DATA: Final = 3
_READ: Final = 0x04
_WRITE: Final = 0x05
_SETUP: Final = 0xF0
_OK: Final = 0xFF
_IN_BITS: Final = (0x03, 0x04, 0x05)
_DENIED_HEADER: Final = (0x81, 0x04)

DENIED: Final = 'access denied: PUT/GET is off in the CPU, or the block has "optimized block access"'

_ITEM_CODES: Final[dict[int, tuple[FaultKind, int, str]]] = {
    0x01: (FaultKind.DEVICE, BAD_DEVICE_FAILURE, "hardware error"),
    0x03: (FaultKind.DENIED, BAD_USER_ACCESS_DENIED, DENIED),
    0x05: (FaultKind.ADDRESS, BAD_CONFIGURATION_ERROR, "address out of range"),
    0x06: (FaultKind.ADDRESS, BAD_CONFIGURATION_ERROR, "type not supported"),
    0x07: (FaultKind.ADDRESS, BAD_OUT_OF_RANGE, "type inconsistent"),
    0x0A: (
        FaultKind.DENIED,
        BAD_CONFIGURATION_ERROR,
        'block does not exist, or has "optimized block access"',
    ),
}

_STABLE: Final = {0x01: "D344", 0x03: "D331", 0x05: "D332", 0x0A: "D331"}


class HeaderRefusedError(DeviceError):
    """The PLC refused a whole request.

    Args:
        error_class: Error class of the header.
        error_code: Error code of the header.
    """

    def __init__(self, error_class: int, error_code: int) -> None:
        self.denied = (error_class, error_code) == _DENIED_HEADER
        self.reason = DENIED if self.denied else "refused"
        super().__init__(f"{self.reason} ({error_class:#04x}/{error_code:#04x})")


def parse_setup(pdu: bytes, sequence: int) -> int:
    """Return the PDU size that the PLC grants, bytes.

    Raises:
        DeviceError: The answer is not one to a set-up request.
    """
    parameters, data = _open(pdu, sequence)
    if len(parameters) != 8 or parameters[0] != _SETUP or data:
        raise DeviceError("the PLC did not agree on a PDU size")
    granted = int.from_bytes(parameters[6:8], "big")
    if not 112 <= granted <= 960:
        raise DeviceError(f"the PLC granted a PDU of {granted} bytes")
    return granted


def parse_read(pdu: bytes, sequence: int, names: Sequence[str], sizes: Sequence[int]) -> list[bytes | Fault]:
    """Return the bytes, or the refusal, of each item of a read.

    Args:
        pdu: The answer.
        sequence: Number of the request.
        names: What each item is called, for messages.
        sizes: Bytes asked for.

    Raises:
        HeaderRefusedError: The whole request was refused.
        DeviceError: The answer is not one to this request.
    """
    parameters, data = _open(pdu, sequence)
    if parameters != bytes((_READ, len(sizes))):
        raise DeviceError(f"the answer has parameters {parameters.hex()}, asked was a read of {len(sizes)}")
    answers: list[bytes | Fault] = []
    at = 0
    for name, size in zip(names, sizes, strict=True):
        if at + _ITEM.size > len(data):
            raise DeviceError("the answer ends before its last item")
        code, kind, length = _ITEM.unpack_from(data, at)
        at += _ITEM.size
        if code != _OK:
            answers.append(_fault(code, f"read of {name}"))
            continue
        size_bytes = length // 8 if kind in _IN_BITS else length
        if size_bytes != size or at + size > len(data):
            raise DeviceError(f"{size_bytes} bytes of {name} were answered, asked were {size}")
        answers.append(data[at : at + size])
        at += size + (size % 2 if len(answers) < len(sizes) else 0)
    if len(data) - at not in (0, 1):  # some CPUs pad the last item too
        raise DeviceError(f"{len(data) - at} bytes follow the answer")
    return answers


def parse_write(pdu: bytes, sequence: int, name: str) -> None:
    """Check that a write of one item was taken.

    Raises:
        DeviceRefusedError: The PLC said no.
        DeviceError: The answer is not one to this request.
    """
    try:
        parameters, data = _open(pdu, sequence)
    except HeaderRefusedError as exc:
        status = BAD_USER_ACCESS_DENIED if exc.denied else BAD_DEVICE_FAILURE
        code = "D331" if exc.denied else "D340"
        raise DeviceRefusedError(f"{code} write of {name}: {exc}", status=status, code=code) from exc
    if parameters != bytes((_WRITE, 1)) or len(data) != 1:
        raise DeviceError("the answer is not one to a write of one item")
    if data[0] != _OK:
        fault = _fault(data[0], f"write of {name}")
        status = _ITEM_CODES.get(data[0], (None, BAD_DEVICE_FAILURE, ""))[1]
        raise DeviceRefusedError(fault.reason, status=status, code=fault.reason[:4])


def _open(pdu: bytes, sequence: int) -> tuple[bytes, bytes]:
    """Return parameters and data of an answer to one request."""
    if len(pdu) < _HEADER.size:
        raise DeviceError(f"{len(pdu)} bytes are no S7 answer")
    protocol, kind, _, number, parameter_bytes, data_bytes, error_class, error_code = _HEADER.unpack_from(pdu)
    if protocol != _PROTOCOL or kind not in (_ACK, _ACK_DATA):
        raise DeviceError(f"the answer is not S7 (it starts {pdu[:4].hex(' ')})")
    if number != sequence:
        raise DeviceError(f"request {number} was answered, asked was {sequence}")
    if error_class or error_code:
        raise HeaderRefusedError(error_class, error_code)
    body = pdu[_HEADER.size :]
    if len(body) != parameter_bytes + data_bytes:
        raise DeviceError(f"the answer has {len(body)} bytes, its header says {parameter_bytes + data_bytes}")
    return body[:parameter_bytes], body[parameter_bytes:]


def _fault(code: int, what: str) -> Fault:
    kind, _, text = _ITEM_CODES.get(code, (FaultKind.DEVICE, 0, "unknown refusal"))
    return Fault(kind, f"{_STABLE.get(code, 'D340')} {what}: {text} ({code:#04x})")
