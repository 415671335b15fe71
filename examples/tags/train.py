"""Learns two models on plain tags of the press: what it is doing, and how worn its die is.

    python examples/tags/train.py --out examples/tags/models --seed 11

``press-state`` is a classifier (multinomial logistic regression): running, idle, or a tonnage sensor that is
broken, of which nothing can be decided. ``die-wear`` is a regressor (least squares): a blunt edge needs some
percent more force, which no single stroke shows through the scatter of the sheets; the mean of eight does.
Both are made by the way that a notebook takes: the steps are fitted on recorded windows, the model is trained
on the features that come out, and the package is proven before it is written.

The tags come from the simulated press. On a real line, replace ``states`` and ``edges`` by windows from
``edge-opcua model export-windows``; nothing else has to change.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_opcua import training
from edge_opcua.sim.physics import Fault, PressPhysics, Stroke

Floats = npt.NDArray[np.float64]

TRAINED = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
STATES = ("running", "idle", "sensor_fault")
STATE_TAGS = training.Tags(
    (
        training.Tag("tonnage", "kN"),
        training.Tag("strokes_per_min", "1/min"),
        training.Tag("die_temp", "°C", low=5.0, high=110.0),
    ),
    window=4,
    period_ms=250.0,
)
EDGE_TAGS = training.Tags(
    (
        training.Tag("force", "kN", low=400.0, high=1_300.0),
        training.Tag("die_temp", "°C", low=15.0, high=70.0),
    ),
    window=8,
)
BLUNT, SHARP = 0.6, 0.45
"""Wear from which on a die is to be ground, and below which it counts as sharp again."""


SHARP_WEAR = 0.05


def states(seed: int) -> training.Windows:
    """Return windows of each state, as samples of the PLC's tags every 250 ms."""
    rng = np.random.default_rng(seed)
    samples, labels = [], []
    for number in range(108):
        label = number % len(STATES)
        speed = float(rng.uniform(10.0, 60.0))
        index = int(rng.integers(0, 2_000))
        faults = frozenset({Fault.TONNAGE}) if STATES[label] == "sensor_fault" else frozenset[Fault]()
        physics = PressPhysics(seed + number)
        strokes = [
            physics.stroke(
                index + each, wear=float(rng.uniform(0.0, 1.0)), strokes_per_min=speed, faults=faults
            )
            for each in range(2)
        ]
        change = int(rng.integers(0, 5))  # where in the window the second stroke falls
        shown = [strokes[0] if place < change else strokes[1] for place in range(4)]
        samples.append([_state_row(stroke, is_idle=STATES[label] == "idle") for stroke in shown])
        labels.append(label)
    return training.Windows(np.array(samples, np.float32), facts={"label": np.array(labels)})


def _state_row(stroke: Stroke, *, is_idle: bool) -> tuple[float, float, float]:
    return (stroke.tonnage, 0.0 if is_idle else stroke.strokes_per_min, stroke.die_temp)


def edges(seed: int, count: int) -> training.Windows:
    """Return windows of eight strokes each, and how worn the die was."""
    rng = np.random.default_rng(seed)
    samples, wears = [], []
    for number in range(count):
        wear = float(rng.uniform(0.0, 1.0))
        first = int(rng.integers(0, 2_000))
        physics = PressPhysics(seed + number)
        strokes = [physics.stroke(first + each, wear=wear) for each in range(EDGE_TAGS.window)]
        samples.append([(stroke.tonnage, stroke.die_temp) for stroke in strokes])
        wears.append(wear)
    return training.Windows(np.array(samples, np.float32), facts={"wear": np.array(wears)})


def shift(seed: int, strokes: int = 160) -> training.Windows:
    """Return the windows of a press with a sharp die, in the order of time, to watch the model against."""
    physics = PressPhysics(seed)
    seen = [physics.stroke(index, wear=SHARP_WEAR) for index in range(strokes)]
    rows = np.array([(stroke.tonnage, stroke.die_temp) for stroke in seen], np.float32)
    size = EDGE_TAGS.window
    return training.Windows(np.array([rows[end - size : end] for end in range(size, strokes + 1)]))


def softmax_weights(x: Floats, labels: npt.NDArray[np.int64], classes: int) -> Floats:
    """Return weights and a constant for each class, shape ``(classes, k + 1)``; plain gradient descent."""
    given = np.hstack([x, np.ones((len(x), 1))])
    wanted = np.eye(classes)[labels]
    weights = np.zeros((classes, given.shape[1]))
    for _ in range(2_000):
        powers = np.exp(given @ weights.T)
        error = powers / powers.sum(axis=1, keepdims=True) - wanted
        weights -= 0.5 * (error.T @ given / len(given) + 1e-3 * weights)
    return weights


def linear_graph(weights: Floats, output: str, *, softmax: bool) -> onnx.ModelProto:
    """Return the model as ONNX: a weighted sum for each output, and softmax over them if wanted."""
    matrix = weights.astype(np.float32)
    k = matrix.shape[1] - 1
    sums = "sums" if softmax else output
    nodes = [helper.make_node("Gemm", ["features", "weights", "constants"], [sums])]
    if softmax:
        nodes.append(helper.make_node("Softmax", [sums], [output], axis=-1))
    graph = helper.make_graph(
        nodes,
        output,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", k])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", len(matrix)])],
        [
            numpy_helper.from_array(matrix[:, :-1].T.copy(), "weights"),
            numpy_helper.from_array(matrix[:, -1].copy(), "constants"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def answer(weights: Floats, x: npt.NDArray[np.float32], *, softmax: bool) -> Floats:
    """Return what a model answers, computed without ONNX: what the package is proven against."""
    sums = x.astype(np.float64) @ weights[:, :-1].T + weights[:, -1]
    if not softmax:
        return sums
    powers = np.exp(sums - sums.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def press_state(folder: Path, seed: int) -> training.Package:
    """Train the classifier and write its package."""
    windows, unseen = states(seed), states(seed + 10_000)
    steps: list[dict[str, object]] = [
        {"step": "statistics", "measures": ["mean"]},
        {"step": "normalise"},
    ]
    prepared = training.fit(STATE_TAGS, steps, windows)
    x = prepared.features(windows).astype(np.float64)
    weights = softmax_weights(x, windows.facts["label"], len(STATES))
    found = answer(weights, prepared.features(unseen), softmax=True).argmax(axis=1)
    card = training.ModelCard(
        "press-state",
        description="What the press is doing, from three tags of its PLC",
        output={
            "kind": "classes",
            "labels": list(STATES),
            "ok": ["running", "idle"],
            "not_decidable": ["sensor_fault"],
        },
        post=[{"step": "min_confidence", "least": 0.6}],
        trained=TRAINED,
        proof={"unseen_windows": len(unseen), "accuracy": float((found == unseen.facts["label"]).mean())},
    )
    return training.export(
        folder,
        prepared,
        linear_graph(weights, "probabilities", softmax=True),
        card,
        golden=windows[:18],
        answers=lambda rows: {"probabilities": answer(weights, rows, softmax=True)},
    )


def die_wear(folder: Path, seed: int) -> training.Package:
    """Train the regressor and write its package."""
    windows, unseen = edges(seed, 80), edges(seed + 10_000, 70)
    prepared = training.fit(EDGE_TAGS, [{"step": "statistics", "measures": ["mean"]}], windows)
    x = prepared.features(windows).astype(np.float64)
    given = np.hstack([x, np.ones((len(x), 1))])
    weights = np.linalg.lstsq(given, windows.facts["wear"], rcond=None)[0][None, :]
    off = answer(weights, prepared.features(unseen), softmax=False)[:, 0] - unseen.facts["wear"]
    card = training.ModelCard(
        "die-wear",
        description="How worn the die is, 0 ground to 1, from the force of the last eight strokes",
        output={"kind": "value", "value": "wear"},
        post=[{"step": "threshold", "high": BLUNT, "low": SHARP}],
        trained=TRAINED,
        proof={"unseen_windows": len(unseen), "rms_error": float(np.sqrt(np.mean(off * off)))},
    )
    return training.export(
        folder,
        prepared,
        linear_graph(weights, "wear", softmax=False),
        card,
        golden=windows[:16],
        answers=lambda rows: {"value": answer(weights, rows, softmax=False)},
        healthy=shift(seed + 20_000),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both models and write them down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args(arguments)
    for train in (press_state, die_wear):
        package = train(given.out, given.seed)
        print(f"{package.folder}: {dict(package.manifest.proof)}")


if __name__ == "__main__":
    main()
