"""When the server takes what is new from the bus: of plants here, ticks are ten seconds apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from asyncua import Client, ua

from edge_opcua.opcua.namespaces import plant_id
from edge_opcua.opcua.ticks import Ticks
from edge_opcua.testing import ManualClock
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
    ticks = plant.server._ticks
    assert ticks is not None
    return ticks._is_awaited()


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


class Looked:
    """A feed that notes when it is looked at, and how."""

    def __init__(self, clock: ManualClock) -> None:
        self.seen: list[tuple[str, float]] = []
        self.is_little = True
        self._clock = clock

    def note(self, what: str) -> None:
        self.seen.append((what, round(self._clock.monotonic_s(), 6)))

    async def tick(self) -> None:
        self.note("tick")

    def take_tags(self) -> bool:
        self.note("tags")
        return True

    def tick_along(self) -> bool:
        self.note("along")
        return self.is_little


@asynccontextmanager
async def ticking(*, awaited: bool) -> AsyncIterator[tuple[ManualClock, Looked, Ticks]]:
    """Ticks 20 ms apart while somebody waits, and the first of them."""
    clock = ManualClock(monotonic_s=0)
    feed = Looked(clock)
    ticks = Ticks(feed, 0.02, lambda: awaited, clock)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(ticks.run())
        await clock.advance(0)
        assert feed.seen == [("tick", 0.0)]
        feed.seen.clear()
        yield clock, feed, ticks
        running.cancel()
    assert clock.sleepers == 0


async def test_without_publishing_ticks_are_as_far_apart_as_somebody_waits() -> None:
    async with ticking(awaited=False) as (clock, feed, _):
        await clock.advance(0.35)
        assert feed.seen == [("tick", 0.1), ("tick", 0.2), ("tick", 0.3)]
    async with ticking(awaited=True) as (clock, feed, _):
        await clock.advance(0.05)
        assert feed.seen == [("tick", 0.02), ("tick", 0.04)]


async def test_publishing_does_the_next_tick_along_the_way() -> None:
    async with ticking(awaited=False) as (clock, feed, ticks):
        for _ in range(4):
            await clock.advance(0.0499)
            ticks.before_publishing()
        assert feed.seen == [("tags", 0.0499), ("along", 0.0998), ("tags", 0.1497), ("along", 0.1996)]
        feed.seen.clear()
        await clock.advance(0.15)  # nothing is published any more
        assert feed.seen == [("tick", 0.2996)]


async def test_what_is_more_than_a_turn_is_left_to_a_tick() -> None:
    async with ticking(awaited=False) as (clock, feed, ticks):
        feed.is_little = False
        await clock.advance(0.09)
        ticks.before_publishing()
        await clock.advance(0.02)
        assert feed.seen == [("along", 0.09), ("tick", 0.1)]


async def test_nothing_is_looked_at_along_the_way_before_the_first_tick() -> None:
    clock = ManualClock()
    feed = Looked(clock)
    Ticks(feed, 0.02, lambda: False, clock).before_publishing()
    assert [what for what, _ in feed.seen] == ["tags"]
