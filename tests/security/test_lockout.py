"""The lock-out: who guesses waits, and keeps nobody else out."""

from __future__ import annotations

import pytest

from edge_opcua.security import lockout
from edge_opcua.security.lockout import FAILURES, FAILURES_OF_CLIENT, LockOut
from edge_opcua.testing import ManualClock

HOST = "192.0.2.1"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def fail(locks: LockOut, times: int, user: str = "anna", client: str = "panel") -> list[float]:
    return [locks.failed(user, client, HOST) for _ in range(times)]


async def test_the_fifth_failure_locks_for_five_minutes(clock: ManualClock) -> None:
    locks = LockOut(clock)
    assert fail(locks, FAILURES) == [0, 0, 0, 0, 300]
    assert locks.waits_s("anna", "panel", HOST) == 300
    await clock.advance(299)
    assert locks.waits_s("anna", "panel", HOST) == 1
    await clock.advance(1)
    assert locks.waits_s("anna", "panel", HOST) == 0


def test_one_client_cannot_lock_a_user_out_everywhere(clock: ManualClock) -> None:
    locks = LockOut(clock)
    fail(locks, FAILURES)
    assert locks.waits_s("anna", "another panel", HOST) == 0
    assert locks.waits_s("bob", "panel", HOST) == 0
    assert locks.waits_s("ANNA", "panel", HOST) == 300  # the spelling does not help


async def test_failures_that_lie_far_apart_lock_nobody(clock: ManualClock) -> None:
    locks = LockOut(clock)
    for _ in range(12):
        assert fail(locks, 1) == [0]
        await clock.advance(200)


async def test_each_lock_is_longer_up_to_an_hour_and_forgotten_after_a_day(clock: ManualClock) -> None:
    locks = LockOut(clock)
    found = []
    for _ in range(6):
        found.append(max(fail(locks, FAILURES)))
        await clock.advance(found[-1] + 700)  # beyond the window in which all failures of a client count
    assert found == [300, 600, 1200, 2400, 3600, 3600]
    await clock.advance(86_401)
    assert max(fail(locks, FAILURES)) == 300


def test_success_forgets_the_failures_of_that_user(clock: ManualClock) -> None:
    locks = LockOut(clock)
    fail(locks, FAILURES - 1)
    locks.succeeded("anna", "panel", HOST)
    assert fail(locks, FAILURES - 1) == [0] * (FAILURES - 1)


def test_a_client_that_tries_many_names_is_locked_for_all(clock: ManualClock) -> None:
    locks = LockOut(clock)
    found = [locks.failed(f"user{number}", "panel", HOST) for number in range(FAILURES_OF_CLIENT)]
    assert found == [0] * (FAILURES_OF_CLIENT - 1) + [300]
    assert locks.waits_s("anna", "panel", HOST) == 300
    assert locks.waits_s("anna", "another panel", HOST) == 0


def test_many_addresses_give_a_client_no_more_guesses_than_one(clock: ManualClock) -> None:
    # One machine has a whole IPv6 network of them; what it cannot change is its certificate.
    locks = LockOut(clock)
    found = [locks.failed("anna", "panel", f"2001:db8::{number:x}") for number in range(FAILURES_OF_CLIENT)]
    assert found[-1] == 300
    assert locks.waits_s("anna", "panel", "2001:db8::ffff") == 300


def test_a_thief_elsewhere_does_not_lock_the_panel_with_a_few_failures(clock: ManualClock) -> None:
    locks = LockOut(clock)
    fail(locks, FAILURES)
    assert locks.waits_s("anna", "panel", "192.0.2.2") == 0


def test_failures_without_a_name_lock_no_other_name(clock: ManualClock) -> None:
    locks = LockOut(clock)
    assert max(fail(locks, FAILURES, user="")) == 300
    assert locks.waits_s("anna", "panel", HOST) == 0


def test_memory_is_bounded_and_a_crowd_frees_nobody(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockout, "MAX_KEPT", 20)
    locks = LockOut(clock)
    fail(locks, FAILURES)
    for number in range(100):
        locks.failed("anna", f"client {number}", HOST)
    assert len(locks._kept) == 20
    assert locks.waits_s("anna", "panel", HOST) == 300
    for number in range(30):  # if all that are kept are locked, the oldest goes
        fail(locks, FAILURES, client=f"locked {number}")
    assert len(locks._kept) == 20
