"""One connection to one OPC UA server: values asked for by Read, as many at once as it allows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.core.values import BAD_NOT_SUPPORTED, is_bad
from edge_opcua.drivers.opcuaclient import content, messages
from edge_opcua.drivers.opcuaclient.address import Node, OpcUaAddress, Space
from edge_opcua.drivers.opcuaclient.messages import Cell, ServiceRefusedError
from edge_opcua.drivers.opcuaclient.names import Names
from edge_opcua.drivers.opcuaclient.reasons import refusal, status_text, write_refusal
from edge_opcua.drivers.opcuaclient.session import Access, Offer, Session
from edge_opcua.drivers.opcuaclient.settings import OpcUaOptions, OpcUaShape
from edge_opcua.drivers.opcuaclient.watching import Watch
from edge_opcua.drivers.planner import Place, Request
from edge_opcua.drivers.wire import Fault, FaultKind, Reading, Stamped, Traffic
from edge_opcua.errors import DeviceError, DeviceRefusedError, DeviceTimeoutError

_MAX_PREPARED: Final = 256
_NAMESPACES: Final = ua.ObjectIds.Server_NamespaceArray
_LIMITS: Final = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead
_REGISTER_LIMIT: Final = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRegisterNodes
# A server that can do less than it said: the same is asked in two halves.
_TOO_MUCH: Final = (
    ua.StatusCodes.BadTooManyOperations,
    ua.StatusCodes.BadResponseTooLarge,
    ua.StatusCodes.BadRequestTooLarge,
    ua.StatusCodes.BadEncodingLimitsExceeded,
)


# A server that has no time or room now (Part 4 §7.38.2): the same is asked again.
_BUSY: Final = (
    0x80EE0000,  # BadServerTooBusy
    ua.StatusCodes.BadTcpServerTooBusy,
    ua.StatusCodes.BadResourceUnavailable,
    ua.StatusCodes.BadOutOfMemory,
)
_BUSY_RETRIES: Final = 3
_BUSY_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request as it is sent.

    Args:
        request: The request; kept, so that no other one takes its identity.
        asked: Places in it of the fragments that are asked for.
        refused: What is said of the others without asking.
        body: The Read behind its header.
    """

    request: Request
    asked: tuple[int, ...]
    refused: dict[int, Fault]
    body: bytes


class OpcUaWire:
    """One connection to one server.

    Args:
        access: How the server is reached.
        options: Settings of the device.
        timeout_s: Deadline of one request, seconds.
        clock: Clock.
        periods_s: What the server may send by itself, and how often it is wanted; empty: all is read.

    Attributes:
        names: Which index each namespace has.
        offer: The endpoint that is used, or was the last time; None: the server is to be asked.
    """

    def __init__(
        self,
        access: Access,
        options: OpcUaOptions,
        timeout_s: float,
        clock: Clock,
        periods_s: Mapping[Space, float] | None = None,
    ) -> None:
        self.shape = OpcUaShape(options.max_nodes)
        self.traffic = Traffic()
        self._access = access
        self._options = options
        self._timeout_s = timeout_s
        self._clock = clock
        self._session: Session | None = None
        self.offer: Offer | None = None
        self.names = Names()
        self._least_refused = options.max_nodes + 1
        self._most_registered = 0
        self._prepared: dict[int, _Prepared] = {}
        self._halves: dict[int, tuple[Request, ...]] = {}
        self._registered: dict[Node, bytes] = {}
        # Arrays of which only the first elements are wanted, found out by reading them.
        self._cut: set[Space] = set()
        self._periods_s = periods_s or {}
        self._watch: Watch | None = None
        self._rest: dict[int, tuple[Request, Request, tuple[int, ...]]] = {}

    async def open(self) -> None:
        """Connect and open a session; DeviceError if the server does not let us."""
        await self.close()
        known, self.offer = self.offer, None
        session = Session(self._access, self._timeout_s, self._clock, self.traffic)
        self._session = session
        try:
            offer = await session.open(known)
            await self._learn(session)
            if self._periods_s:
                self._watch = Watch(session, self._periods_s, self._timeout_s, self._clock)
                await self._watch.begin()
        except DeviceError:
            await self.close()
            raise
        self.offer = offer

    async def _learn(self, session: Session) -> None:
        """Read which namespaces the server has, and how much may be asked at once."""
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
        request.Parameters.NodesToRead = [
            ua.ReadValueId(ua.NodeId(number), ua.AttributeIds.Value)
            for number in (_NAMESPACES, _LIMITS, _REGISTER_LIMIT)
        ]
        try:
            results = (await session.call(request, ua.ReadResponse)).Results
        except ServiceRefusedError as exc:
            raise DeviceError(refusal(exc.status).of(self._access.endpoint.name)) from exc
        found = [_plain(each) for each in results or ()] + [None] * 3
        uris = found[0] if isinstance(found[0], list) else []
        self.names.learn([str(uri or "") for uri in uris])
        self._most_registered = found[2] if isinstance(found[2], int) else 0
        most = found[1] if isinstance(found[1], int) and found[1] > 0 else self._options.max_nodes
        self.shape = OpcUaShape(max(1, min(most, self._options.max_nodes, self._least_refused - 1)))

    async def close(self) -> None:
        """Say goodbye without waiting, and drop the connection."""
        session, self._session = self._session, None
        self._prepared.clear()
        self._halves.clear()
        self._registered.clear()
        self._rest.clear()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()
        if session is not None:
            session.close()

    @property
    def depth(self) -> int:
        """As many as the options say."""
        return self._options.pipeline

    @property
    def session(self) -> Session:
        """The session; DeviceError if there is none."""
        if self._session is None:
            raise DeviceError(f"{self._access.endpoint.name} is not connected")
        return self._session

    @property
    def namespaces(self) -> list[str]:
        """URIs of the server's namespaces."""
        return self.names.uris

    async def read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        if self._watch is None:
            return await self._read(requests)
        await self.session.keep_keys()
        self._watch.take()
        return [await self._look_up(request, self._watch) for request in requests]

    async def _look_up(self, request: Request, watch: Watch) -> Sequence[Reading]:
        """Return what the server has sent, and read what it has not."""
        found = [watch.reading(cast(Space, fragment.space)) for fragment in request.fragments]
        missing = tuple(i for i, reading in enumerate(found) if reading is None)
        read = iter(await self._read_missing(request, missing, watch))
        return [next(read) if reading is None else reading for reading in found]

    async def _read_missing(
        self, request: Request, missing: tuple[int, ...], watch: Watch
    ) -> Sequence[Reading]:
        if not missing:
            return ()
        rest = request
        if len(missing) < len(request.fragments):
            known = self._rest.get(id(request))
            if known is None or known[2] != missing:
                if len(self._rest) >= _MAX_PREPARED:
                    self._rest.clear()
                part = Request(tuple(request.fragments[i] for i in missing), request.deadline_s)
                known = self._rest[id(request)] = (request, part, missing)
            rest = known[1]
        (answers,) = await self._read((rest,))
        wanted: dict[Space, tuple[ua.NodeId, str]] = {}
        for fragment, answer in zip(rest.fragments, answers, strict=True):
            space = cast(Space, fragment.space)
            node = self.names.resolve(space.node)
            if isinstance(answer, Stamped) and not isinstance(node, Fault):
                wanted[space] = (node, content.range_of(space, cut=space in self._cut))
        await watch.follow(wanted)
        return answers

    async def _read(self, requests: Sequence[Request]) -> Sequence[Sequence[Reading]]:
        session = self.session
        await session.keep_keys()
        whole = [request for request in requests if len(request.fragments) < self._least_refused]
        prepared = [await self._prepare(request) for request in whole]
        found = iter(zip(prepared, await self._ask(session, prepared), strict=True))
        answers: list[Sequence[Reading]] = []
        for request in requests:
            if len(request.fragments) >= self._least_refused:
                answers.append(await self._read_halves(request))
                continue
            each, cells = next(found)
            if isinstance(cells, ServiceRefusedError):
                answers.append(await self._reconsider(each, cells))
            else:
                answers.append(self._judge(each, cells))
        return answers

    async def _ask(
        self, session: Session, prepared: Sequence[_Prepared]
    ) -> list[list[Cell] | ServiceRefusedError]:
        """Send Reads together and return what came for each."""
        channel = session.channel
        assert channel is not None
        flying: list[asyncio.Future[Any]] = []
        answers: list[list[Cell] | ServiceRefusedError] = []
        deadline_s = min((each.request.deadline_s or self._timeout_s for each in prepared), default=0.0)
        until_ns = self._clock.monotonic_ns() + int(1e9 * min(deadline_s, self._timeout_s))
        try:
            flying += [channel.send(messages.READ, each.body) for each in prepared if each.asked]
            coming = iter(flying)
            for each in prepared:
                if not each.asked:
                    answers.append([])
                    continue
                left_s = max(0.001, (until_ns - self._clock.monotonic_ns()) / 1e9)
                answers.append(_cells(await channel.answer(next(coming), left_s), len(each.asked)))
        finally:
            for future in flying:
                if future.done() and not future.cancelled():
                    future.exception()  # of a broken channel: told once is enough
                future.cancel()
        return answers

    async def _reconsider(self, prepared: _Prepared, refused: ServiceRefusedError) -> Sequence[Reading]:
        """Ask a busy server again, and one that cannot do so much at once for less."""
        self.traffic.errors += 1
        status, request = refused.status & 0xFFFF0000, prepared.request
        if status in _BUSY:
            return await self._ask_busy(prepared, status)
        if status not in _TOO_MUCH or len(request.fragments) == 1:
            raise DeviceError(refusal(refused.status).of(self._access.endpoint.name))
        self._least_refused = min(self._least_refused, len(request.fragments))
        return await self._read_halves(request)

    async def _ask_busy(self, prepared: _Prepared, status: int) -> Sequence[Reading]:
        for _ in range(_BUSY_RETRIES):
            await self._clock.sleep(_BUSY_PAUSE_S)
            (cells,) = await self._ask(self.session, (prepared,))
            if not isinstance(cells, ServiceRefusedError):
                return self._judge(prepared, cells)
        reason = f"D378 {self._access.endpoint.name} is busy ({status_text(status)})"
        return [Fault(FaultKind.BUSY, reason)] * len(prepared.request.fragments)

    async def _read_halves(self, request: Request) -> Sequence[Reading]:
        known = self._halves.get(id(request))
        if known is None:
            middle = len(request.fragments) // 2
            if len(self._halves) >= _MAX_PREPARED:
                self._halves.clear()
            parts = (request.fragments[:middle], request.fragments[middle:])
            known = (request, *(Request(part, request.deadline_s) for part in parts))
            self._halves[id(request)] = known
        answers: list[Reading] = []
        for part in known[1:]:
            (found,) = await self._read((part,))
            answers += found
        return answers

    def _judge(self, prepared: _Prepared, cells: Sequence[Cell]) -> list[Reading]:
        fragments = prepared.request.fragments
        answers: list[Reading] = [prepared.refused.get(i, _UNASKED) for i in range(len(fragments))]
        for i, cell in zip(prepared.asked, cells, strict=True):
            space = cast(Space, fragments[i].space)
            if content.is_longer(cell, space) and space not in self._cut:
                self._cut.add(space)  # from the next poll on only what is wanted
                self._prepared.pop(id(prepared.request), None)
            answers[i] = content.reading(cell, space)
            self.traffic.errors += isinstance(answers[i], Fault)
        return answers

    async def _prepare(self, request: Request) -> _Prepared:
        """Return a request as bytes; planned once, a request is sent with every poll."""
        known = self._prepared.get(id(request))
        if known is None:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            known = self._prepared[id(request)] = await self._encode(request)
        return known

    async def _encode(self, request: Request) -> _Prepared:
        refused: dict[int, Fault] = {}
        nodes: dict[int, ua.NodeId] = {}
        for i, fragment in enumerate(request.fragments):
            node = self.names.resolve(cast(Space, fragment.space).node)
            if isinstance(node, Fault):
                refused[i] = node
            else:
                nodes[i] = node
        await self._register(request, nodes)
        entries = []
        for i, node in nodes.items():
            space = cast(Space, request.fragments[i].space)
            encoded = self._registered.get(space.node) or messages.node_bytes(node)
            entries.append(messages.read_value_id(encoded, content.range_of(space, cut=space in self._cut)))
        return _Prepared(request, tuple(nodes), refused, messages.read_body(entries))

    async def _register(self, request: Request, nodes: dict[int, ua.NodeId]) -> None:
        """Let the server look up once what is read again and again; one that cannot is asked without."""
        if not self._options.register_nodes or self._most_registered < 0:
            return
        wanted = {
            cast(Space, request.fragments[i].space).node: node
            for i, node in nodes.items()
            if cast(Space, request.fragments[i].space).node not in self._registered
        }
        step = self._most_registered or self.shape.max_nodes
        for first in range(0, len(wanted), step):
            part = list(wanted.items())[first : first + step]
            demand = ua.RegisterNodesRequest()
            demand.Parameters.NodesToRegister = [node for _, node in part]
            try:
                answer = await self.session.call(demand, ua.RegisterNodesResponse)
            except ServiceRefusedError:
                self._most_registered = -1
                return
            given = answer.Parameters.RegisteredNodeIds or ()
            if len(given) == len(part):
                self._registered |= {
                    node: messages.node_bytes(alias) for (node, _), alias in zip(part, given, strict=True)
                }

    async def write(self, place: Place, encoded: bytes) -> None:
        """See :class:`edge_opcua.drivers.wire.Wire`."""
        space = cast(OpcUaAddress, place).space
        what = f"write of {space.node}"
        node = self.names.resolve(space.node)
        if isinstance(node, Fault):
            raise DeviceRefusedError(node.reason, status=ua.StatusCodes.BadNodeIdUnknown, code="D375")
        session = self.session
        await session.keep_keys()
        channel = session.channel
        assert channel is not None
        builtin, count, raw = content.written(space, encoded)
        index_range = content.range_of(space, cut=space in self._cut)
        body = messages.write_body(messages.node_bytes(node), index_range, builtin, count, raw)
        channel.writing = True
        try:
            answer = await channel.answer(channel.send(messages.WRITE, body), self._timeout_s)
            channel.writing = False
        finally:  # also without an answer: what the server sent before is no news of this value
            if self._watch is not None:
                self._watch.touch(space.node)
        try:
            status = messages.parse_write(answer)
        except ServiceRefusedError as exc:
            status = exc.status
        if is_bad(status):
            self.traffic.errors += 1
            code, text = write_refusal(status, what)
            if status & 0xFFFF0000 in _UNKNOWN:
                raise DeviceTimeoutError(text, again=True)
            raise DeviceRefusedError(text, status=status & 0xFFFF0000, code=code)

    async def write_bytes(self, area: str, offset: int, payload: bytes) -> None:  # noqa: ARG002 - of the Protocol
        """Refuse: a server takes values of nodes, no bytes at an offset."""
        raise DeviceRefusedError(f"{area}: an OPC UA server takes no raw bytes", status=BAD_NOT_SUPPORTED)


# A server that passes a write on to a device behind it may not know either.
_UNKNOWN: Final = (
    ua.StatusCodes.BadTimeout,
    ua.StatusCodes.BadRequestTimeout,
    ua.StatusCodes.BadCommunicationError,
)
_UNASKED: Final = Fault(FaultKind.MISSED, "it was not asked")


def _cells(answer: bytes, count: int) -> list[Cell] | ServiceRefusedError:
    try:
        return messages.parse_read(answer, count)
    except ServiceRefusedError as exc:
        return exc


def _plain(value: Any) -> Any:
    """Return the value of a DataValue if it is good."""
    variant = value.Value
    status = value.StatusCode
    return None if variant is None or (status is not None and is_bad(int(status.value))) else variant.Value
