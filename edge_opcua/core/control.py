"""The control channel: typed messages between our processes over local sockets; a reply is always sent.

One socket keeps its order, and many requests are in flight on it. The supervisor's :class:`Hub` hands a
request on to the process it is addressed to. Overflow: requests wait for a place (within their timeout),
notifications drop the oldest and count. Who does not speak the protocol loses the connection, nothing else.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog

from edge_opcua.core.localsocket import connect_unix, listen_unix, peer_uid
from edge_opcua.core.messages import (
    MAX_TIMEOUT_S,
    Decoder,
    Message,
    Reply,
    Request,
    encode,
    late,
    notify_message,
    refusal,
    reply_message,
    request_message,
)
from edge_opcua.core.supervise import describe
from edge_opcua.core.values import (
    BAD_INTERNAL_ERROR,
    BAD_INVALID_ARGUMENT,
    BAD_NO_COMMUNICATION,
    BAD_NOT_SUPPORTED,
    BAD_TOO_MANY_OPERATIONS,
)
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ControlError, EdgeError

__all__ = ["SUPERVISOR", "Handler", "Hub", "Peer", "Reply", "Request", "ask"]

Handler: TypeAlias = Callable[[Request], Awaitable[Reply]]

MAX_IN_FLIGHT: Final = 256  # requests per direction of a socket
MAX_QUEUED_NOTIFIES: Final = 1024
MAX_QUEUED_BYTES: Final = 4 << 20  # of notifications
MAX_UNREAD_BYTES: Final = 16 << 20  # of replies that the other end does not take
MAX_CLIENTS: Final = 32
SUPERVISOR: Final = "supervisor"

_READ_BYTES: Final = 64 << 10
_CLOSE_S: Final = 0.2

_log = structlog.get_logger(__name__)


class _Outbox:
    """Frames in the order they will be sent; what overflows is said in the module's text."""

    def __init__(self) -> None:
        self.dropped = 0
        self.waiting_bytes = 0
        self._frames: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._notifies: collections.deque[int] = collections.deque()
        self._notify_bytes = 0
        self._last = 0
        self._filled = asyncio.Event()

    def put(self, frame: bytes) -> int:
        """Append a request or a reply and return its ticket; :meth:`discard` takes it."""
        self._last += 1
        self._frames[self._last] = frame
        self.waiting_bytes += len(frame)
        self._filled.set()
        return self._last

    def put_notify(self, frame: bytes) -> None:
        """Append a notification; the oldest ones make room for it."""
        self._notifies.append(self.put(frame))
        self._notify_bytes += len(frame)
        while len(self._notifies) > MAX_QUEUED_NOTIFIES or self._notify_bytes > MAX_QUEUED_BYTES:
            self._notify_bytes -= self.discard(self._notifies.popleft())
            self.dropped += 1

    def discard(self, ticket: int) -> int:
        """Take back a frame if it has not been sent; return its size, 0 if it has."""
        size = len(self._frames.pop(ticket, b""))
        self.waiting_bytes -= size
        return size

    async def take(self) -> bytes:
        """Wait for something to send and return at least one frame, some 64 KiB if there is as much."""
        while not self._frames:
            self._filled.clear()
            await self._filled.wait()
        return self._take(_READ_BYTES)

    def take_all(self) -> bytes:
        """Return everything that has not been sent."""
        return self._take(self.waiting_bytes)

    def _take(self, some_bytes: int) -> bytes:
        taken: list[bytes] = []
        size = 0
        while self._frames and size < some_bytes:
            ticket, frame = self._frames.popitem(last=False)
            if self._notifies and self._notifies[0] == ticket:
                self._notifies.popleft()
                self._notify_bytes -= len(frame)
            taken.append(frame)
            size += len(frame)
        self.waiting_bytes -= size
        return b"".join(taken)


class Peer:
    """One end of a control socket.

    Args:
        sock: A connected stream socket; the peer owns it.
        handle: Answers requests and notifications (whose reply is ignored); may be exchanged at any time.
        name: Role of the other end, for the log.

    Attributes:
        late: Replies that came after their request had timed out.
        refused: Notifications that came faster than they could be handled.
        heard: Pieces read from the other end; stands still while that is silent.
    """

    def __init__(self, sock: socket.socket, handle: Handler, name: str) -> None:
        self.handle = handle
        self.name = name
        self.late = 0
        self.refused = 0
        self.heard = 0
        self._sock = sock
        self._sock.settimeout(0)
        self._outbox = _Outbox()
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._places = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._handlers: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._closed = False

    @property
    def dropped(self) -> int:
        """Notifications dropped because the other end did not take them."""
        return self._outbox.dropped

    @property
    def closed(self) -> bool:
        """Whether the connection is gone for good."""
        return self._closed

    async def run(self) -> None:
        """Serve until the other end closes or breaks the protocol; then cancel what is still in flight."""
        reader, writer = await asyncio.open_connection(sock=self._sock)
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._send(writer), name=f"control.send.{self.name}")
                try:
                    await self._receive(reader, tasks)
                finally:
                    self._closed = True
                    for future in self._pending.values():
                        if not future.done():
                            future.set_result(self._gone())
                    for task in (sender, *self._handlers):
                        task.cancel()
        finally:
            writer.write(self._outbox.take_all())  # last words, e.g. what was released at the end
            await _close(writer)

    def close(self) -> None:
        """Close the socket of a peer that does not run (any more)."""
        self._closed = True
        self._sock.close()

    async def request(self, to: str, kind: str, body: Mapping[str, Any], *, timeout_s: float) -> Reply:
        """Ask for something and wait for the answer; trouble comes as a reply too, never as an exception.

        Args:
            to: Role that shall answer.
            kind: What is asked for.
            body: Arguments, JSON types (numpy's are taken too).
            timeout_s: Longest wait, seconds; the handler at the other end is cancelled then.

        Returns:
            The handler's reply; BadTimeout if none came in time, BadNoCommunication if the way there is
            broken, BadInvalidArgument if the body is no JSON or too large.
        """
        return await self.forward(Request(to, kind, dict(body), timeout_s=min(timeout_s, MAX_TIMEOUT_S)))

    def notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        """Tell something, without an answer; dropped and counted if the other end does not take it.

        Raises:
            ControlError: The body is no JSON or too large.
        """
        self.forward_notify(Request(to, kind, dict(body), reply_wanted=False))

    async def forward(self, request: Request) -> Reply:
        """Send a request as it stands, origin included; see :meth:`request`."""
        try:
            async with asyncio.timeout(request.timeout_s), self._places:
                return await self._exchange(request)
        except TimeoutError:
            return late(request)
        except ControlError as exc:
            return Reply(BAD_INVALID_ARGUMENT, str(exc))

    def forward_notify(self, request: Request) -> None:
        """Send a notification as it stands, origin included; see :meth:`notify`."""
        frame = encode(notify_message(request))
        if self._closed:
            self._outbox.dropped += 1
        else:
            self._outbox.put_notify(frame)

    def last_words(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        """Tell something from another thread while the event loop hangs, before the process ends itself.

        It goes past everything that waits to be sent. If the other end takes nothing, it is lost.

        Raises:
            ControlError: The body is no JSON or too large.
        """
        frame = encode(notify_message(Request(to, kind, dict(body), reply_wanted=False)))
        with contextlib.suppress(OSError):
            self._sock.send(frame)

    async def _exchange(self, request: Request) -> Reply:
        if self._closed:
            return self._gone()
        self._last_id += 1
        number = self._last_id
        ticket = self._outbox.put(encode(request_message(number, request)))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            return await future
        finally:
            del self._pending[number]
            self._outbox.discard(ticket)  # nobody waits for it any more

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await self._outbox.take())
                await writer.drain()
        except OSError:
            return  # the receiving side sees the end of the connection and acts on it

    async def _receive(self, reader: asyncio.StreamReader, tasks: asyncio.TaskGroup) -> None:
        decoder = Decoder()
        try:
            while chunk := await reader.read(_READ_BYTES):
                self.heard += 1
                for message in decoder.feed(chunk):
                    if len(self._handlers) >= MAX_IN_FLIGHT:  # a burst: let those begin that only pass on
                        await asyncio.sleep(0)
                    self._dispatch(message, tasks)
                if self._outbox.waiting_bytes > MAX_UNREAD_BYTES + MAX_QUEUED_BYTES:
                    _log.warning("control.replies_unread", peer=self.name)
                    return
        except OSError as exc:
            _log.debug("control.broken", peer=self.name, error=describe(exc))
        except ControlError as exc:
            _log.warning("control.protocol_error", peer=self.name, error=str(exc))

    def _dispatch(self, message: Message, tasks: asyncio.TaskGroup) -> None:
        if message["t"] == "reply":
            future = self._pending.get(message["id"])
            if future is None or future.done():
                self.late += 1
            else:
                future.set_result(Reply(message["status"], message["reason"], message["body"]))
            return
        number: int | None = message.get("id") if message["t"] == "request" else None
        request = Request(
            message["to"],
            message["kind"],
            message["body"],
            message["origin"],
            timeout_s=float(message["timeout_s"]) if number is not None else MAX_TIMEOUT_S,
            reply_wanted=number is not None,
        )
        if len(self._handlers) < 2 * MAX_IN_FLIGHT:
            task = tasks.create_task(self._answer(request, number), name=f"control.{request.kind}")
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        elif number is None:
            self.refused += 1
        else:
            self._reply(number, Reply(BAD_TOO_MANY_OPERATIONS, "too many requests are in flight"))

    async def _answer(self, request: Request, number: int | None) -> None:
        try:
            async with asyncio.timeout(request.timeout_s):
                reply = await self.handle(request)
        except TimeoutError:  # the deadline, or one inside the handler: both mean that nobody knows
            reply = late(request)
        except EdgeError as exc:
            _log.info("control.refused", kind=request.kind, origin=request.origin, error=describe(exc))
            reply = refusal(exc)
        except Exception as exc:  # noqa: BLE001 - a fault in one handler may not cost the others their channel
            _log.error("control.handler_failed", kind=request.kind, origin=request.origin, exc_info=exc)
            reply = Reply(BAD_INTERNAL_ERROR, f"{request.kind} failed: {describe(exc)}")
        if number is not None:
            self._reply(number, reply)

    def _reply(self, number: int, reply: Reply) -> None:
        try:
            frame = encode(reply_message(number, reply))
        except ControlError as exc:
            _log.error("control.reply_unsendable", peer=self.name, error=str(exc))
            frame = encode(reply_message(number, Reply(BAD_INTERNAL_ERROR, str(exc))))
        self._outbox.put(frame)

    def _gone(self) -> Reply:
        return Reply(BAD_NO_COMMUNICATION, f"{self.name} is gone")


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, giving what is on its way a moment."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()


class Hub:
    """The supervisor's side: connects the processes and answers for the supervisor itself.

    A process that is not there, dies or does not answer costs its callers a Bad reply, never the hub.

    Args:
        handle: Answers what is addressed to ``supervisor``.
        keep_for: Roles whose notifications wait for them (the oldest are dropped and counted) while they
            are not connected, e.g. audit records while the records process starts again.

    Attributes:
        dropped: Notifications that found nobody.
    """

    def __init__(self, handle: Handler, *, keep_for: Collection[str] = ("records",)) -> None:
        self.handle = handle
        self.dropped = 0
        self._kept: dict[str, collections.deque[Request]] = {role: collections.deque() for role in keep_for}
        self._peers: dict[str, Peer] = {}
        self._runs: dict[Peer, asyncio.Task[None]] = {}
        self._clients: set[Peer] = set()
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that are connected now."""
        return tuple(self._peers)

    async def run(self) -> None:
        """Serve the attached processes until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for role, peer in self._peers.items():
                    self._start(tasks, role, peer)
                await asyncio.get_running_loop().create_future()  # until cancelled
        finally:
            self._tasks = None
            self._peers.clear()
            self._runs.clear()

    def attach(self, role: str, sock: socket.socket) -> None:
        """Serve a process from now on (or from :meth:`run` on); its former connection is cut."""
        self.detach(role)
        peer = Peer(sock, self._route_from(role), role)
        self._peers[role] = peer
        kept = self._kept.get(role)
        while kept:
            peer.forward_notify(kept.popleft())
        if self._tasks is not None:
            self._start(self._tasks, role, peer)

    def detach(self, role: str) -> None:
        """Cut the connection of a process; requests in flight to it get BadNoCommunication."""
        peer = self._peers.pop(role, None)
        if peer is None:
            return
        run = self._runs.get(peer)
        if run is None:
            peer.close()
        else:
            run.cancel()

    def heard(self, role: str) -> int:
        """Return a number that grows with what a process says; it stands still while that is silent."""
        peer = self._peers.get(role)
        return 0 if peer is None else peer.heard

    async def request(self, to: str, kind: str, body: Mapping[str, Any], *, timeout_s: float) -> Reply:
        """Ask a process for something in the supervisor's name; see :meth:`Peer.request`."""
        timeout_s = min(timeout_s, MAX_TIMEOUT_S)
        return await self._route(Request(to, kind, dict(body), SUPERVISOR, timeout_s=timeout_s))

    def notify(self, to: str, kind: str, body: Mapping[str, Any]) -> None:
        """Tell a process something in the supervisor's name; dropped and counted if it is not connected."""
        self._pass_on(Request(to, kind, dict(body), SUPERVISOR, reply_wanted=False))

    async def serve_unix(self, path: Path) -> None:
        """Serve local clients (``edge-opcua status``) on a socket of mode 0600 until cancelled.

        Args:
            path: Where the socket appears; one left by a killed server is replaced.

        Raises:
            ControlError: Another server answers there, or it cannot be made.
        """
        files = Worker("control.socket")
        listener = await files.call(listen_unix, path, timeout_s=5.0)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._accept(listener, tasks)
        finally:
            listener.close()
            try:
                await files.call(partial(path.unlink, missing_ok=True), timeout_s=1.0)
            except (OSError, TimeoutError) as exc:
                _log.warning("control.socket_left", path=str(path), error=describe(exc))
            files.close()

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        try:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
        except OSError as exc:  # out of descriptors; the clients wait in the backlog
            _log.warning("control.accept_failed", error=describe(exc))
            await asyncio.sleep(1.0)
            return
        if len(self._clients) >= MAX_CLIENTS or peer_uid(sock) not in (0, os.geteuid()):
            sock.close()
            return
        peer = Peer(sock, self._route_from("cli"), "cli")
        self._clients.add(peer)
        tasks.create_task(self._serve_client(peer), name="control.cli")

    async def _serve_client(self, peer: Peer) -> None:
        try:
            await peer.run()
        finally:
            self._clients.discard(peer)
            peer.close()

    def _start(self, tasks: asyncio.TaskGroup, role: str, peer: Peer) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            peer.close()
            self._runs.pop(peer, None)
            if self._peers.get(role) is peer:
                del self._peers[role]
            _log.debug("control.closed", role=role, dropped=peer.dropped, late=peer.late)

        run = tasks.create_task(peer.run(), name=f"control.{role}")
        self._runs[peer] = run
        run.add_done_callback(ended)

    def _route_from(self, origin: str) -> Handler:
        async def handle(request: Request) -> Reply:
            return await self._route(replace(request, origin=origin))

        return handle

    async def _route(self, request: Request) -> Reply:
        if request.to == SUPERVISOR:
            return await self.handle(request)
        if not request.reply_wanted:
            self._pass_on(request)
            return Reply()
        peer = self._peers.get(request.to)
        if peer is None:
            return Reply(BAD_NO_COMMUNICATION, f"{request.to} is not running")
        return await peer.forward(request)

    def _pass_on(self, notification: Request) -> None:
        peer = self._peers.get(notification.to)
        if peer is not None:
            peer.forward_notify(notification)
            return
        kept = self._kept.get(notification.to)
        if kept is not None:
            kept.append(notification)
        if kept is None or len(kept) > MAX_QUEUED_NOTIFIES:
            if kept:
                kept.popleft()
            self.dropped += 1


async def ask(path: Path, to: str, kind: str, body: Mapping[str, Any], *, timeout_s: float) -> Reply:
    """Ask a running server one thing over its local socket; for the command line.

    Args:
        path: Socket of the server.
        to: Role that shall answer.
        kind: What is asked for.
        body: Arguments, JSON types.
        timeout_s: Longest wait, seconds.

    Returns:
        The reply; BadNoCommunication if no server answers there.
    """
    try:
        sock = connect_unix(path)
    except ControlError as exc:
        return Reply(BAD_NO_COMMUNICATION, str(exc))
    peer = Peer(sock, _nothing, SUPERVISOR)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(peer.run(), name="control.ask")
        reply = await peer.request(to, kind, body, timeout_s=timeout_s)
        running.cancel()
    return reply


async def _nothing(request: Request) -> Reply:
    return Reply(BAD_NOT_SUPPORTED, f"a client does not answer {request.kind}")
