"""Units behind one connection: a dead one is found out, left alone, welcomed back; no other notices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_NO_COMMUNICATION,
    GOOD,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
)
from edge_opcua.drivers.linkstate import LinkPolicy, State
from edge_opcua.drivers.modbus import address as modbus
from edge_opcua.drivers.planner import Request, span
from edge_opcua.drivers.stations import Admission, Stations
from edge_opcua.drivers.wire import FaultKind
from edge_opcua.testing import ManualClock
from tests.drivers.peers import Bench, ModbusPeer, config
from tests.drivers.scripted import scripted

TWENTY = {f"u{unit}": f"{unit}/hr:{unit}:INT" for unit in range(1, 21)}
POLICY = LinkPolicy(demote_after_s=60.0, demoted_s=30.0, backoff_max_s=10.0)
REQUEST = Request((span((0,), [modbus.parse("1/hr:0:INT")]),))


def good(bench: Bench, *names: str) -> bool:
    statuses = bench.statuses("fast")
    return all(statuses[name] == GOOD for name in names or statuses)


def stations(clock: ManualClock) -> Stations:
    return Stations("dev", (1, 2), POLICY, clock, lambda: 1.0)


async def test_one_dead_unit_among_twenty_blanks_and_delays_no_other() -> None:
    async with scripted(TWENTY) as (wire, bench):
        wire.patience_s = 0.2
        with structlog.testing.capture_logs() as logs:
            async with bench.running() as device:
                await bench.until(lambda: good(bench) and device.link_up)
                wire.silent = {7}
                await bench.until(
                    lambda: bench.statuses("fast")["u7"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
                )
                assert bench.values("fast")["u7"] == 7
                assert good(bench, *(name for name in TWENTY if name != "u7"))
                asked = len(wire.asked)
                before = bench.reader("fast").newest
                await bench.until(lambda: bench.reader("fast").newest > before + 25, timeout_s=10.0)
                units = [unit for unit, *_ in wire.asked[asked:]]
                # After 50, 100, 200 ms …: it is not asked at the rate of the others.
                assert 3 * units.count(7) <= units.count(8)
                assert device.link_up  # the line lives
                assert bench.values("link")["state_text"] == "ONLINE"
                await bench.until(lambda: bench.values("link")["units_lost"] == 1)
                await bench.until(lambda: bench.statuses("fast")["u7"] == BAD_COMMUNICATION_ERROR)
                wire.silent = set()
                await bench.until(lambda: good(bench))
                await bench.until(lambda: bench.values("link")["units_lost"] == 0)
        told = [entry for entry in logs if entry["event"].startswith("driver.unit")]
        assert [(entry["event"], entry["unit"]) for entry in told] == [
            ("driver.unit_lost", 7),
            ("driver.unit_connected", 7),
        ]


async def test_a_unit_that_never_answered_has_no_value() -> None:
    async with scripted(TWENTY) as (wire, bench):
        wire.silent = {3}
        async with bench.running():
            await bench.until(lambda: good(bench, "u1", "u20"))
            assert bench.statuses("fast")["u3"] == BAD_NO_COMMUNICATION


async def test_a_lost_unit_shows_its_substitute_once_hold_s_is_over() -> None:
    extra = {"b": {"substitute": -5}}
    tags = {"a": "1/hr:1:INT", "b": "2/hr:2:INT", "text": "2/hr:8:STRING[4]", "c": "2/hr:3:INT"}
    async with scripted(tags, extra=extra) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        wire.silent = {2}
        await bench.until(lambda: bench.statuses("fast")["b"] == UNCERTAIN_SUBSTITUTE)
        assert (bench.values("fast")["b"], bench.statuses("fast")["c"]) == (-5, BAD_COMMUNICATION_ERROR)
        wire.silent = set()
        await bench.until(lambda: good(bench))
        assert bench.values("fast")["b"] == 2


async def test_one_lost_answer_changes_nothing() -> None:
    async with scripted(TWENTY) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        wire.silent = {5}
        before = len(wire.asked)
        await bench.until(lambda: (5, 5, 1) in wire.asked[before:])
        wire.silent = set()
        for _ in range(20):
            assert good(bench)
            await asyncio.sleep(0.01)


async def test_writes_to_a_lost_unit_are_refused_at_once_and_the_others_pass() -> None:
    extra: dict[str, Any] = {"a": {"access": "rw"}, "b": {"access": "rw"}}
    tags = {"a": "1/hr:1:INT", "b": "2/hr:2:INT"}
    async with scripted(tags, extra=extra) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        wire.silent = {2}
        await bench.until(lambda: bench.statuses("fast")["b"] != GOOD)
        outcome = await device.write("b", 9)
        assert outcome.status == BAD_NO_COMMUNICATION
        assert "unit 2" in outcome.reason
        assert (await device.write("a", 9)).status == GOOD


async def test_if_no_unit_answers_the_device_is_lost() -> None:
    async with scripted({"a": "1/hr:1:INT", "b": "2/hr:2:INT"}) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        wire.silent = {1, 2}
        await bench.until(lambda: not device.status.reads)
        wire.silent = set()
        await bench.until(lambda: good(bench) and device.link_up)


async def test_the_only_unit_is_the_device() -> None:
    async with scripted({"a": "1/hr:1:INT"}) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        wire.silent = {1}
        await bench.until(lambda: device.status.state in (State.OFFLINE, State.CONNECTING, State.RECOVERING))
        await bench.until(lambda: "does not answer" in bench.values("link")["last_error"])


async def test_a_lost_unit_is_not_waited_for_as_long_as_a_living_one() -> None:
    async with scripted(TWENTY) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        wire.silent = {7}
        await bench.until(lambda: len([each for each in wire.deadlines if each is not None]) >= 2)
        assert {each for each in wire.deadlines if each is not None} == {0.25}


async def test_attempts_become_rare_and_end_in_demotion() -> None:
    clock = ManualClock()
    units = stations(clock)
    units.answered(1)
    for _ in range(3):
        units.failed(2, REQUEST, "silent")
    pauses = []
    for _ in range(16):
        pauses.append((units.due_ns - clock.monotonic_ns()) / 1e9)
        clock.step(pauses[-1])
        assert units.probe(0.3) is not None
        units.failed(2, REQUEST, "silent")
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert set(pauses[-5:]) == {30.0}
    assert (units.lost, units.all_lost) == (1, False)
    assert units.admit(2) is Admission.NO
    assert units.refusal(2, REQUEST).kind is FaultKind.ABSENT


async def test_every_fourth_probe_has_all_the_time_the_wire_gives() -> None:
    # A unit that has become slow would otherwise be lost for ever.
    clock = ManualClock()
    units = stations(clock)
    deadlines = []
    for _ in range(8):
        units.failed(2, REQUEST, "silent")
        clock.step(60.0)
        found = units.probe(0.3)
        assert found is not None
        deadlines.append(found[1].deadline_s)
    assert deadlines == [0.3, 0.3, 0.3, None] * 2


async def test_a_flapping_unit_is_said_to_be_lost_once() -> None:
    clock = ManualClock()
    units = stations(clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(50):
            units.answered(2)
            for _ in range(4):
                units.failed(2, REQUEST, "silent")
                clock.step(0.1)
        for _ in range(5):
            units.answered(2)
            clock.step(1.0)
    assert [entry["event"] for entry in logs] == ["driver.unit_lost", "driver.unit_connected"]


async def test_a_capture_of_a_lost_unit_is_held_and_comes_back() -> None:
    capture = {
        "name": "wave",
        "poll_ms": 20,
        "sequence": "2/hr:50:UINT",
        "samples": "2/hr:60:INT[4]",
        "sample_rate_hz": 10.0,
        "sample_count": 4,
    }
    async with scripted({"a": "1/hr:1:INT"}, captures=[capture]) as (wire, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        await bench.until(lambda: bench.statuses("wave")["waveform"] == GOOD)
        wire.silent = {2}
        await bench.until(
            lambda: bench.statuses("wave")["waveform"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
        )
        await bench.until(lambda: bench.statuses("wave")["waveform"] == BAD_COMMUNICATION_ERROR)
        assert good(bench)
        wire.silent = set()
        await bench.until(lambda: bench.statuses("wave")["waveform"] == GOOD)
        wire.registers[2, 50] = 51
        await bench.until(lambda: bench.values("wave")["sequence"] == 51)


class Gateway(ModbusPeer):
    """Units behind one address, of which some are dead."""

    dead: frozenset[int] = frozenset()

    async def _answer(self, unit: int, body: bytes) -> bytes:
        if unit in self.dead:
            return bytes((body[0] | 0x80, 11))
        return await super()._answer(unit, body)


@pytest.mark.parametrize("pipeline", [1, 8])
async def test_a_gateway_that_says_that_a_unit_is_dead_is_believed(pipeline: int) -> None:
    async with Gateway().serving() as peer:
        assert isinstance(peer, Gateway)
        peer.registers[1:21] = range(1, 21)
        url = f"modbus://127.0.0.1:{peer.port}/1"
        bench = Bench(config("modbus", url, TWENTY, options={"pipeline": pipeline}))
        async with bench.running() as device:
            await bench.until(lambda: good(bench) and device.link_up)
            peer.dead = frozenset({4, 9})
            await bench.until(lambda: bench.statuses("fast")["u9"] == BAD_COMMUNICATION_ERROR)
            assert good(bench, *(name for name in TWENTY if name not in ("u4", "u9")))
            await bench.until(lambda: "exception 11" in bench.values("link")["last_error"])
            peer.dead = frozenset()
            await bench.until(lambda: good(bench))
            assert (bench.values("link")["reconnects"], peer.connections) == (0, 1)


class Bus485(ModbusPeer):
    """Units of which some do not answer."""

    gone: frozenset[int] = frozenset()

    async def _answer(self, unit: int, body: bytes) -> bytes:
        if unit in self.gone:
            await asyncio.sleep(0.6)  # longer than anybody waits
        return await super()._answer(unit, body)


async def test_units_that_time_out_keep_the_connection_of_the_others() -> None:
    # The answers come too late, one after the other, and with every one of them the connection holds.
    async with Bus485().serving() as peer:
        assert isinstance(peer, Bus485)
        peer.registers[1:21] = range(1, 21)
        url = f"modbus://127.0.0.1:{peer.port}/1"
        tags = {name: TWENTY[name] for name in ("u1", "u2", "u3")}
        bench = Bench(config("modbus", url, tags, timeout_ms=100, options={"pipeline": 4}))
        async with bench.running() as device:
            await bench.until(lambda: good(bench) and device.link_up)
            peer.gone = frozenset({2})
            await bench.until(lambda: bench.statuses("fast")["u2"] != GOOD)
            await bench.until(lambda: bench.values("link")["units_lost"] == 1)
            peer.gone = frozenset()
            await bench.until(lambda: good(bench))


async def test_what_is_read_on_demand_is_read_again_when_its_unit_is_back() -> None:
    groups = [{"name": "fast", "period_ms": 20}, {"name": "asked", "on_request": True}]
    extra = {"b": {"group": "asked"}}
    tags = {"a": "1/hr:1:INT", "b": "2/hr:2:INT"}
    async with scripted(tags, groups=groups, extra=extra) as (wire, bench), bench.running() as device:
        await bench.until(lambda: bench.statuses("asked")["b"] == GOOD and device.link_up)
        wire.silent = {2}
        await device.poll_now("asked")
        await bench.until(lambda: bench.statuses("asked")["b"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE)
        wire.silent = set()
        await bench.until(lambda: bench.statuses("asked")["b"] == GOOD)
