"""The running server seen by a secure client: what it browses, reads and is told."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua import __version__
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    LIMIT_HIGH,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    BlockSpec,
    Verdict,
)
from edge_opcua.drivers.plan import LINK_TAGS
from edge_opcua.inference.blocks import result_blocks, shadow_block, watch_block
from edge_opcua.opcua.namespaces import TYPE_URIS, Ids, plant_id
from edge_opcua.opcua.rows import (
    AUTHORITY_ROWS,
    LANE_ROWS,
    LINK_ROWS,
    RECORDS_ROWS,
    RESULT_ROWS,
    SHADOW_ROWS,
    WATCH_ROWS,
)
from edge_opcua.records.recorder import health_block
from edge_opcua.writeback.output import authority_block
from tests.opcua.plant import (
    HOLD_S,
    LOST_S,
    STALE_S,
    Plant,
    Watcher,
    configuration,
    prepare,
    running,
    until,
)

ENGINE = "Press01.Inference.press-anomaly"


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    async with running(prepare(tmp_path_factory.mktemp("plant"))) as running_plant:
        yield running_plant


@pytest.fixture(scope="module")
async def client(plant: Plant) -> AsyncIterator[Client]:
    client = await plant.client()
    async with client:
        yield client


async def read(client: Client, name: str) -> ua.DataValue:
    item = ua.ReadValueId(plant_id(name), ua.AttributeIds.Value)
    both = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=[item])
    (found,) = await client.uaclient.read(both)
    return found


async def value(client: Client, name: str) -> Any:
    return (await read(client, name)).Value.Value


async def status(client: Client, name: str) -> int:
    return int((await read(client, name)).StatusCode.value)


async def browse_names(client: Client, node: ua.NodeId) -> set[str]:
    children = await client.get_node(node).get_children()
    return {(await child.read_browse_name()).to_string() for child in children}


# --- address space ----------------------------------------------------------------------------------------


async def test_namespaces_have_the_promised_order(client: Client) -> None:
    assert (await client.get_namespace_array())[2:] == [*TYPE_URIS, "urn:plant-1:plant"]


async def test_the_machine_is_found_where_companion_clients_look(client: Client) -> None:
    path = ["0:Objects", "4:Machines", "7:Press01", "2:Identification", "2:SerialNumber"]
    assert await (await client.nodes.root.get_child(path)).read_value() == "17"
    path = ["4:Machines", "7:Press01", "4:MachineryBuildingBlocks", "4:Monitoring", "4:Process", "7:die_temp"]
    assert (await client.nodes.objects.get_child(path)).nodeid == plant_id("Press01.Process.die_temp")
    assert await value(client, "Press01.Identification.ProductInstanceUri") == "urn:plant-1:Press01"


@pytest.mark.parametrize(
    ("tag", "kind", "properties"),
    [
        ("die_temp", ua.ObjectIds.AnalogUnitRangeType, {"EURange", "EngineeringUnits"}),
        ("profile", ua.ObjectIds.AnalogUnitType, {"EngineeringUnits"}),
        ("guard_closed", ua.ObjectIds.TwoStateDiscreteType, {"TrueState", "FalseState"}),
        ("stroke_count", ua.ObjectIds.DataItemType, set()),
        ("recipe", ua.ObjectIds.DataItemType, set()),
    ],
)
async def test_a_tag_has_the_variable_type_that_fits(
    client: Client, tag: str, kind: int, properties: set[str]
) -> None:
    node = client.get_node(plant_id(f"Press01.Process.{tag}"))
    assert await node.read_type_definition() == ua.NodeId(kind)
    found = {(await each.read_browse_name()).Name for each in await node.get_properties()}
    assert found == properties


async def test_range_unit_and_description_come_from_the_tag_table(client: Client) -> None:
    scale = await value(client, "Press01.Process.die_temp.EURange")
    assert (scale.Low, scale.High) == (0.0, 120.0)
    unit = await value(client, "Press01.Process.die_temp.EngineeringUnits")
    assert (unit.UnitId, unit.DisplayName.Text) == (4408652, "°C")
    node = client.get_node(plant_id("Press01.Process.die_temp"))
    assert (await node.read_description()).Text == "Die"
    assert await node.read_data_type() == ua.NodeId(ua.ObjectIds.Float)


async def test_only_set_points_are_writable(client: Client) -> None:
    for tag, writable in (("die_temp", False), ("sp_speed", True)):
        level = await client.get_node(plant_id(f"Press01.Process.{tag}")).get_access_level()
        assert (ua.AccessLevel.CurrentWrite in level) is writable


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (ENGINE, Ids.INFERENCE_ENGINE_TYPE),
        ("Press01.Outputs.verdict", Ids.OUTPUT_AUTHORITY_TYPE),
        ("Press01.Captures.stroke", Ids.CAPTURE_TYPE),
        ("Devices.press", Ids.DEVICE_TYPE),
        ("Devices.press.Connection", Ids.CONNECTION_TYPE),
        ("Models", Ids.MODEL_REPOSITORY_TYPE),
        ("Models.LastJob", Ids.MODEL_JOB_TYPE),
        ("Models.press-anomaly.1", Ids.MODEL_TYPE),
        ("Records", Ids.RECORDS_TYPE),
    ],
)
async def test_an_object_has_every_member_its_type_demands(
    client: Client, name: str, kind: ua.NodeId
) -> None:
    node = client.get_node(plant_id(name))
    assert await node.read_type_definition() == kind
    present = await browse_names(client, node.nodeid)
    type_node = client.get_node(kind)
    while type_node.nodeid.NamespaceIndex:
        for member in await type_node.get_children():
            rules = await member.get_referenced_nodes(ua.ObjectIds.HasModellingRule)
            if [rule.nodeid for rule in rules] == [ua.NodeId(ua.ObjectIds.ModellingRule_Mandatory)]:
                assert (await member.read_browse_name()).to_string() in present
        type_node = (
            await type_node.get_referenced_nodes(ua.ObjectIds.HasSubtype, ua.BrowseDirection.Inverse)
        )[0]


async def test_an_object_has_no_placeholder_of_its_type(client: Client) -> None:
    # Part 3 §6.4.4.4: a placeholder is a rule for names, no node; asyncua made one of each.
    waiting = [plant_id("Press01"), plant_id("Models"), plant_id("Devices.press"), plant_id("Devices.vib")]
    seen = set(waiting)
    while waiting:
        for child in await client.get_node(waiting.pop()).get_children_descriptions():
            assert not child.BrowseName.Name.startswith("<"), child.NodeId
            if child.NodeId not in seen:
                seen.add(child.NodeId)
                waiting.append(child.NodeId)
    assert len(seen) > 150


async def test_models_show_hash_state_and_proof(client: Client) -> None:
    assert await value(client, "Models.press-anomaly.1.Sha256") == "a" * 64
    assert await value(client, "Models.press-anomaly.1.Proof.false_alarms_per_week") == 0.5
    assert await value(client, "Models.press-anomaly.1.Proof.samples") == 400
    assert await value(client, "Models.press-anomaly.2.Proof.note") == "retrained"


async def test_the_server_says_what_it_is(client: Client) -> None:
    build = await client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_BuildInfo)).read_value()
    assert (build.ProductName, build.SoftwareVersion) == ("edge_opcua Press01", __version__)
    state = await client.get_node(ua.NodeId(ua.ObjectIds.Server_ServerStatus_State)).read_value()
    assert state == ua.ServerState.Running


async def test_no_url_shows_a_password(client: Client) -> None:
    assert await value(client, "Devices.press.Connection.Url") == "s7://192.168.0.10?rack=0&slot=1"


# --- quality ----------------------------------------------------------------------------------------------


async def test_what_was_never_read_waits_for_initial_data(client: Client) -> None:
    found = await read(client, "Press01.Outputs.verdict.State")
    assert found.StatusCode.value == BAD_WAITING_FOR_INITIAL_DATA
    assert found.Value.Value is None


async def test_that_no_model_was_loaded_yet_is_no_fault(client: Client) -> None:
    found = {
        member: await read(client, f"Models.LastJob.{member}") for member in ("JobId", "State", "Percent")
    }
    assert {member: each.Value.Value for member, each in found.items()} == {
        "JobId": "",
        "State": "Idle",
        "Percent": 0,
    }
    assert all(each.StatusCode.is_good() and each.SourceTimestamp for each in found.values())


async def test_values_of_every_type_arrive_with_their_stamps(plant: Plant, client: Client) -> None:
    plant.press(
        die_temp=55.5,
        guard_closed=True,
        stroke_count=2**32 - 1,
        recipe="Räder",
        profile=[1, -2, 3],
        total=2**63,
    )
    source_ns = int(plant.writer("press.fast").batch.source_ns[0])
    await until(lambda: _is(client, "Press01.Process.die_temp", 55.5))
    for tag, expected in {
        "guard_closed": True,
        "stroke_count": 2**32 - 1,
        "recipe": "Räder",
        "profile": [1, -2, 3],
        "total": 2**63,
    }.items():
        assert await value(client, f"Press01.Process.{tag}") == expected
    found = await read(client, "Press01.Process.die_temp")
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert found.SourceTimestamp == epoch + dt.timedelta(microseconds=source_ns // 1000)
    assert found.ServerTimestamp > found.SourceTimestamp
    assert found.StatusCode.value == GOOD


async def _is(client: Client, name: str, expected: Any) -> bool:
    return bool(await value(client, name) == expected)


async def _has_status(client: Client, name: str, expected: int) -> bool:
    return await status(client, name) == expected


async def _was_told(watcher: Watcher, name: str, expected: int) -> bool:
    return [each.StatusCode.value for each in watcher.of(name)][-1:] == [expected]


async def test_a_bad_row_is_null_and_a_row_out_of_range_keeps_its_value(plant: Plant, client: Client) -> None:
    plant.stamp("press.fast")
    batch = plant.writer("press.fast").batch
    batch.set(batch.row("die_temp"), 130.0)
    batch.status[batch.row("die_temp")] = UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH
    batch.status[batch.row("tonnage")] = BAD_SENSOR_FAILURE
    plant.writer("press.fast").publish()
    await until(lambda: _has_status(client, "Press01.Process.tonnage", BAD_SENSOR_FAILURE))
    assert await value(client, "Press01.Process.tonnage") is None
    found = await read(client, "Press01.Process.die_temp")
    assert (found.Value.Value, found.StatusCode.value) == (130.0, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH)


async def test_a_writer_that_stops_takes_its_values_through_the_table(plant: Plant, client: Client) -> None:
    """Architecture §4: Good, Uncertain with the last value, the substitute or null, Good again."""
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    names = ["Press01.Process.tonnage", "Press01.Process.speed"]
    plant.press(tonnage=500, speed=20)
    await until(lambda: _is(client, names[0], 500.0))
    await subscription.subscribe_data_change(
        [client.get_node(plant_id(name)) for name in names], queuesize=10
    )
    source = (await read(client, names[0])).SourceTimestamp
    passed_s = -1.0  # a second more than it needs
    await until(lambda: _was_told(watcher, names[0], GOOD))
    for after_s, status in (
        (STALE_S, UNCERTAIN_LAST_USABLE),
        (LOST_S, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE),
        (HOLD_S, BAD_COMMUNICATION_ERROR),
    ):
        plant.clock.skip(after_s - passed_s)
        passed_s = after_s
        await until(lambda status=status: _was_told(watcher, names[0], status))
    held = await read(client, names[1])
    assert (held.Value.Value, held.StatusCode.value) == (0.0, UNCERTAIN_SUBSTITUTE)
    plant.press(tonnage=600, speed=30)
    await until(lambda: _was_told(watcher, names[0], GOOD))
    await subscription.delete()
    told = [(each.Value.Value, each.StatusCode.value) for each in watcher.of(names[0])]
    assert told == [
        (500.0, GOOD),
        (500.0, UNCERTAIN_LAST_USABLE),
        (500.0, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE),
        (None, BAD_COMMUNICATION_ERROR),
        (600.0, GOOD),
    ]
    # The source time of a held value is that of its reading (Part 8 §5.2), the server's that of the change.
    stamps = [(each.SourceTimestamp, each.ServerTimestamp) for each in watcher.of(names[0])]
    assert {stamp[0] for stamp in stamps[:4]} == {source}
    assert [stamp[1] for stamp in stamps] == sorted(stamp[1] for stamp in stamps)


async def test_an_unchanged_value_is_not_sent_again_but_read_with_its_new_stamp(
    plant: Plant, client: Client
) -> None:
    name = "Press01.Process.stroke_count"
    watcher = Watcher()
    plant.press(stroke_count=77)
    await until(lambda: _is(client, name, 77))
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_data_change(client.get_node(plant_id(name)))
    before = (await read(client, name)).SourceTimestamp
    for _ in range(3):
        plant.press(stroke_count=77)
        await asyncio.sleep(0.05)
    assert (await read(client, name)).SourceTimestamp > before
    assert len(watcher.of(name)) == 1
    await subscription.delete()


async def test_a_client_that_asks_for_timestamps_gets_each_one(plant: Plant, client: Client) -> None:
    name = "Press01.Process.stroke_count"
    plant.press(stroke_count=78)
    await until(lambda: _is(client, name, 78))
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    node = client.get_node(plant_id(name))
    wanted = ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    item = ua.MonitoredItemCreateRequest()
    item.ItemToMonitor.NodeId = node.nodeid
    item.ItemToMonitor.AttributeId = ua.AttributeIds.Value
    item.MonitoringMode = ua.MonitoringMode.Reporting
    item.RequestedParameters = ua.MonitoringParameters(ClientHandle=1, Filter=wanted, QueueSize=10)
    answer = (await subscription.create_monitored_items([item]))[0]
    assert not isinstance(answer, ua.StatusCode)

    async def were_told(count: int) -> bool:
        return len({each.SourceTimestamp for _, each in watcher.values}) == count

    await until(lambda: were_told(1))
    for count in (2, 3, 4):
        plant.press(stroke_count=78)
        await until(lambda count=count: were_told(count))
    await subscription.delete()


# --- results ----------------------------------------------------------------------------------------------


async def test_every_inference_variable_mirrors_the_last_result(plant: Plant, client: Client) -> None:
    plant.result(41, Verdict.NOT_OK, score=1.5, reason="die worn")
    await until(lambda: _is(client, f"{ENGINE}.Stroke", 41))
    for member, expected in {
        "Score": 1.5,
        "Verdict": int(Verdict.NOT_OK),
        "Confidence": 0.75,
        "Contributions": [0.5, 0.25, 0.25],
        "ContributionNames": ["rms", "crest", "band_200_400"],
        "Features": [1.0, 2.0, 3.0],
        "Expected": [1.5, 2.5, 3.5],
        "LatencyAcquire": 12.5,
        "LatencyQueue": 0.5,
        "LatencyInfer": 0.25,
        "LatencyTotal": 13.25,
        "InputAge": 40.0,
        "FailSafeActive": False,
        "PartId": 1041,
        "ModelName": "press-anomaly",
        "ModelVersion": 1,
        "ModelSha256": "a" * 64,
        "ModelRef": plant_id("Models.press-anomaly.1"),
        "Reason": "die worn",
        "LastResultId": "7041",
    }.items():
        assert await value(client, f"{ENGINE}.{member}") == expected, member
    assert 0 < await value(client, f"{ENGINE}.LatencyPublish") < 500
    assert (
        await value(client, f"{ENGINE}.CapturedAt") == (await read(client, f"{ENGINE}.Score")).SourceTimestamp
    )
    assert await value(client, f"{ENGINE}.PublishedResults") >= 1
    # The enumeration is the official one, so that a client shows its text.
    assert await client.get_node(plant_id(f"{ENGINE}.Verdict")).read_data_type() == Ids.RESULT_EVALUATION


async def test_result_members_have_the_types_that_the_type_declares(plant: Plant, client: Client) -> None:
    plant.result(42)
    await until(lambda: _is(client, f"{ENGINE}.Stroke", 42))
    for member in await client.get_node(plant_id(ENGINE)).get_variables():
        declared = await member.read_data_type_as_variant_type()
        found = await member.read_data_value(raise_on_bad_status=False)
        if found.Value.Value is not None:
            assert found.Value.VariantType == declared, await member.read_browse_name()


@pytest.mark.parametrize(
    "notifier",
    [
        ua.NodeId(ua.ObjectIds.Server),
        Ids.MACHINES,
        plant_id("Press01"),
        plant_id(ENGINE),
    ],
    ids=["Server", "Machines", "machine", "engine"],
)
async def test_each_result_is_one_event_on_every_notifier(
    plant: Plant, client: Client, notifier: ua.NodeId
) -> None:
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(notifier, client.get_node(Ids.RESULT_EVENT_TYPE), queuesize=100)
    for stroke in range(20):
        plant.result(stroke, Verdict.OK)
    await watcher.wait(20)
    await asyncio.sleep(0.05)
    assert [event.Stroke for event in watcher.events] == list(range(20))
    event = watcher.events[-1]
    assert event.SourceNode == plant_id(ENGINE)
    assert event.EventType == Ids.RESULT_EVENT_TYPE
    assert (event.Verdict, event.Severity, event.ModelVersion) == (1, 100, 1)
    assert event.ContributionNames == ["rms", "crest", "band_200_400"]
    assert event.Message.Text == "press-anomaly: stroke 19 OK, score 0.25"
    await subscription.delete()


async def test_results_that_were_overwritten_are_counted_not_hidden(plant: Plant, client: Client) -> None:
    """Architecture §1: a reader sees every batch or counts it. 80 results in one tick, a ring of 64."""
    before = plant.server.sessions()["results_lost"]
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(
        plant_id(ENGINE), client.get_node(Ids.RESULT_EVENT_TYPE), queuesize=100
    )
    for stroke in range(80):
        plant.result(stroke)
    await watcher.wait(64)
    assert [event.Stroke for event in watcher.events] == list(range(16, 80))
    await until(lambda: _is(client, f"{ENGINE}.LostResults", before + 16))
    assert plant.server.sessions()["results_lost"] == before + 16
    await subscription.delete()


async def test_a_result_event_carries_the_machinery_result(plant: Plant, client: Client) -> None:
    await client.load_data_type_definitions()
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    wanted = ua.EventFilter()
    paths = [
        ["5:Result"],
        ["5:Result", "5:ResultMetaData", "5:ResultId"],
        ["5:Result", "5:ResultMetaData", "5:PartId"],
        ["5:Result", "5:ResultMetaData", "5:ResultEvaluation"],
        ["5:Result", "5:ResultMetaData", "5:CreationTime"],
        ["5:Result", "5:ResultMetaData", "5:ProcessingTimes"],
    ]
    for path in paths:
        clause = ua.SimpleAttributeOperand()
        clause.TypeDefinitionId = ua.NodeId(1002, 5)
        clause.BrowsePath = [ua.QualifiedName.from_string(name) for name in path]
        clause.AttributeId = ua.AttributeIds.Value
        wanted.SelectClauses.append(clause)
    await subscription.subscribe_events(ua.NodeId(ua.ObjectIds.Server), evfilter=wanted)
    plant.result(50, Verdict.NOT_OK)
    await watcher.wait(1)
    await subscription.delete()
    result, result_id, part, evaluation, created, times = (
        field.Value for field in watcher.events[0].event_fields
    )
    meta = result.ResultMetaData
    assert (result_id, part, evaluation) == ("7050", "1050", 2)
    assert (meta.ResultId, meta.PartId, int(meta.ResultEvaluation)) == ("7050", "1050", 2)
    assert (meta.ResultState, meta.IsSimulated) == (1, False)
    assert meta.InternalConfigurationId == "press-anomaly/1"
    assert meta.CreationTime == created
    assert (times.AcquisitionDuration, times.ProcessingDuration) == (12.5, 0.25)
    assert times.StartTime < times.EndTime
    assert [part.Value for part in result.ResultContent] == [0.25, 0.75]


async def test_structures_are_not_mixed_up_with_others_of_their_name(
    plant: Plant, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # asyncua keeps them by BrowseName: MachineVision has a ResultDataType of its own.
    for name in ("ResultDataType", "ResultMetaDataType", "ProcessingTimesDataType"):
        monkeypatch.setattr(ua, name, ua.Range, raising=False)
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(plant_id(ENGINE), client.get_node(Ids.RESULT_EVENT_TYPE))
    plant.result(52, Verdict.OK)
    await watcher.wait(1)
    await subscription.delete()
    result = watcher.events[0].Result
    assert type(result) is ua.extension_objects_by_datatype[Ids.RESULT_DATA]
    assert result.ResultMetaData.ResultId == "7052"


async def test_a_client_that_asks_for_any_event_of_the_base_type_gets_results(
    plant: Plant, client: Client
) -> None:
    """Part 4 §7.7.3: OfType matches subtypes; this is what SCADA event viewers send."""
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    wanted = ua.EventFilter()
    for name in ("Message", "Severity", "SourceName"):
        clause = ua.SimpleAttributeOperand()
        clause.TypeDefinitionId = ua.NodeId(ua.ObjectIds.BaseEventType)
        clause.BrowsePath = [ua.QualifiedName(name, 0)]
        clause.AttributeId = ua.AttributeIds.Value
        wanted.SelectClauses.append(clause)
    element = ua.ContentFilterElement(FilterOperator=ua.FilterOperator.OfType)
    element.FilterOperands = [ua.LiteralOperand(Value=ua.Variant(ua.NodeId(ua.ObjectIds.BaseEventType)))]
    wanted.WhereClause.Elements.append(element)
    await subscription.subscribe_events(ua.NodeId(ua.ObjectIds.Server), evfilter=wanted)
    plant.result(51, Verdict.NOT_DECIDABLE, reason="late")
    await watcher.wait(1)
    await subscription.delete()
    message, severity, source = (field.Value for field in watcher.events[0].event_fields)
    assert message.Text == "press-anomaly: stroke 51 not decidable, score 0.25 (late)"
    assert (severity, source) == (400, "press-anomaly")


async def test_a_fail_safe_result_without_a_stroke_is_an_event_with_nulls(
    plant: Plant, client: Client
) -> None:
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(plant_id("Press01"), client.get_node(Ids.RESULT_EVENT_TYPE))
    block = plant.config.pipelines[0].result_block
    plant.stamp(block)
    batch = plant.writer(block).batch
    batch.status[:] = BAD_COMMUNICATION_ERROR
    for name in ("verdict", "fail_safe_active", "reason", "result_id", "model_name", "model_version"):
        batch.status[batch.row(name)] = GOOD
    batch.status[batch.row("verdict")] = UNCERTAIN_SUBSTITUTE
    for name, given in {"verdict": 3, "fail_safe_active": True, "reason": "vib lost", "result_id": 8}.items():
        batch.set(batch.row(name), given)
    plant.writer(block).publish()
    await watcher.wait(1)
    await subscription.delete()
    event = watcher.events[0]
    assert (event.Verdict, event.FailSafeActive, event.Score, event.Stroke) == (3, True, None, None)
    assert event.ResultStatus.value == UNCERTAIN_SUBSTITUTE
    assert event.Message.Text == "press-anomaly: not decidable (vib lost)"
    shown = await read(client, f"{ENGINE}.Verdict")
    assert (shown.Value.Value, shown.StatusCode.value) == (3, UNCERTAIN_SUBSTITUTE)


# --- devices ----------------------------------------------------------------------------------------------


async def test_a_link_that_is_lost_and_comes_back_is_told_once_each_way(plant: Plant, client: Client) -> None:
    plant.link("vib", "ONLINE")
    plant.link("press", "ONLINE")
    await until(lambda: _is(client, "Devices.press.Connection.State", "ONLINE"))
    await until(lambda: _is(client, "Press01.Health.DeviceHealth", 0))
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(plant_id("Press01"), client.get_node(Ids.LINK_EVENT_TYPE))
    for state in ("SUSPECT", "OFFLINE", "CONNECTING", "OFFLINE"):
        plant.link("press", state, error="timed out" if state == "OFFLINE" else "")
        await until(lambda state=state: _is(client, "Devices.press.Connection.State", state))
    assert await value(client, "Devices.press.DeviceHealth") == 1
    assert await value(client, "Press01.Health.DeviceHealth") == 1
    assert await value(client, "Devices.press.Connection.LastError") == "timed out"
    plant.link("press", "RECOVERING")
    await until(lambda: _is(client, "Devices.press.DeviceHealth", 2))
    plant.link("press", "ONLINE", bad=2)
    await until(lambda: _is(client, "Devices.press.DeviceHealth", 4))
    await watcher.wait(2)
    await asyncio.sleep(0.05)
    await subscription.delete()
    told = [(event.Device, event.PreviousState, event.State, event.Severity) for event in watcher.events]
    assert told == [("press", "SUSPECT", "OFFLINE", 700), ("press", "OFFLINE", "RECOVERING", 200)]
    assert watcher.events[0].SourceNode == plant_id("Devices.press")
    assert watcher.events[0].LastError == "timed out"


async def test_an_io_process_that_stops_is_a_lost_link(plant: Plant, client: Client) -> None:
    plant.link("vib", "ONLINE")
    await until(lambda: _is(client, "Devices.vib.DeviceHealth", 0))
    watcher = Watcher()
    subscription = await client.create_subscription(20, watcher)
    await subscription.subscribe_events(plant_id("Devices.vib"), client.get_node(Ids.LINK_EVENT_TYPE))
    plant.clock.skip(LOST_S + 1.0)
    await watcher.wait(1)
    await subscription.delete()
    assert watcher.events[0].State == "UNKNOWN"
    assert "does not answer" in watcher.events[0].LastError
    assert await value(client, "Devices.vib.DeviceHealth") == 1


async def test_a_capture_is_shown_with_its_axis(plant: Plant, client: Client) -> None:
    plant.stamp("vib.stroke")
    batch = plant.writer("vib.stroke").batch
    samples = [float(index) for index in range(2000)]
    for name, given in {"sequence": 3, "sample_rate_hz": 10000.0, "waveform": samples}.items():
        batch.set(batch.row(name), given)
    plant.writer("vib.stroke").publish()
    await until(lambda: _is(client, "Press01.Captures.stroke.Sequence", 3))
    assert await value(client, "Press01.Captures.stroke.Waveform") == samples
    axis = await value(client, "Press01.Captures.stroke.Waveform.XAxisDefinition")
    assert (axis.EURange.High, axis.EngineeringUnits.DisplayName.Text) == (0.2, "s")


async def test_authority_and_records_are_shown(plant: Plant, client: Client) -> None:
    for block, values in {
        "verdict.authority": {"state": "ACTIVE", "heartbeat": 17, "plc_trusts": True},
        "records.health": {"written": 5, "fault": "disk full"},
    }.items():
        plant.stamp(block)
        for name, given in values.items():
            plant.writer(block).batch.set(plant.writer(block).batch.row(name), given)
        plant.writer(block).publish()
    await until(lambda: _is(client, "Press01.Outputs.verdict.State", "ACTIVE"))
    assert await value(client, "Press01.Outputs.verdict.Heartbeat") == 17
    assert await value(client, "Press01.Outputs.verdict.PlcTrusts") is True
    await until(lambda: _is(client, "Records.Fault", "disk full"))


async def test_sessions_are_told_for_status(plant: Plant, client: Client) -> None:
    subscription = await client.create_subscription(50, Watcher())
    await subscription.subscribe_data_change(client.get_node(plant_id("Press01.Process.die_temp")))
    told = plant.server.sessions()
    await subscription.delete()
    assert told["ready"]
    assert told["results"] > 0
    (mine,) = (row for row in told["sessions"] if row["application_uri"] == "urn:tests:client")
    assert mine["client"]
    assert (mine["secured"], mine["items"], mine["interval_ms"]) == (True, 1, 50.0)


async def test_every_row_of_the_true_blocks_is_shown() -> None:
    """The rows that drivers, lane, write-back and records declare, against the ones we know."""
    config = configuration()
    pipeline, output = config.pipelines[0], config.outputs[0]
    result, lane = result_blocks(pipeline)
    for spec, rows, hidden in (
        (result, RESULT_ROWS, set()),
        (lane, LANE_ROWS, {"cursor"}),
        (watch_block(pipeline), WATCH_ROWS, set()),
        (shadow_block(pipeline), SHADOW_ROWS, set()),
        (authority_block(output), AUTHORITY_ROWS, set()),
        (health_block(), RECORDS_ROWS, set()),
        (BlockSpec("x.link", LINK_TAGS, 2), LINK_ROWS, {"bytes", "notice"}),
    ):
        assert {row.name for row in spec.tags} - hidden == set(rows), spec.name
