"""Decides what an output may write, from facts alone; pure, and the only place that does (architecture §3.4).

Nothing here trusts a single source: the heartbeat advances only when the lane, the link and this decision
have all been seen to move since the last one, so a frozen part of the chain never looks alive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from edge_opcua.core.values import Verdict
from edge_opcua.writeback.mailbox import Code, Mailbox, next_heartbeat
from edge_opcua.writeback.states import State, Trigger, after

MOST_WRITE_FAILURES: Final = 3
SAFE: Final = Mailbox()


@dataclass(frozen=True, slots=True)
class Limits:
    """Times of one output, ns.

    Args:
        heartbeat_ns: Period of the heartbeat.
        plc_timeout_ns: Time after which the PLC distrusts us; whatever is silent that long is dead.
        recover_ns: Time that all faults must be gone before an acknowledge is asked for.
        safe_verdict: Verdict that the PLC gets while nothing may be decided.
    """

    heartbeat_ns: int = 100_000_000
    plc_timeout_ns: int = 500_000_000
    recover_ns: int = 2_000_000_000
    safe_verdict: Verdict = Verdict.NOT_DECIDABLE


@dataclass(frozen=True, slots=True)
class Result:
    """The newest result of the pipeline.

    Args:
        number: Grows with each result.
        stroke: Machine cycle it is about.
        verdict: Judgement to pass on.
        code: Its reason.
        score: 1.0 is the limit.
        usable: Whether it may rule at all: not Bad, not late, not a substitute.
        reason: Why it may not.
    """

    number: int
    stroke: int
    verdict: Verdict
    code: Code = Code.OK
    score: float = 0.0
    usable: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plc:
    """What the PLC says of itself and of us.

    Args:
        seen_ns: Monotonic time at which it was read.
        granted: Whether the plant grants authority.
        ack_required: Whether it waits for an acknowledge.
        trusts: Whether it acts on the mailbox.
        alive_ns: Monotonic time its own heartbeat last changed; None if it shows none.
        echo_ns: Monotonic time the echo of ours last changed; None if it shows none.
    """

    seen_ns: int
    granted: bool = True
    ack_required: bool = False
    trusts: bool = False
    alive_ns: int | None = None
    echo_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The facts of one moment.

    Args:
        link_up: Whether the link to the PLC is proven.
        link_ns: Monotonic time of the last good scan of the PLC.
        lane_ns: Monotonic time at which the lane last showed that it lives.
        inputs_good: Whether the source of the pipeline's input is there.
        plc: What the PLC says; None if its tags are not Good.
        result: The newest result, None if there is none yet.
        acknowledged: Whether a person acknowledged since the last decision.
        write_failures: Writes that failed in a row.
    """

    link_up: bool
    link_ns: int
    lane_ns: int
    inputs_good: bool
    plc: Plc | None
    result: Result | None
    acknowledged: bool = False
    write_failures: int = 0


@dataclass(frozen=True, slots=True)
class Authority:
    """Everything the next decision depends on besides the facts.

    Args:
        state: Who rules.
        since_ns: Monotonic time the state was entered.
        reason: Why, for people.
        sent: Content of the mailbox as last decided.
        safe_sent: Whether the safe content has arrived since it was last needed.
        safe_ns: When it arrived.
        beaten_ns: Monotonic time of the last heartbeat.
        lane_ns: Sign of life of the lane at the last heartbeat.
        link_ns: Last good scan at the last heartbeat.
        clear_ns: Monotonic time since which nothing fails; 0 while something does.
        latched: Whether the PLC was seen waiting for this acknowledge.
        pressed: Whether a person gave this acknowledge.
        newest: Number of the newest result that was dealt with.
    """

    state: State = State.INHIBITED
    since_ns: int = 0
    reason: str = "nothing has worked yet"
    sent: Mailbox = SAFE
    safe_sent: bool = False
    safe_ns: int = 0
    beaten_ns: int = 0
    lane_ns: int = 0
    link_ns: int = 0
    clear_ns: int = 0
    latched: bool = False
    pressed: bool = False
    newest: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Args:
        authority: State to go on from, whether or not the write succeeds (see :func:`settled`).
        write: Content to write now, or None.
    """

    authority: Authority
    write: Mailbox | None = None


def decide(request: Request, state: Authority, now_ns: int, limits: Limits) -> Decision:
    """Return what an output has to do.

    Args:
        request: The facts.
        state: What the last decision left.
        now_ns: Monotonic time, ns.
        limits: Times of the output.
    """
    fault = find_fault(request, state, now_ns, limits)
    state = _note(request, state, fault, now_ns)
    # Ends: the facts stay as they are meanwhile, and no two of them lead back to where one came from.
    while (trigger := _trigger(request, state, fault, now_ns, limits)) is not None:
        target = after(state.state, trigger)
        if target is state.state:
            break
        state = _enter(state, target, trigger, fault, request, now_ns)
    if state.state in (State.ACTIVE, State.ACK_REQUIRED):
        return _drive(request, state, now_ns, limits)
    return _stay_safe(request, state, limits)


def settled(state: Authority, written: Mailbox, now_ns: int) -> Authority:
    """Return the authority after a decided write has arrived in the PLC."""
    if written.authority:
        return state
    return replace(state, safe_sent=True, safe_ns=now_ns)


def find_fault(request: Request, state: Authority, now_ns: int, limits: Limits) -> str:
    """Return the first thing that is wrong, in words; empty if nothing is."""
    result = request.result
    fault = _plc_fault(request, state, now_ns, limits)
    if fault:
        return fault
    if now_ns - request.lane_ns > limits.plc_timeout_ns:
        return "the lane shows no life"
    if not request.inputs_good:
        return "the source of the pipeline's input is lost"
    if result is not None and not result.usable:
        return result.reason or "the newest result may not rule"
    if request.write_failures >= MOST_WRITE_FAILURES:
        return f"{request.write_failures} writes failed in a row"
    return ""


def _plc_fault(request: Request, state: Authority, now_ns: int, limits: Limits) -> str:
    plc = request.plc
    if not request.link_up:
        return "no link to the PLC"
    if plc is None:
        return "the PLC's handshake tags are not Good"
    if plc.alive_ns is not None and now_ns - plc.alive_ns > 2 * limits.plc_timeout_ns:
        return "the PLC's heartbeat stands still"
    if plc.echo_ns is None or state.state is not State.ACTIVE:
        return ""
    # A PLC may go on answering reads and not see what we write.
    if now_ns - max(plc.echo_ns, state.since_ns) > 2 * limits.plc_timeout_ns:
        return "the PLC does not give our heartbeat back"
    return ""


def _note(request: Request, state: Authority, fault: str, now_ns: int) -> Authority:
    """Take the facts over that later decisions need."""
    state = replace(state, clear_ns=0 if fault else state.clear_ns or now_ns)
    if state.state is not State.ACK_REQUIRED or request.plc is None:
        return state
    return replace(
        state,
        latched=state.latched or request.plc.ack_required,
        pressed=state.pressed or request.acknowledged,
    )


def _trigger(request: Request, state: Authority, fault: str, now_ns: int, limits: Limits) -> Trigger | None:
    plc, result = request.plc, request.result
    if fault or plc is None:
        return Trigger.FAULT
    if state.state is State.INHIBITED:
        # The PLC has to have been read since it was told that we start: only then its latch is known.
        proven = result is not None and state.safe_sent and plc.seen_ns > state.safe_ns
        return Trigger.PROVEN if proven else None
    if state.state is State.FAILSAFE:
        stable = now_ns - state.clear_ns >= limits.recover_ns
        return Trigger.CLEARED if stable and state.safe_sent else None
    if state.state is State.ACK_REQUIRED:
        given = not plc.ack_required and (state.latched or state.pressed)
        return Trigger.ACKNOWLEDGED if given else None
    if plc.ack_required:
        return Trigger.PLC_LATCHED
    if state.state is State.READY:
        return Trigger.GRANTED if plc.granted else None
    return None if plc.granted else Trigger.REVOKED


_REASONS: Final = {
    Trigger.PROVEN: "the chain works",
    Trigger.GRANTED: "authority is granted",
    Trigger.REVOKED: "the plant has withdrawn authority",
    Trigger.CLEARED: "works again; waits for an acknowledge",
    Trigger.PLC_LATCHED: "the PLC waits for an acknowledge",
    Trigger.ACKNOWLEDGED: "acknowledged",
}


def _enter(
    state: Authority, target: State, trigger: Trigger, fault: str, request: Request, now_ns: int
) -> Authority:
    entered = replace(
        state,
        state=target,
        since_ns=now_ns,
        reason=fault or _REASONS[trigger],
        latched=trigger is Trigger.PLC_LATCHED,
        pressed=False,
    )
    if target is State.ACTIVE:
        # What was judged before authority came back is history: only newer results are passed on.
        newest = request.result.number if request.result is not None else state.newest
        return replace(entered, newest=newest)
    if target is State.READY and trigger is Trigger.PROVEN:
        return entered  # the safe content lies there already
    return replace(entered, safe_sent=False)


def _drive(request: Request, state: Authority, now_ns: int, limits: Limits) -> Decision:
    """Keep the heartbeat going; in ACTIVE pass results on, in ACK_REQUIRED nothing but NOT_DECIDABLE.

    A PLC that waits for an acknowledge takes it only from an edge that claims authority; one that has not
    latched would take the claim at its word, so it is made only to the former.
    """
    assert request.plc is not None
    sent, result = state.sent, request.result
    empty = _safe(sent, limits)
    fresh = state.state is State.ACTIVE and result is not None and result.number > state.newest
    if fresh and result is not None:
        wanted = Mailbox(
            sent.heartbeat,
            authority=True,
            verdict=result.verdict,
            code=result.code,
            sequence=result.stroke,
            score=result.score,
        )
        state = replace(state, newest=result.number)
    elif state.state is State.ACTIVE:
        passed_on = sent.authority and sent.code is not Code.NO_AUTHORITY
        wanted = sent if passed_on else replace(empty, authority=True)
    else:
        wanted = replace(empty, authority=request.plc.ack_required and request.plc.granted)
    due = now_ns - state.beaten_ns >= limits.heartbeat_ns
    if due and request.lane_ns > state.lane_ns and request.link_ns > state.link_ns:
        wanted = replace(wanted, heartbeat=next_heartbeat(sent.heartbeat))
        state = replace(state, beaten_ns=now_ns, lane_ns=request.lane_ns, link_ns=request.link_ns)
    if wanted == sent:
        return Decision(state)
    return Decision(replace(state, sent=wanted), wanted)


def _stay_safe(request: Request, state: Authority, limits: Limits) -> Decision:
    """Write the safe content until it has arrived once; the heartbeat stays where it is."""
    if state.safe_sent or not request.link_up:
        return Decision(state)
    safe = _safe(state.sent, limits)
    return Decision(replace(state, sent=safe), safe)


def _safe(sent: Mailbox, limits: Limits) -> Mailbox:
    """Return the content without authority that follows another one."""
    return Mailbox(sent.heartbeat, verdict=limits.safe_verdict, sequence=sent.sequence)


def released(state: Authority, limits: Limits) -> Mailbox:
    """Return what the PLC gets before this process ends: no authority, nothing decided."""
    return _safe(state.sent, limits)
