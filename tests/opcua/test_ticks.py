"""When the server takes what is new from the bus: here ticks are ten seconds apart, so they bring nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from asyncua import Client, ua

from edge_opcua.opcua.namespaces import plant_id
from tests.opcua.plant import Plant, Watcher, configuration, prepare, running, until

TICK_MS = 10_000
SPEED, COUNT, RECIPE = (plant_id(f"Press01.Process.{name}") for name in ("speed", "stroke_count", "recipe"))


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    ground = prepare(tmp_path_factory.mktemp("plant"))
    config = configuration(opcua={"listen": "127.0.0.1:0", "publish_ms": TICK_MS})
    async with running(ground, config) as made:
        yield made


@pytest.fixture(scope="module")
async def client(plant: Plant) -> AsyncIterator[Client]:
    async with await plant.client() as made:
        yield made


def is_watched(plant: Plant) -> bool:
    feed = plant.server._feed
    assert feed is not None
    return plant.server._is_awaited(feed)


async def test_what_is_read_is_what_was_published_a_moment_ago(plant: Plant, client: Client) -> None:
    # Part 4 §5.11.2: the newest value there is, whether the list is known or new.
    for speed in (11.0, 12.0, 13.0):
        plant.press(speed=speed, stroke_count=int(speed))
        await plant.clock.sleep(0.002)  # what was taken a millisecond ago is new enough
        assert await client.read_values([client.get_node(SPEED), client.get_node(COUNT)]) == [
            speed,
            int(speed),
        ]
        await plant.clock.sleep(0.002)
        plant.press(speed=speed + 0.5)
        assert await client.get_node(SPEED).read_value() == speed + 0.5


async def test_every_batch_is_published_without_a_tick(plant: Plant, client: Client) -> None:
    seen = Watcher()
    subscription = await client.create_subscription(50, seen)
    await subscription.subscribe_data_change(client.get_node(SPEED), queuesize=20, sampling_interval=0)
    for speed in range(20, 30):
        plant.press(speed=float(speed))

    async def all_came() -> bool:
        return [value.Value.Value for value in seen.of("Press01.Process.speed")][-10:] == [
            float(speed) for speed in range(20, 30)
        ]

    await until(all_came)
    assert not is_watched(plant)
    await subscription.delete()


async def test_events_and_single_values_are_waited_for(plant: Plant, client: Client) -> None:
    seen = Watcher()
    subscription = await client.create_subscription(50, seen)
    assert not is_watched(plant)
    event = await subscription.subscribe_events(ua.ObjectIds.Server)
    assert is_watched(plant)
    await subscription.unsubscribe(event)
    assert not is_watched(plant)
    text = await subscription.subscribe_data_change(client.get_node(RECIPE))
    assert is_watched(plant)
    await subscription.unsubscribe(text)
    state = client.get_node(plant_id("Press01.Inference.press-anomaly.Score"))
    score = await subscription.subscribe_data_change(state)
    assert is_watched(plant)
    await subscription.unsubscribe(score)
    assert not is_watched(plant)
    await subscription.delete()
