"""Requests to read, and answers of an S7 PLC, checked to the last byte and taken apart per item; pure.

python-snap7 raises for the first item that was refused and gives nothing of the others, and takes the short
answer to a refused single item for a truncated one, which hides the PLC's reason.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from edge_opcua.drivers.s7 import reasons
from edge_opcua.drivers.s7.reasons import Refusal
from edge_opcua.drivers.wire import Fault
from edge_opcua.errors import DeviceError, DeviceRefusedError

_REQUEST: Final = struct.Struct(">BBHHHHBB")
_ADDRESS: Final = struct.Struct(">4sHHI")
_BYTES: Final = b"\x12\x0a\x10\x02"  # variable specification of ten bytes, S7ANY, counted in bytes
_HEADER: Final = struct.Struct(">BBHHHHBB")
_SHORT: Final = struct.Struct(">BBHHHH")
_ITEM: Final = struct.Struct(">BBH")
_PROTOCOL: Final = 0x32
_JOB: Final = 1
_ACK: Final = 2
_ACK_DATA: Final = 3
_USERDATA: Final = 7
_READ: Final = 0x04
_WRITE: Final = 0x05
_SETUP: Final = 0xF0
_OK: Final = 0xFF
_IN_BITS: Final = (0x03, 0x04, 0x05)
_SYSTEM_BYTES: Final = 12
_MOST_JOBS: Final = 8


class HeaderRefusedError(DeviceError):
    """The PLC refused a whole request.

    Args:
        error_class: Error class of the header.
        error_code: Error code of the header.
    """

    def __init__(self, error_class: int, error_code: int) -> None:
        self.refusal: Refusal = reasons.of_header(error_class, error_code)
        self.number = f"{error_class:#04x}/{error_code:#04x}"
        super().__init__(f"{self.refusal.reason.sentence} ({self.number})")

    def fault(self, what: str) -> Fault:
        """Return it as the answer to a read."""
        return self.refusal.fault(what, self.number)


def read_request(sequence: int, items: Sequence[tuple[int, int, int, int]]) -> bytes:
    """Return a request that reads several stretches of bytes.

    Args:
        sequence: Number of the request.
        items: Area code, data block (0 for none), first byte and bytes of each.
    """
    head = _REQUEST.pack(_PROTOCOL, _JOB, 0, sequence, 2 + 12 * len(items), 0, _READ, len(items))
    return head + b"".join(
        [_ADDRESS.pack(_BYTES, size, db, area << 24 | start << 3) for area, db, start, size in items]
    )


def sequence_of(pdu: bytes) -> int:
    """Return the number of a request or an answer; -1 if it is neither."""
    return int.from_bytes(pdu[4:6], "big") if len(pdu) >= _SHORT.size and pdu[0] == _PROTOCOL else -1


def parse_setup(pdu: bytes, sequence: int) -> tuple[int, int]:
    """Return the PDU size that the PLC grants, bytes, and how many requests may be on the way to it.

    Raises:
        DeviceError: The answer is not one to a set-up request.
    """
    parameters, data = _open(pdu, sequence)
    if len(parameters) != 8 or parameters[0] != _SETUP or data:
        raise DeviceError("the PLC did not agree on a PDU size")
    _, _, jobs, _, granted = struct.unpack(">BBHHH", parameters)
    if not 112 <= granted <= 960:
        raise DeviceError(f"the PLC granted a PDU of {granted} bytes")
    return granted, min(max(1, jobs), _MOST_JOBS)


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
            answers.append(reasons.of_item(code).fault(f"read of {name}", f"{code:#04x}"))
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
        raise _refused(exc.refusal, name, exc.number) from exc
    if parameters != bytes((_WRITE, 1)) or len(data) != 1:
        raise DeviceError("the answer is not one to a write of one item")
    if data[0] != _OK:
        raise _refused(reasons.of_item(data[0]), name, f"{data[0]:#04x}")


def parse_system(pdu: bytes, sequence: int) -> tuple[bytes, int]:
    """Return a part of the answer to a system request, and the number to ask for the next; 0: there is none.

    Raises:
        HeaderRefusedError: The PLC has no such thing, or does not tell.
        DeviceError: The answer is not one to this request.
    """
    if len(pdu) < _SHORT.size:
        raise DeviceError(f"{len(pdu)} bytes are no S7 answer")
    protocol, kind, _, number, parameter_bytes, data_bytes = _SHORT.unpack_from(pdu)
    if protocol == _PROTOCOL and kind in (_ACK, _ACK_DATA):
        _open(pdu, sequence)  # says why it was refused
    if (protocol, kind, number) != (_PROTOCOL, _USERDATA, sequence):
        raise DeviceError("the answer is not one to a system request")
    body = pdu[_SHORT.size :]
    if parameter_bytes != _SYSTEM_BYTES or len(body) != parameter_bytes + data_bytes:
        raise DeviceError(f"the answer has {len(body)} bytes, its header says {parameter_bytes + data_bytes}")
    if body[10] or body[11]:
        raise HeaderRefusedError(body[10], body[11])
    if data_bytes < _ITEM.size:
        raise DeviceError("the answer to a system request is empty")
    code, _, length = _ITEM.unpack_from(body, _SYSTEM_BYTES)
    content = body[_SYSTEM_BYTES + _ITEM.size :]
    if code != _OK or length > len(content):
        raise HeaderRefusedError(0xD4, 0x01)
    following = body[7] if body[9] else 0
    return content[:length], following


def _refused(refusal: Refusal, name: str, number: str) -> DeviceRefusedError:
    text = refusal.text(f"write of {name}", number)
    return DeviceRefusedError(text, status=refusal.status, code=refusal.reason.code)


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
