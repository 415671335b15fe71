"""The one timer of subscriptions and samples; no server."""

from __future__ import annotations

import asyncio

from edge_opcua.opcua.services.subscription.schedule import Schedule
from edge_opcua.testing import ManualClock


def test_what_is_new_is_taken_before_what_is_due_and_settled_after_it() -> None:
    seen: list[str] = []
    clock = ManualClock()
    schedule = Schedule(clock, lambda: seen.append("settled"))
    schedule.before = lambda: seen.append("taken")
    schedule.every(0.1, lambda: seen.append("published"))
    schedule.every(0.1, lambda: seen.append("sampled"))
    clock.step(0.05)
    schedule.work()
    assert seen == []
    clock.step(0.06)
    schedule.work()
    assert seen == ["taken", "published", "sampled", "settled"]


def test_a_fault_while_taking_stops_no_publishing() -> None:
    seen: list[str] = []
    clock = ManualClock()
    schedule = Schedule(clock, lambda: seen.append("settled"))

    def fail() -> None:
        raise RuntimeError("the bus is gone")

    schedule.before = fail
    schedule.every(0.1, lambda: seen.append("published"))
    clock.step(0.2)
    schedule.work()
    assert seen == ["published", "settled"]


def test_what_was_cancelled_is_never_due() -> None:
    seen: list[str] = []
    clock = ManualClock()
    schedule = Schedule(clock, lambda: None)
    schedule.cancel(schedule.every(0.1, lambda: seen.append("published")))
    assert len(schedule) == 0
    clock.step(1.0)
    schedule.work()
    assert seen == []


async def test_it_wakes_up_for_what_is_due_first_until_it_is_cancelled() -> None:
    seen: list[tuple[str, float]] = []
    clock = ManualClock(monotonic_s=0)
    schedule = Schedule(clock, lambda: None)

    def note(name: str) -> None:
        seen.append((name, clock.monotonic_s()))

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(schedule.run())
        await clock.advance(0)
        schedule.every(10.0, lambda: note("slow"))
        quick = schedule.every(4.0, lambda: note("quick"))  # is due before what is waited for
        await clock.advance(9)
        assert seen == [("quick", 4.0), ("quick", 8.0)]
        schedule.cancel(quick)
        await clock.advance(5)
        assert seen[2:] == [("slow", 10.0)]
        running.cancel()
    await clock.advance(50)
    assert len(seen) == 3


async def test_what_is_called_may_cancel_itself_and_ask_for_something_sooner() -> None:
    clock = ManualClock(monotonic_s=0)
    schedule = Schedule(clock, lambda: None)
    seen: list[float] = []

    def once() -> None:
        schedule.cancel(ticket)
        schedule.every(0.5, lambda: seen.append(clock.monotonic_s()))

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(schedule.run())
        await clock.advance(0)
        ticket = schedule.every(2.0, once)
        await clock.advance(3)
        running.cancel()
    assert seen == [2.5, 3.0]
