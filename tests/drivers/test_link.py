"""What readers see around a loss of the link: never less than the truth, never better than it."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    GOOD,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    Link,
    is_bad,
    is_uncertain,
)
from edge_opcua.drivers.linkstate import State
from tests.drivers.peers import Bench
from tests.drivers.scripted import scripted

TAGS = {"a": "hr:1:INT", "slow": "hr:2:INT", "shot": "hr:3:INT"}
GROUPS = [
    {"name": "fast", "period_ms": 20},
    {"name": "slow", "period_ms": 30, "phase_ms": 300},
    {"name": "asked", "on_request": True, "phase_ms": 200},
]
EXTRA = {"slow": {"group": "slow"}, "shot": {"group": "asked"}}
CAPTURE = {
    "name": "wave",
    "poll_ms": 20,
    "sequence": "hr:50:UINT",
    "samples": "hr:60:INT[4]",
    "sample_rate_hz": 10.0,
    "sample_count": 4,
}


async def up(bench: Bench) -> None:
    await bench.until(
        lambda: all(set(bench.statuses(group).values()) == {GOOD} for group in ("fast", "slow", "asked"))
    )
    await bench.until(lambda: bench.device.link_up)


async def test_after_an_outage_nothing_goes_from_bad_over_uncertain_to_good() -> None:
    seen: dict[str, list[int]] = {"slow": [], "asked": []}
    settings: dict[str, Any] = {
        "groups": GROUPS,
        "extra": EXTRA,
        "captures": [CAPTURE],
        "hold_s": 0.2,
        "stale_after_s": 0.1,
    }
    async with scripted(TAGS, **settings) as (wire, bench), bench.running():
        await up(bench)
        wire.broken = True
        await bench.until(lambda: bench.statuses("slow")["slow"] == BAD_COMMUNICATION_ERROR)
        wire.registers = {(1, 2): 99, (1, 3): 99}
        wire.broken = False
        async with asyncio.timeout(5.0):
            while any(not statuses or statuses[-1] != GOOD for statuses in seen.values()):
                for group, statuses in seen.items():
                    (status,) = bench.statuses(group).values()
                    statuses.append(status)
                    if status == GOOD:  # and nothing old is
                        assert set(bench.values(group).values()) == {99}
                await asyncio.sleep(0.002)
    for statuses in seen.values():
        assert not any(map(is_uncertain, statuses))
        assert sum(map(is_bad, statuses)) > 10  # its own first poll came well after the link


async def test_a_capture_is_told_of_the_link_at_once() -> None:
    async with (
        scripted(TAGS, groups=GROUPS, extra=EXTRA, captures=[CAPTURE]) as (wire, bench),
        bench.running(),
    ):
        await up(bench)
        await bench.until(lambda: bench.values("wave")["sequence"] == 50)
        wire.broken = True
        await bench.until(
            lambda: bench.statuses("wave")["waveform"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
        )
        wire.broken = False
        await bench.until(lambda: bench.statuses("wave")["waveform"] == GOOD)  # no new waveform has come
        batch = bench.reader("wave").latest()
        assert batch is not None
        assert batch.link is Link.UP


async def test_a_lost_answer_is_asked_for_again_over_the_same_connection() -> None:
    async with scripted(TAGS, groups=GROUPS, extra=EXTRA) as (wire, bench), bench.running() as device:
        await up(bench)
        states = set()
        wire.lose = 1
        for _ in range(40):
            states.add(device.status.state)
            await asyncio.sleep(0.005)
        await bench.until(lambda: bench.values("link")["retries"] == 1)
        assert bench.values("link")["timeouts"] == 1
        assert (wire.opened, states <= {State.ONLINE, State.RECOVERING}) == (1, True)


async def test_a_second_lost_answer_is_a_fault_of_the_link() -> None:
    async with scripted(TAGS, groups=GROUPS, extra=EXTRA) as (wire, bench), bench.running() as device:
        await up(bench)
        wire.lose = 2
        await bench.until(lambda: wire.opened == 2)
        await bench.until(lambda: device.status.state is State.ONLINE)


async def test_a_write_without_an_answer_is_never_sent_again() -> None:
    extra = {"a": {"access": "rw"}}
    async with scripted({"a": "1/hr:1:INT"}, extra=extra) as (wire, bench), bench.running() as device:
        await bench.until(lambda: bench.statuses("fast")["a"] == GOOD and device.link_up)
        wire.silent = {1}
        await device.write("a", 5)
        wire.silent = set()
        await bench.until(lambda: bench.statuses("fast")["a"] == GOOD)
        await asyncio.sleep(0.1)
        assert wire.written == []


async def test_twenty_flaps_are_twenty_lines_of_each_kind() -> None:
    options = {"backoff_first_s": 0.01, "fail_after": 1}
    async with scripted({"a": "hr:1:INT"}, options=options) as (wire, bench):
        with structlog.testing.capture_logs() as logs:
            async with bench.running() as device:
                for _ in range(20):
                    await bench.until(lambda: device.status.state is State.ONLINE)
                    wire.broken = True
                    await bench.until(lambda: not device.status.reads)
                    await asyncio.sleep(0.02)  # several attempts, one line
                    wire.broken = False
                await bench.until(lambda: device.status.state is State.ONLINE)
        events = [entry["event"] for entry in logs]
        assert events == ["driver.connected", *(["driver.lost", "driver.connected"] * 20)]


async def test_the_link_block_counts_what_is_done() -> None:
    extra = {"a": {"access": "rw"}}
    async with scripted({"a": "hr:1:INT", "b": "hr:3:INT"}, extra=extra) as (wire, bench):
        wire.refused = {3}
        async with bench.running() as device:
            await bench.until(lambda: bench.statuses("fast")["a"] == GOOD and device.link_up)
            await device.write("a", 5)
            wire.busy = {1}
            await asyncio.sleep(0.1)
            wire.busy = set()
            await bench.until(lambda: bench.values("link")["busy"] > 0)
            await bench.until(lambda: bench.values("link")["values_per_s"] > 0)
            link = bench.values("link")
        assert (link["refused"], link["writes"], link["units_lost"], link["simulated"]) == (1, 1, 0, False)
        assert 0 < link["scan_ms"] <= link["scan_max_ms"]
        assert link["jitter_ms"] >= 0
