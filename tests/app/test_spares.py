"""What stands ready where a pipeline leaves the cheaper version to the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from edge_opcua.app.serving.spares import MOST, Spares
from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.inference.manifest import load_manifest
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.testing import ManualClock
from tests.inference.models import copy_of_delivered

NAME = "press-anomaly"
PIPELINE = PipelineConfig(name="weld", model=NAME, capture="vib/stroke", cheaper_version="auto")


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.create()
    (made.models / NAME).mkdir(parents=True)
    copy_of_delivered(made.models / NAME / "1")
    return made


def add(state: StateDir, version: int, ratio: float) -> None:
    """Store a version that takes this share of what version 1 takes."""
    folder = copy_of_delivered(state.models / NAME / str(version))
    path = folder / "manifest.toml"
    original = load_manifest(path).sha256
    text = path.read_text().replace("version = 1\n", f"version = {version}\n", 1)
    path.write_text(
        f'{text}\n[compression]\nof_sha256 = "{original}"\nverdict = "proved"\nprovider = "cpu"\n'
        f"p50_ratio = {ratio}\np50_high = {ratio}\n"
    )


def found(state: StateDir, pipeline: PipelineConfig = PIPELINE) -> list[int]:
    running = ModelRepository(state.models).resolve(NAME, 1).manifest
    return [each.manifest.version for each in Spares(state).of(pipeline, running)]


def quarantined(state: StateDir, version: int) -> None:
    choice = ModelChoice(NAME, version, "")
    ledger = Ledger(state.model_ledger, ManualClock())
    ledger.append(Entry(Kind.VERDICT, Step.QUARANTINED, choice, user="test", why="it ended its process"))


def test_a_few_of_the_fastest_stand_ready(state: StateDir) -> None:
    for version, ratio in ((2, 0.5), (3, 0.3), (4, 0.8), (5, 0.4)):
        add(state, version, ratio)
    assert found(state) == [3, 5, 2]
    assert len(found(state)) == MOST


def test_what_is_in_quarantine_does_not(state: StateDir) -> None:
    add(state, 2, 0.5)
    add(state, 3, 0.3)
    quarantined(state, 3)
    assert found(state) == [2]


@pytest.mark.parametrize("damage", ["manifest", "model", "number"])
def test_what_is_damaged_is_passed_over_and_told(state: StateDir, damage: str) -> None:
    add(state, 2, 0.5)
    add(state, 3, 0.3)
    folder = state.models / NAME / "3"
    if damage == "manifest":
        (folder / "manifest.toml").write_text("format = 7")
    elif damage == "model":
        (folder / "model.onnx").write_bytes(b"another one")
    else:
        folder.rename(state.models / NAME / "4")
    with capture_logs() as logs:
        assert found(state) == [2]
    assert [line["event"] for line in logs] == ([] if damage == "number" else ["lane.no_spare"])


def test_what_was_measured_on_another_provider_does_not(state: StateDir) -> None:
    add(state, 2, 0.5)
    elsewhere: Any = PIPELINE.model_copy(update={"provider": "openvino"})
    assert found(state, elsewhere) == []


def test_without_a_ledger_that_can_be_read_nobody_stands_ready(state: StateDir) -> None:
    add(state, 2, 0.5)
    state.model_ledger.mkdir()
    assert found(state) == []
