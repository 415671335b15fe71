"""The OPC UA client of the demo: it knows only the endpoint, browses the rest, and keeps what it is told."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from edge_opcua.core.clock import Clock
from edge_opcua.errors import EdgeError
from edge_opcua.security.pki import open_pki, own_certificate

PUBLISH_MS = 50
REQUEST_S = 4.0
EVENT_TYPES = ("InferenceResultEventType", "ModelJobEventType", "LinkEventType")
MACHINERY = "http://opcfoundation.org/UA/Machinery/"
_MAX_DEPTH = 5
# References that lead to the same objects once more.
_NOTIFIES = frozenset({ua.ObjectIds.HasNotifier, ua.ObjectIds.HasEventSource})


@dataclass(frozen=True, slots=True)
class Seen:
    """One notification as it arrived.

    Args:
        value: Value as it came; None if there was none.
        status: StatusCode.
        source_ns: SourceTimestamp, ns UTC, 0 if there was none.
        at_ns: When it arrived, ns UTC.
    """

    value: Any
    status: int
    source_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """One event as it arrived.

    Args:
        fields: Its fields by name; those of another type are None.
        at_ns: When it arrived, ns UTC.
    """

    fields: dict[str, Any]
    at_ns: int

    @property
    def captured_ns(self) -> int:
        """When the sensor unit had the stroke ready, by its own clock; 0 if the event says nothing."""
        return utc_ns(self.fields.get("CapturedAt"))


class ScadaClient:
    """A SCADA system in miniature, on an encrypted connection.

    Args:
        url: Endpoint.
        home: Directory for the client's own key and certificate.
        clock: For arrival times.
    """

    def __init__(self, url: str, home: Path, clock: Clock) -> None:
        self.url = url
        self._clock = clock
        self._pki = open_pki(home, clock=clock)
        self._home = home
        self._client: Client | None = None
        self._names: dict[Any, str] = {}
        self.nodes: dict[str, Any] = {}
        self.values: dict[str, Seen] = {}
        self.units: dict[str, str] = {}
        self.history: dict[str, deque[Seen]] = {}
        self.events: list[SeenEvent] = []

    @property
    def thumbprint(self) -> str:
        """What the operator compares before trusting."""
        return self._pki.thumbprint

    async def connect(self) -> None:
        """Open a secure channel and a session.

        Raises:
            EdgeError: The server refuses, or is not there.
        """
        client = Client(self.url, timeout=REQUEST_S)
        client.name = client.description = "edge-opcua demo client"
        client.application_uri = self._pki.application_uri
        try:
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                certificate=own_certificate(self._home),
                private_key=self._home / "own" / "key.pem",
            )
            await client.connect()
        except (ua.UaError, OSError, TimeoutError) as exc:
            raise EdgeError(f"{self.url}: {type(exc).__name__} {exc}".strip()) from exc
        self._client = client

    async def disconnect(self) -> None:
        """Close session and channel."""
        if self._client is not None:
            client, self._client = self._client, None
            try:
                await client.disconnect()
            except (ua.UaError, OSError, TimeoutError) as exc:
                raise EdgeError(f"disconnect: {exc}") from exc

    async def browse(self, machine: str) -> None:
        """Find every variable and method under Objects/Machines/<machine> and Objects/Models, by its path."""
        client = self._connected()
        index = await client.get_namespace_index(MACHINERY)
        root = await client.nodes.objects.get_child([f"{index}:Machines"])
        for child in await root.get_children():
            if (await child.read_browse_name()).Name == machine:
                self.nodes[machine] = child
                await self._walk(child, "", 0)
        if machine not in self.nodes:
            raise EdgeError(f"there is no machine {machine} under Objects/Machines")
        for child in await client.nodes.objects.get_children():
            if (await child.read_browse_name()).Name == "Models":
                self.nodes["Models"] = child
                await self._walk(child, "Models/", 0)

    async def _walk(self, node: Node, prefix: str, depth: int) -> None:
        if depth > _MAX_DEPTH:
            return
        wanted = ua.NodeClass.Object | ua.NodeClass.Variable | ua.NodeClass.Method
        for reference in await node.get_references(
            ua.ObjectIds.HierarchicalReferences, ua.BrowseDirection.Forward, wanted
        ):
            if reference.ReferenceTypeId.Identifier in _NOTIFIES:
                continue
            path = prefix + reference.BrowseName.Name
            child = self._connected().get_node(reference.NodeId)
            if path in self.nodes:
                continue
            self.nodes[path] = child
            if reference.NodeClass != ua.NodeClass.Method:
                await self._walk(child, path + "/", depth + 1)

    def find(self, ending: str) -> str:
        """Return the path that ends so.

        Raises:
            EdgeError: The server has no such node.
        """
        for path in self.nodes:
            if path == ending or path.endswith("/" + ending):
                return path
        raise EdgeError(f"the server has no node …/{ending}")

    async def subscribe(self, paths: Mapping[str, str], *, publish_ms: int = PUBLISH_MS) -> None:
        """Subscribe values, each under a short name of ours, and the events of the Server object.

        Args:
            paths: Short name by path.
            publish_ms: Publishing interval.
        """
        client = self._connected()
        subscription = await client.create_subscription(publish_ms, self)
        nodes = []
        for path, name in paths.items():
            node = self.nodes[path]
            self._names[node.nodeid] = name
            self.history[name] = deque(maxlen=2000)
            nodes.append(node)
            if path + "/EngineeringUnits" in self.nodes:
                unit = await self.read(path + "/EngineeringUnits")
                self.units[name] = unit.DisplayName.Text or ""
        if nodes:
            await subscription.subscribe_data_change(nodes, queuesize=100)
        await subscription.subscribe_events(client.nodes.server, await self._event_types(), queuesize=1000)

    async def _event_types(self) -> list[Node]:
        """Find the server's own event types below BaseEventType."""
        found: list[Node] = []
        waiting = [self._connected().nodes.base_event_type]
        while waiting:
            for child in await waiting.pop().get_children(ua.ObjectIds.HasSubtype):
                waiting.append(child)
                if (await child.read_browse_name()).Name in EVENT_TYPES:
                    found.append(child)
        if len(found) != len(EVENT_TYPES):
            raise EdgeError(f"the server does not know the event types {', '.join(EVENT_TYPES)}")
        return found

    async def call(self, object_path: str, method_path: str, *arguments: ua.Variant) -> Any:
        """Call a method and return its result."""
        return await self.nodes[object_path].call_method(self.nodes[method_path], *arguments)

    async def read(self, path: str) -> Any:
        """Read one value."""
        return await self.nodes[path].read_value()

    async def write(self, path: str, *, value: Any, kind: ua.VariantType) -> int:
        """Write one value and return the status the server answers with."""
        try:
            await self.nodes[path].write_value(ua.DataValue(ua.Variant(value, kind)))
        except ua.UaStatusCodeError as exc:
            return int(exc.code)
        return 0

    # What asyncua calls for each notification.

    def datachange_notification(self, node: Node, _value: object, data: Any) -> None:
        """Keep a value."""
        shown = data.monitored_item.Value
        status = shown.StatusCode.value if shown.StatusCode is not None else 0
        seen = Seen(
            value=None if shown.Value is None else shown.Value.Value,
            status=status,
            source_ns=utc_ns(shown.SourceTimestamp),
            at_ns=self._clock.utc_ns(),
        )
        name = self._names[node.nodeid]
        self.values[name] = seen
        self.history[name].append(seen)

    def event_notification(self, event: Any) -> None:
        """Keep an event."""
        fields = dict(event.get_event_props_as_fields_dict().items())
        self.events.append(
            SeenEvent(
                {name: None if variant is None else variant.Value for name, variant in fields.items()},
                self._clock.utc_ns(),
            )
        )

    def status_change_notification(self, status: Any) -> None:
        """Keep nothing: a subscription that ends shows in the values that stop."""

    def _connected(self) -> Client:
        if self._client is None:
            raise EdgeError("the client is not connected")
        return self._client


def utc_ns(stamp: dt.datetime | None) -> int:
    """Return a DateTime as ns UTC, 0 for none; asyncua's stamps without a zone are UTC."""
    if stamp is None:
        return 0
    aware = stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)
    return (aware - _EPOCH) // dt.timedelta(microseconds=1) * 1000


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
