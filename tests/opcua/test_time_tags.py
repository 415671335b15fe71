"""Tags that are times, as clients meet them: DateTimes in reads, subscriptions and writes, and in exports."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from asyncua import Client, ua

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.ticks import from_utc
from edge_opcua.core.values import Scalar
from edge_opcua.opcua.namespaces import plant_id
from tests.opcua.plant import Plant, Watcher, configuration, prepare, running, tag, until

NOON = dt.datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)
TAGS = [
    tag("started", Scalar.DATETIME, "DB10.DBB0:DTL", access="rw"),
    tag("services", Scalar.DATETIME, "DB10.DBB12:DT[2]", length=2, access="rw"),
    tag("never", Scalar.DATETIME, "DB10.DBB28:LDT"),
]


@dataclass
class Scene:
    plant: Plant
    client: Client

    def node(self, name: str) -> ua.NodeId:
        return plant_id(f"Press01.Process.{name}")

    def show(self, moment: dt.datetime) -> None:
        ticks = from_utc(moment)
        self.plant.press(started=ticks, services=[ticks, 0])


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    raw = configuration(pipelines=[], outputs=[]).model_dump()
    raw["devices"] = [{**raw["devices"][0], "tags": TAGS, "captures": []}]
    ground = prepare(tmp_path_factory.mktemp("plant"))
    async with running(ground, EdgeConfig.model_validate(raw)) as plant, await plant.client() as client:
        made = Scene(plant, client)
        made.show(NOON)

        async def shown() -> bool:
            found = await client.get_node(made.node("started")).read_data_value(raise_on_bad_status=False)
            return bool(found.Value is not None and found.Value.Value == NOON)

        await until(shown)
        yield made


async def test_a_time_is_read_as_a_date_time(scene: Scene) -> None:
    node = scene.client.get_node(scene.node("started"))
    assert await node.read_data_type() == ua.NodeId(ua.ObjectIds.DateTime)
    value = await node.read_data_value()
    assert (value.Value.VariantType, value.Value.Value) == (ua.VariantType.DateTime, NOON)
    never = await scene.client.get_node(scene.node("never")).read_value()
    assert never == dt.datetime(1601, 1, 1, tzinfo=dt.UTC)  # Part 6 §5.2.2.5: 0


async def test_many_at_once_say_the_same_as_one(scene: Scene) -> None:
    nodes = [scene.client.get_node(scene.node(name)) for name in ("started", "services", "never")]
    single = [await node.read_value() for node in nodes]
    for _ in range(3):  # the second time a plan answers
        assert await scene.client.read_values(nodes) == single
    assert single[1] == [NOON, dt.datetime(1601, 1, 1, tzinfo=dt.UTC)]


async def test_each_change_is_notified(scene: Scene) -> None:
    watcher = Watcher()
    names = ("started", "services")
    async with await scene.client.create_subscription(20, watcher) as subscription:
        await subscription.subscribe_data_change([scene.client.get_node(scene.node(name)) for name in names])
        moments = [NOON + n * SECOND for n in range(4)]
        for moment in moments:
            scene.show(moment)

            async def arrived(moment: dt.datetime = moment) -> bool:
                last = [watcher.of(str(scene.node(name).Identifier))[-1:] for name in names]
                return all(found for found in last) and last[0][0].Value.Value == moment

            await until(arrived)
        found = [each.Value.Value for each in watcher.of(str(scene.node("started").Identifier))]
        assert found == moments
        assert watcher.of(str(scene.node("services").Identifier))[-1].Value.Value[0] == moments[-1]
    scene.show(NOON)


@pytest.mark.parametrize("kind", [ua.DeadbandType.Absolute, ua.DeadbandType.Percent])
async def test_a_deadband_is_for_numbers(scene: Scene, kind: ua.DeadbandType) -> None:
    # Part 4 §7.22.2
    change = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, int(kind), 1.0)
    async with await scene.client.create_subscription(50, Watcher()) as subscription:
        parameters = ua.MonitoringParameters(1, 0.0, change, 1, True)
        what = ua.ReadValueId(scene.node("started"), ua.AttributeIds.Value)
        request = ua.MonitoredItemCreateRequest(what, ua.MonitoringMode.Reporting, parameters)
        (refused,) = await subscription.create_monitored_items([request])
    assert refused.value in (
        ua.StatusCodes.BadFilterNotAllowed,
        ua.StatusCodes.BadMonitoredItemFilterUnsupported,
    )


async def test_a_written_time_reaches_the_device_as_ticks(scene: Scene) -> None:
    scene.plant.asked.writes.clear()
    later = NOON + SECOND
    for name, value in (("started", later), ("services", [later, NOON])):
        node = scene.client.get_node(scene.node(name))
        await node.write_value(ua.DataValue(ua.Variant(value, ua.VariantType.DateTime)))
    wrong = ua.Variant(from_utc(later), ua.VariantType.Int64)
    with pytest.raises(ua.UaStatusCodeError):
        await scene.client.get_node(scene.node("started")).write_value(ua.DataValue(wrong))
    written = [(name, value) for name, value, _ in scene.plant.asked.writes]
    assert written == [
        ("press/started", from_utc(later)),
        ("press/services", [from_utc(later), from_utc(NOON)]),
    ]
