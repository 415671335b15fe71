"""From recorded windows to a package: what is written, what a server makes of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from edge_opcua import training
from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.inference.golden import read_golden
from edge_opcua.inference.model import require_match
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.inference.watch.profile import load_profile
from edge_opcua.training.graph import graph_bytes
from tests.training.graphs import chosen_by_branch, classifier, mean_of_window, probabilities

Floats = npt.NDArray[np.float32]
RNG = np.random.default_rng(21)
PRESS = training.Capture(
    sample_count=400,
    sample_rate_hz=2_000,
    unit="m/s²",
    context=[training.Tag("die_temp", "°C", low=0, high=100)],
)
WINDOWS = training.Windows(
    RNG.normal(size=(60, 400)), RNG.uniform(20, 60, (60, 1)), {"worn": np.arange(60) % 3 == 0}
)
STEPS: list[dict[str, Any]] = [
    {"step": "statistics", "measures": ["rms", "kurtosis"]},
    {"step": "fft_bands", "edges_hz": [0, 100, 1_000]},
    {"step": "context"},
    {"step": "normalise"},
]
PREPARED = training.fit(PRESS, STEPS, WINDOWS)
WEIGHTS: Floats = RNG.normal(size=(5, 2)).astype(np.float32)
CARD = training.ModelCard(
    "press-wear",
    description='Worn? "Perhaps"',
    output={"kind": "classes", "labels": ["ok", "worn"]},
    post=[{"step": "k_of_n", "k": 2, "n": 3}],
    max_days=30,
    then="degrade",
    limits={"rms": (-5.0, 5.0)},
    proof={"right": 0.99},
    provenance={"commit": "abc", "presses": [1, 2]},
)


def answers(features: Floats) -> Mapping[str, Floats]:
    return {"probabilities": probabilities(features, WEIGHTS)}


def export(folder: Path, **changed: Any) -> training.Package:
    given: dict[str, Any] = {"golden": WINDOWS[:8], "answers": answers, "healthy": WINDOWS}
    card = changed.pop("card", CARD)
    preparation, model = changed.pop("preparation", PREPARED), changed.pop("model", classifier(WEIGHTS))
    return training.export(folder, preparation, model, card, **{**given, **changed})


def test_a_package_is_taken_by_the_repository_and_makes_the_features_of_the_notebook(tmp_path: Path) -> None:
    package = export(tmp_path / "out")
    assert package.samples == 8
    installed = ModelRepository(tmp_path / "models").install(package.folder)
    files = complete(installed)
    extractor = extractor_of(files)

    require_match(files.manifest, extractor)
    for samples, context in WINDOWS[:5]:
        row = extractor.extract(samples, 2_000.0, context)
        np.testing.assert_array_equal(
            row, PREPARED.features(training.Windows(samples[None], context[None]))[0]
        )


def test_the_manifest_says_all_that_the_card_does(tmp_path: Path) -> None:
    manifest = export(tmp_path).manifest
    assert (manifest.name, manifest.version, manifest.description) == ("press-wear", 1, 'Worn? "Perhaps"')
    assert manifest.names == PREPARED.names
    assert [dict(step) for step in manifest.steps] == list(PREPARED.steps)
    assert manifest.output == CARD.output
    assert [dict(step) for step in manifest.post] == list(CARD.post)
    assert (manifest.features[0].low, manifest.features[0].high) == (-5.0, 5.0)
    assert (manifest.tags[0].name, manifest.tags[0].high) == ("die_temp", 100.0)
    assert manifest.age is not None
    assert (manifest.age.max_days, manifest.age.then) == (30.0, "degrade")
    assert manifest.proof == {"right": 0.99}
    assert manifest.provenance == {"commit": "abc", "presses": [1, 2]}


def test_outputs_that_nobody_looks_at_are_taken_off_with_what_leads_to_them(tmp_path: Path) -> None:
    graph = onnx.load(export(tmp_path).folder / "model.onnx").graph
    assert [output.name for output in graph.output] == ["probabilities"]
    assert [node.op_type for node in graph.node] == ["MatMul", "Softmax"]
    assert [weight.name for weight in graph.initializer] == ["weights"]


def test_remarks_of_the_exporter_stay_where_the_model_was_trained() -> None:
    model = classifier(np.ones((3, 2), np.float32))
    for part in (*model.graph.node, *model.graph.input, *model.graph.output):
        part.doc_string = "trained below /home/somebody"
        part.metadata_props.add(key="stack_trace", value='File "/home/somebody/train.py"')
    image, _ = graph_bytes(model, ["probabilities"])
    assert b"somebody" not in image


def test_what_a_branch_takes_from_outside_stays(tmp_path: Path) -> None:
    tags = training.Tags([training.Tag("a", "m"), training.Tag("b", "m")])
    package = export(
        tmp_path,
        preparation=training.Preparation(tags),
        model=chosen_by_branch(),
        card=training.ModelCard("branch", output={"kind": "reconstruction"}, limit=0.5),
        golden=training.Windows(RNG.normal(size=(3, 2))),
        answers=lambda features: {"reconstruction": features},
        healthy=None,
    )
    assert package.samples == 3
    assert package.manifest.profile is None


def test_golden_samples_hold_the_answers_of_the_notebook_and_the_verdicts(tmp_path: Path) -> None:
    package = export(tmp_path)
    with np.load(package.folder / "golden.npz") as golden:
        np.testing.assert_array_equal(golden["features"], PREPARED.features(WINDOWS[:8]))
        np.testing.assert_array_equal(golden["probabilities"], answers(golden["features"])["probabilities"])
        verdicts = golden["verdict"]
    assert set(verdicts.tolist()) <= {int(Verdict.OK), int(Verdict.NOT_OK), int(Verdict.NOT_DECIDABLE)}
    assert len(read_golden(package.folder / "golden.npz", package.manifest)["verdict"]) == 8


def test_the_profile_is_of_what_the_exported_model_answers(tmp_path: Path) -> None:
    package = export(tmp_path)
    profile = load_profile(package.folder / "profile.npz", PREPARED.names)
    rows = PREPARED.features(WINDOWS)
    np.testing.assert_allclose(profile.mean[0], answers(rows)["probabilities"][:, 1].mean(), rtol=1e-4)
    np.testing.assert_allclose(profile.mean[2:], rows.mean(axis=0), atol=1e-5)


def test_a_window_of_tags_lies_in_the_input_as_the_card_says(tmp_path: Path) -> None:
    tags = training.Tags([training.Tag("level", "m"), training.Tag("flow", "l/s", low=0)], 4, 500)
    windows = training.Windows(RNG.uniform(size=(40, 4, 2)))
    package = export(
        tmp_path,
        preparation=training.fit(tags, [], windows),
        model=mean_of_window(4, 2).SerializeToString(),
        card=training.ModelCard("mean", output={"kind": "value"}, shape=(1, 4, 2)),
        golden=windows[:4],
        answers=lambda features: {"value": features.mean(axis=1)},
        healthy=windows,
    )
    manifest = package.manifest
    assert (manifest.source, manifest.window, manifest.period_ms, manifest.shape) == (
        "tags",
        4,
        500.0,
        (1, 4, 2),
    )
    assert manifest.names[-1] == "flow.t-0"
    assert manifest.feature_set == "tags/1"
    profile = load_profile(package.folder / "profile.npz", manifest.names)
    assert profile.interval_s == 0.5


def test_a_capture_without_steps_is_its_samples(tmp_path: Path) -> None:
    short = training.Capture(4, 100.0, "V")
    windows = training.Windows(RNG.normal(size=(3, 4)))
    (tmp_path / "model.onnx").write_bytes(mean_of_window(4, 1).SerializeToString())
    package = export(
        tmp_path / "out",
        preparation=training.Preparation(short),
        model=tmp_path / "model.onnx",
        card=training.ModelCard("mean", output={"kind": "value"}, shape=(1, 4, 1)),
        golden=windows,
        answers=lambda features: {"value": features.mean(axis=1)},
        healthy=None,
    )
    assert package.manifest.names == ("sample.t-3", "sample.t-2", "sample.t-1", "sample.t-0")


def unscaled(features: Floats) -> Mapping[str, Floats]:
    """Answer as a notebook does that has its scaler elsewhere."""
    return {"probabilities": probabilities(features * 1.5, WEIGHTS)}


def of_wrong_shape(features: Floats) -> Mapping[str, Floats]:
    return {"probabilities": probabilities(features, WEIGHTS)[:, :1]}


def of_another_name(features: Floats) -> Mapping[str, Floats]:
    return {"score": probabilities(features, WEIGHTS)}


def of_too_many_names(features: Floats) -> Mapping[str, Floats]:
    return {**answers(features), "confidence": features[:, 0]}


@pytest.mark.parametrize(
    ("code", "changed", "sentence"),
    [
        ("M606", {"answers": unscaled}, "is not the trained one: reference sample 1: probabilities"),
        ("M605", {"answers": of_wrong_shape}, r"probabilities has shape \(8, 1\), not \(8, 2\)"),
        ("M605", {"answers": of_another_name}, 'gives no "probabilities", only score'),
        ("M605", {"answers": of_too_many_names}, 'gives "confidence", which'),
        ("M605", {"golden": WINDOWS[:0]}, "golden windows: none"),
        ("M605", {"healthy": WINDOWS[:5]}, "healthy windows: a profile needs at least 30 samples"),
        (
            "M605",
            {"golden": training.Windows(np.ones((1, 400)), [[1.0]])},
            "golden windows: window 1 of them",
        ),
        ("M605", {"golden": training.Windows(np.ones((1, 399)), [[1.0]])}, "a window has 400 samples"),
        ("M510", {"model": b"this is not a model"}, "the model is no ONNX model"),
        ("M510", {"model": "nowhere.onnx"}, "the model is no ONNX model"),
        ("M510", {"model": 7}, "the model is no ONNX model"),
        ("M505", {"model": chosen_by_branch()}, 'no output "probabilities"; it has reconstruction'),
        ("M620", {"card": training.ModelCard("x", output={"kind": "guess"})}, "guess"),
        ("M506", {"card": training.ModelCard("1st", output=CARD.output)}, "is not a model name"),
    ],
)
def test_what_a_server_would_refuse_is_not_written(
    code: str, changed: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=sentence) as refused:
        export(tmp_path, **changed)
    assert refused.value.code == code
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_version_is_written_once(tmp_path: Path) -> None:
    export(tmp_path)
    with pytest.raises(ModelError, match="is there already: write version 2") as refused:
        export(tmp_path)
    assert refused.value.code == "M609"


def test_a_model_with_two_inputs_is_refused(tmp_path: Path) -> None:
    two = classifier(WEIGHTS)
    two.graph.input.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match="the model has 2 inputs, not one: x, y"):
        export(tmp_path, model=two)


def test_windows_are_chosen_by_slice_mask_and_number() -> None:
    for chosen in (slice(0, 3), np.arange(60) < 3, [0, 1, 2]):
        some = WINDOWS[chosen]
        assert len(some) == 3
        np.testing.assert_array_equal(some.samples, WINDOWS.samples[:3])
        np.testing.assert_array_equal(some.facts["worn"], [True, False, False])


def test_one_window_is_windows_too() -> None:
    one = WINDOWS[-1]
    np.testing.assert_array_equal(one.samples, WINDOWS.samples[-1:])
    assert one.facts["worn"].shape == (1,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: training.Windows(np.ones((2, 4)), np.ones((3, 1))),
        lambda: training.Windows(np.ones((2, 4)), facts={"worn": np.ones(3)}),
    ],
)
def test_windows_and_what_is_known_of_them_go_together(make: Callable[[], training.Windows]) -> None:
    with pytest.raises(ModelError, match="there are 2 windows"):
        make()


def test_windows_come_from_a_file(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "w.npz",
        samples=np.ones((3, 4)),
        context=np.ones((3, 2)),
        answer=["real", "", ""],
        rate=4.0,
    )
    windows = training.load_windows(tmp_path / "w.npz")
    assert windows.samples.shape == (3, 4)
    assert windows.context.shape == (3, 2)
    assert list(windows.facts) == ["answer"]
    np.savez(tmp_path / "g.npz", waveform=np.ones((3, 4)))
    assert training.load_windows(str(tmp_path / "g.npz")).context.shape == (3, 0)


@pytest.mark.parametrize("content", [b"", b"not a file of arrays"])
def test_a_file_without_windows_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(ModelError, match="holds no windows") as refused:
        training.load_windows(tmp_path / "w.npz")
    assert refused.value.code == "M605"
    np.savez(tmp_path / "other.npz", score=np.ones(3))
    with pytest.raises(ModelError, match="holds no windows"):
        training.load_windows(tmp_path / "other.npz")


ABOUT = {
    "pipeline": "press",
    "unit": "V",
    "sample_rate_hz": 100.0,
    "columns": [],
    "column_units": [],
    "context": ["press/speed", "press/temp"],
    "context_units": ["1/min", "°C"],
}
OF_TAGS = {
    **ABOUT,
    "columns": ["tank/level", "tank/flow"],
    "column_units": ["m", "l/s"],
    "context": [],
    "context_units": [],
}
TEMP, SPEED = training.Tag("temp", "°C"), training.Tag("speed", "1/min")


def exported(folder: Path, about: Mapping[str, Any], context: int) -> Path:
    path = folder / "windows.npz"
    np.savez(
        path,
        samples=np.arange(12.0).reshape(2, 6),
        context=np.arange(2 * context).reshape(2, context),
        about=json.dumps(about),
    )
    return path


def test_tags_of_a_file_are_put_into_the_order_of_the_model(tmp_path: Path) -> None:
    file = exported(tmp_path, ABOUT, 2)
    windows = training.load_windows(file, training.Capture(6, 100, "V", [TEMP, SPEED]))
    np.testing.assert_array_equal(windows.context, [[1, 0], [3, 2]])
    assert training.load_windows(file, training.Capture(6, 100, "V", [TEMP])).context.shape == (2, 1)
    tags = training.Tags([training.Tag("flow", "l/s"), training.Tag("level", "m")], window=3)
    rows = training.load_windows(exported(tmp_path, OF_TAGS, 0), tags).samples
    np.testing.assert_array_equal(rows[0], [1, 0, 3, 2, 5, 4])


@pytest.mark.parametrize(
    ("about", "source", "sentence"),
    [
        (ABOUT, training.Capture(6, 100, "A", [TEMP]), "the unit is V, not A"),
        (ABOUT, training.Capture(6, 200, "V", [TEMP]), r"the rate is 100.0, not 200.0"),
        (ABOUT, training.Capture(5, 100, "V", [TEMP]), "the number of samples is 6, not 5"),
        (ABOUT, training.Capture(6, 100, "V", [training.Tag("temp", "K")]), "the unit of temp is °C, not K"),
        (
            ABOUT,
            training.Capture(6, 100, "V", [training.Tag("oil", "K")]),
            "no tag oil, there is speed, temp",
        ),
        (ABOUT, training.Tags([TEMP]), "there is no tag temp, there is none"),
        (OF_TAGS, training.Tags([training.Tag("flow", "l/s")], 2), r"the number of rows is 3.0, not 2"),
    ],
)
def test_a_file_of_other_windows_than_the_model_wants_is_refused(
    about: Mapping[str, Any], source: training.Capture | training.Tags, sentence: str, tmp_path: Path
) -> None:
    file = exported(tmp_path, about, len(about["context"]))
    with pytest.raises(ModelError, match=sentence) as refused:
        training.load_windows(file, source)
    assert refused.value.code == "M605"


def test_fitting_on_other_windows_than_declared_is_refused() -> None:
    with pytest.raises(ModelError, match="the windows do not fit: a window has 400 samples") as refused:
        training.fit(PRESS, STEPS, training.Windows(np.ones((3, 4)), np.ones((3, 1))))
    assert refused.value.code == "M605"


@pytest.mark.parametrize(
    "changed",
    [
        {"about": "[1, 2]"},
        {"about": "3"},
        {"about": "[" * 5000},
        {"about": json.dumps({"columns": 3})},
        {"samples": np.float32(0)},
        {"samples": np.array(["a", "b"])},
    ],
)
def test_a_file_that_only_looks_like_windows_is_refused(tmp_path: Path, changed: Any) -> None:
    np.savez(tmp_path / "w.npz", **{"samples": np.zeros((2, 4)), "about": "{}"} | changed)
    with pytest.raises(ModelError, match="holds no windows") as refused:
        training.load_windows(tmp_path / "w.npz", training.Capture(4, 100, "V", []))
    assert refused.value.code == "M605"
