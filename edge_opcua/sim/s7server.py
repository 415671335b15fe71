"""The communication side of a simulated S7 PLC: data blocks over ISO-on-TCP, synchronous with the scan.

Own frames, because the server of python-snap7 3.3.0 cannot stand in for a PLC: a bit write overwrites its
whole byte, a write of several items stores only the first and answers Good, a write past the end of a block
stores what fits and answers an error, replies may exceed the negotiated PDU, and the memory changes in the
middle of a scan. Clients notice none of that until they stand in front of a real PLC.

As in an S7-300, jobs are separated from the program by the cycle control point: a read answers at once from
the image that the last scan left, a write is stored before the next scan and answered after it, so that a
read-back already sees what the program made of the value.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from edge_opcua.sim.s7lists import NamePlate, status_list

PDU_BYTES: Final = 480
MAX_CONNECTIONS: Final = 32
HANDSHAKE_S: Final = 3.0
MARKER_BYTES: Final = 256
_KEEPALIVE_S: Final = 10
_MAX_FRAME_BYTES: Final = 1024
_MAX_PENDING_BYTES: Final = 64 * 1024

# RFC 1006 and ISO 8073 class 0
_TPKT: Final = struct.Struct(">BBH")
_COTP_CR, _COTP_CC, _COTP_DR, _COTP_DT = 0xE0, 0xD0, 0x80, 0xF0
_TPDU_SIZE, _CALLING_TSAP, _CALLED_TSAP = 0xC0, 0xC1, 0xC2
_END_OF_TSDU: Final = 0x80

# S7 communication
_HEADER: Final = struct.Struct(">BBHHHH")
_ITEM: Final = struct.Struct(">BBBBHHB3s")
_S7: Final = 0x32
_JOB, _ACK, _ACK_DATA, _USERDATA = 1, 2, 3, 7
_READ, _WRITE, _SETUP = 0x04, 0x05, 0xF0
_AREA_DB: Final = 0x84
_AREA_MARKERS: Final = 0x83
_READ_LIST: Final = (4, 1)  # group and subfunction of a system request
_OK, _DENIED, _OUT_OF_RANGE, _BAD_TYPE, _NO_OBJECT = 0xFF, 0x03, 0x05, 0x06, 0x0A
_ERROR_FUNCTION: Final = 0x8104  # this function is not implemented here
_ERROR_PDU_SIZE: Final = 0x8500  # the answer would not fit the negotiated PDU
_ERROR_MALFORMED: Final = 0x8504
_BIT: Final = 1
_ITEM_BYTES: Final = {2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 4}  # BYTE CHAR WORD INT DWORD DINT REAL
_DATA_BIT, _DATA_BITS = 0x03, frozenset({0x04, 0x05})  # transport sizes whose length counts bits


class DataBlock:
    """One data block: the memory that the program works on and the image that clients read.

    Args:
        number: 10 for DB10.
        size_bytes: Length of the block.
        writable: False for a block that the program alone writes.
    """

    __slots__ = ("image", "memory", "number", "writable")

    def __init__(self, number: int, size_bytes: int, *, writable: bool) -> None:
        self.number = number
        self.writable = writable
        self.memory = bytearray(size_bytes)
        self.image = bytes(size_bytes)


@dataclass(frozen=True, slots=True)
class _Address:
    """What one item of a job points at; ``status`` is not 0xFF when there is no such thing."""

    status: int
    block: DataBlock | None = None
    start: int = 0
    length: int = 0
    bit: int | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """Writes that wait for the cycle control point, and the answer they get afterwards."""

    connection: _Connection
    writes: tuple[tuple[_Address, bytes], ...]
    answer: bytes


class S7Server:
    """Serves data blocks to S7 clients on one asyncio loop.

    The owner calls :meth:`begin_scan`, lets its program work on the memory of the blocks, then calls
    :meth:`end_scan`, all without giving up the loop.

    Args:
        blocks: The data blocks that exist.
        rack: Rack that clients have to ask for.
        slots: Slots that answer (an S7-1500 does on 0 and on 1).

    Attributes:
        blocks: The data blocks by number.
        markers: The markers (M).
        plate: Who the CPU says it is.
        stopped: Whether it says that it is in STOP.
        requests: Requests that have come.
    """

    def __init__(
        self, blocks: Iterable[DataBlock], *, rack: int = 0, slots: frozenset[int] = frozenset({0, 1})
    ) -> None:
        self.blocks = {block.number: block for block in blocks}
        self.markers = DataBlock(0, MARKER_BYTES, writable=True)
        self.plate = NamePlate()
        self.stopped = False
        self.requests = 0
        self._places = frozenset(rack << 5 | slot for slot in slots)
        self._jobs: deque[_Job] = deque()
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many clients hold a TCP connection."""
        return len(self._connections)

    async def open(self, host: str, port: int) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), host, port, backlog=100)
        listening: int = self._listener.sockets[0].getsockname()[1]
        return listening

    def close(self) -> None:
        """Stop listening and drop all clients."""
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._connections):
            connection.drop()

    def begin_scan(self) -> None:
        """Store all writes that have arrived since the last scan, in the order of their arrival."""
        for job in self._jobs:
            for address, payload in job.writes:
                _store(address, payload)

    def end_scan(self) -> None:
        """Show the result of the scan to the readers and answer the writers."""
        for block in (*self.blocks.values(), self.markers):
            block.image = bytes(block.memory)
        while self._jobs:
            job = self._jobs.popleft()
            job.connection.finish(job.answer)

    def admit(self, connection: _Connection) -> bool:
        """Take a client, unless all connection resources are in use."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _Connection) -> None:
        """Let a client go; what it still had to write is written, as on a PLC."""
        self._connections.discard(connection)

    def answers_at(self, called_tsap: bytes) -> bool:
        """Return whether there is a CPU at the rack and slot of a called TSAP."""
        return len(called_tsap) == 2 and called_tsap[1] in self._places

    def read(self, items: list[_Address]) -> bytes:
        """Return the data section of a read answer."""
        data = bytearray()
        for number, item in enumerate(items):
            if item.block is None:
                data += struct.pack(">BBH", item.status, 0, 0)
                continue
            content = item.block.image[item.start : item.start + item.length]
            if item.bit is not None:
                data += struct.pack(">BBHB", _OK, _DATA_BIT, 1, content[0] >> item.bit & 1)
            else:
                data += struct.pack(">BBH", _OK, 0x04, len(content) * 8) + content
            if len(data) % 2 and number < len(items) - 1:
                data.append(0)
        return bytes(data)

    def write(
        self, connection: _Connection, items: list[_Address], payloads: list[bytes], head: bytes
    ) -> None:
        """Queue the writes of one job; they become visible together in one scan."""
        statuses = bytearray()
        writes = []
        for item, payload in zip(items, payloads, strict=True):
            status = item.status
            if item.block is not None and not item.block.writable:
                status = _DENIED
            elif item.block is not None and len(payload) != item.length:
                status = _BAD_TYPE
            if status == _OK:
                writes.append((item, payload))
            statuses.append(status)
        self._jobs.append(_Job(connection, tuple(writes), head + bytes(statuses)))

    def resolve(self, specification: bytes) -> _Address:
        """Return what an item of 12 bytes (syntax id S7ANY) points at."""
        kind, _, syntax, size, count, number, area, where = _ITEM.unpack(specification)
        if (kind, syntax) != (0x12, 0x10) or (size != _BIT and size not in _ITEM_BYTES):
            return _Address(_BAD_TYPE)
        block = self.blocks.get(number) if area == _AREA_DB else None
        if area == _AREA_MARKERS:
            block = self.markers
        if block is None:
            return _Address(_NO_OBJECT)
        start, bit = divmod(int.from_bytes(where, "big"), 8)
        if size == _BIT and count != 1:
            return _Address(_BAD_TYPE)
        length = 1 if size == _BIT else count * _ITEM_BYTES[size]
        if length == 0 or start + length > len(block.memory):
            return _Address(_OUT_OF_RANGE)
        return _Address(_OK, block, start, length, bit if size == _BIT else None)


def _store(address: _Address, payload: bytes) -> None:
    assert address.block is not None
    memory = address.block.memory
    if address.bit is None:
        memory[address.start : address.start + address.length] = payload
    elif payload[0] & 1:
        memory[address.start] |= 1 << address.bit
    else:
        memory[address.start] &= ~(1 << address.bit) & 0xFF


class _MalformedError(Exception):
    """The peer does not speak this protocol; its connection is dropped."""


class _Connection(asyncio.Protocol):
    """One client: reassembles frames, answers one job after the other."""

    def __init__(self, server: S7Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._fragments = bytearray()
        self._greeted = False
        self._waiting = False
        self._pdu_bytes = PDU_BYTES
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the client or refuse it; it has some seconds for the ISO handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._server.admit(self):
            transport.abort()
            return
        stream: socket.socket = transport.get_extra_info("socket")
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that vanished without a word must give its connection resource back.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            stream.setsockopt(socket.IPPROTO_TCP, option, _KEEPALIVE_S)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        self._deadline = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.drop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the connection resource."""
        del exc
        if self._deadline is not None:
            self._deadline.cancel()
        self._transport = None
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Collect bytes and work on the complete frames among them."""
        self._received += data
        if len(self._received) > _MAX_PENDING_BYTES:
            self.drop()
            return
        self._work()

    def drop(self) -> None:
        """Close without waiting for anything."""
        if self._transport is not None:
            self._transport.abort()

    def finish(self, answer: bytes) -> None:
        """Answer a write after its scan and go on with what arrived meanwhile."""
        self._waiting = False
        self._send(answer)
        self._work()

    def _work(self) -> None:
        try:
            # The jobs of one connection are answered in order, so a pending write holds back the next job.
            while not self._waiting and self._transport is not None and (frame := self._next_frame()):
                self._handle(frame)
        except (_MalformedError, struct.error):
            self.drop()

    def _next_frame(self) -> bytes | None:
        if len(self._received) < _TPKT.size:
            return None
        version, _, length = _TPKT.unpack_from(self._received)
        if version != 3 or not 7 <= length <= _MAX_FRAME_BYTES:
            raise _MalformedError
        if len(self._received) < length:
            return None
        frame = bytes(self._received[_TPKT.size : length])
        del self._received[:length]
        return frame

    def _handle(self, frame: bytes) -> None:
        kind = frame[1]
        if not self._greeted:
            if kind != _COTP_CR:
                raise _MalformedError
            self._greet(frame)
        elif kind == _COTP_DT:
            self._fragments += frame[frame[0] + 1 :]
            if len(self._fragments) > _MAX_FRAME_BYTES:
                raise _MalformedError
            if frame[2] & _END_OF_TSDU:
                pdu, self._fragments = bytes(self._fragments), bytearray()
                self._server.requests += 1
                self._serve(pdu)
        else:  # a disconnect request, or nonsense
            raise _MalformedError

    def _greet(self, frame: bytes) -> None:
        """Answer a connection request (ISO 8073 §13.3), or refuse it when there is no CPU in that slot."""
        client = frame[4:6]
        parameters = dict(_parameters(frame[7:]))
        called = parameters.get(_CALLED_TSAP, b"")
        if not self._server.answers_at(called):
            refusal = bytes((6, _COTP_DR)) + client + b"\x00\x00\x02"  # reason 2: session entity not attached
            self._send_frame(refusal)
            if self._transport is not None:
                self._transport.close()
            return
        confirmed = b"".join(
            bytes((code, len(value))) + value
            for code in (_TPDU_SIZE, _CALLING_TSAP, _CALLED_TSAP)
            if (value := parameters.get(code)) is not None
        )
        self._send_frame(bytes((6 + len(confirmed), _COTP_CC)) + client + b"\x00\x01\x00" + confirmed)
        self._greeted = True
        if self._deadline is not None:
            self._deadline.cancel()

    def _serve(self, pdu: bytes) -> None:
        """Answer one S7 PDU."""
        mark, kind, _, reference, parameter_bytes, data_bytes = _HEADER.unpack_from(pdu)
        if mark != _S7 or len(pdu) != _HEADER.size + parameter_bytes + data_bytes or not parameter_bytes:
            raise _MalformedError
        parameters = pdu[_HEADER.size : _HEADER.size + parameter_bytes]
        data = pdu[_HEADER.size + parameter_bytes :]
        if kind == _USERDATA:
            self._send(_system_answer(reference, parameters, data, self._server))
        elif kind != _JOB:
            raise _MalformedError
        elif parameters[0] == _SETUP:
            self._set_up(reference, parameters)
        elif parameters[0] == _READ:
            self._read(reference, parameters)
        elif parameters[0] == _WRITE:
            self._write(reference, parameters, data)
        else:
            self._send(_refusal(reference, _ERROR_FUNCTION))

    def _set_up(self, reference: int, parameters: bytes) -> None:
        _, _, calling, called, asked = struct.unpack(">BBHHH", parameters)
        self._pdu_bytes = max(112, min(asked, PDU_BYTES))
        jobs = max(1, min(calling, called, 8))
        answer = struct.pack(">BBHHH", _SETUP, 0, jobs, jobs, self._pdu_bytes)
        self._send(_head(reference, len(answer), 0) + answer)

    def _read(self, reference: int, parameters: bytes) -> None:
        items = [self._server.resolve(item) for item in _items(parameters)]
        data = self._server.read(items)
        answer = _head(reference, 2, len(data)) + bytes((_READ, len(items))) + data
        if len(answer) > self._pdu_bytes:
            answer = _refusal(reference, _ERROR_PDU_SIZE)
        self._send(answer)

    def _write(self, reference: int, parameters: bytes, data: bytes) -> None:
        items = [self._server.resolve(item) for item in _items(parameters)]
        payloads = list(_payloads(data, len(items)))
        if len(payloads) != len(items):
            self._send(_refusal(reference, _ERROR_MALFORMED))
            return
        head = _head(reference, 2, len(items)) + bytes((_WRITE, len(items)))
        self._waiting = True
        self._server.write(self, items, payloads, head)

    def _send(self, pdu: bytes) -> None:
        self._send_frame(bytes((2, _COTP_DT, _END_OF_TSDU)) + pdu)

    def _send_frame(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.write(_TPKT.pack(3, 0, _TPKT.size + len(payload)) + payload)


def _parameters(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the parameters of a connection request: code, length, value."""
    place = 0
    while place + 2 <= len(data):
        length = data[place + 1]
        yield data[place], data[place + 2 : place + 2 + length]
        place += 2 + length


def _items(parameters: bytes) -> list[bytes]:
    count = parameters[1]
    if count == 0 or len(parameters) != 2 + count * _ITEM.size:
        raise _MalformedError
    return [parameters[2 + n * _ITEM.size : 2 + (n + 1) * _ITEM.size] for n in range(count)]


def _payloads(data: bytes, count: int) -> Iterator[bytes]:
    """Return the values of a write job, which are padded to an even length but for the last."""
    place = 0
    for _ in range(count):
        if place + 4 > len(data):
            return
        _, transport, length = struct.unpack_from(">BBH", data, place)
        size = 1 if transport == _DATA_BIT else length // 8 if transport in _DATA_BITS else length
        if place + 4 + size > len(data):
            return
        yield data[place + 4 : place + 4 + size]
        place += 4 + size + size % 2


def _head(reference: int, parameter_bytes: int, data_bytes: int) -> bytes:
    return _HEADER.pack(_S7, _ACK_DATA, 0, reference, parameter_bytes, data_bytes) + b"\x00\x00"


def _refusal(reference: int, error: int) -> bytes:
    return _HEADER.pack(_S7, _ACK, 0, reference, 0, 0) + error.to_bytes(2, "big")


def _system_answer(reference: int, parameters: bytes, asked: bytes, server: S7Server) -> bytes:
    """Answer with a system status list; the clock, lists of blocks and the like are refused."""
    if len(parameters) < 8:
        raise _MalformedError
    group, subfunction, sequence = parameters[5], parameters[6], parameters[7]
    answer = bytes((0, 1, 0x12, 8, 0x12, 0x80 | group & 0x0F, subfunction, sequence, 0, 0))
    content = None
    if (group & 0x0F, subfunction) == _READ_LIST and len(asked) == 8:
        content = status_list(int.from_bytes(asked[4:6], "big"), server.plate, stopped=server.stopped)
    if content is None:
        answer += _ERROR_FUNCTION.to_bytes(2, "big")
        data = struct.pack(">BBH", _NO_OBJECT, 0, 0)
    else:
        answer += b"\0\0"
        data = struct.pack(">BBH", _OK, 0x09, len(content)) + content
    return _HEADER.pack(_S7, _USERDATA, 0, reference, len(answer), len(data)) + answer + data
