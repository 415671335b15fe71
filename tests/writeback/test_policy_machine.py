"""Whatever happens in whatever order: no way from a fault to authority without an acknowledge."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_opcua.core.values import Verdict
from edge_opcua.sim.press import EdgeInterface
from edge_opcua.sim.press import Mailbox as PlcMailbox
from edge_opcua.writeback.mailbox import Mailbox
from edge_opcua.writeback.policy import (
    Authority,
    Limits,
    Plc,
    Request,
    Result,
    decide,
    find_fault,
    settled,
)
from edge_opcua.writeback.states import State

MS = 1_000_000
LIMITS = Limits()


class OutputMachine(RuleBasedStateMachine):
    """The policy against the PLC program of the simulated press, with every part failing at will."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 1_000_000 * MS
        self.authority = Authority()
        self.interface = EdgeInterface()
        self.memory = Mailbox()
        self.link_up = self.lane = self.inputs = self.scanning = self.grant = True
        self.arrives = self.plc_good = True
        self.number = 0
        self.usable = True
        self.verdict = Verdict.OK
        self.link_ns = self.lane_ns = self.seen_ns = self.now_ns
        self.alive_ns = self.echo_ns = self.now_ns
        self.echo = 0
        self.failures = 0
        self.ack_pulse = self.pressed = False
        self.latches = True
        # What must hold: a fault was seen since authority began, and nobody has acknowledged since.
        self.owed = False
        self.was_active = False

    @initialize(latches=st.booleans())
    def a_plc_is_built(self, latches: bool) -> None:
        """Not every PLC has a latch of its own; then ours is the only one."""
        self.latches = latches

    def scan_plc(self) -> None:
        if not self.scanning:
            return
        memory = PlcMailbox.unpack(self.memory.pack())
        self.interface.scan(memory, ack=self.ack_pulse, grant=self.grant, now_s=self.now_ns / 1e9)
        self.ack_pulse = False
        self.alive_ns = self.now_ns
        # A chain of which any part is dead is not trusted for longer than the PLC's own time-out.
        if self.now_ns - min(self.lane_ns, self.link_ns) > LIMITS.plc_timeout_ns + 2 * LIMITS.heartbeat_ns:
            assert not self.interface.trusted
        if self.echo != memory.heartbeat:
            self.echo, self.echo_ns = memory.heartbeat, self.now_ns

    def request(self) -> Request:
        if self.lane:
            self.lane_ns = self.now_ns
        if self.link_up:
            self.link_ns = self.seen_ns = self.now_ns
        plc = Plc(
            self.seen_ns,
            granted=self.grant,
            ack_required=self.interface.ack_required and self.latches,
            trusts=self.interface.trusted,
            alive_ns=self.alive_ns,
            echo_ns=self.echo_ns,
        )
        result = Result(self.number, self.number, self.verdict, usable=self.usable) if self.number else None
        acknowledged, self.pressed = self.pressed, False
        return Request(
            self.link_up,
            self.link_ns,
            self.lane_ns,
            self.inputs,
            plc if self.plc_good else None,
            result,
            acknowledged,
            self.failures,
        )

    @rule(steps=st.integers(1, 60))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.now_ns += 25 * MS
            self.scan_plc()
            self.decide_once()

    def decide_once(self) -> None:
        before = self.authority
        request = self.request()
        waiting = before.state is State.ACK_REQUIRED
        latched = request.plc is not None and request.plc.ack_required
        faulty = bool(find_fault(request, before, self.now_ns, LIMITS))
        decision = decide(request, before, self.now_ns, LIMITS)
        self.authority = decision.authority
        if faulty and self.was_active:
            self.owed = True
        if (
            waiting
            and not faulty
            and not latched
            and (request.acknowledged or before.latched or before.pressed)
        ):
            self.owed = False
        if self.authority.state is State.ACTIVE:
            self.was_active = True
        if decision.write is not None:
            self.check_write(decision.write, latched=latched)
            self.send(decision.write)

    def check_write(self, mailbox: Mailbox, *, latched: bool) -> None:
        """Only ACTIVE passes verdicts on; without it authority is claimed only to a PLC that has latched."""
        if self.authority.state is not State.ACTIVE:
            assert mailbox.verdict is Verdict.NOT_DECIDABLE
            assert not mailbox.authority or (latched and self.authority.state is State.ACK_REQUIRED)

    def send(self, mailbox: Mailbox) -> None:
        if self.link_up and self.arrives:
            self.memory = mailbox
            self.authority = settled(self.authority, mailbox, self.now_ns)
            self.failures = 0
        else:
            self.failures += 1

    @rule(part=st.sampled_from(("link_up", "lane", "inputs", "scanning", "arrives", "plc_good", "grant")))
    def something_breaks(self, part: str) -> None:
        setattr(self, part, False)

    @rule(part=st.sampled_from(("link_up", "lane", "inputs", "scanning", "arrives", "plc_good", "grant")))
    def something_is_mended(self, part: str) -> None:
        setattr(self, part, True)

    @rule(verdict=st.sampled_from((Verdict.OK, Verdict.NOT_OK, Verdict.NOT_DECIDABLE)), usable=st.booleans())
    def the_lane_judges(self, verdict: Verdict, usable: bool) -> None:
        if self.lane:
            self.number, self.verdict, self.usable = self.number + 1, verdict, usable

    @rule()
    def all_is_well_again(self) -> None:
        for part in ("link_up", "lane", "inputs", "scanning", "arrives", "plc_good", "grant"):
            setattr(self, part, True)
        self.number, self.usable = self.number + 1, True
        self.time_passes(200)

    @rule(
        part=st.sampled_from(("link_up", "lane", "inputs", "plc_good", "arrives")), steps=st.integers(1, 50)
    )
    def something_fails_for_a_while(self, part: str, steps: int) -> None:
        setattr(self, part, False)
        self.time_passes(steps)
        self.all_is_well_again()

    @rule(at_plc=st.booleans(), here=st.booleans())
    def somebody_acknowledges(self, at_plc: bool, here: bool) -> None:
        self.ack_pulse = at_plc
        self.pressed = here

    @rule()
    def the_edge_is_killed_and_starts_again(self) -> None:
        self.authority = Authority()
        self.failures = 0
        self.owed = self.was_active = False  # from here the PLC's own latch is what counts

    @invariant()
    def nobody_has_authority_who_owes_an_acknowledge(self) -> None:
        if self.authority.state is State.ACTIVE:
            assert not self.owed

    @invariant()
    def heartbeat_zero_only_before_the_first(self) -> None:
        if self.authority.beaten_ns:
            assert self.authority.sent.heartbeat > 0


OutputMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestOutput = OutputMachine.TestCase


def test_a_replaced_authority_is_a_new_one() -> None:
    # Authority is frozen: a decision can never change the state somebody else still holds.
    first = Authority()
    assert replace(first, newest=3).newest == 3
    assert first.newest == 0
