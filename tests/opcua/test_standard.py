"""The Server object seen by clients: nothing null, counts that count, audit for few, an announced end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from asyncua import Client, Node, ua

from edge_opcua.core.values import Verdict
from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.security.roles import Role
from tests.opcua.plant import Plant, Watcher, prepare, running, until
from tests.opcua.secure_peers import request, status_of
from tests.security.certificates import Identity, make

IDS = ua.ObjectIds
SERVER = ua.NodeId(IDS.Server)
BELOW = frozenset({IDS.HasComponent, IDS.HasProperty, IDS.Organizes})
# Below Server, null or Bad with a reason: Part 5 and Part 18 have nothing else for "none".
# asyncua's client takes its field Encoding for one of the codec's; see test_standard_parts.
SECURITIES = "/ServerDiagnostics/SessionsDiagnosticsSummary/SessionSecurityDiagnosticsArray"
EMPTY_FOR_A_REASON: Mapping[str, str] = {
    "Size": "Part 12 §7.8.2.1: the size of a trust list has no meaning",
}


@dataclass
class Scene:
    """A plant, what it journals, and the certificate of somebody who looks after security."""

    plant: Plant
    officer: Identity
    records: list[Mapping[str, Any]] = field(default_factory=list)

    async def client(self, identity: Identity | None = None, name: str = "client") -> Client:
        """Return a client that is not connected yet: the operator's, or that of another certificate."""
        client = await self.plant.client()
        if identity is not None:
            client.application_uri = f"urn:test:{name}"
            policy = client.security_policy
            client.security_policy = client.uaclient.security_policy = type(policy)(
                self.plant.ground.pki.certificate,
                identity.certificate,
                identity.key,
                ua.MessageSecurityMode.SignAndEncrypt,
            )
        return client

    def of(self, what: str) -> list[Mapping[str, Any]]:
        return [record for record in self.records if record["what"] == what]


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    ground = prepare(tmp_path_factory.mktemp("standard"))
    officer = make("officer")
    ground.trust.add(officer.der, roles=frozenset({Role.SECURITY_ADMIN}))
    records: list[Mapping[str, Any]] = []
    async with running(ground, journal=records.append) as plant:
        for device in ("press", "vib"):
            plant.link(device, "ONLINE")
        yield Scene(plant, officer, records)


@pytest.fixture(scope="module")
async def client(scene: Scene) -> AsyncIterator[Client]:
    async with await scene.client() as client:
        yield client


@pytest.fixture(scope="module")
async def officer(scene: Scene) -> AsyncIterator[Client]:
    async with await scene.client(scene.officer, "officer") as client:
        yield client


async def read(client: Client, identifier: int) -> Any:
    return (await client.get_node(ua.NodeId(identifier)).read_data_value()).Value.Value


async def write(node: Node, value: float) -> None:
    """Write a value without a time stamp: that is the server's to give."""
    await node.write_attribute(ua.AttributeIds.Value, ua.DataValue(ua.Variant(value, ua.VariantType.Float)))


async def tree(client: Client, wanted: ua.NodeClass = ua.NodeClass.Variable) -> dict[str, ua.NodeId]:
    """Return every variable, or method, below Server by its path, as this client browses it."""
    found: dict[str, ua.NodeId] = {}
    seen = {SERVER}
    todo = [("", SERVER)]
    while todo:
        path, node = todo.pop()
        for ref in await client.get_node(node).get_references(direction=ua.BrowseDirection.Forward):
            if ref.ReferenceTypeId.Identifier not in BELOW or ref.NodeId in seen:
                continue
            seen.add(ref.NodeId)
            here = f"{path}/{ref.BrowseName.Name}"
            if ref.NodeClass == wanted:
                found[here] = ref.NodeId
            if ref.NodeClass != ua.NodeClass.Method:
                todo.append((here, ref.NodeId))
    return found


async def test_nothing_below_server_is_null_or_bad(officer: Client) -> None:
    # Part 5 §6.3; asyncua leaves about a hundred of them null.
    variables = await tree(officer)
    assert len(variables) > 80
    del variables[SECURITIES]
    params = ua.ReadParameters()
    params.NodesToRead = [ua.ReadValueId(node, ua.AttributeIds.Value) for node in variables.values()]
    params.TimestampsToReturn = ua.TimestampsToReturn.Both
    values = await officer.uaclient.read(params)
    empty = {
        path
        for path, value in zip(variables, values, strict=True)
        if path.rpartition("/")[2] not in EMPTY_FOR_A_REASON
        and (not value.StatusCode.is_good() or value.Value is None or value.Value.Value is None)
    }
    assert not empty


async def test_what_is_not_done_is_not_there(officer: Client) -> None:
    # Part 5 §6.3.11: an operation limit that is provided is not 0.
    variables = await tree(officer)
    names = {path.rpartition("/")[2] for path in variables}
    assert not names & {"MaxNodesPerNodeManagement", "MaxNodesPerHistoryReadData", "EstimatedReturnTime"}
    assert not any("/PublishSubscribe/" in path for path in variables)
    limits = {p: n for p, n in variables.items() if "/OperationLimits/" in p}
    assert {await read(officer, node.Identifier) > 0 for node in limits.values()} == {True}


async def test_nothing_below_server_is_written_and_every_method_that_runs_does_something(
    officer: Client, scene: Scene
) -> None:
    # Part 3 §5.6.2, §5.7: what a client may write or call has an effect.
    levels = ua.AttributeIds.UserAccessLevel
    params = ua.ReadParameters()
    variables = await tree(officer)
    params.NodesToRead = [ua.ReadValueId(node, levels) for node in variables.values()]
    values = await officer.uaclient.read(params)
    writable = ua.AccessLevel.CurrentWrite.mask
    assert [p for p, v in zip(variables, values, strict=True) if v.Value.Value & writable] == []
    excluded = officer.get_node(ua.NodeId(IDS.WellKnownRole_Operator_ApplicationsExclude))
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await excluded.write_attribute(ua.AttributeIds.Value, ua.DataValue(ua.Variant(False)))
    assert refused.value.code == ua.StatusCodes.BadNotWritable
    methods = await tree(officer, ua.NodeClass.Method)
    params.NodesToRead = [ua.ReadValueId(node, ua.AttributeIds.UserExecutable) for node in methods.values()]
    values = await officer.uaclient.read(params)
    runs = [node for node, value in zip(methods.values(), values, strict=True) if value.Value.Value]
    assert len(runs) > 10
    assert scene.plant.server._server is not None
    bound = scene.plant.server._server.iserver.aspace
    assert [node for node in runs if bound[node].call is None] == []


async def test_what_is_advertised_is_what_is_configured_or_no(client: Client, scene: Scene) -> None:
    # Part 5 §6.3.2, Table 11.
    assert await read(client, IDS.Server_ServerCapabilities_MaxSessions) == 50
    assert await read(client, IDS.Server_ServerCapabilities_MinSupportedSampleRate) == 10.0
    assert await read(client, IDS.Server_ServerCapabilities_LocaleIdArray) == ["en"]
    assert await read(client, IDS.Server_ServerRedundancy_RedundancySupport) == 0
    assert await read(client, IDS.Server_Auditing) is True
    assert await read(client, IDS.HistoryServerCapabilities_AccessHistoryDataCapability) is False


OPERATIONS: Mapping[str, tuple[Any, str, Any]] = {
    "MaxNodesPerRead": (ua.ReadRequest, "NodesToRead", ua.ReadValueId()),
    "MaxNodesPerWrite": (ua.WriteRequest, "NodesToWrite", ua.WriteValue()),
    "MaxNodesPerMethodCall": (ua.CallRequest, "MethodsToCall", ua.CallMethodRequest()),
    "MaxNodesPerBrowse": (ua.BrowseRequest, "NodesToBrowse", ua.BrowseDescription()),
    "MaxNodesPerRegisterNodes": (ua.RegisterNodesRequest, "NodesToRegister", ua.NodeId()),
    "MaxNodesPerTranslateBrowsePathsToNodeIds": (
        ua.TranslateBrowsePathsToNodeIdsRequest,
        "BrowsePaths",
        ua.BrowsePath(),
    ),
    "MaxMonitoredItemsPerCall": (
        ua.CreateMonitoredItemsRequest,
        "ItemsToCreate",
        ua.MonitoredItemCreateRequest(),
    ),
}


async def test_each_operation_limit_that_is_advertised_is_enforced(client: Client) -> None:
    # Part 5 §6.3.11, Part 4 §7.38.2.
    folder = client.get_node(ua.NodeId(IDS.Server_ServerCapabilities_OperationLimits))
    limits = {(await node.read_browse_name()).Name: node for node in await folder.get_children()}
    assert limits.keys() == OPERATIONS.keys()
    for name, node in limits.items():
        message, field_name, one = OPERATIONS[name]
        operations = [one] * (await node.read_value() + 1)
        refused = await status_of(request(client, message(), **{field_name: operations}))
        assert refused == ua.StatusCodes.BadTooManyOperations


async def test_the_summary_counts_sessions_subscriptions_and_refusals(client: Client) -> None:
    # Part 5 §12.9; asyncua has null everywhere.
    before = await read(client, IDS.Server_ServerDiagnostics_ServerDiagnosticsSummary)
    assert before.CurrentSessionCount >= 1
    assert before.CumulatedSessionCount >= before.CurrentSessionCount
    subscription = await client.create_subscription(200, Watcher())
    with pytest.raises(ua.UaStatusCodeError):
        await client.uaclient.read(ua.ReadParameters())
    after = await read(client, IDS.Server_ServerDiagnostics_ServerDiagnosticsSummary)
    part = IDS.Server_ServerDiagnostics_ServerDiagnosticsSummary_CurrentSubscriptionCount
    assert await read(client, part) == after.CurrentSubscriptionCount == before.CurrentSubscriptionCount + 1
    assert after.CumulatedSubscriptionCount == before.CumulatedSubscriptionCount + 1
    assert after.RejectedRequestsCount == before.RejectedRequestsCount + 1
    assert after.PublishingIntervalCount >= 1
    await subscription.delete()


async def test_sessions_and_subscriptions_are_shown_to_those_who_may_see_others(
    client: Client, officer: Client
) -> None:
    # Part 5 §6.3.3 and §12.11, §12.15.
    sessions = IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionDiagnosticsArray
    subscription = await client.create_subscription(150, Watcher())
    await subscription.subscribe_data_change(client.get_node(ua.NodeId(IDS.Server_ServiceLevel)))
    for node in (
        sessions,
        IDS.Server_ServerDiagnostics_SessionsDiagnosticsSummary_SessionSecurityDiagnosticsArray,
        IDS.Server_ServerDiagnostics_SubscriptionDiagnosticsArray,
    ):
        with pytest.raises(ua.UaStatusCodeError) as refused:
            await read(client, node)
        assert refused.value.code == ua.StatusCodes.BadUserAccessDenied
    rows = {row.ClientDescription.ApplicationUri: row for row in await read(officer, sessions)}
    mine = rows["urn:test:officer"]
    assert (mine.ReadCount.TotalCount >= 1, mine.ReadCount.ErrorCount) == (True, 0)
    assert mine.ActualSessionTimeout >= 5000
    assert mine.EndpointUrl.startswith("opc.tcp://127.0.0.1:")
    assert rows["urn:tests:client"].CurrentMonitoredItemsCount >= 1
    (shown,) = [
        row
        for row in await read(officer, IDS.Server_ServerDiagnostics_SubscriptionDiagnosticsArray)
        if row.SubscriptionId == subscription.subscription_id
    ]
    assert (shown.PublishingInterval, shown.MonitoredItemCount, shown.PublishingEnabled) == (150.0, 1, True)
    await subscription.delete()


async def test_the_service_level_follows_the_links_also_for_subscribers(client: Client, scene: Scene) -> None:
    # Part 4 §6.6.2.4.2; asyncua says 255 for ever.
    watcher = Watcher()
    subscription = await client.create_subscription(50, watcher)
    await subscription.subscribe_data_change(client.get_node(ua.NodeId(IDS.Server_ServiceLevel)))

    async def seen(level: int, **links: str) -> None:
        async def arrived() -> bool:
            everything_is(scene.plant, **links)  # who writes a block has to show that it lives
            return bool(watcher.values) and watcher.values[-1][1].Value.Value == level

        await until(arrived)

    await seen(255, press="ONLINE", vib="ONLINE")
    await seen(100, press="OFFLINE", vib="ONLINE")
    await seen(1, press="OFFLINE", vib="CONNECTING")
    await seen(255, press="ONLINE", vib="DISABLED")
    await subscription.delete()


def everything_is(plant: Plant, **links: str) -> None:
    for device, state in links.items():
        plant.link(device, state)
    for block, name, value in (("press-anomaly.lane", "state", "Active"), ("records.health", "fault", "")):
        plant.stamp(block)
        batch = plant.writer(block).batch
        batch.set(batch.row(name), value)
        plant.writer(block).publish()


async def test_audit_events_reach_who_may_have_them_and_nobody_else(
    scene: Scene, client: Client, officer: Client
) -> None:
    # Part 5 §6.5.20 (AuditWriteUpdate), §6.5.7 (AuditCreateSession).
    watchers = {}
    subscriptions = []
    for name, who in (("operator", client), ("officer", officer)):
        watchers[name] = Watcher()
        subscription = await who.create_subscription(50, watchers[name])
        await subscription.subscribe_events(ua.NodeId(IDS.Server), ua.NodeId(IDS.AuditEventType))
        await subscription.subscribe_events(ua.NodeId(IDS.Server), ua.NodeId(IDS.BaseEventType))
        subscriptions.append(subscription)
    with pytest.raises(ua.UaStatusCodeError):
        await write(client.get_node(plant_id("Press01.Process.die_temp")), 1.0)
    async with await scene.client():
        pass
    scene.plant.result(77, Verdict.OK)  # an event for everybody: what comes before it has come

    async def both_have_the_result() -> bool:
        return all(
            any("stroke 77" in str(event.Message.Text) for event in watcher.events)
            for watcher in watchers.values()
        )

    await until(both_have_the_result)
    types = [event.EventType.Identifier for event in watchers["officer"].events]
    assert IDS.AuditWriteUpdateEventType in types
    assert IDS.AuditCreateSessionEventType in types
    assert IDS.AuditActivateSessionEventType in types
    told = next(
        e for e in watchers["officer"].events if e.EventType.Identifier == IDS.AuditWriteUpdateEventType
    )
    assert (told.Status, told.SourceName) == (False, "Attribute/Write")
    assert told.SourceNode == plant_id("Press01.Process.die_temp")
    assert {event.EventType.NamespaceIndex for event in watchers["operator"].events} != {0}
    assert not any(
        str(event.SourceName).startswith(("Attribute", "Session")) for event in watchers["operator"].events
    )
    for subscription in subscriptions:
        await subscription.delete()


async def test_the_journal_says_who_did_what_once(scene: Scene, client: Client) -> None:
    before = len(scene.of("value.written"))
    node = client.get_node(plant_id("Press01.Process.sp_speed"))
    await write(node, 20.0)
    scene.plant.asked.write_reply = type(scene.plant.asked.write_reply)(body={"recorded": True})
    await write(node, 21.0)  # the io process has the record of this one
    assert len(scene.of("value.written")) == before + 1
    record = scene.of("value.written")[-1]
    assert (record["new"], record["outcome"]) == ("20.0", "Good")
    assert "127.0.0.1" in record["who"]
    assert scene.of("session.created")
    assert scene.of("session.activated")
    assert scene.of("session.closed")


async def test_what_everybody_may_ask_as_often_as_he_likes_fills_no_journal(
    scene: Scene, client: Client
) -> None:
    # Part 4 §5.12.2.2: the method may be named as that of the object's type as well.
    subscription = await client.create_subscription(3_600_000, None)
    before = len(scene.of("method.called"))
    number = ua.Variant(subscription.subscription_id, ua.VariantType.UInt32)
    server = client.get_node(SERVER)
    for method in (ua.ObjectIds.Server_GetMonitoredItems, ua.ObjectIds.ServerType_GetMonitoredItems):
        await server.call_method(ua.NodeId(method), number)
    assert len(scene.of("method.called")) == before
    await subscription.delete()


async def test_a_stranger_is_in_the_journal_with_the_reason_and_once(scene: Scene) -> None:
    stranger = make("stranger")
    for _ in range(3):
        with pytest.raises((ua.UaError, TimeoutError, ConnectionError, asyncio.CancelledError)):
            async with await scene.client(stranger, "stranger"):
                pass
    (record,) = scene.of("channel.refused")
    assert "not trusted" in record["outcome"]
    assert record["code"] == "S401"


async def test_status_is_made_when_it_is_read(client: Client) -> None:
    # Part 5 §12.10; asyncua's CurrentTime is up to a second old.
    status = await read(client, IDS.Server_ServerStatus)
    assert (status.State, status.SecondsTillShutdown) == (ua.ServerState.Running, 0)
    first = await read(client, IDS.Server_ServerStatus_CurrentTime)
    await asyncio.sleep(0.01)
    assert await read(client, IDS.Server_ServerStatus_CurrentTime) > first


class Mourner(Watcher):
    """Also keeps the last words of its subscriptions."""

    def __init__(self) -> None:
        super().__init__()
        self.farewells: list[int] = []

    def status_change_notification(self, status: Any) -> None:
        self.farewells.append(int(status.Status.value))


async def test_the_end_is_announced_and_waits_only_while_somebody_is_there(scene: Scene) -> None:
    # Part 5 §12.10, Part 4 §7.25.4; last in this module: the server does not come back from it.
    watcher = Mourner()
    async with await scene.client(scene.officer, "officer") as client:
        subscription = await client.create_subscription(50, watcher)
        await subscription.subscribe_data_change(client.get_node(ua.NodeId(IDS.Server_ServerStatus_State)))
        await subscription.subscribe_events(SERVER, ua.NodeId(IDS.SystemStatusChangeEventType))
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(scene.plant.server.announce_shutdown("maintenance", 0.5))

            async def shutting_down() -> bool:
                return bool(watcher.values) and watcher.values[-1][1].Value.Value == ua.ServerState.Shutdown

            await until(shutting_down)
            status = await read(client, IDS.Server_ServerStatus)
            assert (status.ShutdownReason.Text, status.SecondsTillShutdown) == ("maintenance", 1)
            assert await read(client, IDS.Server_ServiceLevel) == 0
        assert [event.SystemState for event in watcher.events] == [ua.ServerState.Shutdown]
        scene.plant.server.say_farewell()

        async def told() -> bool:
            return watcher.farewells == [ua.StatusCodes.BadShutdown]

        await until(told)
