"""A whole device on a bus: what readers see when links, devices and addresses fail (architecture §4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_DEVICE_FAILURE,
    BAD_INVALID_STATE,
    BAD_NO_COMMUNICATION,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_WRITABLE,
    BAD_OUT_OF_RANGE,
    BAD_TIMEOUT,
    BAD_TYPE_MISMATCH,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    GOOD_CLAMPED,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_NO_COMMUNICATION_LAST_USABLE,
    UNCERTAIN_SUBSTITUTE,
    Link,
)
from edge_opcua.drivers.lines import Lines
from edge_opcua.drivers.poller import Device, build_device
from edge_opcua.drivers.writeterms import WriteKind, WriteTerms
from edge_opcua.sim.proxy import Link as Cable
from edge_opcua.sim.proxy import Mode
from tests.drivers.peers import Bench, Known, ModbusPeer, config, proxied

COMMAND = WriteTerms(kind=WriteKind.COMMAND)
TAGS = {
    "speed": "hr:0:INT",
    "force": "hr:1:REAL",
    "mode": "hr:3.2:BOOL",
    "name": "hr:4:STRING[8]",
    "far": "hr:100:UINT",
}
EXTRA: dict[str, Any] = {
    "speed": {"access": "rw", "low": 0, "high": 100},
    "force": {"access": "rw", "substitute": -1.0},
    "mode": {"access": "rw"},
    "name": {"access": "rw"},
}


@asynccontextmanager
async def plant(tags: dict[str, str] = TAGS, **more: Any) -> AsyncIterator[tuple[ModbusPeer, Cable, Bench]]:
    """A device behind a cable that can be broken, not yet running."""
    more.setdefault("extra", EXTRA if tags is TAGS else {})
    async with ModbusPeer().serving() as peer, proxied(peer.port) as cable:
        peer.put(0, "hf", 12, 1.5)
        peer.put(4, "8s", b"Teil 7")
        peer.registers[3] = 0b100
        peer.registers[100] = 100
        yield peer, cable, Bench(config("modbus", f"modbus://127.0.0.1:{cable.port}/1", tags, **more))


def good(bench: Bench) -> bool:
    return bench.reader("fast").newest > 1 and set(bench.statuses("fast").values()) == {GOOD}


async def test_values_are_read_and_stamped_in_the_middle_of_the_poll() -> None:
    async with plant() as (_, _, bench), bench.running():
        await bench.until(lambda: good(bench))
        assert bench.values("fast") == {
            "speed": 12,
            "force": 1.5,
            "mode": True,
            "name": "Teil 7",
            "far": 100,
        }
        batch = bench.reader("fast").latest()
        assert batch is not None
        assert (batch.source_ns <= batch.server_ns).all()
        assert (bench.clock.utc_ns() - batch.server_ns < 1_000_000_000).all()


async def test_one_request_reads_what_lies_together() -> None:
    async with plant() as (peer, _, bench):
        assert bench.requests_per_period == {"fast": 1}
        assert bench.plan.requests_per_s == 50.0
        async with bench.running():
            await bench.until(lambda: good(bench))
        assert set(peer.asked) == {(1, 3, 0, 101)}


async def test_before_the_first_answer_values_wait() -> None:
    async with plant() as (peer, _, bench):
        peer.silent = True
        async with bench.running():
            await bench.until(lambda: peer.asked == [] and peer.connections > 0)
            assert set(bench.statuses("fast").values()) == {BAD_WAITING_FOR_INITIAL_DATA}


async def test_where_nobody_is_values_were_never_there() -> None:
    async with plant() as (_, cable, bench):
        await cable.set(Mode.parse("cut"))
        with structlog.testing.capture_logs() as logs:
            async with bench.running():
                await bench.until(lambda: bench.values("link")["state_text"] in ("OFFLINE", "CONNECTING"))
                await bench.until(lambda: set(bench.statuses("fast").values()) == {BAD_NO_COMMUNICATION})
                link = bench.statuses("link")  # not 0 ms, nor the year 1601
                assert link["state_text"] == GOOD
                assert {link["rtt_ms"], link["last_good_ns"]} == {BAD_WAITING_FOR_INITIAL_DATA}
                await asyncio.sleep(0.3)  # several attempts, one line
        assert [entry["event"] for entry in logs] == ["driver.unreachable"]


@pytest.mark.parametrize("mode", ["cut", "freeze", "freeze:half", "freeze:replies", "garbage"])
async def test_a_broken_link_takes_values_through_the_table_and_back(mode: str) -> None:
    async with plant() as (peer, cable, bench):
        with structlog.testing.capture_logs() as logs:
            async with bench.running() as device:
                await bench.until(lambda: good(bench) and device.link_up)
                before = bench.values("fast")
                await cable.set(Mode.parse(mode))
                peer.put(0, "hf", 13, 2.5)
                await bench.until(lambda: bench.device.status.link is Link.LOST)
                statuses = bench.statuses("fast")
                if set(statuses.values()) == {UNCERTAIN_NO_COMMUNICATION_LAST_USABLE}:
                    assert bench.values("fast") == before  # unchanged, its source time too
                await bench.until(lambda: bench.statuses("fast")["speed"] == BAD_COMMUNICATION_ERROR)
                assert bench.statuses("fast")["force"] == UNCERTAIN_SUBSTITUTE
                assert bench.values("link")["values_good"] == 0
                assert (await device.write("speed", 5)).status in (BAD_NO_COMMUNICATION, BAD_INVALID_STATE)
                await cable.set(Mode.parse("pass"))
                await bench.until(lambda: good(bench) and device.link_up)
                assert bench.values("fast")["speed"] == 13
                await bench.until(lambda: bench.values("link")["state_text"] == "ONLINE")
                link = bench.values("link")
                assert link["reconnects"] >= 1
                assert link["last_error"]
        events = [entry["event"] for entry in logs]
        assert events == ["driver.connected", "driver.lost", "driver.connected"]
        assert logs[2]["outage_s"] > 0


async def test_no_value_read_through_garbage_is_ever_good() -> None:
    async with plant() as (peer, cable, bench):
        reader = bench.reader("fast")
        wrong = []
        async with bench.running():
            await bench.until(lambda: good(bench))
            for mode in ("garbage", "pass") * 5:
                await cable.set(Mode.parse(mode))
                for _ in range(20):
                    await asyncio.sleep(0.005)
                    wrong += [
                        batch.value(batch.row("speed"))
                        for batch in reader.poll()
                        if batch.status[batch.row("speed")] == GOOD and batch.value(batch.row("speed")) != 12
                    ]
        assert wrong == []
        assert peer.connections > 1


async def test_a_single_hiccup_is_forgiven() -> None:
    async with plant() as (peer, _, bench):
        with structlog.testing.capture_logs() as logs:
            async with bench.running() as device:
                await bench.until(lambda: good(bench) and device.link_up)
                peer.distort = lambda *_: None  # closes the connection once
                await bench.until_state("SUSPECT")
                peer.distort = None
                assert device.link_up
                await bench.until_state("ONLINE")
                assert bench.statuses("fast")["speed"] in (GOOD, UNCERTAIN_LAST_USABLE)
        assert [entry["event"] for entry in logs] == ["driver.connected"]


async def test_one_wrong_address_costs_one_tag() -> None:
    tags = {f"t{i}": f"hr:{3 * i}:INT" for i in range(20)}
    async with plant(tags) as (peer, _, bench):
        peer.holes = {30}
        peer.registers[27], peer.registers[33] = 27, 33
        with structlog.testing.capture_logs() as logs:
            async with bench.running():
                await bench.until(lambda: bench.statuses("fast")["t10"] == BAD_CONFIGURATION_ERROR)
                await bench.until(lambda: bench.statuses("fast")["t9"] == GOOD)
                statuses, values = bench.statuses("fast"), bench.values("fast")
                asked = len(peer.asked)
                await bench.until(lambda: len(peer.asked) > asked + 10)
                assert all(not start <= 30 < start + count for _, _, start, count in peer.asked[asked + 2 :])
                await bench.until(lambda: bench.values("link")["values_bad"] == 1)
                assert "exception 2" in bench.values("link")["last_error"]
        assert [name for name, status in statuses.items() if status != GOOD] == ["t10"]
        assert (values["t9"], values["t11"]) == (27, 33)
        refused = [entry for entry in logs if entry["event"] == "driver.tags_refused"]
        assert [entry["tags"] for entry in refused] == [["t10"]]


async def test_a_hole_between_tags_costs_none() -> None:
    # A gap was read along to save a request, and the device does not have all of it.
    async with plant({"a": "hr:0:INT", "b": "hr:50:INT"}) as (peer, _, bench):
        peer.holes = {20}
        async with bench.running():
            await bench.until(lambda: good(bench))
            await bench.until(lambda: bench.values("link")["values_good"] == 2)
            assert not bench.values("link")["last_error"]  # nothing is wrong with the device or a tag
        assert (1, 3, 0, 1) in peer.asked


async def test_what_was_refused_is_tried_again_over_a_new_link() -> None:
    tags = {"a": "hr:0:INT", "b": "hr:7:INT"}
    async with plant(tags, options={"refused_again_s": 0.05}) as (peer, cable, bench):
        peer.holes = {7}
        async with bench.running() as device:
            await bench.until(lambda: bench.statuses("fast")["b"] == BAD_CONFIGURATION_ERROR)
            peer.holes = set()
            await bench.until(lambda: device.link_up)
            await cable.set(Mode.parse("cut"))
            await bench.until_state("OFFLINE")
            await cable.set(Mode.parse("pass"))
            await bench.until(lambda: good(bench))


async def test_a_device_fault_is_the_devices() -> None:
    async with plant() as (peer, _, bench), bench.running():
        await bench.until(lambda: good(bench))
        peer.refusals = [4] * 10_000
        await bench.until(lambda: set(bench.statuses("fast").values()) == {BAD_DEVICE_FAILURE})
        assert bench.values("fast")["speed"] == 12
        peer.refusals = []
        await bench.until(lambda: good(bench))


async def test_a_busy_device_keeps_the_last_value_and_never_makes_one_up() -> None:
    async with plant(options={"busy_retries": 0}) as (peer, _, bench):
        peer.refusals = [6] * 10_000
        async with bench.running():
            await bench.until(lambda: len(peer.asked) > 3)
            assert set(bench.statuses("fast").values()) == {BAD_WAITING_FOR_INITIAL_DATA}
            peer.refusals = []
            await bench.until(lambda: good(bench))
            peer.registers[0] = 99
            peer.refusals = [6] * 10_000
            await bench.until(lambda: bench.statuses("fast")["speed"] == UNCERTAIN_LAST_USABLE)
            assert bench.values("fast")["speed"] == 12


async def test_readers_see_life_while_a_device_takes_its_time() -> None:
    async with plant(timeout_ms=2_000) as (peer, _, bench), bench.running():
        await bench.until(lambda: good(bench))
        peer.silent = True
        reader = bench.reader("fast")
        beats = set()
        for _ in range(12):
            await asyncio.sleep(0.1)
            beats.add(reader.beat_ns)
        assert len(beats) > 3  # also in the 2 s in which a request is in flight
        assert UNCERTAIN_LAST_USABLE in bench.statuses("fast").values()


async def test_a_restarted_process_goes_on_from_the_last_values() -> None:
    async with plant() as (peer, _, bench):
        async with bench.running_once():
            await bench.until(lambda: good(bench))
        assert bench.statuses("fast")["speed"] == UNCERTAIN_NO_COMMUNICATION_LAST_USABLE
        peer.silent = True
        build_device(bench.cfg, bench.bus, bench.clock, Lines(), plugins=Known())
        assert bench.values("fast")["speed"] == 12
        bench.bus.close()


# --- writes -------------------------------------------------------------------------------------------


@asynccontextmanager
async def online(**more: Any) -> AsyncIterator[tuple[ModbusPeer, Cable, Bench, Device]]:
    async with plant(**more) as (peer, cable, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        yield peer, cable, bench, device


@pytest.mark.parametrize(
    ("tag", "value"), [("speed", 42), ("speed", 42.0), ("force", -2.5), ("mode", False), ("name", "neu")]
)
async def test_a_write_is_good_once_the_device_holds_the_value(tag: str, value: Any) -> None:
    async with online() as (_, _, bench, device):
        assert await device.write(tag, value) == (outcome := await device.write(tag, value))
        assert (outcome.status, outcome.reason) == (GOOD, "")
        await bench.until(lambda: bench.values("fast")[tag] == value, timeout_s=10.0)


@pytest.mark.parametrize(
    ("tag", "value", "status"),
    [
        ("speed", 101, BAD_OUT_OF_RANGE),
        ("speed", -1, BAD_OUT_OF_RANGE),
        ("speed", 70_000, BAD_OUT_OF_RANGE),
        ("speed", "fast", BAD_TYPE_MISMATCH),
        ("speed", [1], BAD_TYPE_MISMATCH),
        ("speed", [], BAD_TYPE_MISMATCH),
        ("speed", True, BAD_TYPE_MISMATCH),
        ("mode", 1, BAD_TYPE_MISMATCH),
        ("force", float("nan"), BAD_OUT_OF_RANGE),
        ("name", "much too long", BAD_OUT_OF_RANGE),
        ("far", 1, BAD_NOT_WRITABLE),
        ("ghost", 1, BAD_NODE_ID_UNKNOWN),
    ],
)
async def test_a_write_that_is_wrong_never_leaves_the_box(tag: str, value: Any, status: int) -> None:
    async with online() as (peer, _, _, device):
        assert (await device.write(tag, value)).status == status
        assert {function for _, function, _, _ in peer.asked} == {3}


async def test_a_device_that_clamps_is_told_so() -> None:
    async with online() as (peer, _, _, device):

        def clamp(function: int, start: int, _: int) -> None:
            if function == 3:
                peer.registers[0] = min(peer.registers[0], 50)

        peer.before = clamp
        outcome = await device.write("speed", 80)
        assert (outcome.status, outcome.reason) == (GOOD_CLAMPED, "the device holds 50")


async def test_a_device_that_ignores_the_write_has_not_done_it() -> None:
    async with online() as (peer, _, _, device):
        peer.before = lambda function, *_: peer.registers.__setitem__(0, 12) if function == 3 else None
        outcome = await device.write("speed", 80)
        assert (outcome.status, outcome.reason) == (BAD_INVALID_STATE, "the device kept 12")


async def test_a_command_bit_may_be_gone_when_it_is_read_back() -> None:
    async with online() as (peer, _, _, device):
        await device.write("mode", False)
        peer.before = lambda function, *_: peer.registers.__setitem__(3, 0) if function == 3 else None
        outcome = await device.write("mode", True)
        assert outcome.status == GOOD
        assert outcome.reason


async def test_a_refused_write_has_the_devices_reason() -> None:
    async with online() as (peer, _, _, device):
        peer.before = lambda function, *_: peer.refusals.append(4) if function == 6 else None
        outcome = await device.write("speed", 80)
        assert outcome.status == BAD_DEVICE_FAILURE
        assert "exception 4" in outcome.reason


async def test_a_write_without_an_answer_is_indeterminate_and_sent_once() -> None:
    # Reference plc.md §6.1: the value still lands, whatever happens to the connection.
    async with online() as (peer, cable, bench, device):
        await cable.set(Mode.parse("freeze:replies"))
        outcome = await device.write("force", 7.5, timeout_s=3.0)
        assert outcome.status == BAD_TIMEOUT
        assert "may" in outcome.reason
        await cable.set(Mode.parse("pass"))
        await bench.until(lambda: good(bench) and bench.values("fast")["force"] == 7.5)
        assert sum(function == 16 for _, function, _, _ in peer.asked) <= 1


async def test_a_caller_who_does_not_wait_is_told_the_truth() -> None:
    async with online(timeout_ms=1_000) as (peer, _, _, device):
        peer.silent = True
        await asyncio.sleep(0.05)  # a poll hangs now
        waiting = await device.write("speed", 5, timeout_s=0.05)
        assert waiting.status == BAD_NO_COMMUNICATION  # not sent, and never will be
        peer.silent = False
        await asyncio.sleep(0.1)
        assert all(function == 3 for _, function, _, _ in peer.asked)


async def test_commands_keep_their_order_and_overtake_reads() -> None:
    async with online() as (peer, _, _, device):
        async with asyncio.TaskGroup() as tasks:
            for value in range(20):
                tasks.create_task(device.write("speed", value, terms=COMMAND))
        written = [value for _, function, _, value in peer.asked if function == 6]
        assert written == list(range(20))


async def test_an_urgent_write_goes_first_and_is_not_read_back() -> None:
    async with online() as (peer, _, _, device):
        peer.asked.clear()
        async with asyncio.TaskGroup() as tasks:
            for value in range(5):
                tasks.create_task(device.write("speed", value))
            urgent = tasks.create_task(device.write_bytes("hr:50", 0, b"\0\1"))
        assert urgent.result().status == GOOD
        places = [start for _, function, start, _ in peer.asked if function == 6]
        assert places[0] == 50


async def test_an_outbox_has_an_end() -> None:
    async with online(timeout_ms=1_000) as (peer, _, _, device):
        peer.silent = True
        async with asyncio.TaskGroup() as tasks:
            writes = [
                tasks.create_task(device.write("speed", 1, timeout_s=0.2, terms=COMMAND)) for _ in range(80)
            ]
        assert sum("wait already" in write.result().reason for write in writes) >= 15


async def test_before_it_runs_a_device_takes_no_writes() -> None:
    async with plant() as (_, _, bench):
        assert (await bench.device.write("speed", 1)).status == BAD_INVALID_STATE
        assert (await bench.device.write_bytes("hr:0", 0, b"\0\0")).status == BAD_INVALID_STATE
        bench.bus.close()


async def test_a_link_that_has_not_proved_itself_takes_no_writes() -> None:
    async with plant(options={"recover_hold_s": 30.0}) as (_, _, bench), bench.running() as device:
        await bench.until(lambda: good(bench))
        outcome = await device.write("speed", 1)
        assert (outcome.status, device.link_up) == (BAD_INVALID_STATE, False)


async def test_a_scaled_tag_is_written_in_its_engineering_unit() -> None:
    extra = {"level": {"access": "rw", "scale": 0.1, "offset": 5.0, "type": 11, "low": 0, "high": 50}}
    async with plant({"level": "hr:9:UINT"}, extra=extra) as (peer, _, bench), bench.running() as device:
        await bench.until(lambda: good(bench) and device.link_up)
        assert bench.values("fast")["level"] == 5.0
        assert (await device.write("level", 25.0)).status == GOOD
        assert peer.registers[9] == 200
        assert (await device.write("level", 55.0)).status == BAD_OUT_OF_RANGE
        assert (await device.write("level", 4.0)).status == BAD_OUT_OF_RANGE  # raw -10 does not fit
