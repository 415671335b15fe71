"""One Modbus TCP connection over pymodbus, which gets no say in retries, reconnects and what is believed.

pymodbus 3.16.1 takes an answer with transaction id 0 or another function code for the right one, does not
compare lengths, waits the whole timeout when the peer has closed, and lets a frame it cannot decode escape
into the event loop with a traceback. So every frame is checked here before pymodbus sees it, and any fault
costs the connection: after that, no late answer can be taken for a newer one.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_INVALID_STATE,
    BAD_NOT_SUPPORTED,
    BAD_OUT_OF_RANGE,
)
from edge_opcua.drivers.codec import BitCodec
from edge_opcua.drivers.modbus.address import BITS, ModbusAddress
from edge_opcua.drivers.modbus.settings import Endpoint, ModbusOptions, ModbusShape
from edge_opcua.drivers.planner import Fragment, Place, Request
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Traffic
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError

_READS: Final[dict[str, type[ModbusPDU]]] = {
    "co": ReadCoilsRequest,
    "di": ReadDiscreteInputsRequest,
    "hr": ReadHoldingRegistersRequest,
    "ir": ReadInputRegistersRequest,
}
_MBAP: Final = struct.Struct(">HHHBB")
_MAX_LENGTH: Final = 254
_EXCEPTION: Final = 0x80
_MAX_WRITE_REGISTERS: Final = 123
_MAX_WRITE_BITS: Final = 1968

# Application protocol V1.1b3 §7. What a device means by each, and the status of a refused write.
_CODES: Final[dict[int, tuple[FaultKind, int, str]]] = {
    1: (FaultKind.ADDRESS, BAD_CONFIGURATION_ERROR, "illegal function"),
    2: (FaultKind.ADDRESS, BAD_CONFIGURATION_ERROR, "illegal data address"),
    3: (FaultKind.ADDRESS, BAD_OUT_OF_RANGE, "illegal data value"),
    4: (FaultKind.DEVICE, BAD_DEVICE_FAILURE, "device failure"),
    5: (FaultKind.BUSY, BAD_INVALID_STATE, "accepted, still working"),
    6: (FaultKind.BUSY, BAD_INVALID_STATE, "device busy"),
    8: (FaultKind.DEVICE, BAD_DEVICE_FAILURE, "memory parity error"),
}
_STABLE: Final = {1: "D342", 2: "D341", 3: "D343", 4: "D344", 5: "D345", 6: "D345", 8: "D344"}
_GATEWAY: Final = {
    10: "the gateway has no path to the unit",
    11: "the unit behind the gateway does not answer",
}

# Everything pymodbus would log is said once per outage by the poller; its own lines come per request.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class _Expected:
    """The one answer that is believed.

    Args:
        unit: Unit that has to answer; 0 lets any.
        function: Function code asked for.
        payload_bytes: Bytes of a read's payload, or -1 for a write, whose answer repeats the request.
        echo: Body that the answer to a write has to repeat.
        transaction: Number of the request; known once it is sent.
        payload: What came.
    """

    unit: int
    function: int
    payload_bytes: int
    echo: bytes = b""
    transaction: int = -1
    payload: bytes = field(default=b"")


class ModbusWire:
    """One connection to one Modbus TCP device.

    Args:
        endpoint: Where the device is.
        shape: Limits of a request.
        options: Settings of the device.
        timeout_s: Deadline of one request, seconds.
        clock: Clock for pauses between attempts at a busy device.
    """

    def __init__(
        self, endpoint: Endpoint, shape: ModbusShape, options: ModbusOptions, timeout_s: float, clock: Clock
    ) -> None:
        self.shape = shape
        self.traffic = Traffic()
        self._endpoint = endpoint
        self._options = options
        self._timeout_s = timeout_s
        self._clock = clock
        self._client: AsyncModbusTcpClient | None = None
        self._expected: _Expected | None = None
        self._broken = ""

    async def open(self) -> None:
        """Connect; DeviceError if that fails or takes longer than a request may."""
        await self.close()
        self._broken = ""
        client = AsyncModbusTcpClient(
            self._endpoint.host,
            port=self._endpoint.port,
            name="edge_opcua",
            timeout=2 * self._timeout_s + 1.0,  # ours comes first
            retries=0,
            reconnect_delay=0,
            trace_packet=self._inspect,
            trace_connect=self._connection_changed,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                connected = await client.connect()
        except TimeoutError as exc:
            client.close()
            raise DeviceTimeoutError(f"{self._where} does not accept a connection in time") from exc
        except OSError as exc:
            client.close()
            raise DeviceError(f"{self._where}: {exc}") from exc
        self._client = client
        if not connected:
            await self.close()
            raise DeviceError(f"{self._where} accepts no connection")
        _pass_cancellation()

    async def close(self) -> None:
        """Drop the connection at once; unsent bytes to a frozen peer are not waited for."""
        client, self._client = self._client, None
        if client is None:
            return
        transport: Any = client.ctx.transport
        client.close()
        if transport is not None:
            transport.abort()

    @property
    def depth(self) -> int:
        """One request at a time."""
        return 1

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :class:`edge_opcua.drivers.wire.Wire`; a busy device is asked again within the deadline."""
        return [(await self._read_busy(fragment),) for request in requests for fragment in request.fragments]

    async def _read_busy(self, fragment: Fragment) -> bytes | Fault:
        for attempt in range(self._options.busy_retries + 1):
            answer = await self._read_once(fragment)
            if not isinstance(answer, Fault) or answer.kind is not FaultKind.BUSY:
                return answer
            if attempt < self._options.busy_retries:
                await self._clock.sleep(self._options.busy_wait_ms / 1000)
        return answer

    async def _read_once(self, fragment: Fragment) -> bytes | Fault:
        unit, area = cast("tuple[int, str]", fragment.space)
        pdu = _READS[area](dev_id=unit, address=fragment.start, count=fragment.size)
        bits = area in BITS
        payload_bytes = (fragment.size + 7) // 8 if bits else 2 * fragment.size
        expected = _Expected(unit, pdu.function_code, payload_bytes)
        response = await self._execute(pdu, expected)
        if response.isError():
            return self._fault(response.exception_code, f"{area}:{fragment.start}")
        if bits:
            packed = np.frombuffer(expected.payload, np.uint8)
            return np.unpackbits(packed, count=fragment.size, bitorder="little").tobytes()
        return expected.payload

    async def write(self, place: Place, encoded: bytes) -> None:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        address = cast(ModbusAddress, place)
        unit = address.unit or 0
        if address.area in BITS:
            await self._write_bits(unit, address.start, [bool(bit) for bit in encoded])
        elif isinstance(address.codec, BitCodec):
            await self._write_register_bits(unit, address, encoded)
        else:
            registers = list(struct.unpack(f">{len(encoded) // 2}H", encoded))
            await self._write_registers(unit, address.start, registers)

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Write registers in one request; ``area`` is ``hr`` and ``offset`` counts registers."""
        if area.lower() != "hr" or len(payload) % 2:
            raise DeviceRefusedError(
                f"{area} cannot take {len(payload)} bytes; registers can", status=BAD_NOT_SUPPORTED
            )
        registers = list(struct.unpack(f">{len(payload) // 2}H", payload))
        await self._write_registers(self._endpoint.unit, offset, registers)

    async def _write_bits(self, unit: int, start: int, bits: list[bool]) -> None:
        if len(bits) == 1:
            echo = struct.pack(">HH", start, 0xFF00 if bits[0] else 0)
            await self._command(WriteSingleCoilRequest(dev_id=unit, address=start, bits=bits), unit, echo)
            return
        if len(bits) > _MAX_WRITE_BITS:
            raise DeviceRefusedError(f"one request writes {_MAX_WRITE_BITS} coils", status=BAD_NOT_SUPPORTED)
        echo = struct.pack(">HH", start, len(bits))
        await self._command(WriteMultipleCoilsRequest(address=start, bits=bits, dev_id=unit), unit, echo)

    async def _write_registers(self, unit: int, start: int, registers: list[int]) -> None:
        if len(registers) == 1:
            echo = struct.pack(">HH", start, registers[0])
            pdu: ModbusPDU = WriteSingleRegisterRequest(dev_id=unit, address=start, registers=registers)
        elif len(registers) <= _MAX_WRITE_REGISTERS:
            echo = struct.pack(">HH", start, len(registers))
            pdu = WriteMultipleRegistersRequest(dev_id=unit, address=start, registers=registers)
        else:
            raise DeviceRefusedError(
                f"one request writes {_MAX_WRITE_REGISTERS} registers", status=BAD_NOT_SUPPORTED
            )
        await self._command(pdu, unit, echo)

    async def _write_register_bits(self, unit: int, address: ModbusAddress, encoded: bytes) -> None:
        if address.size != 1:
            raise DeviceRefusedError(
                "bits of two registers cannot be written at once", status=BAD_NOT_SUPPORTED
            )
        first = address.bit or 0
        ones = sum(1 << first + i for i, bit in enumerate(encoded) if bit)
        touched = sum(1 << first + i for i in range(len(encoded)))
        if self._options.bit_writes == "mask":
            keep = 0xFFFF & ~touched
            pdu = MaskWriteRegisterRequest(address=address.start, and_mask=keep, or_mask=ones, dev_id=unit)
            await self._command(pdu, unit, struct.pack(">HHH", address.start, keep, ones))
            return
        now = await self._read_once(Fragment((unit, address.area), address.start, 1))
        if isinstance(now, Fault):
            raise DeviceRefusedError(now.reason, status=BAD_DEVICE_FAILURE)
        register = int.from_bytes(now, "big") & ~touched | ones
        await self._write_registers(unit, address.start, [register])

    async def _command(self, pdu: ModbusPDU, unit: int, echo: bytes) -> None:
        response = await self._execute(pdu, _Expected(unit, pdu.function_code, -1, echo))
        if response.isError():
            code = response.exception_code
            fault = self._fault(code, f"function {pdu.function_code}")
            raise DeviceRefusedError(
                fault.reason, status=_CODES[code][1] if code in _CODES else BAD_DEVICE_FAILURE
            )

    async def _execute(self, pdu: ModbusPDU, expected: _Expected) -> ModbusPDU:
        client = self._client
        if client is None or self._broken or not client.connected:
            raise DeviceError(self._broken or f"{self._where} is not connected")
        self._expected = expected
        self.traffic.requests += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                response: ModbusPDU = await client.execute(False, pdu)  # noqa: FBT003 - pymodbus' order
        except TimeoutError as exc:
            self.traffic.errors += 1
            raise DeviceTimeoutError(f"{self._where} did not answer in {self._timeout_s:g} s") from exc
        except ModbusException as exc:
            self.traffic.errors += 1
            raise DeviceError(f"{self._where}: {exc}") from exc
        except DeviceError:
            self.traffic.errors += 1
            raise
        finally:
            self._expected = None
        _pass_cancellation()
        return response

    def _fault(self, code: int, what: str) -> Fault:
        self.traffic.errors += 1
        if code in _GATEWAY:
            raise DeviceError(f"{_GATEWAY[code]} (Modbus exception {code})")
        kind, _, text = _CODES.get(code, (FaultKind.DEVICE, 0, "unknown exception"))
        return Fault(kind, f"{_STABLE.get(code, 'D340')} {what}: {text} (Modbus exception {code})")

    @property
    def _where(self) -> str:
        return f"{self._endpoint.host}:{self._endpoint.port}"

    def _connection_changed(self, connected: bool) -> None:  # noqa: FBT001 - pymodbus calls it so
        if not connected:
            self._break(f"{self._where} closed the connection")

    def _inspect(self, sending: bool, packet: bytes) -> bytes:  # noqa: FBT001 - pymodbus calls it so
        """Pass on what is sent, and of what comes only the one answer that is expected."""
        if sending:
            self.traffic.size_bytes += len(packet)
            if self._expected is not None:
                self._expected.transaction = int.from_bytes(packet[:2], "big")
            return packet
        if self._broken:
            return b""
        try:
            complete = self._check(packet)
        except DeviceError as exc:
            self._break(str(exc))
            return b""
        return packet if complete else b""

    def _check(self, frame: bytes) -> bool:
        """Return whether the frame is complete; DeviceError if it cannot become the expected answer."""
        expected = self._expected
        if expected is None:
            raise DeviceError(f"{self._where} sent {len(frame)} bytes nobody had asked for")
        if len(frame) < _MBAP.size:
            return False
        transaction, protocol, length, unit, function = _MBAP.unpack_from(frame)
        if protocol != 0 or not 3 <= length <= _MAX_LENGTH:
            raise DeviceError(f"{self._where} does not speak Modbus TCP (frame starts {frame[:8].hex(' ')})")
        if transaction != expected.transaction:
            raise DeviceError(
                f"{self._where} answered transaction {transaction}, asked was {expected.transaction}"
            )
        if expected.unit and unit != expected.unit:
            raise DeviceError(f"unit {unit} answered, asked was unit {expected.unit}")
        if function & ~_EXCEPTION != expected.function:
            raise DeviceError(f"function {function} was answered, asked was {expected.function}")
        if len(frame) < length + 6:
            return False
        if len(frame) > length + 6:
            raise DeviceError(f"{len(frame) - length - 6} bytes follow the answer")
        self._check_body(frame, length, expected, refused=bool(function & _EXCEPTION))
        self.traffic.size_bytes += len(frame)
        return True

    @staticmethod
    def _check_body(frame: bytes, length: int, expected: _Expected, *, refused: bool) -> None:
        if refused:
            if length != 3:
                raise DeviceError(f"a refusal of {length} bytes is not one")
            return
        body = frame[_MBAP.size :]
        if expected.payload_bytes < 0:
            if body != expected.echo:
                raise DeviceError(f"the answer to a write says {body.hex()}, asked was {expected.echo.hex()}")
            return
        if body[:1] != bytes((expected.payload_bytes,)) or len(body) != 1 + expected.payload_bytes:
            raise DeviceError(f"{len(body) - 1} bytes were answered, asked were {expected.payload_bytes}")
        expected.payload = body[1:]

    def _break(self, reason: str) -> None:
        """Fail the request that waits, now; nothing more is believed of this connection."""
        self._broken = self._broken or reason
        client = self._client
        if client is None or self._expected is None:
            return
        waiting = client.ctx.response_future
        if not waiting.done():
            waiting.set_exception(DeviceError(self._broken))


def _pass_cancellation() -> None:
    """Raise the cancellation that pymodbus may have lost.

    It waits with ``asyncio.wait_for``, which on Python 3.11 returns the result and forgets the cancellation
    if both come in one turn of the loop: a poller would then never end (cpython #86296, mended in 3.12).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
