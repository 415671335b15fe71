"""The server: asyncua's, put together from our parts."""

from __future__ import annotations

import asyncio
import copy
import os
import re
import secrets
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlparse

import structlog
from asyncua import Server, ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import NodeManagementService, ViewService
from asyncua.server.internal_server import InternalServer

from edge_opcua import __version__
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.collector import paused
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.loading import load_standard
from edge_opcua.opcua.seam.cancel import Cancellation
from edge_opcua.opcua.seam.channel import CHUNK_BYTES
from edge_opcua.opcua.seam.gate import QUIET_S, Gate, ServerSecurity
from edge_opcua.opcua.seam.identity import Identity
from edge_opcua.opcua.seam.pace import Arrivals
from edge_opcua.opcua.seam.protocol import Listener
from edge_opcua.opcua.seam.session import ClientApplication, Session, SessionSummary
from edge_opcua.opcua.seam.session_services import host_of
from edge_opcua.opcua.services.attribute.attributes import Attributes
from edge_opcua.opcua.services.audit import Act, Audit, unheard
from edge_opcua.opcua.services.counts import ServerCounts
from edge_opcua.opcua.services.event.stamps import Stamps
from edge_opcua.opcua.services.methods import Methods
from edge_opcua.opcua.services.service import Service, ServiceSet, WriteHandler
from edge_opcua.opcua.services.subscription.subscriptions import Subscriptions
from edge_opcua.opcua.services.view.view import Views
from edge_opcua.opcua.types import SERVER
from edge_opcua.security.pki import Pki, names_in, utc
from edge_opcua.security.trust import Knock

__all__ = ["Core", "SecureServer", "ServerSecurity"]

BUFFER_BYTES: Final = 65_535
UATCP_PROFILE: Final = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
# Each of them only ever as SignAndEncrypt: who wants to read along can be given a certificate.
POLICIES: Final = {
    "Basic256Sha256": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    "Aes128_Sha256_RsaOaep": ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    "Aes256_Sha256_RsaPss": ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
}
# Each client may call these: they do something for its own subscriptions only.
_OWN_METHODS: Final = (
    ua.ObjectIds.Server_GetMonitoredItems,
    ua.ObjectIds.Server_ResendData,
    ua.ObjectIds.ConditionType_ConditionRefresh,
    ua.ObjectIds.ConditionType_ConditionRefresh2,
)
_NETLOC: Final = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")

_log = structlog.get_logger(__name__)


class _AnonymousOnly:
    """Whom asyncua would ask; our sessions do not, and its own default trusts anybody."""

    def get_user(
        self,
        iserver: Any,  # noqa: ARG002 - asyncua's signature
        username: str | None = None,  # noqa: ARG002
        password: str | None = None,  # noqa: ARG002
        certificate: Any = None,  # noqa: ARG002
    ) -> User:
        """Return somebody who may do nothing."""
        return User(role=UserRole.Anonymous)


class Core(InternalServer):
    """asyncua's internal server with our services in their places.

    Args:
        security: Who may connect.
        limits: How much a client may take.
        access: Who may do what.
        advertised_urls: What discovery answers; empty: the name under which the client asked.
        clock: For deadlines and stamps.
    """

    method_service: Any
    time_task: asyncio.Task[None] | None

    def __init__(
        self,
        security: ServerSecurity,
        limits: ServerLimits,
        advertised_urls: Sequence[str],
        clock: Clock,
        access: Access,
    ) -> None:
        super().__init__(user_manager=_AnonymousOnly())
        self.aspace: Nodes = Nodes()
        self.node_mgt_service = NodeManagementService(self.aspace)
        self.view_service = ViewService(self.aspace)
        self.isession.aspace = self.aspace
        self.gate = Gate(security, clock, self._tell_refused)
        self.identity = Identity(security, clock, self._tell_locked)
        self.clock = clock
        self.limits = limits
        self.access = access
        self.counts = ServerCounts()
        self.audit: Audit = unheard  # whoever keeps the journal takes its place
        self.services: dict[ua.NodeId, tuple[str, Service]] = {}
        self.advertised_urls = tuple(advertised_urls)
        self._called = {name.lower() for name in names_in(security.pki.certificate)}
        self.policies: list[Any] = []
        self.transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self._crowded_s = -QUIET_S
        self.certificate = security.pki.certificate
        self.private_key = security.pki.private_key
        self.allow_remote_admin = False
        self.supported_tokens = (ua.AnonymousIdentityToken,)
        self.attribute_service = Attributes(self.aspace, access, limits, clock=clock, audit=self._tell)
        self.method_service.stop()  # the one that is replaced: its thread pool
        self.method_service = Methods(self.aspace, access, limits.operations.call, audit=self._tell)
        self.views = Views(self.aspace, access, limits)
        self.subscription_service: Any = Subscriptions(
            self.aspace, self.attribute_service, access, limits, clock
        )
        # The internal session was made with the service that was just replaced.
        self.isession.subscription_service = self.subscription_service
        for services in (
            self.attribute_service,
            self.method_service,
            self.views,
            self.subscription_service,
            Cancellation(self),
        ):
            self.offer(services)
        self.arrivals = Arrivals(limits, clock)
        self.max_connections = 2 * limits.connections  # ours is asked before; those that end count here too
        self.max_pending_activation_seconds = limits.activation_s
        self.max_pending_messages_per_connection = limits.waiting_messages + 1  # and the last, None

    async def load_standard_address_space(self, shelf_file: Any = None) -> None:  # noqa: ARG002 - asyncua's signature
        """Make the standard's nodes; asyncua's own way takes more than twice as long."""
        load_standard(self.aspace)

    def _tell(self, act: Act) -> None:
        self.audit(act)  # as it is then: who listens comes later

    def offer(self, services: ServiceSet) -> None:
        """Let clients use these services; what nobody offers does not exist here."""
        for name, service in services.services().items():
            request = ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary"))
            self.services[request] = (name, service)

    def get_new_channel_id(self) -> int:
        """Return a channel id that nobody can foresee (asyncua counts up from 6)."""
        return secrets.randbelow((1 << 32) - 1) + 1

    async def make_room_for_session(self, *, secured: bool) -> None:
        """End the oldest session that was never activated, or else lost its connection, if there is no place.

        Part 4 §5.7.2 wants the first, and lets a session outlive its connection. Clients that vanish instead
        of saying goodbye would otherwise keep everybody out until their sessions time out.
        """
        while len(self._external_sessions) >= self.limits.sessions:  # others come while one is closed
            sessions = self.sessions()
            loose = [session for session in sessions if not session.is_activated()]
            loose = loose or [session for session in sessions if session.owner is None]
            if secured:  # strangers keep nobody out who is known
                loose = loose or [session for session in sessions if not session.secured]
            if not loose:
                return
            oldest = min(loose, key=lambda session: session.used_s)
            _log.info("session.gave_way", client=oldest.who, sessions=len(self._external_sessions))
            await oldest.close_session(delete_subs=True)

    def create_client_session(self, name: str, client: ClientApplication, processor: Any) -> Session:
        """Enter a new session.

        Raises:
            ServiceError: There are too many.
        """
        if len(self._external_sessions) >= self.limits.sessions:
            _log.warning("session.too_many", sessions=len(self._external_sessions), peer=client.address)
            raise ServiceError(ua.StatusCodes.BadTooManySessions)
        self.counts.cumulated_session_count += 1
        name = name or f"session {self.counts.cumulated_session_count}"  # Part 4 §5.7.2: we choose one
        return Session(self, name, client, processor, utc(self.clock.utc_ns()))

    def tell_crowd(self, peer: str, connections: int) -> None:
        """Log that a connection was refused because there are too many: once a minute."""
        now_s = self.clock.monotonic_s()
        log = _log.warning if now_s - self._crowded_s >= QUIET_S else _log.debug
        if now_s - self._crowded_s >= QUIET_S:
            self._crowded_s = now_s
        log("connection.too_many", peer=peer, connections=connections)

    def _tell_refused(self, knock: Knock) -> None:
        who = f"{knock.application_uri or knock.name} ({knock.address})"
        facts = {"code": knock.code, "reason": knock.reason, "thumbprint": knock.thumbprint}
        self.audit(Act("channel.refused", int(ua.StatusCodes.BadSecurityChecksFailed), who, facts=facts))

    def _tell_locked(self, user: str, peer: str, lock_s: float) -> None:
        _log.warning("user.locked", user=user, peer=peer, lock_s=round(lock_s))
        status = int(ua.StatusCodes.BadUserAccessDenied)
        self.audit(Act("user.locked", status, f"{user} ({peer})", facts={"user": user, "lock_s": lock_s}))

    def is_called(self, host: str) -> bool:
        """Whether our certificate, or the operator, says that we have this name."""
        return host in self._called or host in {host_of(url) for url in self.advertised_urls}

    def use(self, pki: Pki) -> None:
        """Show another certificate, and open channels with it; those that are open keep theirs."""
        self.gate.use(pki)
        self.certificate, self.private_key = pki.certificate, pki.private_key
        self._called = {name.lower() for name in names_in(pki.certificate)}
        for factory in self.policies:
            if factory.certificate is not None:
                factory.certificate, factory.private_key = pki.certificate, pki.private_key
                factory.certificate_chain = list(pki.chain)
        for endpoint in self.endpoints:
            endpoint.ServerCertificate = pki.certificate_der

    def sessions(self) -> list[Session]:
        """Return the sessions of clients."""
        return list(self._external_sessions.values())

    def register_server(self, server: Any, conf: Any = None) -> None:  # noqa: ARG002 - asyncua's signature
        """Refuse: this is no discovery server, and asyncua would let anybody write into FindServers."""
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)

    async def get_endpoints(
        self, params: Any = None, sockname: tuple[str, int] | None = None
    ) -> list[ua.EndpointDescription]:
        """Return the endpoints under the advertised URLs, or under the name the client used.

        Part 4 §5.5.4: only those of a wanted transport profile; LocaleIds choose among texts, and there is
        one language.
        """
        profiles = getattr(params, "ProfileUris", None)
        if profiles and UATCP_PROFILE not in profiles:
            return []
        await self.identity.refresh()
        found = await super().get_endpoints(params, sockname)
        for endpoint in found:
            endpoint.UserIdentityTokens = self.identity.offered(endpoint.SecurityPolicyUri)
        if not self.advertised_urls:
            return list(found)
        out = []
        for url in self.advertised_urls:
            for endpoint in found:
                copied = copy.copy(endpoint)
                copied.EndpointUrl = url
                copied.Server = copy.copy(endpoint.Server)
                copied.Server.DiscoveryUrls = list(self.advertised_urls)
                out.append(copied)
        return out

    def find_servers(
        self, params: Any, sockname: tuple[str, int] | None = None
    ) -> list[ua.ApplicationDescription]:
        """Return ourselves, unless other servers only are looked for (Part 4 §5.5.2)."""
        if params.ServerUris and self.gate.security.pki.application_uri not in params.ServerUris:
            return []
        params.ServerUris = []  # asyncua compares the beginning of a URI
        found = [copy.copy(server) for server in super().find_servers(params, sockname)]
        for server in found if self.advertised_urls else ():
            server.DiscoveryUrls = list(self.advertised_urls)
        return found

    def _mangle_endpoint_url(
        self, ep_url: str, params_ep_url: str | None = None, sockname: tuple[str, int] | None = None
    ) -> str:
        """Echo the client's name for us only if it can be a name."""
        try:
            netloc = urlparse(params_ep_url or "").netloc
        except ValueError:
            netloc = ""
        usable = params_ep_url if _NETLOC.fullmatch(netloc) else None
        return str(super()._mangle_endpoint_url(ep_url, usable, sockname))

    async def stop(self) -> None:
        """Stop, and let the thread of the trust list go."""
        if self.time_task is not None:  # asyncua waits for its clock to tick once more
            self.time_task.cancel()
            await asyncio.wait({self.time_task})
            self.time_task = None
        await super().stop()
        self.gate.close()
        self.identity.close()


class SecureServer(Server):
    """The OPC UA server that everything else is built on.

    ``await init()``, build the address space, then ``async with server:``.

    Args:
        security: Own certificate, trust list and policies.
        listen: ``host:port``; port 0 takes a free one.
        advertised_urls: Endpoint URLs told to clients where this box has another name for them.
        name: Application name for people.
        product_uri: ProductUri of the build information.
        manufacturer: Manufacturer of the build information.
        limits: How much clients may take.
        access: Who may do what with which node.
        clock: For deadlines and stamps.
    """

    bserver: Listener | None

    def __init__(  # noqa: PLR0913 - all but the first are settings with a default
        self,
        security: ServerSecurity,
        *,
        listen: str = "0.0.0.0:4840",
        advertised_urls: Sequence[str] = (),
        name: str = "edge_opcua",
        product_uri: str = "urn:edge-opcua",
        manufacturer: str = "edge_opcua",
        limits: ServerLimits | None = None,
        access: Access | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.access = access or Access()
        self.limits_of_clients = limits or ServerLimits()
        self._running: asyncio.TaskGroup | None = None
        self._publishing: asyncio.Task[None] | None = None
        self.clock = clock or SystemClock()
        self._stamps = Stamps(self.clock)
        core = Core(security, self.limits_of_clients, advertised_urls, self.clock, self.access)
        super().__init__(core)
        self.security = security
        self.name = name
        self.product_uri = product_uri
        self.manufacturer_name = manufacturer
        self.application_type = ua.ApplicationType.Server
        self._application_uri = security.pki.application_uri
        self._permission_ruleset = None  # the processor decides, per service
        self._security_policy = [POLICIES[policy] for policy in security.policies]
        if security.allow_none:
            self._security_policy.append(ua.SecurityPolicyType.NoSecurity)
        self.set_endpoint(f"opc.tcp://{listen}")
        size = self.limits_of_clients.message_bytes
        self.limits = TransportLimits(
            max_recv_buffer=BUFFER_BYTES,
            max_send_buffer=BUFFER_BYTES,
            max_chunk_count=size // CHUNK_BYTES + 1,
            max_message_size=size,
        )
        self.iserver.policies = self._policies
        self.access.mark(Kind.OWN, (ua.NodeId(method) for method in _OWN_METHODS))

    @property
    def port(self) -> int:
        """The port it listens on; after start the true one."""
        port = self.bserver.port if self.bserver is not None else self.endpoint.port
        return int(port or 0)

    @property
    def url(self) -> str:
        """An endpoint URL that works on this box."""
        host = self.endpoint.hostname or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        return f"opc.tcp://{f'[{host}]' if ':' in host else host}:{self.port}"

    def urls(self) -> tuple[str, ...]:
        """Return the endpoint URLs to print: the advertised ones, else one for each name we are known by."""
        if self.iserver.advertised_urls:
            return tuple(self.iserver.advertised_urls)
        host = self.endpoint.hostname or ""
        if host not in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
            return (self.url,)
        names = sorted(names_in(self.security.pki.certificate) - {"localhost", "127.0.0.1", "::1"})
        return tuple(f"opc.tcp://{f'[{name}]' if ':' in name else name}:{self.port}" for name in names) or (
            self.url,
        )

    async def init(self, shelf_file: Any = None) -> None:
        """Make the standard's nodes (a third of a second); namespace 1 is our ApplicationUri."""
        with paused():
            await super().init(shelf_file)
        self.iserver.subscription_service.bind_methods()
        await self.set_build_info(
            self.product_uri,
            self.manufacturer_name,
            self.name,
            __version__,
            "",
            utc(self.clock.utc_ns()).replace(tzinfo=None),
        )

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: The address cannot be used, e.g. because another server has the port.
        """
        await self._setup_server_nodes()
        await self.iserver.identity.begin()
        self.iserver.use(self.security.pki)  # asyncua leaves the chain out
        await self.iserver.start()
        host, port = self._get_bind_socket_info()
        self.bserver = Listener(self.iserver, host, port, self.limits)
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except OSError as exc:
            self.bserver = None
            await self.iserver.stop()
            reason = os.strerror(exc.errno) if exc.errno else str(exc)
            raise ConfigError(f"cannot listen on {host}:{port}: {reason}", code="H631") from exc
        self._running = asyncio.TaskGroup()
        await self._running.__aenter__()
        self._publishing = self._running.create_task(
            self.iserver.subscription_service.run(), name="opcua.subscriptions"
        )
        if not port:
            self._tell_true_port()
        _log.info("opcua.listening", urls=self.urls(), thumbprint=self.security.pki.thumbprint)

    async def stop(self) -> None:
        """Close every connection, and end what ran beside them."""
        await super().stop()
        if self._running is not None and self._publishing is not None:
            self._publishing.cancel()
            running, self._running = self._running, None
            await running.__aexit__(None, None, None)

    def use(self, pki: Pki) -> None:
        """Take another certificate for the same application without interrupting anybody.

        Part 12 §7.10.9: what is open goes on, and may be renewed, with the certificate it began with.
        """
        self.security = replace(self.security, pki=pki)
        self.iserver.use(pki)
        _log.info("opcua.certificate_changed", thumbprint=pki.thumbprint)

    def _tell_true_port(self) -> None:
        self.set_endpoint(f"opc.tcp://{self.endpoint.netloc.rpartition(':')[0]}:{self.port}")
        for endpoint in self.iserver.endpoints:
            endpoint.EndpointUrl = self.endpoint.geturl()
            endpoint.Server.DiscoveryUrls = [self.endpoint.geturl()]

    # --- for the rooms above -------------------------------------------------------------------------

    def set_write_handler(self, handler: WriteHandler, node_ids: Iterable[ua.NodeId]) -> None:
        """Send clients' writes of these nodes to ``handler``; the address space is not touched by them.

        It runs as a task of the connection after type, access and channel were checked; the writes of one
        session to one node keep their order; its StatusCode is the client's answer. Values come back
        through whatever feeds the node.
        """
        self.iserver.attribute_service.set_handler(handler, node_ids)

    async def emit(self, event: Any, notifiers: Iterable[ua.NodeId] | None = None) -> None:
        """Deliver an event to every item on the notifiers and on Server, to each item once.

        Args:
            event: asyncua's event object; EventId, Time, ReceiveTime and SourceNode are filled if empty.
            notifiers: The nodes it is seen on; None: its emitting node and all notifiers above that.
        """
        subscriptions = self.iserver.subscription_service
        self._stamps.fill(event)
        if notifiers is None:
            chosen = subscriptions.notifiers.above(event.emitting_node)
        else:
            chosen = [*notifiers, SERVER]
        subscriptions.deliver(event, chosen)

    def sessions(self) -> list[SessionSummary]:
        """Return who is connected, for ``edge-opcua status``."""
        out = []
        for session in self.iserver.sessions():
            own = self.iserver.subscription_service.of_session(session)
            out.append(
                SessionSummary(
                    name=session.name,
                    client=session.client,
                    since=session.since,
                    activated=session.is_activated(),
                    subscriptions=len(own),
                    items=sum(len(found.items) for found in own),
                    interval_ms=min((found.interval_ms for found in own), default=0.0),
                    user=session.user_name,
                    roles=session.roles,
                )
            )
        return out
