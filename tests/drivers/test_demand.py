"""Groups that are read when something happens: a tag changes, or somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from edge_opcua.config.schema import GroupConfig
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_NO_COMMUNICATION,
    BAD_NODE_ID_UNKNOWN,
    GOOD,
    UNCERTAIN_LAST_USABLE,
)
from tests.drivers.peers import Bench
from tests.drivers.scripted import ScriptedWire, scripted

TAGS = {"stroke": "hr:0:UINT", "force": "hr:10:UINT", "recipe": "hr:20:UINT"}
GROUPS = [
    {"name": "fast", "period_ms": 20},
    {"name": "stroke", "trigger": "stroke"},
    {"name": "asked", "on_request": True},
]
EXTRA: dict[str, Any] = {"force": {"group": "stroke"}, "recipe": {"group": "asked"}}


@asynccontextmanager
async def plant(**more: Any) -> AsyncIterator[tuple[ScriptedWire, Bench]]:
    settings = {"groups": GROUPS, "extra": EXTRA} | more
    async with scripted(TAGS, **settings) as (wire, bench):
        yield wire, bench


def asked(wire: ScriptedWire, register: int) -> int:
    return [start for _, start, _ in wire.asked].count(register)


async def ready(bench: Bench) -> None:
    await bench.until(
        lambda: all(set(bench.statuses(group).values()) == {GOOD} for group in ("fast", "stroke", "asked"))
    )
    await bench.until(lambda: bench.device.link_up)


async def test_a_group_is_polled_when_its_trigger_changes_and_only_then() -> None:
    async with plant() as (wire, bench), bench.running():
        await ready(bench)
        await asyncio.sleep(0.1)
        assert asked(wire, 10) == 1  # once over the new connection
        for stroke in range(1, 6):
            wire.registers[1, 10] = 100 + stroke
            wire.registers[1, 0] = stroke
            await bench.until(lambda: bench.values("stroke")["force"] == wire.registers[1, 10])
        assert asked(wire, 10) == 6


async def test_a_trigger_can_stand_beside_a_period() -> None:
    groups = [GROUPS[0], {"name": "stroke", "trigger": "stroke", "period_ms": 300}, GROUPS[2]]
    async with plant(groups=groups) as (wire, bench), bench.running():
        await ready(bench)
        wire.registers[1, 0] = 9
        await bench.until(lambda: asked(wire, 10) == 2, timeout_s=0.2)
        await bench.until(lambda: asked(wire, 10) >= 3)


async def test_who_asks_gets_values_of_now() -> None:
    async with plant() as (wire, bench), bench.running() as device:
        await ready(bench)
        wire.registers[1, 20] = 77
        assert bench.values("asked")["recipe"] == 20
        assert (await device.poll_now("asked")).status == GOOD
        assert bench.values("asked")["recipe"] == 77


async def test_those_who_ask_together_share_a_poll() -> None:
    async with plant() as (wire, bench), bench.running() as device:
        await ready(bench)
        before = asked(wire, 20)
        async with asyncio.TaskGroup() as tasks:
            polls = [tasks.create_task(device.poll_now("asked")) for _ in range(20)]
        assert {poll.result().status for poll in polls} == {GOOD}
        assert asked(wire, 20) - before <= 2


async def test_what_is_read_on_demand_does_not_grow_old_and_keeps_its_source_time() -> None:
    async with plant(stale_after_s=0.1) as (_, bench), bench.running():
        await ready(bench)
        before = bench.reader("stroke").latest()
        assert before is not None
        source_ns = int(before.source_ns[0])
        await asyncio.sleep(0.5)
        after = bench.reader("stroke").latest()
        assert after is not None
        assert (int(after.source_ns[0]), bench.statuses("stroke")["force"]) == (source_ns, GOOD)


async def test_a_lost_link_is_a_lost_link_for_what_is_read_on_demand_too() -> None:
    async with plant() as (wire, bench), bench.running() as device:
        await ready(bench)
        wire.broken = True
        await bench.until(lambda: bench.statuses("asked")["recipe"] == BAD_COMMUNICATION_ERROR)
        assert (await device.poll_now("asked")).status == BAD_NO_COMMUNICATION
        wire.broken = False
        wire.registers[1, 20] = 5
        await ready(bench)  # read again without anybody asking
        assert bench.values("asked")["recipe"] == 5


async def test_who_asks_in_vain_is_told_why() -> None:
    async with plant() as (wire, bench):
        assert (await bench.device.poll_now("asked")).status == BAD_NO_COMMUNICATION
        async with bench.running() as device:
            await ready(bench)
            outcome = await device.poll_now("ghost")
            assert (outcome.status, outcome.reason) == (
                BAD_NODE_ID_UNKNOWN,
                "dev has no group ghost that is polled",
            )
            wire.broken = True
            assert (await device.poll_now("asked")).status == BAD_NO_COMMUNICATION


async def test_a_tag_may_grow_old_sooner_than_its_group() -> None:
    extra = EXTRA | {"recipe": {"group": "asked", "max_age_s": 0.2}}
    async with plant(extra=extra) as (_, bench), bench.running() as device:
        await ready(bench)
        await bench.until(lambda: bench.statuses("asked")["recipe"] == UNCERTAIN_LAST_USABLE)
        assert bench.values("asked")["recipe"] == 20
        await device.poll_now("asked")
        assert bench.statuses("asked")["recipe"] == GOOD


def test_the_plan_has_no_rate_for_it() -> None:
    async def plan() -> Bench:
        async with plant() as (_, bench):
            bench.bus.close()
            return bench

    bench = asyncio.run(plan())
    assert dict(bench.requests_per_period) == {"fast": 1, "stroke": 1, "asked": 1}
    assert bench.plan.requests_per_s == 50.0


@pytest.mark.parametrize("given", [{}, {"period_ms": 0}])
def test_a_group_that_nothing_would_poll_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="0 is out of range"):
        GroupConfig.model_validate({"name": "fast"} | given)


async def test_a_device_that_is_only_read_on_demand_proves_its_link() -> None:
    options = {"recover_cycles": 3, "recover_hold_s": 0.3}
    groups = [{"name": "fast", "on_request": True}]
    extra = {"a": {"access": "rw"}}
    async with (
        scripted({"a": "hr:1:INT"}, groups=groups, extra=extra, options=options) as (wire, bench),
        bench.running() as device,
    ):
        await bench.until(lambda: device.link_up)
        assert (await device.write("a", 3)).status == GOOD
        await asyncio.sleep(0.1)
        before = len(wire.asked)
        await asyncio.sleep(0.4)
        assert len(wire.asked) == before


async def test_a_device_that_refuses_everything_is_there_all_the_same() -> None:
    async with scripted({"a": "hr:1:INT", "b": "hr:9:INT"}) as (wire, bench), bench.running() as device:
        wire.refused = {1, 9}
        await bench.until(lambda: device.link_up)
        assert set(bench.statuses("fast").values()) == {BAD_CONFIGURATION_ERROR}
