"""RTU devices on a pseudo terminal or behind TCP, with frames of their own and a ModbusPeer's registers."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.drivers.peers import ModbusPeer


def crc(body: bytes) -> bytes:
    """Bit by bit, as appendix B of Modbus over serial line V1.02 explains it."""
    value = 0xFFFF
    for byte in body:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value.to_bytes(2, "little")


def request_size(frame: bytes) -> int:
    """Return how long a request is, more than there is while unknown."""
    if len(frame) < 7:
        return 8
    return {15: 9 + frame[6], 16: 9 + frame[6], 22: 10, 43: 7}.get(frame[1], 8)


class RtuPeer:
    """Some units on one line.

    Attributes:
        memory: Registers and misbehaviour of all units.
        units: Units that exist.
        echo: Whether what comes is sent back first.
        noise: Bytes put before each answer.
        spoil: Changes a frame on its way out.
        delay_s: Time of unit 1 to answer; it answers in order.
        path: Serial port to open.
        damaged: Requests with a wrong checksum.
        greeting: What a new connection gets first: the answer to a former one.
    """

    def __init__(self) -> None:
        self.memory = ModbusPeer()
        self.units = {1, 2}
        self.echo = False
        self.noise = b""
        self.spoil: Callable[[bytes], bytes] | None = None
        self.delay_s = 0.0
        self.path = ""
        self.port = 0
        self.damaged = 0
        self.greeting = b""
        self.connections = 0
        self._buffer = b""
        self._free_s = 0.0
        self._master = -1

    @asynccontextmanager
    async def on_a_terminal(self) -> AsyncIterator[RtuPeer]:
        loop = asyncio.get_running_loop()
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(slave)
        loop.add_reader(self._master, self._readable)
        try:
            yield self
        finally:
            self.unplug()
            os.close(slave)

    def unplug(self) -> None:
        """Take the adapter away."""
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = -1

    def _readable(self) -> None:
        try:
            chunk = os.read(self._master, 4096)
        except OSError:  # nobody has the port open
            return
        if self.echo:
            os.write(self._master, chunk)
        self._take(chunk, lambda frame: self._master >= 0 and os.write(self._master, frame))

    @asynccontextmanager
    async def behind_tcp(self) -> AsyncIterator[RtuPeer]:
        peer = self

        class Served(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                peer.connections += 1
                self.transport = transport
                transports.add(transport)
                transport.write(peer.greeting)

            def data_received(self, data: bytes) -> None:
                peer._take(data, self.transport.write)

            def connection_lost(self, exc: Exception | None) -> None:
                transports.discard(self.transport)

        transports: set[asyncio.Transport] = set()
        listener = await asyncio.get_running_loop().create_server(Served, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for transport in tuple(transports):
                transport.abort()
            await asyncio.sleep(0.01)

    def _take(self, chunk: bytes, send: Callable[[bytes], object]) -> None:
        self._buffer += chunk
        while len(self._buffer) >= request_size(self._buffer):
            size = request_size(self._buffer)
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if crc(frame[:-2]) != frame[-2:]:
                self.damaged += 1
            elif frame[0] in self.units and not self.memory.silent and frame[0] not in self.memory.mute:
                self._answer(frame, send)

    def _answer(self, frame: bytes, send: Callable[[bytes], object]) -> None:
        answering = self.memory._answer(frame[0], frame[1:-2])
        try:
            answering.send(None)
        except StopIteration as stop:
            body = frame[:1] + stop.value
        out = body + crc(body)
        out = self.noise + (out if self.spoil is None else self.spoil(out))
        loop = asyncio.get_running_loop()
        if frame[0] == 1:
            after_s = self._free_s + 1e-6  # timers at one time have no order
            self._free_s = max(after_s, loop.time() + self.delay_s)
            if self._free_s > loop.time():
                loop.call_at(self._free_s, send, out)
                return
        send(out)
