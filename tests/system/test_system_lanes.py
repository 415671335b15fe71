"""Lanes of a running server: priorities of their own, groups in one process, and none that moves another."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict, is_good
from edge_opcua.inference.repository import ModelRepository
from tests.system.plant import EXAMPLE, OFFICE, Plant, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MODEL = "press-anomaly"


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    home = tmp_path_factory.mktemp("lanes")
    shutil.copytree(EXAMPLE.parent, home / "press")
    file = home / "press" / "press.toml"
    text = file.read_text()
    assert "deadline_ms = 100\n" in text
    text = text.replace("deadline_ms = 100\n", 'deadline_ms = 100\nlane = "safety"\n')
    file.write_text(text.replace("[[outputs]]", OFFICE + "[[outputs]]", 1))
    async with Plant(home, config=file) as running:
        yield running


def _of(plant: Plant, since: int, pipeline: str, verdict: Verdict | None = None) -> list[dict[str, Any]]:
    return [row for row in plant.results(since, verdict) if row["SourceName"] == pipeline]


def _strokes(rows: list[dict[str, Any]]) -> list[int]:
    return [int(row["Stroke"]) for row in rows if row["Stroke"] is not None]


ALL = ("press-anomaly", "trend", "study")


async def _none_lost(plant: Plant, since: int, superseded_before: int) -> None:
    """Every stroke that was read has one verdict of each pipeline, in order.

    On a busy computer the io process may miss a stroke, then nobody has it; and in a safety lane a newer one
    may take the place of one that still waits, which is counted.
    """
    judged = {name: _strokes(_of(plant, since, name)) for name in ALL}
    first = max(strokes[0] for strokes in judged.values())
    last = min(strokes[-1] for strokes in judged.values())
    read = sorted({stroke for strokes in judged.values() for stroke in strokes if first <= stroke <= last})
    for name in ("trend", "study"):
        assert [stroke for stroke in judged[name] if first <= stroke <= last] == read, name
    safety = judged["press-anomaly"]
    assert safety == sorted(set(safety))
    missing = [stroke for stroke in read if stroke not in safety]
    assert len(missing) <= await _superseded(plant) - superseded_before, missing


async def _superseded(plant: Plant) -> int:
    rows = (await plant.status())["pipelines"]
    return int(next(row["lane"]["superseded"] for row in rows if row["pipeline"] == "press-anomaly"))


async def _judging(plant: Plant, since: int, *pipelines: str) -> None:
    for pipeline in pipelines:
        await plant.until(
            lambda name=pipeline: _of(plant, since, name, Verdict.OK),  # type: ignore[misc]
            f"a stroke judged OK by {pipeline}",
        )


async def test_pipelines_of_a_group_share_one_process_and_the_safety_lane_has_its_own(plant: Plant) -> None:
    since = plant.mark()
    await _judging(plant, since, *ALL)
    rows = (await plant.status())["processes"]
    assert [row["role"] for row in rows if row["role"].startswith("lane/")] == [
        "lane/press-anomaly",
        "lane/office",
    ]


async def test_the_safety_lane_runs_in_real_time_as_its_variables_say(plant: Plant) -> None:
    pid = await plant.pid("lane/press-anomaly")
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    scheduler = str(await plant.client.read(plant.client.find("press-anomaly/Scheduler")))
    if policy == os.SCHED_FIFO:
        assert scheduler == f"SCHED_FIFO {os.sched_getparam(pid).sched_priority}"
    else:  # the machine does not grant it: then it says what it has instead
        assert not scheduler.startswith("SCHED_FIFO")
        assert scheduler
    assert await plant.client.read(plant.client.find("press-anomaly/Lane")) == "safety"
    assert os.sched_getscheduler(await plant.pid("lane/office")) == os.SCHED_OTHER
    assert await plant.client.read(plant.client.find("study/Lane")) == "best_effort"
    assert await plant.client.read(plant.client.find("study/Group")) == "office"
    assert await plant.client.read(plant.client.find("trend/Deadline")) == 400.0
    assert await plant.client.read(plant.client.find("trend/Schedulable")) is True
    assert await plant.client.read(plant.client.find("trend/RanOn")) == "CPUExecutionProvider"


async def test_every_pipeline_judges_every_stroke_and_all_agree(plant: Plant) -> None:
    before = await _superseded(plant)
    since = plant.mark()
    await plant.until(lambda: len(_of(plant, since, "study")) > 4, "strokes judged")
    await plant.until(lambda: len(_of(plant, since, "trend")) > 4, "strokes judged")
    scores: dict[int, set[float]] = {}
    for row in plant.results(since):
        scores.setdefault(int(row["Stroke"]), set()).add(row["Score"])
    assert all(len(found) == 1 for found in scores.values())
    await _none_lost(plant, since, before)


async def test_a_model_is_changed_in_all_lanes_and_no_stroke_is_missed_or_doubled(plant: Plant) -> None:
    entries = ModelRepository(StateDir(plant.state_dir).models).list()
    before = await _superseded(plant)
    since = plant.mark()
    for version in (2, 1):
        mark = plant.mark()
        job = await plant.client.call(
            "Models",
            plant.client.find("Models/LoadModel"),
            ua.Variant(MODEL, ua.VariantType.String),
            ua.Variant(version, ua.VariantType.UInt32),
            ua.Variant(next(e.sha256 for e in entries if e.version == version), ua.VariantType.String),
        )
        ended = await plant.until(
            lambda mark=mark, job=job: [  # type: ignore[misc]
                event.fields
                for event in plant.client.events[mark:]
                if event.fields.get("JobId") == job and event.fields.get("State") in ("Active", "Failed")
            ],
            f"the end of {job}",
        )
        assert ended[0]["State"] == "Active", ended[0]
        for pipeline in ALL:
            await plant.until(
                lambda mark=mark, name=pipeline, version=version: [  # type: ignore[misc]
                    row for row in _of(plant, mark, name) if row["ModelVersion"] == version
                ],
                f"a stroke of {pipeline} judged by version {version}",
            )
    await _none_lost(plant, since, before)


async def test_a_killed_group_comes_back_and_the_safety_lane_does_not_notice(plant: Plant) -> None:
    # A version on probation goes back everywhere if it ends a process: then to the one that stands by.
    ways = ("lane/press-anomaly", "standby/press-anomaly")
    safety = {row["pid"] for row in (await plant.status())["processes"] if row["role"] in ways}
    killed = await plant.pid("lane/office")
    since = plant.mark()
    signal_process(killed, signal.SIGKILL)
    await plant.until(lambda: _of(plant, since, "trend", Verdict.OK), "a stroke judged by the next process")
    await plant.until(lambda: _of(plant, since, "study", Verdict.OK), "a stroke judged by the next process")
    assert await plant.pid("lane/office") != killed
    assert await plant.pid("lane/press-anomaly") in safety
    rows = _of(plant, since, "press-anomaly")
    assert {row["Verdict"] for row in rows} == {Verdict.OK}
    strokes = _strokes(rows)
    assert strokes
    assert strokes == sorted(set(strokes))


async def test_a_safety_lane_that_hangs_is_fail_safe_for_every_reader_and_the_others_judge_on(
    plant: Plant,
) -> None:
    hung = await plant.pid("lane/press-anomaly")
    await plant.until(lambda: is_good(plant.now("Verdict").status), "a Good verdict")
    since = plant.mark()
    signal_process(hung, signal.SIGSTOP)
    try:
        # Nobody tells: every reader derives it from the silence (architecture §1).
        await plant.until(lambda: not is_good(plant.now("Verdict").status), "a verdict that is not Good")
        assert plant.now("Verdict").value == Verdict.NOT_DECIDABLE
        await _judging(plant, since, "trend", "study")
    finally:
        signal_process(hung, signal.SIGCONT)
    since = plant.mark()
    await _judging(plant, since, "press-anomaly")


async def test_the_command_shows_lanes_and_what_is_left_of_deadlines(plant: Plant) -> None:
    rows = {row["pipeline"]: row for row in (await plant.status())["pipelines"]}
    assert {name: row["group"] for name, row in rows.items()} == {
        "press-anomaly": "press-anomaly",
        "trend": "office",
        "study": "office",
    }
    for row in rows.values():
        lane = row["lane"]
        assert 0.0 < lane["p50_ms"] <= lane["p99_ms"] <= lane["p999_ms"] <= lane["max_ms"]
        assert 0.0 <= lane["utilisation"] < 0.5
        assert lane["schedulable"] is True
        assert lane["provider"] == "CPUExecutionProvider"
        assert lane["accelerated"] == 1.0
        assert lane["rss_mb"] > 20.0
