import asyncio
import time

import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.testing import ManualClock


async def test_the_system_clock_is_that_of_the_machine() -> None:
    clock = SystemClock()
    assert abs(clock.monotonic_ns() - time.monotonic_ns()) < 1e9
    assert abs(clock.monotonic_s() - time.monotonic()) < 1
    assert abs(clock.utc_ns() - time.time_ns()) < 1e9
    before = clock.monotonic_ns()
    await clock.sleep(0.01)
    assert clock.monotonic_ns() - before >= 0.009e9


async def test_a_manual_clock_wakes_each_sleeper_at_its_own_time_and_in_order() -> None:
    clock = ManualClock(monotonic_s=0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            await clock.sleep(pause)
            woken.append((name, clock.monotonic_s()))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleeper("a", 1.0, 1.0))
        tasks.create_task(sleeper("b", 1.5))
        tasks.create_task(sleeper("now", 0))
        await clock.advance(0.5)
        assert woken == [("now", 0.0)]
        assert clock.sleepers == 2
        await clock.advance(2.0)
    assert woken[1:] == [("a", 1.0), ("b", 1.5), ("a", 2.0)]
    assert clock.monotonic_ns() == 2_500_000_000


async def test_a_sleeper_that_was_cancelled_is_not_woken() -> None:
    clock = ManualClock()
    task = asyncio.ensure_future(clock.sleep(1))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(2)
    assert clock.sleepers == 0


def test_utc_jumps_and_monotonic_time_does_not() -> None:
    clock = ManualClock(monotonic_s=5, utc_ns=100)
    clock.set_utc_ns(7)
    clock.step(1e-9)
    assert (clock.utc_ns(), clock.monotonic_ns()) == (8, 5_000_000_001)


async def test_a_manual_clock_calls_at_the_time_and_not_what_was_cancelled() -> None:
    clock = ManualClock(monotonic_s=0)
    called: list[tuple[str, float]] = []

    def note(name: str) -> None:
        called.append((name, clock.monotonic_s()))

    late = clock.call_later(3, lambda: note("late"))
    clock.call_later(2, late.cancel)
    clock.call_later(1, lambda: note("first"))
    await clock.advance(5)
    assert called == [("first", 1.0)]
    late.cancel()  # once more says nothing


async def test_what_the_system_clock_is_to_call_can_be_cancelled() -> None:
    clock, called = SystemClock(), list[str]()
    clock.call_later(0.001, lambda: called.append("cancelled")).cancel()
    clock.call_later(0.002, lambda: called.append("called"))
    await clock.sleep(0.01)
    assert called == ["called"]


def test_only_the_time_since_the_start_counts_while_the_machine_sleeps() -> None:
    clock = ManualClock(monotonic_s=5, utc_ns=100)
    clock.suspend(2.0)
    assert (clock.monotonic_ns(), clock.boottime_ns()) == (5_000_000_000, 7_000_000_000)
    assert clock.utc_ns() == 2_000_000_100
    system = SystemClock()
    assert system.boottime_ns() >= system.monotonic_ns() - 1_000_000
