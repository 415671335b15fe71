"""A model is tried as a lane would serve it: the same refusals with the same sentences, beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.command.model.check import notes_on, slower_here
from edge_opcua.app.models.tryout import Trial, try_model
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.errors import ModelError
from edge_opcua.inference.manifest import Age, load_manifest
from edge_opcua.inference.memory import lift
from edge_opcua.testing import ManualClock
from tests.inference.hostile.models import laden_image
from tests.inference.models import (
    DELIVERED,
    answering_model,
    copy_of_delivered,
    edited,
    replaced,
    unwatched,
    with_model,
)

PRESS = examples_dir() / "press" / "press.toml"
SECOND = DELIVERED.parent / "2"
DAY_NS = 86_400_000_000_000


@pytest.fixture(autouse=True)
def without_limit() -> Iterator[None]:
    """A trial limits the memory of its process, which here is that of all tests."""
    yield
    lift()


def tried(folder: Path, **options: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"config": PRESS, "pipelines": ("press-anomaly",)}
    return try_model(Trial(folder, **{**known, **options}).as_json())


def refusal(folder: Path, **options: Any) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        tried(folder, **options)
    return caught.value.code, str(caught.value)


def wrong_units(folder: Path) -> Path:
    return replaced(folder, 'unit = "kN"', 'unit = "lbf"')


def wrong_tag(folder: Path) -> Path:
    return replaced(folder, 'name = "die_temp"', 'name = "coolant_temp"')


def wrong_rate(folder: Path) -> Path:
    return replaced(folder, "sample_rate_hz = 10000", "sample_rate_hz = 20000")


def wrong_hash(folder: Path) -> Path:
    return edited(folder, sha256="0" * 64)


def wrong_answers(folder: Path) -> Path:
    return with_model(folder, (SECOND / "model.onnx").read_bytes())


def not_a_number(folder: Path) -> Path:
    return with_model(folder, answering_model(score=float("nan")))


def no_features(folder: Path) -> Path:
    return replaced(folder, 'feature_set = "stroke/1"', 'feature_set = "stroke/9"')


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (wrong_units, "M511", "press-anomaly: press/tonnage is in kN, the model was trained in lbf"),
        (wrong_tag, "M504", "missing: coolant_temp; not wanted: press/die_temp"),
        (wrong_rate, "M511", "2000 samples at 10000 Hz, the model was trained on 2000 at 20000 Hz"),
        (no_features, "M511", "stroke/9, this program computes stroke/1"),
        (wrong_hash, "M503", "the file was changed"),
        (wrong_answers, "M512", "reference sample 1"),
        (not_a_number, "M533", "not a number"),
    ],
)
def test_the_refusal_names_the_mismatch(
    tmp_path: Path, spoil: Callable[[Path], Path], code: str, says: str
) -> None:
    found, sentence = refusal(spoil(unwatched(copy_of_delivered(tmp_path / "package"))))
    assert (found, says in sentence) == (code, True), sentence


def plant(tmp_path: Path, old: str, new: str) -> Path:
    """Return a copy of the example with something changed."""
    folder = shutil.copytree(PRESS.parent, tmp_path / "press")
    text = (folder / "press.toml").read_text()
    assert old in text
    (folder / "press.toml").write_text(text.replace(old, new))
    return folder / "press.toml"


def test_the_memory_of_a_pipeline_counts(tmp_path: Path) -> None:
    config = plant(tmp_path, "deadline_ms = 100", "deadline_ms = 100\nmemory_mb = 128")
    folder = with_model(copy_of_delivered(tmp_path / "package"), laden_image(96))
    assert refusal(folder, config=config)[0] == "M581"


def test_features_and_run_together_are_held_against_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A machine on which the features alone take 2 ms.
    monkeypatch.setattr("edge_opcua.inference.readiness.time_features", lambda *_: 2_000_000)
    config = plant(tmp_path, "deadline_ms = 100", "deadline_ms = 1")
    code, sentence = refusal(SECOND, config=config)
    assert code == "M613"
    assert "its deadline is 1 ms" in sentence


def test_what_is_measured_is_told_for_each_pipeline() -> None:
    found = tried(SECOND)
    (row,) = found["pipelines"]
    assert (row["pipeline"], row["samples"], found["alone"], found["broken"]) == (
        "press-anomaly",
        7,
        None,
        {},
    )
    assert 0 < row["p50_us"] <= row["p99_us"]
    assert row["features_us"] > 0


def test_without_a_configuration_it_is_proven_alone() -> None:
    found = tried(SECOND, config=None, pipelines=())
    assert (found["alone"]["samples"], found["pipelines"]) == (7, [])
    assert found["alone"]["provider"] == "CPUExecutionProvider"


def test_a_configuration_with_errors_is_no_yardstick(tmp_path: Path) -> None:
    config = plant(tmp_path, "deadline_ms = 100", 'deadline_ms = "soon"')
    assert refusal(SECOND, config=config)[0] == "M615"


def test_an_address_that_no_driver_can_read_is_told_before_the_model_is_loaded(tmp_path: Path) -> None:
    config = plant(tmp_path, "deadline_ms = 100", "deadline_ms = 100")
    tags = config.parent / "tags" / "press.csv"
    tags.write_text(tags.read_text().replace("DB10.DBD16:REAL", "DB10.DBD16:WHAT"))
    assert refusal(SECOND, config=config)[0] == "M615"


def test_deadlines_that_the_model_would_break_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 60 ms of features for strokes that come every 50 ms: each is in time, not all of them together.
    monkeypatch.setattr("edge_opcua.inference.readiness.time_features", lambda *_: 60_000_000)
    config = plant(tmp_path, "deadline_ms = 100", "deadline_ms = 100\nperiod_ms = 50")
    assert list(tried(SECOND, config=config)["broken"]) == ["press-anomaly"]


def test_what_is_allowed_is_worth_a_note_where_it_will_be_missed() -> None:
    manifest = replace(load_manifest(SECOND / "manifest.toml"), age=None, profile=None)
    clock = ManualClock()
    notes = notes_on(manifest, 2, clock)
    assert [note.split(":")[0] for note in notes] == [
        "only 2 reference samples",
        "its manifest has no [age]",
        "its manifest has no [profile]",
    ]
    old = replace(
        manifest,
        age=Age(clock.utc_ns() - 10 * DAY_NS, 7.0, "degrade"),
        signature={"key_id": "k"},
        features=tuple(replace(each, low=float("-inf"), high=float("inf")) for each in manifest.features),
    )
    notes = notes_on(old, 20, clock)
    assert notes[0] == "it is 10 days old, more than its 7; then = degrade"
    assert "has low or high" in notes[2]
    assert notes[3] == "its signature is not verified"


def test_a_run_much_slower_than_where_it_was_measured_is_told() -> None:
    manifest = load_manifest(SECOND / "manifest.toml")
    measured = {"alone": {"p99_us": 400.0}, "pipelines": []}
    assert slower_here(manifest, measured) == ""
    known = replace(manifest, device={"p99_us": 40, "machine": "the bench"})
    assert slower_here(known, measured) == "a run takes 400 µs here (p99), 40 µs on the bench"
    assert slower_here(replace(manifest, device={"p99_us": 200}), measured) == ""


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        (config, manifest.parent)
        for config in sorted(examples_dir().glob("*/*.toml"))
        for manifest in sorted(config.parent.glob("models/*/*/manifest.toml"))
    ],
    ids=lambda path: "-".join(path.parts[-2:]),
)
def test_every_model_of_the_examples_fits_the_plant_it_is_delivered_with(config: Path, folder: Path) -> None:
    loaded = load(config).config
    assert loaded is not None
    pipelines = tuple(each.name for each in loaded.pipelines if each.model == folder.parent.name)
    assert pipelines
    found = tried(folder, config=config, pipelines=pipelines)
    assert [row["pipeline"] for row in found["pipelines"]] == list(pipelines)
