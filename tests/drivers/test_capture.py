"""Captures: found, read whole, torn ones read again, missed ones counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import structlog

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    LIMIT_HIGH,
    LIMIT_LOW,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    Link,
)
from edge_opcua.drivers.poller import Device
from edge_opcua.errors import AddressError
from edge_opcua.sim.proxy import Mode
from tests.drivers.peers import Bench, ModbusPeer, config, proxied

SAMPLES = 300
READY_NS = 1_795_000_000_123_456_789
CAPTURE = {
    "name": "stroke",
    "poll_ms": 5,
    "sequence": "hr:0:UINT",
    "ready": "hr:1.0:BOOL",
    "ready_ns": "hr:2:ULINT",
    "stroke": "hr:14:UDINT",
    "samples": f"hr:100:INT[{SAMPLES}]",
    "scale": 0.01,
    "sample_rate_hz": 10_000,
}


class Unit(ModbusPeer):
    """A unit that captures when it is told to."""

    def complete(
        self, sequence: int, level: int = 0, *, stroke: int | None = None, ready: bool = True
    ) -> None:
        self.put(100, f"{SAMPLES}h", *(level + i for i in range(SAMPLES)))
        self.put(1, "HQ", int(ready), READY_NS + sequence)
        self.put(14, "I", sequence + 1000 if stroke is None else stroke)
        self.put(0, "H", sequence)


def waveform(level: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return ((np.arange(SAMPLES) + level) * 0.01).astype(np.float32)


@asynccontextmanager
async def unit(**capture: Any) -> AsyncIterator[tuple[Unit, Bench]]:
    async with Unit().serving() as peer:
        assert isinstance(peer, Unit)
        cfg = config(
            "modbus",
            f"modbus://127.0.0.1:{peer.port}/1",
            {},
            groups=[],
            captures=[CAPTURE | capture],
        )
        yield peer, Bench(cfg)


@asynccontextmanager
async def online(**capture: Any) -> AsyncIterator[tuple[Unit, Bench, Device]]:
    async with unit(**capture) as (peer, bench), bench.running() as device:
        await bench.until(lambda: device.link_up)
        yield peer, bench, device


def newest(bench: Bench) -> int:
    value = bench.values("stroke")["sequence"]
    return -1 if value is None else int(value)


async def test_a_capture_comes_whole_with_the_devices_own_time() -> None:
    async with online() as (peer, bench, _):
        assert set(bench.statuses("stroke").values()) == {BAD_WAITING_FOR_INITIAL_DATA}
        peer.complete(1, level=7)
        await bench.until(lambda: newest(bench) == 1)
        values = bench.values("stroke")
        np.testing.assert_array_equal(values.pop("waveform"), waveform(7))
        assert values.pop("read_ms") > 0
        assert values == {
            "sequence": 1,
            "ready_ns": READY_NS + 1,
            "sample_rate_hz": 10_000.0,
            "stroke": 1001,
            "missed": 0,
        }
        assert set(bench.statuses("stroke").values()) == {GOOD}
        batch = bench.reader("stroke").latest()
        assert batch is not None
        assert set(batch.source_ns.tolist()) == {READY_NS + 1}


async def test_it_is_found_read_and_found_unchanged_with_the_planned_requests() -> None:
    async with online() as (peer, bench, _):
        reads = bench.plan.reads["stroke"]
        assert (reads.requests, reads.extra_requests) == (
            1,
            4,
        )  # 300 registers are 3 requests, and 1 to verify
        peer.asked.clear()
        peer.complete(1)
        await bench.until(lambda: newest(bench) == 1)
        places = [start for _, _, start, _ in peer.asked]
        first = places.index(100)
        assert places[first - 1 : first + 4] == [0, 100, 225, 350, 0]


async def test_each_capture_is_published_once() -> None:
    async with online() as (peer, bench, _):
        reader = bench.bus.reader("dev.stroke")
        for sequence in (1, 2, 3):
            peer.complete(sequence)
            await bench.until(lambda: newest(bench) == sequence)  # noqa: B023 - waited for at once
            await asyncio.sleep(0.03)
        published = [int(batch.value(batch.row("sequence"))) for batch in reader.poll()]  # type: ignore[arg-type]
        assert [number for number in published if number] == [1, 2, 3]


async def test_while_the_unit_samples_nothing_is_read() -> None:
    async with online() as (peer, bench, _):
        peer.complete(1, ready=False)
        await asyncio.sleep(0.05)
        assert newest(bench) == 0 or newest(bench) == -1
        assert all(start == 0 for _, _, start, _ in peer.asked)


async def test_a_capture_that_was_replaced_while_it_was_read_is_read_again() -> None:
    async with online() as (peer, bench, _):

        def replace(_: int, start: int, __: int) -> None:
            if start == 225 and peer.registers[0] == 1:  # half of the first one has been read
                peer.complete(2, level=5_000)

        peer.before = replace
        peer.complete(1)
        await bench.until(lambda: newest(bench) > 0)
        values = bench.values("stroke")
        np.testing.assert_array_equal(values["waveform"], waveform(5_000))  # one waveform, not two halves
        assert (values["sequence"], values["missed"], values["stroke"]) == (2, 0, 1002)


async def test_a_unit_that_is_faster_than_its_reader_is_a_fault_not_a_mixture() -> None:
    async with online() as (peer, bench, _):

        def race(_: int, start: int, __: int) -> None:
            if start == 225:
                peer.complete(peer.registers[0] + 1)

        peer.before = race
        peer.complete(1)
        await bench.until(
            lambda: "faster than they can be read" in (bench.values("link")["last_error"] or "")
        )
        assert newest(bench) in (-1, 0)


@pytest.mark.parametrize(
    ("sequences", "missed"),
    [
        ((1, 2, 5), 2),
        ((65_534, 65_535, 1), 0),
        ((65_535, 3), 2),
        ((500, 0, 1), 0),
        ((40_000, 2), 25_536),
        ((9, 8), 0),
    ],
)
async def test_captures_nobody_read_are_counted(sequences: tuple[int, ...], missed: int) -> None:
    # Sequences run 1..65535; 0 says that the unit restarted, and a long way back means the same.
    async with online() as (peer, bench, _):
        with structlog.testing.capture_logs() as logs:
            for sequence in sequences:
                peer.complete(sequence)
                await bench.until(lambda: newest(bench) == sequence)  # noqa: B023 - waited for at once
        assert bench.values("stroke")["missed"] == missed
        assert len([entry for entry in logs if entry["event"] == "capture.missed"]) == (1 if missed else 0)


async def test_after_a_restart_the_same_capture_is_not_published_again() -> None:
    async with unit() as (peer, bench):
        peer.complete(4)
        async with bench.running_once():
            await bench.until(lambda: newest(bench) == 4)
        count = bench.reader("stroke").newest
        again = bench.restarted()
        async with again.running() as device:
            await again.until(lambda: device.link_up)
            peer.complete(7)
            await again.until(lambda: newest(again) == 7)
            assert again.values("stroke")["missed"] == 2
            taken = [
                batch.sequence
                for batch in bench.reader("stroke").poll()
                if batch.sequence > count and batch.refreshed_ns == batch.stamp_ns
            ]
            assert len(taken) == 1


@pytest.mark.parametrize(
    ("samples", "low", "high", "status"),
    [
        ("hr:100:REAL[4]", None, None, BAD_SENSOR_FAILURE),
        ("hr:100:INT[8]", -3.0, None, UNCERTAIN_EU_EXCEEDED | LIMIT_LOW),
        ("hr:100:INT[8]", None, 0.01, UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH),
        ("hr:100:INT[8]", -400.0, 400.0, GOOD),
    ],
)
async def test_a_waveform_is_judged_like_a_value(
    samples: str, low: float | None, high: float | None, status: int
) -> None:
    async with online(samples=samples, low=low, high=high) as (peer, bench, _):
        if "REAL" in samples:
            peer.complete(1)
            peer.put(100, "4f", 1.0, math.nan, 2.0, 3.0)
        else:
            peer.complete(1)
            peer.put(100, "8h", *range(8))
            peer.put(104, "h", -400)
        await bench.until(lambda: newest(bench) == 1)
        assert bench.statuses("stroke")["waveform"] == status


@pytest.mark.parametrize(
    ("holes", "codes", "status"),
    [({150}, [], BAD_CONFIGURATION_ERROR), (set(), [4] * 50_000, BAD_DEVICE_FAILURE)],
)
async def test_a_unit_that_refuses_says_so_and_is_believed_again(
    holes: set[int], codes: list[int], status: int
) -> None:
    async with online() as (peer, bench, device):
        peer.holes, peer.refusals = holes, codes
        with structlog.testing.capture_logs() as logs:
            peer.complete(1)
            await bench.until(lambda: set(bench.statuses("stroke").values()) == {status})
            await asyncio.sleep(0.05)
        assert [entry["event"] for entry in logs] == ["capture.refused"]
        assert device.status.link is Link.UP
        peer.holes, peer.refusals = set(), []
        await bench.until(lambda: set(bench.statuses("stroke").values()) == {GOOD})


async def test_a_lost_link_takes_a_capture_through_the_table() -> None:
    async with Unit().serving() as peer, proxied(peer.port) as cable:
        assert isinstance(peer, Unit)
        cfg = config(
            "modbus", f"modbus://127.0.0.1:{cable.port}/1", {}, groups=[], captures=[CAPTURE], hold_s=5.0
        )
        bench = Bench(cfg)
        peer.complete(1)
        async with bench.running():
            await bench.until(lambda: newest(bench) == 1)
            await cable.set(Mode.parse("cut"))
            await bench.until(
                lambda: bench.statuses("stroke")["waveform"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
            )
            peer.complete(3)
            await cable.set(Mode.parse("pass"))
            await bench.until(lambda: newest(bench) == 3)
            assert bench.values("stroke")["missed"] == 1


async def test_a_capture_without_ready_time_and_stroke_makes_do() -> None:
    async with online(ready=None, ready_ns=None, stroke=None) as (peer, bench, _):
        peer.complete(5, ready=False)
        await bench.until(lambda: newest(bench) == 5)
        values = bench.values("stroke")
        assert values["stroke"] == 5
        assert abs(values["ready_ns"] - bench.clock.utc_ns()) < 5_000_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": "hr:100:INT"},
        {"samples": "hr:100:STRING[20]"},
        {"samples": "co:100:BOOL[20]"},
        {"sequence": "hr:0:REAL"},
        {"sequence": "hr:0:UINT[2]"},
        {"ready": "hr:1:UINT"},
        {"ready_ns": "hr:2.0:BOOL"},
    ],
)
def test_a_capture_of_unusable_types_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(AddressError) as caught:
        Bench(config("modbus", "modbus://127.0.0.1:1/1", {}, groups=[], captures=[CAPTURE | wrong]))
    assert caught.value.code == "T218"
