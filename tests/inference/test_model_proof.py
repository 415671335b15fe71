"""A model is proven on this machine before it serves: names, units, arithmetic, and the trainer's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.errors import ModelError
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.model import (
    ServedModel,
    load,
    prove,
    require_match,
)
from edge_opcua.inference.repository import ModelFiles, verify
from tests.inference.line import delivered, extractor_for, spec
from tests.inference.models import answering_model, copy_of_delivered, identity_model, replaced, with_model


def served(files: ModelFiles) -> ServedModel:
    return load(files, OnnxRuntimeBackend.load, provider="cpu")


def extractor() -> StrokeFeatures:
    return extractor_for(spec())


@pytest.mark.parametrize("version", [1, 2])
def test_the_delivered_models_are_proven_on_this_machine(version: int) -> None:
    files = delivered(version)
    require_match(files.manifest, extractor())
    assert prove(served(files), files.golden, extractor()) == 7


def test_it_tells_a_model_that_answers_otherwise_here(tmp_path: Path) -> None:
    files = verify(with_model(copy_of_delivered(tmp_path / "m"), answering_model()))
    with pytest.raises(ModelError, match=r"reference sample 1: score is 0\.5 here, 0\.\d+ where") as caught:
        prove(served(files), files.golden, extractor())
    assert caught.value.code == "M512"


def test_it_tells_features_that_come_out_otherwise_here(tmp_path: Path) -> None:
    files = verify(copy_of_delivered(tmp_path / "m"))
    rewrite(files.golden, waveform=lambda array: array * 1.01)
    with pytest.raises(ModelError, match="reference sample 1: rms is ") as caught:
        prove(served(files), files.golden, extractor())
    assert caught.value.code == "M512"


def rewrite(path: Path, **changes: Any) -> None:
    """Change columns of a file of golden samples; None leaves one out."""
    with np.load(path) as archive:
        columns = {name: archive[name] for name in archive.files}
    for name, change in changes.items():
        if change is None:
            del columns[name]
        else:
            columns[name] = change(columns[name])
    np.savez(path, **columns)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"score": None}, "cannot be read: .*score"),
        ({"score": lambda a: a[:3]}, "holds no complete samples"),
        ({"waveform": lambda a: a[:, :100]}, r"waveform has shape \(7, 100\), not \('n', 2000\)"),
        ({"score": lambda a: a.astype(str)}, "score has shape"),
    ],
)
def test_golden_samples_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    files = verify(copy_of_delivered(tmp_path / "m"))
    rewrite(files.golden, **changes)
    with pytest.raises(ModelError, match=sentence) as caught:
        prove(served(files), files.golden, extractor())
    assert caught.value.code == "M513"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04pickle"])
def test_golden_samples_that_cannot_be_read_are_refused_and_never_unpickled(
    tmp_path: Path, content: bytes
) -> None:
    files = verify(copy_of_delivered(tmp_path / "m"))
    files.golden.write_bytes(content)
    with pytest.raises(ModelError, match=r"golden\.npz cannot be read") as caught:
        prove(served(files), files.golden, extractor())
    assert caught.value.code == "M513"
    files.golden.unlink()
    with pytest.raises(ModelError) as gone:
        prove(served(files), files.golden, extractor())
    assert gone.value.code == "M507"


def test_a_model_without_its_answers_is_refused(tmp_path: Path) -> None:
    files = verify(with_model(copy_of_delivered(tmp_path / "m"), identity_model()))
    with pytest.raises(ModelError, match='output "score" holds 13 values, not 1') as caught:
        served(files)
    assert caught.value.code == "M505"
    files = verify(with_model(copy_of_delivered(tmp_path / "n"), identity_model(1, size=1)))
    manifest = files.manifest
    backend = OnnxRuntimeBackend.load(files.model, provider="cpu", input_shapes={"features": (1, 1)})
    with pytest.raises(ModelError, match="has no output"):
        ServedModel(manifest.__class__(**{**fields(manifest), "features": manifest.features[:1]}), backend)


def fields(manifest: Any) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__slots__}


@pytest.mark.parametrize("answer", ["score", "confidence", "expected", "contributions"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_an_error(tmp_path: Path, answer: str, value: float) -> None:
    model = served(verify(with_model(copy_of_delivered(tmp_path / "m"), answering_model(**{answer: value}))))
    with pytest.raises(ModelError, match="not a number") as caught:
        model.bind().judge(np.zeros(13, np.float32))
    assert caught.value.code == "M533"


def features(*context: Feature, count: int = 2_000, rate_hz: float = 10_000.0) -> StrokeFeatures:
    return StrokeFeatures(sample_count=count, sample_rate_hz=rate_hz, context=context)


TONNAGE, DIE_TEMP, SPEED = (
    Feature("tonnage", "kN"),
    Feature("die_temp", "°C"),
    Feature("strokes_per_min", "1/min"),
)


@pytest.mark.parametrize(
    ("mapped", "code", "sentence"),
    [
        (
            features(TONNAGE, DIE_TEMP),
            "M504",
            r'input "features" wants float32\[1,13\], 12 features are mapped; missing: strokes_per_min',
        ),
        (features(TONNAGE, DIE_TEMP, SPEED, Feature("oil_temp", "°C")), "M504", "not wanted: oil_temp"),
        (features(DIE_TEMP, TONNAGE, SPEED), "M504", "their order differs"),
        (
            features(TONNAGE, Feature("die_temp", "K"), SPEED),
            "M511",
            "die_temp is in K, the model was trained in °C",
        ),
        (features(TONNAGE, DIE_TEMP, SPEED, count=1_000), "M511", "a capture has 1000 samples at 10000 Hz"),
        (
            features(TONNAGE, DIE_TEMP, SPEED, rate_hz=20_000.0),
            "M511",
            "2000 samples at 20000 Hz, the model was",
        ),
    ],
)
def test_other_features_than_the_model_was_trained_on_are_refused(
    mapped: StrokeFeatures, code: str, sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        require_match(delivered().manifest, mapped)
    assert caught.value.code == code


def test_features_of_another_arithmetic_are_refused(tmp_path: Path) -> None:
    folder = replaced(copy_of_delivered(tmp_path / "m"), "stroke/1", "stroke/9")
    with pytest.raises(
        ModelError, match="trained with the features stroke/9, this program computes stroke/1"
    ):
        require_match(verify(folder).manifest, extractor())
