"""A lane on a real bus with the real model: what a client would read for each kind of stroke."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import (
    BAD_COMMUNICATION_ERROR,
    BAD_CONFIGURATION_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_NO_COMMUNICATION,
    BAD_OUT_OF_RANGE,
    BAD_SENSOR_FAILURE,
    BAD_TIMEOUT,
    GOOD,
    LIMIT_HIGH,
    UNCERTAIN_EU_EXCEEDED,
    UNCERTAIN_SUBNORMAL,
    UNCERTAIN_SUBSTITUTE,
    Link,
    Value,
    Verdict,
)
from edge_opcua.errors import ModelError
from edge_opcua.inference.intake import Inputs
from edge_opcua.inference.lane import LaneSpec
from edge_opcua.sim.physics import Fault, stroke_waveform
from edge_opcua.testing import ManualClock
from tests.inference.line import (
    DEADLINE_MS,
    Line,
    OneLane,
    context_tag,
    delivered,
    extractor_for,
    slow_down,
    spec,
    with_context,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def line(clock: ManualClock) -> Iterator[Line]:
    made = Line(clock)
    yield made
    made.close()


@pytest.fixture
def lane(line: Line) -> OneLane:
    made = line.lane(delivered())
    made.prepare()
    made.activate(None)
    return made


def array(value: Value) -> npt.NDArray[np.float32]:
    assert isinstance(value, np.ndarray)
    return value.astype(np.float32)


def assert_fail_safe(result: dict[str, Value], status: int, reason: str) -> None:
    """Architecture §4: no judgement, its status as given, and the fail-safe verdict as a substitute."""
    assert result["verdict"] == Verdict.NOT_DECIDABLE
    assert result["verdict.status"] == UNCERTAIN_SUBSTITUTE
    assert result["fail_safe_active"] is True
    for name in ("score", "confidence", "contributions", "expected"):
        assert result[name] is None
        assert result[f"{name}.status"] == status
    assert reason in str(result["reason"])


def test_a_healthy_stroke_is_ok_with_everything_a_client_wants_to_know(
    line: Line, lane: OneLane, clock: ManualClock
) -> None:
    line.stroke(500)
    clock.step(0.004)
    lane.step()
    result = line.verdict()
    manifest = delivered().manifest
    assert result["verdict"] == Verdict.OK
    assert isinstance(result["score"], float)
    assert 0.0 < result["score"] < 1.0
    assert result["confidence"] == pytest.approx(1.0, abs=0.2)
    assert result["stroke"] == 500
    assert result["part_id"] == 100_500
    assert result["captured_ns"] == clock.utc_ns() - 24_000_000
    assert result["score.source_ns"] == result["captured_ns"]
    assert result["acquire_ms"] == 20.0
    assert result["queue_ms"] == 4.0
    assert result["infer_ms"] == 0.0  # the clock stands still meanwhile
    assert result["total_ms"] == 24.0
    assert result["input_age_ms"] == 24.0
    assert result["fail_safe_active"] is False
    assert result["reason"] == ""
    assert (result["model_name"], result["model_version"]) == ("press-anomaly", 1)
    assert result["model_sha256"] == manifest.sha256
    assert array(result["contributions"]).sum() == pytest.approx(1.0)
    assert array(result["features"]).shape == array(result["expected"]).shape == (13,)
    assert all(result[f"{name}.status"] == GOOD for name in ("score", "verdict", "features", "part_id"))


def test_a_worn_die_is_not_ok_and_the_reason_names_its_band(line: Line, lane: OneLane) -> None:
    line.stroke(500, wear=0.6)
    lane.step()
    result = line.verdict()
    assert result["verdict"] == Verdict.NOT_OK
    assert isinstance(result["score"], float)
    assert result["score"] > 1.5
    assert str(result["reason"]).startswith("shows in band_200_400_hz 5.")
    names = delivered().manifest.names
    assert names[int(array(result["contributions"]).argmax())] == "band_200_400_hz"
    band = names.index("band_200_400_hz")
    assert array(result["features"])[band] > 2 * array(result["expected"])[band]


def test_every_capture_gets_its_result_in_order(line: Line, lane: OneLane) -> None:
    for number in range(10, 20):
        line.stroke(number)
    lane.step()
    results = line.judged()
    assert [result["stroke"] for result in results] == list(range(10, 20))
    ids = [int(str(result["result_id"])) for result in results]
    assert ids == list(range(ids[0], ids[0] + 10))
    assert line.counters()["processed"] == 10
    assert line.counters()["cursor"] == 10


def test_captures_overwritten_before_the_lane_came_to_them_are_counted_as_missed(
    line: Line, lane: OneLane
) -> None:
    for number in range(1, 21):  # more than the ring keeps
        line.stroke(number)
    lane.step()
    strokes = [result["stroke"] for result in line.judged()]
    missed = int(str(line.counters()["missed"]))
    assert missed >= 4
    assert strokes == list(range(missed + 1, 21))


def test_a_capture_read_twice_is_judged_once(line: Line, lane: OneLane, clock: ManualClock) -> None:
    # the io process was restarted and finds the capture it had read before
    ready_ns = clock.utc_ns()
    line.stroke(7, ready_ns=ready_ns)
    lane.step()
    line.stroke(7, ready_ns=ready_ns)
    lane.step()
    assert len(line.judged()) == 1


def test_a_bad_waveform_gives_its_status_and_the_fail_safe_verdict(line: Line, lane: OneLane) -> None:
    line.stroke(7, status=BAD_SENSOR_FAILURE)
    lane.step()
    result = line.verdict()
    assert_fail_safe(result, BAD_SENSOR_FAILURE, "vib/stroke: BadSensorFailure")
    assert result["features"] is None
    assert result["stroke"] == 7


def test_a_bad_context_tag_gives_its_status_and_the_fail_safe_verdict(line: Line, lane: OneLane) -> None:
    line.stroke(7)
    line.tag_status("die_temp", BAD_SENSOR_FAILURE)
    lane.step()
    assert_fail_safe(line.verdict(), BAD_SENSOR_FAILURE, "press/die_temp: BadSensorFailure")


def test_a_press_never_reached_gives_no_communication(clock: ManualClock) -> None:
    line = Line(clock)
    bare = line.bus.writer("press.fast")  # as an io process that never reached the PLC leaves it
    bare.batch.status[:] = BAD_NO_COMMUNICATION
    lane = line.lane(delivered())
    lane.prepare()
    lane.activate(None)
    line.stroke(7)
    bare.publish(link=Link.FAILED, refreshed=False)
    lane.step()
    result = line.verdict()
    assert_fail_safe(result, BAD_NO_COMMUNICATION, "press/tonnage: BadNoCommunication")
    assert result["part_id.status"] == BAD_NO_COMMUNICATION
    line.close()


@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_part_number_that_is_none_costs_the_part_number_and_not_the_verdict(
    line: Line, lane: OneLane, number: int
) -> None:
    # A PLC without a part in hand says -1; a lane that ended by it would meet it again, and be held.
    line.stroke(7)
    line.tags(part_id=number)
    lane.step()
    result = line.verdict()
    assert result["verdict.status"] == GOOD
    assert (result["part_id"], result["part_id.status"]) == (None, BAD_OUT_OF_RANGE)


def test_stale_context_makes_the_result_subnormal(line: Line, lane: OneLane, clock: ManualClock) -> None:
    line.stroke(7)
    clock.step(0.6)  # stale_after_s is 0.5; the link is alive
    line.captures.publish()
    line.captures.batch.set(line.captures.batch.row("ready_ns"), clock.utc_ns())
    line.captures.publish()
    line.fast.beat()
    lane.step()
    result = line.judged()[-1]
    assert result["verdict"] == Verdict.OK
    assert result["fail_safe_active"] is False
    assert {result[f"{name}.status"] for name in ("score", "verdict", "expected")} == {UNCERTAIN_SUBNORMAL}
    assert isinstance(result["input_age_ms"], float)
    assert result["input_age_ms"] >= 600.0


def test_a_substitute_of_a_lost_context_tag_is_what_the_model_sees(
    line: Line, lane: OneLane, clock: ManualClock
) -> None:
    line.tags(link=Link.LOST, refreshed=False)
    clock.step(3.0)  # hold_s of 2 is over: tonnage has a substitute, the others have none
    line.fast.beat()
    line.captures.beat()
    tonnage, die_temp, _ = Inputs(line.bus, spec().context).read()
    assert (tonnage.value, tonnage.status) == (820.0, UNCERTAIN_SUBSTITUTE)
    assert (die_temp.value, die_temp.status) == (0.0, BAD_COMMUNICATION_ERROR)


def test_context_tags_of_one_block_are_read_from_one_batch(line: Line) -> None:
    inputs = Inputs(line.bus, spec().context)
    for step in range(20):
        line.tags(tonnage=800.0 + step, die_temp=40.0 + step)
        tonnage, die_temp, _ = inputs.read()
        assert (tonnage.value - 800.0, die_temp.value - 40.0) == (step, step)


def test_a_block_without_any_batch_has_no_communication(line: Line) -> None:
    (reading,) = Inputs(line.bus, [replace(context_tag("score"), block="press-anomaly.result")]).read()
    assert reading.status == BAD_NO_COMMUNICATION


def test_a_value_outside_its_range_is_used_and_told(line: Line, lane: OneLane) -> None:
    line.stroke(7)
    line.tag_status("tonnage", UNCERTAIN_EU_EXCEEDED | LIMIT_HIGH)
    lane.step()
    assert line.verdict()["score.status"] == UNCERTAIN_SUBNORMAL


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.ACCELEROMETER, "not learned: peak 320 m/s² is outside 1..300"),
        (Fault.TONNAGE, "not learned: tonnage 2370 kN is outside 410..1230"),
    ],
)
def test_a_broken_sensor_is_not_decidable_and_never_an_anomaly(
    line: Line, lane: OneLane, fault: Fault, reason: str
) -> None:
    if fault is Fault.ACCELEROMETER:
        line.stroke(7, waveform=stroke_waveform(7, wear=0.0, seed=7, sensor_fault=fault))
    else:
        line.stroke(7)
        line.tags(tonnage=line.physics.stroke(7, wear=0.0, faults=frozenset({fault})).tonnage)
    lane.step()
    result = line.verdict()
    assert result["verdict"] == Verdict.NOT_DECIDABLE
    assert result["verdict.status"] == GOOD  # that the model does not know this is certain
    assert result["fail_safe_active"] is False
    assert result["reason"] == reason
    assert result["score"] is None
    assert result["score.status"] == BAD_OUT_OF_RANGE
    assert result["features"] is not None  # what was seen is worth seeing


def test_a_dead_sensor_is_a_sensor_failure(line: Line, lane: OneLane) -> None:
    line.stroke(7, waveform=np.zeros(2_000, np.float32))
    lane.step()
    assert_fail_safe(line.verdict(), BAD_SENSOR_FAILURE, "the waveform is flat")


def test_a_capture_of_another_length_is_a_configuration_error(line: Line, lane: OneLane) -> None:
    line.stroke(7, waveform=np.ones(1_999, np.float32))
    lane.step()
    assert_fail_safe(line.verdict(), BAD_CONFIGURATION_ERROR, "1999 samples at 10000 Hz, not 2000")


def test_a_late_result_is_never_good(line: Line, lane: OneLane, clock: ManualClock) -> None:
    line.stroke(7)
    clock.step(DEADLINE_MS / 1000 + 0.001)
    line.tags()
    lane.step()
    result = line.verdict()
    assert_fail_safe(result, BAD_TIMEOUT, "late: 101 ms after it was read, 100 ms allowed")
    assert result["features"] is None  # what has expired is not run
    assert line.counters()["late"] == 1


def test_a_model_that_takes_too_long_is_late_too(line: Line, clock: ManualClock) -> None:
    lane = line.lane(delivered())
    lane.prepare()
    slow_down(lane, clock, 0.15)
    lane.activate(None)
    line.stroke(7)
    lane.step()
    result = line.verdict()
    assert_fail_safe(result, BAD_TIMEOUT, "late: 150 ms")
    assert result["infer_ms"] == 150.0


def test_a_model_that_answers_no_number_is_an_internal_error(line: Line, lane: OneLane) -> None:
    lane.lane.model._low[:], lane.lane.model._high[:] = -np.inf, np.inf
    line.stroke(7, waveform=np.full(2_000, 3e37, np.float32) * np.sin(np.arange(2_000, dtype=np.float32)))
    lane.step()
    assert_fail_safe(line.verdict(), BAD_INTERNAL_ERROR, "M533: the model answered with")


def test_the_configured_fail_safe_verdict_is_given_out(line: Line) -> None:
    lane = line.lane(delivered(), lane_spec=spec(fail_safe=Verdict.NOT_OK))
    lane.prepare()
    lane.activate(None)
    line.stroke(7, status=BAD_SENSOR_FAILURE)
    lane.step()
    result = line.verdict()
    assert result["verdict"] == Verdict.NOT_OK
    assert result["verdict.status"] == UNCERTAIN_SUBSTITUTE


def test_the_loss_of_the_source_is_told_once_and_recovers(
    line: Line, lane: OneLane, clock: ManualClock
) -> None:
    line.stroke(7)
    lane.step()
    assert line.verdict()["verdict"] == Verdict.OK
    line.link(Link.LOST)
    for _ in range(5):
        clock.step(1.0)
        line.captures.beat()
        lane.step()
    result = line.verdict()
    assert_fail_safe(result, BAD_NO_COMMUNICATION, "vib/stroke: no connection to the device")
    assert result["stroke"] is None
    assert result["captured_ns"] is None
    line.stroke(8)
    lane.step()
    recovered = line.verdict()
    assert recovered["verdict"] == Verdict.OK
    assert recovered["stroke"] == 8
    line.link(Link.LOST)
    lane.step()
    assert line.verdict()["fail_safe_active"] is True


def test_a_capture_the_device_refuses_is_told_without_a_stroke(line: Line, lane: OneLane) -> None:
    line.captures.batch.status[:] = BAD_CONFIGURATION_ERROR  # as the capture reader publishes it
    line.captures.publish()
    lane.step()
    result = line.verdict()
    assert_fail_safe(result, BAD_CONFIGURATION_ERROR, "vib/stroke cannot be read: BadConfigurationError")
    assert result["stroke"] is None
    line.stroke(8)
    lane.step()
    assert line.verdict()["verdict"] == Verdict.OK


def test_a_dead_io_process_is_a_lost_source(line: Line, lane: OneLane, clock: ManualClock) -> None:
    line.stroke(7)
    lane.step()
    line.judged()
    clock.step(0.9)
    lane.step()
    assert line.judged() == []
    clock.step(0.2)
    lane.step()
    assert_fail_safe(line.verdict(), BAD_NO_COMMUNICATION, "no connection")


def test_a_source_that_connects_for_the_first_time_is_not_lost(line: Line, lane: OneLane) -> None:
    line.link(Link.CONNECTING)
    lane.step()
    assert line.judged() == []


def test_readers_see_the_fail_safe_verdict_when_the_lane_is_dead(
    line: Line, lane: OneLane, clock: ManualClock
) -> None:
    line.stroke(7)
    lane.step()
    batch = line.results.latest()
    assert batch is not None
    clock.step(0.9)
    assert line.results.effective(batch)[batch.row("verdict")] == GOOD
    lane.step()  # beats
    clock.step(0.9)
    assert line.results.effective(batch)[batch.row("verdict")] == GOOD
    clock.step(2.0)
    assert line.results.effective(batch)[batch.row("verdict")] == UNCERTAIN_SUBSTITUTE
    assert batch.layout.spec.tags[batch.row("verdict")].substitute == Verdict.NOT_DECIDABLE
    assert line.results.effective(batch)[batch.row("score")] == BAD_COMMUNICATION_ERROR


def test_percentiles_are_published_at_most_twice_a_second(
    line: Line, lane: OneLane, clock: ManualClock
) -> None:
    for number in range(1, 11):
        line.stroke(number)
        clock.step(0.004 if number < 10 else 0.040)
        lane.step()
    before = line.counters()
    clock.step(0.6)
    line.captures.beat()
    lane.step()
    after = line.counters()
    assert before["p99_ms"] == 4.0  # of the first stroke
    assert after["p50_ms"] == 4.0
    assert 30.0 < float(str(after["p99_ms"])) <= 40.0
    published = line.health.newest
    clock.step(0.6)
    lane.step()
    assert line.health.newest == published  # nothing new: a beat is enough


def test_a_context_that_is_no_number_is_refused(line: Line) -> None:
    tags = (context_tag("tonnage", "kN"), context_tag("die_temp", "°C"))
    text = replace(context_tag("recipe", "1/min"), reference="press/strokes_per_min")
    with pytest.raises(ModelError, match="press/strokes_per_min is not a number") as caught:
        line.lane(delivered(), lane_spec=with_context(spec(), *tags, text)).prepare()
    assert caught.value.code == "M504"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            with_context(
                spec(), *(context_tag(name, "bar") for name in ("tonnage", "die_temp", "strokes_per_min"))
            ),
            "press/tonnage is in bar, the model was trained in kN",
        ),
        (replace(spec(), waveform_unit="g"), "vib/stroke is in g, the model was trained in m/s²"),
        (
            replace(spec(), sample_rate_hz=5_000.0),
            "2000 samples at 5000 Hz, the model was trained on 2000 at 10000 Hz",
        ),
    ],
)
def test_a_plant_in_other_units_than_the_training_is_refused(
    line: Line, changed: LaneSpec, sentence: str
) -> None:
    lane = line.lane(delivered(), lane_spec=changed, extractor=extractor_for(spec()))
    with pytest.raises(ModelError, match=sentence) as caught:
        lane.prepare()
    assert caught.value.code == "M511"


def test_context_in_another_order_is_put_into_the_models_order() -> None:
    shuffled = with_context(spec(), *reversed(spec().context))
    assert shuffled.ordered_for(delivered().manifest) == spec()


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("tonnage", "die_temp"), "float32\\[1,13\\], 12 features are mapped; missing: strokes_per_min"),
        (("tonnage", "die_temp", "oil_temp"), "missing: strokes_per_min; not wanted: press/oil_temp"),
        (
            ("tonnage", "die_temp", "strokes_per_min", "tonnage"),
            "14 features are mapped; one context tag is there twice",
        ),
    ],
)
def test_a_mismatch_of_context_names_what_is_missing(names: tuple[str, ...], sentence: str) -> None:
    wrong = with_context(spec(), *(context_tag(name) for name in names))
    with pytest.raises(ModelError, match=sentence) as caught:
        wrong.ordered_for(delivered().manifest)
    assert caught.value.code == "M504"


def test_only_an_active_lane_is_retired_and_only_an_idle_one_becomes_active(line: Line) -> None:
    lane = line.lane(delivered())
    lane.prepare()
    with pytest.raises(ModelError, match="not active") as caught:
        lane.retire()
    assert caught.value.code == "M534"
    lane.activate(None)
    with pytest.raises(ModelError, match="active already"):
        lane.activate(None)


@pytest.fixture
def running() -> Iterator[tuple[Line, OneLane]]:
    line = Line(SystemClock())
    lane = line.lane(delivered())
    lane.prepare()
    lane.activate(None)
    yield line, lane
    line.close()


async def test_a_running_lane_is_woken_by_the_capture(running: tuple[Line, OneLane]) -> None:
    line, lane = running
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(lane.run())
        for number in range(1, 6):
            await asyncio.sleep(0.02)
            line.stroke(number)
        while line.results.newest < 5:
            await asyncio.sleep(0.01)
        beat_ns = line.results.beat_ns
        await asyncio.sleep(0.15)
        assert line.results.beat_ns > beat_ns
        handover = lane.retire()
        await task
    assert (handover.cursor, handover.sequence) == (5, 5)
    assert [result["stroke"] for result in line.judged()] == [1, 2, 3, 4, 5]
    assert line.counters()["state"] == "Retired"


async def test_a_lane_without_an_eventfd_of_its_own_looks_at_every_tick(
    running: tuple[Line, OneLane],
) -> None:
    line, lane = running
    lane.lane.spec = replace(lane.lane.spec, wake=1)  # the second pipeline on a capture with one eventfd
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(lane.run())
        await asyncio.sleep(0.02)
        line.stroke(1)
        while line.results.newest < 1:
            await asyncio.sleep(0.01)
        lane.retire()
