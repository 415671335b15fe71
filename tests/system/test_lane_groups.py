"""A group of pipelines in the running whole: a reload of one, and a model that kills its process."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.app.models import promise
from edge_opcua.config.loader import load
from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.repository import ModelRepository
from tests.system.plant import EXAMPLE, OFFICE, Plant, signal_process

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MODEL = "press-anomaly"


@pytest.fixture(scope="module")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    home = tmp_path_factory.mktemp("groups")
    shutil.copytree(EXAMPLE.parent, home / "press")
    file = home / "press" / "press.toml"
    file.write_text(file.read_text().replace("[[outputs]]", f"{OFFICE}[[outputs]]", 1))
    async with Plant(home, config=file) as running:
        yield running


def _of(plant: Plant, since: int, pipeline: str, verdict: Verdict | None = None) -> list[dict[str, Any]]:
    return [row for row in plant.results(since, verdict) if row["SourceName"] == pipeline]


async def _judging(plant: Plant, since: int, *pipelines: str) -> None:
    for name in pipelines:
        await plant.until(lambda name=name: _of(plant, since, name, Verdict.OK), f"an OK of {name}")  # type: ignore[misc]


async def _lanes(plant: Plant) -> dict[str, list[str]]:
    """Return which pipelines share the processes of the group that are active."""
    rows = (await plant.status())["processes"]
    return {row["role"]: row["pipelines"] for row in rows if row["role"].startswith("lane/office")}


async def _until_lanes(plant: Plant, wanted: dict[str, list[str]]) -> None:
    for _ in range(200):
        if await _lanes(plant) == wanted:
            return
        await plant.clock.sleep(0.1)
    raise AssertionError(f"{await _lanes(plant)}\n{plant.log_tail()}")


async def test_a_reload_of_one_pipeline_hands_the_others_of_its_group_over(plant: Plant) -> None:
    since = plant.mark()
    await _judging(plant, since, MODEL, "trend", "study")
    alone, group = await plant.pid(f"lane/{MODEL}"), await plant.pid("lane/office")
    file = plant.home / "press" / "press.toml"
    file.write_text(file.read_text().replace("deadline_ms = 400", "deadline_ms = 300"))
    reply = await ask(StateDir(plant.state_dir).control_socket, "supervisor", "reload", {}, timeout_s=60.0)
    assert reply.body["effects"] == [
        "lanes start anew: trend",
        "handed over to a new process of their group: study",
    ]
    mark = plant.mark()
    await _judging(plant, mark, "trend", "study")
    assert await plant.pid("lane/office") != group
    assert await plant.pid(f"lane/{MODEL}") == alone
    await plant.until(lambda: len(_of(plant, mark, "study")) > 2, "strokes judged by the new process")
    for pipeline in (MODEL, "study"):
        strokes = [int(row["Stroke"]) for row in _of(plant, since, pipeline)]
        assert strokes == list(range(strokes[0], strokes[0] + len(strokes))), pipeline
    assert await plant.client.read(plant.client.find("trend/Deadline")) == 300.0


def test_what_models_cost_is_kept_for_check(plant: Plant) -> None:
    kept = json.loads(StateDir(plant.state_dir).model_costs.read_text())
    p50_ns, p99_ns = kept["models"][f"{MODEL}/1"]["onnxruntime/cpu"]["costs"]["1"]
    assert 0 < p50_ns <= p99_ns
    file = plant.home / "press" / "press.toml"
    config = load(file, env={**os.environ, **plant.environment}).config
    assert config is not None
    found = promise.examine(config, plant.state_dir)
    assert [row.finding is not None and row.finding.ok for row in found.rows] == [True, True, True]
    assert 0 < found.total < 1


async def test_a_model_that_kills_its_process_is_found_and_held_and_its_neighbour_judges_on(
    plant: Plant,
) -> None:
    for _ in range(3):  # here both could have done it
        await _until_lanes(plant, {"lane/office": ["trend", "study"]})
        signal_process(await plant.pid("lane/office"), signal.SIGSEGV)
        await plant.clock.sleep(0.5)
    await _until_lanes(plant, {"lane/office/trend": ["trend"], "lane/office/study": ["study"]})
    since = plant.mark()
    await _judging(plant, since, "trend", "study")
    signal_process(await plant.pid("lane/office/trend"), signal.SIGSEGV)
    await _until_lanes(plant, {"lane/office": ["study"]})
    faults = {row["source"]: row["code"] for row in (await plant.status())["faults"]}
    assert faults["trend"] == "M595"
    assert "study" not in faults
    since = plant.mark()
    await _judging(plant, since, "study")
    assert not _of(plant, since, "trend", Verdict.OK)

    entries = ModelRepository(StateDir(plant.state_dir).models).list()
    await plant.client.call(
        "Models",
        plant.client.find("Models/LoadModel"),
        ua.Variant(MODEL, ua.VariantType.String),
        ua.Variant(2, ua.VariantType.UInt32),
        ua.Variant(next(e.sha256 for e in entries if e.version == 2), ua.VariantType.String),
    )
    since = plant.mark()
    await _judging(plant, since, "trend", "study")
    await _until_lanes(plant, {"lane/office": ["trend", "study"]})
    for _ in range(100):  # what is told of the former version is over once the job is
        open_faults = list((await plant.status())["faults"])
        if not open_faults:
            break
        await plant.clock.sleep(0.1)
    assert open_faults == []
