"""A session that belongs to one channel and one client, and touches nobody else's subscriptions."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from asyncua import ua
from asyncua.server.internal_session import InternalSession, SessionState

from edge_opcua.opcua.seam.identity import NOBODY, Account, facts_of
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.counts import SessionCounts
from edge_opcua.security.roles import Role

NONCE_BYTES: Final = 32
# Users of one session that diagnostics remember, newest last.
MAX_HISTORY: Final = 10


class Owner(Protocol):
    """The connection that a session lives on."""

    @property
    def jobs(self) -> Any:
        """What runs for it beside other requests."""
        ...

    def lose_session(self) -> None:
        """Forget the session: it lives elsewhere now."""
        ...


@dataclass(frozen=True, slots=True)
class ClientApplication:
    """Who opened a session.

    Args:
        application_uri: What it calls itself; equal to its certificate's URI on a secured channel.
        application_name: Its name for people.
        address: ``host:port`` of the connection that created the session.
        certificate: Its certificate (DER); empty without security.
        thumbprint: SHA-1 of that certificate; empty without security.
        policy_uri: Security policy of the channel.
        secured: Whether the channel is signed and encrypted for a trusted certificate.
    """

    application_uri: str
    application_name: str
    address: str
    certificate: bytes = field(repr=False)
    thumbprint: str
    policy_uri: str
    secured: bool

    def is_same(self, other: ClientApplication) -> bool:
        """Whether both are one application, proven by its certificate (Part 4 §5.7.3)."""
        return (
            self.secured
            and other.secured
            and self.certificate == other.certificate
            and self.policy_uri == other.policy_uri
        )


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """One row of ``edge-opcua status``.

    Args:
        name: Session name, chosen by the client.
        client: Who it is.
        since: When the session was created (UTC).
        activated: Whether it may do anything.
        subscriptions: How many it has.
        items: Monitored items in all of them.
        interval_ms: The shortest of their publishing intervals; 0 without a subscription.
        user: Name of its user; empty if anonymous.
        roles: What it may do.
    """

    name: str
    client: ClientApplication
    since: dt.datetime
    activated: bool
    subscriptions: int
    items: int
    interval_ms: float = 0.0
    user: str = ""
    roles: frozenset[Role] = frozenset()


class WriteOrder:
    """Keeps the writes of one session to one node in the order in which they came."""

    def __init__(self) -> None:
        self._last: dict[ua.NodeId, asyncio.Event] = {}

    def enter(self, nodes: Iterable[ua.NodeId]) -> Turn:
        """Take a place behind every earlier write to one of these nodes; leave it with ``turn.leave()``."""
        chosen = tuple(dict.fromkeys(nodes))
        ahead = tuple(self._last[node] for node in chosen if node in self._last)
        done = asyncio.Event()
        for node in chosen:
            self._last[node] = done
        return Turn(self._last, chosen, ahead, done)


@dataclass(frozen=True, slots=True)
class Turn:
    """A place in the order of writes."""

    _last: dict[ua.NodeId, asyncio.Event]
    _nodes: tuple[ua.NodeId, ...]
    _ahead: tuple[asyncio.Event, ...]
    _done: asyncio.Event

    async def come(self) -> None:
        """Wait until every earlier write to the same nodes is over."""
        for earlier in self._ahead:
            await earlier.wait()

    def leave(self) -> None:
        """Let the next one go; also after a failure or a cancellation."""
        self._done.set()
        for node in self._nodes:
            if self._last.get(node) is self._done:
                del self._last[node]


class Session(InternalSession):
    """A client's session: 32 random bytes as token, one channel, its own subscriptions only.

    Args:
        internal_server: The server core.
        name: Session name, chosen by the client.
        client: Who it is.
        processor: The connection it belongs to.
        since: Now (UTC).
    """

    def __init__(
        self,
        internal_server: Any,
        name: str,
        client: ClientApplication,
        processor: Owner,
        since: dt.datetime,
    ) -> None:
        # external=False: the base class would enter the session under its sequential token.
        super().__init__(
            internal_server,
            internal_server.aspace,
            internal_server.subscription_service,
            name,
            external=False,
        )
        self.external = True
        self.session_id = ua.NodeId(uuid.uuid4(), 1)
        self.auth_token = ua.NodeId(secrets.token_bytes(32), 0, ua.NodeIdType.ByteString)
        self.client = client
        self.owner: Owner | None = processor
        self.since = since
        self.order = WriteOrder()
        self.account = NOBODY
        self.locales: tuple[str, ...] = ()
        self.response_bytes = math.inf  # MaxResponseMessageSize
        self.endpoint_url = ""
        self.max_response_bytes = 0
        self.user_history: tuple[str, ...] = ()
        self.counts = SessionCounts()
        self.said_goodbye = False
        internal_server.register_external_session(self)

    @property
    def used_s(self) -> float:
        """When its client last asked for something (monotonic)."""
        return float(self._last_activity)

    @property
    def secured(self) -> bool:
        """Whether the channel is signed and encrypted for a trusted certificate."""
        return self.client.secured

    @property
    def roles(self) -> frozenset[Role]:
        """What its user may do; changes with the user, and with what the operator says of him."""
        return self.account.roles

    @property
    def user_name(self) -> str:
        """Name of its user; empty if anonymous."""
        return self.account.name

    def same_user(self, other: Session) -> bool:
        """Whether both act for the same user of the same application (Part 4 §5.14.7)."""
        return self.client.is_same(other.client) and self.user_name == other.user_name

    @property
    def who(self) -> str:
        """Name for log and audit: user, application and address."""
        user = f"{self.user_name}, " if self.user_name else ""
        return f"{user}{self.client.application_name or self.client.application_uri} ({self.client.address})"

    def act_for(self, account: Account) -> None:
        """Act with the rights of an account from now on; what waits for more rights is taken back."""
        before, self.account = self.account.roles, account
        if not before <= account.roles:
            self.subscription_service.rights_shrank(self)

    def activate(self, params: ua.ActivateSessionParameters, account: Account) -> ua.ActivateSessionResult:
        """Let a user that was signed in act through this session (Part 4 §5.7.3).

        asyncua's own activation is not used: it decides at once, and hashing a password takes its time.
        """
        self.act_for(account)
        if self.user_history[-1:] != (self.user_name,):
            self.user_history = (*self.user_history, self.user_name)[-MAX_HISTORY:]
        self.locales = tuple(str(locale) for locale in params.LocaleIds or ())[:10]
        self.nonce = secrets.token_bytes(NONCE_BYTES)
        self.state = SessionState.Activated
        self.touch()
        self._start_timeout_watchdog()
        result = ua.ActivateSessionResult()
        result.ServerNonce = self.nonce
        result.Results = [ua.StatusCode() for _ in params.ClientSoftwareCertificates or ()]
        return result

    async def create_session(
        self, params: ua.CreateSessionParameters, sockname: tuple[str, int] | None = None
    ) -> ua.CreateSessionResult:
        """See Part 4 §5.7.2; what diagnostics tell of the client is kept."""
        if math.isnan(params.RequestedSessionTimeout or 0.0):  # asyncua would clamp it to itself
            params.RequestedSessionTimeout = 0.0
        self.endpoint_url = str(params.EndpointUrl or "")[:500]
        self.max_response_bytes = int(params.MaxResponseMessageSize or 0)
        return await super().create_session(params, sockname)

    @property
    def mechanism(self) -> str:
        """How its user signed in, as SessionSecurityDiagnostics names it (Part 5 §12.12)."""
        if self.account.user is None:
            return "Anonymous"
        return "Certificate" if self.account.by_certificate else "UserName"

    @property
    def is_over(self) -> bool:
        """Whether the session has been closed."""
        return self.state is SessionState.Closed

    async def close_session(self, delete_subs: bool = True) -> None:  # noqa: FBT001, FBT002 - asyncua's
        """End the session, tell so, and count how it came to that (Part 5 §12.9)."""
        if not self.is_over:
            facts = facts_of(self.account)
            self.iserver.audit(Act("session.closed", who=self.who, session=self.session_id, facts=facts))
        if self.state != SessionState.Closed and not self.said_goodbye:
            if asyncio.current_task() is self._timeout_task:
                self.iserver.counts.session_timeout_count += 1
            else:
                self.iserver.counts.session_abort_count += 1
        # Part 4 §5.14.1.1: a subscription outlives a session that timed out, for another to take it over.
        delete = delete_subs and asyncio.current_task() is not self._timeout_task
        await super().close_session(delete_subs=False)
        self.subscription_service.leave(self, delete=delete)
