"""What the outputs of each kind of model come to mean, and what the steps behind it make of the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.features.answers import Floats
from edge_opcua.features.judgement import Judge, Judged
from edge_opcua.features.stroke import Feature

FEATURES = (Feature("speed", "1/min"), Feature("oil_temp", "°C"), Feature("level", "mm"))
ROW = np.array([18.0, 45.0, 300.0], np.float32)
OK, NOT_OK, UNSURE = Verdict.OK, Verdict.NOT_OK, Verdict.NOT_DECIDABLE
CLASSES = {"kind": "classes", "labels": ["normal", "leak", "no_flow"], "ok": ["normal"]}


def judge(output: dict[str, Any] | None, *post: dict[str, Any], limit: float = 1.0) -> Judge:
    return Judge(output, post, features=FEATURES, limit=limit)


def floats(*values: float) -> Floats:
    return np.array(values, np.float32)


def scores(made: Judge, *values: float) -> list[Verdict]:
    return [made.judge({"score": floats(value)}, ROW).verdict for value in values]


def test_a_score_is_not_ok_from_its_limit_on_and_the_reason_names_where_it_shows() -> None:
    made = judge(None)
    answers = {
        "score": floats(1.0),
        "confidence": floats(0.9),
        "expected": floats(18.0, 40.0, 300.0),
        "contributions": floats(0.0, 0.9, 0.1),
    }

    judged = made.judge(answers, ROW)

    assert (judged.verdict, judged.score) == (NOT_OK, 1.0)
    assert judged.confidence == pytest.approx(0.9)
    assert judged.reason == "shows in oil_temp 45 °C (expected 40), level 300 mm (expected 300)"
    assert made.judge({**answers, "score": floats(0.99)}, ROW).verdict is OK


def test_a_model_that_gives_a_score_only_says_nothing_of_confidence_and_contributions() -> None:
    judged = judge({"kind": "score", "score": "anomaly"}).judge({"anomaly": floats(2.0)}, ROW)

    assert (judged.confidence, judged.expected, judged.contributions, judged.label) == (None, None, None, "")
    assert judged.reason == "score 2 is 1 or more"


@pytest.mark.parametrize(
    ("shares", "label", "verdict", "score"),
    [
        ((0.8, 0.1, 0.1), "normal", OK, 0.2),
        ((0.1, 0.7, 0.2), "leak", NOT_OK, 0.9),
        ((0.2, 0.2, 0.6), "no_flow", UNSURE, 0.8),
    ],
)
def test_the_most_probable_class_gives_label_and_verdict(
    shares: tuple[float, ...], label: str, verdict: Verdict, score: float
) -> None:
    made = judge({**CLASSES, "not_decidable": ["no_flow"]})

    judged = made.judge({"probabilities": floats(*shares)}, ROW)

    assert (judged.label, judged.verdict) == (label, verdict)
    assert judged.score == pytest.approx(score, abs=1e-6)
    assert judged.confidence == pytest.approx(max(shares))
    assert bool(judged.reason) == (verdict is not OK)


def test_logits_become_probabilities_as_declared() -> None:
    softmax = judge({**CLASSES, "apply": "softmax"}).judge({"probabilities": floats(2.0, 0.0, 0.0)}, ROW)
    two = {"kind": "classes", "labels": ["normal", "leak"], "apply": "sigmoid"}
    sigmoid = judge(two).judge({"probabilities": floats(-800.0)}, ROW)  # exp(800) is no number

    assert softmax.confidence == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    assert sigmoid.label == "normal"
    assert sigmoid.score == pytest.approx(0.0)


def test_a_value_is_ok_unless_limits_say_otherwise() -> None:
    table = {"kind": "value", "value": "thickness"}
    limits = {"step": "limits", "low": 1.0, "high": 2.0, "unit": "mm"}

    assert judge(table).judge({"thickness": floats(99.0)}, ROW).verdict is OK
    judged = judge(table, limits).judge({"thickness": floats(2.5)}, ROW)
    assert (judged.verdict, judged.reason) == (NOT_OK, "2.5 mm is outside 1..2")
    assert judge(table, limits).judge({"thickness": floats(2.0)}, ROW).verdict is OK


def test_what_an_autoencoder_cannot_give_again_is_the_error_and_shows_which_feature_it_is() -> None:
    made = judge({"kind": "reconstruction", "scale": [1.0, 2.0, 10.0]}, limit=1.5)

    judged = made.judge({"reconstruction": floats(18.0, 39.0, 290.0)}, ROW)

    # errors over scale: 0, 3, 1
    assert judged.score == pytest.approx(np.sqrt(10.0 / 3.0))
    assert judged.contributions == pytest.approx([0.0, 0.9, 0.1])
    assert judged.expected == pytest.approx([18.0, 39.0, 290.0])
    assert judged.verdict is NOT_OK
    assert judged.reason.startswith("shows in oil_temp 45 °C (expected 39)")
    perfect = made.judge({"reconstruction": ROW}, ROW)
    assert (perfect.score, perfect.verdict) == (0.0, OK)
    assert perfect.contributions == pytest.approx([0.0, 0.0, 0.0])


def test_a_threshold_with_hysteresis_lets_go_only_below_its_lower_end() -> None:
    made = judge({"kind": "score"}, {"step": "threshold", "high": 0.8, "low": 0.5})

    assert scores(made, 0.7, 0.8, 0.6, 0.5, 0.49, 0.7) == [OK, NOT_OK, NOT_OK, NOT_OK, OK, OK]


def test_a_threshold_overrules_the_limit_of_the_manifest() -> None:
    made = judge({"kind": "score"}, {"step": "threshold", "high": 3.0}, limit=1.0)

    judged = made.judge({"score": floats(2.0)}, ROW)

    assert (judged.verdict, judged.reason) == (OK, "")


def test_k_of_n_waits_for_k_and_holds_while_there_are_k() -> None:
    made = judge({"kind": "score"}, {"step": "k_of_n", "k": 2, "n": 3})

    assert scores(made, 2.0, 0.0, 2.0, 0.0, 0.0, 0.0) == [OK, OK, NOT_OK, OK, OK, OK]


def test_what_cannot_be_decided_does_not_count_for_k_of_n() -> None:
    made = judge(CLASSES, {"step": "min_confidence", "least": 0.6}, {"step": "k_of_n", "k": 2, "n": 2})
    leak, unsure = floats(0.1, 0.8, 0.1), floats(0.3, 0.4, 0.3)

    found = [made.judge({"probabilities": each}, ROW) for each in (leak, unsure, leak)]

    assert [each.verdict for each in found] == [OK, UNSURE, NOT_OK]
    assert found[1].reason.startswith("confidence 0.4 is below 0.6")


def test_argmax_says_which_labels_are_ok_instead_of_the_output() -> None:
    made = judge(CLASSES, {"step": "argmax", "ok": ["normal", "no_flow"]})

    assert made.judge({"probabilities": floats(0.1, 0.1, 0.8)}, ROW).verdict is OK
    assert made.judge({"probabilities": floats(0.1, 0.8, 0.1)}, ROW).reason == "looks like leak (80 %)"


def test_a_step_before_another_can_be_overruled_by_it() -> None:
    # A class that is NotOk, but too improbable for a stop: the threshold behind argmax decides.
    made = judge(CLASSES, {"step": "threshold", "high": 0.9})

    assert made.judge({"probabilities": floats(0.3, 0.5, 0.2)}, ROW).verdict is OK
    assert made.judge({"probabilities": floats(0.05, 0.9, 0.05)}, ROW).verdict is NOT_OK


STEPS = (
    {"step": "threshold", "high": 1.0, "low": 0.4},
    {"step": "k_of_n", "k": 2, "n": 4},
)


@given(st.lists(st.floats(0.0, 2.0, width=32), max_size=40), st.lists(st.floats(0.0, 2.0, width=32)))
def test_a_successor_that_is_seeded_with_what_was_published_goes_on_as_the_former_would(
    before: list[float], after: list[float]
) -> None:
    former = judge({"kind": "score"}, *STEPS)
    scores(former, *before)
    successor = judge({"kind": "score"}, *STEPS)
    successor.seed([(score, None, "") for score in before])

    assert scores(successor, *after) == scores(former, *after)


def test_seeding_classes_goes_by_their_labels() -> None:
    post = {"step": "k_of_n", "k": 2, "n": 2}
    successor = judge(CLASSES, post)
    successor.seed([(0.9, 0.8, "leak")])

    assert successor.judge({"probabilities": floats(0.1, 0.8, 0.1)}, ROW).verdict is NOT_OK


def test_who_remembers_nothing_has_to_be_seeded_with_nothing() -> None:
    assert judge({"kind": "score"}, {"step": "threshold", "high": 1.0}).remembers == 0
    assert judge({"kind": "score"}, {"step": "k_of_n", "k": 1, "n": 7}).remembers == 7


@pytest.mark.parametrize(
    ("output", "post", "code", "said"),
    [
        ({"kind": "picture"}, (), "M620", 'output: kind "picture" is not one of'),
        ({"kind": "classes"}, (), "M620", "labels has to name 2..1000 classes"),
        ({"kind": "classes", "labels": ["a", "a"]}, (), "M620", "each once"),
        ({**CLASSES, "ok": ["fine"]}, (), "M620", 'ok names "fine", which is not among the labels'),
        ({**CLASSES, "not_decidable": ["normal"]}, (), "M620", "both in ok and in not_decidable"),
        ({**CLASSES, "apply": "sigmoid"}, (), "M620", "is for 2 labels, not 3"),
        ({"kind": "reconstruction", "scale": [1.0]}, (), "M620", "scale has 1 numbers; there are 3 features"),
        ({"kind": "reconstruction", "scale": [1.0, 0.0, 1.0]}, (), "M620", "not above 0"),
        ({"kind": "value", "unit": "mm"}, (), "M620", "unknown key"),
        (None, ({"step": "vote"},), "M621", 'post 1: "vote" is not one of argmax, k_of_n'),
        (None, ({"step": "threshold", "high": 1.0, "low": 2.0},), "M621", "low = 2 is above high = 1"),
        (None, ({"step": "k_of_n", "k": 3, "n": 2},), "M621", "k = 3 is more than n = 2"),
        (None, ({"step": "limits"},), "M621", "low or high is missing"),
        (None, ({"step": "argmax", "ok": ["a"]},), "M621", 'needs [output] kind = "classes"'),
        ({"kind": "value"}, ({"step": "min_confidence", "least": 0.5},), "M621", "does not say how sure"),
        (None, ({"step": "min_confidence", "least": 1.5},), "M621", "out of range 0..1"),
    ],
)
def test_what_is_declared_wrongly_is_refused_with_a_sentence_that_names_it(
    output: dict[str, Any] | None, post: tuple[dict[str, Any], ...], code: str, said: str
) -> None:
    with pytest.raises(ModelError) as caught:
        judge(output, *post)

    assert caught.value.code == code
    assert said.replace('"', "") in str(caught.value).replace('"', "")


def test_every_result_says_the_same_of_the_same_answers() -> None:
    made = judge(CLASSES)

    first: Judged = made.judge({"probabilities": floats(0.1, 0.8, 0.1)}, ROW)

    assert made.judge({"probabilities": floats(0.1, 0.8, 0.1)}, ROW) == first
