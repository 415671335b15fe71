"""The committed models on plain tags are what the committed script makes, and they find what they are for."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_opcua.assets import examples_dir
from edge_opcua.inference.repository import verify

EXAMPLE = examples_dir() / "tags"
NAMES = ("press-state", "die-wear")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    script = runpy.run_path(str(EXAMPLE / "train.py"))
    script["main"](["--out", str(folder), "--seed", "11"])
    return folder


@pytest.mark.timeout(240)  # 2 000 simulated strokes, on a computer that does other things too
@pytest.mark.parametrize("name", NAMES)
def test_the_script_makes_the_committed_model_again(trained: Path, name: str) -> None:
    # Not byte by byte: the last digit of a matrix product is another one on another processor.
    made, committed = trained / name / "1", EXAMPLE / "models" / name / "1"
    for new, old in zip(
        onnx.load(made / "model.onnx").graph.initializer,
        onnx.load(committed / "model.onnx").graph.initializer,
        strict=True,
    ):
        np.testing.assert_allclose(
            numpy_helper.to_array(new), numpy_helper.to_array(old), rtol=1e-3, atol=1e-4, err_msg=old.name
        )
    with np.load(made / "golden.npz") as new_golden, np.load(committed / "golden.npz") as old_golden:
        assert new_golden.files == old_golden.files
        for array in old_golden.files:
            np.testing.assert_allclose(new_golden[array], old_golden[array], rtol=2e-3, atol=1e-3)


def test_the_committed_models_keep_their_promise() -> None:
    state = verify(EXAMPLE / "models" / "press-state" / "1").manifest
    wear = verify(EXAMPLE / "models" / "die-wear" / "1").manifest

    assert state.proof["accuracy"] >= 0.98
    assert wear.proof["rms_error"] <= 0.1  # between ground and blunt there is 1
    assert [tag.name for tag in wear.tags] == ["force", "die_temp"]
