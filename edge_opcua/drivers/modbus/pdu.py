"""What is asked in one exchange, and the one answer to it that is believed; pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest, ReadDeviceInformationResponse
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from edge_opcua.core.values import BAD_NOT_SUPPORTED
from edge_opcua.drivers.modbus.address import BITS
from edge_opcua.errors import DeviceError, DeviceRefusedError

_READS: Final[dict[str, type[ModbusPDU]]] = {
    "co": ReadCoilsRequest,
    "di": ReadDiscreteInputsRequest,
    "hr": ReadHoldingRegistersRequest,
    "ir": ReadInputRegistersRequest,
}
REFUSED: Final = 0x80
_MAX_WRITE_REGISTERS: Final = 123
_MAX_WRITE_BITS: Final = 1968
_UNKNOWN: Final = -1

Answer: TypeAlias = bytes | int
"""What came: the payload, or the exception code of a refusal."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and what its answer must look like.

    Args:
        unit: Unit that has to answer; 0 lets any.
        pdu: Function code and body, as sent.
        head: Bytes with which the body of the answer begins: a byte count, or the echo of a write.
        size: Bytes of that body in all; negative if the answer itself says so.
        what: What it is about, for messages.
        write: Whether it changes something in the device.
    """

    unit: int
    pdu: bytes
    head: bytes
    size: int
    what: str
    write: bool = False

    @property
    def function(self) -> int:
        """Function code."""
        return self.pdu[0]

    def answer(self, unit: int, pdu: bytes) -> Answer:
        """Return the payload or the exception code of a complete answer.

        Raises:
            DeviceError: It is not the answer to this.
        """
        self.check_head(unit, pdu[0])
        body = pdu[1:]
        if pdu[0] & REFUSED:
            if len(body) != 1:
                raise DeviceError(f"a refusal of {len(pdu)} bytes is not one")
            return body[0]
        if self.size >= 0 and len(body) != self.size:
            raise DeviceError(f"{self.what}: {len(body)} bytes were answered, asked were {self.size}")
        if not body.startswith(self.head):
            said, asked = body[: len(self.head)].hex(), self.head.hex()
            raise DeviceError(f"{self.what}: the answer says {said}, asked was {asked}")
        return body[len(self.head) :]

    def check_head(self, unit: int, function: int) -> None:
        """Refuse, by its first two bytes, what cannot become the answer; DeviceError."""
        if self.unit and unit != self.unit:
            raise DeviceError(f"unit {unit} answered, asked was unit {self.unit}")
        if function & ~REFUSED != self.pdu[0]:
            raise DeviceError(f"function {function} was answered, asked was {self.pdu[0]}")

    def fits(self, frame: bytes | bytearray) -> bool:
        """Return whether the RTU frame that begins so may become the answer; the unit is not looked at."""
        if len(frame) < 2:
            return True
        if frame[1] & ~REFUSED != self.pdu[0]:
            return False
        return bool(frame[1] & REFUSED) or self.head.startswith(bytes(frame[2 : 2 + len(self.head)]))

    def rtu_size(self, frame: bytes | bytearray) -> int:
        """Return how long the RTU answer will be that begins so; more than there is while unknown.

        Args:
            frame: Unit, function code and whatever else has come; at least these two.
        """
        if frame[1] & REFUSED:
            return 5
        if self.size >= 0:
            return self.size + 4
        return int(ReadDeviceInformationResponse.calculateRtuFrameSize(bytes(frame)))


@lru_cache(maxsize=4096)  # a plan asks the same thing again and again
def ask_read(unit: int, area: str, start: int, size: int) -> Ask:
    """Return the request for registers or bits."""
    payload_bytes = (size + 7) // 8 if area in BITS else 2 * size
    pdu = _encoded(_READS[area](address=start, count=size))
    return Ask(unit, pdu, bytes((payload_bytes,)), 1 + payload_bytes, f"unit {unit} {area}:{start}")


def ask_identity(unit: int, first: int = 0) -> Ask:
    """Return the request for the basic identification objects (43/14), from an object on."""
    pdu = _encoded(ReadDeviceInformationRequest(read_code=1, object_id=first))
    return Ask(unit, pdu, b"\x0e\x01", _UNKNOWN, f"unit {unit} identification")


@lru_cache(maxsize=256)
def ask_echo(unit: int) -> Ask:
    """Return the request that a unit of a serial line sends back as it is (8/0), or refuses."""
    echo = b"\0\0\xa5\x37"
    return Ask(unit, b"\x08" + echo, echo, len(echo), f"unit {unit} echo")


def ask_write_bits(unit: int, start: int, bits: Sequence[bool]) -> Ask:
    """Return the request that sets coils; DeviceRefusedError if they do not fit into one."""
    if len(bits) > _MAX_WRITE_BITS:
        raise DeviceRefusedError(f"one request writes {_MAX_WRITE_BITS} coils", status=BAD_NOT_SUPPORTED)
    if len(bits) == 1:
        echo = struct.pack(">HH", start, 0xFF00 if bits[0] else 0)
        return _write(unit, WriteSingleCoilRequest(address=start, bits=bits), echo, f"co:{start}")
    echo = struct.pack(">HH", start, len(bits))
    return _write(unit, WriteMultipleCoilsRequest(address=start, bits=bits), echo, f"co:{start}")


def ask_write_registers(unit: int, start: int, registers: Sequence[int]) -> Ask:
    """Return the request that sets registers; DeviceRefusedError if they do not fit into one."""
    if len(registers) > _MAX_WRITE_REGISTERS:
        raise DeviceRefusedError(
            f"one request writes {_MAX_WRITE_REGISTERS} registers", status=BAD_NOT_SUPPORTED
        )
    if len(registers) == 1:
        echo = struct.pack(">HH", start, registers[0])
        pdu: ModbusPDU = WriteSingleRegisterRequest(address=start, registers=registers)
    else:
        echo = struct.pack(">HH", start, len(registers))
        pdu = WriteMultipleRegistersRequest(address=start, registers=registers)
    return _write(unit, pdu, echo, f"hr:{start}")


def ask_mask(unit: int, start: int, keep: int, ones: int) -> Ask:
    """Return the request that changes some bits of a register: ``now & keep | ones & ~keep`` (6.16)."""
    echo = struct.pack(">HHH", start, keep, ones)
    return _write(
        unit, MaskWriteRegisterRequest(address=start, and_mask=keep, or_mask=ones), echo, f"hr:{start}"
    )


def identity_objects(payload: bytes) -> tuple[dict[int, str], int]:
    """Return the identification objects of an answer, and the next object to ask for or 0.

    Raises:
        DeviceError: The objects do not fill the answer.
    """
    if len(payload) < 4:
        raise DeviceError("the identification ends too early")
    more, following, count = payload[1:4]
    objects, at = {}, 4
    for _ in range(count):
        if at + 2 > len(payload) or at + 2 + payload[at + 1] > len(payload):
            raise DeviceError("the identification ends too early")
        number, size = payload[at], payload[at + 1]
        objects[number] = payload[at + 2 : at + 2 + size].decode("utf-8", "replace").strip("\0 ")
        at += 2 + size
    return objects, following if more == 0xFF else 0


def _write(unit: int, pdu: ModbusPDU, echo: bytes, what: str) -> Ask:
    return Ask(unit, _encoded(pdu), echo, len(echo), f"unit {unit} {what}", write=True)


def _encoded(pdu: ModbusPDU) -> bytes:
    return bytes((pdu.function_code,)) + pdu.encode()
