"""What belongs to a result: its samples, and the tags beside it as they were then; answers to verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Request
from edge_opcua.core.journal import Journal, JournalLimits
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_NO_COMMUNICATION,
    BAD_NODE_ID_UNKNOWN,
    BAD_NOT_SUPPORTED,
    BAD_RESOURCE_UNAVAILABLE,
    BAD_SENSOR_FAILURE,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    BlockSpec,
    Link,
    Scalar,
    TagSpec,
    Verdict,
)
from edge_opcua.core.worker import Worker
from edge_opcua.inference.intake import Shot
from edge_opcua.records import windows as windows_module
from edge_opcua.records.joining import Joining, Joinings, capture_key
from edge_opcua.records.recorder import Recorder
from edge_opcua.records.window import Answer, Window
from edge_opcua.records.windowhealth import WINDOWS_BLOCK
from edge_opcua.records.windowlook import Wanted, WindowLook
from edge_opcua.records.windows import Windows
from edge_opcua.testing import ManualClock
from tests.records.windowrig import CAPTURE, FAST, JUDGED, RESULT, SLOW, Line, make_bus, samples_of

P = "press-anomaly"


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = make_bus()
    yield bus
    bus.close()


def joined(bus: Bus, joining: Joining, cursor: int = 0) -> list[Window | None]:
    reader = bus.reader(RESULT.name)
    reader.cursor = cursor
    return [joining.window(batch) for batch in reader.poll()]


def test_a_window_is_the_result_with_its_samples_and_tags(bus: Bus) -> None:
    line = Line(bus)
    line.stroke(3, Verdict.NOT_OK)
    (found,) = joined(bus, Joining(bus, JUDGED))
    assert found is not None
    np.testing.assert_array_equal(found.samples, samples_of(3))
    np.testing.assert_array_equal(found.context, [800.0, 40.0])
    np.testing.assert_array_equal(found.context_status, [GOOD, GOOD])
    np.testing.assert_array_equal(found.features, [3, 3, 3])
    assert (found.result_id, found.stroke, found.captured_ns) == (5003, 3, 3000)
    assert (found.verdict, found.score, found.confidence) == (Verdict.NOT_OK, 0.03, 0.9)
    assert (found.model, found.version, found.total_ms) == (P, 2, 1.5)


def test_each_result_gets_the_tags_of_its_own_time(bus: Bus) -> None:
    line = Line(bus)
    joining = Joining(bus, JUDGED)
    for stroke in (1, 2, 3):
        line.tags(tonnage=stroke * 100.0)
        line.stroke(stroke)
    line.tags(tonnage=999.0, die_temp=70.0)  # after all of them
    found = joined(bus, joining)
    assert [list(each.context) for each in found if each] == [[100.0, 40.0], [200.0, 40.0], [300.0, 40.0]]


def test_a_tag_that_came_while_the_capture_waited_is_taken_if_the_features_say_so(bus: Bus) -> None:
    line = Line(bus)
    joining = Joining(bus, JUDGED)
    line.tags(tonnage=100.0)
    line.capture_of(1)
    line.tags(tonnage=111.0)  # the lane came to it after this
    line.tags(tonnage=222.0)
    line.result_of(1, features=[7.0, 111.0, 40.0], queue_ms=5000.0)
    line.capture_of(2)
    line.tags(tonnage=333.0)  # the lane came to it before that
    line.result_of(2, features=[7.0, 222.0, 40.0], queue_ms=5000.0)
    line.capture_of(3)
    line.tags(tonnage=444.0)
    line.result_of(3, features=[0.5], queue_ms=5000.0)  # which nobody can know
    found = joined(bus, joining)
    assert [each.context[0] for each in found if each] == [111.0, 222.0, 333.0]


def test_a_capture_that_was_superseded_is_passed_over(bus: Bus) -> None:
    line = Line(bus)
    line.capture_of(1)
    line.stroke(2)
    line.capture.publish(link=Link.LOST, refreshed=False)  # a known capture said again is no capture
    line.stroke(3)
    found = joined(bus, Joining(bus, JUDGED))
    assert [each.stroke for each in found if each] == [2, 3]


def test_samples_that_were_overwritten_are_counted_and_the_next_ones_are_found(bus: Bus) -> None:
    line = Line(bus)
    for stroke in range(1, 13):  # the ring keeps 8 captures, and 16 results
        line.stroke(stroke)
    joining = Joining(bus, JUDGED)
    found = joined(bus, joining)
    assert [each.stroke if each else None for each in found] == [None] * 4 + list(range(5, 13))
    assert joining.missed == 4


def test_a_result_about_the_loss_of_the_source_is_no_window(bus: Bus) -> None:
    line = Line(bus)
    line.result_of(1, Verdict.NOT_DECIDABLE)
    line.result.batch.status[:] = BAD_NO_COMMUNICATION
    line.result.publish()
    joining = Joining(bus, JUDGED)
    assert joined(bus, joining, cursor=1) == [None]
    assert joining.missed == 0


def test_what_was_bad_is_kept_as_bad(bus: Bus) -> None:
    line = Line(bus)
    line.tags(tonnage=1.0, status=BAD_SENSOR_FAILURE)
    line.capture_of(1)
    line.result_of(1, Verdict.NOT_DECIDABLE, status=BAD_SENSOR_FAILURE)
    (found,) = joined(bus, Joining(bus, JUDGED))
    assert found is not None
    assert np.isnan(found.context[0])
    assert found.context_status[0] == BAD_SENSOR_FAILURE
    assert np.isnan(found.score)
    assert found.status == BAD_SENSOR_FAILURE
    assert found.samples.size


async def test_a_tag_that_was_not_refreshed_is_uncertain_then_not_now() -> None:
    clock = ManualClock()
    bus = Bus.create([CAPTURE, RESULT, FAST, SLOW], clock=clock)
    line = Line(bus)
    await clock.advance(0.5)
    line.stroke(1)
    await clock.advance(2.0)  # stale after 1 s
    line.fast.beat()
    line.stroke(2)
    found = joined(bus, Joining(bus, JUDGED))
    assert [int(each.context_status[0]) for each in found if each] == [GOOD, UNCERTAIN_LAST_USABLE]
    bus.close()


def test_a_capture_is_told_from_others_as_a_lane_tells_them() -> None:
    """The lane's own words for it are in inference, which records may not import."""
    for drop in ((), ("ready_ns",), ("stroke",), ("ready_ns", "stroke")):
        tags = tuple(tag for tag in CAPTURE.tags if tag.name not in drop)
        spec = BlockSpec("c", tags, 4)
        bus = Bus.create([spec])
        writer = bus.writer("c")
        for name, value in {"sequence": 7, "ready_ns": 123, "stroke": 9, "sample_rate_hz": 10.0}.items():
            if name not in drop:
                writer.batch.set(writer.batch.row(name), value)
        writer.batch.set_array(writer.batch.row("waveform"), np.zeros(4, np.float32))
        writer.batch.status[:] = GOOD
        writer.batch.source_ns[:] = 456
        writer.publish()
        batch = bus.reader("c").latest()
        assert batch is not None
        shot = Shot(batch)
        assert capture_key(batch) == (shot.stroke, shot.captured_ns), drop
        bus.close()


def test_pipelines_of_which_a_block_is_not_there_are_not_followed(bus: Bus) -> None:
    joinings = Joinings(bus)
    joinings.follow([JUDGED])
    same = joinings.of(JUDGED.result_block)
    joinings.follow([JUDGED])
    assert joinings.of(JUDGED.result_block) is same is not None  # it goes on where it is
    joinings.follow([])
    assert joinings.of(JUDGED.result_block) is None
    bare = Bus.create([BlockSpec("x", (TagSpec("x", Scalar.DOUBLE),), 2)])
    Joinings(bare).follow([JUDGED])
    bare.close()


# --- the recorder -----------------------------------------------------------------------------------


@asynccontextmanager
async def recording(bus: Bus, place: Path, budget_mb: int = 100) -> AsyncIterator[tuple[Recorder, Windows]]:
    clock = SystemClock()
    journal = Journal(place / "journal.sqlite", clock=clock, limits=JournalLimits(batch_s=0.005))
    windows = Windows(place / "windows.sqlite", budget_mb, clock=clock)
    recorder = Recorder(bus, journal, clock=clock, windows=windows, judged=[JUDGED])
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(recorder.run())
        await until(lambda: bus.reader(WINDOWS_BLOCK).newest > 0)
        try:
            yield recorder, windows
        finally:
            task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def aside(fn: Callable[[], Any]) -> Any:
    """Look into the store in a thread: who reads a file blocks the loop."""
    worker = Worker("look")
    try:
        return await worker.call(fn, timeout_s=10)
    finally:
        worker.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_module, "_BATCH_S", 0.005)


async def test_the_recorder_keeps_windows_beside_the_results(bus: Bus, tmp_path: Path) -> None:
    line = Line(bus)
    async with recording(bus, tmp_path) as (_, windows):
        line.stroke(1)
        line.stroke(2, Verdict.NOT_OK)
        await until(lambda: windows.state.kept.windows == 2)
        await until(lambda: shown(bus)["kept"] == 2)
    line.stroke(3)  # while no recorder runs
    async with recording(bus, tmp_path) as (_, windows):
        await until(lambda: windows.state.kept.windows == 3)
    look = WindowLook(tmp_path / "windows.sqlite")
    found = await aside(lambda: list(look.windows(Wanted(P))))
    assert [each.stroke for each in found] == [1, 2, 3]
    np.testing.assert_array_equal(found[2].samples, samples_of(3))


def shown(bus: Bus) -> dict[str, Any]:
    batch = bus.reader(WINDOWS_BLOCK).latest()
    assert batch is not None
    return {tag.name: batch.value(row) for row, tag in enumerate(batch.layout.spec.tags)}


async def test_a_window_lost_with_a_killed_recorder_is_taken_again(bus: Bus, tmp_path: Path) -> None:
    line = Line(bus)
    async with recording(bus, tmp_path) as (_, windows):
        line.stroke(1)
        await until(lambda: windows.state.kept.windows == 1)
    await aside((tmp_path / "windows.sqlite").unlink)  # the journal knows the result, the store does not
    async with recording(bus, tmp_path) as (_, windows):
        await until(lambda: windows.state.kept.windows == 1)


async def test_an_answer_is_stored_with_its_window_and_journalled(bus: Bus, tmp_path: Path) -> None:
    line = Line(bus)
    async with recording(bus, tmp_path) as (recorder, windows):
        line.stroke(1, Verdict.NOT_OK)
        await until(lambda: windows.state.kept.windows == 1)
        for answer, note in (("real", ""), ("sensor_fault", "cable w\udce4s loose")):
            body = {"pipeline": P, "result_id": "5001", "answer": answer, "note": note, "user": "anna"}
            reply = await recorder.handle(Request("records", "answer_verdict", body, "opcua", timeout_s=5))
            assert reply.status == GOOD, reply.reason
        assert reply.body["former"] == "real"
        journalled = await recorder.handle(Request("records", "newest", {"kinds": ["answer"]}))
    assert journalled.body["records"][0]["body"] == {
        "pipeline": P,
        "result_id": 5001,
        "answer": "sensor_fault",
        "who": "anna",
        "note": "cable w?s loose",  # of a terminal with another coding, which no file takes
        "former": "real",
        "verdict": "NOT_OK",
        "model": "press-anomaly/2",
        "origin": "opcua",
    }
    found = await aside(lambda: WindowLook(tmp_path / "windows.sqlite").one(P, 5001))
    assert (found.answer, found.note, found.who) == (Answer.SENSOR_FAULT, "cable w?s loose", "anna")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"result_id": 4711}, BAD_NODE_ID_UNKNOWN),
        ({"pipeline": "nobody"}, BAD_NODE_ID_UNKNOWN),
        ({"result_id": -1}, BAD_INVALID_ARGUMENT),
        ({"result_id": True}, BAD_INVALID_ARGUMENT),
        ({"result_id": "x"}, BAD_INVALID_ARGUMENT),
        ({"result_id": 1 << 63}, BAD_INVALID_ARGUMENT),
        ({"answer": "perhaps"}, BAD_INVALID_ARGUMENT),
        ({"answer": None}, BAD_INVALID_ARGUMENT),
        ({"pipeline": ""}, BAD_INVALID_ARGUMENT),
        ({"note": "x" * 501}, BAD_INVALID_ARGUMENT),
        ({"user": 7}, BAD_INVALID_ARGUMENT),
    ],
)
async def test_an_answer_that_means_nothing_is_refused(
    bus: Bus, tmp_path: Path, change: dict[str, Any], status: int
) -> None:
    async with recording(bus, tmp_path) as (recorder, _):
        body = {"pipeline": P, "result_id": 5001, "answer": "real", "note": "", "user": "anna", **change}
        reply = await recorder.handle(Request("records", "answer_verdict", body, timeout_s=5))
    assert reply.status == status
    assert reply.reason


async def test_without_windows_there_is_nothing_to_answer(bus: Bus, tmp_path: Path) -> None:
    async with recording(bus, tmp_path, budget_mb=0) as (recorder, _):
        body = {"pipeline": P, "result_id": 5001, "answer": "real", "user": "anna"}
        reply = await recorder.handle(Request("records", "answer_verdict", body, timeout_s=5))
    assert (reply.status, "windows_mb" in reply.reason) == (BAD_NOT_SUPPORTED, True)
    assert not (tmp_path / "windows.sqlite").exists()


async def test_a_disk_that_refuses_the_windows_does_not_touch_the_journal(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "windows.sqlite").mkdir()  # nobody can open that as a file
    line = Line(bus)
    async with recording(bus, tmp_path) as (recorder, windows):
        for stroke in range(1, 5):
            line.stroke(stroke)
        await until(lambda: bool(windows.state.fault))
        await until(lambda: shown(bus)["fault"] != "")
        reply = await recorder.handle(Request("records", "newest", {"kinds": ["result"]}))
        assert [each["body"]["stroke"] for each in reply.body["records"]] == [4, 3, 2, 1]
        body = {"pipeline": P, "result_id": 5001, "answer": "real", "user": "anna"}
        reply = await recorder.handle(Request("records", "answer_verdict", body, timeout_s=5))
        assert reply.status == BAD_RESOURCE_UNAVAILABLE


async def test_what_a_model_is_watched_for_is_journalled(bus: Bus, tmp_path: Path) -> None:
    body = {"pipeline": P, "model": "press-anomaly/2", "kind": "drift", "active": True, "text": "psi 0.4"}
    async with recording(bus, tmp_path) as (recorder, _):
        reply = await recorder.handle(Request("records", "watch", body, origin="supervisor", timeout_s=5))
        assert reply.status == GOOD
        reply = await recorder.handle(Request("records", "newest", {"kinds": ["watch"]}))
    assert reply.body["records"][0]["body"] == {**body, "origin": "supervisor"}
