"""Models of every kind on plain tags: prepared, proven, served, handed over, and refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.core.values import (
    BAD_CONFIGURATION_ERROR,
    BAD_NOT_SUPPORTED,
    BAD_SENSOR_FAILURE,
    BAD_WAITING_FOR_INITIAL_DATA,
    GOOD,
    UNCERTAIN_LAST_USABLE,
    UNCERTAIN_SUBNORMAL,
    Verdict,
)
from edge_opcua.errors import ModelError
from edge_opcua.inference.fed import fed_with
from edge_opcua.inference.lane import Lane
from edge_opcua.inference.schedule.request import Fate, Request
from edge_opcua.inference.spec import lane_spec
from tests.inference.line import delivered
from tests.inference.taglines import UNITS, TagLine, config, package, pipeline

OK, NOT_OK, UNSURE = int(Verdict.OK), int(Verdict.NOT_OK), int(Verdict.NOT_DECIDABLE)
NORMAL = {"speed": 18.0, "oil_temp": 45.0, "level": 300.0}
# oil_temp / 10 - 4.5: 0 at 45 °C, 1 at 55 °C
SCORE = {"score": [[0.0, 0.1, 0.0, -4.5]]}
VALUE = {"thickness": [[0.0, 0.01, 0.001, 0.0]]}
CLASSES = {"shares": [[0.0, -0.1, 0.0, 5.0], [0.0, 0.1, 0.0, -4.0]]}  # 0.5 and 0.5 at 45 °C
CLASSES_OUTPUT = {"kind": "classes", "probabilities": "shares", "labels": ["normal", "hot"]}
AGAIN = {"recon": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 45.0], [0.0, 0.0, 1.0, 0.0]]}


@pytest.fixture
def made() -> Iterator[Callable[..., TagLine]]:
    lines: list[TagLine] = []

    def make(**keys: Any) -> TagLine:
        lines.append(TagLine(pipeline(**keys)))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


def test_a_model_that_gives_a_score_only_is_served_and_the_rest_is_null(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made()
    lane = line.judging(package(tmp_path, SCORE, output={"kind": "score"}))

    line.sample(lane, NORMAL)
    normal = line.verdict()
    line.sample(lane, {"oil_temp": 56.0})
    hot = line.verdict()

    assert (normal["verdict"], hot["verdict"]) == (OK, NOT_OK)
    assert hot["score"] == pytest.approx(1.1, abs=1e-5)
    assert hot["reason"] == "score 1.1 is 1 or more"
    for name in ("confidence", "contributions", "expected", "label"):
        assert hot[name] is None
        assert hot[f"{name}.status"] == BAD_NOT_SUPPORTED
    np.testing.assert_allclose(hot["features"], [18.0, 56.0, 300.0])
    assert hot["verdict.status"] == GOOD


def test_a_regressor_is_served_with_limits_of_its_value(made: Callable[..., TagLine], tmp_path: Path) -> None:
    line = made()
    output = {"kind": "value", "value": "thickness"}
    post = ({"step": "limits", "low": 0.7, "high": 0.8, "unit": "mm"},)
    lane = line.judging(package(tmp_path, VALUE, roles={"thickness": "value"}, output=output, post=post))

    line.sample(lane, NORMAL)
    line.sample(lane, {"oil_temp": 60.0})
    inside, outside = line.judged()

    assert (inside["verdict"], inside["score"]) == (OK, pytest.approx(0.75))
    assert (outside["verdict"], outside["reason"]) == (NOT_OK, "0.9 mm is outside 0.7..0.8")


def test_a_classifier_is_served_with_label_confidence_and_the_probability_of_not_ok(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made()
    post = ({"step": "min_confidence", "least": 0.6},)
    files = package(tmp_path, CLASSES, roles={"shares": "probabilities"}, output=CLASSES_OUTPUT, post=post)
    lane = line.judging(files)

    for oil_temp in (42.0, 45.5, 48.0):
        line.sample(lane, {**NORMAL, "oil_temp": oil_temp})
    normal, unsure, hot = line.judged()

    assert [each["verdict"] for each in (normal, unsure, hot)] == [OK, UNSURE, NOT_OK]
    assert [each["label"] for each in (normal, unsure, hot)] == ["normal", "hot", "hot"]
    assert (hot["score"], hot["confidence"]) == (pytest.approx(0.8, abs=1e-5), pytest.approx(0.8, abs=1e-5))
    assert hot["reason"] == "looks like hot (80 %)"
    assert unsure["reason"].startswith("confidence 0.55 is below 0.6")
    assert unsure["score.status"] == GOOD  # it has judged, it is only not sure


def test_an_autoencoder_is_served_with_what_it_expected_and_where_it_shows(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made()
    output = {"kind": "reconstruction", "reconstruction": "recon", "scale": [1.0, 2.0, 5.0]}
    lane = line.judging(package(tmp_path, AGAIN, roles={"recon": "reconstruction"}, output=output, limit=2.0))

    line.sample(lane, {**NORMAL, "oil_temp": 55.0})
    hot = line.verdict()

    assert hot["verdict"] == NOT_OK
    assert hot["score"] == pytest.approx(5.0 / np.sqrt(3.0))
    np.testing.assert_allclose(hot["expected"], [18.0, 45.0, 300.0])
    np.testing.assert_allclose(hot["contributions"], [0.0, 1.0, 0.0])
    assert hot["reason"].startswith("shows in oil_temp 55 °C (expected 45)")
    assert hot["confidence"] is None


def test_a_window_of_samples_goes_into_a_tensor_of_its_shape_oldest_first(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made(window=4)
    # The oldest oil temperature of three, and ten times the newest one.
    weights = [[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0]]
    files = package(
        tmp_path, {"value": weights}, window=3, shape=(1, 3, 3), output={"kind": "value"}, atol=1e-3
    )
    lane = line.judging(files)

    for oil_temp in (40.0, 41.0, 42.0, 43.0):
        line.sample(lane, {**NORMAL, "oil_temp": oil_temp})
    *filling, full = line.judged()

    assert full["score"] == pytest.approx(41.0 + 430.0)  # the newest three of the four that are kept
    assert [each["score"] for each in filling] == [None] * 3
    assert filling[0]["score.status"] == BAD_WAITING_FOR_INITIAL_DATA
    assert filling[0]["reason"] == "oil: 1 of 4 samples are there"
    assert filling[0]["fail_safe_active"]


def test_a_model_finds_its_tags_by_name_in_whatever_order_they_are_mapped(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made(window=2)
    weights = [[1.0, 0.0, 0.0, 0.0, 0.0]]
    files = package(
        tmp_path,
        {"value": weights},
        tags=("level", "oil_temp"),
        window=2,
        output={"kind": "value"},
        atol=1e-3,
    )
    line.pipeline = line.pipeline.model_copy(
        update={"inputs": {"oil_temp": "press/oil_temp", "level": "press/level"}}
    )
    ordered = lane_spec(config(line.pipeline), "oil").ordered_for(files.manifest)

    assert ordered.take == (1, 0, 3, 2)


def test_declared_steps_make_features_of_the_window(made: Callable[..., TagLine], tmp_path: Path) -> None:
    line = made(window=3)
    steps = ({"step": "statistics", "measures": ["mean"]},)
    weights = {"value": [[0.0, 1.0, 0.0, 0.0]]}
    files = package(tmp_path, weights, window=3, steps=steps, output={"kind": "value"})
    lane = line.judging(files)

    for oil_temp in (40.0, 41.0, 45.0):
        line.sample(lane, {**NORMAL, "oil_temp": oil_temp})

    assert line.judged()[-1]["score"] == pytest.approx(42.0)


def test_an_input_that_is_bad_makes_the_fail_safe_verdict_and_names_the_tag(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made()
    lane = line.judging(package(tmp_path, SCORE, output={"kind": "score"}))

    line.sample(lane, NORMAL, statuses={"level": BAD_SENSOR_FAILURE})
    bad = line.verdict()
    line.sample(lane, NORMAL, statuses={"level": UNCERTAIN_LAST_USABLE})
    old = line.verdict()

    assert (bad["verdict"], bad["score"]) == (UNSURE, None)
    assert bad["reason"] == "oil: press/level: BadSensorFailure"
    assert (old["verdict"], old["verdict.status"]) == (OK, UNCERTAIN_SUBNORMAL)


def test_a_window_survives_a_swap_of_the_lane_and_so_does_what_the_steps_remember(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made(window=3)
    weights = [[0.0] * 7 + [0.1, 0.0, -4.5]]
    post = ({"step": "threshold", "high": 1.0, "low": 0.5}, {"step": "k_of_n", "k": 2, "n": 3})
    files = package(tmp_path, {"score": weights}, window=3, output={"kind": "score"}, post=post)
    former = line.judging(files)
    for oil_temp in (45.0, 45.0, 56.0, 56.0):
        line.sample(former, {**NORMAL, "oil_temp": oil_temp})
    assert [each["verdict"] for each in line.judged()] == [UNSURE, UNSURE, OK, NOT_OK]

    successor = line.lane(files)
    successor.prepare()
    successor.activate(former.retire().cursor)
    line.sample(successor, {"oil_temp": 52.0})  # 0.7: not below 0.5 yet
    result = line.verdict()

    assert not result["fail_safe_active"]
    assert result["verdict"] == NOT_OK
    assert result["reason"].startswith("score 0.7 is not below 0.5 yet")


class Reversed:
    """An engine that keeps what it is asked; the test answers, in whatever order."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def submit(self, request: Request) -> bool:
        self.asked.append(request)
        return True

    def judge(self, request: Request) -> None:
        raise AssertionError("no lane of this test is a safety lane")


def test_what_depends_on_the_past_is_judged_in_the_order_of_the_samples_not_of_the_answers(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line, engine = made(), Reversed()
    post = ({"step": "threshold", "high": 1.0, "low": 0.5},)
    ready = line.lane(package(tmp_path, SCORE, output={"kind": "score"}, post=post)).prepare()
    lane = Lane(ready.spec, ready.models, line.bus, line.clock, extractor=ready.extractor, engine=engine)
    lane.activate(None)
    for oil_temp in (57.0, 52.0):  # 1.2, and 0.7 that is held only because 1.2 was before
        line.sample(None, {**NORMAL, "oil_temp": oil_temp})
    lane.take_in()
    first, second = engine.asked
    for request, score in ((second, 0.7), (first, 1.2)):
        request.fate, request.ran = Fate.DONE, request.model
        request.answers = {"score": np.array([score], np.float32)}
        lane.finish(request)

    assert [(each["score"], each["verdict"]) for each in line.judged()] == [
        (pytest.approx(1.2), NOT_OK),
        (pytest.approx(0.7), NOT_OK),
    ]


def test_a_safety_lane_judges_tags_with_steps_behind_the_model(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    line = made(lane="safety")
    post = ({"step": "k_of_n", "k": 2, "n": 2},)
    lane = line.judging(package(tmp_path, SCORE, output={"kind": "score"}, post=post))

    for oil_temp in (57.0, 57.0):
        line.sample(lane, {**NORMAL, "oil_temp": oil_temp})

    assert [each["verdict"] for each in line.judged()] == [OK, NOT_OK]


def test_the_four_answers_go_through_steps_too(made: Callable[..., TagLine], tmp_path: Path) -> None:
    line = made()
    four = {
        **SCORE,
        "confidence": [[0.0, 0.0, 0.0, 0.5]],
        "expected": AGAIN["recon"],
        "contributions": [[0.0] * 4, [0.0, 0.0, 0.0, 1.0], [0.0] * 4],
    }
    lane = line.judging(package(tmp_path, four, post=({"step": "min_confidence", "least": 0.6},)))

    line.sample(lane, {**NORMAL, "oil_temp": 57.0})
    result = line.verdict()

    assert (result["verdict"], result["confidence"], result["label"]) == (UNSURE, 0.5, None)
    assert result["reason"].startswith("confidence 0.5 is below 0.6: shows in oil_temp 57 °C (expected 45)")
    np.testing.assert_allclose(result["contributions"], [0.0, 1.0, 0.0])


def test_samples_of_another_map_are_not_judged(made: Callable[..., TagLine], tmp_path: Path) -> None:
    line = made()
    lane = line.judging(package(tmp_path, SCORE, output={"kind": "score"}))
    fed = fed_with(line.config, line.pipeline)
    assert fed is not None
    line.sampler._fed = replace(fed, tags=fed.tags[::-1])

    line.sample(lane, NORMAL)
    result = line.verdict()

    assert result["score.status"] == BAD_CONFIGURATION_ERROR
    assert result["reason"] == "oil was sampled from other tags, before the configuration was changed"


def refused(line: TagLine, files: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        line.lane(files).prepare()
    return caught.value


def test_a_missing_tag_is_named_with_shape_and_count(made: Callable[..., TagLine], tmp_path: Path) -> None:
    line = made(inputs={"speed": "press/speed", "level": "press/level"}, window=20)
    weights = [[0.0] * 60 + [0.0]]
    files = package(tmp_path, {"score": weights}, window=20, output={"kind": "score"})

    found = refused(line, files)

    assert found.code == "M504"
    assert str(found) == 'input "x" wants float32[N,20,3]; the map gives 2 tags: missing oil_temp'


def test_a_tag_that_the_model_does_not_want_is_named(made: Callable[..., TagLine], tmp_path: Path) -> None:
    files = package(tmp_path, {"score": [[0.1, 0.0, 0.0]]}, tags=("speed", "level"), output={"kind": "score"})

    found = refused(made(), files)

    assert str(found) == 'input "x" wants float32[N,2]; the map gives 3 tags: not wanted oil_temp'


def test_a_longer_window_than_is_kept_is_refused_with_what_to_set(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    files = package(tmp_path, {"score": [[0.0] * 16]}, window=5, output={"kind": "score"})

    found = refused(made(window=2), files)

    assert found.code == "M623"
    assert str(found).endswith("5 samples of each tag; the pipeline keeps 2: set window = 5")


@pytest.mark.parametrize(
    ("period_ms", "said"),
    [(50.0, "a sample each 50 ms"), (None, "a sample at each change of a trigger")],
)
def test_samples_at_another_time_are_refused_where_time_matters(
    made: Callable[..., TagLine], tmp_path: Path, period_ms: float | None, said: str
) -> None:
    files = package(
        tmp_path / "two", {"score": [[0.0] * 7]}, window=2, period_ms=period_ms, output={"kind": "score"}
    )
    found = refused(made(window=2), files)
    assert found.code == "M623"
    assert str(found) == f"the model was trained on {said}, the pipeline takes a sample each 100 ms"

    one = package(tmp_path / "one", SCORE, period_ms=period_ms, output={"kind": "score"})
    made().lane(one).prepare()  # between the samples of one sample there is no time


def test_other_units_are_refused(made: Callable[..., TagLine], tmp_path: Path) -> None:
    files = package(tmp_path, SCORE, units={**UNITS, "oil_temp": "°F"}, output={"kind": "score"})

    found = refused(made(), files)

    assert (found.code, str(found)) == ("M511", "press/oil_temp is in °C, the model was trained in °F")


def test_a_model_for_captures_is_refused_where_tags_are_and_the_other_way_round(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    assert refused(made(), delivered()).code == "M624"
    files = package(tmp_path, SCORE, output={"kind": "score"})
    press = lane_spec(config(pipeline()), "oil")
    with pytest.raises(ModelError, match=r"judges tags \(speed, oil_temp, level\)") as caught:
        replace(press, fed=None, capture="vib/stroke").ordered_for(files.manifest)
    assert caught.value.code == "M624"


def test_a_verdict_that_is_not_the_trainers_is_refused(made: Callable[..., TagLine], tmp_path: Path) -> None:
    files = package(tmp_path, SCORE, output={"kind": "score"})
    other = replace(files.manifest, post=({"step": "threshold", "high": 0.0},))

    found = refused(made(), replace(files, manifest=other))

    assert found.code == "M622"
    assert "the verdict is NotOk" in str(found)
    assert str(found).endswith("here, Ok where the model was trained")


def test_a_manifest_whose_output_has_another_size_is_refused(
    made: Callable[..., TagLine], tmp_path: Path
) -> None:
    files = package(tmp_path, CLASSES, roles={"shares": "probabilities"}, output=CLASSES_OUTPUT)
    three = {**CLASSES_OUTPUT, "labels": ["normal", "hot", "cold"]}

    found = refused(made(), replace(files, manifest=replace(files.manifest, output=three)))

    assert (found.code, str(found)) == ("M505", 'output "shares" holds 2 values, not 3')


def test_a_cheaper_version_with_other_steps_is_refused(made: Callable[..., TagLine], tmp_path: Path) -> None:
    line = made(window=3)
    mean = ({"step": "statistics", "measures": ["mean"]},)
    weights = {"value": [[0.0, 1.0, 0.0, 0.0]]}
    files = package(tmp_path, weights, window=3, steps=mean, output={"kind": "value"})
    other = replace(files.manifest, version=2, steps=({"step": "window", "last": 2}, *mean))
    with pytest.raises(ModelError) as caught:
        line.lane(files, replace(files, manifest=other)).prepare()

    assert caught.value.code == "M511"
    assert str(caught.value).startswith("version 2 was trained with other steps than version 1")
