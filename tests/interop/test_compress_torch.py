"""What learns: small graphs trained in the environment with PyTorch, and what came of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.licences import verdict

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

PEERS = Path(__file__).resolve().parents[1] / "peers"
PYTHON = PEERS / ".installed" / "notebook-torch" / "bin" / "python"
# What is found out by counting or comparing gives no gradient; all else does.
WITHOUT_GRADIENT = {
    *("And Or Not", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    "Shape",
}


def told_by(script: str, *arguments: str) -> Mapping[str, Any]:
    """Run a script beside PyTorch, and return what it prints."""
    if not PYTHON.exists():
        pytest.skip("no PyTorch: tests/peers/install-notebooks torch")
    done = subprocess.run(
        [PYTHON, PEERS / script, *arguments], capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: Mapping[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def operators() -> Mapping[str, Any]:
    return told_by("compress_operators.py")


@pytest.fixture(scope="module")
def came(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return told_by("compress_training.py", str(tmp_path_factory.mktemp("training")))


def test_every_operator_computes_what_onnx_runtime_computes(operators: Mapping[str, Any]) -> None:
    found: Mapping[str, Mapping[str, Any]] = operators["found"]
    tried = {word for name in found for word in name.split()}
    assert set(operators["known"]) <= tried
    assert {name: its["off"] for name, its in found.items() if its["off"] is None or its["off"] > 1e-4} == {}


def test_a_gradient_passes_every_operator_that_has_one(operators: Mapping[str, Any]) -> None:
    without = {name.rstrip(" 0123456789") for name, its in operators["found"].items() if not its["reached"]}
    assert without == WITHOUT_GRADIENT


def test_a_pruned_network_learns_again_what_it_lost(came: Mapping[str, Any]) -> None:
    tuned = came["tuned"]
    assert tuned["before"] < 0.75
    assert tuned["after"] >= tuned["original"]
    assert tuned["notes"]["loss_after"] < 0.1 * tuned["notes"]["loss_before"]
    assert tuned["notes"]["learned_from"] + tuned["notes"]["held_out"] == 600


def test_only_the_values_of_weights_change(came: Mapping[str, Any]) -> None:
    assert came["same_graph"]
    assert came["untouched"], "weights that were not trained came back as other bytes"


def test_the_same_seed_trains_the_same_file_and_another_one_another(came: Mapping[str, Any]) -> None:
    assert came["same_bytes"]
    assert came["other_seed"]


def test_without_labels_a_pruned_network_learns_from_the_original(came: Mapping[str, Any]) -> None:
    distilled = came["distilled"]
    assert distilled["after"] < 0.5 * distilled["before"]
    assert distilled["notes"]["features_learned"] == 2
    assert came["no_labels"][0] == "M692"


def test_a_model_that_takes_three_samples_at_a_time_is_trained_by_threes(came: Mapping[str, Any]) -> None:
    assert came["fixed"]["after"] > came["fixed"]["before"] + 0.1


def test_who_gives_its_input_again_learns_from_what_is_normal(came: Mapping[str, Any]) -> None:
    assert came["reconstruction"]["after"] < 0.9 * came["reconstruction"]["before"]
    assert came["reconstruction"]["only_normal"]


def test_targets_train_a_value(came: Mapping[str, Any]) -> None:
    assert came["value"]["after"] < 0.75 * came["value"]["before"]


def test_a_target_in_large_numbers_does_not_drown_the_others(came: Mapping[str, Any]) -> None:
    assert came["units"]["after"] < 0.75 * came["units"]["before"]


def test_int8_that_ruins_a_network_is_trained_into_it(came: Mapping[str, Any]) -> None:
    qat = came["qat"]
    assert qat["plain"] < 0.6 < 0.8 < qat["trained"]
    assert qat["sizes"][2] == qat["sizes"][1] < 0.4 * qat["sizes"][0]


def test_the_file_of_int8_answers_what_was_trained(came: Mapping[str, Any]) -> None:
    assert came["qat"]["off"] < 0.02
    # The processor of the test has no VNNI: more than 7 bits would overflow its sums.
    assert came["qat"]["levels"][0] >= -64
    assert came["qat"]["levels"][1] <= 64


def test_a_student_of_ones_own_learns_from_any_model_and_answers_in_its_form(came: Mapping[str, Any]) -> None:
    student = came["student"]
    assert student["student"] > student["teacher"] - 0.05
    assert student["sum"] == pytest.approx(1.0, abs=1e-5), "the softmax of the model is missing"
    assert student["outputs"] == ["probabilities"]


def test_a_student_follows_features_of_the_model_and_labels(came: Mapping[str, Any]) -> None:
    assert came["hinted"]["student"] > 0.9


def test_a_student_that_does_not_fit_is_refused(came: Mapping[str, Any]) -> None:
    assert came["wrong_width"] == ["M692", "the student gives (3,) per sample, the model (4,)"]
    assert came["wrong_module"] == ["M692", 'the student has no module "nowhere"']


def test_what_cannot_be_trained_is_refused_by_name(came: Mapping[str, Any]) -> None:
    assert came["recurrent"] == ["M691", "LSTM cannot be trained here"]
    assert came["other_domain"] == ["M691", "node odd (ai.onnx.ml.Scaler) cannot be trained here"]
    assert came["too_few"][0] == "M692"
    assert came["diverged"] == ["M692", "training led to no finite loss: a smaller rate may help"]


def test_training_leaves_pytorch_as_it_was(came: Mapping[str, Any]) -> None:
    assert came["threads"] == came["threads_before"]


def test_what_trains_carries_no_copyleft(came: Mapping[str, Any]) -> None:
    licences: Mapping[str, str] = came["licences"]
    assert {"torch", "onnx", "onnxscript", "numpy"} <= set(licences)
    assert [why for name, licence in licences.items() if (why := verdict(name, licence))] == []
