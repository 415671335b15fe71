"""Which model a pipeline starts with: the configured one, or the one that was loaded last."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_opcua.app.models.active import ActiveModels, install_delivered
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledger import Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.testing import ManualClock
from tests.inference.models import unwatched

PRESS = examples_dir() / "press"
PIPELINE = "press-anomaly"


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    loaded = load(PRESS / "press.toml")
    assert loaded.config is not None
    return loaded.config


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path)
    found.create()
    return found


def test_a_new_server_starts_with_the_configured_version(config: EdgeConfig, state: StateDir) -> None:
    assert ActiveModels(state, config).choice(PIPELINE) == ModelChoice("press-anomaly", 1, "")


def test_a_loaded_version_is_kept_over_a_restart(config: EdgeConfig, state: StateDir) -> None:
    choice = ModelChoice("press-anomaly", 2, "a" * 64)
    entry = Entry(Kind.LOAD, Step.ACTIVE, choice, {}, {PIPELINE: choice})
    Ledger(state.model_ledger, ManualClock()).append(entry)
    assert ActiveModels(state, config).choice(PIPELINE) == choice


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        '{"press-anomaly": 3}',
        '{"press-anomaly": {"name": "press-anomaly", "version": "2", "sha256": ""}}',
        '{"press-anomaly": {"name": "another-model", "version": 2, "sha256": ""}}',
    ],
)
def test_a_broken_or_foreign_choice_falls_back_to_the_configured_version(
    config: EdgeConfig, state: StateDir, content: str
) -> None:
    state.active_models.write_text(content)
    assert ActiveModels(state, config).choice(PIPELINE).version == 1


def test_delivered_models_are_installed_and_a_broken_one_is_named(
    config: EdgeConfig, state: StateDir, tmp_path: Path
) -> None:
    folder = tmp_path / "delivered"
    shutil.copytree(PRESS / "models", folder)
    (folder / "press-anomaly" / "2" / "model.onnx").write_bytes(b"broken")
    changed = config.model_copy(update={"models": config.models.model_copy(update={"folder": folder})})
    refused = install_delivered(changed, state)
    assert len(refused) == 1
    assert refused[0].startswith("M503")
    models = ActiveModels(state, changed)
    assert len(models.verify(ModelChoice("press-anomaly", 1, "")).sha256) == 64
    with pytest.raises(ModelError, match="not in the repository"):
        models.verify(ModelChoice("press-anomaly", 2, ""))


@pytest.mark.parametrize(("then", "refused"), [("warn", False), ("degrade", False), ("fail_safe", True)])
def test_a_version_that_would_give_nothing_but_the_fail_safe_verdict_takes_nobodys_place(
    config: EdgeConfig, state: StateDir, then: str, refused: bool
) -> None:
    install_delivered(config, state)
    path = unwatched(state.models / "press-anomaly" / "2") / "manifest.toml"
    age = f'\n[age]\ntrained = "2019-01-01T00:00:00Z"\nmax_days = 30\nthen = "{then}"\n'
    path.write_text(path.read_text() + age)
    active, choice = ActiveModels(state, config), ModelChoice("press-anomaly", 2, "")
    utc_ns = ManualClock().utc_ns()
    if not refused:
        active.require_fresh(choice, [PIPELINE], utc_ns)
        return
    with pytest.raises(ModelError, match="too old for press-anomaly: trained") as caught:
        active.require_fresh(choice, [PIPELINE], utc_ns)
    assert caught.value.code == "M657"
