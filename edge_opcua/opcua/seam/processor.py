"""One connection's requests: who may send what, and which of them run side by side.

asyncua's processor answers one request after the other and trusts whoever sends it. Ours asks for the
session's token on every request, binds sessions to channels, and runs Write and Call as tasks of the
connection, so that a PLC that takes two seconds delays no other answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from functools import partial
from typing import Any, Final
from urllib.parse import urlparse

import structlog
from asyncua import ua
from asyncua.common.connection import MessageChunk, TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, uatcp_to_binary

from edge_opcua.opcua.seam.answer import encode, fault, good
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.channel import CHUNK_BYTES, Channel
from edge_opcua.opcua.seam.guard import handle_of
from edge_opcua.opcua.seam.identity import (
    Account,
    Circumstances,
    SignInRefusedError,
    anonymous,
    facts_of,
)
from edge_opcua.opcua.seam.jobs import Job, Jobs, reported, status_of
from edge_opcua.opcua.seam.pace import Pace, RequestRate
from edge_opcua.opcua.seam.request import check_activation, check_open_request, decode, read_header
from edge_opcua.opcua.seam.session import ClientApplication, Session
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.service import Service
from edge_opcua.opcua.services.slices import Rest
from edge_opcua.security.chain import leaf_of
from edge_opcua.security.trust import Decision, describe, refusal
from edge_opcua.security.users import role_names

MIN_NONCE_BYTES: Final = 32
# Answers that anybody may leave unread for a moment.
SMALL_BYTES: Final = 256 * 1024


def _requests(*names: str) -> frozenset[ua.NodeId]:
    return frozenset(
        ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary")) for name in names
    )


(CREATE_SESSION,) = _requests("CreateSession")
(ACTIVATE_SESSION,) = _requests("ActivateSession")
(CLOSE_SESSION,) = _requests("CloseSession")
# Part 4 §5.5: these need neither session nor security.
(GET_ENDPOINTS,) = _requests("GetEndpoints")
DISCOVERY: Final = _requests("GetEndpoints", "FindServers")
NOT_OFFERED: Final = _requests("FindServersOnNetwork", "RegisterServer", "RegisterServer2")

_log = structlog.get_logger(__name__)


class Processor(UaProcessor):
    """The server side of one connection.

    Args:
        iserver: The server core.
        transport: The connection.
        limits: Transport limits; the base class copies them.

    Attributes:
        peer: What was decided about the client's certificate; None without security.
        jobs: Its requests that run beside others.
        behind: Chunks that came after the one that is taken now.
    """

    session: Session | None

    def __init__(self, iserver: Any, transport: asyncio.Transport, limits: TransportLimits) -> None:
        super().__init__(iserver, transport, limits)
        self._gate = iserver.gate
        self._clock = iserver.clock
        self._server_limits = iserver.limits
        self._connection = Channel(self._limits, iserver.limits, iserver.clock)
        iserver.transports.add(transport)
        self.peer: Decision | None = None
        self.address = _address(self.name)
        self._greeted = False
        self._sent = b""
        self._trust_version: tuple[int, ...] | None = None
        self._idle_since_s = self._clock.monotonic_s()
        self.jobs = Jobs(iserver.limits)
        ours = self._server_limits
        self._rate = RequestRate(ours.requests_per_s, ours.request_burst, ours, self._clock)
        self._early_rate = RequestRate(ours.early_requests_per_s, ours.early_request_burst, ours, self._clock)
        self._refusing = False
        self.behind = 0
        self._client_bytes: float = math.inf
        self._client_chunks: float = math.inf

    # --- the connection ------------------------------------------------------------------------------

    def deadline_s(self) -> float:
        """Return the monotonic time at which the connection ends by itself."""
        ends_s: float = self._connection.until_s
        if self.session is None or not self.session.is_activated():
            limits = self._server_limits
            ends_s = min(ends_s, self._idle_since_s + limits.activation_s)
            if not self._greeted:
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
        if self._transport.is_closing():
            return
        response.ResponseHeader.RequestHandle = requesthandle
        try:
            body = encode(response, self.most_bytes())
        except ServiceError as exc:
            _log.info("answer.too_large", peer=self.address, answer=type(response).__name__)
            self.send_fault(requesthandle, seqhdr, exc.code)
            return
        self._send(body, seqhdr, msgtype)

    def send_bytes(self, handle: int, seqhdr: Any, type_id: bytes, body: bytes) -> None:
        """Send a Good answer that is encoded already, within the limits of every other."""
        if self._transport.is_closing():
            return
        answer = good(type_id, handle, self._clock.utc_ns()) + body
        if len(answer) > self.most_bytes():
            _log.info("answer.too_large", peer=self.address, answer=type_id.hex())
            self.send_fault(handle, seqhdr, ua.StatusCodes.BadResponseTooLarge)
            return
        self._send(answer, seqhdr, ua.MessageType.SecureMessage)

    def send_fault(self, handle: int, seqhdr: Any, code: int) -> None:
        """Answer with a ServiceFault."""
        if not self._transport.is_closing():
            body = fault(handle, int(code), self._clock.utc_ns())
            self._send(body, seqhdr, ua.MessageType.SecureMessage)

    def _send(self, body: bytes, seqhdr: Any, kind: Any) -> None:
        self._transport.write(
            self._connection.message_to_binary(body, message_type=kind, request_id=seqhdr.RequestId)
        )
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
        crypto = self._connection.security_policy.symmetric_cryptography
        chunk_bytes = MessageChunk.max_body_size(crypto, self._limits.max_send_buffer)
        wanted = self.session.response_bytes if self.session is not None else math.inf
        most = self._server_limits.response_bytes
        return int(min(most, wanted, self._client_bytes, self._client_chunks * chunk_bytes))

    def end(self, code: int) -> None:
        """Close the connection with a generic error; the exact reason is for the log (Part 6 §7.1.5)."""
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
            return self._greet(body)
        if not self._greeted:
            raise ServiceError(ua.StatusCodes.BadTcpMessageTypeInvalid)
        if kind == ua.MessageType.SecureOpen:
            if not await self._admit(header, body):
                self.end(ua.StatusCodes.BadSecurityChecksFailed)
                return False
        elif not self._connection.is_open():
            raise ServiceError(ua.StatusCodes.BadTcpSecureChannelUnknown)
        goes_on = bool(await super().process(header, body))
        if self._refusing and (pause_s := rate.pause_s()):
            await self._clock.sleep(pause_s)  # and nothing is read meanwhile
        return goes_on

    def _greet(self, body: Any) -> bool:
        hello = struct_from_binary(ua.Hello, body)
        if self._greeted or min(hello.ReceiveBufferSize, hello.SendBufferSize) < CHUNK_BYTES:
            raise ServiceError(ua.StatusCodes.BadConnectionRejected)
        self._greeted = True
        limits = self._limits
        limits.max_recv_buffer = min(hello.SendBufferSize, limits.max_recv_buffer)
        limits.max_send_buffer = min(hello.ReceiveBufferSize, limits.max_send_buffer)
        # What the client says of messages is about answers, what we say about requests; 0: no limit.
        self._client_bytes = hello.MaxMessageSize or math.inf
        self._client_chunks = hello.MaxChunkCount or math.inf
        acknowledge = ua.Acknowledge(
            ReceiveBufferSize=limits.max_recv_buffer,
            SendBufferSize=limits.max_send_buffer,
            MaxMessageSize=limits.max_message_size,
            MaxChunkCount=limits.max_chunk_count,
        )
        self._transport.write(uatcp_to_binary(ua.MessageType.Acknowledge, acknowledge))
        return True

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """Open or renew the channel, once the certificate was accepted."""
        strict = StrictBuffer(bytes(body))
        check_open_request(strict.copy())
        renewed = self._connection.is_open()
        super().open_secure_channel(algohdr, seqhdr, strict)
        if self.peer is not None and not renewed:
            self._tell_channel("channel.opened")

    def _tell_channel(self, kind: str) -> None:
        assert self.peer is not None, "without security there is nobody to tell about"
        facts = {
            "channel": int(self._connection.security_token.ChannelId),
            "policy": self._connection.security_policy.URI.rpartition("#")[2],
            "thumbprint": self.peer.thumbprint,
        }
        event: dict[str, Any] = {
            **self._channel_facts(),
            "RequestType": int(ua.SecurityTokenRequestType.Issue),
            "SecurityPolicyUri": self._connection.security_policy.URI,
            "SecurityMode": int(self._connection.security_policy.Mode),
            "RequestedLifetime": float(self._connection.security_token.RevisedLifetime),
        }
        if kind == "channel.closed":
            event = {"SecureChannelId": event["SecureChannelId"]}
        who = f"{self.peer.application_uri} ({self.address})"
        self.iserver.audit(Act(kind, 0, who, facts=facts, event=event))

    def _channel_facts(self) -> dict[str, Any]:
        """Return what Part 5 §6.5.6, §6.5.8 tell of a channel."""
        return {
            "SecureChannelId": str(self._connection.security_token.ChannelId),
            "ClientCertificate": self.peer.leaf if self.peer is not None else b"",
            "ClientCertificateThumbprint": self.peer.thumbprint if self.peer is not None else "",
        }

    async def _admit(self, header: Any, body: Any) -> bool:
        """Decide whether this channel may open, or go on, before any key is touched."""
        security = struct_from_binary(ua.AsymmetricAlgorithmHeader, body.copy(header.body_size))
        if header.ChunkType != ua.ChunkType.Single:  # Part 6 §6.7.2.2: always one chunk
            return self._refused(refusal("S406", "OpenSecureChannel in several chunks"))
        secured = security.SecurityPolicyURI != SecurityPolicyNone.URI
        if self._connection.is_open():
            same = security.SecurityPolicyURI == self._connection.security_policy.URI
            leaf = leaf_of(security.SenderCertificate or b"") if secured else b""
            if not same or leaf != (self.peer.leaf if self.peer else b""):
                return self._refused(refusal("S420", "at the renewal of the channel", of=self.peer))
        if not secured:
            # Needed for discovery in any case; CreateSession asks whether more is allowed.
            return True
        sent = security.SenderCertificate or b""
        if security.SecurityPolicyURI not in {policy.URI for policy in self._offered()}:
            detail = _printable(str(security.SecurityPolicyURI)[:100])
            return self._refused(refusal("S413", detail, of=describe(sent)))
        if security.ReceiverCertificateThumbPrint != self._own_thumbprint():
            return self._refused(refusal("S412", of=describe(sent)))
        version = await self._gate.version()
        decision: Decision = await self._gate.admit(sent, self.address)
        self.peer = decision if decision.trusted else None
        self._sent, self._trust_version = sent, version
        return decision.trusted

    def _own_thumbprint(self) -> bytes:
        """Return the SHA-1 of our certificate: on an open channel the one that it was opened with."""
        own = self._gate.security.pki.certificate_der
        if self._connection.is_open():
            own = self._connection.security_policy.host_certificate
        return hashlib.sha1(own, usedforsecurity=False).digest()

    async def still_trusted(self) -> bool:
        """Whether client and user may stay: decided again only after lists or users have changed."""
        return await self._client_still_trusted() and await self._user_still_there()

    async def _client_still_trusted(self) -> bool:
        if self.peer is None:
            return True
        version = await self._gate.version()
        if version is None or version == self._trust_version:
            return True
        decision: Decision = await self._gate.admit(self._sent, self.address)
        self._trust_version = version
        if decision.trusted:
            self.peer = decision  # its roles may be others
        return decision.trusted or decision.code == "S414"  # unreadable for a moment: look again later

    async def _user_still_there(self) -> bool:
        """Give the session the roles its user has now; end it if there is no such user any more."""
        identity, session = self.iserver.identity, self.session
        if session is None or not session.is_activated():
            return True
        before = session.account
        now = await identity.is_still(before) if before.user is not None else anonymous(self.peer)
        if session.account is not before:  # another user has come meanwhile
            return True
        if now is None:
            _log.warning("session.user_gone", who=session.who, user=session.user_name)
            await session.close_session(delete_subs=True)
            return False
        if now.roles != before.roles:
            _log.info("session.roles_changed", who=session.who, roles=role_names(now.roles))
            session.act_for(now)  # else the very same roles stay: services notice a change by that
        return True

    def refuse_open(self, reason: str) -> None:
        """Report a channel that failed after its certificate was accepted."""
        self._refused(refusal("S415", _printable(reason)[:200], of=self.peer))

    def _offered(self) -> list[Any]:
        return [factory.cls for factory in self.iserver.policies]

    def _refused(self, decision: Decision) -> bool:
        self._gate.refuse(decision, self.address)
        return False

    async def close(self) -> None:
        """End the session with the connection, unless it moved on, or has subscriptions to come back to."""
        if self.session is not None and self.session.owner is not self:
            self.session = None
        if self.peer is not None and self._connection.security_token.ChannelId:
            self._tell_channel("channel.closed")
        # Nothing more is published into the void; it waits for the client to come back.
        if self.session is not None:
            self.iserver.subscription_service.drop_requests(self.session)
        await super().close()
        if self.session is not None:
            self.session.owner = None
            self.session = None

    # --- requests ------------------------------------------------------------------------------------

    async def process_message(self, seqhdr: Any, body: Any) -> bool:
        """Answer one request; what goes wrong in it is the answer, not the end of the connection."""
        whole = bytes(body)
        if self._refusing:
            self._refuse(seqhdr, whole)
            return True
        body = StrictBuffer(whole, longest=self._server_limits.string_bytes)
        typeid = nodeid_from_binary(body)
        header = read_header(body)
        try:
            return bool(await self._process_message(typeid, header, seqhdr, body))
        except Exception as exc:  # noqa: BLE001 - boundary: asyncua's codec and services raise anything
            code = status_of(exc)
            if code is None and not self._connection.activated:
                code = int(ua.StatusCodes.BadDecodingError)  # a stranger's nonsense is nothing for the log
            Way(self, header, seqhdr, typeid).fault(reported(exc) if code is None else code)
            return True

    def _refuse(self, seqhdr: Any, whole: bytes) -> None:
        """Say BadServerTooBusy to a request that is not decoded."""
        self.iserver.counts.refused(ua.StatusCodes.BadServerTooBusy, session_wanted=False)
        self.send_fault(handle_of(whole), seqhdr, ua.StatusCodes.BadServerTooBusy)

    def count_refusal(self, typeid: ua.NodeId, code: int) -> None:
        """Count a request that is answered with a ServiceFault (Part 5 §12.9)."""
        for_a_session = typeid in (CREATE_SESSION, ACTIVATE_SESSION)
        self.iserver.counts.refused(int(code), session_wanted=for_a_session)
        if self.session is not None and not for_a_session:
            self.session.counts.refused(_service_name(typeid), int(code))

    def now_s(self) -> float:
        """Return the monotonic time."""
        return float(self._clock.monotonic_s())

    async def _process_message(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        if typeid in DISCOVERY:
            return await self._discover(typeid, requesthdr, seqhdr, body)
        if typeid == CREATE_SESSION:
            return await self._create_session(requesthdr, seqhdr, body)
        if typeid == ACTIVATE_SESSION:
            return await self._activate_session(requesthdr, seqhdr, body)
        if typeid in NOT_OFFERED:  # nobody needs a session to be told so
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        session = self._session_of(requesthdr)
        if typeid == CLOSE_SESSION:
            return await self._close_session(session, requesthdr, seqhdr, body)
        found = self.iserver.services.get(typeid)
        if found is None:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        if not session.is_activated():
            raise ServiceError(ua.StatusCodes.BadSessionNotActivated)
        session.touch()
        session.counts.asked(_service_name(typeid))
        service, way = found[1], Way(self, requesthdr, seqhdr, typeid)
        if service.raw is None or not service.raw(session, body.whole, body.cur_pos, way):
            self._serve(service, session, way, body)
        return True

    async def _discover(self, typeid: Any, header: Any, seqhdr: Any, body: Any) -> bool:
        """Part 4 §5.5.2, §5.5.4: answered to anybody."""
        response: Any
        if typeid == GET_ENDPOINTS:
            params = decode(ua.GetEndpointsParameters, body, self._server_limits)
            response = ua.GetEndpointsResponse()
            response.Endpoints = await self.iserver.get_endpoints(params, sockname=self.sockname)
        else:
            params = decode(ua.FindServersParameters, body, self._server_limits)
            response = ua.FindServersResponse()
            response.Servers = self.iserver.find_servers(params, sockname=self.sockname)
        self.send_response(header.RequestHandle, seqhdr, response)
        return True

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
            self._refused(refusal("S422", of=self.peer))
        raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)

    # --- sessions ------------------------------------------------------------------------------------

    async def _create_session(self, header: Any, seqhdr: Any, body: Any) -> bool:
        params = decode(ua.CreateSessionParameters, body, self._server_limits)
        client = self._client(params)
        if self.session is not None:
            if self.session.is_activated():
                raise ServiceError(ua.StatusCodes.BadTooManySessions)  # one session per channel
            await self.session.close_session(delete_subs=True)
        await self.iserver.make_room_for_session(secured=client.secured)
        self.session = self.iserver.create_client_session(
            _printable(params.SessionName or "")[:200], client, self
        )
        self.session.response_bytes = params.MaxResponseMessageSize or math.inf
        result = await self.session.create_session(params, sockname=self.sockname)
        self._tell_session(params, result)
        result.MaxRequestMessageSize = self._server_limits.message_bytes
        policy = self._connection.security_policy
        result.ServerCertificate = policy.host_certificate
        signed = (policy.peer_certificate or b"") + (params.ClientNonce or b"")
        result.ServerSignature.Signature = policy.asymmetric_cryptography.signature(signed)
        result.ServerSignature.Algorithm = policy.AsymmetricSignatureURI
        response = ua.CreateSessionResponse()
        response.Parameters = result
        self.send_response(header.RequestHandle, seqhdr, response)
        return True

    def _tell_session(self, params: Any, result: Any) -> None:
        """Tell who has a session, and if he was sent to us by a name that our certificate does not have."""
        session: Session = self.session  # type: ignore[assignment]  # just made
        facts = {"application_uri": session.client.application_uri, "name": session.name}
        event = {**self._channel_facts(), "RevisedSessionTimeout": float(result.RevisedSessionTimeout)}
        self.iserver.audit(
            Act("session.created", 0, session.who, session.session_id, facts=facts, event=event)
        )
        host = host_of(params.EndpointUrl)
        if self.peer is not None and not self.iserver.is_called(host):  # Part 4 §5.7.2: told, not refused
            facts = {"endpoint_url": str(params.EndpointUrl)[:500]}
            self.iserver.audit(Act("url.mismatched", 0, session.who, session.session_id, facts=facts))

    def _client(self, params: Any) -> ClientApplication:
        """Say who wants a session: on a secured channel its certificate does (Part 4 §5.7.2)."""
        if params.ServerUri and params.ServerUri != self._gate.security.pki.application_uri:
            raise ServiceError(ua.StatusCodes.BadServerUriInvalid)
        described = params.ClientDescription
        uri = str(described.ApplicationUri or "")[:500]
        name = described.ApplicationName.Text if described.ApplicationName else ""
        if self.peer is None:
            if not self._gate.security.allow_none:
                raise ServiceError(ua.StatusCodes.BadSecurityModeInsufficient)
        else:
            if leaf_of(params.ClientCertificate or b"") != self.peer.leaf:
                self._refused(refusal("S420", of=self.peer))
                raise ServiceError(ua.StatusCodes.BadCertificateInvalid)
            if uri != self.peer.application_uri:
                self._refused(refusal("S421", f"it calls itself {uri[:200]!r}", of=self.peer))
                raise ServiceError(ua.StatusCodes.BadCertificateUriInvalid)
            if len(params.ClientNonce or b"") < MIN_NONCE_BYTES:
                raise ServiceError(ua.StatusCodes.BadNonceInvalid)
        return ClientApplication(
            application_uri=uri,
            application_name=_printable(name or "")[:200],
            address=self.address,
            certificate=self.peer.leaf if self.peer else b"",
            thumbprint=self.peer.thumbprint if self.peer else "",
            policy_uri=self._connection.security_policy.URI,
            secured=self.peer is not None,
        )

    async def _activate_session(self, header: Any, seqhdr: Any, body: Any) -> bool:
        """Part 4 §5.7.3. Requests of this connection that follow wait until it is decided."""
        check_activation(body.copy())
        params = decode(ua.ActivateSessionParameters, body, self._server_limits)
        session = self.iserver.lookup_external_session(header.AuthenticationToken)
        if session is None:
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        self._may_activate(session)
        self._check_signature(session, params.ClientSignature.Signature)
        nonce = session.nonce
        account = await self._signed_in(session, params)
        # While a password was hashed the session may have ended, moved, or been activated by another request.
        if session.nonce is not nonce or session.is_over or self._transport.is_closing():
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        self._may_activate(session)
        # Part 4 §5.7.3: a session moves to another channel with its user, not to another user.
        if session.owner is not self and account.name != session.user_name:
            raise ServiceError(ua.StatusCodes.BadIdentityChangeNotSupported)
        result = session.activate(params, account)
        if session.owner is not self:
            self._take_over(session)
        self._connection.activated = True
        facts = {**facts_of(account), "secured": session.secured}
        self.iserver.audit(Act("session.activated", 0, session.who, session.session_id, facts=facts))
        response = ua.ActivateSessionResponse()
        response.Parameters = result
        self.send_response(header.RequestHandle, seqhdr, response)
        return True

    def _may_activate(self, session: Session) -> None:
        if session.owner is not self:
            self._check_move(session)

    async def _signed_in(self, session: Session, params: ua.ActivateSessionParameters) -> Account:
        """Return the user of an activation; the reason of a refusal is for log and audit, not for him."""
        where = self._circumstances(session)
        try:
            account: Account = await self.iserver.identity.sign_in(
                params.UserIdentityToken, params.UserTokenSignature, where
            )
        except SignInRefusedError as exc:
            verdict = exc.verdict
            log = _log.debug if verdict.code == "S453" else _log.warning  # that it is locked was told
            log("user.refused", user=exc.name, who=session.who, code=verdict.code, reason=verdict.reason)
            facts = {"user": exc.name, "code": verdict.code, "reason": verdict.reason}
            act = Act("session.activated", int(exc.code), session.who, session.session_id, facts=facts)
            self.iserver.audit(act)
            raise
        if session.is_activated() and account.name != session.user_name:
            await self.jobs.settle()
        return account

    def _circumstances(self, session: Session) -> Circumstances:
        policy = self._connection.security_policy
        decryptor = policy.asymmetric_cryptography.Decryptor if self.peer is not None else None
        return Circumstances(
            peer=self.peer,
            address=self.address,
            policy_uri=policy.URI,
            certificate=policy.host_certificate,
            key=decryptor.host_privkey if decryptor is not None else None,
            nonce=session.nonce or b"",
        )

    def _check_move(self, session: Session) -> None:
        """Part 4 §5.7.3: first on its own channel; later on another one of the same client only."""
        if not session.is_activated() or not self._belongs_to(session.client):
            self._refused(refusal("S422", f"of {session.who}, from another channel", of=self.peer))
            raise ServiceError(ua.StatusCodes.BadSecureChannelIdInvalid)
        if self.session is not None and self.session.is_activated():
            raise ServiceError(ua.StatusCodes.BadTooManySessions)

    def _belongs_to(self, client: ClientApplication) -> bool:
        return (
            self.peer is not None
            and client.secured
            and self.peer.leaf == client.certificate
            and client.policy_uri == self._connection.security_policy.URI
        )

    def _check_signature(self, session: Session, signature: bytes | None) -> None:
        """Part 4 §5.7.3: the client signs our certificate and the last nonce with its channel's key."""
        policy = self._connection.security_policy
        if self.peer is None:
            return
        try:
            policy.asymmetric_cryptography.verify(policy.host_certificate + session.nonce, signature or b"")
        except Exception as exc:
            self._refused(refusal("S423", of=self.peer))
            raise ServiceError(ua.StatusCodes.BadApplicationSignatureInvalid) from exc

    def _take_over(self, session: Session) -> None:
        """Move the session here, with its subscriptions; what the old channel still sends is void."""
        before, session.owner, self.session = session.owner, self, session
        if before is not None:
            before.lose_session()

    def lose_session(self) -> None:
        """Forget a session that moved to another channel; its Publish requests came here and are void."""
        if self.session is not None:
            self.iserver.subscription_service.drop_requests(self.session)
        self.session = None
        self._idle_since_s = self._clock.monotonic_s()

    async def _close_session(self, session: Session, header: Any, seqhdr: Any, body: Any) -> bool:
        delete_subscriptions = bool(ua.ua_binary.Primitives.Boolean.unpack(body))
        session.said_goodbye = True
        await session.close_session(delete_subscriptions)
        session.owner = None
        self.lose_session()
        self.send_response(header.RequestHandle, seqhdr, ua.CloseSessionResponse())
        return True

    # --- side by side --------------------------------------------------------------------------------

    def _serve(self, service: Service, session: Session, way: Way, body: Any) -> None:
        params = None
        if service.params is not None:
            most = dict.fromkeys(service.counted, service.most)
            params = decode(service.params, body, self._server_limits, most)
        self._check_counts(service, params)
        if service.later:
            service.run(session, params, way)
        elif service.aside:
            self.jobs.check_room(len(body.whole))
            turn = session.order.enter(service.order(params)) if service.order is not None else None
            job = Job(session, way, len(body.whole), turn)
            self.jobs.start(job, partial(service.run, session, params))
        else:
            outcome = service.run(session, params)
            if isinstance(outcome, Rest):  # longer than a slice: the others have their turn in between
                self.jobs.check_room(len(body.whole))
                self.jobs.start(Job(session, way, len(body.whole), None), lambda: outcome)
            else:
                way.send(outcome)

    def _check_counts(self, service: Service, params: Any) -> None:
        if not service.counted:
            return
        operations = sum(len(getattr(params, name) or ()) for name in service.counted)
        if not operations and not service.optional:
            raise ServiceError(ua.StatusCodes.BadNothingToDo)
        if service.most and operations > service.most:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)


class Way:
    """The way back for one request's answer; see :class:`~edge_opcua.opcua.services.service.Reply`."""

    def __init__(self, processor: Processor, header: Any, seqhdr: Any, typeid: ua.NodeId) -> None:
        self._typeid = typeid
        self.handle = int(header.RequestHandle)
        hint_s = header.TimeoutHint / 1000
        self.until_s = processor.now_s() + hint_s if hint_s else math.inf
        self._processor = processor
        self._seqhdr = seqhdr

    @property
    def most_bytes(self) -> int:
        """Largest answer that this client takes."""
        return self._processor.most_bytes()

    def send(self, response: Any) -> None:
        """Answer, if the connection still stands."""
        self._processor.send_response(self.handle, self._seqhdr, response)

    def send_bytes(self, type_id: bytes, body: bytes) -> None:
        """Answer Good with what is encoded already."""
        self._processor.send_bytes(self.handle, self._seqhdr, type_id, body)

    def fault(self, code: int) -> None:
        """Answer with a ServiceFault."""
        self._processor.count_refusal(self._typeid, code)
        self._processor.send_fault(self.handle, self._seqhdr, code)


def _service_name(typeid: ua.NodeId) -> str:
    """Return the name of the service of a request, e.g. ``Read``; empty for what is no request."""
    name = ua.ObjectIdNames.get(typeid.Identifier, "") if typeid.NamespaceIndex == 0 else ""
    return name.partition("Request_")[0] if "Request_" in name else ""


def _same_token(sent: ua.NodeId, own: ua.NodeId) -> bool:
    identifier = sent.Identifier
    return isinstance(identifier, bytes) and hmac.compare_digest(identifier, own.Identifier)


def _address(peer: Any) -> str:
    """Return ``host:port`` of a socket's peer name."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        return f"[{peer[0]}]:{peer[1]}" if ":" in str(peer[0]) else f"{peer[0]}:{peer[1]}"
    return str(peer or "")


def host_of(url: str | None) -> str:
    """Return the host of an endpoint URL as a client wrote it; empty if it is none."""
    try:
        return (urlparse(url or "").hostname or "").lower()
    except ValueError:
        return ""


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
