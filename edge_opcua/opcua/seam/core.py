"""asyncua's internal server with our services in their places, and what discovery answers."""

from __future__ import annotations

import asyncio
import copy
import re
import secrets
import weakref
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlparse

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import NodeManagementService, ViewService
from asyncua.server.internal_server import InternalServer

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Access
from edge_opcua.opcua.addressspace import Nodes
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.loading import load_standard
from edge_opcua.opcua.seam.cancel import Cancellation
from edge_opcua.opcua.seam.gate import QUIET_S, Gate, ServerSecurity
from edge_opcua.opcua.seam.identity import Identity
from edge_opcua.opcua.seam.pace import Arrivals
from edge_opcua.opcua.seam.session import ClientApplication, Session
from edge_opcua.opcua.seam.session_services import host_of
from edge_opcua.opcua.services.attribute.attributes import Attributes
from edge_opcua.opcua.services.audit import Act, Audit, unheard
from edge_opcua.opcua.services.counts import ServerCounts
from edge_opcua.opcua.services.methods import Methods
from edge_opcua.opcua.services.service import Service, ServiceSet
from edge_opcua.opcua.services.subscription.subscriptions import Subscriptions
from edge_opcua.opcua.services.view.view import Views
from edge_opcua.security.pki import Pki, names_in, utc
from edge_opcua.security.trust import Knock

UATCP_PROFILE: Final = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
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
