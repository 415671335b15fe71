"""The Server object of a running plant: capabilities, diagnostics, status and audit put together."""

from __future__ import annotations

from collections.abc import Callable

from asyncua import ua

from edge_opcua.core.clock import Clock
from edge_opcua.opcua.access import Kind
from edge_opcua.opcua.events import PlantEvent
from edge_opcua.opcua.seam import SecureServer
from edge_opcua.opcua.services.audit import Act
from edge_opcua.opcua.standard.audit import AuditTrail, Journal
from edge_opcua.opcua.standard.capabilities import (
    profiles,
    remove_absent,
    show_capabilities,
    show_namespaces,
)
from edge_opcua.opcua.standard.diagnostics import Diagnostics
from edge_opcua.opcua.standard.health import HealthWatch
from edge_opcua.opcua.standard.status import ServerState
from edge_opcua.opcua.standard.variables import Variables
from edge_opcua.opcua.types import SERVER, method_of
from edge_opcua.opcua.values import utc

__all__ = ["ServerObject"]

# How often it is looked whether the last session has gone while a shutdown is announced.
LOOK_S = 0.02
SHUTDOWN_SEVERITY = 700


def shutdown_event(reason: str, clock: Clock) -> PlantEvent:
    """Return the event that says that the server ends (Part 5 §6.4, SystemStatusChangeEventType)."""
    event = PlantEvent(
        ua.NodeId(ua.ObjectIds.SystemStatusChangeEventType),
        (SERVER, "Server"),
        message=f"the server shuts down: {reason}",
        severity=SHUTDOWN_SEVERITY,
        time=utc(clock.utc_ns()),
    )
    event.add_property("SystemState", int(ua.ServerState.Shutdown), ua.VariantType.Int32)
    return event


class ServerObject:
    """What ``Server`` (i=2253) shows and tells.

    Args:
        server: The server, its address space loaded.
        watch: Knows how the plant is.
        journal: Keeps a record of what clients did; must not block.
        journaled_elsewhere: Whether another process keeps the record of an act.
        clock: Clock of the server.
    """

    def __init__(
        self,
        server: SecureServer,
        watch: HealthWatch,
        journal: Journal,
        *,
        journaled_elsewhere: Callable[[Act], bool],
        clock: Clock,
    ) -> None:
        self._server = server
        self._watch = watch
        self._clock = clock
        self._state = ServerState(server.product_uri, server.manufacturer_name, server.name, clock)
        self.audit = AuditTrail(
            server.emit,
            journal,
            server_uri=server.security.pki.application_uri,
            clock=clock,
            journaled_elsewhere=journaled_elsewhere,
            harmless=self._is_harmless,
        )

    @property
    def service_level(self) -> int:
        """The ServiceLevel now."""
        return self._watch.level()

    def install(self) -> None:
        """Fill the nodes; before clients can connect."""
        core = self._server.iserver
        core.disabled_clock = True  # asyncua would write the time once a second
        variables = Variables(core.aspace, core.subscription_service.polled, self._clock)
        remove_absent(core.aspace)
        security = self._server.security
        show_capabilities(
            variables,
            core.aspace,
            core.limits,
            services=(name for name, _ in core.services.values()),
            profile_uris=profiles(
                (*security.policies, *(("None",) if security.allow_none else ())), self._tokens()
            ),
        )
        show_namespaces(variables, core.aspace)
        Diagnostics(core).show(variables)
        self._state.show(variables)
        variables.live(ua.ObjectIds.Server_ServiceLevel, ua.VariantType.Byte, self._watch.level)
        self.audit.mark(core.access, core.aspace)
        core.audit = self.audit.tell

    async def announce_shutdown(self, reason: str, within_s: float) -> None:
        """Let clients see that the server ends, and give them time to; nobody there, no wait.

        Args:
            reason: One sentence for people (ShutdownReason).
            within_s: Longest time.
        """
        self._watch.maintenance = True
        self._state.announce_shutdown(reason, within_s)
        await self._server.emit(shutdown_event(reason, self._clock), ())
        ends_s = self._clock.monotonic_s() + within_s
        while self._is_somebody_there() and self._clock.monotonic_s() < ends_s:
            await self._clock.sleep(LOOK_S)

    def say_farewell(self) -> None:
        """End every subscription with a StatusChange, right before the connections close."""
        if not self._state.shutting_down:
            self._watch.maintenance = True
            self._state.announce_shutdown("the server ends", 0.0)
        self._server.iserver.subscription_service.say_farewell()

    def _is_harmless(self, act: Act) -> bool:
        """Whether a client only asked about its own session, or for a name, also by the method of a type."""
        if act.kind != "method.called" or act.status:
            return False
        method = method_of(self._server.iserver.aspace, act.node, act.event.get("MethodId", act.node))
        return method is not None and self._server.access.kind(method) is Kind.OWN

    def _is_somebody_there(self) -> bool:
        return any(session.owner is not None for session in self._server.iserver.sessions())

    def _tokens(self) -> list[str]:
        security = self._server.security
        tokens = ["Anonymous"] if security.anonymous else []
        return tokens + (
            ["Server/UserNamePassword", "Server/X509Certificate"] if security.users is not None else []
        )
