"""The one timer of subscriptions and samples; no server."""

from __future__ import annotations

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
