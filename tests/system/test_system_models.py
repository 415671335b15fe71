"""Changing the model of the running whole: no stroke missed, and a bad model changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_opcua.core.control import ask
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import Verdict
from edge_opcua.inference.repository import ModelRepository
from tests.system.plant import Plant, alive, children

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

MODEL = "press-anomaly"
_ENDS = ("Active", "RolledBack", "Failed")


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
            if event.fields.get("JobId") == job and event.fields.get("State") in _ENDS
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


async def _ask(plant: Plant, kind: str, **body: Any) -> str:
    socket = StateDir(plant.state_dir).control_socket
    reply = await ask(socket, "supervisor", kind, {"user": "test", **body}, timeout_s=5.0)
    assert reply.status == 0, reply.reason
    return str(reply.body["job"])


async def _counted(plant: Plant) -> dict[str, int]:
    """Return how many captures there were, how many were dealt with, and how many nobody ever saw."""
    (row,) = [row["lane"] for row in (await plant.status())["pipelines"] if row["pipeline"] == MODEL]
    return {name: int(row[name]) for name in ("cursor", "processed", "missed")}


async def _nothing_lost(plant: Plant, since: int, before: dict[str, int]) -> None:
    """Every capture has one result. On a busy machine the unit itself skips strokes: it is read too late."""
    rows = plant.results(since)
    strokes = [int(row["Stroke"]) for row in rows if row["Stroke"] is not None]
    assert strokes == sorted(set(strokes))
    after = await _counted(plant)
    if len(strokes) == len(rows):  # else a link was lost for a moment, and said so in the place of captures
        assert after["processed"] - before["processed"] == after["cursor"] - before["cursor"]
    assert after["missed"] == before["missed"]


def _versions(plant: Plant, since: int) -> list[int]:
    """Return the versions that judged, each once for as long as it did."""
    found: list[int] = []
    for row in plant.results(since):
        if row["Stroke"] is None:  # about the loss of the source, by no model
            continue
        version = int(row["ModelVersion"])
        if not found or found[-1] != version:
            found.append(version)
    return found


async def test_what_was_relieved_stands_by_and_is_back_in_the_same_process_without_a_stroke_missed(
    plant: Plant,
) -> None:
    await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
    before = int(plant.results()[-1]["ModelVersion"])
    since, other, counted = plant.mark(), 3 - before, await _counted(plant)
    for _ in range(2):
        mark, pid = plant.mark(), await plant.pid(f"lane/{MODEL}")
        assert (await _ended(plant, mark, await _load(plant, other, _sha256(plant, other))))[
            "State"
        ] == "Active"
        assert await plant.pid(f"standby/{MODEL}") == pid, "the former process is kept, loaded"
        await _judged_by(plant, mark, other)
        mark = plant.mark()
        assert (await _ended(plant, mark, await _ask(plant, "rollback_model", pipeline=MODEL)))[
            "State"
        ] == "RolledBack"
        assert await plant.pid(f"lane/{MODEL}") == pid, "nothing had to be loaded"
        await _judged_by(plant, mark, before)
    await _nothing_lost(plant, since, counted)
    found = _versions(plant, since)
    wanted = [before, other, before, other, before]
    assert found in (wanted, wanted[1:]), "one version after the other, and none in between"


async def test_a_version_judges_in_shadow_before_it_takes_over_and_the_line_sees_only_the_active_one(
    plant: Plant,
) -> None:
    await plant.until(lambda: plant.results(0, Verdict.OK), "a first stroke")
    before, mark = int(plant.results()[-1]["ModelVersion"]), plant.mark()
    counted = await _counted(plant)
    job = await _ask(plant, "load_model", name=MODEL, version=3 - before, sha256="", shadow=4)
    ended = await _ended(plant, mark, job)
    assert ended["State"] == "Active", ended
    states = [event.fields.get("State") for event in plant.client.events[mark:]]
    assert states.index("Shadow") < states.index("Switching")
    (row,) = [row for row in (await plant.status())["pipelines"] if row["pipeline"] == MODEL]
    assert row["model"]["version"] == 3 - before
    await _judged_by(plant, mark, 3 - before)
    assert _versions(plant, mark) == [before, 3 - before]
    await _nothing_lost(plant, mark, counted)


async def test_however_the_server_ends_no_process_of_a_model_is_left(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.until(lambda: plant.results(0), "a first stroke")
        mark = plant.mark()
        assert (await _ended(plant, mark, await _load(plant, 2, _sha256(plant, 2))))["State"] == "Active"
        await _ask(plant, "load_model", name=MODEL, version=1, sha256="", shadow=1000)
        await plant.until(
            lambda: [e for e in plant.client.events[mark:] if e.fields.get("State") == "Shadow"], "a shadow"
        )
        pids = children(plant.server.pid)
        assert len(pids) >= 6, "io, records, opcua, and three lanes: active, on standby, in shadow"
        os.kill(plant.server.pid, signal.SIGKILL)
        await plant.until(lambda: not any(alive(pid) for pid in pids), "the end of all processes")
