"""One S7 connection: python-snap7's transport in a thread of its own, our planning, checking and isolation.

Its ``Client`` is not used: it has no time-out for connecting (5 s are fixed), gives nothing of a read of
which one item was refused, and takes stale answers for new ones up to three times.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any, Final, cast

from snap7.connection import ISOTCPConnection
from snap7.datatypes import S7Area, S7WordLen
from snap7.error import S7Error, S7TimeoutError
from snap7.s7protocol import S7Protocol

from edge_opcua.core.values import BAD_NOT_SUPPORTED
from edge_opcua.core.worker import Worker
from edge_opcua.drivers.codec import BitCodec
from edge_opcua.drivers.planner import Fragment, Place, Request
from edge_opcua.drivers.s7.address import S7Address
from edge_opcua.drivers.s7.frames import HeaderRefusedError, parse_read, parse_setup, parse_write
from edge_opcua.drivers.s7.settings import WRITE_BYTES, Endpoint, S7Options, S7Shape
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Traffic
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError

_AREAS: Final = {"DB": S7Area.DB, "M": S7Area.MK, "I": S7Area.PE, "Q": S7Area.PA}
_LOCAL_TSAP: Final = 0x0100
# The thread gets a little longer than the socket, so that the socket's own time-out ends a call.
_GRACE_S: Final = 0.25

# What snap7 would log is said once per outage by the poller; its own lines come per request.
logging.getLogger("snap7").setLevel(logging.CRITICAL + 1)


class S7Wire:
    """One connection to one PLC.

    Args:
        name: Name of the device; the thread is called after it.
        endpoint: Where the PLC is.
        options: Settings of the device.
        timeout_s: Deadline of one request, seconds.
    """

    def __init__(self, name: str, endpoint: Endpoint, options: S7Options, timeout_s: float) -> None:
        self.shape = S7Shape(options.pdu, options.max_gap)
        self.traffic = Traffic()
        self._endpoint = endpoint
        self._options = options
        self._timeout_s = timeout_s
        self._worker = Worker(f"{name}.s7")
        self._connection: Any = None
        self._protocol: Any = None

    async def open(self) -> None:
        """Connect and agree on a PDU size; DeviceError if that fails or takes too long."""
        await self.close()
        connection = ISOTCPConnection(
            self._endpoint.host, self._endpoint.port, _LOCAL_TSAP, self._endpoint.remote_tsap
        )
        self._connection = connection
        self._protocol = S7Protocol()
        try:
            await self._call(connection.connect, self._timeout_s, timeout_s=2 * self._timeout_s)
            request = self._protocol.build_setup_communication_request(1, 1, self._options.pdu)
            granted = parse_setup(await self._round_trip(request), self._protocol.sequence)
        except DeviceError:
            await self.close()
            raise
        self.shape = S7Shape(min(granted, self._options.pdu), self._options.max_gap)

    async def close(self) -> None:
        """Drop the connection; a call that still waits for an answer ends at once."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        peer = connection.socket
        if peer is not None:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it was never connected, or the other side was faster
            finally:
                peer.close()
        self._worker.close()

    @property
    def depth(self) -> int:
        """One request at a time."""
        return 1

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :class:`edge_opcua.drivers.wire.Wire`; a request refused as a whole is asked block by block."""
        return [await self._read_request(request) for request in requests]

    async def _read_request(self, request: Request) -> Sequence[bytes | Fault]:
        try:
            return await self._read_items(request.fragments)
        except HeaderRefusedError as exc:
            self.traffic.errors += 1
            if len(request.fragments) == 1:
                kind = FaultKind.DENIED if exc.denied else FaultKind.DEVICE
                code = "D331" if exc.denied else "D340"
                return (Fault(kind, f"{code} read of {_name(request.fragments[0])}: {exc}"),)
        answers: list[bytes | Fault] = []
        for fragment in request.fragments:
            answers.extend(await self._read_request(Request((fragment,))))
        return answers

    async def _read_items(self, fragments: Sequence[Fragment]) -> list[bytes | Fault]:
        items = []
        for fragment in fragments:
            area, db = cast("tuple[str, int]", fragment.space)
            items.append((int(_AREAS[area]), db, fragment.start, fragment.size))
        answer = await self._round_trip(self._build(self._get_protocol().build_multi_read_request, items))
        names = [_name(fragment) for fragment in fragments]
        sizes = [fragment.size for fragment in fragments]
        answers = parse_read(answer, self._get_protocol().sequence, names, sizes)
        self.traffic.errors += sum(isinstance(part, Fault) for part in answers)
        return answers

    async def write(self, place: Place, encoded: bytes) -> None:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        address = cast(S7Address, place)
        if not isinstance(address.codec, BitCodec):
            await self._write(address.area, address.db, address.start, S7WordLen.BYTE, encoded)
            return
        if len(encoded) != 1:
            raise DeviceRefusedError("several bits cannot be written at once", status=BAD_NOT_SUPPORTED)
        bit = 8 * address.start + (address.bit or 0)
        await self._write(address.area, address.db, bit, S7WordLen.BIT, encoded)

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:
        """Write raw bytes in one request; ``area`` is a data block such as ``DB20``."""
        number = area[2:] if area.upper().startswith("DB") else ""
        if not (number.isascii() and number.isdigit()):
            raise DeviceRefusedError(f"{area} is not a data block", status=BAD_NOT_SUPPORTED)
        await self._write("DB", int(number), offset, S7WordLen.BYTE, payload)

    async def _write(self, area: str, db: int, start: int, width: S7WordLen, payload: bytes) -> None:
        most = self.shape.pdu - WRITE_BYTES
        if len(payload) > most:
            raise DeviceRefusedError(f"one request writes {most} bytes", status=BAD_NOT_SUPPORTED)
        protocol = self._get_protocol()
        request = self._build(protocol.build_write_request, _AREAS[area], db, start, width, payload)
        name = f"DB{db}" if area == "DB" else area
        parse_write(await self._round_trip(request), protocol.sequence, name)

    def _get_protocol(self) -> Any:
        if self._connection is None:
            raise DeviceError(f"{self._where} is not connected")
        return self._protocol

    @staticmethod
    def _build(build: Any, *args: Any) -> bytes:
        """Build a request with snap7; what it cannot build is a fault of our address check."""
        request: bytes = build(*args)
        return request

    async def _round_trip(self, request: bytes) -> bytes:
        """Send one PDU and return the next one that comes."""
        connection = self._connection

        def exchange() -> bytes:
            connection.send_data(request)
            answer: bytes = connection.receive_data()
            return answer

        self.traffic.requests += 1
        try:
            answer: bytes = await self._call(exchange, timeout_s=self._timeout_s)
        except DeviceError:
            self.traffic.errors += 1
            raise
        self.traffic.size_bytes += len(request) + len(answer)
        return answer

    async def _call(self, fn: Any, *args: Any, timeout_s: float) -> Any:
        """Run a blocking call of snap7; whatever goes wrong there costs the connection."""
        try:
            return await self._worker.call(fn, *args, timeout_s=timeout_s + _GRACE_S)
        except (TimeoutError, S7TimeoutError) as exc:
            raise DeviceTimeoutError(f"{self._where} did not answer in {self._timeout_s:g} s") from exc
        except (S7Error, OSError) as exc:
            text = str(exc)
            if "timed out" in text:
                raise DeviceTimeoutError(f"{self._where} did not answer in {self._timeout_s:g} s") from exc
            raise DeviceError(f"{self._where}: {text}") from exc

    @property
    def _where(self) -> str:
        return f"{self._endpoint.host}:{self._endpoint.port}"


def _name(fragment: Fragment) -> str:
    area, db = cast("tuple[str, int]", fragment.space)
    return f"DB{db}" if area == "DB" else area
