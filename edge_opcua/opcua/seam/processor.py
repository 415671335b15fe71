"""One connection's requests: who may send what, and which of them run side by side.

asyncua's processor answers one request after the other and trusts whoever sends it. Ours asks for the
session's token on every request, binds sessions to channels, and runs Write and Call as tasks of the
connection, so that a PLC that takes two seconds delays no other answer.
"""

from __future__ import annotations

import asyncio
import hmac
import math
from typing import Any, Final

import structlog
from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import nodeid_from_binary, uatcp_to_binary

from edge_opcua.opcua.seam.admission import Admission, address_of, printable
from edge_opcua.opcua.seam.answer import encode, fault, good
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.channel import Channel
from edge_opcua.opcua.seam.dispatch import (
    ACTIVATE_SESSION,
    CLOSE_SESSION,
    CREATE_SESSION,
    DISCOVERY,
    NOT_OFFERED,
    TYPES,
    Dispatch,
    Way,
    discover,
    service_name,
)
from edge_opcua.opcua.seam.framing import Opened
from edge_opcua.opcua.seam.guard import handle_of
from edge_opcua.opcua.seam.jobs import Jobs, reported, status_of
from edge_opcua.opcua.seam.pace import Pace, RequestRate
from edge_opcua.opcua.seam.request import (
    TYPE_BYTES,
    check_open_request,
    ordinary_header,
    read_header,
)
from edge_opcua.opcua.seam.session import Session
from edge_opcua.opcua.seam.session_services import SessionServices
from edge_opcua.security.trust import Decision, refusal

# Answers that anybody may leave unread for a moment.
SMALL_BYTES: Final = 256 * 1024
# Answers that are kept to be sent together.
HELD_BYTES: Final = 64 * 1024


_FOR_A_SESSION: Final = frozenset({"CreateSession", "ActivateSession"})
_log = structlog.get_logger(__name__)


class Processor(UaProcessor):
    """The server side of one connection.

    Args:
        iserver: The server core.
        transport: The connection.
        limits: Transport limits; the base class copies them.

    Attributes:
        address: Where the client is.
        admission: What was decided about its client.
        jobs: Its requests that run beside others.
        behind: Chunks that came after the one that is taken now.
    """

    session: Session | None

    def __init__(self, iserver: Any, transport: asyncio.Transport, limits: TransportLimits) -> None:
        super().__init__(iserver, transport, limits)
        self._clock = iserver.clock
        self._server_limits = iserver.limits
        self._connection = Channel(self._limits, iserver.limits, iserver.clock)
        iserver.transports.add(transport)
        self.address = address_of(self.name)
        self.admission = Admission(iserver, self._connection, self._limits, self.address)
        self._idle_since_s = self._clock.monotonic_s()
        self.jobs = Jobs(iserver.limits)
        self._dispatch = Dispatch(self.jobs, iserver.limits)
        ours = self._server_limits
        self._rate = RequestRate(ours.requests_per_s, ours.request_burst, ours, self._clock)
        self._early_rate = RequestRate(ours.early_requests_per_s, ours.early_request_burst, ours, self._clock)
        self._refusing = False
        self._held: bytearray | None = None
        self.behind = 0

    @property
    def peer(self) -> Decision | None:
        """What was decided about the client's certificate; None without security."""
        return self.admission.peer

    @property
    def channel(self) -> Channel:
        """The secure channel."""
        return self._connection

    def is_gone(self) -> bool:
        """Whether the connection is over."""
        return bool(self._transport.is_closing())

    # --- the connection ------------------------------------------------------------------------------

    def deadline_s(self) -> float:
        """Return the monotonic time at which the connection ends by itself."""
        ends_s: float = self._connection.until_s
        if self.session is None or not self.session.is_activated():
            limits = self._server_limits
            ends_s = min(ends_s, self._idle_since_s + limits.activation_s)
            if not self.admission.greeted:
                ends_s = min(ends_s, self._idle_since_s + limits.hello_s)
        return ends_s

    def send_response(
        self,
        requesthandle: Any,
        seqhdr: Any,
        response: Any,
        msgtype: Any = ua.MessageType.SecureMessage,
    ) -> None:
        """Send an answer, unless nobody is there or nobody reads. One call, no await: never interleaved."""
        self.answer(requesthandle, seqhdr.RequestId, response, msgtype)

    def answer(
        self, handle: int, request_id: int, response: Any, kind: bytes = ua.MessageType.SecureMessage
    ) -> None:
        """Send an answer, unless nobody is there or nobody reads. One call, no await: never interleaved."""
        if self._transport.is_closing():
            return
        response.ResponseHeader.RequestHandle = handle
        try:
            body = encode(response, self.most_bytes())
        except ServiceError as exc:
            _log.info("answer.too_large", peer=self.address, answer=type(response).__name__)
            self.send_fault(handle, request_id, exc.code)
            return
        self._send(body, request_id, kind)

    def send_bytes(self, handle: int, request_id: int, type_id: bytes, body: bytes) -> None:
        """Send a Good answer that is encoded already, within the limits of every other."""
        if self._transport.is_closing():
            return
        answer = good(type_id, handle, self._clock.utc_ns()) + body
        if len(answer) > self.most_bytes():
            _log.info("answer.too_large", peer=self.address, answer=type_id.hex())
            self.send_fault(handle, request_id, ua.StatusCodes.BadResponseTooLarge)
            return
        self._send(answer, request_id)

    def send_fault(self, handle: int, request_id: int, code: int) -> None:
        """Answer with a ServiceFault."""
        if not self._transport.is_closing():
            body = fault(handle, int(code), self._clock.utc_ns())
            self._send(body, request_id)

    def _send(self, body: bytes, request_id: int, kind: bytes = ua.MessageType.SecureMessage) -> None:
        message = self._connection.message_to_binary(body, kind, request_id)
        if self._held is None:
            self._write(message)
            return
        self._held += message
        if len(self._held) > HELD_BYTES:
            self._write(bytes(self._held))
            self._held.clear()

    def hold(self) -> None:
        """Keep answers, for many to be sent as one: to send costs more than to make them."""
        if self._held is None:
            self._held = bytearray()

    def release(self) -> None:
        """Send what was kept."""
        held, self._held = self._held, None
        if held and not self._transport.is_closing():
            self._write(bytes(held))

    def _write(self, message: bytes) -> None:
        self._transport.write(message)
        limits = self._server_limits
        most = limits.unread_bytes if self._connection.activated else limits.early_unread_bytes
        unread = self._transport.get_write_buffer_size()
        if unread > most or (unread > SMALL_BYTES and unread > self._share_of_unread()):
            _log.warning("connection.not_read", peer=self.address)
            self._transport.abort()

    def _share_of_unread(self) -> float:
        """Return how much may wait for this client: half of what the others leave."""
        others = self.iserver.transports - {self._transport}
        theirs = sum(other.get_write_buffer_size() for other in others if not other.is_closing())
        return float((self._server_limits.all_unread_bytes - theirs) / 2)

    def most_bytes(self) -> int:
        """Return the largest answer that we send and this client takes (Part 4 §5.7.2, Part 6 §7.1.2.3)."""
        wanted = self.session.response_bytes if self.session is not None else math.inf
        most = self._server_limits.response_bytes
        client = self.admission
        return int(min(most, wanted, client.client_bytes, client.client_chunks * self._connection.room()))

    def end(self, code: int) -> None:
        """Close the connection with a generic error; the exact reason is for the log (Part 6 §7.1.5)."""
        self.release()
        if not self._transport.is_closing():
            error = ua.ErrorMessage(ua.StatusCode(code), "")
            self._transport.write(uatcp_to_binary(ua.MessageType.Error, error))
            self._transport.close()

    async def process(self, header: Any, body: Any) -> bool:
        """Take one chunk; False, or an exception, ends the connection."""
        kind = header.MessageType
        opening = kind == ua.MessageType.SecureOpen
        activated = self._connection.activated
        rate = self._rate if activated else self._early_rate
        cost = self._server_limits.renewal_cost if opening and activated else 1
        pace = rate.ask(cost, waiting=self.behind)
        if pace is Pace.END or (opening and pace is not Pace.SERVE):
            raise ServiceError(ua.StatusCodes.BadTcpServerTooBusy)
        self._refusing = pace is Pace.REFUSE
        if kind == ua.MessageType.Hello:
            acknowledge = self.admission.greet(body)
            self._transport.write(uatcp_to_binary(ua.MessageType.Acknowledge, acknowledge))
            return True
        if not self.admission.greeted:
            raise ServiceError(ua.StatusCodes.BadTcpMessageTypeInvalid)
        if kind == ua.MessageType.SecureOpen:
            if not await self.admission.admit(header, body):
                self.end(ua.StatusCodes.BadSecurityChecksFailed)
                return False
        elif not self._connection.is_open():
            raise ServiceError(ua.StatusCodes.BadTcpSecureChannelUnknown)
        goes_on = bool(await super().process(header, body))
        if self._refusing and (pause_s := rate.pause_s()):
            await self._clock.sleep(pause_s)  # and nothing is read meanwhile
        return goes_on

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """Open or renew the channel, once the certificate was accepted."""
        strict = StrictBuffer(bytes(body))
        check_open_request(strict.copy())
        renewed = self._connection.is_open()
        super().open_secure_channel(algohdr, seqhdr, strict)
        if not renewed:
            self.admission.tell("channel.opened")

    async def still_trusted(self) -> bool:
        """Whether client and user may stay: decided again only after lists or users have changed."""
        users = SessionServices(self.iserver, self)
        return await self.admission.is_still_trusted() and await users.user_is_still_there()

    def refuse_open(self, reason: str) -> None:
        """Report a channel that failed after its certificate was accepted."""
        self.admission.refuse(refusal("S415", printable(reason)[:200], of=self.peer))

    async def close(self) -> None:
        """End the session with the connection, unless it moved on, or has subscriptions to come back to."""
        if self.session is not None and self.session.owner is not self:
            self.session = None
        if self._connection.security_token.ChannelId:
            self.admission.tell("channel.closed")
        # Nothing more is published into the void; it waits for the client to come back.
        if self.session is not None:
            self.iserver.subscription_service.drop_requests(self.session)
        await super().close()
        if self.session is not None:
            self.session.owner = None
            self.session = None

    # --- requests ------------------------------------------------------------------------------------

    def serve(self, chunk: bytes) -> bytes | Opened | None:
        """Answer an ordinary request now, whatever its answer; what asks for more takes the general way.

        Returns:
            None: it is answered, or will be; the message: it is opened and counted, :meth:`respond` to it;
            the chunk: nothing has happened, it is for :meth:`process`.
        """
        if not self._connection.activated or not self._rate.serves():
            return chunk
        opened = self._connection.take(chunk)
        if opened is None:
            self._rate.give_back()
            return chunk
        return None if self._answer_at_once(opened) else opened

    def _answer_at_once(self, opened: Opened) -> bool:
        session, whole = self.session, opened.body
        if session is None or session.owner is not self or not session.is_activated():
            return False
        found = self.iserver.services.get(TYPES.get(whole[:TYPE_BYTES]))
        header = ordinary_header(whole, session.auth_token.Identifier)
        if found is None or header is None:
            return False
        name, service = found
        way = Way(self, opened.request_id, header.handle, header.hint_ms, name)
        try:
            self._dispatch.ask(service, session, way, whole, header.at)
        except Exception as exc:  # noqa: BLE001 - boundary: asyncua's codec and services raise anything
            way.fault(self._code_of(exc))
        return True

    async def process_message(self, seqhdr: Any, body: Any) -> bool:
        """Answer one request; what goes wrong in it is the answer, not the end of the connection."""
        if self._refusing:
            self._refuse(seqhdr.RequestId, bytes(body))
            return True
        return await self.respond(seqhdr.RequestId, bytes(body))

    async def respond(self, request_id: int, whole: bytes) -> bool:
        """Answer one request of any kind; see :meth:`process_message`."""
        body = StrictBuffer(whole, longest=self._server_limits.string_bytes)
        typeid = nodeid_from_binary(body)
        header = read_header(body)
        way = Way(self, request_id, int(header.RequestHandle), header.TimeoutHint, service_name(typeid))
        try:
            await self._respond(typeid, header, way, body)
        except Exception as exc:  # noqa: BLE001 - boundary: asyncua's codec and services raise anything
            way.fault(self._code_of(exc))
        return True

    def _code_of(self, exc: Exception) -> int:
        """Return what a client is told of a failure."""
        code = status_of(exc)
        if code is None and not self._connection.activated:
            return int(ua.StatusCodes.BadDecodingError)  # a stranger's nonsense is nothing for the log
        return reported(exc) if code is None else code

    def _refuse(self, request_id: int, whole: bytes) -> None:
        """Say BadServerTooBusy to a request that is not decoded."""
        self.iserver.counts.refused(ua.StatusCodes.BadServerTooBusy, session_wanted=False)
        self.send_fault(handle_of(whole), request_id, ua.StatusCodes.BadServerTooBusy)

    def count_refusal(self, service: str, code: int) -> None:
        """Count a request that is answered with a ServiceFault (Part 5 §12.9)."""
        for_a_session = service in _FOR_A_SESSION
        self.iserver.counts.refused(int(code), session_wanted=for_a_session)
        if self.session is not None and not for_a_session:
            self.session.counts.refused(service, int(code))

    def now_s(self) -> float:
        """Return the monotonic time."""
        return float(self._clock.monotonic_s())

    async def _respond(
        self, typeid: ua.NodeId, header: ua.RequestHeader, way: Way, body: StrictBuffer
    ) -> None:
        if typeid in DISCOVERY:
            way.send(await discover(self.iserver, typeid, body, self.sockname))
        elif typeid == CREATE_SESSION:
            way.send(await SessionServices(self.iserver, self).create(body))
        elif typeid == ACTIVATE_SESSION:
            way.send(await SessionServices(self.iserver, self).activate(header, body))
        elif typeid in NOT_OFFERED:  # nobody needs a session to be told so
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        elif typeid == CLOSE_SESSION:
            way.send(await SessionServices(self.iserver, self).close(self._session_of(header), body))
        else:
            session = self._session_of(header)
            found = self.iserver.services.get(typeid)
            if found is None:
                raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
            if not session.is_activated():
                raise ServiceError(ua.StatusCodes.BadSessionNotActivated)
            self._dispatch.ask(found[1], session, way, body.whole, body.cur_pos)

    def _session_of(self, header: Any) -> Session:
        """Return the session that this request names, if it lives on this channel (Part 4 §7.32)."""
        session: Session | None = self.session
        if session is not None and _same_token(header.AuthenticationToken, session.auth_token):
            if session.owner is not self:
                raise ServiceError(ua.StatusCodes.BadSecureChannelIdInvalid)
            if session.is_over:  # it timed out: the client shall make another
                raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
            return session
        if session is not None or self.iserver.lookup_external_session(header.AuthenticationToken):
            # Somebody else's token, or a wrong one beside a session of its own: no client does this.
            self.admission.refuse(refusal("S422", of=self.peer))
        raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)

    def lose_session(self) -> None:
        """Forget a session that moved to another channel; its Publish requests came here and are void."""
        if self.session is not None:
            self.iserver.subscription_service.drop_requests(self.session)
        self.session = None
        self._idle_since_s = self._clock.monotonic_s()


def _same_token(sent: ua.NodeId, own: ua.NodeId) -> bool:
    identifier = sent.Identifier
    return isinstance(identifier, bytes) and hmac.compare_digest(identifier, own.Identifier)
