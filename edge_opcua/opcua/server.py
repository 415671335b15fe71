"""The OPC UA server of one plant: secure endpoint, address space and feed, as one component."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from edge_opcua.config.outputs import Writer
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.collector import paused
from edge_opcua.errors import ConfigError, IdentityError
from edge_opcua.opcua.access import Access, rule
from edge_opcua.opcua.demand import DemandPolls, Poll, no_polls
from edge_opcua.opcua.feed import Feed
from edge_opcua.opcua.limits import ServerLimits
from edge_opcua.opcua.modelmethods import ModelActs, ModelMethods, no_models
from edge_opcua.opcua.modelnodes import ModelRepositoryNode
from edge_opcua.opcua.models import Job, ModelAlarm, ModelInfo
from edge_opcua.opcua.namespaces import Names, Namespace, namespace_order, plant_id
from edge_opcua.opcua.nodes import NodeMaker
from edge_opcua.opcua.nodesets import NodeSet, import_nodesets
from edge_opcua.opcua.outputmethods import OutputActs, OutputMethods, no_outputs
from edge_opcua.opcua.owners import ProgramClaims, WriterGone, nobody_cares, owned_tags, writer_of
from edge_opcua.opcua.plantspace import PlantSpace
from edge_opcua.opcua.respace import HasMoved, SpaceChanger
from edge_opcua.opcua.seam import SecureServer, ServerSecurity
from edge_opcua.opcua.services.audit import Act, Audit
from edge_opcua.opcua.space import SpaceBuilder, tag_node_name
from edge_opcua.opcua.standard.aliases import Aliases, PlantAliases
from edge_opcua.opcua.standard.audit import Journal, nowhere
from edge_opcua.opcua.standard.certificates import CertificateWatch
from edge_opcua.opcua.standard.health import HealthWatch
from edge_opcua.opcua.standard.modelchange import ModelChanges
from edge_opcua.opcua.standard.push import PushManagement
from edge_opcua.opcua.standard.roles import install_roles
from edge_opcua.opcua.standard.serverobject import ServerObject
from edge_opcua.opcua.standard.variables import Variables
from edge_opcua.opcua.tags.setpoints import Setpoints
from edge_opcua.opcua.ticks import Ticks
from edge_opcua.opcua.writes import SetpointWrites, Write, no_writes
from edge_opcua.security.pki import Pki
from edge_opcua.security.roles import Role
from edge_opcua.security.users import role_names

_log = structlog.get_logger(__name__)

PRODUCT: Final = "edge_opcua"
PRODUCT_URI: Final = "http://edge-opcua.org/"
MANUFACTURER: Final = "edge_opcua project"


class PlantServer:
    """Serves one machine: what is on the bus, what models say, and how to load another one.

    Args:
        config: The machine; its names are what clients see.
        bus: The tag bus, read only.
        security: Own certificate, trust list, policies.
        nodesets: From ``read_nodesets()``.
        write: Writes a set-point -> what the PLC did.
        act: Acknowledges an output, grants it authority, takes it … -> what came of it.
        writer_gone: Told when a program that wrote a tag of an output is gone.
        change_model: Begins a job with a model, or keeps an answer to a verdict -> its id under ``job``.
        poll: Polls a group now: device, group, who -> what came of it.
        models: The versions in the repository.
        bounds_us: Where the classes of latency histograms end, µs.
        journal: Keeps a record of what clients did and were refused; must not block.
        limits: How much a client may take; without it, what the configuration says and the defaults.
        clock: Clock of the bus.

    Attributes:
        ready: Set once clients can connect.
    """

    def __init__(  # noqa: PLR0913 - the finished objects it is made of, all but four with a default
        self,
        config: EdgeConfig,
        bus: Bus,
        *,
        security: ServerSecurity,
        nodesets: tuple[NodeSet, ...],
        write: Write = no_writes,
        act: OutputActs = no_outputs,
        writer_gone: WriterGone = nobody_cares,
        change_model: ModelActs = no_models,
        poll: Poll = no_polls,
        models: Sequence[ModelInfo] = (),
        bounds_us: Sequence[int] = (),
        journal: Journal = nowhere,
        limits: ServerLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self._config = config
        self._bus = bus
        self._nodesets = nodesets
        self._write = write
        self._act = act
        self._claims = ProgramClaims(writer_gone)
        self._change_model = change_model
        self._bounds_us = tuple(bounds_us)
        self._poll = poll
        self._demand: DemandPolls | None = None
        self._methods: OutputMethods | None = None
        self._model_methods: ModelMethods | None = None
        self._writes: SetpointWrites | None = None
        self._initial_models = tuple(models)
        self._journal = journal
        self._clock = clock or SystemClock()
        self._limits = limits or ServerLimits(sessions=config.opcua.max_sessions)
        self._security = security
        self._server: SecureServer | None = None
        self._repository: ModelRepositoryNode | None = None
        self._feed: Feed | None = None
        self._ticks: Ticks | None = None
        self._object: ServerObject | None = None
        self._certificates: CertificateWatch | None = None
        self._push: PushManagement | None = None
        self._space: PlantSpace | None = None
        self._changer: SpaceChanger | None = None
        self._changes: ModelChanges | None = None
        self._watch = HealthWatch(config, bus, self._clock)
        self._aliases: Aliases | None = None

    @property
    def url(self) -> str:
        """An endpoint URL that works on this box; known once ready."""
        return self._running().url

    @property
    def urls(self) -> tuple[str, ...]:
        """The endpoint URLs to tell people; known once ready."""
        return self._running().urls()

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until ``stopping`` is set.

        Raises:
            ConfigError: The port is taken, a nodeset cannot be loaded, or two nodes have the same id.
        """
        site = self._config.site
        server = SecureServer(
            self._security,
            listen=self._config.opcua.listen,
            advertised_urls=self._config.opcua.advertised_urls,
            name=f"{PRODUCT} {site.machine}",
            product_uri=PRODUCT_URI,
            manufacturer=MANUFACTURER,
            limits=self._limits,
            access=access_of(self._config),
            clock=self._clock,
        )
        with paused():
            await server.init()
            await self._prepare(server)
        async with server:
            self._server = server
            self.ready.set()
            try:
                await self._serve(stopping)
            finally:
                self.ready.clear()
                self._server = None

    async def certificate_changed(self) -> Pki:
        """Wait until the server uses another certificate of its own, and return that; known once ready."""
        assert self._certificates is not None, "made before the server is ready"
        return await self._certificates.changed()

    async def announce_shutdown(self, reason: str, within_s: float) -> None:
        """Tell clients that the server ends (Part 5 §12.10); returns once they had time to see it, or left.

        Args:
            reason: One sentence for people.
            within_s: Longest time to wait; nobody connected, no wait.
        """
        if self._object is not None:
            await self._object.announce_shutdown(reason, within_s)

    def say_farewell(self) -> None:
        """Tell every client that its subscriptions end with the server, right before connections close."""
        if self._object is not None:
            self._object.say_farewell()

    async def on_job(self, body: Mapping[str, Any]) -> None:
        """Show a ``job`` notification of the supervisor; before the server is ready it is dropped."""
        if self._repository is not None:
            await self._repository.on_job(Job.from_body(body))

    async def on_last_job(self, body: Mapping[str, Any]) -> None:
        """Show the last job of a time when this server did not run yet; who was connected has heard of it."""
        if self._repository is not None:
            self._repository.show_job(Job.from_body(body))

    async def on_alarm(self, body: Mapping[str, Any]) -> None:
        """Tell clients of a ``watch`` notification of a lane; before the server is ready it is dropped."""
        if self._repository is not None:
            await self._repository.on_alarm(ModelAlarm.from_body(body))

    async def on_models(self, models: Sequence[ModelInfo]) -> None:
        """Show the versions that the repository holds now."""
        self._initial_models = tuple(models)
        if self._repository is not None:
            await self._repository.show(models)

    async def change(self, config: EdgeConfig, has_moved: HasMoved) -> None:
        """Show another configuration; the bus holds its blocks. Who is connected stays connected.

        Args:
            config: The configuration; site and server settings are the same.
            has_moved: Whether a block of the bus came, went, or is another one of the same name.

        Raises:
            ConfigError: The server is not ready yet, or two nodes would have the same NodeId.
        """
        if not self.ready.is_set():
            raise ConfigError("the OPC UA server is still starting", code="D389")
        assert self._feed is not None, "made before it is ready"
        assert self._changer is not None, "made before it is ready"
        assert self._changes is not None, "made before it is ready"
        assert self._aliases is not None, "made before it is ready"
        server, old, self._config = self._running(), self._config, config
        core = server.iserver
        with paused():
            self._changer.change(old, config, self._bus.blocks, has_moved)
        assert self._demand is not None, "made before it is ready"
        assert self._space is not None, "made before it is ready"
        self._demand.bind(config)
        server.access.cover(core.aspace.tags, core.aspace.virtual)
        self._bind_outputs(server, self._space)
        assert self._model_methods is not None, "made before it is ready"
        self._model_methods.bind(config.pipelines)
        core.attribute_service.reading.forget()
        self._aliases.use(PlantAliases(core.aspace, config), self._clock)
        self._watch.watch(config, self._bus)
        self._feed.follow(has_moved)
        core.subscription_service.follow_nodes()
        await self._changes.tell()

    def sessions(self) -> dict[str, Any]:
        """Return who is connected and what the feed did, JSON-ready, for ``status``."""
        if self._server is None or self._feed is None:
            return {"ready": False, "sessions": []}
        counts = self._feed.counts
        return {
            "ready": True,
            "urls": list(self._server.urls()),
            "results": counts.results,
            "results_lost": counts.lost,
            "values_notified": self._feed.notified,
            "tag_gaps": sum(block.gaps for block in self._server.iserver.aspace.tags.blocks),
            "service_level": self._object.service_level if self._object is not None else None,
            "certificates": [one.text for one in self._certificates.expiring] if self._certificates else [],
            "sessions": [
                {
                    "name": row.name,
                    "client": row.client.application_name or row.client.application_uri,
                    "application_uri": row.client.application_uri,
                    "address": row.client.address,
                    "thumbprint": row.client.thumbprint,
                    "secured": row.client.secured,
                    "activated": row.activated,
                    "since": row.since.isoformat(),
                    "subscriptions": row.subscriptions,
                    "items": row.items,
                    "interval_ms": row.interval_ms,
                    "user": row.user,
                    "roles": role_names(row.roles),
                    "policy": row.client.policy_uri.rpartition("#")[2] if row.client.secured else "",
                }
                for row in self._server.sessions()
            ],
        }

    async def _prepare(self, server: SecureServer) -> None:
        """Load the types, make the nodes, and show what the bus holds, before anybody can look."""
        for index, uri in enumerate(namespace_order(self._config.site.namespace_uri), int(Namespace.DI)):
            given = await server.register_namespace(uri)
            if given != index:
                raise IdentityError(
                    f"namespace {uri} has index {given}, {index} was promised to clients", code="C191"
                )
        await import_nodesets(server, self._nodesets)
        core = server.iserver
        maker = NodeMaker(core.aspace, core.node_mgt_service, int(Namespace.PLANT))
        builder = SpaceBuilder(
            core.aspace, maker, self._config, self._bus.blocks, self._clock, self._bounds_us
        )
        space = self._space = builder.build(self._initial_models)
        changes = self._changes = ModelChanges(core.aspace, server.emit, self._clock)
        self._changer = SpaceChanger(core.aspace, maker, builder, space, changes, self._clock)
        repository = ModelRepositoryNode(space, maker, server.emit, changes, self._clock)
        await repository.show(self._initial_models)
        await changes.begin(space.models, space.tags.folder)
        self._connect(server, space)
        assert self._push is not None, "made by _connect"
        await self._push.install()
        self._feed = Feed(self._bus, space, server.emit_all, repository.find, self._clock)
        self._repository = repository
        self._feed.start()
        waited_for = partial(_is_awaited, server, self._feed)
        self._ticks = Ticks(self._feed, self._config.opcua.publish_ms / 1000, waited_for, self._clock)
        core.subscription_service.before_publishing(self._ticks.before_publishing)
        core.attribute_service.before_reading(self._feed.take_tags)

    def _connect(self, server: SecureServer, space: PlantSpace) -> None:
        core = server.iserver
        server.access.cover(space.tags, core.aspace.virtual)
        self._demand = DemandPolls(core.aspace, server.access, self._poll)
        self._demand.bind(self._config)
        writes = self._writes = SetpointWrites(Setpoints(space.tags), self._write, self._claims)
        names = Names(self._config.site.machine)
        methods = self._methods = OutputMethods(core.aspace, server.access, self._act, names)
        models = ModelMethods(core.aspace, server.access, self._change_model, names)
        self._model_methods = models
        models.bind(self._config.pipelines)
        self._bind_outputs(server, space)
        core.attribute_service.set_tag_handler(writes)
        self._aliases = Aliases(core.aspace, server.access, PlantAliases(core.aspace, self._config))
        self._aliases.install(self._clock)
        core.subscription_service.sampling.set_tick(self._config.opcua.publish_ms)
        variables = Variables(core.aspace, core.subscription_service.polled, self._clock)
        install_roles(core.aspace, server.access, variables, lambda: core.identity.snapshot)
        for idle in server.access.idle_rules(core.aspace.every(int(Namespace.PLANT))):
            _log.warning("access.rule_matches_nothing", nodes=idle.nodes, role=idle.role.browse_name)
        self._object = ServerObject(
            server,
            self._watch,
            self._journal,
            journaled_elsewhere=lambda act: (
                writes.was_recorded(act) or methods.was_recorded(act) or models.was_recorded(act)
            ),
            clock=self._clock,
        )
        self._object.install()
        core.audit = _both(core.audit, self._claims.hear)
        self._certificates = CertificateWatch(server, self._clock)
        self._push = PushManagement(server, self._certificates, variables, self._clock)

    def _bind_outputs(self, server: SecureServer, space: PlantSpace) -> None:
        """Let the methods of the outputs work, and reserve the tags that they write."""
        assert self._methods is not None, "made by _connect"
        assert self._writes is not None, "made by _connect"
        self._methods.bind(space.outputs.values())
        self._writes.owned = owned = owned_tags(self._config)
        names, reserved = Names(self._config.site.machine), {}
        for tag, one in owned.items():
            number = space.tags.number(plant_id(tag_node_name(names, self._config.tag(tag)[1])))
            if number is not None:
                reserved[number] = partial(_may_write, one.writers)
        server.access.reserve(reserved)

    async def _serve(self, stopping: asyncio.Event) -> None:
        assert self._object is not None, "made by _prepare"
        assert self._certificates is not None, "made by _prepare"
        assert self._ticks is not None, "made by _prepare"
        async with asyncio.TaskGroup() as tasks:
            auditing = tasks.create_task(self._object.audit.run(), name="opcua.audit")
            watching = tasks.create_task(self._certificates.run(), name="opcua.certificates")
            ticking = tasks.create_task(self._ticks.run(), name="opcua.ticks")
            await stopping.wait()
            ticking.cancel()
            self.say_farewell()
            auditing.cancel()
            watching.cancel()

    def _running(self) -> SecureServer:
        if self._server is None:
            raise RuntimeError("the OPC UA server does not run")
        return self._server


def access_of(config: EdgeConfig) -> Access:
    """Return who may do what: the defaults, and what the configuration changes."""
    rules = [rule(one.nodes, one.role, one.permissions) for one in config.opcua.access]
    return Access(rules, namespace=int(Namespace.PLANT))


def _may_write(writers: frozenset[Writer], roles: frozenset[Role]) -> bool:
    return writer_of(roles) in writers


def _both(first: Audit, second: Audit) -> Audit:
    """Return a listener for two."""

    def hear(act: Act) -> None:
        first(act)
        second(act)

    return hear


def _is_awaited(server: SecureServer, feed: Feed) -> bool:
    """Whether anybody waits for what only ticks bring: events, and values that are no columns."""
    return feed.is_watched or len(server.iserver.subscription_service.monitoring.audience) > 0
