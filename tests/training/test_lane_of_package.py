"""A lane with a package of a notebook: it judges as the notebook does, and knows what it was never shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_opcua import training
from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.app.serving.judges import judge_of
from edge_opcua.core.values import BAD_OUT_OF_RANGE, BAD_SENSOR_FAILURE, Verdict
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.readiness import Wanted
from edge_opcua.inference.repository import verify
from edge_opcua.sim.physics import PressPhysics
from tests.inference.line import Line, OneLane, spec
from tests.training.graphs import classifier, probabilities

PRESS = training.Capture(
    2_000,
    10_000,
    "m/s²",
    [
        training.Tag("tonnage", "kN", low=400, high=1_250),
        training.Tag("die_temp", "°C"),
        training.Tag("strokes_per_min", "1/min"),
    ],
)
STEPS: list[dict[str, Any]] = [
    {"step": "statistics", "measures": ["rms", "kurtosis"]},
    {"step": "fft_bands", "edges_hz": [0, 200, 400, 5_000]},
    {"step": "context", "tags": ["strokes_per_min", "tonnage"]},
    {"step": "one_hot", "feature": "strokes_per_min"},
    {"step": "normalise"},
]
SPEEDS = (18.0, 30.0)
"""Strokes per minute as somebody sets them."""
WEIGHTS = np.random.default_rng(3).normal(size=(8, 2)).astype(np.float32)


def recorded(numbers: range) -> training.Windows:
    physics = PressPhysics(7)
    strokes = [physics.stroke(number, wear=0.0) for number in numbers]
    context = [(stroke.tonnage, stroke.die_temp, SPEEDS[number % 2]) for number, stroke in enumerate(strokes)]
    return training.Windows([stroke.waveform for stroke in strokes], context)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> training.Package:
    windows = recorded(range(20))
    return training.export(
        tmp_path_factory.mktemp("packages"),
        training.fit(PRESS, STEPS, windows),
        classifier(WEIGHTS),
        training.ModelCard("press-anomaly", output={"kind": "classes", "labels": ["ok", "worn"]}),
        golden=windows[:4],
        answers=lambda features: {"probabilities": probabilities(features, WEIGHTS)},
    )


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


@pytest.fixture
def lane(line: Line, package: training.Package) -> OneLane:
    files = complete(verify(package.folder))
    made = OneLane(
        Wanted(spec(), (files,), OnnxRuntimeBackend.load, extractor_of, judge=judge_of), line.bus, line.clock
    )
    line.lanes.append(made)
    made.prepare()
    made.activate(None)
    return made


def test_a_lane_judges_as_the_notebook_does(line: Line, lane: OneLane, package: training.Package) -> None:
    prepared = training.Preparation(PRESS, [dict(step) for step in package.manifest.steps])
    for number in range(500, 505):
        line.stroke(number)
        line.tags(strokes_per_min=SPEEDS[0])
        lane.step()
        result = line.verdict()
        stroke = line.physics.stroke(number, wear=0.0)
        context = [(stroke.tonnage, stroke.die_temp, SPEEDS[0])]
        row = prepared.features(training.Windows([stroke.waveform], np.array(context, np.float32)))
        shares = probabilities(row, WEIGHTS)[0]
        np.testing.assert_array_equal(result["features"], row[0])
        assert result["score"] == pytest.approx(float(shares[1]), abs=1e-5)
        assert result["label"] == ("ok", "worn")[int(shares.argmax())]


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        ("tonnage", 2_370.0, "not learned: tonnage 2370 kN is outside 400..1250"),
        ("strokes_per_min", 19.0, "not learned: strokes_per_min 19 is none of the values it was shown"),
    ],
)
def test_what_the_model_was_never_shown_is_not_decidable(
    tag: str, value: float, reason: str, line: Line, lane: OneLane
) -> None:
    line.stroke(500)
    line.tags(strokes_per_min=SPEEDS[0])
    line.fast.batch.set(line.fast.batch.row(tag), value)
    line.fast.publish()
    lane.step()
    result = line.verdict()
    assert result["verdict"] == Verdict.NOT_DECIDABLE
    assert result["fail_safe_active"] is False
    assert result["reason"] == reason
    assert result["score.status"] == BAD_OUT_OF_RANGE


def test_a_flat_waveform_is_a_sensor_failure(line: Line, lane: OneLane) -> None:
    line.stroke(500, waveform=np.zeros(2_000, np.float32))
    line.tags(strokes_per_min=SPEEDS[0])
    lane.step()
    result = line.verdict()
    assert result["score.status"] == BAD_SENSOR_FAILURE
    assert result["fail_safe_active"] is True


def test_what_is_no_number_is_a_sensor_failure(line: Line, lane: OneLane) -> None:
    waveform = np.ones(2_000, np.float32)
    waveform[7] = np.nan
    line.stroke(500, waveform=waveform)
    lane.step()
    assert line.verdict()["score.status"] == BAD_SENSOR_FAILURE
