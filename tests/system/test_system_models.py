"""Changing the model of the running whole: no stroke missed, and a bad model changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.repository import ModelRepository
from tests.system.plant import Plant

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]

MODEL = "press-anomaly"


async def _load(plant: Plant, version: int, sha256: str) -> str:
    return str(
        await plant.client.call(
            "Models",
            plant.client.find("Models/LoadModel"),
            ua.Variant(MODEL, ua.VariantType.String),
            ua.Variant(version, ua.VariantType.UInt32),
            ua.Variant(sha256, ua.VariantType.String),
        )
    )


async def _ended(plant: Plant, since: int, job: str) -> dict[str, Any]:
    found = await plant.until(
        lambda: [
            event.fields
            for event in plant.client.events[since:]
            if event.fields.get("JobId") == job and event.fields.get("State") in ("Active", "Failed")
        ],
        f"the end of {job}",
        within_s=20,
    )
    return found[0]


async def _judged_by(plant: Plant, since: int, version: int) -> None:
    await plant.until(
        lambda: [row for row in plant.results(since) if row["ModelVersion"] == version],
        f"a stroke judged by version {version}",
    )


def _sha256(plant: Plant, version: int) -> str:
    entries = ModelRepository(StateDir(plant.state_dir).models).list()
    return next(entry.sha256 for entry in entries if entry.version == version)


async def test_models_change_while_the_press_runs_and_no_stroke_is_missed_or_doubled(plant: Plant) -> None:
    await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
    since = plant.mark()
    for version in (2, 1, 2, 1):
        mark = plant.mark()
        ended = await _ended(plant, mark, await _load(plant, version, _sha256(plant, version)))
        assert ended["State"] == "Active", ended
        await _judged_by(plant, mark, version)
    strokes = [int(row["Stroke"]) for row in plant.results(since)]
    assert strokes == list(range(strokes[0], strokes[0] + len(strokes)))


async def test_an_unreadable_model_fails_its_job_and_the_old_one_goes_on(plant: Plant) -> None:
    models = StateDir(plant.state_dir).models / MODEL
    shutil.copytree(models / "2", models / "3")
    (models / "3" / "model.onnx").write_bytes(b"this is not a model")
    try:
        mark = plant.mark()
        ended = await _ended(plant, mark, await _load(plant, 3, _sha256(plant, 2)))
        assert ended["State"] == "Failed"
        assert "M50" in ended["Reason"], ended["Reason"]
        await plant.until(lambda: plant.results(mark, Verdict.OK), "strokes judged by the old model")
    finally:
        shutil.rmtree(models / "3")


async def test_a_model_that_is_not_there_or_has_another_hash_fails_its_job(plant: Plant) -> None:
    for version, sha256, code in ((99, "0" * 64, "M501"), (2, "0" * 64, "M503")):
        mark = plant.mark()
        ended = await _ended(plant, mark, await _load(plant, version, sha256))
        assert ended["State"] == "Failed"
        assert code in ended["Reason"]


async def test_a_loaded_model_outlives_a_restart(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        mark = plant.mark()
        ended = await _ended(plant, mark, await _load(plant, 2, _sha256(plant, 2)))
        assert ended["State"] == "Active", ended
    async with Plant(tmp_path) as plant:
        rows = await plant.until(lambda: plant.results(), "a stroke")
        assert rows[0]["ModelVersion"] == 2
