"""Outputs of single tags on a Modbus device by others, behind the running edge: a device without a program.

It has no watchdog: what that means is told before the start, and shown at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from asyncua import ua

from edge_opcua.bench.failsafe.trials import printed_ms
from edge_opcua.config.eai import is_ahead
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_NOT_WRITABLE, BAD_USER_ACCESS_DENIED
from edge_opcua.opcua.namespaces import plant_id
from tests.system.conveyor import (
    BEAT,
    BROKEN,
    COUNT,
    GOOD_PART,
    HEALTHY,
    HIGH,
    LOW,
    PRESET,
    RATE_PER_S,
    SPEED,
    WORN,
    Conveyor,
    Write,
    as_real,
    as_real_of,
)
from tests.system.plant import alive, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

STEP = RATE_PER_S * 0.1  # a ramp moves ten times a second
CODE = 0xFFFF0000


@pytest.fixture(scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Conveyor]:
    async with Conveyor(tmp_path_factory.mktemp("line")) as running:
        yield running


@pytest.fixture(scope="module")
async def checked(line: Conveyor) -> str:
    """What `check` prints of this line."""
    check = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_opcua.cli", "check", str(line.config)),
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    text, _ = await check.communicate()
    assert check.returncode == 0, text.decode()
    return text.decode()


def bumpless(writes: list[Write], before: float) -> None:
    """Hold a ramp against its rate: each step, and the whole of it against the device's own clock."""
    values = [before, *(write.real for write in writes)]
    steps = [abs(after - value) for value, after in itertools.pairwise(values)]
    assert max(steps) <= STEP + 1e-6, values
    assert min(steps) > 0, "nothing is written twice"
    seconds = (writes[-1].ns - writes[0].ns) / 1e9
    assert abs(values[-1] - values[1]) <= RATE_PER_S * seconds + STEP, (values, seconds)


async def test_nobody_watches_this_device_and_check_and_the_start_say_so(
    line: Conveyor, checked: str
) -> None:
    log = (line.state.root / "demo-server.log").read_text("utf-8")
    for said in (checked, log):
        assert "C175" in said
        assert 'device "drive" keeps what was written last' in said
    assert "nobody notices when the writes end" in checked
    (row,) = [text for text in checked.splitlines() if "neither a heartbeat nor a watchdog" in text]
    assert "edge or network dead" in row
    assert "never" in row


async def test_a_score_is_clamped_ramped_and_read_back_and_a_bit_follows_the_verdict(line: Conveyor) -> None:
    assert line.drive.trace(SPEED)[0].real == pytest.approx(PRESET), "safe before anything was judged"
    await line.acts()
    await line.judged(HEALTHY, LOW)
    before = LOW
    for stroke, speed, is_good in ((BROKEN, HIGH, 0), (WORN, None, 0), (HEALTHY, LOW, 1)):
        since = len(line.drive.writes)
        await line.judged(stroke, speed)
        trace = line.drive.trace(SPEED, since)
        bumpless(trace, before)
        before = trace[-1].real
        assert [write.words for write in line.drive.trace(GOOD_PART, since)] == [(is_good,)]
        await line.reads(before)
        await line.tells(before, "Good" if speed is None else "GoodClamped")


async def test_a_command_is_written_once_for_each_result_beside_a_heartbeat(line: Conveyor) -> None:
    await line.acts()
    since = len(line.drive.writes)
    for _ in range(3):
        await line.judged(HEALTHY, LOW)
    counted = [write.words[0] for write in line.drive.trace(COUNT, since)]
    assert counted == [line.strokes - 2, line.strokes - 1, line.strokes]
    beats = [write.words[0] for write in line.drive.trace(BEAT, since)]
    assert all(is_ahead(after, beat) for beat, after in itertools.pairwise(beats)), beats


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault.

    Args:
        promised: What `check` calls it.
        fault: What the output calls it.
        pid: The process that is stopped for it.
    """

    promised: str
    fault: str
    pid: Callable[[Conveyor], Awaitable[int]]


async def _lane(line: Conveyor) -> int:
    return await line.pid("lane/")


async def _unit(line: Conveyor) -> int:
    return line.unit.process.pid


TRIALS = (Trial("lane frozen", "LANE", _lane), Trial("input lost", "INPUT", _unit))


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.promised.replace(" ", "-"))
async def test_a_fault_puts_the_preset_into_the_device_and_it_comes_back_without_a_bump(
    line: Conveyor, checked: str, trial: Trial
) -> None:
    promised_ms = printed_ms(checked.partition("reacts ")[2].partition("tally ")[0])[trial.promised]
    await line.acts()
    await line.judged(HEALTHY, LOW)
    pid, since = await trial.pid(line), len(line.drive.writes)

    began_ns = line.clock.monotonic_ns()
    signal_process(pid, signal.SIGSTOP)
    try:
        await line.is_in("FAILSAFE", outputs=("pace", "tally"))
        assert (await line.output("pace"))["fault"] == trial.fault
        await line.settles(PRESET)
        (fell,) = line.drive.trace(SPEED, since)
        assert (fell.ns - began_ns) / 1e6 <= promised_ms
        assert (await line.drive.client.read_coils(GOOD_PART, device_id=7)).bits[0] is False
        beats = len(line.drive.trace(BEAT))
        await line.clock.sleep(0.5)
        assert len(line.drive.trace(BEAT)) == beats, "the heartbeat means something"
    finally:
        signal_process(pid, signal.SIGCONT)
    await line.works_again()
    assert line.drive.trace(SPEED, since) == [fell], "nobody has acknowledged yet"

    await line.acts()
    since = len(line.drive.writes)
    await line.judged(BROKEN, HIGH)
    bumpless(line.drive.trace(SPEED, since), PRESET)


async def test_a_device_that_stood_still_gets_the_preset_and_nothing_that_came_meanwhile(
    line: Conveyor,
) -> None:
    await line.acts()
    await line.judged(HEALTHY, LOW)
    since, drive = len(line.drive.writes), line.drive.process.pid

    signal_process(drive, signal.SIGSTOP)
    try:
        await line.is_in("FAILSAFE", outputs=("pace", "tally"))
        for _ in range(2):
            await line.stroke(BROKEN)
            await line.clock.sleep(0.2)
    finally:
        signal_process(drive, signal.SIGCONT)

    await line.works_again()
    assert {write.real for write in line.drive.trace(SPEED, since)} == {as_real_of(PRESET)}
    assert line.drive.trace(COUNT, since) == []
    await line.acts()
    since = len(line.drive.writes)
    await line.judged(BROKEN, HIGH)
    bumpless(line.drive.trace(SPEED, since), PRESET)
    assert [write.words[0] for write in line.drive.trace(COUNT, since)] == [line.strokes]


async def test_a_person_takes_the_tag_from_a_program_that_took_it_from_the_model(line: Conveyor) -> None:
    await line.acts()
    await line.judged(HEALTHY, LOW)
    await line.write(line.program_node("speed"), 1.0)
    await line.settles(1.0)
    await line.judged(BROKEN, 1.0)  # the model is no longer asked for this tag, and still for the other one

    since = len(line.drive.writes)
    await line.write(line.person_node("speed"), 1.9)
    assert [write.real for write in line.drive.trace(SPEED, since)] == [pytest.approx(1.9)]
    await line.is_in("MANUAL")
    row = await line.output("pace")
    assert row["writer"] == "operator"
    assert row["values"][0]["status"] == "GoodLocalOverride"
    with pytest.raises(ua.UaStatusCodeError) as refused:
        await line.write(line.program_node("speed"), 1.1)
    assert refused.value.code & CODE == BAD_INVALID_STATE
    await line.stroke(HEALTHY)
    await line.clock.sleep(0.5)
    assert len(line.drive.trace(SPEED, since)) == 1, "neither the program nor the model"

    output = "Conveyor.Outputs.pace"
    await line.person.get_node(plant_id(output)).call_method(
        plant_id(f"{output}.ReturnToAutomatic"), ua.Variant("set up")
    )
    await line.is_in("ACTIVE")
    since = len(line.drive.writes)
    await line.judged(HEALTHY, LOW)
    bumpless(line.drive.trace(SPEED, since), as_real_of(1.9))


async def test_a_program_may_not_write_what_lists_the_model_alone(line: Conveyor) -> None:
    for name in ("good_part", "count", "beat"):
        value: bool | int = True if name == "good_part" else 1
        kind = ua.VariantType.Boolean if name == "good_part" else ua.VariantType.UInt16
        for node in (line.program_node(name), line.person_node(name)):
            with pytest.raises(ua.UaStatusCodeError) as refused:
                await node.write_value(ua.DataValue(ua.Variant(value, kind)))
            assert refused.value.code & CODE in (BAD_NOT_WRITABLE, BAD_USER_ACCESS_DENIED)


async def test_killed_it_leaves_the_last_value_in_a_device_without_a_watchdog(line: Conveyor) -> None:
    await line.acts()
    await line.judged(BROKEN, HIGH)
    pid = await line.pid("io")

    signal_process(pid, signal.SIGKILL)
    while alive(pid):
        await line.clock.sleep(0.001)
    since = len(line.drive.writes)

    assert as_real(await line.drive.read(SPEED, 2)) == pytest.approx(HIGH), "nobody told the device"

    async def written() -> bool:
        return bool(line.drive.trace(SPEED, since))

    await line.until(written, "a new process")
    first = line.drive.trace(SPEED, since)[0]
    assert first.real == pytest.approx(PRESET), "whoever starts knows nothing, and begins safe"
    before = [write for write in line.drive.writes[since:] if write.ns < first.ns]
    assert {write.address for write in before} <= {BEAT}, (
        "of the other output, which has nothing to make safe"
    )


async def test_a_server_that_is_asked_to_end_leaves_the_preset(line: Conveyor) -> None:
    await line.acts()
    await line.judged(HEALTHY, LOW)
    since = len(line.drive.writes)

    assert await line.server.stop() == 0

    assert line.server.lines[-1] == "stopped; outputs are released"
    assert as_real(await line.drive.read(SPEED, 2)) == pytest.approx(PRESET)
    assert (await line.drive.client.read_coils(GOOD_PART, device_id=7)).bits[0] is False
    # A stroke may have been judged just before the server was asked: its value comes before the preset.
    *before, last = [write.real for write in line.drive.trace(SPEED, since)]
    assert last == pytest.approx(PRESET)
    assert all(value != pytest.approx(PRESET) for value in before), "it is written once"
    assert len(before) <= 1
    if not before:
        assert line.drive.trace(COUNT, since) == [], "this one holds what was counted last"
