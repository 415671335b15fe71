"""The pure parts of write-back, one by one, where no whole output shows them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.config.eai import CONTROL_WORDS, QUEUE, Ctrl, ErrorCode, ResultCode, Stat, is_ahead
from edge_opcua.core.values import BAD_NOT_SUPPORTED, BAD_OUT_OF_RANGE, GOOD, Verdict
from edge_opcua.writeback.face import Row
from edge_opcua.writeback.handshake import (
    Answer,
    Command,
    Control,
    Exchange,
    News,
    Waits,
    bits,
    command_ended,
    commanded,
    restarted,
    step,
)
from edge_opcua.writeback.judged import read_judged
from edge_opcua.writeback.precedence import MODEL, Claim, refusal
from edge_opcua.writeback.shaping import Held, Shape, move, safe_value
from edge_opcua.writeback.tagwrites import TagsFace
from edge_opcua.writeback.target import Record, no_audit, no_commands
from tests.writeback.line import Line, configuration

MS = 1_000_000
S = 1_000_000_000
ORDER = ("operator", "program", "model")


# --- shaping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_never_written(wanted: float) -> None:
    assert move(Shape(), Held(1.0), wanted, S) is None


def test_what_nobody_knows_is_written_at_once() -> None:
    found = move(Shape(high=5.0, rate_per_s=0.1), Held(), 9.0, S)
    assert found is not None
    assert (found.value, found.clamped) == (5.0, True)


def test_small_changes_and_hasty_ones_are_not_written() -> None:
    assert move(Shape(deadband=0.5), Held(1.0), 1.4, S) is None
    assert move(Shape(deadband=0.5), Held(1.0), 1.5, S) is not None
    assert move(Shape(min_interval_ns=S), Held(1.0, at_ns=0), 2.0, S - 1) is None
    assert move(Shape(min_interval_ns=S), Held(1.0, at_ns=0), 2.0, S) is not None
    assert move(Shape(rate_per_s=1.0), Held(1.0, at_ns=0), 2.0, 50 * MS) is None, "a step is not shorter"


@given(
    held=st.floats(-50, 50),
    wanted=st.floats(-1e6, 1e6),
    rate=st.floats(0.01, 1e3),
    elapsed_ms=st.integers(0, 100_000),
    interval_ms=st.integers(0, 2000),
)
def test_a_value_stays_in_its_range_and_below_its_rate(
    held: float, wanted: float, rate: float, elapsed_ms: int, interval_ms: int
) -> None:
    shape = Shape(low=-50, high=50, rate_per_s=rate, min_interval_ns=interval_ms * MS)
    found = move(shape, Held(held), wanted, elapsed_ms * MS)
    if found is not None:
        assert -50 <= found.value <= 50
        longest_s = min(elapsed_ms, max(100, interval_ms)) / 1000
        assert abs(found.value - held) <= rate * longest_s * (1 + 1e-9) + 1e-12
        assert elapsed_ms >= interval_ms
        assert found.on_the_way == (found.value != min(max(wanted, -50), 50))


def test_each_strategy_has_its_value() -> None:
    shape = Shape(low=1.0, high=9.0, preset=4.0)
    assert safe_value(shape) == 4.0
    expected = {"low": 1.0, "high": 9.0, "hold_last": None, "relinquish": None}
    for strategy, value in expected.items():
        assert safe_value(Shape(1.0, 9.0, preset=4.0, strategy=strategy)) == value  # type: ignore[arg-type]
    assert safe_value(Shape(strategy="low")) is None, "there is no lowest value"


# --- precedence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holder", "writer", "user", "expected"),
    [
        (None, "program", "mes", None),
        (MODEL, "operator", "anna", None),
        (Claim("operator", "anna"), "operator", "bert", None),
        (Claim("operator", "anna"), "program", "mes", "a person (anna) holds it"),
        (Claim("program", "mes"), "program", "mes", None),
        (Claim("program", "mes"), "program", "scada", "a program (mes) holds it"),
        (Claim("program", "mes", until_ns=1), "program", "scada", None),
        (Claim("program", "mes"), "model", "", "a program (mes) holds it"),
    ],
)
def test_who_may_write(holder: Claim | None, writer: str, user: str, expected: str | None) -> None:
    assert refusal(ORDER, holder, writer, user, 2) == expected  # type: ignore[arg-type]


def test_who_is_not_named_may_not_write_and_holds_nothing() -> None:
    assert refusal(("model",), None, "operator", "anna", 0) == "a person may not write it"
    assert refusal(("model",), Claim("program", "mes"), "model", "", 0) is None


@given(
    st.permutations(ORDER),
    st.lists(st.tuples(st.sampled_from(ORDER), st.sampled_from(("a", "b"))), max_size=20),
)
def test_a_tag_never_has_two_writers(order: list[str], wishes: list[tuple[str, str]]) -> None:
    holder: Claim | None = None
    for writer, user in wishes:
        before = holder
        if refusal(tuple(order), holder, writer, user, 0) is None:  # type: ignore[arg-type]
            holder = Claim(writer, user)  # type: ignore[arg-type]
            if before is not None:
                assert order.index(writer) <= order.index(before.writer)
                same = writer == before.writer == "program"
                assert not same or user == before.user


# --- the handshake -------------------------------------------------------------------------------

WAITS = Waits(answer_ns=300 * MS, ack_ns=200 * MS)
ENABLED = Ctrl.ENABLE


def look(
    exchange: Exchange, ctrl: Ctrl, *, seq: int = 0, now_ms: int = 0, answers: int = 0, captured: int = 0
) -> Exchange:
    """Let the edge look at the control words once."""
    heartbeat = 1 + now_ms // 100
    given = [Answer(answers, code=ResultCode.OK)] if answers else []
    control = Control(ctrl, heartbeat=heartbeat, trigger_seq=seq)
    return step(exchange, control, News(given, captured or seq), now_ms * MS, WAITS, takes=True, goes_on=True)


def test_too_few_control_words_are_refused_and_signed_ones_taken() -> None:
    with pytest.raises(ValueError, match="3 control words are too few"):
        Control.of([1, 2, 3])
    words = [-32767, -1, 0, 5, 0, 0, 0, 4]
    assert Control.of(words).heartbeat == 65_535
    assert Control.of(words).machine_state == 4
    assert Control.of(words).ctrl == Ctrl.ENABLE, "bits that mean nothing are left out"


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, 5, True),
        (5, 6, False),
        (5, 5, False),
        (5, 0, True),
        (0, 7, False),
        (700, 3, True),
        (65_535, 2, False),
    ],
)
def test_a_plc_that_started_anew_is_known_by_its_heartbeat(
    before: int | None, now: int, expected: bool
) -> None:
    assert restarted(Control(heartbeat=now), Exchange(heartbeat=before)) is expected


def test_a_counter_that_jumps_is_not_ahead() -> None:
    assert is_ahead(1, 65_535)
    assert not is_ahead(0, 65_535)
    assert not is_ahead(5, 5)
    assert not is_ahead(2000, 5)


def test_with_buffered_results_eight_may_wait_and_come_in_order() -> None:
    buffered = ENABLED | Ctrl.BUFFER_RESULTS
    exchange = look(Exchange(), buffered)
    for number in range(1, QUEUE + 1):
        now_ms = number * 10
        exchange = look(exchange, buffered | Ctrl.TRIGGER, seq=number, now_ms=now_ms)
        assert exchange.asked == number
        exchange = look(exchange, buffered, seq=number, now_ms=now_ms + 5, answers=number)
    assert exchange.waiting == QUEUE
    full = Control(buffered, heartbeat=1)
    assert Stat.TRIGGER_READY not in bits(exchange, full, takes=True, triggered=True)
    got = []
    for number in range(QUEUE):
        now_ms = 100 + number * 20
        assert exchange.valid is not None
        got.append(exchange.valid[0])
        exchange = look(exchange, buffered | Ctrl.RESULTS_ACK, now_ms=now_ms)
        assert exchange.valid is None
        exchange = look(exchange, buffered, now_ms=now_ms + 10)
    assert got == list(range(1, QUEUE + 1))


def test_a_result_that_nobody_takes_is_taken_back() -> None:
    exchange = look(look(Exchange(), ENABLED), ENABLED | Ctrl.TRIGGER, seq=1)
    exchange = look(exchange, ENABLED, seq=1, now_ms=10, answers=1)
    assert exchange.valid is not None
    exchange = look(exchange, ENABLED, seq=1, now_ms=300)
    assert exchange.valid is None
    assert exchange.error is ErrorCode.ACK_TIMEOUT
    exchange = look(exchange, ENABLED | Ctrl.CLEAR_ERROR, seq=1, now_ms=310)
    assert exchange.error is ErrorCode.NONE


def test_an_acknowledge_that_hangs_lets_nothing_through_and_blocks_nothing() -> None:
    hanging = ENABLED | Ctrl.RESULTS_ACK
    exchange = look(look(Exchange(), hanging), hanging | Ctrl.TRIGGER, seq=1)
    exchange = look(exchange, hanging, seq=1, now_ms=10, answers=1)
    assert exchange.valid is None
    assert exchange.queue
    exchange = look(exchange, hanging, seq=1, now_ms=300)
    assert not exchange.queue
    assert exchange.error is ErrorCode.ACK_TIMEOUT
    assert exchange.has_room(Control(ENABLED))


def test_a_trigger_in_mid_request_is_missed_and_says_so_until_it_falls() -> None:
    exchange = look(look(Exchange(), ENABLED), ENABLED | Ctrl.TRIGGER, seq=1)
    assert look(exchange, ENABLED | Ctrl.TRIGGER, seq=1) == exchange
    exchange = look(exchange, ENABLED | Ctrl.TRIGGER, seq=2, now_ms=10)
    shown = bits(exchange, Control(ENABLED | Ctrl.TRIGGER), takes=True, triggered=True)
    assert Stat.MISSED_TRIGGER in shown
    assert Stat.TRIGGER_ACK not in shown
    assert exchange.asked == 1
    exchange = look(exchange, ENABLED, seq=2, now_ms=20)
    assert not exchange.missed


def test_a_trigger_may_fall_only_after_its_request_was_read() -> None:
    exchange = look(look(Exchange(), ENABLED), ENABLED | Ctrl.TRIGGER, seq=2, captured=1)
    assert (exchange.asked, exchange.taken) == (2, False)
    exchange = look(exchange, ENABLED | Ctrl.TRIGGER, seq=2, captured=1, now_ms=20)
    assert not exchange.taken, "what was read is the request before"
    read = look(exchange, ENABLED | Ctrl.TRIGGER, seq=2, captured=2, now_ms=40)
    assert not read.taken, "the result may come at once and tell it too"
    assert look(read, ENABLED | Ctrl.TRIGGER, seq=2, captured=2, now_ms=90).taken
    assert look(exchange, ENABLED | Ctrl.TRIGGER, seq=2, captured=1, now_ms=40, answers=2).taken


def test_a_new_trigger_takes_the_place_of_a_result_that_was_not_taken() -> None:
    exchange = look(look(Exchange(), ENABLED), ENABLED | Ctrl.TRIGGER, seq=1)
    exchange = look(exchange, ENABLED, seq=1, now_ms=10, answers=1)
    exchange = look(exchange, ENABLED | Ctrl.TRIGGER, seq=2, now_ms=20)
    assert exchange.valid is None
    assert (exchange.asked, exchange.missed) == (2, False)


def test_a_command_that_the_plc_gave_up_says_nothing() -> None:
    asking = Control(ENABLED | Ctrl.EXECUTE_CMD, command=1, argument=2)
    exchange, begun = commanded(Exchange(), asking, ("load_model",))
    assert begun == Command(1, 2)
    assert commanded(exchange, asking, ("load_model",)) == (exchange, None)
    exchange, _ = commanded(exchange, Control(ENABLED), ("load_model",))
    assert command_ended(exchange, begun, succeeded=True) == exchange
    assert exchange.command is None


# --- results -------------------------------------------------------------------------------------


def test_a_stroke_that_was_never_learned_has_its_own_code() -> None:
    line = Line()
    line.judge(Verdict.NOT_DECIDABLE, score_status=BAD_OUT_OF_RANGE)
    reader = line.bus.reader("wear.result")
    judged = read_judged(reader.latest(), Verdict.NOT_DECIDABLE)
    assert judged is not None
    assert (judged.code, judged.usable) == (ResultCode.OUT_OF_TRAINING_RANGE, True)
    line.judge(Verdict.NOT_DECIDABLE)
    judged = read_judged(reader.latest(), Verdict.NOT_DECIDABLE)
    assert judged is not None
    assert judged.code is ResultCode.LOW_CONFIDENCE
    assert 0 < judged.model_id <= 0xFFFF
    line.close()


def test_a_model_that_does_not_say_how_sure_it_is_may_rule_and_its_confidence_is_no_number() -> None:
    line = Line()
    reader = line.bus.reader("wear.result")
    line.judge(Verdict.OK)
    writer = line.writers["wear.result"]
    writer.batch.status[writer.batch.row("confidence")] = BAD_NOT_SUPPORTED
    writer.publish()

    judged = read_judged(reader.latest(), Verdict.NOT_DECIDABLE)

    assert judged is not None
    assert judged.usable
    assert (judged.verdict, judged.code) == (Verdict.OK, ResultCode.OK)
    assert judged.value("confidence") is None
    assert judged.value("score") is not None
    line.close()


def test_before_the_first_result_there_is_none() -> None:
    line = Line()
    assert read_judged(line.bus.reader("wear.result").latest(), Verdict.NOT_OK) is None
    writer = line.writers["wear.result"]
    writer.batch.status[:] = GOOD
    writer.publish()
    assert read_judged(line.bus.reader("wear.result").latest(), Verdict.NOT_OK) is None
    line.close()


# --- ways to the PLC -----------------------------------------------------------------------------


async def test_control_words_that_are_bad_or_too_few_are_no_control_words() -> None:
    line = Line()
    face = line.output._face
    writer = line.writers["press.verdict.control"]
    now_ns = line.clock.monotonic_ns()
    assert face.look(now_ns) is None
    writer.batch.set(0, np.zeros(CONTROL_WORDS, np.uint16))
    writer.publish()
    assert face.look(now_ns) is None, "not Good"
    writer.batch.set(0, np.zeros(3, np.uint16))
    writer.batch.status[:] = GOOD
    writer.publish()
    assert face.look(now_ns) is None, "too few"
    line.close()


async def test_without_anybody_to_tell_nothing_is_kept_or_carried_out() -> None:
    no_audit(Record("x", "y"))
    assert not await no_commands("load_model", 1)


async def test_what_is_no_number_in_the_device_is_no_place_to_start_from() -> None:
    config = configuration(values=[{"tag": "press/speed", "source": "score", "preset": 5.0}])
    line = Line(config)
    face = line.output._face
    assert isinstance(face, TagsFace)
    (tag,) = face.tags.values()
    text = line.bus.reader("wear.result")
    line.judge(reason="words")
    tag.row = Row(text, "reason", 0)
    tag.start_from_device(line.clock.monotonic_ns())
    assert tag.held.value is None
    line.close()


async def test_a_plc_that_does_not_use_the_interface_grants_nothing() -> None:
    line = Line()
    line.plc.set(Enable=False)
    line.judge()
    await line.run(1.0)
    assert line.state == "READY"
    line.close()
