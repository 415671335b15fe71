"""Triggers, results and commands with everything lost at will: one answer each, and never a deadlock."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from edge_opcua.config.eai import QUEUE, Ctrl, ResultCode, Stat, following
from edge_opcua.writeback.handshake import Answer, Control, Exchange, News, Waits, bits, step

MS = 1_000_000
WAITS = Waits(answer_ns=300 * MS, ack_ns=200 * MS)
PLC_GIVES_UP_NS = 400 * MS


class HandshakeMachine(RuleBasedStateMachine):
    """The edge's side against a PLC that keeps the four phases, and loses words as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = 0
        self.edge = Exchange()
        self.takes = self.goes_on = self.enabled = True
        self.control_lost = self.status_lost = False
        self.buffered = False
        # The PLC.
        self.heartbeat = 1
        self.seq = 0
        self.raised = self.acking = self.waiting = False
        self.asked_ns = 0
        self.stat = Stat(0)
        self.shown_seq = 0
        self.got = 0
        # The edge's view.
        self.control = Control()
        self.pending: list[Answer] = []
        self.answered: set[tuple[int, int]] = set()
        self.era = 0
        self.showed: tuple[int, int] | None = None
        self.taken: set[tuple[int, int]] = set()

    @initialize(buffered=st.booleans())
    def a_plc_is_built(self, buffered: bool) -> None:
        self.buffered = buffered

    # --- one step of each side -----------------------------------------------------------------------

    def scan_plc(self) -> None:
        self.heartbeat = following(self.heartbeat)
        if not self.enabled:
            self.raised = self.acking = self.waiting = False
            return
        if Stat.TRIGGER_ACK in self.stat:
            self.raised = False
        valid = Stat.RESULTS_VALID in self.stat
        if self.waiting and valid and self.shown_seq == self.seq:
            self.waiting, self.acking = False, True
            self.raised = False
            self.got += 1
        elif self.waiting and self.now_ns - self.asked_ns > PLC_GIVES_UP_NS:
            self.waiting = self.raised = False
        if self.acking and not valid:
            self.acking = False  # a result it no longer waits for is left alone, as the exported block does

    def words(self) -> Control:
        ctrl = Ctrl(0)
        flags = {
            Ctrl.ENABLE: self.enabled,
            Ctrl.TRIGGER: self.raised,
            Ctrl.RESULTS_ACK: self.acking,
            Ctrl.BUFFER_RESULTS: self.buffered,
        }
        for flag, is_on in flags.items():
            if is_on:
                ctrl |= flag
        return Control(ctrl, heartbeat=self.heartbeat, trigger_seq=self.seq)

    def step_edge(self) -> None:
        if not self.control_lost:
            self.control = self.words()
        before = self.edge
        answers, self.pending = self.pending, []
        self.edge = after = step(
            before,
            self.control,
            News(answers, self.seq),
            self.now_ns,
            WAITS,
            takes=self.takes and self.goes_on,
            goes_on=self.goes_on,
        )
        if after.asked is not None and after.asked != before.asked:
            self.taken.add((self.era, after.asked))
        self.check(before, after)
        if not self.status_lost:
            self.stat = bits(after, self.control, takes=self.takes and self.goes_on, triggered=True)
            self.shown_seq = after.sequence

    def check(self, before: Exchange, after: Exchange) -> None:
        assert after.waiting <= QUEUE + 1
        if after.valid is not None and after.valid is not before.valid:
            number, answer = after.valid
            assert number == answer.cycle, "a result belongs to the trigger it answers"
            assert (self.era, number) in self.taken, "only what was asked for is answered"
            assert (self.era, number) not in self.answered, "and once"
            self.answered.add((self.era, number))
            assert after.sequence == number
        if not self.goes_on or Ctrl.ENABLE not in self.control.ctrl:
            assert after.valid is None
            assert after.asked is None
            assert not after.queue
        if after.taken:
            assert Ctrl.TRIGGER in self.control.ctrl
        assert not (after.taken and after.missed)

    def tick(self, *, trigger: bool = False) -> None:
        self.now_ns += 20 * MS
        self.scan_plc()
        ready = Stat.TRIGGER_READY in self.stat and not self.waiting and not self.acking
        if trigger and self.enabled and ready and not self.raised:
            self.seq = following(self.seq)
            self.raised = self.waiting = True
            self.asked_ns = self.now_ns
        self.step_edge()

    # --- what happens --------------------------------------------------------------------------------

    @rule(steps=st.integers(1, 30))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.tick()

    @rule()
    def the_plc_asks(self) -> None:
        self.tick(trigger=True)

    @rule(late=st.integers(0, 3), foreign=st.booleans())
    def the_lane_answers(self, late: int, foreign: bool) -> None:
        for _ in range(late):
            self.tick()
        cycle = self.seq + 7 if foreign else self.seq
        self.pending.append(Answer(cycle, (1.0,), code=ResultCode.OK))
        self.pending.append(Answer(cycle, (2.0,), code=ResultCode.OK))  # twice: the second one is too much

    @rule(steps=st.integers(1, 30), control=st.booleans())
    def words_are_lost(self, steps: int, control: bool) -> None:
        self.control_lost, self.status_lost = control, not control
        for _ in range(steps):
            self.tick()
        self.control_lost = self.status_lost = False

    @rule(before=st.integers(0, 10), steps=st.integers(1, 60), control=st.booleans(), answers=st.booleans())
    def a_request_loses_words_on_its_way(self, before: int, steps: int, control: bool, answers: bool) -> None:
        self.when_all_is_well_a_trigger_is_taken_and_answered()
        self.time_passes(20)
        self.the_plc_asks()
        if answers:
            self.pending.append(Answer(self.seq, (1.0,), code=ResultCode.OK))
        for _ in range(before):
            self.tick()
        self.words_are_lost(steps, control)
        self.when_all_is_well_a_trigger_is_taken_and_answered()

    @rule()
    def the_edge_starts_anew(self) -> None:
        self.edge = Exchange()
        self.era += 1
        self.pending.clear()

    @rule()
    def the_plc_starts_anew(self) -> None:
        self.heartbeat = self.seq = 0
        self.raised = self.acking = self.waiting = False
        self.stat = Stat(0)
        self.pending.clear()
        self.step_edge()
        self.era += 1
        self.taken.clear()

    @rule(goes_on=st.booleans(), takes=st.booleans(), enabled=st.booleans())
    def authority_comes_and_goes(self, goes_on: bool, takes: bool, enabled: bool) -> None:
        self.goes_on, self.takes, self.enabled = goes_on, takes, enabled
        self.tick()

    @rule()
    def when_all_is_well_a_trigger_is_taken_and_answered(self) -> None:
        """Never a deadlock: within a second the edge is ready again, and the next request is answered."""
        self.goes_on = self.takes = self.enabled = True
        self.pending.clear()
        for _ in range(60):
            self.tick()
        assert Stat.TRIGGER_READY in self.stat
        got = self.got
        self.tick(trigger=True)
        assert self.waiting
        self.pending.append(Answer(self.seq, (1.0,), code=ResultCode.OK))
        for _ in range(6):
            self.tick()
        assert self.got == got + 1
        assert self.edge.last.code is ResultCode.OK


HandshakeMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
TestHandshake = HandshakeMachine.TestCase
