"""Decides who rules over an output, from facts alone; pure, and the only place that does (architecture §3.4).

The heartbeat advances only when the lane, the PLC's own words and this decision have all been seen to move
since the last one, so a frozen part of the chain never looks alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

from edge_opcua.config.eai import following, is_ahead
from edge_opcua.config.outputs import OutputConfig
from edge_opcua.config.reaction import Times
from edge_opcua.writeback.faults import Facts, Fault, Found, Past, Plc, find
from edge_opcua.writeback.states import WORDS, State, Trigger, after

_MS: Final = 1_000_000
_GRACE_TIMEOUTS: Final = 2
NO_RESULT_YET: Final = "no result yet"

Grantor = Literal["plc", "operator", "always"]
Acknowledger = Literal["plc", "operator", "either"]


class Content(Enum):
    """What the PLC has to get in a state."""

    DRIVE = "drive"  # results as they come
    HOLD = "hold"  # the last one stays, marked Uncertain
    SAFE = "safe"  # the fail-safe content
    MANUAL = "manual"  # what the person says, nothing else
    RELEASE = "release"  # the fail-safe content, and that we go


@dataclass(frozen=True, slots=True)
class Limits:
    """The rules of one output.

    Args:
        times: When silence is a fault.
        recover_ns: Time that all faults must be gone before an acknowledge is asked for.
        hold_ns: Time for which the last value is held when something is missing that may come back.
        granted_by: Who grants authority.
        acknowledged_by: Who may acknowledge.
        auto_restart: Whether nobody has to.
        needs_result: Whether a result has to be there before authority; a PLC that asks for each gets none
            before it has asked.
        judges_results: Whether a result that may not rule takes authority away; a PLC that asks for each
            gets it with the reason instead.
        remote_latch: Whether the PLC lets go of its latch when we no longer ask for an acknowledge.
        ttl_ns: Age at which a result is too old; None for never.
    """

    times: Times
    recover_ns: int = 2_000_000_000
    hold_ns: int = 0
    granted_by: Grantor = "always"
    acknowledged_by: Acknowledger = "either"
    auto_restart: bool = False
    needs_result: bool = True
    judges_results: bool = True
    remote_latch: bool = True
    ttl_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Authority:
    """Everything the next decision depends on besides the facts; every ``_ns`` is monotonic.

    Args:
        state: Who rules.
        since_ns: When the state was entered.
        reason: Why, for people; in INHIBITED and FAILSAFE what keeps it there, or kept it last.
        fault: What is wrong now; None if nothing is.
        clear_ns: Since when nothing fails; 0 while something does.
        heartbeat: The last heartbeat, 1..65535; 0: none since the start.
        beaten_ns: When it was decided.
        lane_ns: Sign of life of the lane at that heartbeat.
        plc_ns: When the PLC's words had been read at that heartbeat.
        decided_ns: When the last decision was made.
        suspended_ns: Time that the machine had been suspended until then.
        newest: Number of the newest result that was dealt with.
        owed: Whether a fault has not been acknowledged.
        latched: Whether the PLC was seen waiting for this acknowledge.
        pressed: Whether a person gave this acknowledge here.
        armed: Whether the PLC's acknowledge was seen released, so that its rising edge would count.
        mark: Heartbeat when the state was entered: what the PLC echoes after it has seen the state.
        heard: Whether the PLC has given back a later one: it knows of the state.
        first: The first heartbeat, 1..65535. Two that write to one PLC by mistake begin far apart, so that it
            trusts neither.
    """

    state: State = State.INHIBITED
    since_ns: int = 0
    reason: str = "nothing has worked yet"
    fault: Fault | None = None
    clear_ns: int = 0
    heartbeat: int = 0
    beaten_ns: int = 0
    lane_ns: int = 0
    plc_ns: int = 0
    decided_ns: int = 0
    suspended_ns: int = 0
    newest: int = 0
    owed: bool = False
    latched: bool = False
    pressed: bool = False
    armed: bool = False
    mark: int = 0
    heard: bool = False
    first: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Args:
        authority: State to go on from.
        content: What the PLC has to get.
        beat: Whether the heartbeat has advanced.
        fresh: Whether the newest result is to be passed on.
    """

    authority: Authority
    content: Content
    beat: bool = False
    fresh: bool = False


def limits_of(output: OutputConfig, times: Times) -> Limits:
    """Return the rules of an output."""
    triggered = output.interface is not None and output.interface.mode == "triggered"
    ages = [value.ttl_s for value in output.values if value.ttl_s is not None]
    return Limits(
        times=times,
        recover_ns=round(output.recover_hold_s * 1e9),
        hold_ns=round(output.hold_s * 1e9),
        granted_by=output.granted_by,
        acknowledged_by=output.acknowledged_by,
        auto_restart=output.auto_restart,
        needs_result=not triggered,
        judges_results=not triggered,
        remote_latch=output.interface is not None,
        ttl_ns=round(min(ages) * 1e9) if ages else None,
    )


def resumed(state: str, *, released: bool, asked: bool) -> Authority:
    """Return where an output begins that another process, or another configuration of it, had before.

    What was owed then is owed still; and who died while it ruled has failed.

    Args:
        state: Name of the state it was left in; empty for none.
        released: Whether it was left in good order.
        asked: Whether an acknowledge was wanted then.
    """
    ruled = state not in ("", State.INHIBITED.name, State.READY.name)
    return Authority(owed=asked or (ruled and not released))


def decide(facts: Facts, authority: Authority, now_ns: int, limits: Limits) -> Decision:
    """Return what an output has to do.

    Args:
        facts: The facts.
        authority: What the last decision left.
        now_ns: Monotonic time, ns.
        limits: Rules of the output.
    """
    found = _find(facts, authority, now_ns, limits)
    authority = _note(facts, authority, found, now_ns)
    # Ends: the facts stay as they are meanwhile, and no two of them lead back to where one came from.
    while (trigger := _trigger(facts, authority, found, now_ns, limits)) is not None:
        target = after(authority.state, trigger)
        if target is authority.state:
            break
        authority = _enter(facts, authority, target, trigger, found, now_ns)
    fresh = False
    result = facts.result
    if authority.state is State.ACTIVE and result is not None and result.number > authority.newest:
        fresh = True
        authority = replace(authority, newest=result.number)
    authority, beat = _beat(facts, authority, now_ns, limits)
    return Decision(authority, _content(facts, authority), beat, fresh)


def _find(facts: Facts, authority: Authority, now_ns: int, limits: Limits) -> Found | None:
    state = authority.state
    past = Past(
        decided_ns=authority.decided_ns,
        suspended_ns=authority.suspended_ns,
        echoed_since_ns=authority.since_ns if state in (State.ACTIVE, State.HOLD) else 0,
        watched=state in (State.ACTIVE, State.HOLD, State.FAILSAFE, State.ACK_REQUIRED),
    )
    judged = facts if limits.judges_results else replace(facts, result=None)
    return find(judged, past, now_ns, limits.times, ttl_ns=limits.ttl_ns)


def _note(facts: Facts, authority: Authority, found: Found | None, now_ns: int) -> Authority:
    """Take the facts over that later decisions need."""
    noted = replace(
        authority,
        reason=_reason_now(authority, found),
        fault=None if found is None else found.fault,
        clear_ns=0 if found is not None else authority.clear_ns or now_ns,
        decided_ns=now_ns,
        suspended_ns=facts.suspended_ns,
    )
    plc = facts.plc
    if plc is not None and plc.echo is not None and is_ahead(plc.echo, noted.mark):
        noted = replace(noted, heard=True)  # noted at once: counters come round
    if noted.state is not State.ACK_REQUIRED or plc is None:
        return noted
    return replace(
        noted,
        latched=noted.latched or plc.latched,
        pressed=noted.pressed or facts.pressed,
        armed=noted.armed or not plc.acknowledging,
    )


def _reason_now(authority: Authority, found: Found | None) -> str:
    """Return why an output does not act: in two states what keeps it may change while the state stays.

    That somebody stood still explains what is found right after it, and is kept.
    """
    fault = None if found is None else found.fault
    if fault is authority.fault or authority.fault in (Fault.LAG, Fault.CLOCK):
        return authority.reason
    if found is not None and authority.state in (State.INHIBITED, State.FAILSAFE):
        return found.reason
    return NO_RESULT_YET if authority.state is State.INHIBITED else authority.reason


def _trigger(
    facts: Facts, authority: Authority, found: Found | None, now_ns: int, limits: Limits
) -> Trigger | None:
    state, plc = authority.state, facts.plc
    if facts.manual or state is State.MANUAL:
        return Trigger.TAKEN if facts.manual else Trigger.RETURNED
    if found is not None:
        return _of_fault(authority, found, now_ns, limits)
    assert plc is not None  # else it is a fault
    if state is State.INHIBITED:
        # The PLC has to have been told that we start, and say so: only then its latch is known.
        told = 0 < facts.safe_ns < plc.seen_ns and not plc.echo
        proven = told and _is_proven(facts, limits)
        return Trigger.PROVEN if proven else None
    if state is State.FAILSAFE:
        return _of_recovery(facts, authority, now_ns, limits)
    if state is State.ACK_REQUIRED:
        return Trigger.ACKNOWLEDGED if _is_acknowledged(authority, plc, limits) else None
    if plc.latched and _latch_counts(authority, plc, now_ns, limits):
        return Trigger.PLC_LATCHED
    return _of_grant(facts, authority, plc, limits)


def _of_fault(authority: Authority, found: Found, now_ns: int, limits: Limits) -> Trigger:
    """Return whether to wait for what may come back, or to fall safe at once."""
    waits = found.fault.rides_through and limits.hold_ns > 0
    if waits and authority.state is State.ACTIVE:
        return Trigger.MISSING
    if waits and authority.state is State.HOLD and now_ns - authority.since_ns <= limits.hold_ns:
        return Trigger.MISSING
    return Trigger.FAULT


def _of_recovery(facts: Facts, authority: Authority, now_ns: int, limits: Limits) -> Trigger | None:
    if now_ns - authority.clear_ns < limits.recover_ns or not facts.safe_ns:
        return None
    return Trigger.RESTARTED if limits.auto_restart else Trigger.CLEARED


def _of_grant(facts: Facts, authority: Authority, plc: Plc, limits: Limits) -> Trigger | None:
    granted = _is_granted(facts, plc, limits)
    if authority.state is not State.READY:
        on = Trigger.MENDED if authority.state is State.HOLD else None
        return on if granted else Trigger.REVOKED
    if authority.owed:
        return Trigger.OWED
    # A PLC that was asked to let go of its latch may not have answered yet.
    return Trigger.GRANTED if granted and not plc.latched and _is_proven(facts, limits) else None


def _is_proven(facts: Facts, limits: Limits) -> bool:
    return facts.result is not None or not limits.needs_result


def _is_granted(facts: Facts, plc: Plc, limits: Limits) -> bool:
    if not plc.enabled:
        return False
    if limits.granted_by == "plc":
        return plc.granted
    return limits.granted_by == "always" or facts.granted


def _is_acknowledged(authority: Authority, plc: Plc, limits: Limits) -> bool:
    """Return whether somebody who may has acknowledged, and the PLC knows that it was asked for."""
    if limits.acknowledged_by != "operator":
        if authority.armed and plc.acknowledging:
            return True
        if not limits.remote_latch and authority.latched and not plc.latched:
            return True  # a latch of its own, which it has taken back
    if limits.acknowledged_by == "plc" or not authority.pressed:
        return False
    if limits.remote_latch:
        # It lets go of its latch when the question disappears, so it must have seen the question.
        return authority.heard
    return not plc.latched


def _latch_counts(authority: Authority, plc: Plc, now_ns: int, limits: Limits) -> bool:
    """Return whether a latch stands after the PLC has seen in which state we are.

    It was acknowledged a moment ago: what was read may be older than that.
    """
    if authority.state is not State.READY or not limits.remote_latch or plc.echo is None:
        return True
    patience_ns = round(_GRACE_TIMEOUTS * limits.times.plc_timeout_ms * _MS)
    return authority.heard or now_ns - authority.since_ns > patience_ns


def _enter(
    facts: Facts,
    authority: Authority,
    target: State,
    trigger: Trigger,
    found: Found | None,
    now_ns: int,
) -> Authority:
    by_fault = found is not None and trigger in (Trigger.FAULT, Trigger.MISSING)
    reason = found.reason if found is not None and by_fault else WORDS[trigger]
    # Also what the PLC alone has latched: it may lose that before the acknowledge, as by its own restart.
    owed = target in (State.FAILSAFE, State.ACK_REQUIRED) or (
        authority.owed and trigger not in (Trigger.ACKNOWLEDGED, Trigger.RESTARTED)
    )
    newest = authority.newest
    if target is State.ACTIVE and trigger is not Trigger.MENDED and facts.result is not None:
        # What was judged before authority came back is history: only newer results are passed on.
        newest = facts.result.number
    return replace(
        authority,
        state=target,
        since_ns=now_ns,
        reason=reason,
        newest=newest,
        owed=owed,
        latched=trigger is Trigger.PLC_LATCHED,
        pressed=False,
        armed=False,
        mark=authority.heartbeat or authority.first,
        heard=False,
    )


_BEATING: Final = frozenset({State.READY, State.ACTIVE, State.HOLD, State.ACK_REQUIRED})


def _beat(facts: Facts, authority: Authority, now_ns: int, limits: Limits) -> tuple[Authority, bool]:
    plc = facts.plc
    if authority.state not in _BEATING or plc is None:
        return authority, False
    due = now_ns - authority.beaten_ns >= limits.times.heartbeat_ms * _MS
    if not due or facts.lane_ns <= authority.lane_ns or plc.seen_ns <= authority.plc_ns:
        return authority, False
    beaten = replace(
        authority,
        heartbeat=following(authority.heartbeat) if authority.heartbeat else authority.first,
        beaten_ns=now_ns,
        lane_ns=facts.lane_ns,
        plc_ns=plc.seen_ns,
    )
    return beaten, True


def _content(facts: Facts, authority: Authority) -> Content:
    if facts.releasing:
        return Content.RELEASE
    if authority.state is State.ACTIVE:
        return Content.DRIVE
    if authority.state is State.HOLD:
        return Content.HOLD
    return Content.MANUAL if authority.state is State.MANUAL else Content.SAFE
