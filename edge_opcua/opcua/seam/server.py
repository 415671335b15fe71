"""The server: asyncua's, put together from our parts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog
from asyncua import Server, ua
from asyncua.common.connection import TransportLimits

from edge_opcua import __version__
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.collector import paused
from edge_opcua.errors import ConfigError
from edge_opcua.opcua.access import Access, Kind
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.seam.channel import CHUNK_BYTES
from edge_opcua.opcua.seam.core import Core
from edge_opcua.opcua.seam.gate import ServerSecurity
from edge_opcua.opcua.seam.protocol import Listener
from edge_opcua.opcua.seam.session import SessionSummary
from edge_opcua.opcua.services.event.stamps import Stamps
from edge_opcua.opcua.services.service import WriteHandler
from edge_opcua.opcua.types import SERVER
from edge_opcua.security.pki import Pki, names_in, utc

__all__ = ["SecureServer", "ServerSecurity"]

BUFFER_BYTES: Final = 65_535
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

_log = structlog.get_logger(__name__)


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
        self.emit_all((event,), notifiers)

    def emit_all(self, events: Sequence[Any], notifiers: Iterable[ua.NodeId] | None = None) -> None:
        """Deliver events that came at once, in their order, as :meth:`emit` does; that is cheaper."""
        self._stamps.fill(events)
        chosen = None if notifiers is None else [*notifiers, SERVER]
        self.iserver.subscription_service.deliver(events, chosen)

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
