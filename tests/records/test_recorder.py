import asyncio
import contextlib
import math
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from edge_opcua.core.bus import BlockWriter, Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Request
from edge_opcua.core.journal import GAP, Journal, JournalLimits, Record
from edge_opcua.core.values import (
    BAD_INVALID_ARGUMENT,
    BAD_NOT_SUPPORTED,
    BAD_RESOURCE_UNAVAILABLE,
    BAD_SENSOR_FAILURE,
    GOOD,
    UNCERTAIN_SUBNORMAL,
    BlockSpec,
    Link,
    Scalar,
    TagSpec,
)
from edge_opcua.records.recorder import HEALTH_BLOCK, Recorder, health_block

PEER = Path(__file__).with_name("recorder_peer.py")
RESULT = BlockSpec(
    "press-anomaly.result",
    (
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("score", Scalar.DOUBLE),
        TagSpec("contributions", Scalar.FLOAT, 3),
        TagSpec("model_name", Scalar.STRING, 20),
    ),
    depth=8,
)
FAST = JournalLimits(batch_s=0.005, retry_s=0.02)


@pytest.fixture
def bus() -> Iterator[Bus]:
    bus = Bus.create([RESULT, BlockSpec("press.fast", RESULT.tags, depth=2), health_block()])
    yield bus
    bus.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def judge(writer: BlockWriter, stroke: int, score: float = 0.5, status: int = GOOD) -> None:
    batch = writer.batch
    for row, value in enumerate((stroke, score, [0.25, 0.75], "press-anomaly")):
        batch.set(row, value)
    batch.status[:] = status
    batch.server_ns[:] = stroke * 1000
    writer.publish()


@asynccontextmanager
async def recording(bus: Bus, path: Path) -> AsyncIterator[tuple[Recorder, Journal]]:
    journal = Journal(path, clock=SystemClock(), limits=FAST)
    recorder = Recorder(bus, journal, clock=SystemClock())
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(recorder.run())
        await until(lambda: bus.reader(HEALTH_BLOCK).newest > 0)
        try:
            yield recorder, journal
        finally:
            task.cancel()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def strokes(records: list[Record]) -> list[int]:
    return [record.body["stroke"] for record in records if record.kind == "result"]


async def test_every_result_is_journalled_with_its_time_and_place(bus: Bus, path: Path) -> None:
    writer = bus.writer(RESULT.name)
    judge(writer, 1)  # before the recorder came
    async with recording(bus, path) as (_, journal):
        judge(writer, 2, score=math.nan, status=UNCERTAIN_SUBNORMAL)
        writer.publish(link=Link.LOST, refreshed=False)  # a known result said again is no result
        judge(writer, 3, status=BAD_SENSOR_FAILURE)
        await until(lambda: journal.state.written == 3)
        first, second, third = await journal.read("mes")
    assert (first.kind, first.utc_ns) == ("result", 1000)
    assert first.body == {
        "pipeline": "press-anomaly",
        "sequence": 1,
        "stroke": 1,
        "score": 0.5,
        "contributions": [0.25, 0.75],
        "model_name": "press-anomaly",
    }
    assert second.body["score"] is None  # JSON has no NaN
    assert second.body["status"] == dict.fromkeys(
        first.body.keys() - {"pipeline", "sequence"}, "UncertainSubNormal"
    )
    assert third.body["stroke"] is None  # Part 4 §7.11.1: a Bad status nulls the value
    assert third.body["sequence"] == 4


async def test_what_comes_while_it_stops_is_still_written(bus: Bus, path: Path) -> None:
    writer = bus.writer(RESULT.name)
    async with recording(bus, path):
        await asyncio.sleep(0.15)
        judge(writer, 1)
    async with recording(bus, path) as (_, journal):
        assert strokes(await journal.read("mes")) == [1]


async def test_a_recorder_goes_on_where_the_journal_ends_and_says_what_it_missed(
    bus: Bus, path: Path
) -> None:
    writer = bus.writer(RESULT.name)
    async with recording(bus, path):
        judge(writer, 1)
    judge(writer, 2)
    async with recording(bus, path) as (_, journal):
        await until(lambda: journal.state.written == 1)
    for stroke in range(3, 21):  # the ring keeps 8
        judge(writer, stroke)
    with capture_logs() as logs:
        async with recording(bus, path) as (_, journal):
            await until(lambda: journal.state.written == 9)
            records = await journal.read("mes")
    assert strokes(records) == [1, 2, *range(13, 21)]
    (gap,) = (record.body for record in records if record.kind == GAP)
    assert gap == {
        "source": RESULT.name,
        "lost": 10,
        "first": 3,
        "last": 12,
        "reason": "overwritten on the bus",
    }
    assert [entry["lost"] for entry in logs if entry["event"] == "records.results_lost"] == [10]


async def test_the_place_on_another_bus_means_nothing(path: Path) -> None:
    for _ in range(2):  # two runs of the server, one journal
        bus = Bus.create([RESULT, health_block()])
        judge(bus.writer(RESULT.name), 1)
        async with recording(bus, path) as (_, journal):
            await until(lambda journal=journal: journal.state.written == 1)  # type: ignore[misc]
        bus.close()
    async with recording(Bus.create([health_block()]), path) as (_, journal):
        assert strokes(await journal.read("mes")) == [1, 1]


async def test_its_health_can_be_read_on_the_bus(bus: Bus, tmp_path: Path) -> None:
    writer = bus.writer(RESULT.name)
    reader = bus.reader(HEALTH_BLOCK)
    place = tmp_path / "state"

    def health() -> list[Any]:
        batch = reader.latest()
        assert batch is not None
        assert not (reader.effective(batch) != GOOD).any()
        return [batch.value(row) for row in range(4)]

    with capture_logs() as logs:
        async with recording(bus, place / "journal.sqlite"):
            judge(writer, 1)
            await until(lambda: health()[3] != "")
            spooled, written, lost, fault = health()
            assert (spooled, written, lost) == (1, 0, 0)
            assert "No such file" in fault
            place.mkdir()
            await until(lambda: health() == [0, 1, 0, ""])
    assert "records.place_unknown" in [entry["event"] for entry in logs]


async def test_reports_of_others_are_kept_with_who_sent_them(bus: Bus, path: Path) -> None:
    async with recording(bus, path) as (recorder, journal):
        audit = {"what": "write press/ack_edge", "who": "anna", "old": False, "new": True, "outcome": "Good"}
        reply = await recorder.handle(Request("records", "audit", audit, origin="opcua", timeout_s=5))
        assert (reply.status, reply.body) == (GOOD, {"id": 1})
        reply = await recorder.handle(
            Request("records", "job", {"job": "job-1"}, "supervisor", reply_wanted=False)
        )
        assert reply.status == GOOD
        await until(lambda: journal.state.written == 2)
        reply = await recorder.handle(Request("records", "newest", {"limit": 5}))
        assert [(record["kind"], record["body"]) for record in reply.body["records"]] == [
            ("job", {"job": "job-1", "origin": "supervisor"}),
            ("audit", {**audit, "origin": "opcua"}),
        ]
        reply = await recorder.handle(Request("records", "read", {"reader": "mes", "kinds": ["job"]}))
        assert [record["id"] for record in reply.body["records"]] == [2]
        assert (
            await recorder.handle(Request("records", "acknowledge", {"reader": "mes", "id": 1}))
        ).status == GOOD
        reply = await recorder.handle(Request("records", "read", {"reader": "mes"}))
        assert [record["id"] for record in reply.body["records"]] == [2]
        reply = await recorder.handle(Request("records", "read", {"reader": "mes", "after": 0, "limit": 1}))
        assert [record["id"] for record in reply.body["records"]] == [1]


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("read", {}, BAD_INVALID_ARGUMENT),
        ("read", {"reader": 7}, BAD_INVALID_ARGUMENT),
        ("read", {"reader": "x" * 201}, BAD_INVALID_ARGUMENT),
        ("read", {"reader": "mes", "after": "1"}, BAD_INVALID_ARGUMENT),
        ("read", {"reader": "mes", "kinds": "job"}, BAD_INVALID_ARGUMENT),
        ("newest", {"limit": True}, BAD_INVALID_ARGUMENT),
        ("newest", {"kinds": [1]}, BAD_INVALID_ARGUMENT),
        ("acknowledge", {"reader": "mes", "id": -1}, BAD_INVALID_ARGUMENT),
        ("acknowledge", {"reader": "mes", "id": 2**63}, BAD_INVALID_ARGUMENT),
        ("dance", {}, BAD_NOT_SUPPORTED),
    ],
)
async def test_a_request_it_cannot_answer_is_refused(
    bus: Bus, path: Path, kind: str, body: dict[str, Any], status: int
) -> None:
    async with recording(bus, path) as (recorder, _):
        assert (await recorder.handle(Request("records", kind, body))).status == status


async def test_a_report_that_is_not_on_disk_is_not_called_good(bus: Bus, tmp_path: Path) -> None:
    async with recording(bus, tmp_path / "missing" / "journal.sqlite") as (recorder, journal):
        reply = await recorder.handle(Request("records", "audit", {"what": "x"}, timeout_s=0.2))
        assert reply.status == BAD_RESOURCE_UNAVAILABLE
        assert "No such file" in reply.reason
        assert (await recorder.handle(Request("records", "newest", {}))).status == BAD_RESOURCE_UNAVAILABLE
        assert journal.state.spooled == 1


def test_a_recorder_killed_again_and_again_records_each_result_once_or_says_that_it_is_lost(
    bus: Bus, path: Path
) -> None:
    writer = bus.writer(RESULT.name)
    published = 0
    for _ in range(4):
        command = [sys.executable, str(PEER), str(bus.fd), str(path)]
        process = subprocess.Popen(command, pass_fds=bus.pass_fds)
        try:
            beat = bus.reader(HEALTH_BLOCK).beat_ns
            until_s = time.monotonic() + 0.3 + random.random() / 5
            while time.monotonic() < until_s or bus.reader(HEALTH_BLOCK).beat_ns == beat:
                published += 1
                judge(writer, published)
                time.sleep(0.004)
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
    process = subprocess.Popen([sys.executable, str(PEER), str(bus.fd), str(path)], pass_fds=bus.pass_fds)
    try:
        accounted: list[int] = []
        until_s = time.monotonic() + 10
        while len(accounted) < published and time.monotonic() < until_s:
            time.sleep(0.05)
            accounted = []
            with contextlib.closing(sqlite3.connect(path)) as db:
                query = (
                    "SELECT kind, json_extract(body, '$.sequence'), json_extract(body, '$.first'),"
                    " json_extract(body, '$.last') FROM records ORDER BY id"
                )
                for kind, sequence, first, last in db.execute(query):
                    accounted += [sequence] if kind == "result" else range(first, last + 1)
    finally:
        process.kill()
        process.wait()
    assert np.array_equal(accounted, np.arange(1, published + 1))
