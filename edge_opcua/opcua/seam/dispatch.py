"""From the bytes of a request to the service that answers it, and the way back for the answer."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial
from typing import Any, Final, Protocol

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.ua.ua_binary import nodeid_to_binary

from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.jobs import Job, Jobs
from edge_opcua.opcua.seam.request import LongList, decode, decode_slowly, long_list
from edge_opcua.opcua.seam.session import Session
from edge_opcua.opcua.services.service import Service
from edge_opcua.opcua.services.slices import Rest, begin


def requests(*names: str) -> frozenset[ua.NodeId]:
    """Return the TypeIds of requests by the names of their services."""
    return frozenset(
        ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary")) for name in names
    )


(CREATE_SESSION,) = requests("CreateSession")
(ACTIVATE_SESSION,) = requests("ActivateSession")
(CLOSE_SESSION,) = requests("CloseSession")
# Part 4 §5.5: these need neither session nor security.
(GET_ENDPOINTS,) = requests("GetEndpoints")
DISCOVERY: Final = requests("GetEndpoints", "FindServers")
NOT_OFFERED: Final = requests("FindServersOnNetwork", "RegisterServer", "RegisterServer2")
# TypeIds of requests as they are sent (Part 6 §5.2.2.9).
TYPES: Final = {
    bytes(nodeid_to_binary(ua.FourByteNodeId(number))): ua.NodeId(number)
    for number, name in ua.ObjectIdNames.items()
    if name.endswith("Request_Encoding_DefaultBinary")
}
# What is longer is decoded slice by slice.
_LONG_BYTES: Final = 8192


class Line(Protocol):
    """A connection that answers are sent on."""

    def now_s(self) -> float:
        """Return the monotonic time."""
        ...

    def most_bytes(self) -> int:
        """Return the largest answer that this client takes."""
        ...

    def answer(self, handle: int, request_id: int, response: Any) -> None:
        """Send an answer, unless nobody is there."""
        ...

    def send_bytes(self, handle: int, request_id: int, type_id: bytes, body: bytes) -> None:
        """Send a Good answer that is encoded already."""
        ...

    def send_fault(self, handle: int, request_id: int, code: int) -> None:
        """Send a ServiceFault."""
        ...

    def count_refusal(self, service: str, code: int) -> None:
        """Count a request that is answered with a ServiceFault."""
        ...


class Way:
    """The way back for one request's answer; see :class:`~edge_opcua.opcua.services.service.Reply`.

    Args:
        line: Where it goes.
        request_id: RequestId of the message.
        handle: RequestHandle.
        hint_ms: TimeoutHint.
        service: Name of the service; empty for what is no request.
    """

    __slots__ = ("_line", "_request_id", "handle", "service", "until_s")

    def __init__(self, line: Line, request_id: int, handle: int, hint_ms: int, service: str) -> None:
        self.handle = handle
        self.service = service
        self.until_s = line.now_s() + hint_ms / 1000 if hint_ms else math.inf
        self._line = line
        self._request_id = request_id

    @property
    def most_bytes(self) -> int:
        """Largest answer that this client takes."""
        return self._line.most_bytes()

    def send(self, response: Any) -> None:
        """Answer, if the connection still stands."""
        self._line.answer(self.handle, self._request_id, response)

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        """Answer Good with what is encoded already."""
        self._line.send_bytes(self.handle, self._request_id, type_id, body)

    def fault(self, code: int) -> None:
        """Answer with a ServiceFault."""
        self._line.count_refusal(self.service, code)
        self._line.send_fault(self.handle, self._request_id, code)


class Dispatch:
    """Hands the requests of one connection to their services.

    Args:
        jobs: What runs beside the others.
        limits: What a request may hold.
    """

    def __init__(self, jobs: Jobs, limits: ServerLimits) -> None:
        self._jobs = jobs
        self._limits = limits

    def ask(self, service: Service, session: Session, way: Way, whole: bytes, at: int) -> None:
        """Let a service answer a request that is its session's.

        Args:
            service: The service.
            session: The caller; alive and activated.
            way: Where the answer goes.
            whole: The request.
            at: Where its parameters begin.

        Raises:
            ServiceError: The request as a whole failed, as other exceptions of codec and services say too.
        """
        session.touch()
        session.counts.asked(way.service)
        if service.changes:
            self._jobs.check_room(len(whole))
        done = service.raw(session, whole, at, way) if service.raw is not None else False
        if isinstance(done, Rest):
            self._go_on(done, session, way, len(whole))
        elif not done:
            self._decoded(service, session, way, whole, at)

    def _decoded(self, service: Service, session: Session, way: Way, whole: bytes, at: int) -> None:
        params = None
        if service.params is not None:
            if len(whole) > _LONG_BYTES and not (service.later or service.aside):
                where = long_list(service.params, service.counted)
                if where is not None:
                    self._go_on(
                        begin(self._slowly(service, where, session, whole, at)), session, way, len(whole)
                    )
                    return
            most = dict.fromkeys(service.counted, service.most)
            body = StrictBuffer(whole, at, longest=self._limits.string_bytes)
            params = decode(service.params, body, self._limits, most)
        _check_counts(service, params)
        if service.later:
            service.run(session, params, way)
        elif service.aside:
            self._jobs.check_room(len(whole))
            turn = session.order.enter(service.order(params)) if service.order is not None else None
            job = Job(session, way, len(whole), turn)
            self._jobs.start(job, partial(service.run, session, params))
        else:
            outcome = service.run(session, params)
            if isinstance(outcome, Rest):
                self._go_on(outcome, session, way, len(whole))
            else:
                way.send(outcome)

    def _slowly(
        self, service: Service, where: LongList, session: Session, whole: bytes, at: int
    ) -> Generator[None, None, Any]:
        """Decode a long list and answer it, slice by slice."""
        assert service.params is not None, "the list is in them"
        body = StrictBuffer(whole, at, longest=self._limits.string_bytes)
        params = yield from decode_slowly(service.params, where, body, self._limits, service.most)
        _check_counts(service, params)
        if session.is_over:  # meanwhile
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        outcome = service.run(session, params)
        return (yield from outcome.slices()) if isinstance(outcome, Rest) else outcome

    def _go_on(self, rest: Rest[Any], session: Session, way: Way, size: int) -> None:
        """Do what takes longer than a slice; the others have their turn in between."""
        self._jobs.check_room(size)
        self._jobs.start(Job(session, way, size, None), lambda: rest)


def _check_counts(service: Service, params: Any) -> None:
    if not service.counted:
        return
    operations = sum(len(getattr(params, name) or ()) for name in service.counted)
    if not operations and not service.optional:
        raise ServiceError(ua.StatusCodes.BadNothingToDo)
    if service.most and operations > service.most:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)


async def discover(core: Any, typeid: ua.NodeId, body: StrictBuffer, sockname: Any) -> Any:
    """Answer GetEndpoints and FindServers (Part 4 §5.5.2, §5.5.4), which anybody may ask."""
    response: Any
    if typeid == GET_ENDPOINTS:
        params = decode(ua.GetEndpointsParameters, body, core.limits)
        response = ua.GetEndpointsResponse()
        response.Endpoints = await core.get_endpoints(params, sockname=sockname)
    else:
        params = decode(ua.FindServersParameters, body, core.limits)
        response = ua.FindServersResponse()
        response.Servers = core.find_servers(params, sockname=sockname)
    return response


def service_name(typeid: ua.NodeId) -> str:
    """Return the name of the service of a request, e.g. ``Read``; empty for what is no request."""
    name = ua.ObjectIdNames.get(typeid.Identifier, "") if typeid.NamespaceIndex == 0 else ""
    return name.partition("Request_")[0] if "Request_" in name else ""
