"""Classes of writes: who goes first, what a newer value does, and what is never sent (plc.md §6.5)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_INVALID_STATE,
    BAD_NO_COMMUNICATION,
    BAD_OPERATION_ABANDONED,
    BAD_TIMEOUT,
    BAD_TOO_MANY_OPERATIONS,
    GOOD,
    GOOD_CLAMPED,
)
from edge_opcua.drivers.outbox import MOST_WAITING, Outbox, WriteJob
from edge_opcua.drivers.poller import Device
from edge_opcua.drivers.writeterms import WriteKind, WriteTerms
from edge_opcua.testing import ManualClock
from tests.drivers.peers import Bench
from tests.drivers.scripted import ScriptedWire, scripted

RW: dict[str, Any] = {"access": "rw"}
TAGS = {"a": "1/hr:1:INT", "b": "1/hr:2:INT", "c": "1/hr:3:INT", "f": "1/hr:4:REAL", "bit": "1/hr:8.0:BOOL"}
EXTRA = {"a": RW, "b": RW, "c": RW | {"write": "command"}, "f": RW, "bit": RW}
HEARTBEAT = WriteTerms(kind=WriteKind.HEARTBEAT)


@asynccontextmanager
async def online(**more: Any) -> AsyncIterator[tuple[ScriptedWire, Bench, Device]]:
    """A device that works, over a wire that can be held up."""
    more.setdefault("tags", TAGS)
    more.setdefault("extra", EXTRA)
    async with scripted(more.pop("tags"), **more) as (wire, bench), bench.running() as device:
        await bench.until(lambda: device.link_up and bench.statuses("fast")["a"] == GOOD)
        yield wire, bench, device


def word(value: int) -> bytes:
    return struct.pack(">h", value)


def written(wire: ScriptedWire) -> list[str | bytes]:
    return [entry for entry in wire.log if entry != "r"]


async def held_up(wire: ScriptedWire, bench: Bench) -> asyncio.Event:
    """Let the wire stand still in a read."""
    gate = wire.gate = asyncio.Event()
    await bench.until(lambda: wire.waits)
    wire.log.clear()
    return gate


async def test_a_newer_set_point_takes_the_place_of_one_that_waits() -> None:
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            older = tasks.create_task(device.write("a", 5))
            await asyncio.sleep(0)
            newer = tasks.create_task(device.write("a", 6))
            other = tasks.create_task(device.write("b", 7))
            await asyncio.sleep(0)
            gate.set()
        assert older.result() == WriteOutcome(
            BAD_OPERATION_ABANDONED, "not sent: a newer value for the tag took its place"
        )
        assert (newer.result().status, other.result().status) == (GOOD, GOOD)
        assert written(wire) == [word(6), word(7)]  # in the place of the older one


async def test_bits_and_commands_are_never_coalesced_and_keep_their_order() -> None:
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            for tag, value in (("bit", True), ("c", 5), ("bit", False), ("c", 5), ("c", 6), ("bit", True)):
                tasks.create_task(device.write(tag, value))
                await asyncio.sleep(0)
            gate.set()
        assert written(wire) == [b"\1", word(5), b"\0", word(5), word(6), b"\1"]


async def test_heartbeats_and_the_interface_go_first_and_set_points_last() -> None:
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(device.write("a", 1))
            tasks.create_task(device.write("c", 2))
            tasks.create_task(device.write("b", 3, terms=HEARTBEAT))
            tasks.create_task(device.write_bytes("hr", 9, word(4)))
            await asyncio.sleep(0)
            beat = tasks.create_task(device.write("b", 5, terms=HEARTBEAT))  # the latest wins
            await asyncio.sleep(0)
            gate.set()
        assert written(wire) == [word(5), word(4), word(2), word(1)]
        assert beat.result().status == GOOD
        assert wire.log[:3] == ["r", word(5), word(4)]  # the read that hung, then no read-back


async def test_reads_are_not_starved_by_writes() -> None:
    # Each write is followed by the next one before the device looks whether a read is due.
    async with online(options={"writes_per_read": 4}) as (wire, bench, device):

        async def flood() -> None:
            while True:
                await device.write_bytes("hr", 9, word(1))

        async with asyncio.TaskGroup() as tasks:
            floods = [tasks.create_task(flood()) for _ in range(8)]
            begun = bench.reader("fast").newest
            await bench.until(lambda: bench.reader("fast").newest >= begun + 5)
            for each in floods:
                each.cancel()
        assert len(written(wire)) > 20


async def test_a_set_point_waits_for_its_interval_and_the_latest_is_sent() -> None:
    terms = WriteTerms(min_interval_s=0.15)
    async with online() as (wire, bench, device):
        began_s = bench.clock.monotonic_s()
        assert (await device.write("a", 5, terms=terms)).status == GOOD
        async with asyncio.TaskGroup() as tasks:
            older = tasks.create_task(device.write("a", 6, terms=terms))
            await asyncio.sleep(0.02)
            newer = tasks.create_task(device.write("a", 7, terms=terms))
            other = await device.write("b", 1, terms=terms)
        assert bench.clock.monotonic_s() - began_s >= 0.15
        assert (older.result().status, newer.result().status) == (BAD_OPERATION_ABANDONED, GOOD)
        assert other.status == GOOD
        assert written(wire) == [word(5), word(1), word(7)]


@pytest.mark.parametrize(("tolerance", "status"), [(0.5, GOOD), (0.1, GOOD_CLAMPED)])
async def test_what_is_read_back_may_differ_by_the_tolerance(tolerance: float, status: int) -> None:
    async with online() as (wire, _, device):
        store = wire.store

        def rounded(place: Any, encoded: bytes) -> None:
            store(place, struct.pack(">f", round(struct.unpack(">f", encoded)[0])))

        wire.store = rounded  # type: ignore[method-assign]
        outcome = await device.write("f", 7.25, terms=WriteTerms(tolerance=tolerance))
        assert outcome.status == status


async def test_a_command_may_be_gone_when_it_is_read_back_and_a_set_point_may_not() -> None:
    async with online() as (wire, _, device):
        wire.store = lambda *_: None  # type: ignore[method-assign]
        taken = await device.write("c", 5)
        assert (taken.status, taken.reason) == (
            GOOD,
            "the device has taken the command and already put it back",
        )
        assert (await device.write("a", 5)).status == BAD_INVALID_STATE


async def test_a_command_with_an_echo_is_good_when_the_plc_has_repeated_it() -> None:
    tags = {"a": "1/hr:1:INT", "c": "1/hr:3:INT", "done": "1/hr:5:INT"}
    extra = {"a": RW, "c": RW | {"write": "command", "echo": "done"}}
    async with online(tags=tags, extra=extra) as (wire, bench, device):
        late = await device.write("c", 7, timeout_s=0.15)
        assert (late.status, late.old) == (BAD_TIMEOUT, 3)
        assert "done does not show it" in late.reason
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(device.write("c", 8))
            await bench.until(lambda: bench.values("fast")["c"] == 8)
            assert not waiting.done()
            wire.registers[1, 5] = 8
        assert waiting.result().status == GOOD
        wire.log.clear()
        again = await device.write("c", 8)
        assert (again.status, written(wire)) == (BAD_INVALID_STATE, [])
        assert "done shows 8 already" in again.reason


async def test_a_bit_is_not_coalesced_whoever_calls_it_a_set_point() -> None:
    terms = WriteTerms(kind=WriteKind.SETPOINT)
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            for value in (True, False):
                tasks.create_task(device.write("bit", value, terms=terms))
                await asyncio.sleep(0)
            gate.set()
        assert written(wire) == [b"\1", b"\0"]


async def test_the_outcome_says_what_stood_there_before() -> None:
    async with online() as (_, bench, device):
        assert (await device.write("a", 5)).old == 1
        await bench.until(lambda: bench.values("fast")["a"] == 5)
        assert (await device.write("a", 6)).old == 5
        assert (await device.write("bit", True)).old is False


async def test_what_waited_when_the_link_broke_is_refused_and_never_sent() -> None:
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(device.write(tag, 9)) for tag in ("a", "b", "c")]
            await asyncio.sleep(0)
            wire.broken = True
            gate.set()
        assert {each.result().status for each in waiting} == {BAD_NO_COMMUNICATION}
        assert all("broke before this was sent" in each.result().reason for each in waiting)
        wire.gate, wire.broken = None, False
        await bench.until_state("ONLINE")
        await asyncio.sleep(0.1)
        assert written(wire) == []
        assert (await device.write("a", 3)).status == GOOD


async def test_a_write_to_a_unit_that_was_lost_while_it_waited_is_not_sent() -> None:
    lost = WriteOutcome(BAD_NO_COMMUNICATION, "unit 1 does not answer")
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(device.write("a", 9))
            await asyncio.sleep(0)
            device._aftermath.why_not = lambda _: lost
            gate.set()
        assert waiting.result() == lost
        assert written(wire) == []


async def test_a_write_whose_caller_goes_away_before_it_is_sent_never_is() -> None:
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(device.write("c", 5))
            await asyncio.sleep(0)
            gone.cancel()
        gate.set()
        await asyncio.sleep(0.05)
        assert written(wire) == []


async def test_a_device_that_stops_answers_the_write_that_is_on_its_way() -> None:
    async with scripted(TAGS, extra=EXTRA) as (wire, bench):
        async with bench.running_once() as device:
            await bench.until(lambda: device.link_up)
            wire.write_gate = asyncio.Event()
            waiting = asyncio.ensure_future(device.write("a", 5, timeout_s=15.0))
            await bench.until(lambda: word(5) in wire.log)
        outcome = await waiting
        assert outcome.status == BAD_TIMEOUT
        assert "may" in outcome.reason
        bench.bus.close()


async def test_after_a_write_without_an_answer_nothing_is_written_before_the_device_was_heard() -> None:
    async with online() as (wire, bench, device):
        gate = await held_up(wire, bench)
        wire.drop = 1
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(device.write("c", 5))
            await asyncio.sleep(0)
            second = tasks.create_task(device.write("c", 6))
            await asyncio.sleep(0)
            gate.set()
        assert (first.result().status, second.result().status) == (BAD_TIMEOUT, GOOD)
        at = wire.log.index(word(5))
        assert wire.log[at : at + 3] == [word(5), "r", word(6)]


# The outbox by itself, with a clock that stands still.


async def nothing(_: WriteJob) -> None:
    raise AssertionError("not performed here")


def job(kind: WriteKind, key: str = "", not_before_ns: int = 0) -> WriteJob:
    return WriteJob(nothing, kind, key, not_before_ns)


async def test_an_outbox_gives_out_what_may_begin_and_says_when_the_next_may() -> None:
    clock = ManualClock()
    outbox = Outbox(clock)
    now_ns = clock.monotonic_ns()
    later, sooner = job(WriteKind.SETPOINT, "a", now_ns + 50), job(WriteKind.SETPOINT, "b", now_ns + 20)
    async with asyncio.TaskGroup() as tasks:
        for each in (later, sooner):
            tasks.create_task(outbox.send(each, timeout_s=1.0))
        await asyncio.sleep(0)
        assert outbox.take(now_ns) is None
        assert not outbox.arrived.is_set()  # who waits for it must not turn in circles
        assert outbox.due_ns == now_ns + 20
        assert outbox.take(now_ns + 20) is sooner
        assert outbox.take(now_ns + 50) is later
        for each in (later, sooner):
            each.settle(WriteOutcome(GOOD))


@pytest.mark.parametrize("kind", list(WriteKind))
async def test_every_lane_has_an_end(kind: WriteKind) -> None:
    outbox = Outbox(ManualClock())
    async with asyncio.TaskGroup() as tasks:
        for i in range(MOST_WAITING):
            tasks.create_task(outbox.send(job(kind, str(i)), timeout_s=1.0))
        await asyncio.sleep(0)
        full = await outbox.send(job(kind, "one more"), timeout_s=1.0)
        assert full.status == BAD_TOO_MANY_OPERATIONS
        outbox.refuse_all(WriteOutcome(BAD_NO_COMMUNICATION))
    assert outbox.take(1 << 61) is None


async def test_who_waited_in_vain_leaves_room_for_others() -> None:
    clock = ManualClock()
    outbox = Outbox(clock)
    async with asyncio.TaskGroup() as tasks:
        waits = [
            tasks.create_task(outbox.send(job(WriteKind.COMMAND), timeout_s=1.0)) for _ in range(MOST_WAITING)
        ]
        await asyncio.sleep(0)
        await clock.advance(1.0)
    assert {each.result().status for each in waits} == {BAD_NO_COMMUNICATION}
    assert outbox.take(clock.monotonic_ns()) is None


async def test_a_write_that_was_begun_and_not_ended_in_time_is_indeterminate() -> None:
    clock = ManualClock()
    outbox = Outbox(clock)
    begun = job(WriteKind.COMMAND)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(outbox.send(begun, timeout_s=1.0))
        await asyncio.sleep(0)
        assert outbox.take(clock.monotonic_ns()) is begun
        begun.sent = True
        await clock.advance(1.0)
    assert waiting.result().status == BAD_TIMEOUT
    assert not begun.settle(WriteOutcome(GOOD))  # nobody hears it any more
