"""The committed models are what the committed script makes, and they find what they are for."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_opcua.assets import examples_dir
from edge_opcua.inference.repository import verify
from edge_opcua.inference.watch.profile import ReferenceProfile, load_profile
from tests.inference.line import MODELS

VERSIONS = (1, 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    script = runpy.run_path(str(examples_dir() / "press" / "train.py"))
    script["main"](["--out", str(folder), "--seed", "7"])
    return folder / "press-anomaly"


def constants(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    graph = onnx.load(path).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def profile_of(folder: Path) -> ReferenceProfile:
    manifest = verify(folder).manifest
    assert manifest.profile is not None
    return load_profile(folder / manifest.profile.file, manifest.names, sha256=manifest.profile.sha256)


@pytest.mark.timeout(240)  # 7 000 simulated strokes, on a computer that does other things too
@pytest.mark.parametrize("version", VERSIONS)
def test_the_script_makes_the_committed_model_again(trained: Path, version: int) -> None:
    # Not byte by byte: the last digit of a matrix product is another one on another processor.
    made, committed = trained / str(version), MODELS / "press-anomaly" / str(version)
    nodes = [onnx.load(path / "model.onnx").graph.node for path in (made, committed)]
    assert list(nodes[0]) == list(nodes[1])
    new, old = constants(made / "model.onnx"), constants(committed / "model.onnx")
    assert new.keys() == old.keys()
    for name, array in old.items():
        np.testing.assert_allclose(new[name], array, rtol=1e-3, atol=1e-4, err_msg=name)
    with np.load(made / "golden.npz") as new_golden, np.load(committed / "golden.npz") as old_golden:
        assert new_golden.files == old_golden.files
        for name in old_golden.files:
            np.testing.assert_allclose(new_golden[name], old_golden[name], rtol=2e-3, atol=1e-3, err_msg=name)
    new_manifest, old_manifest = verify(made).manifest, verify(committed).manifest
    assert new_manifest.features == old_manifest.features
    assert new_manifest.age == old_manifest.age
    assert new_manifest.proof == pytest.approx(old_manifest.proof, abs=0.03)
    new_profile, old_profile = profile_of(made), profile_of(committed)
    assert (new_profile.columns, new_profile.units) == (old_profile.columns, old_profile.units)
    for field in ("count", "interval_s", "shares", "quantiles", "mean", "std", "stride", "hold"):
        new_values, old_values = getattr(new_profile, field), getattr(old_profile, field)
        np.testing.assert_allclose(new_values, old_values, rtol=2e-3, atol=1e-3, err_msg=field)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_committed_models_keep_their_promise(version: int) -> None:
    proof = verify(MODELS / "press-anomaly" / str(version)).manifest.proof
    assert proof["held_out_strokes"] >= 1_000
    assert proof["false_alarms"] == 0
    assert proof["false_alarm_share_below"] == pytest.approx(3 / proof["held_out_strokes"], abs=1e-4)
    assert proof["found_at_wear_30_percent"] >= 0.95
    assert proof["found_at_wear_60_percent"] == proof["found_at_wear_90_percent"] == 1.0
    assert proof["band_200_400_hz_first_at_wear_60_percent"] == 1.0


def test_the_how_to_tells_the_figures_of_the_manifests() -> None:
    text = (Path(__file__).parents[2] / "docs" / "howto" / "serve-your-model.md").read_text()
    proofs = [verify(MODELS / "press-anomaly" / str(version)).manifest.proof for version in VERSIONS]
    for percent in (20, 30, 60, 90):
        cells = [f"| {percent / 100} "]
        for proof in proofs:
            cells.append(f"| {100 * proof[f'found_at_wear_{percent}_percent']:g} % ")
            cells.append(f"| {proof[f'score_at_wear_{percent}_percent']:.3f} ")
        assert "".join(cells) in text


def test_the_versions_are_different_models() -> None:
    first, second = (verify(MODELS / "press-anomaly" / str(version)).manifest for version in VERSIONS)
    assert first.sha256 != second.sha256
    assert first.proof["learned_strokes"] < second.proof["learned_strokes"]
    assert first.features == second.features


def test_the_committed_models_are_small() -> None:
    for path in (MODELS / "press-anomaly").rglob("*.*"):
        assert path.stat().st_size < 64_000, path
