"""The states of a link (reference plc.md §6.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Link
from edge_opcua.drivers.linkstate import (
    TABLE,
    Event,
    LinkPolicy,
    LinkStatus,
    State,
    happen,
    retry_pause_s,
)

POLICY = LinkPolicy(fail_after=3, stale_after_s=2.0, recover_cycles=3, recover_hold_s=2.0)
SECOND = 1_000_000_000


def run(*events: tuple[Event, float], policy: LinkPolicy = POLICY) -> LinkStatus:
    """Let events happen at their times (seconds) from DISABLED on."""
    status = LinkStatus()
    for event, at_s in events:
        status = happen(status, event, policy, round(at_s * SECOND))
    return status


ONLINE = (
    (Event.ENABLE, 1.0),
    (Event.CONNECTED, 1.0),
    (Event.GOOD_SCAN, 1.1),
    (Event.GOOD_SCAN, 2.0),
    (Event.GOOD_SCAN, 3.1),
)


def test_a_new_link_is_online_only_after_it_has_proved_itself() -> None:
    assert run(*ONLINE[:2]).state is State.RECOVERING
    assert run(*ONLINE[:4]).state is State.RECOVERING
    early = run(*ONLINE[:3], (Event.GOOD_SCAN, 1.2), (Event.GOOD_SCAN, 1.3), (Event.GOOD_SCAN, 1.4))
    assert early.state is State.RECOVERING  # scans enough, not held long enough
    assert run(*ONLINE).state is State.ONLINE


def test_nothing_is_written_over_a_link_that_has_not_proved_itself() -> None:
    assert not run(*ONLINE[:4]).writes
    assert run(*ONLINE[:4]).reads
    assert run(*ONLINE).writes


def test_one_failed_request_makes_suspect_and_one_good_scan_forgives() -> None:
    suspect = run(*ONLINE, (Event.FAILED_REQUEST, 3.2))
    assert (suspect.state, suspect.link) == (State.SUSPECT, Link.UP)
    assert run(*ONLINE, (Event.FAILED_REQUEST, 3.2), (Event.GOOD_SCAN, 3.3)).state is State.ONLINE


@pytest.mark.parametrize("event", [Event.FAILED_REQUEST, Event.CONNECT_FAILED])
def test_failures_in_a_row_take_the_link_away(event: Event) -> None:
    twice = run(*ONLINE, (Event.FAILED_REQUEST, 3.2), (event, 3.3))
    assert twice.state is State.SUSPECT
    lost = run(*ONLINE, (Event.FAILED_REQUEST, 3.2), (event, 3.3), (event, 3.4))
    assert (lost.state, lost.link) == (State.OFFLINE, Link.LOST)


def test_one_failure_after_a_long_silence_is_enough() -> None:
    assert run(*ONLINE, (Event.FAILED_REQUEST, 5.2)).state is State.OFFLINE


def test_a_recovering_link_is_lost_by_one_failure_and_its_pauses_grow() -> None:
    flap = [*ONLINE, *((Event.FAILED_REQUEST, 3.2 + i / 10) for i in range(3))]
    pauses = []
    for i in range(5):
        pauses.append(retry_pause_s(run(*flap), POLICY, 1.0))
        at_s = 10.0 + i
        flap += [(Event.RETRY, at_s), (Event.CONNECTED, at_s), (Event.FAILED_REQUEST, at_s)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_pauses_double_up_to_their_limit_and_are_spread() -> None:
    events = [(Event.ENABLE, 1.0)]
    pauses = []
    for i in range(8):
        events += [(Event.CONNECT_FAILED, 2.0 + i), (Event.RETRY, 2.5 + i)]
        pauses.append(retry_pause_s(run(*events[:-1]), POLICY, 1.0))
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert retry_pause_s(run(*events[:2]), POLICY, 0.0) == 0.375


def test_a_link_that_stays_away_is_tried_rarely() -> None:
    away = run(
        (Event.ENABLE, 1.0), (Event.CONNECT_FAILED, 2.0), (Event.RETRY, 3.0), (Event.CONNECT_FAILED, 63.0)
    )
    assert away.state is State.DEMOTED
    assert retry_pause_s(away, POLICY, 1.0) == 30.0
    assert happen(away, Event.RETRY, POLICY, 90 * SECOND).state is State.CONNECTING


def test_readers_are_told_what_is_known() -> None:
    assert LinkStatus().link is Link.DISABLED
    assert run(*ONLINE[:1]).link is Link.CONNECTING
    assert run(*ONLINE[:1], (Event.CONNECT_FAILED, 2.0)).link is Link.FAILED
    assert run(*ONLINE[:1], (Event.CONNECT_FAILED, 2.0), (Event.RETRY, 3.0)).link is Link.FAILED
    assert run(*ONLINE[:2]).link is Link.CONNECTING  # connected, and nothing was read yet
    assert run(*ONLINE[:3]).link is Link.UP
    lost = [*ONLINE, *((Event.FAILED_REQUEST, 3.2 + i / 10) for i in range(3))]
    assert run(*lost, (Event.RETRY, 5.0)).link is Link.LOST
    assert run(*lost, (Event.RETRY, 5.0), (Event.CONNECTED, 5.0)).link is Link.LOST
    assert run(*lost, (Event.RETRY, 5.0), (Event.CONNECTED, 5.0), (Event.GOOD_SCAN, 5.1)).link is Link.UP
    assert run((Event.SIMULATE, 1.0)).link is Link.UP


def test_an_outage_lasts_until_the_link_has_proved_itself() -> None:
    lost = [*ONLINE, *((Event.FAILED_REQUEST, 3.2 + i / 10) for i in range(3))]
    assert run(*lost).lost_ns == 3_400_000_000
    back = [*lost, (Event.RETRY, 5.0), (Event.CONNECTED, 5.0)]
    assert run(*back).lost_ns == 3_400_000_000
    assert run(*back, *((Event.GOOD_SCAN, 6.0 + i) for i in range(3))).lost_ns == 0


@pytest.mark.parametrize("state", list(State))
def test_every_state_that_works_can_be_switched_off(state: State) -> None:
    status = LinkStatus(state=state)
    if state is not State.DISABLED:
        assert happen(status, Event.DISABLE, POLICY, SECOND).state is State.DISABLED


def test_every_state_is_reached_and_left() -> None:
    assert set(TABLE.values()) == set(State)
    assert {state for state, _ in TABLE} == set(State)


# GAVE_UP, STABLE and DEMOTE are drawn from counts and times, never reported from outside.
OUTSIDE = [event for event in Event if event not in (Event.GAVE_UP, Event.STABLE, Event.DEMOTE)]


@given(st.lists(st.tuples(st.sampled_from(OUTSIDE), st.floats(0, 20)), max_size=60))
def test_whatever_happens_values_are_up_only_after_a_good_scan(steps: list[tuple[Event, float]]) -> None:
    status, now_s, scanned = LinkStatus(), 1.0, False
    for event, wait_s in steps:
        now_s += wait_s
        before = status
        status = happen(status, event, POLICY, round(now_s * SECOND))
        scanned = scanned or (event is Event.GOOD_SCAN and before.reads)
        if status.link is Link.UP:
            assert scanned or status.state is State.SIMULATED
        if status.writes and status.state is not State.SIMULATED:  # whose writes reach no machine
            assert before.state in (State.ONLINE, State.SUSPECT, State.RECOVERING)
        if status.state is State.ONLINE and before.state is State.RECOVERING:
            assert status.good_scans >= POLICY.recover_cycles
        if status.state in (State.OFFLINE, State.DEMOTED):
            assert 0 < retry_pause_s(status, POLICY, 0.5) <= 30.0
