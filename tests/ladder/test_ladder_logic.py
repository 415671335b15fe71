"""What the exported function block does in scans: the PLC side of the interface, rule by rule."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_opcua.config.eai import HIGHEST, ControlWord, Ctrl, ErrorCode, ResultCode
from tests.ladder.blocks import FALLBACK, SCAN_MS, Bench, facts, in_use, waits_for_ack

PRESS = facts()


def test_what_stood_in_the_area_before_the_plc_started_is_no_sign_of_life() -> None:
    bench = Bench(PRESS)
    bench.edge.heartbeat = 700
    bench.frozen = True
    bench.run(200)
    assert bench.outputs("CommOk", "InUse", "ErrorId") == (False, False, ErrorCode.COMMUNICATION)


def test_an_edge_that_lives_speaks_our_version_and_claims_authority_is_used() -> None:
    bench = Bench(PRESS)
    bench.run(300)
    assert bench.outputs("CommOk", "InUse", "AckReq", "ErrorId") == (True, True, False, 0)
    assert bench.ctrl == Ctrl.ENABLE | Ctrl.GRANT_AUTHORITY | Ctrl.IN_USE
    assert bench.control[ControlWord.INTERFACE_VERSION] == PRESS.map.version
    assert bench.control[ControlWord.ECHO_EDGE_HEARTBEAT] == bench.edge.heartbeat


def test_our_heartbeat_is_zero_after_the_start_then_counts_every_100_ms_and_leaves_zero_out() -> None:
    bench = Bench(PRESS)
    bench.scan()
    assert bench.control[ControlWord.PLC_HEARTBEAT] == 0
    bench.run(10_000)
    assert 98 <= bench.control[ControlWord.PLC_HEARTBEAT] <= 100
    bench.set(PlcHeartbeat=HIGHEST)
    bench.run(100)
    assert bench.control[ControlWord.PLC_HEARTBEAT] == 1


def test_a_silent_edge_is_given_up_within_its_time_and_one_scan_and_latched() -> None:
    bench = in_use(PRESS)
    bench.frozen = True
    bench.scan()
    silent_ms = 0
    while bench.get("InUse"):
        bench.run(SCAN_MS)
        silent_ms += SCAN_MS
    assert 400 <= silent_ms <= PRESS.plc_timeout_ms + SCAN_MS
    assert bench.outputs("CommOk", "AckReq", "ErrorId") == (False, True, ErrorCode.COMMUNICATION)
    assert Ctrl.LATCHED in bench.ctrl
    assert Ctrl.IN_USE not in bench.ctrl


def test_an_edge_that_comes_back_by_itself_is_not_used_again() -> None:
    bench = in_use(PRESS)
    bench.frozen = True
    bench.run(700)
    bench.frozen = False
    bench.run(1_000)
    assert bench.outputs("CommOk", "InUse", "AckReq") == (True, False, True)
    # Without the question of the edge a button does not help: nobody knows whether it works.
    bench.set(OpAck=True)
    bench.run(300)
    assert bench.outputs("InUse", "AckReq") == (False, True)


@pytest.mark.parametrize("to", [0, 40_000])
def test_a_heartbeat_that_jumps_is_a_restart_or_a_late_frame(to: int) -> None:
    bench = in_use(PRESS)
    bench.edge.heartbeat = to
    bench.frozen = True
    bench.run(SCAN_MS)
    assert bench.outputs("CommOk", "InUse", "AckReq") == (False, False, True)
    bench.run(1_000)
    assert not bench.get("CommOk")
    bench.frozen = False
    bench.run(220)
    assert bench.get("CommOk")


def test_the_first_heartbeat_after_zero_may_be_a_late_frame_and_is_no_sign_of_life() -> None:
    bench = Bench(PRESS)
    bench.frozen = True
    bench.edge.heartbeat = 0
    bench.run(100)
    bench.edge.heartbeat = 500
    bench.run(100)
    assert not bench.get("CommOk")
    bench.edge.heartbeat = 501
    bench.run(SCAN_MS)
    assert bench.get("CommOk")


def test_a_plc_that_stood_still_for_the_time_out_trusts_nothing_it_finds_then() -> None:
    bench = in_use(PRESS)
    bench.now_ms += PRESS.plc_timeout_ms
    bench.edge.beat()
    bench.edge.judge(Score=9.0)
    bench.scan()
    assert bench.outputs("CommOk", "InUse", "AckReq") == (False, False, True)


def test_heartbeats_go_on_over_their_end() -> None:
    bench = Bench(PRESS)
    bench.edge.heartbeat = HIGHEST - 2
    bench.run(800)
    assert bench.edge.heartbeat < 10
    assert bench.outputs("CommOk", "InUse", "AckReq") == (True, True, False)


@pytest.mark.parametrize(
    "change",
    [
        {"online": False},
        {"authority_active": False},
        {"fail_safe_active": True},
        {"ack_required": True},
    ],
)
def test_what_the_edge_says_against_itself_counts_in_the_same_scan(change: dict[str, bool]) -> None:
    bench = in_use(PRESS)
    bench.say(**change)
    bench.run(SCAN_MS)
    assert bench.outputs("InUse", "AckReq") == (False, True)


@pytest.mark.parametrize("change", [{"Enable": False}, {"Grant": False}, {"SetOffline": True}])
def test_what_the_plant_takes_away_counts_in_the_same_scan(change: dict[str, bool]) -> None:
    bench = in_use(PRESS)
    bench.set(**change)
    bench.run(SCAN_MS)
    assert bench.outputs("InUse", "AckReq") == (False, True)


def test_another_version_is_not_trusted_and_named() -> None:
    bench = in_use(PRESS)
    bench.edge.version += 1
    bench.run(SCAN_MS)
    assert bench.outputs("CommOk", "InUse", "ErrorId") == (False, False, ErrorCode.VERSION)


def test_before_the_first_use_nothing_is_latched() -> None:
    bench = Bench(PRESS)
    bench.say(authority_active=False, fail_safe_active=True)
    bench.run(1_000)
    bench.frozen = True
    bench.run(1_000)
    assert not bench.get("AckReq")


def test_half_a_write_changes_nothing_and_one_that_stays_half_is_silence() -> None:
    bench = in_use(PRESS)
    bench.edge.judge(Score=7.5)
    bench.run(40)
    bench.edge.tail = bench.edge.sequence
    bench.edge.judge(Score=9.9)  # head and results are new, the tail is old
    bench.run(SCAN_MS)
    assert bench.outputs("InUse", "Score") == (True, 7.5)
    bench.run(PRESS.plc_timeout_ms + 100)
    assert bench.outputs("CommOk", "InUse", "AckReq") == (False, False, True)


def test_an_acknowledge_at_the_plc_frees_the_latch_and_is_held_until_the_edge_has_seen_it() -> None:
    bench = waits_for_ack(PRESS)
    bench.set(OpAck=True)
    bench.run(SCAN_MS)
    assert not bench.get("AckReq")
    assert Ctrl.CLEAR_ERROR in bench.ctrl
    assert Ctrl.LATCHED not in bench.ctrl
    bench.set(OpAck=False)
    bench.run(200)
    assert Ctrl.CLEAR_ERROR in bench.ctrl
    bench.say(ack_required=False)
    bench.run(SCAN_MS)
    assert Ctrl.CLEAR_ERROR not in bench.ctrl
    bench.say(authority_active=True)
    bench.run(SCAN_MS)
    assert bench.outputs("InUse", "AckReq") == (True, False)


def test_a_plc_that_has_just_started_shows_that_its_edge_waits() -> None:
    bench = Bench(PRESS)
    bench.say(authority_active=False, ack_required=True)
    bench.run(300)
    assert bench.get("AckReq")
    assert Ctrl.LATCHED not in bench.ctrl, "nothing was ever in use here"
    bench.set(OpAck=True)
    bench.run(SCAN_MS)
    assert not bench.get("AckReq")
    assert Ctrl.CLEAR_ERROR in bench.ctrl


def test_a_button_that_is_stuck_acknowledges_nothing() -> None:
    bench = in_use(PRESS, OpAck=True)
    bench.say(authority_active=False, ack_required=True)
    bench.run(400)
    assert bench.get("AckReq")
    assert Ctrl.CLEAR_ERROR not in bench.ctrl


def test_an_acknowledge_at_the_edge_counts_where_it_is_accepted() -> None:
    for accepts in (True, False):
        bench = waits_for_ack(PRESS, AcceptRemoteAck=accepts)
        bench.say(ack_required=False)
        bench.run(200)
        assert bench.get("AckReq") is not accepts
        bench.say(authority_active=True)
        bench.run(200)
        assert bench.get("InUse") is accepts


def test_a_question_that_disappears_because_of_the_next_fault_is_no_acknowledge() -> None:
    bench = waits_for_ack(PRESS)
    bench.say(ack_required=False, fail_safe_active=True)
    bench.run(200)
    assert bench.get("AckReq")
    bench.say(fail_safe_active=False)
    bench.run(200)
    assert bench.get("AckReq")


def test_a_question_that_disappears_because_a_person_took_over_is_no_acknowledge() -> None:
    bench = waits_for_ack(PRESS)
    bench.say(ack_required=False)
    bench.frozen = True  # in MANUAL the heartbeat stands still
    bench.run(300)
    assert bench.get("AckReq")


def test_a_fault_between_the_acknowledge_and_the_next_use_needs_another_acknowledge() -> None:
    bench = waits_for_ack(PRESS)
    bench.set(OpAck=True)
    bench.run(100)
    bench.set(OpAck=False)
    bench.frozen = True
    bench.run(800)
    bench.say(ack_required=False, authority_active=True)  # an edge that forgot everything
    bench.frozen = False
    bench.run(500)
    assert bench.outputs("InUse", "AckReq") == (False, True)


def test_each_result_is_new_for_one_scan_and_what_was_judged_before_use_is_history() -> None:
    bench = Bench(PRESS)
    bench.edge.judge(Verdict=2, Score=9.0, Cycle=11)
    bench.run(300)
    assert bench.outputs("InUse", "NewResult", "Verdict", "ResultCode") == (
        True,
        False,
        0,
        ResultCode.NO_AUTHORITY,
    )
    bench.edge.judge(Verdict=1, Score=4.5, Cycle=-12)
    bench.run(SCAN_MS)
    shown = bench.outputs("NewResult", "Done", "ResultSeq", "Verdict", "Score", "Cycle", "ResultCode")
    assert shown == (True, True, 2, 1, 4.5, -12, 0)
    bench.run(SCAN_MS)
    assert bench.outputs("NewResult", "Done", "Verdict") == (False, False, 1)


def test_what_was_judged_while_nobody_used_it_is_history_when_use_begins() -> None:
    bench = waits_for_ack(PRESS)
    bench.edge.judge(Score=9.0)
    bench.set(OpAck=True)
    bench.run(100)
    bench.say(ack_required=False, authority_active=True)
    for _ in range(10):
        bench.run(SCAN_MS)
        assert bench.get("NewResult") is False
    assert bench.outputs("InUse", "Score", "Out") == (True, 0.0, FALLBACK)
    bench.edge.judge(Score=9.5)
    bench.run(SCAN_MS)
    assert bench.outputs("NewResult", "Score") == (True, 9.5)


def test_a_result_number_that_jumps_back_is_no_new_result() -> None:
    bench = in_use(PRESS)
    bench.edge.sequence = 50
    bench.edge.judge(Score=5.0)
    bench.run(40)
    bench.edge.sequence = 30
    bench.edge.judge(Score=6.0)
    bench.run(SCAN_MS)
    assert bench.outputs("NewResult", "Score") == (False, 5.0)


def test_results_are_gone_when_the_edge_is_no_longer_used() -> None:
    bench = in_use(PRESS)
    bench.edge.judge(Verdict=2, Score=9.0, Cycle=11)
    bench.run(40)
    assert bench.get("Verdict") == 2
    bench.set(Grant=False)
    bench.run(SCAN_MS)
    assert bench.outputs("Verdict", "Score", "Cycle", "ResultSeq") == (0, 0.0, 0, 0)


@pytest.mark.parametrize(("score", "goes_to"), [(7.0, 7.0), (99.0, 10.0), (-5.0, 0.0), (math.nan, FALLBACK)])
def test_out_is_clamped(score: float, goes_to: float) -> None:
    bench = in_use(PRESS)
    bench.edge.judge(Score=score)
    bench.run(6_000)
    assert bench.get("Out") == pytest.approx(goes_to)


def test_a_value_that_is_not_good_is_none_for_out_whatever_its_words_say() -> None:
    # A model that never learned such inputs gives a verdict and no score: its words are 0, which may be the
    # most dangerous set-point of all.
    bench = in_use(PRESS)
    bench.edge.judge(Score=9.0)
    bench.run(4_000)
    assert bench.get("Out") == pytest.approx(9.0)
    bench.edge.mask = 0b010
    bench.edge.judge(Verdict=3)
    bench.run(6_000)
    assert bench.outputs("InUse", "Verdict", "Out") == (True, 3, FALLBACK)
    bench.edge.mask = 0b101
    bench.edge.judge(Score=9.0)
    bench.run(6_000)
    assert bench.get("Out") == pytest.approx(9.0), "its own bit counts, and no other"


def test_out_stays_while_the_edge_holds_its_last_result() -> None:
    # HOLD marks every value, of the result that was there already.
    bench = in_use(PRESS)
    bench.edge.judge(Score=9.0)
    bench.run(4_000)
    bench.edge.mask = 0xFFFF
    bench.run(4_000)
    assert bench.outputs("InUse", "Out") == (True, pytest.approx(9.0))


def test_out_never_moves_faster_than_its_rate_whatever_happens() -> None:
    bench = in_use(PRESS)
    before = bench.get("Out")
    assert before == FALLBACK
    for score in (9.0, 1.0, 10.0):
        bench.edge.judge(Score=score)
        for _ in range(40):
            bench.run(SCAN_MS)
            assert abs(bench.get("Out") - before) <= 2.0 * SCAN_MS / 1000 + 1e-4
            before = bench.get("Out")
    bench.frozen = True
    for _ in range(60):
        bench.run(SCAN_MS)
        assert abs(bench.get("Out") - before) <= 2.0 * SCAN_MS / 1000 + 1e-4
        before = bench.get("Out")


def test_out_keeps_its_rate_when_the_stopwatch_starts_anew() -> None:
    # The stopwatch is started anew after half an hour; a late scan is one long step, not a lost one.
    bench = in_use(PRESS)
    bench.edge.judge(Score=10.0)
    bench.now_ms += 1_799_000
    bench.scan()
    bench.now_ms += 1_000
    bench.scan()
    assert bench.get("WatchMs") == 0
    bench.set(Out=0.0, Fallback=10.0)
    bench.now_ms += 500
    bench.scan()
    assert bench.get("Out") == pytest.approx(1.0)


VETO = facts(mode="veto")


def test_a_veto_can_only_restrict() -> None:
    bench = in_use(VETO, PlcLimit=6.0, PlcPermit=True, FallbackPermit=False)
    assert bench.get("Permit") is False  # nothing was judged yet
    bench.edge.judge(Verdict=1, Score=9.0)
    bench.run(5_000)
    assert bench.outputs("Permit", "Out") == (True, 6.0)
    bench.set(PlcPermit=False)
    bench.run(SCAN_MS)
    assert bench.get("Permit") is False
    bench.set(PlcPermit=True)
    bench.edge.judge(Verdict=2, Score=9.0)
    bench.run(SCAN_MS)
    assert bench.get("Permit") is False
    bench.set(PlcLimit=2.0)
    bench.run(SCAN_MS)
    assert bench.get("Out") == 2.0


def test_without_the_edge_a_veto_says_what_the_plant_has_chosen() -> None:
    for chosen in (True, False):
        bench = in_use(VETO, PlcPermit=True, FallbackPermit=chosen)
        bench.frozen = True
        bench.run(700)
        assert bench.get("Permit") is chosen


TRIGGERED = facts(mode="triggered")


def asked() -> Bench:
    """Return a block that has just asked for a result."""
    bench = Bench(TRIGGERED)
    bench.say(results_valid=False, trigger_ready=True)
    bench.run(300)
    assert bench.get("Ready") is True
    bench.set(Trigger=True)
    bench.run(SCAN_MS)
    assert bench.outputs("Busy", "Ready", "TriggerSeq") == (True, False, 1)
    assert Ctrl.TRIGGER in bench.ctrl
    assert bench.control[ControlWord.TRIGGER_SEQ] == 1
    return bench


def answered() -> Bench:
    """Return a block that has just taken the result it asked for."""
    bench = asked()
    bench.say(trigger_ready=False, trigger_ack=True)
    bench.run(SCAN_MS)
    assert Ctrl.TRIGGER not in bench.ctrl
    bench.say(trigger_ack=False, results_valid=True)
    bench.edge.sequence = 0
    bench.edge.judge(Score=6.0)
    bench.run(SCAN_MS)
    assert bench.outputs("Done", "NewResult", "Score", "Busy") == (True, True, 6.0, True)
    assert Ctrl.RESULTS_ACK in bench.ctrl
    return bench


def test_the_handshake_has_four_phases_each_way() -> None:
    bench = answered()
    bench.run(SCAN_MS)
    assert bench.get("Done") is False
    bench.say(results_valid=False, trigger_ready=True)
    bench.run(SCAN_MS)
    assert bench.outputs("Busy", "Ready", "Error") == (False, True, False)
    assert Ctrl.RESULTS_ACK not in bench.ctrl


def test_only_the_result_of_the_own_request_is_taken() -> None:
    bench = asked()
    bench.say(trigger_ack=True, results_valid=True)
    bench.edge.sequence = 40
    bench.edge.judge(Score=6.0)
    bench.run(200)
    assert bench.outputs("Done", "Busy", "Score", "ResultSeq") == (False, True, 0.0, 0)
    assert Ctrl.RESULTS_ACK not in bench.ctrl


def test_a_request_without_a_result_ends_in_its_time() -> None:
    bench = asked()
    bench.run(TRIGGERED.result_ms - 60)
    assert bench.get("Busy") is True
    bench.run(100)
    assert bench.outputs("Busy", "ErrorId") == (False, ErrorCode.NO_RESULT)
    assert Ctrl.TRIGGER not in bench.ctrl
    bench.set(Trigger=False)
    bench.run(SCAN_MS)
    bench.set(Trigger=True)  # the next request clears the error, and has all of its time
    bench.run(TRIGGERED.result_ms - 60)
    assert bench.outputs("Busy", "ErrorId", "TriggerSeq") == (True, 0, 2)


def test_a_request_to_an_edge_that_went_silent_says_so() -> None:
    bench = asked()
    bench.frozen = True
    bench.run(TRIGGERED.result_ms + 100)
    assert bench.outputs("Busy", "ErrorId") == (False, ErrorCode.COMMUNICATION)


def test_a_result_that_the_edge_does_not_take_back_ends_in_its_time() -> None:
    bench = answered()
    bench.run(TRIGGERED.map.interface.ack_timeout_ms + 60)
    assert bench.outputs("Busy", "ErrorId") == (False, ErrorCode.COMMUNICATION)
    assert Ctrl.RESULTS_ACK not in bench.ctrl
    bench.set(OpAck=True)
    bench.run(SCAN_MS)
    assert bench.get("ErrorId") == 0


def test_a_trigger_that_nobody_would_take_is_an_error_at_once() -> None:
    bench = Bench(TRIGGERED)
    bench.run(300)
    bench.set(Trigger=True)
    bench.run(SCAN_MS)
    assert bench.outputs("Busy", "ErrorId") == (False, ErrorCode.NOT_READY)
    assert bench.control[ControlWord.TRIGGER_SEQ] == 0


def test_a_second_trigger_disturbs_no_request_under_way() -> None:
    bench = asked()
    bench.set(Trigger=False)
    bench.run(SCAN_MS)
    bench.set(Trigger=True)
    bench.run(SCAN_MS)
    assert bench.outputs("Busy", "ErrorId", "TriggerSeq") == (True, ErrorCode.NOT_READY, 1)


def test_a_result_without_authority_is_handed_over_but_not_used() -> None:
    bench = asked()
    bench.set(Grant=False)
    bench.say(results_valid=True)
    bench.edge.sequence = 0
    bench.edge.judge(Score=6.0)
    bench.run(SCAN_MS)
    assert bench.outputs("Done", "Score", "ErrorId") == (False, 0.0, ErrorCode.NOT_IN_USE)
    assert Ctrl.RESULTS_ACK in bench.ctrl


def test_switching_off_forgets_the_request() -> None:
    bench = asked()
    bench.set(Enable=False)
    bench.run(SCAN_MS)
    assert bench.get("Busy") is False
    assert Ctrl.TRIGGER not in bench.ctrl


def test_commands_are_passed_on_and_their_end_is_told() -> None:
    bench = in_use(facts(commands=("load_model",)), ExecuteCmd=True, Command=1, CommandArg=2)
    assert Ctrl.EXECUTE_CMD in bench.ctrl
    assert bench.control[ControlWord.COMMAND : ControlWord.COMMAND_ARG + 1] == [1, 2]
    bench.say(cmd_completed=True)
    bench.run(SCAN_MS)
    assert bench.outputs("CmdDone", "CmdFailed") == (True, False)
    bench.say(cmd_completed=False, cmd_failed=True)
    bench.run(SCAN_MS)
    assert bench.outputs("CmdDone", "CmdFailed") == (False, True)


def test_values_are_read_in_either_order_of_words() -> None:
    for order in ("high_first", "low_first"):
        bench = in_use(facts(word_order=order))
        bench.edge.judge(Verdict=-2, Score=2.5, Cycle=1_000_000)
        bench.run(SCAN_MS)
        assert bench.outputs("Verdict", "Score", "Cycle") == (-2, 2.5, 1_000_000)


class AnyCourse(RuleBasedStateMachine):
    """Whatever edge, plant and network do: no way from lost trust to use without an acknowledge."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(PRESS)
        self.used = False
        self.lost = False
        self.out = FALLBACK

    @rule(ms=st.sampled_from([20, 60, 200, 600]))
    def time_passes(self, ms: int) -> None:
        for _ in range(0, ms, SCAN_MS):
            self._scan()

    @rule(
        bit=st.sampled_from(
            ["online", "authority_active", "fail_safe_active", "ack_required", "results_valid"]
        ),
        on=st.booleans(),
    )
    def the_edge_says(self, bit: str, on: bool) -> None:
        self.bench.say(**{bit: on})
        self._scan()

    @rule(name=st.sampled_from(["Enable", "Grant", "SetOffline", "OpAck"]), on=st.booleans())
    def the_plant_says(self, name: str, on: bool) -> None:
        self.bench.set(**{name: on})
        self._scan()

    @rule(frozen=st.booleans())
    def the_edge_freezes_or_runs(self, frozen: bool) -> None:
        self.bench.frozen = frozen

    @rule(heartbeat=st.integers(0, HIGHEST))
    def a_late_frame_lands(self, heartbeat: int) -> None:
        self.bench.edge.heartbeat = heartbeat
        self._scan()

    @rule(score=st.floats(width=32, allow_nan=True, allow_infinity=True))
    def a_result_comes(self, score: float) -> None:
        self.bench.edge.judge(Score=score)
        self._scan()

    def _scan(self) -> None:
        bench = self.bench
        bench.run(SCAN_MS)
        used, latched = bench.outputs("InUse", "AckReq")
        if self.used and not used:
            assert latched, "trust was lost and is not latched"
            self.lost = True
        asked = "ACK_REQUIRED" in [bit.name for bit in bench.edge.stat]
        if self.lost and not latched:
            # Freed by the button while the edge asks, or because the edge asks no more.
            assert asked or bench.get("Moved")
            self.lost = False
        assert not (used and (latched or self.lost))
        self.used = used
        assert abs(bench.get("Out") - self.out) <= 2.0 * SCAN_MS / 1000 + 1e-3
        self.out = bench.get("Out")

    @invariant()
    def use_has_reasons(self) -> None:
        if self.bench.get("InUse"):
            assert self.bench.outputs("CommOk", "Enable", "Grant", "SetOffline") == (True, True, True, False)

    @invariant()
    def out_stays_in_its_limits(self) -> None:
        assert -1e-3 <= self.bench.get("Out") <= 10.001


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
