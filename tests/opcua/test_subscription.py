"""The publishing cycle, row by row of the state table in Part 4 §5.14.1.2, without a server or a clock."""

from __future__ import annotations

import pytest

from edge_opcua.opcua.services.subscription.subscription import Act, Cycle, State

NORMAL, LATE, KEEP_ALIVE = State.NORMAL, State.LATE, State.KEEP_ALIVE


def cycle(
    state: State, *, sent: bool = True, idle: int = 0, more: bool = False, enabled: bool = True
) -> Cycle:
    return Cycle(3, 9, enabled, state, message_sent=sent, idle=idle, more=more)


# state, sent, idle, enabled | requested, available | act, next state
TIMER_ROWS = [
    pytest.param(NORMAL, True, 0, True, True, True, Act.NOTIFY, NORMAL, id="6"),
    pytest.param(NORMAL, False, 0, True, True, True, Act.NOTIFY, NORMAL, id="6 first"),
    pytest.param(NORMAL, False, 0, True, True, False, Act.KEEP_ALIVE, KEEP_ALIVE, id="7 nothing"),
    pytest.param(NORMAL, False, 0, False, True, True, Act.KEEP_ALIVE, KEEP_ALIVE, id="7 disabled"),
    pytest.param(NORMAL, False, 0, True, False, False, Act.NOTHING, LATE, id="8 first"),
    pytest.param(NORMAL, True, 0, True, False, True, Act.NOTHING, LATE, id="8 available"),
    pytest.param(NORMAL, True, 0, True, True, False, Act.NOTHING, KEEP_ALIVE, id="9 nothing"),
    pytest.param(NORMAL, True, 0, False, True, True, Act.NOTHING, KEEP_ALIVE, id="9 disabled"),
    pytest.param(LATE, True, 5, True, False, True, Act.NOTHING, LATE, id="12"),
    pytest.param(KEEP_ALIVE, True, 1, True, True, True, Act.NOTIFY, NORMAL, id="14"),
    pytest.param(KEEP_ALIVE, True, 2, True, True, False, Act.KEEP_ALIVE, KEEP_ALIVE, id="15 nothing"),
    pytest.param(KEEP_ALIVE, True, 2, False, True, True, Act.KEEP_ALIVE, KEEP_ALIVE, id="15 disabled"),
    pytest.param(KEEP_ALIVE, True, 1, True, True, False, Act.NOTHING, KEEP_ALIVE, id="16"),
    pytest.param(KEEP_ALIVE, True, 2, True, False, False, Act.NOTHING, LATE, id="17 due"),
    pytest.param(KEEP_ALIVE, True, 1, True, False, True, Act.NOTHING, LATE, id="17 available"),
]


@pytest.mark.parametrize(
    ("state", "sent", "idle", "enabled", "requested", "available", "act", "after"), TIMER_ROWS
)
def test_the_publishing_timer_expires(
    state: State,
    *,
    sent: bool,
    idle: int,
    enabled: bool,
    requested: bool,
    available: bool,
    act: Act,
    after: State,
) -> None:
    one = cycle(state, sent=sent, idle=idle, enabled=enabled)
    assert one.expire(requested=requested, available=available) is act
    assert one.state is after


REQUEST_ROWS = [
    pytest.param(NORMAL, False, False, True, Act.NOTHING, NORMAL, id="4"),
    pytest.param(NORMAL, True, True, False, Act.NOTHING, NORMAL, id="4 disabled"),
    pytest.param(NORMAL, True, True, True, Act.NOTIFY, NORMAL, id="5"),
    pytest.param(LATE, True, False, True, Act.NOTIFY, NORMAL, id="10 available"),
    pytest.param(LATE, False, True, True, Act.NOTIFY, NORMAL, id="10 more"),
    pytest.param(LATE, False, False, True, Act.KEEP_ALIVE, KEEP_ALIVE, id="11 nothing"),
    pytest.param(LATE, True, False, False, Act.KEEP_ALIVE, KEEP_ALIVE, id="11 disabled"),
    pytest.param(KEEP_ALIVE, True, False, True, Act.NOTHING, KEEP_ALIVE, id="13"),
]


@pytest.mark.parametrize(("state", "available", "more", "enabled", "act", "after"), REQUEST_ROWS)
def test_a_publish_request_comes(
    state: State, *, available: bool, more: bool, enabled: bool, act: Act, after: State
) -> None:
    one = cycle(state, more=more, enabled=enabled)
    assert one.request(available=available) is act
    assert one.state is after


def test_the_lifetime_ends_after_as_many_intervals_without_a_request() -> None:
    # Row 27; §5.14.1.1: the counter counts cycles in which no Publish request was there.
    one = cycle(NORMAL)
    acts = [one.expire(requested=False, available=False) for _ in range(9)]
    assert acts == [Act.NOTHING] * 8 + [Act.CLOSE]


def test_any_sign_of_the_client_starts_the_lifetime_anew() -> None:
    # §5.14.1.1: every service call that names the subscription resets the counter; a request, too.
    one = cycle(NORMAL)
    for sign in (one.touch, lambda: one.request(available=False), lambda: one.set_enabled(enabled=True)):
        for _ in range(8):
            assert one.expire(requested=False, available=False) is Act.NOTHING
        sign()
    assert one.unattended == 0


def test_publishing_that_is_switched_off_keeps_alive_and_forgets_more() -> None:
    # Row 19, §5.14.4.
    one = cycle(NORMAL, more=True)
    assert one.waits
    one.set_enabled(enabled=False)
    assert not one.waits
    assert not one.more
    acts = [one.expire(requested=True, available=True) for _ in range(3)]
    assert acts == [Act.NOTHING, Act.NOTHING, Act.KEEP_ALIVE]
