"""One encapsulation session over TCP (CIP Vol 2): only the one answer that is expected is believed."""

from __future__ import annotations

import asyncio
import secrets
import struct
from dataclasses import dataclass
from typing import Final

from edge_opcua.drivers.ethernetip.cip import Reply, object_path, parse_reply, service
from edge_opcua.drivers.ethernetip.reasons import ENCAPSULATION, connection_refusal
from edge_opcua.drivers.ethernetip.settings import LARGE_BYTES, SMALL_BYTES, Endpoint, Hop
from edge_opcua.drivers.reasons import CLOSED, SILENT, of_socket
from edge_opcua.drivers.unsent import forget_unsent
from edge_opcua.drivers.wire import Traffic
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError

LIST_IDENTITY: Final = 0x0063
REGISTER: Final = 0x0065
UNREGISTER: Final = 0x0066
SEND_RR: Final = 0x006F
SEND_UNIT: Final = 0x0070

_HEADER: Final = struct.Struct("<HHIIQI")
_MAX_LENGTH: Final = 65_511
_RR: Final = struct.Struct("<IHHHHHH")  # interface, timeout, items; null address; unconnected data
_UNIT: Final = struct.Struct("<IHHHHIHHH")  # interface, timeout, items; connected address; connected data

_CONNECTION_MANAGER: Final = object_path(0x06, 1)
_ROUTER: Final = object_path(0x02, 1)
_UNCONNECTED_SEND: Final = 0x52
_FORWARD_OPEN: Final = 0x54
_LARGE_FORWARD_OPEN: Final = 0x5B
_FORWARD_CLOSE: Final = 0x4E
_NOT_SUPPORTED: Final = 0x08
_INVALID_SIZE: Final = (0x01, 0x0109)
_VENDOR: Final = 0xFFFF  # reserved by ODVA: no vendor's
_TICK_EXPONENT: Final = 5
_TICK_S: Final = 0.032
_MULTIPLIER: Final = 3  # the device gives a connection up after 32 intervals
_CLASS_3_SERVER: Final = 0xA3
_POINT_TO_POINT_VARIABLE: Final = 0x4200
_OPENED: Final = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class _Connection:
    """An open class 3 connection: its numbers in both directions, and what closes it."""

    to_device: int
    to_us: int
    triad: bytes
    size: int


class Session(asyncio.Protocol):
    """One TCP connection; a request at a time.

    Args:
        endpoint: Where the device is.
        timeout_s: Deadline of one request, seconds.
        traffic: Where requests and bytes are counted.

    Attributes:
        writing: Whether a write was sent that is not answered.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float, traffic: Traffic) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._deadline_s = timeout_s
        # Whoever passes a request on gives up before we do, so that we hear which hop was silent.
        ticks = min(255, max(1, int(0.75 * timeout_s / _TICK_S)))
        self._ticks = bytes((_TICK_EXPONENT, ticks))
        self._traffic = traffic
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[bytes] | None = None
        self._broken = ""
        self.writing = False
        self._session = 0
        self._context = 0
        self._sequence = 0
        self._connection: _Connection | None = None

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self._endpoint.host}:{self._endpoint.port}"

    @property
    def size(self) -> int:
        """Bytes of a connected request and of its answer; 0 without a connection."""
        return self._connection.size if self._connection else 0

    async def connect(self) -> None:
        """Open the TCP connection; DeviceError if that fails or takes longer than a request may."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                await loop.create_connection(lambda: self, self._endpoint.host, self._endpoint.port)
        except TimeoutError as exc:
            raise DeviceTimeoutError(SILENT.of(self.where)) from exc
        except OSError as exc:
            raise DeviceError(of_socket(exc).of(self.where)) from exc

    async def register(self) -> None:
        """Open the session; DeviceError if the device does not."""
        reply, header = await self._exchange(REGISTER, b"\1\0\0\0")
        if len(reply) != 4 or not header:
            raise DeviceError(f"D360 {self.where} opened no session")
        self._session = header

    async def open_connection(self, size: int, interval_s: float) -> None:
        """Ask for a connection of some size; what only knows 500 bytes is asked for those.

        Args:
            size: Bytes of a request and of an answer.
            interval_s: The device gives the connection up after 32 times this without a request.

        Raises:
            DeviceRefusedError: It gives none.
        """
        reply = await self._forward_open(size, interval_s)
        if size > SMALL_BYTES and (
            reply.status == _NOT_SUPPORTED or (reply.status, reply.extended) == _INVALID_SIZE
        ):
            reply = await self._forward_open(SMALL_BYTES, interval_s)
        if reply.status:
            code, text = connection_refusal(reply)
            supported = reply.status != _NOT_SUPPORTED
            raise DeviceRefusedError(
                f"{code} {self.where}: {text}", status=0, code=code if supported else "D367"
            )

    async def _forward_open(self, size: int, interval_s: float) -> Reply:
        """CIP Vol 1 §3-5.5.2; the connection is kept if it is granted."""
        large = size > SMALL_BYTES
        triad = struct.pack("<HHI", secrets.randbits(16), _VENDOR, secrets.randbits(32))
        to_us = secrets.randbits(32)
        interval_us = int(interval_s * 1e6)
        form = "<II" if large else "<IH"
        parameters = (_POINT_TO_POINT_VARIABLE << 16 if large else _POINT_TO_POINT_VARIABLE) | size
        half = struct.pack(form, interval_us, parameters)
        path = route_path(self._endpoint.route) + _ROUTER
        payload = (
            self._ticks + struct.pack("<II", 0, to_us) + triad + bytes((_MULTIPLIER, 0, 0, 0))
            + half + half + bytes((_CLASS_3_SERVER, len(path) // 2)) + path
        )  # fmt: skip
        code = _LARGE_FORWARD_OPEN if large else _FORWARD_OPEN
        reply = await self.ask_device(service(code, _CONNECTION_MANAGER, payload))
        if reply.status == 0:
            if len(reply.payload) < _OPENED.size + len(triad) or reply.payload[8:16] != triad:
                raise DeviceError(f"{self.where} opened another connection than was asked for")
            to_device, to_us_granted = _OPENED.unpack_from(reply.payload)
            self._connection = _Connection(to_device, to_us_granted, triad, size)
        return reply

    def close(self) -> None:
        """Say goodbye without waiting for an answer, and drop the connection."""
        transport, self._transport = self._transport, None
        self._break(f"{self.where} is not connected")
        if transport is None:
            return
        if self.writing and forget_unsent(transport.get_extra_info("socket")):
            transport.abort()
            return
        if not transport.is_closing() and self._session and not transport.get_write_buffer_size():
            transport.write(self._goodbye())
        transport.abort()

    def _goodbye(self) -> bytes:
        frames = b""
        if self._connection is not None:
            path = route_path(self._endpoint.route) + _ROUTER
            payload = self._ticks + self._connection.triad + bytes((len(path) // 2, 0)) + path
            request = service(_FORWARD_CLOSE, _CONNECTION_MANAGER, payload)
            frames += self._frame(SEND_RR, _RR.pack(0, 0, 2, 0, 0, 0xB2, len(request)) + request)
            self._connection = None
        return frames + self._frame(UNREGISTER, b"")

    async def ask(self, request: bytes) -> Reply:
        """Send one CIP request to the device at the end of the route and return its answer.

        Raises:
            DeviceTimeoutError: No answer in time.
            DeviceError: The connection broke, or what came is no answer to this request.
        """
        if self._connection is None:
            return await self.ask_over(request, self._endpoint.route)
        self._sequence = self._sequence % 0xFFFF + 1
        numbers = (0, 0, 2, 0xA1, 4, self._connection.to_device, 0xB1, len(request) + 2, self._sequence)
        body, _ = await self._exchange(SEND_UNIT, _UNIT.pack(*numbers) + request)
        if len(body) < _UNIT.size:
            raise DeviceError(f"{self.where} answered with {len(body)} bytes")
        _, _, items, address, _, connection, kind, length, sequence = _UNIT.unpack_from(body)
        if (items, address, kind, length + _UNIT.size - 2) != (2, 0xA1, 0xB1, len(body)):
            raise DeviceError(f"{self.where} answered in another form than was asked")
        # Vol 2 §3-3.2 asks for the number towards us; some devices repeat the one that they were called by.
        known = (self._connection.to_us, self._connection.to_device)
        if connection not in known or sequence != self._sequence:
            raise DeviceError(f"{self.where} answered request {sequence}, asked was {self._sequence}")
        return parse_reply(body[_UNIT.size :], request[0])

    async def ask_over(self, request: bytes, route: tuple[Hop, ...]) -> Reply:
        """Send one CIP request unconnected over some hops; errors as :meth:`ask`."""
        if not route:
            return await self.ask_device(request)
        path = route_path(route)
        embedded = self._ticks + struct.pack("<H", len(request)) + request + b"\0" * (len(request) % 2)
        embedded += bytes((len(path) // 2, 0)) + path
        return await self.ask_device(
            service(_UNCONNECTED_SEND, _CONNECTION_MANAGER, embedded), inner=request[0]
        )

    async def ask_device(self, request: bytes, *, inner: int | None = None) -> Reply:
        """Send one CIP request unconnected to what listens itself.

        Args:
            request: The request.
            inner: Service it carries, whose answer comes in its place.
        """
        body, _ = await self._exchange(SEND_RR, _RR.pack(0, 0, 2, 0, 0, 0xB2, len(request)) + request)
        if len(body) < _RR.size:
            raise DeviceError(f"{self.where} answered with {len(body)} bytes")
        _, _, items, address, empty, kind, length = _RR.unpack_from(body)
        if (items, address, empty, kind, length + _RR.size) != (2, 0, 0, 0xB2, len(body)):
            raise DeviceError(f"{self.where} answered in another form than was asked")
        raw = body[_RR.size :]
        if inner is not None and raw[:1] == bytes((inner | 0x80,)):
            return parse_reply(raw, inner)
        return parse_reply(raw, request[0])

    async def list_identity(self) -> bytes:
        """Ask who the device is (Vol 2 §2-4.2); needs no session."""
        return (await self._exchange(LIST_IDENTITY, b""))[0]

    def _frame(self, command: int, body: bytes) -> bytes:
        return _HEADER.pack(command, len(body), self._session, 0, self._context, 0) + body

    def hurry(self, deadline_s: float | None) -> None:
        """Wait no longer than this for the answers that follow; None: as long as configured."""
        self._deadline_s = self._timeout_s if deadline_s is None else min(self._timeout_s, deadline_s)

    async def _exchange(self, command: int, body: bytes) -> tuple[bytes, int]:
        """Send a frame and return body and session of the one that answers it."""
        if self._broken or self._transport is None:
            raise DeviceError(self._broken or f"{self.where} is not connected")
        if self._waiting is not None:
            self._break("a request was given up before its answer came")
            raise DeviceError(self._broken)
        # Some devices insist on a sender context of 0 until there is a session.
        self._context = 0 if command == REGISTER else (self._context + 1) & 0xFFFF_FFFF_FFFF_FFFF
        frame = self._frame(command, body)
        self._traffic.requests += 1
        self._traffic.size_bytes += len(frame)
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(frame)
        try:
            async with asyncio.timeout(self._deadline_s):
                answer: bytes = await waiting
            self._waiting = None
            self._traffic.size_bytes += len(answer)
            session = self._check(answer, command)
        except TimeoutError as exc:
            self._traffic.errors += 1
            late = f"{SILENT.code} {self.where} did not answer in {self._deadline_s:g} s: {SILENT.step}"
            raise DeviceTimeoutError(late) from exc
        except DeviceError:
            self._traffic.errors += 1
            raise
        return answer[_HEADER.size :], session

    def _check(self, answer: bytes, command: int) -> int:
        """Return the session of an answer; DeviceError if it does not answer the request."""
        got, _, session, status, context, _ = _HEADER.unpack_from(answer)
        if got != command:
            raise DeviceError(f"{self.where} answered command 0x{got:02X}, asked was 0x{command:02X}")
        if status:
            text = ENCAPSULATION.get(status, "it gives no reason")
            raise DeviceError(f"D360 {self.where} refused: {text} (encapsulation status 0x{status:04X})")
        if session != self._session and command != REGISTER:
            raise DeviceError(f"{self.where} answered session 0x{session:08X}, ours is 0x{self._session:08X}")
        # A connected answer is told by its sequence count instead: not every device repeats the context.
        if command != SEND_UNIT and context != self._context:
            raise DeviceError(f"{self.where} answered another request than was asked")
        return int(session)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect a frame and hand it to who waits for it."""
        if self._broken:
            return
        self._buffer += data
        if len(self._buffer) < _HEADER.size:
            return
        length = int.from_bytes(self._buffer[2:4], "little")
        if length > _MAX_LENGTH or self._buffer[1]:
            head = self._buffer[:8].hex(" ")
            self._break(f"D360 {self.where} does not speak EtherNet/IP: its frame starts {head}")
            return
        missing = _HEADER.size + length - len(self._buffer)
        if missing > 0:
            return
        if missing < 0:
            self._break(f"{self.where} sent {-missing} bytes behind its answer")
        elif self._waiting is None or self._waiting.done():
            self._break(f"{self.where} sent {len(self._buffer)} bytes nobody had asked for")
        else:
            self._waiting.set_result(bytes(self._buffer))
            self._buffer.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        reason = of_socket(exc) if isinstance(exc, OSError) else CLOSED
        self._break(reason.of(self.where))

    def _break(self, reason: str) -> None:
        """Fail the request that waits, now; nothing more is believed of this connection."""
        self._broken = self._broken or reason
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(DeviceError(self._broken))


def route_path(route: tuple[Hop, ...]) -> bytes:
    """Return the port segments of a route (CIP Vol 1 appendix C-1.4.1)."""
    path = b""
    for port, link in route:
        if isinstance(link, int):
            path += bytes((port, link))
        else:
            raw = link.encode("ascii")
            path += bytes((port | 0x10, len(raw))) + raw + b"\0" * (len(raw) % 2)
    return path


assert LARGE_BYTES < 0xFFFF
