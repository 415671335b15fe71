"""An output over an interface block, against the function block that is exported for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from edge_opcua.config.eai import ErrorCode, ResultCode, Stat, StatusWord
from edge_opcua.core.ports import WriteOutcome
from edge_opcua.core.values import (
    BAD_INTERNAL_ERROR,
    BAD_NOT_SUPPORTED,
    BAD_SENSOR_FAILURE,
    Link,
    Verdict,
)
from tests.writeback.line import Line, configuration

TIMEOUT_S = 0.5
SCAN_S = 0.02


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture
async def active(line: Line) -> Line:
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    assert line.plc.get("InUse")
    return line


async def test_a_first_start_needs_no_acknowledge(line: Line) -> None:
    await line.run(0.5)
    assert line.state == "INHIBITED"
    assert line.stat()[StatusWord.EDGE_HEARTBEAT] == 0
    line.judge()
    await line.run(0.5)
    assert line.state == "ACTIVE"
    assert line.plc.get("InUse")
    assert not line.plc.get("AckReq")


async def test_each_result_reaches_the_plc_once(active: Line) -> None:
    seen = []
    for number in range(1, 6):
        active.judge(Verdict.NOT_OK if number % 2 else Verdict.OK, score=number / 10)
        for _ in range(3):
            await active.step()
            if active.plc.get("NewResult"):
                seen.append((active.plc.get("Verdict"), round(active.plc.get("Score"), 3)))
    assert seen == [(2, 0.1), (1, 0.2), (2, 0.3), (1, 0.4), (2, 0.5)]
    await active.run(0.3)
    words = active.stat()
    assert words[StatusWord.RESULT_SEQ] == words[-1] == active.authority()["result_seq"]
    assert words[StatusWord.MODEL_VERSION] == 3
    assert words[StatusWord.INFERENCE_MS] == 2


FAULTS: dict[str, Callable[[Line], object]] = {
    "lane": lambda line: setattr(line, "lane_lives", False),
    "source silent": lambda line: setattr(line, "source_lives", False),
    "capture lost": lambda line: line.capture(Link.LOST),
    "late": lambda line: line.judge_late(),
    "bad": lambda line: line.judge(status=BAD_SENSOR_FAILURE, score_status=BAD_SENSOR_FAILURE),
    "undefined": lambda line: line.judge(verdict=0),
    "no number": lambda line: line.judge(score=float("nan")),
    "too large": lambda line: line.judge(score=1e300),
    "control not read": lambda line: setattr(line, "reads", False),
    "writes fail": lambda line: setattr(line.plc, "fails", "lost"),
    "link": lambda line: setattr(line.plc, "link_up", False),
}


def mend(line: Line) -> None:
    line.lane_lives = line.source_lives = line.reads = line.scans = True
    line.plc.fails = ""
    line.plc.link_up = True
    line.capture()
    line.judge()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_ends_trust_until_somebody_acknowledges_and_then_nothing_jumps(
    active: Line, fault: str
) -> None:
    FAULTS[fault](active)
    for _ in range(round((3 * TIMEOUT_S + 0.3) / SCAN_S)):
        await active.step()
        if not active.plc.get("InUse"):
            break
    assert not active.plc.get("InUse")
    assert active.plc.get("AckReq")
    await active.run(2.0)
    assert active.state == "FAILSAFE"
    mend(active)
    await active.until("ACK_REQUIRED")
    await active.run(3.0)
    assert active.state == "ACK_REQUIRED"
    assert not active.plc.get("InUse"), "nobody has acknowledged yet"
    before = active.plc.get("Out")
    assert (await active.output.acts.acknowledge("anna")).status == 0
    await active.run(0.5)
    assert active.state == "ACTIVE"
    assert active.plc.get("InUse")
    assert not active.plc.get("NewResult"), "what was judged meanwhile is history"
    assert active.plc.get("Out") == before
    active.judge(Verdict.NOT_OK)
    await active.run(0.1)
    assert active.plc.get("Verdict") == Verdict.NOT_OK


async def test_the_button_at_the_plc_acknowledges_too(active: Line) -> None:
    active.judge_late()
    await active.until("FAILSAFE")
    active.judge()
    await active.until("ACK_REQUIRED")
    await active.run(0.2)
    active.plc.set(OpAck=True)
    await active.run(0.1)
    active.plc.set(OpAck=False)
    await active.run(0.3)
    assert active.state == "ACTIVE"
    assert active.plc.get("InUse")


async def test_a_button_that_hangs_acknowledges_nothing(active: Line) -> None:
    active.plc.set(OpAck=True)
    active.judge_late()
    await active.until("FAILSAFE")
    active.judge()
    await active.until("ACK_REQUIRED")
    await active.run(2.0)
    assert active.state == "ACK_REQUIRED"


async def test_where_only_people_here_acknowledge_the_button_is_not_enough() -> None:
    line = Line(configuration(acknowledged_by="operator"))
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.judge_late()
    await line.until("FAILSAFE")
    line.judge()
    await line.until("ACK_REQUIRED")
    await line.run(0.2)
    line.plc.set(OpAck=True)
    await line.run(1.0)
    assert line.state == "ACK_REQUIRED"
    await line.output.acts.acknowledge("anna")
    await line.run(0.5)
    assert line.plc.get("InUse")
    line.close()


async def test_where_only_the_plc_acknowledges_people_here_cannot() -> None:
    line = Line(configuration(acknowledged_by="plc"))
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.judge_late()
    await line.until("FAILSAFE")
    line.judge()
    await line.until("ACK_REQUIRED")
    refused = await line.output.acts.acknowledge("anna")
    assert refused.reason == "verdict is acknowledged at the PLC only"
    await line.run(1.0)
    assert line.state == "ACK_REQUIRED"
    line.close()


async def test_a_plc_that_does_not_accept_it_from_afar_asks_again(active: Line) -> None:
    active.plc.set(AcceptRemoteAck=False)
    active.judge_late()
    await active.until("FAILSAFE")
    active.judge()
    await active.until("ACK_REQUIRED")
    await active.output.acts.acknowledge("anna")
    await active.run(2.0)
    assert active.state == "ACK_REQUIRED"
    assert not active.plc.get("InUse")


async def test_with_auto_restart_the_edge_comes_back_and_the_latch_of_the_plc_stands() -> None:
    line = Line(configuration(auto_restart=True))
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.judge_late()
    await line.until("FAILSAFE")
    line.judge()
    await line.run(3.0)
    assert ("FAILSAFE", "READY") in [(record.old, record.new) for record in line.records]
    assert line.state == "ACK_REQUIRED"
    assert not line.plc.get("InUse")
    line.close()


async def test_an_edge_that_was_killed_comes_back_and_waits(active: Line) -> None:
    active.restart()
    await active.run(3.0)
    assert active.state == "ACK_REQUIRED"
    assert active.plc.get("AckReq")
    await active.output.acts.acknowledge("anna")
    await active.run(0.5)
    assert active.plc.get("InUse")


async def test_a_frozen_edge_is_noticed_by_the_plc_and_by_itself(active: Line) -> None:
    for _ in range(60):  # nothing of ours runs, the PLC does
        active.clock.step(SCAN_S)
        active.plc.scan(active.clock.monotonic_ns())
    assert not active.plc.get("InUse")
    await active.step()
    assert active.state == "FAILSAFE"
    assert active.authority()["fault"] == "LAG"


async def test_a_machine_that_was_suspended_does_not_go_on_as_if_nothing_were(active: Line) -> None:
    active.clock.suspend(3600.0)
    await active.step()
    assert active.state == "FAILSAFE"
    assert active.authority()["fault"] == "CLOCK"
    assert "3600" in active.reason


async def test_a_plc_that_stands_still_is_a_fault(active: Line) -> None:
    active.scans = False
    await active.run(1.2)
    assert active.state == "FAILSAFE"
    assert active.authority()["fault"] in ("PLC_HEARTBEAT", "ECHO")


async def test_the_grant_of_the_plc_counts_where_it_is_asked_for() -> None:
    line = Line(configuration(granted_by="plc"))
    line.plc.set(Grant=False)
    line.judge()
    await line.run(1.0)
    assert line.state == "READY"
    line.plc.set(Grant=True)
    await line.run(0.5)
    assert line.plc.get("InUse")
    line.plc.set(Grant=False)
    await line.step()
    assert not line.plc.get("InUse"), "within one scan, without us"
    await line.run(0.5)
    assert line.state == "ACK_REQUIRED", "the PLC has latched"
    line.close()


async def test_a_plc_that_sets_us_offline_gets_no_authority(active: Line) -> None:
    active.plc.set(SetOffline=True)
    await active.run(0.5)
    assert not active.plc.get("InUse")
    assert not active.stat()[StatusWord.STAT] & (Stat.ONLINE | Stat.AUTHORITY_ACTIVE)


async def test_a_person_grants_and_revokes_where_a_person_has_to() -> None:
    line = Line(configuration(granted_by="operator"))
    line.judge()
    await line.run(1.0)
    assert line.state == "READY"
    assert not line.authority()["granted"]
    assert (await line.output.acts.grant("anna")).status == 0
    assert (await line.output.acts.grant("anna")).reason == "authority of verdict is granted already"
    await line.run(0.5)
    assert line.plc.get("InUse")
    assert (await line.output.acts.revoke("anna")).status == 0
    assert (await line.output.acts.revoke("anna")).reason == "authority of verdict is not granted"
    await line.run(0.5)
    assert line.state == "ACK_REQUIRED"
    line.close()


async def test_manual_takes_the_output_out_of_our_hands(active: Line) -> None:
    assert (await active.output.acts.manual("anna")).status == 0
    await active.run(1.0)
    assert active.state == "MANUAL"
    assert active.authority()["writer"] == "operator"
    assert not active.plc.get("InUse")
    assert active.plc.get("AckReq")
    assert (await active.output.acts.automatic("anna")).status == 0
    await active.run(1.0)
    assert active.state == "ACK_REQUIRED"
    refused = await active.output.acts.automatic("anna")
    assert refused.reason == "nobody holds verdict"


async def test_a_person_may_take_over_before_anything_has_worked(line: Line) -> None:
    await line.run(0.5)
    await line.output.acts.manual("anna")
    await line.run(0.5)
    assert line.state == "MANUAL"
    sent = len(line.plc.sent)
    await line.run(0.5)
    assert len(line.plc.sent) == sent, "what the PLC holds says it already"
    await line.output.acts.automatic("anna")
    await line.run(0.5)
    assert line.state == "READY", "without a result nobody gets authority"
    line.judge()
    await line.run(0.5)
    assert line.plc.get("InUse")


async def test_a_fault_that_was_not_acknowledged_is_not_forgotten_in_manual(active: Line) -> None:
    active.judge_late()
    await active.until("FAILSAFE")
    await active.output.acts.manual("anna")
    await active.run(0.1)
    active.judge()
    await active.output.acts.automatic("anna")
    await active.run(0.5)
    assert active.state == "ACK_REQUIRED"


async def test_what_may_pass_is_waited_for_with_the_last_value_marked() -> None:
    line = Line(configuration(hold_s=1.0))
    line.judge()
    await line.until("ACTIVE")
    await line.run(0.3)
    line.judge(Verdict.NOT_OK)
    await line.run(0.3)
    line.judge_late()
    await line.run(0.4)
    assert line.state == "HOLD"
    assert line.plc.get("InUse")
    assert line.plc.get("Verdict") == Verdict.NOT_OK
    assert line.stat()[StatusWord.QUALITY_MASK] == 0xFFFF
    line.judge(Verdict.OK)
    await line.run(0.1)
    assert line.state == "ACTIVE"
    assert line.plc.get("Verdict") == Verdict.OK
    line.judge_late()
    await line.run(1.3)
    assert line.state == "FAILSAFE"
    line.close()


async def test_hold_does_not_wait_for_what_cannot_pass() -> None:
    line = Line(configuration(hold_s=5.0))
    line.judge()
    await line.until("ACTIVE")
    line.judge_late()
    await line.run(0.1)
    assert line.state == "HOLD"
    line.lane_lives = False
    await line.run(0.6)
    assert line.state == "FAILSAFE"
    line.close()


async def test_hold_ends_when_authority_does() -> None:
    line = Line(configuration(hold_s=5.0, granted_by="plc"))
    line.judge()
    await line.until("ACTIVE")
    line.source_lives = False
    await line.run(1.5)
    assert line.state == "HOLD"
    line.source_lives = True
    line.plc.set(Grant=False)
    await line.run(0.1)
    assert line.state in ("READY", "ACK_REQUIRED")
    line.close()


async def test_a_block_made_from_another_map_is_trusted_in_nothing(line: Line) -> None:
    other = Line(configuration(interface={"word_order": "low_first"}))
    line.plc.main = other.plc.main
    line.judge()
    await line.run(1.0)
    assert line.state == "INHIBITED"
    assert line.authority()["fault"] == "VERSION"
    assert line.stat()[StatusWord.ERROR_CODE] == ErrorCode.VERSION
    assert not line.plc.get("InUse")
    other.close()


async def test_what_keeps_an_output_is_told_when_it_changes(line: Line) -> None:
    # Nobody should look at the cable while something else is wrong by now.
    line.plc.link_up = False
    await line.run(0.3)
    assert (line.state, line.authority()["fault"]) == ("INHIBITED", "LINK")
    assert line.reason == "no link to the PLC"
    line.plc.link_up = True
    await line.run(0.5)
    assert (line.state, line.reason) == ("INHIBITED", "no result yet")
    line.judge()
    await line.until("ACTIVE")
    line.lane_lives = False
    await line.until("FAILSAFE")
    assert line.reason == "the lane shows no life"
    line.plc.link_up = False
    await line.run(0.3)
    assert (line.authority()["fault"], line.reason) == ("LINK", "no link to the PLC")
    line.plc.link_up = line.lane_lives = True
    await line.run(0.5)
    assert (line.state, line.authority()["fault"], line.reason) == ("FAILSAFE", "", "no link to the PLC")


async def test_that_the_machine_was_suspended_explains_what_is_found_after_it(active: Line) -> None:
    active.clock.suspend(3600.0)
    await active.step()
    active.plc.link_up = False
    await active.run(0.3)
    assert active.authority()["fault"] == "LINK"
    assert "3600" in active.reason


async def test_degraded_inputs_are_passed_on_as_not_decidable(active: Line) -> None:
    active.judge_degraded()
    await active.run(0.1)
    assert active.state == "ACTIVE"
    assert active.plc.get("Verdict") == Verdict.NOT_DECIDABLE
    assert active.plc.get("ResultCode") == ResultCode.INPUT_BAD
    assert active.stat()[StatusWord.STAT] & Stat.INPUTS_DEGRADED
    assert active.stat()[StatusWord.QUALITY_MASK] == 0b111


async def test_a_write_that_lands_late_is_seen_marked_and_changes_nothing(active: Line) -> None:
    active.plc.fails = "late"
    await active.run(0.2)
    assert active.plc.late
    active.plc.link_up = False
    await active.run(0.7)
    assert active.state == "FAILSAFE"
    assert not active.plc.get("InUse")
    active.plc.link_up, active.plc.fails = True, ""
    await active.run(0.2)
    assert not active.stat()[StatusWord.STAT] & Stat.AUTHORITY_ACTIVE
    active.plc.land()  # the frozen peer goes on
    assert active.stat()[StatusWord.STAT] & Stat.AUTHORITY_ACTIVE
    for _ in range(50):
        await active.step()
        assert not active.plc.get("InUse")
    assert not active.stat()[StatusWord.STAT] & Stat.AUTHORITY_ACTIVE, "put right again"
    assert active.authority()["landed_late"] == 1
    assert active.authority()["indeterminate"] >= 1
    assert any(record.outcome.startswith("landed late") for record in active.records)


async def test_a_write_that_is_refused_is_tried_again_at_the_pace_of_the_heartbeat(active: Line) -> None:
    refused = 0

    async def refuse(*arguments: object, **named: object) -> WriteOutcome:
        nonlocal refused
        refused += 1
        return WriteOutcome(BAD_NOT_SUPPORTED, "no such area")

    active.plc.write_bytes = refuse  # type: ignore[method-assign]
    await active.run(1.0)
    assert 3 <= refused <= 11
    assert active.state == "FAILSAFE"
    assert active.authority()["indeterminate"] == 0, "what was refused did nothing"


async def test_a_result_block_without_a_result_is_passed_over(active: Line) -> None:
    writer = active.writers["wear.result"]
    writer.batch.set(writer.batch.row("result_id"), 0)
    writer.publish()
    await active.run(0.1)
    assert active.state == "ACTIVE"


async def test_an_area_that_somebody_else_writes_is_noticed(line: Line) -> None:
    real = line.plc.write_bytes

    async def overwritten(*arguments: object, **named: object) -> object:
        outcome = await real(*arguments, **named)  # type: ignore[arg-type]
        line.plc.status = b"\x00\x07" * line.status_words
        return outcome

    line.plc.write_bytes = overwritten  # type: ignore[method-assign,assignment]
    line.judge()
    await line.run(3.0)
    assert line.authority()["fault"] == "READ_BACK"


async def test_the_last_word_takes_authority_away(active: Line) -> None:
    assert await active.output.release(0.4)
    stat = active.stat()[StatusWord.STAT]
    assert stat & Stat.FAIL_SAFE_ACTIVE
    assert not stat & (Stat.ONLINE | Stat.AUTHORITY_ACTIVE)
    active.plc.scan(active.clock.monotonic_ns())
    assert not active.plc.get("InUse")


async def test_without_a_link_the_last_word_does_not_arrive(active: Line) -> None:
    active.plc.link_up = False
    assert not await active.output.release(0.4)


async def test_who_acknowledges_what_nobody_asked_is_told(active: Line) -> None:
    outcome = await active.output.acts.acknowledge("anna")
    assert outcome.reason == "verdict waits for no acknowledge"
    assert active.records[-1].who == "anna"
    assert (await active.output.acts.grant("anna")).reason == "authority of verdict is not granted by people"
    assert (await active.output.acts.manual("anna", {"press/speed": 1.0})).reason.startswith(
        "verdict does not"
    )


async def test_the_model_error_has_its_own_code() -> None:
    line = Line(configuration(mode="triggered"))
    line.plc.main.set("Trigger", value=False)  # type: ignore[union-attr]
    await line.until("ACTIVE")
    await line.run(0.3)
    line.plc.set(Trigger=True)
    await line.run(0.1)
    line.judge(Verdict.NOT_DECIDABLE, stroke=1, status=BAD_INTERNAL_ERROR, late=True)
    await line.run(0.1)
    assert line.plc.get("ResultCode") == ResultCode.MODEL_ERROR
    assert line.state == "ACTIVE"
    line.close()
