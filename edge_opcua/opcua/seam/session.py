"""A session that belongs to one channel and one client, and touches nobody else's subscriptions."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_session import InternalSession, SessionState

from edge_opcua.opcua.seam.identity import NOBODY, Account, facts_of
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.services.counts import SessionCounts
from edge_opcua.security.roles import Role

if TYPE_CHECKING:
    from edge_opcua.opcua.seam.processor import Processor

NONCE_BYTES: Final = 32
# Users of one session that diagnostics remember, newest last.
MAX_HISTORY: Final = 10


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
    """

    name: str
    client: ClientApplication
    since: dt.datetime
    activated: bool
    subscriptions: int
    items: int
    interval_ms: float = 0.0


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
        processor: Processor,
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
        self.owner: Processor | None = processor
        self.since = since
        self.order = WriteOrder()
        self.account = NOBODY
        self.locales: tuple[str, ...] = ()
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

    def activate(self, params: ua.ActivateSessionParameters, account: Account) -> ua.ActivateSessionResult:
        """Let a user that was signed in act through this session (Part 4 §5.7.3).

        asyncua's own activation is not used: it decides at once, and hashing a password takes its time.
        """
        self.account = account
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
        await super().close_session(delete_subs)

    # --- subscriptions: each service first asks whose it is (asyncua lets any session touch any) --------

    def owns(self, subscription_id: int) -> bool:
        """Whether this session has the subscription."""
        found = self.subscription_service.subscriptions.get(subscription_id)
        return found is not None and found.session_id == self.session_id

    def _mine(self, subscription_id: int) -> None:
        if not self.owns(subscription_id):
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)

    async def create_subscription(
        self,
        params: ua.CreateSubscriptionParameters,
        callback: Callable[..., Any],
        request_callback: Callable[..., Any] | None = None,
    ) -> ua.CreateSubscriptionResult:
        """Create a subscription that remembers its client, for a later transfer."""
        result = await super().create_subscription(params, callback, request_callback)
        self.subscription_service.subscriptions[result.SubscriptionId].client = self.client
        return result

    def modify_subscription(self, params: ua.ModifySubscriptionParameters) -> ua.ModifySubscriptionResult:
        """See Part 4 §5.14.3; only one's own."""
        self._mine(params.SubscriptionId)
        return super().modify_subscription(params)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """See Part 4 §5.13.2; only in one's own subscription."""
        self._mine(params.SubscriptionId)
        return list(await super().create_monitored_items(params))

    async def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """See Part 4 §5.13.3; only in one's own subscription."""
        self._mine(params.SubscriptionId)
        return list(await super().modify_monitored_items(params))

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """See Part 4 §5.13.6; only in one's own subscription."""
        self._mine(params.SubscriptionId)
        return list(await super().delete_monitored_items(params))

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> list[ua.StatusCode]:
        """See Part 4 §5.13.4; only in one's own subscription."""
        self._mine(params.SubscriptionId)
        return list(await super().set_monitoring_mode(params))

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> list[ua.StatusCode]:
        """See Part 4 §5.14.4; a foreign subscription does not exist for this session."""
        wanted = list(params.SubscriptionIds)
        params.SubscriptionIds = [i for i in wanted if self.owns(i)]
        done = dict(zip(params.SubscriptionIds, await super().set_publishing_mode(params), strict=True))
        return [done.get(i, _NO_SUBSCRIPTION) for i in wanted]

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        """See Part 4 §5.14.8; a foreign subscription does not exist for this session."""
        own = [i for i in dict.fromkeys(ids) if self.owns(i)]
        done = dict(zip(own, await super().delete_subscriptions(own), strict=True))
        return [done.pop(i, _NO_SUBSCRIPTION) for i in ids]

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        """See Part 4 §5.14.6; asyncua answers Good and nothing for what it does not have."""
        self._mine(params.SubscriptionId)
        message = super().republish(params)
        if not message.SequenceNumber:
            raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)
        return message

    def publish(
        self, acks: Iterable[ua.SubscriptionAcknowledgement] | None = None
    ) -> tuple[int, list[ua.StatusCode]]:
        """Acknowledge one's own notifications; returns how many subscriptions this session has."""
        subscriptions = self.subscription_service.subscriptions
        own = sum(found.session_id == self.session_id for found in subscriptions.values())
        if not own:
            raise ServiceError(ua.StatusCodes.BadNoSubscription)
        results = []
        for ack in acks or ():
            if self.owns(ack.SubscriptionId):
                subscriptions[ack.SubscriptionId].publish([ack.SequenceNumber])
                results.append(ua.StatusCode())
            else:
                results.append(_NO_SUBSCRIPTION)
        return own, results

    async def transfer_subscriptions(
        self,
        params: ua.TransferSubscriptionsParameters,
        callback: Callable[..., Any],  # noqa: ARG002 - asyncua's, one of the two that have to be moved
    ) -> list[ua.TransferResult]:
        """Take over a subscription of an earlier session of the same client (Part 4 §5.14.7)."""
        return [self._take_over(int(subscription_id)) for subscription_id in params.SubscriptionIds]

    def _take_over(self, subscription_id: int) -> ua.TransferResult:
        found = self.subscription_service.subscriptions.get(subscription_id)
        if found is None or self.owner is None:
            return ua.TransferResult(StatusCode=_NO_SUBSCRIPTION)
        before = getattr(found, "client", None)
        if before is None or not self.client.is_same(before):
            return ua.TransferResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadUserAccessDenied))
        found.session_id = self.session_id
        self.owner.serve(found)
        return ua.TransferResult(AvailableSequenceNumbers=sorted(found._not_acknowledged_results))  # noqa: SLF001 - seam


_NO_SUBSCRIPTION = ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid)
