"""Sockets: frames cut before they are stored, connections counted, every error an end.

An ordinary request is answered where its bytes arrive, without a queue or a task: either costs more than to
read a value. What needs to wait for something goes into the queue, and so does what comes behind it, so that
requests are taken in the order in which they came. A connection has its turn of so many requests, or so much
time; then the others have theirs, and meanwhile no more is read from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.ua.ua_binary import header_from_binary

from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.framing import Opened
from edge_opcua.opcua.seam.pace import site_of
from edge_opcua.opcua.seam.processor import Processor

HEADER_BYTES: Final = {b"HEL": 8, b"OPN": 12, b"MSG": 12, b"CLO": 12}
STOP_S: Final = 2.0
INBOUND_BYTES: Final = 64 * 1024
# How long a connection that has more to say keeps the others waiting.
TURN_REQUESTS: Final = 16
TURN_S: Final = 0.002

_SIZES: Final = struct.Struct("<3sxI")

_log = structlog.get_logger(__name__)


class Protocol(OPCUAProtocol, asyncio.BufferedProtocol):
    """One TCP connection.

    Attributes:
        inbound: Where bytes arrive. One for all connections: they are taken out before anything else is done,
            and asyncio would make a quarter of a megabyte of room for each time somebody sends anything.
    """

    inbound: memoryview
    clients: list[Protocol]
    closing_tasks: list[asyncio.Task[Any]]
    processor: Processor | None
    transport: asyncio.Transport | None
    site: str

    def connection_made(self, transport: Any) -> None:
        """Take a connection unless there are too many; the processor that asyncua made is replaced."""
        self.site = site_of(_host(transport))
        if not (self.iserver.arrivals.admit(self.site) and self._find_place()):
            self.iserver.counts.rejected_connection_count += 1
            self.iserver.tell_crowd(self.site, len(self.clients))
            transport.abort()
            return
        self._inbox = bytearray()
        self._paused = False  # nothing is read
        self._over = False  # the turn; the next one is arranged
        self._busy = False  # with a request that waits for something
        self._in_turn = 0
        super().connection_made(transport)
        if self.processor is not None:
            self.processor = Processor(self.iserver, transport, self.limits)
            self.processor.set_policies(self.policies)

    def connection_lost(self, ex: Exception | None) -> None:
        """Clean up; asyncua keeps what it used for that, and all that hangs on it, ten seconds longer."""
        before = len(self.closing_tasks)
        super().connection_lost(ex)
        for task in self.closing_tasks[before:]:
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[Any]) -> None:
        if task in self.closing_tasks:
            self.closing_tasks.remove(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            _log.error("connection.not_closed", error=repr(exc), exc_info=exc)

    def _find_place(self) -> bool:
        """Let the oldest connection without an activated session go if there are too many (Part 4 §5.5.2).

        It is one from the same address, or else from the address that has most.
        """
        limits = self.iserver.limits
        present = [client for client in self.clients if client.is_here()]
        here = [client for client in present if client.site == self.site]
        if len(here) >= limits.per_address:
            return self._send_off(here)
        if len(present) < limits.connections:
            return True
        loose = [client for client in present if not client.is_in_use()]
        crowds = Counter(client.site for client in loose)
        crowd = crowds.most_common(1)[0][0] if crowds else ""
        return self._send_off([client for client in loose if client.site == crowd])

    def _send_off(self, crowd: list[Protocol]) -> bool:
        oldest = next((client for client in crowd if not client.is_in_use()), None)
        if oldest is None or oldest.transport is None:
            return False
        self.iserver.counts.rejected_connection_count += 1
        self.iserver.tell_crowd(oldest.site, len(self.clients))
        oldest.transport.abort()
        return True

    def is_here(self) -> bool:
        """Whether the connection stands."""
        return self.transport is not None and not self.transport.is_closing()

    def is_in_use(self) -> bool:
        """Whether it has an activated session."""
        session = self.processor.session if self.processor is not None else None
        return session is not None and session.is_activated()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Say where bytes may be put."""
        return self.inbound

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that were put there."""
        self.data_received(bytes(self.inbound[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take bytes; a length that cannot be is the end before anything is stored."""
        if self.is_here():
            self._inbox += data
            if not self._over:
                self._take_turn()

    def _take_turn(self) -> None:
        """Answer what is complete, or put it into the queue, for as long as a turn lasts."""
        try:
            self._take_all()
        finally:
            if self.processor is not None:
                self.processor.release()

    def _take_all(self) -> None:
        """See :meth:`_take_turn`; answers may be kept."""
        assert self.transport is not None, "made with the connection"
        assert self.processor is not None, "made with the connection"
        self._over = False
        ends_s = self.iserver.clock.monotonic_s() + TURN_S
        served = 0
        while size := self._complete():
            waiting = self.messages.qsize()
            at_once = not waiting and not self._busy
            if at_once and served and (served >= TURN_REQUESTS or self.iserver.clock.monotonic_s() > ends_s):
                self._over = True
                asyncio.get_running_loop().call_soon(self._next_turn)
            if self._over or waiting >= self._may_wait():
                self.transport.pause_reading()
                self._paused = True
                return
            chunk = bytes(self._inbox[:size])
            del self._inbox[:size]
            served += 1
            if served == 2:  # the first answer is sent at once, the others together
                self.processor.hold()
            rest = self._serve(chunk) if at_once else chunk
            if rest is not None:
                self.messages.put_nowait((rest, None))
        if self._paused and self.is_here() and self.messages.qsize() <= self._may_wait() // 2:
            self._paused = False
            self.transport.resume_reading()

    def _next_turn(self) -> None:
        if self.is_here():
            self._take_turn()

    def _complete(self) -> int:
        """Return the size of the next chunk, 0 if it is not all here; one that cannot be is the end."""
        if len(self._inbox) < _SIZES.size or not self.is_here():
            return 0
        kind, size = _SIZES.unpack_from(self._inbox)
        least = HEADER_BYTES.get(kind)
        if least is None:
            self._end(ua.StatusCodes.BadTcpMessageTypeInvalid, "no OPC UA message")
            return 0
        if not least < size <= self.limits.max_recv_buffer:
            self._end(ua.StatusCodes.BadTcpMessageTooLarge, f"chunk of {size} bytes")
            return 0
        return int(size) if len(self._inbox) >= size else 0

    def _serve(self, chunk: bytes) -> bytes | Opened | None:
        """Answer a request now; return what of it is for the queue."""
        assert self.processor is not None, "made with the connection"
        try:
            return self.processor.serve(chunk)
        except Exception as exc:  # noqa: BLE001 - boundary: whatever is wrong in a chunk ends its channel
            self._fail(exc)
            return None

    def _may_wait(self) -> int:
        limits = self.iserver.limits
        return int(limits.waiting_messages if self.is_in_use() else limits.early_waiting_messages)

    async def _process_received_message_loop(self) -> None:
        """Read requests; writes and calls run as tasks in here and end with the connection."""
        assert self.processor is not None, "started by connection_made"
        async with asyncio.TaskGroup() as jobs:
            self.processor.jobs.run_in(jobs)
            await super()._process_received_message_loop()

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:  # noqa: ARG002 - asyncua's signature
        """Take what comes next from the queue: a chunk, or a message that was opened already."""
        self._busy = True
        try:
            goes_on = await self._process(header)
        finally:
            self._busy = False
        if goes_on and self._paused and not self._over and self.messages.qsize() <= self._may_wait() // 2:
            self._next_turn()
        self._in_turn += 1
        if self._in_turn >= TURN_REQUESTS:
            self._in_turn = 0
            await asyncio.sleep(0)
        return goes_on

    async def _process(self, work: bytes | Opened) -> bool:
        """Process one chunk; asyncua logs an error and goes on, Part 6 §6.7.2 wants the channel closed."""
        processor, rest = self.processor, None
        assert processor is not None, "made with the connection"
        processor.behind = self.messages.qsize()
        try:
            rest = processor.serve(work) if isinstance(work, bytes) else work
            if rest is None:
                return True
            if isinstance(rest, Opened):
                return await processor.respond(rest.request_id, rest.body)
            buffer = StrictBuffer(rest)
            return bool(await super()._process_one_msg(header_from_binary(buffer), buffer))
        except Exception as exc:  # noqa: BLE001 - boundary: whatever is wrong in a chunk ends its channel
            if isinstance(rest, bytes) and rest[:3] == ua.MessageType.SecureOpen:
                processor.refuse_open(str(exc) if isinstance(exc, ua.UaError) else repr(exc))
            self._fail(exc)
            return False

    def _fail(self, exc: Exception) -> None:
        code = exc.code if isinstance(exc, (ServiceError, ua.UaStatusCodeError)) else None
        self._end(code or ua.StatusCodes.BadSecurityChecksFailed, repr(exc))

    async def _activation_watchdog(self) -> None:
        """End a connection without a session or renewal in time, or whose client is no longer trusted."""
        clock = self.iserver.clock
        while self.processor is not None and self.transport is not None:
            left_s = self.processor.deadline_s() - clock.monotonic_s()
            if left_s <= 0:
                self._end(ua.StatusCodes.BadTimeout, "no session, or no renewal, in time")
                return
            await clock.sleep(min(left_s, self.iserver.limits.recheck_s))
            if not await self.processor.still_trusted():
                self._end(ua.StatusCodes.BadSecurityChecksFailed, "trust or user was withdrawn")
                return

    def _end(self, code: int, reason: str) -> None:
        if self.processor is not None:
            # What strangers do shall not fill the log.
            log = _log.info if self.processor.peer is not None else _log.debug
            log("connection.ended", peer=self.processor.address, reason=reason[:200])
            self.processor.end(code)


class Listener(BinaryServer):
    """Listens and makes a :class:`Protocol` for each connection."""

    def __init__(self, internal_server: Any, hostname: str, port: int, limits: TransportLimits) -> None:
        super().__init__(internal_server, hostname, port, limits)
        self._inbound = memoryview(bytearray(INBOUND_BYTES))

    def _make_protocol(self) -> Protocol:
        made = Protocol(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )
        made.inbound = self._inbound
        return made

    async def stop(self) -> None:
        """Close every connection and wait until their tasks are over, then stop listening."""
        if self._server is not None:
            self._server.close()
        tasks = [client._task for client in self.clients if client._task is not None]  # noqa: SLF001 - seam
        for client in list(self.clients):
            if client.transport is not None:
                client.transport.close()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=STOP_S)
            for client in list(self.clients) if stuck else ():
                if client.transport is not None:
                    client.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while self.clients:  # noqa: ASYNC110 - the list is asyncua's, nobody tells when it is empty
                    await asyncio.sleep(0.005)
        await super().stop()


def _host(transport: Any) -> str:
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if isinstance(peer, tuple) else ""
