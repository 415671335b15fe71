"""Writes that nobody answered: what is said of them when the tag is read again, and later (plc.md §6.1)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog

from edge_opcua.core.values import BAD_TIMEOUT, GOOD
from edge_opcua.drivers.doubts import MOST, WATCH_S, Doubt, Doubts, Fate, Finding
from edge_opcua.drivers.poller import Device
from edge_opcua.drivers.writeterms import ANYBODY, WriteKind, WriteTerms
from tests.drivers.peers import Bench
from tests.drivers.scripted import ScriptedWire, scripted

S = 1_000_000_000
ANNA = WriteTerms(who="anna", why="new tool")
OPEN = Doubt("a", ANNA, old=1, new=5, since_ns=0, seen=0)


def fates(findings: list[Finding]) -> list[Fate]:
    return [each.fate for each in findings]


@pytest.mark.parametrize(
    ("doubt", "held", "fate"),
    [
        (OPEN, 5, Fate.LANDED),
        (OPEN, 1, Fate.NOT_LANDED),
        (OPEN, 3, Fate.OTHER),
        (replace(OPEN, old=5), 5, Fate.SAME),
        (replace(OPEN, old=None), 5, Fate.SAME),
        (replace(OPEN, old=None), 1, Fate.OTHER),
        (replace(OPEN, old=False, new=True, momentary=True), True, Fate.LANDED),
        (replace(OPEN, old=False, new=True, momentary=True), False, Fate.PUT_BACK),
        (replace(OPEN, old=1.0, new=5.0), 5.2, Fate.OTHER),
        (replace(OPEN, old=1.0, new=5.0, terms=WriteTerms(tolerance=0.3)), 5.2, Fate.LANDED),
        (replace(OPEN, old=[1, 2], new=[1, 3]), [1, 3], Fate.LANDED),
        (replace(OPEN, old="x", new="y"), "x", Fate.NOT_LANDED),
        (replace(OPEN, old=False, new=1), False, Fate.NOT_LANDED),  # a bit is no number
    ],
)
def test_the_first_reading_decides_what_is_said(doubt: Doubt, held: Any, fate: Fate) -> None:
    doubts = Doubts()
    doubts.add(doubt)
    (finding,) = doubts.look("a", held, 1, 3 * S)
    assert finding == Finding(doubt, fate, held, 3.0)
    assert (doubts.begun["a"], doubts.landed["a"]) == (1, int(fate is Fate.LANDED))


def test_only_a_reading_of_this_tag_that_came_since_says_anything() -> None:
    doubts = Doubts()
    doubts.add(OPEN)
    assert doubts.look("a", 5, 0, S) == []  # what was read before
    assert doubts.look("b", 5, 1, S) == []
    assert doubts.look("a", None, 1, S) == []  # it was Bad
    assert fates(doubts.look("a", 5, 1, S)) == [Fate.LANDED]
    assert doubts.look("a", 5, 2, 2 * S) == []
    assert len(doubts) == 0


@pytest.mark.parametrize("after_s", [1.0, WATCH_S - 1])
def test_a_write_that_lands_after_the_recovery_is_seen_once(after_s: float) -> None:
    # The connection it was sent over may live on in the device, or in a switch between.
    doubts = Doubts()
    doubts.add(OPEN)
    assert fates(doubts.look("a", 1, 1, 0)) == [Fate.NOT_LANDED]
    doubts.wrote("a", 9)
    assert doubts.look("a", 9, 2, S) == []  # a newer write of ours
    late = doubts.look("a", 5, 3, int(after_s * S))
    assert fates(late) == [Fate.LANDED]
    assert doubts.look("a", 5, 4, int((after_s + 0.5) * S)) == []
    assert doubts.landed["a"] == 1


def test_it_is_watched_for_a_while_only() -> None:
    doubts = Doubts()
    doubts.add(OPEN)
    doubts.look("a", 1, 1, 0)
    assert doubts.look("a", 5, 2, int(WATCH_S * S)) == []
    assert len(doubts) == 0


def test_an_outage_of_hours_does_not_end_the_wait_for_the_first_reading() -> None:
    doubts = Doubts()
    doubts.add(OPEN)
    assert fates(doubts.look("a", 5, 1, int(10 * WATCH_S * S))) == [Fate.LANDED]


def test_the_same_value_written_again_by_us_cannot_be_told_from_the_lost_one() -> None:
    doubts = Doubts()
    doubts.add(OPEN)
    doubts.wrote("a", 5)
    assert fates(doubts.look("a", 5, 1, S)) == [Fate.SAME]
    doubts.add(replace(OPEN, seen=1))
    doubts.look("a", 1, 2, S)
    doubts.wrote("a", 5)
    assert len(doubts) == 0


def test_every_write_gets_its_own_verdict() -> None:
    doubts = Doubts()
    doubts.add(OPEN)
    doubts.add(replace(OPEN, new=6))
    assert fates(doubts.look("a", 6, 1, S)) == [Fate.OTHER, Fate.LANDED]
    assert fates(doubts.look("a", 5, 2, 2 * S)) == [Fate.LANDED]  # the older one came behind the newer


def test_the_register_is_bounded_and_forgets_what_was_judged_first() -> None:
    doubts = Doubts()
    for i in range(MOST):
        assert doubts.add(replace(OPEN, tag=f"t{i}")) == []
    doubts.look("t7", 1, 1, S)
    assert doubts.add(replace(OPEN, tag="more")) == []
    assert "t7" not in doubts.tags
    (forgotten,) = doubts.add(replace(OPEN, tag="even more", since_ns=9 * S))
    assert (forgotten.fate, forgotten.doubt.tag, forgotten.after_s) == (Fate.FORGOTTEN, "t0", 9.0)
    assert len(doubts) == MOST


def test_when_the_watch_ends_what_was_not_judged_is_told() -> None:
    doubts = Doubts()
    doubts.add(OPEN)
    doubts.add(replace(OPEN, tag="b"))
    doubts.look("b", 1, 1, S)
    assert doubts.end(4 * S) == [Finding(OPEN, Fate.FORGOTTEN, None, 4.0)]
    assert len(doubts) == 0


# A whole device.

RW: dict[str, Any] = {"access": "rw"}
TAGS = {"a": "1/hr:1:INT", "bit": "1/hr:8.0:BOOL", "slow": "1/hr:30:INT"}
EXTRA = {"a": RW, "bit": RW, "slow": RW | {"group": "asked"}}
GROUPS = [{"name": "fast", "period_ms": 20}, {"name": "asked", "on_request": True}]


@asynccontextmanager
async def online() -> AsyncIterator[tuple[ScriptedWire, Bench, Device, list[Finding]]]:
    found: list[Finding] = []
    making = scripted(TAGS, groups=GROUPS, extra=EXTRA, tell=found.append, options={"read_retries": 0})
    async with making as (wire, bench), bench.running() as device:
        await bench.until(lambda: device.link_up and bench.statuses("fast")["a"] == GOOD)
        await bench.until(lambda: bench.statuses("asked")["slow"] == GOOD)
        yield wire, bench, device, found


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize(("lost", "fate"), [("swallow", Fate.LANDED), ("drop", Fate.NOT_LANDED)])
@pytest.mark.parametrize("tag", ["a", "slow"])
async def test_a_write_without_an_answer_is_judged_when_the_device_is_read_again(
    tag: str, lost: str, fate: Fate, *, breaks: bool
) -> None:
    async with online() as (wire, bench, device, found):
        wire.breaks = breaks
        setattr(wire, lost, 1)
        old = bench.values("fast" if tag == "a" else "asked")[tag]
        with structlog.testing.capture_logs() as logs:
            assert (await device.write(tag, 99, terms=ANNA)).status == BAD_TIMEOUT
            await bench.until(lambda: bool(found))
        (finding,) = found
        assert finding.fate is fate
        assert (finding.doubt.terms, finding.doubt.old, finding.doubt.new) == (ANNA, old, 99)
        assert finding.held == (99 if fate is Fate.LANDED else old)
        said = [(entry["event"], entry.get("code")) for entry in logs if entry["event"].startswith("write.")]
        judged = ("write.landed_late", "D392") if fate is Fate.LANDED else ("write.judged", None)
        assert said == [("write.unanswered", "D391"), judged]
        late = int(fate is Fate.LANDED)
        assert device.unanswered(tag) == (1, late)
        assert sum(entry == struct.pack(">h", 99) for entry in wire.log) == 1  # and never sent again


async def test_a_write_that_lands_minutes_after_the_recovery_is_told_with_its_writer() -> None:
    async with online() as (wire, bench, device, found):
        wire.drop, wire.breaks = 1, True
        assert (await device.write("a", 99, terms=ANNA)).status == BAD_TIMEOUT
        await bench.until(lambda: len(found) == 1 and device.link_up)
        assert (await device.write("a", 7)).status == GOOD
        await bench.until(lambda: bench.values("fast")["a"] == 7)
        wire.registers[1, 1] = 99  # the device goes on where it had stopped
        await bench.until(lambda: len(found) == 2)
        assert [each.fate for each in found] == [Fate.NOT_LANDED, Fate.LANDED]
        assert found[1].doubt.terms.who == "anna"
        await bench.until(lambda: bench.values("link")["landed_late"] == 1)
        assert bench.values("link")["indeterminate"] == 1


async def test_a_write_that_ends_after_its_caller_has_given_up_is_told() -> None:
    async with online() as (wire, bench, device, found):
        gate = wire.write_gate = asyncio.Event()
        outcome = await device.write("a", 99, timeout_s=0.05, terms=ANNA)
        assert outcome.status == BAD_TIMEOUT
        gate.set()
        await bench.until(lambda: bool(found))
        assert (found[0].fate, found[0].held, found[0].doubt.terms) == (Fate.DONE_LATE, 99, ANNA)
        assert device.unanswered("a") == (1, 1)


async def test_a_device_that_stops_says_what_it_never_found_out() -> None:
    async with online() as (wire, _, device, found):
        wire.silent = {1}
        assert (await device.write("a", 99, terms=ANNA)).status == BAD_TIMEOUT
    assert [(each.fate, each.doubt.terms.who) for each in found] == [(Fate.FORGOTTEN, "anna")]


async def test_a_heartbeat_without_an_answer_is_not_worth_a_word() -> None:
    async with online() as (wire, _, device, found):
        wire.drop = 1
        outcome = await device.write("a", 99, terms=WriteTerms(kind=WriteKind.HEARTBEAT))
        assert outcome.status == BAD_TIMEOUT
        await asyncio.sleep(0.1)
        assert (found, device.unanswered("a")) == ([], (0, 0))


async def test_a_value_that_was_taken_but_not_read_back_is_judged_too() -> None:
    async with online() as (wire, bench, device, found):
        store = wire.store

        def then_break(place: Any, encoded: bytes) -> None:
            store(place, encoded)
            wire.lose = 1

        wire.store = then_break  # type: ignore[method-assign]
        outcome = await device.write("a", 99, terms=ANYBODY)
        assert outcome.status == BAD_TIMEOUT
        assert "took the value" in outcome.reason
        await bench.until(lambda: bool(found))
        assert found[0].fate is Fate.DONE
