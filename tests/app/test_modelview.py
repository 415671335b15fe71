"""The versions of models as OPC UA clients see them, from the repository and the ledger."""

from __future__ import annotations

import datetime as dt
import math
import shutil
from pathlib import Path

import pytest

from edge_opcua.app.models.active import install_delivered
from edge_opcua.app.models.versions import ModelView, plain_facts
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.opcua.models import ModelInfo
from edge_opcua.testing import ManualClock
from tests.inference.models import unwatched

PRESS = examples_dir() / "press"
NAME = PIPELINE = "press-anomaly"
ONE, TWO = ModelChoice(NAME, 1, ""), ModelChoice(NAME, 2, "")


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    loaded = load(PRESS / "press.toml")
    assert loaded.config is not None
    return loaded.config


@pytest.fixture
def state(tmp_path: Path, config: EdgeConfig) -> StateDir:
    found = StateDir(tmp_path)
    found.create()
    assert install_delivered(config, found) == []
    return found


@pytest.fixture
def ledger(state: StateDir) -> Ledger:
    return Ledger(state.model_ledger, ManualClock())


def written(ledger: Ledger, *steps: tuple[Step, str], kind: Kind = Kind.LOAD) -> None:
    """Write a change from version 1 to 2, or back."""
    model, before, after = (TWO, ONE, TWO) if kind is Kind.LOAD else (TWO, TWO, ONE)
    entry = ledger.append(Entry(kind, Step.BEGUN, model, {PIPELINE: before}, {PIPELINE: after}, user="ada"))
    for step, why in steps:
        entry = ledger.append(entry.next(step, why))


def seen(state: StateDir, config: EdgeConfig, **beside: frozenset[tuple[str, int]]) -> dict[int, ModelInfo]:
    return {each.version: each for each in ModelView(state).shown(config, **beside) if each.name == NAME}


def test_a_new_server_shows_the_configured_version_as_active(state: StateDir, config: EdgeConfig) -> None:
    found = seen(state, config)
    assert (found[1].state, found[1].pipelines) == ("Active", (PIPELINE,))
    assert (found[2].state, found[2].pipelines, found[2].reason) == ("Available", (), "")


def test_a_change_is_seen_with_its_trial_and_what_stands_by(
    state: StateDir, config: EdgeConfig, ledger: Ledger
) -> None:
    written(ledger, (Step.PREPARED, ""), (Step.ACTIVATING, ""), (Step.ACTIVE, ""))
    found = seen(state, config, standby=frozenset({(NAME, 1), (NAME, 2)}))
    assert (found[2].state, found[2].reason, found[2].pipelines) == ("Active", "on trial", (PIPELINE,))
    assert found[1].state == "Standby"
    ledger.append(Entry(Kind.LOAD, Step.CONFIRMED, TWO, {}, {PIPELINE: TWO}, change=1))
    assert seen(state, config)[2].reason == ""


def test_a_version_in_quarantine_says_why(state: StateDir, config: EdgeConfig, ledger: Ledger) -> None:
    written(ledger, (Step.ACTIVATING, ""), (Step.ACTIVE, ""))
    ledger.append(Entry(Kind.VERDICT, Step.QUARANTINED, TWO, user="edge-opcua", why="M652: too slow"))
    written(ledger, (Step.REVERTING, ""), (Step.REVERTED, "M652: too slow"), kind=Kind.ROLLBACK)
    found = seen(state, config)
    assert (found[1].state, found[1].pipelines) == ("Active", (PIPELINE,))
    assert (found[2].state, found[2].reason) == ("Quarantined", "M652: too slow")


def test_a_failed_change_is_remembered_until_one_succeeds(
    state: StateDir, config: EdgeConfig, ledger: Ledger
) -> None:
    written(ledger, (Step.FAILED, "M504: inputs do not fit"))
    found = seen(state, config)[2]
    assert (found.state, found.reason) == (
        "Available",
        "the last change to it failed: M504: inputs do not fit",
    )
    written(ledger, (Step.ACTIVATING, ""), (Step.ACTIVE, ""), (Step.CONFIRMED, ""))
    assert (seen(state, config)[2].state, seen(state, config)[2].reason) == ("Active", "")


def test_a_version_in_shadow_is_shown_as_that(state: StateDir, config: EdgeConfig) -> None:
    assert seen(state, config, shadow=frozenset({(NAME, 2)}))[2].state == "Shadow"


def test_a_version_whose_files_were_changed_says_so(state: StateDir, config: EdgeConfig) -> None:
    (state.models / NAME / "2" / "model.onnx").write_bytes(b"no model")
    found = seen(state, config)[2]
    assert found.state == "Failed"
    assert found.reason.startswith("M503: ")


def test_a_ledger_that_cannot_be_read_hides_no_model(state: StateDir, config: EdgeConfig) -> None:
    state.model_ledger.mkdir()
    assert set(seen(state, config)) == {1, 2}


def test_age_precision_and_provenance_come_from_the_manifest(state: StateDir, config: EdgeConfig) -> None:
    manifest = unwatched(state.models / NAME / "2") / "manifest.toml"
    manifest.write_text(
        manifest.read_text("utf-8")
        + "\n[age]\ntrained = 2026-05-01T00:00:00Z\nmax_days = 90\nthen = 'degrade'\n"
        + "[provenance]\nauthor = 'Ada'\nrows = 400\nsources = ['line 1', 'line 2']\n"
        + "[compression]\nprecision = 'int8'\n",
        "utf-8",
    )
    found = seen(state, config)[2]
    trained = dt.datetime.fromtimestamp(found.trained_ns / 1e9, dt.UTC)
    assert (trained.date(), found.max_age_days, found.when_old) == (dt.date(2026, 5, 1), 90.0, "degrade")
    assert found.precision == "int8"
    assert found.provenance == {"author": "Ada", "rows": 400, "sources": "line 1, line 2"}


def test_only_what_fits_in_a_variable_is_shown() -> None:
    facts = plain_facts({"a": True, "b": 1.5, "c": {"d": 1}, "when": dt.date(2026, 5, 1), "e": "x" * 5000})
    assert facts == {"a": "true", "b": 1.5, "when": "2026-05-01", "e": "x" * 1000}
    odd = plain_facts({"\x1b[2J": "a\nb\x07", "large": 1 << 80, "": 1, "n" * 500: [1, "\x1b"], "z": math.nan})
    assert list(odd) == [" [2J", "large", "n" * 100, "z"]
    assert list(odd.values())[:3] == ["a b ", str(1 << 80), "1,  "]
    assert len(plain_facts({str(number): number for number in range(200)})) == 50


def test_a_repository_that_is_empty_shows_nothing(state: StateDir, config: EdgeConfig) -> None:
    shutil.rmtree(state.models)
    assert ModelView(state).shown(config) == []


def test_a_version_is_looked_at_again_only_if_a_file_of_it_has_changed(
    state: StateDir, config: EdgeConfig, ledger: Ledger
) -> None:
    view = ModelView(state)
    model = state.models / NAME / "2" / "model.onnx"
    content = model.read_bytes()

    def now() -> list[ModelInfo]:
        return [each for each in view.shown(config) if each.name == NAME]

    before = now()
    written(ledger, (Step.ACTIVATING, ""), (Step.ACTIVE, ""))
    assert [each.state for each in now()] == ["Available", "Active"]
    assert all(each.provenance is old.provenance for each, old in zip(now(), before, strict=True))
    model.write_bytes(bytes(len(content)))  # as long as before
    assert [each.state for each in now()] == ["Available", "Failed"]
    model.write_bytes(content)
    assert [each.state for each in now()] == ["Available", "Active"]
    assert now()[0].provenance is before[0].provenance
    assert now()[1].provenance is not before[1].provenance
