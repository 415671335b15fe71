"""The session services (Part 4 §5.7): a session belongs to one client on one channel."""

from __future__ import annotations

import math
from typing import Any, Final, Protocol
from urllib.parse import urlparse

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError

from edge_opcua.opcua.seam.admission import Admission, printable
from edge_opcua.opcua.seam.buffer import StrictBuffer
from edge_opcua.opcua.seam.channel import Channel
from edge_opcua.opcua.seam.identity import (
    Account,
    Circumstances,
    SignInRefusedError,
    anonymous,
    facts_of,
)
from edge_opcua.opcua.seam.jobs import Jobs
from edge_opcua.opcua.seam.request import check_activation, decode
from edge_opcua.opcua.seam.session import ClientApplication, Session
from edge_opcua.opcua.services.audit import Act
from edge_opcua.security.chain import leaf_of
from edge_opcua.security.trust import Decision, refusal
from edge_opcua.security.users import role_names

MIN_NONCE_BYTES: Final = 32

_log = structlog.get_logger(__name__)


class End(Protocol):
    """Our end of a connection.

    Attributes:
        session: Its session, if there is one.
        sockname: Where the client found us.
        jobs: What runs for it.
        admission: What was decided about its client.
        channel: Its secure channel.
        address: Where the client is.
    """

    session: Session | None
    sockname: Any
    admission: Admission
    address: str

    @property
    def jobs(self) -> Jobs:
        """See the attributes."""
        ...

    @property
    def channel(self) -> Channel:
        """See the attributes."""
        ...

    def is_gone(self) -> bool:
        """Whether the connection is over."""
        ...

    def lose_session(self) -> None:
        """Forget the session."""
        ...


class SessionServices:
    """The session services of one connection.

    Args:
        core: The server core.
        end: Our end of the connection.
    """

    def __init__(self, core: Any, end: End) -> None:
        self._core = core
        self._end = end

    async def create(self, body: StrictBuffer) -> ua.CreateSessionResponse:
        """Part 4 §5.7.2."""
        core, end = self._core, self._end
        params = decode(ua.CreateSessionParameters, body, core.limits)
        client = self._client(params)
        if end.session is not None:
            if end.session.is_activated():
                raise ServiceError(ua.StatusCodes.BadTooManySessions)  # one session per channel
            await end.session.close_session(delete_subs=True)
        await core.make_room_for_session(secured=client.secured)
        name = printable(params.SessionName or "")[:200]
        session: Session = core.create_client_session(name, client, end)
        end.session = session
        session.response_bytes = params.MaxResponseMessageSize or math.inf
        result = await session.create_session(params, sockname=end.sockname)
        self._tell_session(session, params, result)
        result.MaxRequestMessageSize = core.limits.message_bytes
        policy = end.channel.security_policy
        result.ServerCertificate = policy.host_certificate
        signed = (policy.peer_certificate or b"") + (params.ClientNonce or b"")
        result.ServerSignature.Signature = policy.asymmetric_cryptography.signature(signed)
        result.ServerSignature.Algorithm = policy.AsymmetricSignatureURI
        response = ua.CreateSessionResponse()
        response.Parameters = result
        return response

    def _tell_session(self, session: Session, params: Any, result: Any) -> None:
        """Tell who has a session, and if he was sent to us by a name that our certificate does not have."""
        facts = {"application_uri": session.client.application_uri, "name": session.name}
        admission = self._end.admission
        event = {**admission.facts(), "RevisedSessionTimeout": float(result.RevisedSessionTimeout)}
        self._core.audit(Act("session.created", 0, session.who, session.session_id, facts=facts, event=event))
        host = host_of(params.EndpointUrl)
        if admission.peer is not None and not self._core.is_called(host):  # Part 4 §5.7.2: told, not refused
            facts = {"endpoint_url": str(params.EndpointUrl)[:500]}
            self._core.audit(Act("url.mismatched", 0, session.who, session.session_id, facts=facts))

    def _client(self, params: Any) -> ClientApplication:
        """Say who wants a session: on a secured channel its certificate does (Part 4 §5.7.2)."""
        security, peer = self._core.gate.security, self._peer
        if params.ServerUri and params.ServerUri != security.pki.application_uri:
            raise ServiceError(ua.StatusCodes.BadServerUriInvalid)
        described = params.ClientDescription
        uri = str(described.ApplicationUri or "")[:500]
        name = described.ApplicationName.Text if described.ApplicationName else ""
        if peer is None:
            if not security.allow_none:
                raise ServiceError(ua.StatusCodes.BadSecurityModeInsufficient)
        else:
            self._check_client(params, uri, peer)
        return ClientApplication(
            application_uri=uri,
            application_name=printable(name or "")[:200],
            address=self._end.address,
            certificate=peer.leaf if peer else b"",
            thumbprint=peer.thumbprint if peer else "",
            policy_uri=self._end.channel.security_policy.URI,
            secured=peer is not None,
        )

    def _check_client(self, params: Any, uri: str, peer: Decision) -> None:
        if leaf_of(params.ClientCertificate or b"") != peer.leaf:
            self._refused(refusal("S420", of=peer))
            raise ServiceError(ua.StatusCodes.BadCertificateInvalid)
        if uri != peer.application_uri:
            self._refused(refusal("S421", f"it calls itself {uri[:200]!r}", of=peer))
            raise ServiceError(ua.StatusCodes.BadCertificateUriInvalid)
        if len(params.ClientNonce or b"") < MIN_NONCE_BYTES:
            raise ServiceError(ua.StatusCodes.BadNonceInvalid)

    async def activate(self, header: ua.RequestHeader, body: StrictBuffer) -> ua.ActivateSessionResponse:
        """Part 4 §5.7.3. Requests of this connection that follow wait until it is decided."""
        check_activation(body.copy())
        params = decode(ua.ActivateSessionParameters, body, self._core.limits)
        session: Session | None = self._core.lookup_external_session(header.AuthenticationToken)
        if session is None:
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        self._may_activate(session)
        self._check_signature(session, params.ClientSignature.Signature)
        nonce = session.nonce
        account = await self._signed_in(session, params)
        # While a password was hashed the session may have ended, moved, or been activated by another request.
        if session.nonce is not nonce or session.is_over or self._end.is_gone():
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        self._may_activate(session)
        # Part 4 §5.7.3: a session moves to another channel with its user, not to another user.
        if session.owner is not self._end and account.name != session.user_name:
            raise ServiceError(ua.StatusCodes.BadIdentityChangeNotSupported)
        result = session.activate(params, account)
        if session.owner is not self._end:
            self._take_over(session)
        self._end.channel.activated = True
        facts = {**facts_of(account), "secured": session.secured}
        self._core.audit(Act("session.activated", 0, session.who, session.session_id, facts=facts))
        response = ua.ActivateSessionResponse()
        response.Parameters = result
        return response

    def _may_activate(self, session: Session) -> None:
        if session.owner is not self._end:
            self._check_move(session)

    async def _signed_in(self, session: Session, params: ua.ActivateSessionParameters) -> Account:
        """Return the user of an activation; the reason of a refusal is for log and audit, not for him."""
        where = self._circumstances(session)
        try:
            account: Account = await self._core.identity.sign_in(
                params.UserIdentityToken, params.UserTokenSignature, where
            )
        except SignInRefusedError as exc:
            verdict = exc.verdict
            log = _log.debug if verdict.code == "S453" else _log.warning  # that it is locked was told
            log("user.refused", user=exc.name, who=session.who, code=verdict.code, reason=verdict.reason)
            facts = {"user": exc.name, "code": verdict.code, "reason": verdict.reason}
            act = Act("session.activated", int(exc.code), session.who, session.session_id, facts=facts)
            self._core.audit(act)
            raise
        if session.is_activated() and account.name != session.user_name:
            await self._end.jobs.settle()
        return account

    def _circumstances(self, session: Session) -> Circumstances:
        policy = self._end.channel.security_policy
        decryptor = policy.asymmetric_cryptography.Decryptor if self._peer is not None else None
        return Circumstances(
            peer=self._peer,
            address=self._end.address,
            policy_uri=policy.URI,
            certificate=policy.host_certificate,
            key=decryptor.host_privkey if decryptor is not None else None,
            nonce=session.nonce or b"",
        )

    def _check_move(self, session: Session) -> None:
        """Part 4 §5.7.3: first on its own channel; later on another one of the same client only."""
        if not session.is_activated() or not self._belongs_to(session.client):
            self._refused(refusal("S422", f"of {session.who}, from another channel", of=self._peer))
            raise ServiceError(ua.StatusCodes.BadSecureChannelIdInvalid)
        if self._end.session is not None and self._end.session.is_activated():
            raise ServiceError(ua.StatusCodes.BadTooManySessions)

    def _belongs_to(self, client: ClientApplication) -> bool:
        return (
            self._peer is not None
            and client.secured
            and self._peer.leaf == client.certificate
            and client.policy_uri == self._end.channel.security_policy.URI
        )

    def _check_signature(self, session: Session, signature: bytes | None) -> None:
        """Part 4 §5.7.3: the client signs our certificate and the last nonce with its channel's key."""
        policy = self._end.channel.security_policy
        if self._peer is None:
            return
        try:
            policy.asymmetric_cryptography.verify(policy.host_certificate + session.nonce, signature or b"")
        except Exception as exc:
            self._refused(refusal("S423", of=self._peer))
            raise ServiceError(ua.StatusCodes.BadApplicationSignatureInvalid) from exc

    def _take_over(self, session: Session) -> None:
        """Move the session here, with its subscriptions; what the old channel still sends is void."""
        before, session.owner, self._end.session = session.owner, self._end, session
        if before is not None:
            before.lose_session()

    async def close(self, session: Session, body: StrictBuffer) -> ua.CloseSessionResponse:
        """Part 4 §5.7.4."""
        delete_subscriptions = bool(ua.ua_binary.Primitives.Boolean.unpack(body))
        session.said_goodbye = True
        await session.close_session(delete_subscriptions)
        session.owner = None
        self._end.lose_session()
        return ua.CloseSessionResponse()

    async def user_is_still_there(self) -> bool:
        """Give the session the roles its user has now; end it if there is no such user any more."""
        identity, session = self._core.identity, self._end.session
        if session is None or not session.is_activated():
            return True
        before = session.account
        now = await identity.is_still(before) if before.user is not None else anonymous(self._peer)
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

    @property
    def _peer(self) -> Decision | None:
        return self._end.admission.peer

    def _refused(self, decision: Decision) -> None:
        self._end.admission.refuse(decision)


def host_of(url: str | None) -> str:
    """Return the host of an endpoint URL as a client wrote it; empty if it is none."""
    try:
        return (urlparse(url or "").hostname or "").lower()
    except ValueError:
        return ""
