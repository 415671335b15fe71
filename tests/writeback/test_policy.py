"""The policy, decision by decision (architecture §3.4, reference plc.md §6.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edge_opcua.core.values import Verdict
from edge_opcua.writeback.mailbox import Code, Mailbox
from edge_opcua.writeback.policy import (
    MOST_WRITE_FAILURES,
    Authority,
    Decision,
    Limits,
    Plc,
    Request,
    Result,
    decide,
    released,
    settled,
)
from edge_opcua.writeback.states import TABLE, State, Trigger, after

MS = 1_000_000
START = 1_000_000 * MS
LIMITS = Limits()


class Line:
    """A line on which everything works until a test breaks a part of it."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.now_ns = START
        self.authority = Authority()
        self.written: list[Mailbox] = []
        self.facts: dict[str, Any] = {"link_up": True, "inputs_good": True, "write_failures": 0}
        self.plc: dict[str, Any] = {}
        self.plc_there = True
        self.result: Result | None = Result(1, 100, Verdict.OK)
        self.lane_lives = self.link_lives = True
        self.lane_ns = self.link_ns = START
        self.writes_arrive = True

    def request(self, *, acknowledged: bool = False) -> Request:
        if self.lane_lives:
            self.lane_ns = self.now_ns
        if self.link_lives:
            self.link_ns = self.now_ns
        plc = Plc(self.now_ns, **self.plc) if self.plc_there else None
        return Request(
            link_ns=self.link_ns,
            lane_ns=self.lane_ns,
            plc=plc,
            result=self.result,
            acknowledged=acknowledged,
            **self.facts,
        )

    def step(self, after_ms: float = 25, *, acknowledged: bool = False) -> Decision:
        self.now_ns += round(after_ms * MS)
        decision = decide(self.request(acknowledged=acknowledged), self.authority, self.now_ns, self.limits)
        self.authority = decision.authority
        if decision.write is not None and self.writes_arrive:
            self.written.append(decision.write)
            self.authority = settled(self.authority, decision.write, self.now_ns)
        return decision

    def run(self, duration_ms: float) -> list[Mailbox]:
        """Decide every 25 ms; return what was written meanwhile."""
        before = len(self.written)
        for _ in range(round(duration_ms / 25)):
            self.step()
        return self.written[before:]

    @property
    def rules(self) -> str:
        return self.authority.state.name

    def judge(self, verdict: Verdict, **more: Any) -> None:
        """Let the lane publish a new result."""
        number = 1 if self.result is None else self.result.number + 1
        self.result = Result(number, 100 + number, verdict, **more)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def active(line: Line) -> Line:
    line.run(500)
    assert line.rules == "ACTIVE"
    return line


def test_the_table_refuses_by_default() -> None:
    for state in State:
        for trigger in Trigger:
            assert after(state, trigger) is TABLE.get((state, trigger), state)
    assert {state for (state, _), target in TABLE.items() if target is State.ACTIVE} == {
        State.READY,
        State.HOLD,
    }
    ways_out = {trigger for (state, trigger) in TABLE if state is State.FAILSAFE}
    assert ways_out == {Trigger.CLEARED, Trigger.RESTARTED, Trigger.TAKEN}


def test_the_first_thing_a_plc_gets_says_restarted_and_not_decidable(line: Line) -> None:
    line.result = None
    assert line.run(300) == [Mailbox(heartbeat=0, authority=False, verdict=Verdict.NOT_DECIDABLE)]
    assert line.rules == "INHIBITED"


def test_authority_begins_with_the_first_good_result(line: Line) -> None:
    line.result = None
    line.run(1_000)
    line.judge(Verdict.OK)
    line.step()
    assert line.rules == "ACTIVE"
    assert line.written[-1].authority


def test_the_plc_must_have_been_read_since_it_was_told_that_we_start(line: Line) -> None:
    line.step()
    request = line.request()
    assert request.plc is not None
    old = replace(request, plc=replace(request.plc, seen_ns=line.authority.safe_ns))
    assert decide(old, line.authority, line.now_ns + 1, LIMITS).authority.state is State.INHIBITED


def test_what_was_judged_before_authority_is_history(active: Line) -> None:
    assert all(mailbox.verdict is Verdict.NOT_DECIDABLE for mailbox in active.written)


def test_a_new_verdict_is_written_at_once(active: Line) -> None:
    active.judge(Verdict.NOT_OK, score=1.7)
    written = active.step(1).write
    assert written is not None
    assert (written.verdict, written.sequence, written.score) == (Verdict.NOT_OK, 102, 1.7)
    assert (written.authority, written.code) == (True, Code.OK)


def test_a_verdict_is_repeated_with_the_heartbeat_not_between(active: Line) -> None:
    active.judge(Verdict.OK)
    active.step(1)
    written = active.run(1_000)
    assert {mailbox.verdict for mailbox in written} == {Verdict.OK}
    assert [mailbox.heartbeat for mailbox in written] == sorted({mailbox.heartbeat for mailbox in written})
    assert 9 <= len(written) <= 11  # every 100 ms


@pytest.mark.parametrize("part", ["lane_lives", "link_lives"])
def test_the_heartbeat_stops_with_any_part_of_the_chain(active: Line, part: str) -> None:
    active.run(100)
    setattr(active, part, False)
    written = active.run(450)  # less than what makes it a fault
    assert len({mailbox.heartbeat for mailbox in written}) <= 1
    assert active.rules == "ACTIVE"


NO_ECHO = "the PLC does not give our heartbeat back"
FAULTS: dict[str, Callable[[Line], None]] = {
    "no link to the PLC": lambda line: line.facts.update(link_up=False),
    "the PLC's handshake tags are not Good": lambda line: setattr(line, "plc_there", False),
    "the lane shows no life": lambda line: setattr(line, "lane_lives", False),
    "the source of the pipeline's input is lost": lambda line: line.facts.update(inputs_good=False),
    "the newest result may not rule": lambda line: line.judge(Verdict.OK, usable=False),
    "late": lambda line: line.judge(Verdict.OK, usable=False, reason="late"),
    "3 writes failed in a row": lambda line: line.facts.update(write_failures=MOST_WRITE_FAILURES),
    "the PLC's heartbeat stands still": lambda line: line.plc.update(alive_ns=line.now_ns - 2_000 * MS),
    NO_ECHO: lambda line: line.plc.update(echo_ns=line.now_ns),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_fault_takes_authority_away_for_good(active: Line, reason: str) -> None:
    FAULTS[reason](active)
    active.run(1_500)
    assert active.rules == "FAILSAFE"
    assert active.authority.reason == reason
    if reason != "no link to the PLC":
        assert not active.written[-1].authority
        assert active.written[-1].verdict is Verdict.NOT_DECIDABLE
    if reason != NO_ECHO:  # which nobody can know while there is no heartbeat
        assert active.run(10_000) == []  # no heartbeat and nothing else


def mend(line: Line) -> None:
    line.facts.update(link_up=True, inputs_good=True, write_failures=0)
    line.plc_there = line.lane_lives = line.link_lives = True
    line.plc.pop("alive_ns", None)
    line.plc.pop("echo_ns", None)
    line.judge(Verdict.OK)


@pytest.mark.parametrize("reason", FAULTS)
def test_after_a_fault_a_person_has_to_acknowledge(active: Line, reason: str) -> None:
    FAULTS[reason](active)
    active.run(1_500)
    mend(active)
    active.run(1_900)
    assert active.rules == ("ACK_REQUIRED" if reason == NO_ECHO else "FAILSAFE")  # not yet stable
    active.run(30_000)
    assert active.rules == "ACK_REQUIRED"
    assert not any(mailbox.authority for mailbox in active.written[-50:])
    active.step(acknowledged=True)
    assert active.rules == "ACTIVE"


def test_an_acknowledge_before_it_is_asked_for_counts_nothing(active: Line) -> None:
    active.facts.update(link_up=False)
    active.step()
    active.step(acknowledged=True)
    mend(active)
    active.step(acknowledged=True)
    active.run(30_000)
    assert active.rules == "ACK_REQUIRED"


def test_while_it_waits_the_plc_sees_life_and_no_verdict(active: Line) -> None:
    active.plc["ack_required"] = True
    active.judge(Verdict.NOT_OK)
    written = active.run(1_000)
    assert active.rules == "ACK_REQUIRED"
    assert len({mailbox.heartbeat for mailbox in written}) >= 9
    assert {mailbox.verdict for mailbox in written} == {Verdict.NOT_DECIDABLE}
    # A PLC that has latched takes the acknowledge only from an edge that claims authority.
    assert all(mailbox.authority for mailbox in written)


def test_a_plc_that_has_not_latched_is_not_asked_for_trust(active: Line) -> None:
    active.lane_lives = False
    active.run(1_000)
    active.lane_lives = True
    active.run(5_000)
    assert active.rules == "ACK_REQUIRED"
    assert not any(mailbox.authority for mailbox in active.run(1_000))


def test_the_plc_may_take_the_acknowledge_itself(active: Line) -> None:
    active.plc["ack_required"] = True
    active.run(500)
    active.plc["ack_required"] = False
    active.step()
    assert active.rules == "ACTIVE"


def test_our_acknowledge_does_not_overrule_the_plc(active: Line) -> None:
    active.plc["ack_required"] = True
    active.run(500)
    active.step(acknowledged=True)
    active.run(500)
    assert active.rules == "ACK_REQUIRED"


def test_a_fault_while_it_waits_forgets_the_acknowledge(active: Line) -> None:
    active.plc["ack_required"] = True
    active.run(500)
    active.step(acknowledged=True)
    active.lane_lives = False
    active.run(1_000)
    assert active.rules == "FAILSAFE"
    active.plc["ack_required"] = False
    active.lane_lives = True
    active.run(5_000)
    assert active.rules == "ACK_REQUIRED"


def test_the_plant_can_withdraw_authority_and_give_it_back(active: Line) -> None:
    active.plc["granted"] = False
    written = active.run(500)
    assert active.rules == "READY"
    assert written == [replace(written[0], authority=False, verdict=Verdict.NOT_DECIDABLE)]
    active.judge(Verdict.OK)
    assert active.run(500) == []
    active.plc["granted"] = True
    active.step()
    assert active.rules == "ACTIVE"
    assert active.written[-1].verdict is Verdict.NOT_DECIDABLE


def test_without_grant_a_plc_that_has_latched_is_not_asked_for_trust(active: Line) -> None:
    active.plc.update(granted=False, ack_required=True)
    written = active.run(500)
    assert active.rules == "ACK_REQUIRED"
    assert not any(mailbox.authority for mailbox in written)


def test_a_latched_plc_is_seen_at_the_first_start(line: Line) -> None:
    line.plc["ack_required"] = True
    line.run(1_000)
    assert line.rules == "ACK_REQUIRED"


def test_a_fault_before_authority_was_ever_given_also_needs_an_acknowledge(line: Line) -> None:
    line.plc["granted"] = False
    line.run(500)
    assert line.rules == "READY"
    line.lane_lives = False
    line.run(1_000)
    assert line.rules == "FAILSAFE"


def test_the_safe_content_is_written_until_it_has_arrived(active: Line) -> None:
    active.writes_arrive = False
    active.lane_lives = False
    active.run(1_000)
    assert all(active.step().write == released(active.authority, LIMITS) for _ in range(5))
    active.lane_lives = True
    active.run(5_000)
    assert active.rules == "FAILSAFE"  # the PLC may not know yet
    active.writes_arrive = True
    active.run(100)
    assert active.rules == "ACK_REQUIRED"


def test_without_a_link_nothing_is_sent(active: Line) -> None:
    active.facts.update(link_up=False)
    assert all(active.step().write is None for _ in range(5))


def test_the_safe_verdict_is_the_configured_one() -> None:
    line = Line(Limits(safe_verdict=Verdict.NOT_OK))
    line.run(500)
    line.lane_lives = False
    line.run(1_000)
    assert line.written[-1].verdict is Verdict.NOT_OK
    assert released(line.authority, line.limits).verdict is Verdict.NOT_OK


def test_the_last_word_takes_authority_away_and_keeps_the_heartbeat(active: Line) -> None:
    last = released(active.authority, LIMITS)
    assert not last.authority
    assert last.heartbeat == active.written[-1].heartbeat


def test_a_plc_that_echoes_is_believed(active: Line) -> None:
    for _ in range(100):
        active.plc.update(alive_ns=active.now_ns, echo_ns=active.now_ns)
        active.step()
    assert active.rules == "ACTIVE"
