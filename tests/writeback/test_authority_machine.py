"""Whatever happens in whatever order: no way from a fault to an active output without the acknowledge."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_opcua.config.eai import is_ahead
from edge_opcua.config.reaction import Times
from edge_opcua.writeback.decision import Authority, Content, Decision, Limits, decide
from edge_opcua.writeback.faults import Facts, Past, Plc, Result, find
from edge_opcua.writeback.states import State

MS = 1_000_000
TIMES = Times(100, 500, 300, 500, 500, 250, 500)
PARTS = ("link", "lane", "source", "scanning", "good", "arrives")


class OutputMachine(RuleBasedStateMachine):
    """The decision against a PLC that latches, with every part failing at will."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1_000_000 * MS
        self.limits = Limits(TIMES)
        self.authority = Authority()
        self.link = self.lane = self.source = self.scanning = self.good = self.arrives = True
        self.granted = self.enabled = True
        self.manual = False
        self.number = 0
        self.usable = True
        self.link_ns = self.lane_ns = self.input_ns = self.seen_ns = self.now_ns
        self.alive_ns = self.echo_ns = self.now_ns
        self.suspended_ns = 0
        self.safe_ns = 0
        self.heartbeat_sent = self.echo = 0
        self.failures = 0
        # The PLC.
        self.latched = self.in_use = self.used = False
        self.clearing = False
        self.fresh_ns = self.scanned_ns = 0
        self.heard = (0, Content.SAFE, State.INHIBITED)
        # What must hold.
        self.owed = False
        self.pressed = False
        self.told = self.heard

    @initialize(
        hold=st.sampled_from((0, 500 * MS)),
        granted_by=st.sampled_from(("always", "plc", "operator")),
        acknowledged_by=st.sampled_from(("either", "plc", "operator")),
        auto_restart=st.booleans(),
        remote=st.booleans(),
    )
    def an_output_is_configured(
        self, hold: int, granted_by: str, acknowledged_by: str, auto_restart: bool, remote: bool
    ) -> None:
        self.limits = Limits(
            TIMES,
            recover_ns=1000 * MS,
            hold_ns=hold,
            granted_by=granted_by,  # type: ignore[arg-type]
            acknowledged_by=acknowledged_by,  # type: ignore[arg-type]
            auto_restart=auto_restart,
            remote_latch=remote,
        )

    # --- the PLC -------------------------------------------------------------------------------------

    def scan_plc(self) -> None:
        """Do what the exported function block does, as far as authority is concerned."""
        if not self.scanning:
            return
        self.alive_ns = self.now_ns
        heartbeat, content, state = self.told
        if heartbeat != self.heard[0]:
            self.fresh_ns = self.now_ns if is_ahead(heartbeat, self.heard[0]) else 0
        if self.now_ns - self.scanned_ns >= TIMES.plc_timeout_ms * MS:
            self.fresh_ns = 0  # a program that stood still itself believes nothing it finds
        self.scanned_ns = self.now_ns
        asked_before, self.heard = self.heard[2] is State.ACK_REQUIRED, self.told
        fresh = self.now_ns - self.fresh_ns <= TIMES.plc_timeout_ms * MS
        driving = content in (Content.DRIVE, Content.HOLD)
        sound = fresh and driving and self.granted and self.enabled
        if self.in_use and not sound:
            self.latched = True
        if self.limits.remote_latch and fresh and asked_before and state is not State.ACK_REQUIRED:
            self.latched = False
        if state is not State.ACK_REQUIRED:
            self.clearing = False
        self.in_use = sound and not self.latched
        if self.echo != heartbeat:
            self.echo, self.echo_ns = heartbeat, self.now_ns
        dead_ns = min(self.lane_ns, self.link_ns)
        if self.now_ns - dead_ns > (TIMES.plc_timeout_ms + 3 * TIMES.heartbeat_ms) * MS:
            assert not self.in_use, "a chain of which a part is dead must not be trusted"

    def plc(self) -> Plc:
        return Plc(
            self.seen_ns,
            enabled=self.enabled,
            granted=self.granted,
            latched=self.latched,
            trusts=self.in_use,
            acknowledging=self.clearing,
            alive_ns=self.alive_ns,
            echo_ns=self.echo_ns,
            echo=self.echo if self.limits.remote_latch else None,
        )

    # --- deciding ------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        if self.lane:
            self.lane_ns = self.now_ns
        if self.link:
            self.link_ns = self.seen_ns = self.now_ns
        if self.source:
            self.input_ns = self.now_ns
        pressed, self.pressed = self.pressed, False
        return Facts(
            link_up=self.link,
            link_ns=self.link_ns,
            lane_ns=self.lane_ns,
            input_ns=self.input_ns,
            plc=self.plc() if self.good else None,
            result=Result(self.number, self.usable, at_ns=self.now_ns) if self.number else None,
            pressed=pressed,
            granted=self.granted,
            manual=self.manual,
            failures=self.failures,
            suspended_ns=self.suspended_ns,
            safe_ns=self.safe_ns,
        )

    def decide_once(self) -> None:
        before = self.authority
        facts = self.facts()
        watched = before.state not in (State.INHIBITED, State.READY, State.MANUAL)
        past = Past(before.decided_ns, before.suspended_ns, 0, watched=watched)
        fault = find(facts, past, self.now_ns, TIMES)
        decision = decide(facts, before, self.now_ns, self.limits)
        self.authority = after = decision.authority
        self.check(before, decision, facts)
        driving = (State.ACTIVE, State.HOLD)
        waits = self.limits.hold_ns > 0 and fault is not None and fault.fault.rides_through
        if before.state in (*driving, State.READY) and fault is not None and not facts.manual and not waits:
            self.owed = True
        if after.state is State.FAILSAFE:
            self.owed = True
        self.send(decision)

    def check(self, before: Authority, decision: Decision, facts: Facts) -> None:
        """What may lift the debt, and what the heartbeat stands for."""
        after = decision.authority
        if before.state is State.ACK_REQUIRED and after.state in (State.READY, State.ACTIVE):
            here = (before.pressed or facts.pressed) and self.limits.acknowledged_by != "plc"
            there = self.limits.acknowledged_by != "operator" and (
                self.clearing or (not self.limits.remote_latch and not self.latched)
            )
            assert here or there
            self.owed = False
        if before.state is State.FAILSAFE and after.state not in (State.FAILSAFE, State.MANUAL):
            assert after.clear_ns
            assert self.now_ns - after.clear_ns >= self.limits.recover_ns
            if after.state in (State.READY, State.ACTIVE):
                assert self.limits.auto_restart
                self.owed = False
        if decision.beat:
            assert facts.lane_ns > before.lane_ns
            assert facts.plc is not None
            assert facts.plc.seen_ns > before.plc_ns
            assert self.now_ns - before.beaten_ns >= TIMES.heartbeat_ms * MS
            assert after.state not in (State.INHIBITED, State.FAILSAFE, State.MANUAL)
        else:
            assert after.heartbeat == before.heartbeat
        if decision.fresh:
            assert after.state is State.ACTIVE
            assert facts.result is not None
            assert facts.result.usable
            assert facts.result.number > before.newest
        if after.state is not before.state:
            self.safe_ns = 0

    def send(self, decision: Decision) -> None:
        if not self.link:
            return
        if not self.arrives:
            self.failures += 1
            return
        self.failures = 0
        self.told = (decision.authority.heartbeat, decision.content, decision.authority.state)
        if decision.content is Content.SAFE and not self.safe_ns:
            self.safe_ns = self.now_ns

    # --- what happens --------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 60))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.now_ns += 25 * MS
            self.scan_plc()
            self.decide_once()

    @rule(part=st.sampled_from(PARTS))
    def something_breaks(self, part: str) -> None:
        setattr(self, part, False)

    @rule(part=st.sampled_from((*PARTS, "granted", "enabled")), steps=st.integers(1, 50))
    def something_fails_for_a_while(self, part: str, steps: int) -> None:
        setattr(self, part, False)
        self.time_passes(steps)
        self.all_is_well_again()

    @rule()
    def all_is_well_again(self) -> None:
        for part in (*PARTS, "granted", "enabled"):
            setattr(self, part, True)
        self.number, self.usable = self.number + 1, True
        self.time_passes(120)

    @rule(usable=st.booleans())
    def the_lane_judges(self, usable: bool) -> None:
        if self.lane:
            self.number, self.usable = self.number + 1, usable

    @rule(frozen_ms=st.integers(10, 5000))
    def we_stand_still(self, frozen_ms: int) -> None:
        for _ in range(frozen_ms // 25):
            self.now_ns += 25 * MS
            self.scan_plc()

    @rule(asleep_s=st.floats(0.01, 1000.0))
    def the_machine_sleeps(self, asleep_s: float) -> None:
        self.suspended_ns += round(asleep_s * 1e9)

    @rule()
    def a_person_acknowledges_here(self) -> None:
        self.pressed = True

    @rule()
    def somebody_acknowledges_at_the_plc(self) -> None:
        if self.heard[2] is State.ACK_REQUIRED and self.scanning:
            self.clearing, self.latched = True, False

    @rule(manual=st.booleans())
    def a_person_takes_over_or_gives_back(self, manual: bool) -> None:
        self.manual = manual

    @rule(part=st.sampled_from(PARTS), steps=st.integers(1, 20))
    def a_person_has_it_while_something_fails_and_gives_it_back(self, part: str, steps: int) -> None:
        self.something_fails_for_a_while(part, 40)
        self.manual = True
        self.time_passes(steps)
        self.manual = False
        self.time_passes(steps)

    @rule(granted=st.booleans(), enabled=st.booleans())
    def the_plant_grants_or_not(self, granted: bool, enabled: bool) -> None:
        self.granted, self.enabled = granted, enabled

    @rule()
    def the_edge_is_killed_and_starts_again(self) -> None:
        self.authority = Authority()
        self.failures = self.safe_ns = 0
        self.owed = self.manual = False  # from here the PLC's own latch is what counts

    @invariant()
    def nobody_is_active_who_owes_an_acknowledge(self) -> None:
        if self.authority.state is State.ACTIVE:
            assert not self.owed
            assert not self.authority.owed

    @invariant()
    def nobody_acts_for_a_person(self) -> None:
        if self.manual and self.authority.state is State.MANUAL:
            assert not self.authority.pressed

    @invariant()
    def the_plc_acts_on_nobody_it_has_latched(self) -> None:
        assert not (self.in_use and self.latched)


OutputMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
TestOutput = OutputMachine.TestCase


def test_an_authority_is_never_changed_behind_anybodys_back() -> None:
    first = Authority()
    assert replace(first, newest=3).newest == 3
    assert first.newest == 0
