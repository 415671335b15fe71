"""Another configuration while clients are connected: the address space is that of a start, items follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import Client, ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.values import Scalar
from edge_opcua.errors import IdentityError
from edge_opcua.opcua.namespaces import Namespace, plant_id
from tests.opcua.plant import (
    TAGS,
    Ground,
    Plant,
    Watcher,
    blocks,
    configuration,
    prepare,
    running,
    tag,
    until,
)

UNKNOWN = int(ua.StatusCodes.BadNodeIdUnknown)
_SHOWN = (
    ua.AttributeIds.NodeClass,
    ua.AttributeIds.BrowseName,
    ua.AttributeIds.DisplayName,
    ua.AttributeIds.Description,
    ua.AttributeIds.DataType,
    ua.AttributeIds.ValueRank,
    ua.AttributeIds.AccessLevel,
    ua.AttributeIds.EventNotifier,
)


def with_tags(*tags: dict[str, Any], **changes: Any) -> EdgeConfig:
    """Return the plant with these tags of the press."""
    raw = configuration().model_dump()
    devices = raw["devices"]
    devices[0]["tags"] = list(tags)
    return configuration(devices=devices, **changes)


def named(*names: str) -> list[dict[str, Any]]:
    return [row for row in TAGS if row["name"] in names]


def variants() -> dict[str, EdgeConfig]:
    """Return configurations that differ in everything that may."""
    whole = configuration().model_dump()
    press, vib = whole["devices"]
    more = {
        **press,
        "name": "oven",
        "url": "s7://10.0.0.9",
        "tags": [tag("heat", Scalar.DOUBLE, "DB1.DBD0:REAL")],
    }
    other_capture = {**vib, "captures": [{**vib["captures"][0], "sample_count": 500, "unit": "g"}]}
    renamed_capture = {**vib, "captures": [{**vib["captures"][0], "name": "shock"}]}
    second = {**whole["pipelines"][0], "name": "second"}
    own_id = tag("die_temp", Scalar.FLOAT, "DB10.DBD24:REAL", node_id="Elsewhere.Temp")
    return {
        "more of all": configuration(devices=[more, press, vib], pipelines=[*whole["pipelines"], second]),
        "bare": configuration(devices=[{**press, "tags": []}], pipelines=[], outputs=[]),
        "other capture": configuration(devices=[{**press, "url": "s7://10.1.1.1"}, other_capture]),
        "renamed": configuration(
            devices=[{**press, "driver": "modbus", "tags": [own_id, *named("sp_speed")]}, renamed_capture],
            pipelines=[],
            outputs=[],
        ),
    }


async def change(plant: Plant, config: EdgeConfig) -> None:
    """Do what the OPC UA process does when the supervisor says so."""
    before = dict(plant.bus.homes)
    plant.bus.switch(plant.bus.extend(blocks(config)))
    after = plant.bus.homes
    await plant.server.change(config, lambda block: before.get(block) != after.get(block))
    plant.config = config
    plant.writers.clear()


def space_of(plant: Plant) -> dict[str, Any]:
    """Return what a client can browse of the plant, in whatever order."""
    server = plant.server._server
    assert server is not None
    aspace = server.iserver.aspace
    found = {}
    for node in aspace.every(int(Namespace.PLANT)):
        references = {
            (str(each.ReferenceTypeId), each.IsForward, str(each.NodeId), str(each.BrowseName))
            for each in aspace.references_of(node)
        }
        found[str(node.Identifier)] = (references, [str(aspace.attribute(node, each)) for each in _SHOWN])
    return found


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare(tmp_path_factory.mktemp("respace"))


@pytest.fixture(scope="module")
async def standing(ground: Ground) -> AsyncIterator[Plant]:
    async with running(ground) as plant:
        yield plant


@pytest.fixture
async def plant(standing: Plant) -> AsyncIterator[Plant]:
    """The plant, as every test leaves it."""
    yield standing
    await change(standing, configuration())
    standing.asked.writes.clear()


@pytest.fixture
async def client(plant: Plant) -> AsyncIterator[Client]:
    async with await plant.client() as client:
        yield client


async def test_after_any_change_the_address_space_is_that_of_a_start(ground: Ground, plant: Plant) -> None:
    wanted = {"whole": configuration(), **variants()}
    started = {"whole": space_of(plant)}
    for name in wanted.keys() - started.keys():
        async with running(ground, wanted[name]) as fresh:
            started[name] = space_of(fresh)
    for name in (*wanted, *reversed(wanted)):
        await change(plant, wanted[name])
        changed = space_of(plant)
        assert changed.keys() == started[name].keys(), name
        for node, shown in started[name].items():
            assert changed[node] == shown, (name, node)


async def test_a_browse_that_had_begun_goes_on_with_the_tags_of_then(plant: Plant, client: Client) -> None:
    folder = plant_id("Press01.Process")
    description = ua.BrowseDescription(folder, ua.BrowseDirection.Forward, ResultMask=63)
    description.ReferenceTypeId = ua.NodeId(ua.ObjectIds.HasComponent)
    params = ua.BrowseParameters(NodesToBrowse=[description], RequestedMaxReferencesPerNode=4)
    (first,) = await client.uaclient.browse(params)
    await change(plant, with_tags(*named("die_temp", "total"), tag("fresh", Scalar.DOUBLE, "DB1.DBD0:REAL")))
    names = [each.BrowseName.Name for each in first.References]
    point = first.ContinuationPoint
    while point:
        more = ua.BrowseNextParameters(ReleaseContinuationPoints=False, ContinuationPoints=[point])
        (page,) = await client.uaclient.browse_next(more)
        names += [each.BrowseName.Name for each in page.References]
        point = page.ContinuationPoint
    assert names == [row["name"] for row in TAGS]
    assert [
        (await each.read_browse_name()).Name for each in await client.get_node(folder).get_children()
    ] == [
        "NodeVersion",
        "die_temp",
        "total",
        "fresh",
    ]


async def test_a_path_a_name_and_an_alias_lead_to_what_there_is_now(plant: Plant, client: Client) -> None:
    process = client.get_node(plant_id("Press01.Process"))
    assert (await process.get_child("7:tonnage")).nodeid == plant_id("Press01.Process.tonnage")
    await change(plant, variants()["renamed"])
    assert (await process.get_child("7:die_temp")).nodeid == plant_id("Elsewhere.Temp")
    with pytest.raises(ua.uaerrors.BadNoMatch):
        await process.get_child("7:tonnage")
    find = client.get_node(ua.NodeId(ua.ObjectIds.Aliases_FindAlias))
    aliases = client.get_node(ua.NodeId(ua.ObjectIds.Aliases))
    found = await aliases.call_method(find, ua.Variant("press/%"), ua.Variant(ua.NodeId()))
    named_now = {each.AliasName.Name: str(each.ReferencedNodes[0].Identifier) for each in found}
    assert named_now == {"press/die_temp": "Elsewhere.Temp", "press/sp_speed": "Press01.Process.sp_speed"}


async def test_reads_that_come_again_are_answered_from_where_the_tags_are_now(
    plant: Plant, client: Client
) -> None:
    plant.press(die_temp=20.0, tonnage=30.0, speed=40.0)
    nodes = [
        client.get_node(plant_id(f"Press01.Process.{name}")) for name in ("tonnage", "die_temp", "speed")
    ]
    many = nodes * 20  # more than a few have another kind of plan
    for _ in range(3):
        assert await client.read_values(nodes) == [30.0, 20.0, 40.0]
        assert await client.read_values(many) == [30.0, 20.0, 40.0] * 20
    await change(plant, with_tags(*named("speed", "die_temp", "total")))
    plant.press(die_temp=21.0, speed=41.0)
    params = ua.ReadParameters()
    for chosen, times in ((nodes, 1), (many, 20)):
        params.NodesToRead = [ua.ReadValueId(node.nodeid, ua.AttributeIds.Value) for node in chosen]
        values = await client.uaclient.read(params)
        assert [int(value.StatusCode.value) for value in values] == [UNKNOWN, 0, 0] * times
        assert [value.Value.Value for value in values[1:3]] == [21.0, 41.0]


async def test_items_of_every_kind_follow_their_tag_or_say_that_it_is_gone(
    plant: Plant, client: Client
) -> None:
    plant.press(die_temp=20.0, tonnage=30.0, recipe="A", total=7)
    watcher = Watcher()
    subscription = await client.create_subscription(10, watcher)

    def node(name: str) -> Any:
        return client.get_node(plant_id(f"Press01.Process.{name}"))

    band = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, ua.DeadbandType.Absolute, 5.0)
    asked = [("die_temp", None, 0.0), ("die_temp", band, 0.0), ("tonnage", None, 0.0), ("recipe", None, 0.0)]
    made = []
    for handle, (name, chosen, sampling_ms) in enumerate(asked):
        item = ua.MonitoredItemCreateRequest(
            ua.ReadValueId(node(name).nodeid, ua.AttributeIds.Value),
            ua.MonitoringMode.Reporting,
            ua.MonitoringParameters(handle + 100, sampling_ms, chosen, 10, True),
        )
        made.append(item)
    numbers = await subscription.create_monitored_items(made)
    assert all(isinstance(number, int) for number in numbers)
    slow = await subscription.subscribe_data_change(node("total"), sampling_interval=300, queuesize=10)
    unit = await subscription.subscribe_data_change(node("die_temp.EURange"))
    disabled = await subscription.subscribe_data_change(node("speed"), monitoring=ua.MonitoringMode.Disabled)

    def last(name: str) -> tuple[Any, int]:
        found = watcher.of(f"Press01.Process.{name}")
        value = found[-1]
        return (value.Value.Value if value.Value is not None else None, int(value.StatusCode.value))

    async def begun() -> bool:
        return all(
            watcher.of(f"Press01.Process.{name}") for name in ("die_temp", "tonnage", "recipe", "total")
        )

    await until(begun)
    rows = named("recipe", "total", "speed")
    await change(plant, with_tags(tag("die_temp", Scalar.FLOAT, "DB10.DBD24:REAL", low=0, high=500), *rows))

    async def gone() -> bool:
        return last("tonnage") == (None, UNKNOWN)

    await until(gone)
    plant.press(die_temp=99.0, recipe="B", total=8, speed=5.0)

    async def followed() -> bool:
        return last("die_temp") == (99.0, 0) and last("recipe") == ("B", 0) and last("total") == (8, 0)

    await until(followed)
    assert [value.StatusCode.value for value in watcher.of("Press01.Process.die_temp")].count(UNKNOWN) == 0

    async def new_range() -> bool:
        return bool(watcher.of("Press01.Process.die_temp.EURange")[-1].Value.Value.High == 500)

    await until(new_range)
    await subscription.set_monitoring_mode(ua.MonitoringMode.Reporting)

    async def enabled() -> bool:
        return bool(watcher.of("Press01.Process.speed")) and last("speed") == (5.0, 0)

    await until(enabled)
    # They can be changed and deleted like any other, the one of the lost tag included.
    assert await subscription.modify_monitored_item(numbers[0], 50) is not None
    await subscription.unsubscribe([*numbers, slow, unit, disabled])
    await change(plant, configuration())
    plant.press(tonnage=31.0)


def _float(value: float) -> ua.DataValue:
    return ua.DataValue(ua.Variant(value, ua.VariantType.Float))


async def test_who_may_write_is_decided_for_what_there_is_now(plant: Plant, client: Client) -> None:
    plant.press(sp_speed=20.0)
    node = client.get_node(plant_id("Press01.Process.sp_speed"))
    await node.write_value(_float(30.0))
    rows = [{**row, "access": "r"} if row["name"] == "sp_speed" else row for row in TAGS]
    rows = [{**row, "access": "rw"} if row["name"] == "speed" else row for row in rows]
    await change(plant, with_tags(*rows))
    with pytest.raises(ua.UaStatusCodeError):
        await node.write_value(_float(31.0))
    other = client.get_node(plant_id("Press01.Process.speed"))
    await other.write_value(_float(32.0))
    assert [write[:2] for write in plant.asked.writes] == [("press/sp_speed", 30.0), ("press/speed", 32.0)]


async def test_two_nodes_of_one_id_are_refused_and_the_way_back_is_the_old_space(plant: Plant) -> None:
    before = space_of(plant)
    taken = tag("die_temp", Scalar.FLOAT, "DB10.DBD24:REAL", node_id="Press01.Process")
    with pytest.raises(IdentityError):
        await change(plant, with_tags(taken))
    await change(plant, configuration())
    assert space_of(plant) == before
