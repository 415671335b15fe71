"""Sockets: frames cut before they are stored, connections counted, every error an end."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.ua.ua_binary import header_from_binary

from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.pace import site_of
from edge_opcua.opcua.seam.processor import Processor

HEADER_BYTES: Final = {b"HEL": 8, b"OPN": 12, b"MSG": 12, b"CLO": 12}
STOP_S: Final = 2.0

_log = structlog.get_logger(__name__)


class Protocol(OPCUAProtocol):
    """One TCP connection."""

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
        super().connection_made(transport)
        if self.processor is not None:
            self.processor = Processor(self.iserver, transport, self.limits)
            self.processor.set_policies(self.policies)
        self._inbox = bytearray()
        self._paused = False

    def connection_lost(self, ex: BaseException | None) -> None:
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

    def data_received(self, data: bytes) -> None:
        """Take bytes; a length that cannot be is the end before anything is stored."""
        if self.transport is not None and not self.transport.is_closing():
            self._inbox += data
            self._cut()

    def _cut(self) -> None:
        """Cut the stream into chunks, no more than may wait; the rest waits in the socket."""
        assert self.transport is not None, "made with the connection"
        while len(self._inbox) >= 8:
            kind, size = struct.unpack_from("<3sxI", self._inbox)
            if kind not in HEADER_BYTES:
                self._end(ua.StatusCodes.BadTcpMessageTypeInvalid, "no OPC UA message")
                return
            if not HEADER_BYTES[kind] < size <= self.limits.max_recv_buffer:
                self._end(ua.StatusCodes.BadTcpMessageTooLarge, f"chunk of {size} bytes")
                return
            if len(self._inbox) < size:
                return
            if self.messages.qsize() >= self._may_wait():
                self.transport.pause_reading()
                self._paused = True
                return
            buffer = StrictBuffer(bytes(self._inbox[:size]))
            del self._inbox[:size]
            self.messages.put_nowait((header_from_binary(buffer), buffer))

    def _may_wait(self) -> int:
        limits = self.iserver.limits
        return int(limits.waiting_messages if self.is_in_use() else limits.early_waiting_messages)

    async def _process_received_message_loop(self) -> None:
        """Read requests; writes and calls run as tasks in here and end with the connection."""
        assert self.processor is not None, "started by connection_made"
        async with asyncio.TaskGroup() as jobs:
            self.processor.jobs.run_in(jobs)
            await super()._process_received_message_loop()

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        """Process one chunk; asyncua logs an error and goes on, Part 6 §6.7.2 wants the channel closed."""
        if self.processor is not None:
            self.processor.behind = self.messages.qsize()
        try:
            goes_on = bool(await super()._process_one_msg(header, buf))
        except Exception as exc:  # noqa: BLE001 - boundary: whatever is wrong in a chunk ends its channel
            if header.MessageType == ua.MessageType.SecureOpen and self.processor is not None:
                self.processor.refuse_open(str(exc) if isinstance(exc, ua.UaError) else repr(exc))
            code = exc.code if isinstance(exc, (ServiceError, ua.UaStatusCodeError)) else None
            self._end(code or ua.StatusCodes.BadSecurityChecksFailed, repr(exc))
            return False
        if self._paused and self.messages.qsize() <= self._may_wait() // 2:
            self._paused = False
            if goes_on and self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
                self._cut()
        return goes_on

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

    def _make_protocol(self) -> Protocol:
        return Protocol(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )

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
