"""The state of a link to one device, as a table (reference: docs/reference/drivers.md); pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from edge_opcua.core.values import Link


class State(IntEnum):
    """States of a link; the numbers are what the ``state`` tag of ``<device>.link`` shows."""

    DISABLED = 0
    CONNECTING = 1
    ONLINE = 2
    SUSPECT = 3
    OFFLINE = 4
    DEMOTED = 5
    RECOVERING = 6
    SIMULATED = 7


class Event(IntEnum):
    """What can happen to a link."""

    ENABLE = 0
    DISABLE = 1
    CONNECTED = 2
    CONNECT_FAILED = 3
    GOOD_SCAN = 4
    FAILED_REQUEST = 5
    GAVE_UP = 6
    STABLE = 7
    RETRY = 8
    DEMOTE = 9
    SIMULATE = 10


# What is not in the table changes nothing. GAVE_UP, STABLE and DEMOTE are drawn by `happen` from counts
# and times; the others come from outside.
TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.DISABLED, Event.ENABLE): State.CONNECTING,
    (State.CONNECTING, Event.DISABLE): State.DISABLED,
    (State.ONLINE, Event.DISABLE): State.DISABLED,
    (State.SUSPECT, Event.DISABLE): State.DISABLED,
    (State.OFFLINE, Event.DISABLE): State.DISABLED,
    (State.DEMOTED, Event.DISABLE): State.DISABLED,
    (State.RECOVERING, Event.DISABLE): State.DISABLED,
    (State.SIMULATED, Event.DISABLE): State.DISABLED,
    (State.DISABLED, Event.SIMULATE): State.SIMULATED,
    (State.CONNECTING, Event.CONNECTED): State.RECOVERING,
    (State.CONNECTING, Event.CONNECT_FAILED): State.OFFLINE,
    (State.RECOVERING, Event.STABLE): State.ONLINE,
    (State.RECOVERING, Event.FAILED_REQUEST): State.OFFLINE,
    (State.ONLINE, Event.FAILED_REQUEST): State.SUSPECT,
    (State.SUSPECT, Event.GOOD_SCAN): State.ONLINE,
    (State.SUSPECT, Event.GAVE_UP): State.OFFLINE,
    (State.OFFLINE, Event.RETRY): State.CONNECTING,
    (State.OFFLINE, Event.DEMOTE): State.DEMOTED,
    (State.DEMOTED, Event.RETRY): State.CONNECTING,
}


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """When a link counts as lost, and when as recovered.

    Args:
        fail_after: Failed requests in a row after which a suspect link is given up.
        stale_after_s: Age of the last good scan at which a suspect link is given up.
        backoff_first_s: Pause before the first new attempt.
        backoff_max_s: Longest pause between attempts.
        demote_after_s: Time without a link after which attempts become rare.
        demoted_s: Pause between attempts then.
        recover_cycles: Good scans that a new link must show.
        recover_hold_s: Seconds that a new link must hold.
    """

    fail_after: int = 3
    stale_after_s: float = 2.0
    backoff_first_s: float = 0.5
    backoff_max_s: float = 10.0
    demote_after_s: float = 60.0
    demoted_s: float = 30.0
    recover_cycles: int = 3
    recover_hold_s: float = 2.0


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """Everything that decides what a link does next.

    Args:
        state: Present state.
        since_ns: Monotonic time it was entered, ns.
        failures: Failed requests in a row.
        good_scans: Good scans since the last connect.
        attempts: Attempts to connect since the link was lost.
        last_good_ns: Monotonic time of the last good scan, 0 for never.
        lost_ns: Monotonic time at which the link was lost, 0 while it is up.
    """

    state: State = State.DISABLED
    since_ns: int = 0
    failures: int = 0
    good_scans: int = 0
    attempts: int = 0
    last_good_ns: int = 0
    lost_ns: int = 0

    @property
    def reads(self) -> bool:
        """Whether poll groups are read."""
        return self.state in (State.ONLINE, State.SUSPECT, State.RECOVERING, State.SIMULATED)

    @property
    def writes(self) -> bool:
        """Whether writes are taken: never before a new link has proved itself."""
        return self.state in (State.ONLINE, State.SUSPECT, State.SIMULATED)

    @property
    def link(self) -> Link:
        """What the readers of this device's blocks are told."""
        if self.state is State.DISABLED:
            return Link.DISABLED
        if self.state in (State.ONLINE, State.SUSPECT, State.SIMULATED):
            return Link.UP
        if self.state is State.RECOVERING and self.good_scans:
            return Link.UP
        if self.last_good_ns:
            return Link.LOST
        return Link.CONNECTING if self.attempts == 0 else Link.FAILED


def happen(status: LinkStatus, event: Event, policy: LinkPolicy, now_ns: int) -> LinkStatus:
    """Return the status after an event; events that mean nothing in a state change nothing.

    Args:
        status: Status before.
        event: What happened.
        policy: Limits.
        now_ns: Monotonic time, ns.
    """
    status = _count(status, event, now_ns)
    entered = _enter(status, event, now_ns)
    drawn = _draw(entered, policy, now_ns)
    return entered if drawn is None else _enter(entered, drawn, now_ns)


def retry_pause_s(status: LinkStatus, policy: LinkPolicy, draw: float) -> float:
    """Return how long to wait before the next attempt to connect, in seconds.

    Args:
        status: Status of a link that is OFFLINE or DEMOTED.
        policy: Limits.
        draw: A random number in 0..1; spreads devices that were lost together over a quarter of the pause.
    """
    if status.state is State.DEMOTED:
        pause_s = max(policy.demoted_s, policy.backoff_max_s)
    else:
        doublings = min(max(0, status.attempts - 1), 30)
        pause_s = min(policy.backoff_first_s * 2**doublings, policy.backoff_max_s)
    return pause_s * (0.75 + 0.25 * draw)


def _count(status: LinkStatus, event: Event, now_ns: int) -> LinkStatus:
    if event is Event.GOOD_SCAN and status.reads:
        return replace(status, failures=0, good_scans=status.good_scans + 1, last_good_ns=now_ns)
    if event is Event.FAILED_REQUEST and status.reads:
        flaps = 1 if status.state is State.RECOVERING else 0
        return replace(status, failures=status.failures + 1, attempts=status.attempts + flaps)
    if event is Event.CONNECT_FAILED and status.state is State.CONNECTING:
        return replace(status, attempts=status.attempts + 1)
    if event is Event.CONNECT_FAILED and status.state is State.SUSPECT:
        return replace(status, failures=status.failures + 1)
    return status


def _enter(status: LinkStatus, event: Event, now_ns: int) -> LinkStatus:
    target = TABLE.get((status.state, event))
    if target is None:
        return status
    entered = replace(status, state=target, since_ns=now_ns)
    if target is State.RECOVERING:
        return replace(entered, failures=0, good_scans=0)
    if target is State.OFFLINE:
        return replace(entered, attempts=max(1, status.attempts), lost_ns=status.lost_ns or now_ns)
    if target is State.ONLINE:
        return replace(entered, failures=0, attempts=0, lost_ns=0)
    return entered


def _draw(status: LinkStatus, policy: LinkPolicy, now_ns: int) -> Event | None:
    """Return the event that counts and times add up to."""
    in_state_s = (now_ns - status.since_ns) / 1e9
    if status.state is State.SUSPECT:
        silent_s = (now_ns - status.last_good_ns) / 1e9
        gave_up = status.failures >= policy.fail_after or silent_s > policy.stale_after_s
        return Event.GAVE_UP if gave_up else None
    if status.state is State.RECOVERING:
        proved = status.good_scans >= policy.recover_cycles and in_state_s >= policy.recover_hold_s
        return Event.STABLE if proved else None
    if status.state is State.OFFLINE:
        lost_s = (now_ns - status.lost_ns) / 1e9
        return Event.DEMOTE if lost_s > policy.demote_after_s else None
    return None
