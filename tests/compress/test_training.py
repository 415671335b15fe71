"""What learns, without PyTorch: lessons, which samples, and a refusal that says what is missing.

With PyTorch: tests/interop/test_compress_torch.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.graph import open_graph
from edge_opcua.compress.makers import TRAINED, maker_of, proposals_of
from edge_opcua.compress.tasks.labels import Labels
from edge_opcua.compress.tasks.reconstruction import Reconstruction
from edge_opcua.compress.train.lesson import lesson_for, read_lesson
from edge_opcua.compress.train.samples import knows_truth, lesson_data
from edge_opcua.compress.train.torchlib import has_torch
from edge_opcua.compress.train.wiring import features, head_of, learned, steps_to
from edge_opcua.compress.variant import Variant
from edge_opcua.errors import ModelError
from tests.compress import models
from tests.compress.kitchens import kitchen, quiet

RECIPE: Mapping[str, Any] = {"epochs": 5, "rate": 1e-3, "loss": "labels"}


def lesson(**changes: Any) -> Any:
    return read_lesson({**RECIPE, **changes})


def test_a_recipe_says_how_something_is_trained() -> None:
    found = lesson(batch=16, temperature=2)
    assert (found.epochs, found.rate, found.loss, found.batch, found.temperature) == (
        5,
        1e-3,
        "labels",
        16,
        2,
    )
    assert read_lesson(found.as_recipe()) == found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "guess"}, "none of labels, teacher"),
        ({"epochs": 0}, "epochs = 0 is not from"),
        ({"epochs": 2.5}, "no whole number"),
        ({"rate": True}, "rate = True is no number"),
        ({"rate": float("nan")}, "rate = nan is not from"),
        ({"speed": 3}, 'no "speed"'),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(changes: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match=said) as refused:
        lesson(**changes)
    assert refused.value.code == "M692"


def test_what_a_lesson_needs_must_be_there() -> None:
    with pytest.raises(ModelError, match='to have "rate"'):
        read_lesson({"epochs": 5, "loss": "labels"})


def test_a_lesson_has_about_as_many_steps_whatever_the_number_of_samples() -> None:
    steps = [
        count * lesson_for(count, rate=1e-3, loss="labels").epochs / 32 for count in (2_000, 5_000, 12_000)
    ]
    assert max(steps) < 1.1 * min(steps)
    assert lesson_for(64, rate=1e-3, loss="labels").epochs == 60
    assert lesson_for(10**6, rate=1e-3, loss="labels").epochs == 6


def test_samples_to_train_with_are_learned_from_and_else_those_to_calibrate_with() -> None:
    some, many = models.pictures(20, 1), models.pictures(40, 2)
    teacher = read_lesson({**RECIPE, "loss": "teacher"})
    assert lesson_data(kitchen(some), teacher) is some
    assert lesson_data(kitchen(some, many), teacher) is many


def test_who_gives_its_input_again_learns_it_from_what_is_normal() -> None:
    data = models.signals(100, 3, bad=0.3)
    here = kitchen(data, data, task=Reconstruction("reconstruction"))
    chosen = lesson_data(here, lesson())
    assert data.truth is not None
    assert chosen.truth is not None
    assert len(chosen) == int((data.truth == 0).sum()) < 100
    assert not chosen.truth.any()


def test_what_nobody_knows_is_not_learned() -> None:
    blind = replace(models.pictures(20, 1), truth=None)
    assert not knows_truth(kitchen(blind, blind))
    assert not knows_truth(kitchen(models.pictures(20, 1)))
    with pytest.raises(ModelError, match="no labels or targets"):
        lesson_data(kitchen(blind, blind), lesson())


def test_decisions_are_learned_before_a_softmax(tmp_path: Path) -> None:
    mlp = open_graph(models.saved(models.mlp(), tmp_path))
    head = head_of(mlp, "probabilities")
    assert (head.kind, head.logits) == ("classes", "logits")
    head = head_of(open_graph(models.saved(models.conv_net(), tmp_path)), "logits")
    assert (head.kind, head.logits) == ("values", "logits")


def test_who_answers_with_a_class_is_taught_by_what_it_is_chosen_from(tmp_path: Path) -> None:
    draft = models.Draft(1)
    at = draft.node("Softmax", draft.dense("x", "logits", 6, 3), output="shares", axis=1)
    at = draft.node("ArgMax", at, output="place", axis=1, keepdims=0)
    draft.node("Cast", at, output="class", to=1)
    model = open_graph(models.saved(draft.model((6,), "class", ()), tmp_path))
    head = head_of(model, "class")
    assert (head.kind, head.logits) == ("classes", "logits")


def test_weights_of_layers_and_normalisations_are_learned(tmp_path: Path) -> None:
    model = open_graph(models.saved(models.conv_net(), tmp_path))
    names = learned(steps_to(model, ["logits"]), {tensor.name for tensor in model.graph.initializer})
    assert names == [
        *("conv1.weight", "bn1.scale", "bn1.shift", "conv2.weight", "bn2.scale", "bn2.shift"),
        *("logits.weight", "logits.bias"),
    ]


def test_a_bias_that_is_added_is_learned_and_what_scales_the_input_is_not(tmp_path: Path) -> None:
    draft = models.Draft(1)
    at = draft.node("Sub", "x", draft.weight("mean", np.ones(6)), output="centred")
    at = draft.node("MatMul", at, draft.he("weight", 6, 3), output="product")
    draft.node("Add", at, draft.weight("bias", np.zeros(3)), output="logits")
    model = open_graph(models.saved(draft.model((6,), "logits", (3,)), tmp_path))
    names = learned(steps_to(model, ["logits"]), {tensor.name for tensor in model.graph.initializer})
    assert names == ["weight", "bias"]


def test_what_goes_into_the_last_layers_are_the_features(tmp_path: Path) -> None:
    model = open_graph(models.saved(models.conv_net(), tmp_path))
    assert features(steps_to(model, ["logits"]), 5) == [("flat", -1), ("pool1", 1)]


def test_a_value_that_is_not_computed_is_named(tmp_path: Path) -> None:
    model = open_graph(models.saved(models.mlp(), tmp_path))
    with pytest.raises(ModelError, match='computes no "nothing"') as refused:
        steps_to(model, ["nothing"])
    assert refused.value.code == "M691"


@pytest.mark.skipif(has_torch(), reason="PyTorch is here")
@pytest.mark.parametrize("family", sorted(TRAINED))
def test_without_pytorch_nothing_is_proposed_and_training_is_refused(family: Any, tmp_path: Path) -> None:
    data: Dataset = models.pictures(100, 1)
    path = models.saved(models.conv_net(), tmp_path)
    here = kitchen(data, data, original=path, task=Labels("logits"))
    assert proposals_of(family)(path, here) == []
    with pytest.raises(ModelError, match=r"edge-opcua\[cpu,train\]") as refused:
        maker_of(family)(Variant("v", family, RECIPE), path, tmp_path / "out.onnx", here, quiet)
    assert refused.value.code == "M690"
    assert not (tmp_path / "out.onnx").exists()


def test_the_page_tells_the_figures_that_were_measured() -> None:
    explanation = Path(__file__).parents[2] / "docs" / "explanation"
    figures = json.loads((explanation / "train-figures.json").read_text())
    page = (explanation / "compression.md").read_text()
    for row in figures["pruned"]:
        removed, *shares = row.values()
        told = " | ".join(f"{share:.2f}" for share in shares)
        assert f"| {round(100 * removed)} % | {told} |" in page
    assert (
        f"judged by {figures['samples']['gate'] // 1000} {figures['samples']['gate'] % 1000} others" in page
    )
