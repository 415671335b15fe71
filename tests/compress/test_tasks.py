"""What models are for: how their answers are compared with truth and without, and which task a model has."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.tasks import task_for
from edge_opcua.errors import ModelError
from edge_opcua.features.judgement import Judge
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.onnxcard import Tensor

RNG = np.random.default_rng(17)
N = 2000
ROWS = RNG.normal(size=(N, 1, 4, 4)).astype(np.float32)
CLASSES = RNG.integers(0, 5, N)
LOGITS = RNG.normal(size=(N, 5)) + 4.0 * np.eye(5)[CLASSES]
IS_FAULT = (RNG.random(N) < 0.45).astype(np.int64)
SCORE = RNG.normal(size=N) + 2.0 * IS_FAULT
TARGET = RNG.normal(size=(N, 1))
VALUE = TARGET + 0.3 * RNG.normal(size=(N, 1))
GIVEN_AGAIN = ROWS + 0.5 * RNG.normal(size=ROWS.shape)
FLAT = Dataset(ROWS.reshape(N, -1))


def noisy(answers: Any, much: float) -> Any:
    return answers + much * np.random.default_rng(23).normal(size=answers.shape)


def one(shape: tuple[int | str, ...], kind: str = "float32") -> list[Tensor]:
    return [Tensor("out", kind, ("N", *shape))]


CASES = {
    "labels": (one((5,)), Dataset(ROWS, CLASSES), LOGITS, "accuracy"),
    "score": (one((1,)), Dataset(ROWS, IS_FAULT), SCORE, "AUC"),
    "value": (one((1,)), Dataset(ROWS, TARGET), VALUE, "RMSE"),
    "reconstruction": (one((1, 4, 4)), Dataset(ROWS), GIVEN_AGAIN, "reconstruction error"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_the_task_follows_from_outputs_and_truth_and_tells_a_good_variant_from_a_bad_one(name: str) -> None:
    outputs, data, answers, measure = CASES[name]
    task = task_for(outputs, data, "auto")
    assert (task.name, tuple(task.outputs)) == (name, ("out",))

    verdicts, damages, qualities = [], [], []
    for much in (0.001, 0.02, 2.0):
        variant = {"out": noisy(answers, much)}
        found = task.compare({"out": answers}, variant, data, allowed=None, level=0.025)
        verdicts.append(found.verdict)
        damages.append(task.damage({"out": answers}, variant, data))
        qualities.append(found.loss)
        assert found.measure == measure
        assert found.low <= found.loss <= found.high
    assert (verdicts[0], verdicts[2]) == ("proved", "failed")
    assert damages == sorted(damages)
    assert qualities[0] < qualities[2]
    assert task.damage({"out": answers}, {"out": answers}, data) == 0.0


def test_without_truth_a_decision_that_changed_counts_as_lost() -> None:
    task = task_for(one((5,)), Dataset(ROWS), "auto")
    variant = LOGITS.copy()
    variant[:3] = -variant[:3]
    found = task.compare({"out": LOGITS}, {"out": variant}, Dataset(ROWS), allowed=None, level=0.025)
    assert (found.measure, found.changed, found.verdict) == ("agreement", 3, "proved")
    assert found.loss == pytest.approx(100 * 3 / N)
    assert found.original == 1.0


def test_truth_can_be_left_aside() -> None:
    data = Dataset(ROWS, CLASSES)
    task = task_for(one((5,)), data, "agreement")
    found = task.compare({"out": LOGITS}, {"out": LOGITS}, data, allowed=None, level=0.025)
    assert (task.name, found.measure) == ("agreement", "agreement")
    assert task.damage({"out": LOGITS}, {"out": LOGITS}, data) == 0.0


def test_without_truth_a_value_is_held_against_the_spread_of_the_original() -> None:
    task = task_for(one((1,)), Dataset(ROWS), "auto")
    shifted = VALUE + 0.01 * VALUE.std()
    found = task.compare({"out": VALUE}, {"out": shifted}, Dataset(ROWS), allowed=None, level=0.025)
    assert (found.measure, found.verdict) == ("deviation", "proved")
    assert found.loss == pytest.approx(1.0)


def test_a_decision_that_is_no_number_is_wrong() -> None:
    data = Dataset(ROWS, CLASSES)
    task = task_for(one((5,)), data, "auto")
    broken = LOGITS.copy()
    broken[::10, 2] = np.nan
    found = task.compare({"out": LOGITS}, {"out": broken}, data, allowed=None, level=0.025)
    assert found.verdict == "failed"
    assert found.loss == pytest.approx(100 * (LOGITS.argmax(axis=1) == CLASSES)[::10].sum() / N)
    assert task.damage({"out": LOGITS}, {"out": broken}, data) >= 0.1


@pytest.mark.parametrize("name", ["score", "value", "reconstruction"])
def test_scores_and_values_that_are_no_numbers_are_not_compared(name: str) -> None:
    outputs, data, answers, _ = CASES[name]
    task = task_for(outputs, data, "auto")
    broken = np.array(answers)
    broken[:7] = np.inf
    with pytest.raises(ModelError, match="7 of 2000 answers of the variant") as caught:
        task.compare({"out": answers}, {"out": broken}, data, allowed=None, level=0.025)
    assert caught.value.code == "M671"
    assert task.damage({"out": answers}, {"out": broken}, data) == math.inf


def test_the_class_itself_may_be_the_answer() -> None:
    data = Dataset(ROWS, CLASSES)
    task = task_for(one((), "int64"), data, "auto")
    found = task.compare({"out": CLASSES}, {"out": CLASSES[::-1]}, data, allowed=None, level=0.025)
    assert found.original == 1.0
    assert found.variant < 0.5


@pytest.mark.parametrize(("answers", "right"), [(IS_FAULT - 0.5, 1.0), (0.2 + 0.6 * IS_FAULT, 1.0)])
def test_one_value_decides_at_zero_or_if_it_is_a_share_at_a_half(answers: Any, right: float) -> None:
    data = Dataset(ROWS, IS_FAULT)
    task = task_for(one((1,)), data, "labels")
    found = task.compare({"out": answers}, {"out": answers}, data, allowed=None, level=0.025)
    assert (found.original, found.changed) == (right, 0)


def test_classes_of_which_there_is_no_sample_are_told() -> None:
    known = CLASSES < 3
    data = Dataset(ROWS[known], CLASSES[known])
    answers = {"out": LOGITS[known]}
    found = task_for(one((5,)), data, "auto").compare(answers, answers, data, allowed=None, level=0.025)
    assert "2 of 5 classes have no sample: nothing is known of them" in found.text


def test_a_score_whose_faults_are_at_the_lower_end_is_turned_round_as_the_original_has_it() -> None:
    data = Dataset(ROWS, IS_FAULT)
    task = task_for(one((1,)), data, "score")
    found = task.compare({"out": -SCORE}, {"out": SCORE}, data, allowed=None, level=0.025)
    assert found.original > 0.9
    assert found.variant == pytest.approx(1.0 - found.original)
    assert found.verdict == "failed"


def test_a_reconstruction_with_labels_is_judged_by_how_well_its_error_tells_faults() -> None:
    data = Dataset(ROWS, IS_FAULT)
    given = GIVEN_AGAIN + 0.5 * IS_FAULT[:, None, None, None]
    task = task_for(one((1, 4, 4)), data, "auto")
    found = task.compare({"out": given}, {"out": noisy(given, 0.01)}, data, allowed=None, level=0.025)
    assert (task.name, found.measure, found.unit) == ("reconstruction", "AUC", "pp")
    assert found.original > 0.7


def test_some_targets_of_different_size_count_alike() -> None:
    targets = np.c_[TARGET, 1000.0 * TARGET]
    data = Dataset(ROWS, targets)
    task = task_for(one((2,)), data, "auto")
    answers = targets + [[0.3, 300.0]] * RNG.normal(size=(N, 2))
    for column, scale in ((0, 1.0), (1, 1000.0)):
        worse = answers.copy()
        worse[:, column] += scale * 0.3 * RNG.normal(size=N)
        found = task.compare({"out": answers}, {"out": worse}, data, allowed=None, level=0.025)
        assert found.loss == pytest.approx(100 * (math.sqrt(1.5) - 1.0), rel=0.15)


@pytest.mark.parametrize(
    ("outputs", "data", "wish", "said"),
    [
        (one((5,)), Dataset(ROWS, CLASSES + 1), "auto", "labels go from 1 to 5, the model decides 0 to 4"),
        (one((3,)), Dataset(ROWS, TARGET), "auto", "it gives 3 values, the data has 1 targets"),
        (one((1,)), Dataset(ROWS, CLASSES), "auto", "label 1 from label 0, the data has 0, 1, 2, 3, 4"),
        (one((1,)), Dataset(ROWS, 2 * IS_FAULT - 1), "auto", "label 1 from label 0, the data has -1, 1"),
        (one((1, 4, 4)), Dataset(ROWS, IS_FAULT + 1), "auto", "0 that it has none, not 1, 2"),
        (one((5,)), Dataset(ROWS, IS_FAULT), "reconstruction", "not the shape of the input"),
        (one((5,)), Dataset(ROWS, CLASSES), "value", "compared with targets"),
        (one((5,)), Dataset(ROWS, TARGET), "labels", "compared with labels"),
        (one((5,)), Dataset(ROWS), "verdict", "name a package"),
        ([*one((1,)), Tensor("b", "float32", ("N", 1))], Dataset(ROWS), "auto", "--output"),
    ],
)
def test_outputs_data_and_wish_that_do_not_fit_are_refused(
    outputs: list[Tensor], data: Dataset, wish: Any, said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        task_for(outputs, data, wish)
    assert caught.value.code == "M672"


def test_an_output_that_is_named_is_looked_at() -> None:
    outputs = [*one((5,)), Tensor("other", "float32", ("N", 1))]
    assert task_for(outputs, Dataset(ROWS), "auto", output="other").name == "value"
    with pytest.raises(ModelError, match='no output "third"; it has out, other'):
        task_for(outputs, Dataset(ROWS), "auto", output="third")


def test_the_probabilities_of_a_classifier_go_before_its_label() -> None:
    outputs = [Tensor("label", "int64", ("N",)), Tensor("probabilities", "float32", ("N", 5))]
    assert tuple(task_for(outputs, Dataset(ROWS, CLASSES), "auto").outputs) == ("probabilities",)


def test_answers_to_other_samples_are_not_compared() -> None:
    data = Dataset(ROWS, CLASSES)
    task = task_for(one((5,)), data, "auto")
    for variant in ({"out": LOGITS[:9]}, {"out": LOGITS[:, :4]}, {"other": LOGITS}):
        with pytest.raises(ModelError) as caught:
            task.compare({"out": LOGITS}, variant, data, allowed=None, level=0.025)
        assert caught.value.code == "M671"


FEATURES = [Feature(f"f{number}", "") for number in range(16)]


def test_of_a_package_the_verdict_counts_and_not_the_answer() -> None:
    judge = Judge({"kind": "score", "score": "out"}, (), features=FEATURES, limit=1.0)
    data = Dataset(FLAT.rows, IS_FAULT)
    task = task_for(one((1,)), data, "auto", judge=judge)
    assert (task.name, tuple(task.outputs)) == ("verdict", ("out",))

    same_side = np.where(SCORE >= 1.0, SCORE + 5.0, SCORE - 5.0)
    found = task.compare({"out": SCORE}, {"out": same_side}, data, allowed=None, level=0.025)
    assert (found.changed, found.verdict) == (0, "proved")
    assert found.original == pytest.approx(((SCORE >= 1.0) == IS_FAULT).mean())
    assert 0.0 < task.damage({"out": SCORE}, {"out": same_side}, data) < 1.0 / N

    blind = task.compare({"out": SCORE}, {"out": SCORE + 0.1}, FLAT, allowed=None, level=0.025)
    assert blind.measure == "agreement"
    assert blind.changed == ((SCORE < 1.0) & (SCORE >= 0.9)).sum()


def test_a_package_that_says_what_a_quantity_is_is_held_against_targets() -> None:
    judge = Judge({"kind": "value", "value": "out"}, (), features=FEATURES)
    data = Dataset(FLAT.rows, TARGET)
    assert task_for(one((1,)), data, "auto", judge=judge).name == "value"


def test_a_package_that_names_classes_is_held_against_class_numbers_where_those_are_given() -> None:
    output = {"kind": "classes", "probabilities": "out", "labels": list("abcde"), "apply": "softmax"}
    judge = Judge(output, (), features=FEATURES)
    assert task_for(one((5,)), Dataset(FLAT.rows, CLASSES), "auto", judge=judge).name == "labels"
    assert task_for(one((5,)), Dataset(FLAT.rows, IS_FAULT), "auto", judge=judge).name == "verdict"


def held(data: Dataset, outputs: list[Tensor], original: Any, variant: Any, **options: Any) -> Any:
    task = task_for(outputs, data, options.pop("wish", "auto"))
    return task.compare({"out": original}, {"out": variant}, data, allowed=None, level=0.025, **options)


def test_a_variant_that_never_sees_a_rare_fault_is_not_proved_though_it_is_right_nearly_always() -> None:
    truth = (np.arange(8000) < 12).astype(np.int64)
    data = Dataset(np.zeros((8000, 3), np.float32), truth)
    found = held(data, one((2,)), np.eye(2)[truth], np.eye(2)[np.zeros_like(truth)])
    assert found.loss == pytest.approx(0.15)
    assert found.high < found.allowed
    assert (found.verdict, found.needed) == ("not proved", None)
    assert "of label 1 100 pp are lost" in found.text


def test_without_truth_a_rare_decision_that_is_never_made_is_not_proved_either() -> None:
    rare = (np.arange(8000) < 12).astype(np.int64)
    found = held(
        Dataset(np.zeros((8000, 3), np.float32)), one((2,)), np.eye(2)[rare], np.eye(2)[np.zeros_like(rare)]
    )
    assert found.high < found.allowed
    assert found.verdict == "not proved"
    assert "of decision 1" in found.text


@pytest.mark.parametrize(
    ("original", "truth"),
    [
        (np.eye(5)[np.zeros(N, int)], CLASSES),  # it always says the same
        (LOGITS, (CLASSES + 1) % 5),  # the labels are in another order
        (LOGITS, np.full(N, 2)),  # one class only
        (np.eye(5)[np.zeros(N, int)], None),
    ],
)
def test_labels_of_which_the_original_knows_nothing_prove_nothing(original: Any, truth: Any) -> None:
    with pytest.raises(
        ModelError, match=r"take samples of|no more than a guess|decides the same on all"
    ) as caught:
        held(Dataset(ROWS, truth), one((5,)), original, original)
    assert caught.value.code == "M671"


@pytest.mark.parametrize("off", [0.0, 1000.0])
def test_values_in_another_unit_than_the_targets_prove_nothing(off: float) -> None:
    values = np.zeros((N, 1)) + off
    with pytest.raises(ModelError, match="for whoever always says the mean"):
        held(Dataset(ROWS, TARGET), one((1,)), values, noisy(values, 1.0))


def test_a_reconstruction_of_samples_that_are_scaled_otherwise_proves_nothing() -> None:
    data = Dataset((255.0 * np.abs(ROWS) + 255.0).astype(np.float32))
    with pytest.raises(ModelError, match="reconstruction error of the original"):
        held(data, one((1, 4, 4)), GIVEN_AGAIN, GIVEN_AGAIN)


def test_a_score_that_is_always_the_same_proves_nothing() -> None:
    with pytest.raises(ModelError, match="tell no fault from the others"):
        held(Dataset(ROWS, IS_FAULT), one((1,)), np.ones(N), np.ones(N))
