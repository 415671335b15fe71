"""The ONNX Runtime backend against the real runtime: bound buffers, no silent fallback, plain refusals."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.onnxruntime import PROVIDERS, OnnxRuntimeBackend
from edge_opcua.plugins import BACKENDS, InstalledPlugins
from tests.inference.models import DELIVERED, external_data_model, graph, identity_model, model

SHAPES = {"features": (1, 13)}


def load(
    path: Path, *, provider: str = "cpu", shapes: Mapping[str, tuple[int, ...]] = SHAPES
) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend.load(path, provider=provider, input_shapes=shapes)


def written(folder: Path, image: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(image)
    return path


def test_the_plugin_of_the_entry_point_is_a_backend() -> None:
    found: type[Backend] = InstalledPlugins().load(BACKENDS, "onnxruntime")
    assert found is OnnxRuntimeBackend


def test_a_run_reads_and_writes_the_bound_buffers_in_place(tmp_path: Path) -> None:
    backend = load(written(tmp_path, identity_model()))
    features, score = backend.inputs["features"], backend.outputs["score"]
    for value in (1.0, -3.5):
        features[:] = value
        backend.run()
        assert (score == value).all()
    assert backend.inputs["features"] is features
    assert backend.outputs["score"] is score


def test_it_answers_like_an_ordinary_session() -> None:
    golden = np.load(DELIVERED / "golden.npz")
    backend = load(DELIVERED / "model.onnx")
    session = ort.InferenceSession(DELIVERED / "model.onnx", providers=["CPUExecutionProvider"])
    for row in golden["features"]:
        backend.inputs["features"][:] = row
        backend.run()
        plain = session.run(None, {"features": row.reshape(1, 13)})
        for node, answer in zip(session.get_outputs(), plain, strict=True):
            np.testing.assert_allclose(backend.outputs[node.name], answer, rtol=1e-5, atol=1e-7)


def test_it_says_what_runs_the_model() -> None:
    facts = load(DELIVERED / "model.onnx").describe()
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["runtime"] == f"onnxruntime {ort.__version__}"
    assert 0.0 < facts["load_ms"] < 10_000.0


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "openvino", "NoSuchProvider"])
def test_a_provider_that_is_not_there_is_refused_and_never_replaced(provider: str) -> None:
    wanted = PROVIDERS.get(provider, provider)
    if wanted in ort.get_available_providers():
        pytest.skip(f"{wanted} is available here")
    with pytest.raises(ModelError, match=f"{wanted} was asked for; this ONNX Runtime .* has ") as caught:
        load(DELIVERED / "model.onnx", provider=provider)
    assert caught.value.code == "M521"


class LyingRuntime:
    """An ONNX Runtime that claims a provider and runs the CPU instead, as the GPU wheel does without a GPU.

    Args:
        fails: Whether it raises, as it does if told not to fall back.
    """

    __version__ = "0.0"
    OrtValue = ort.OrtValue

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.entries: dict[str, str] = {}

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def SessionOptions(self) -> Any:  # noqa: N802 - the runtime's own name
        runtime = self

        class Options:
            def add_session_config_entry(self, key: str, value: str) -> None:
                runtime.entries[key] = value

        return Options()

    def InferenceSession(self, path: str, options: Any, providers: list[str]) -> Any:  # noqa: N802
        assert providers == ["CUDAExecutionProvider"]
        if self.fails:
            raise RuntimeError("This session contains graph nodes assigned to CPU, but fallback is disabled")
        return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("fails", [False, True])
def test_a_runtime_that_falls_back_to_the_cpu_is_caught(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    runtime = LyingRuntime(fails=fails)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.raises(ModelError) as caught:
        load(DELIVERED / "model.onnx", provider="cuda")
    assert caught.value.code == "M520"
    assert runtime.entries["session.disable_cpu_ep_fallback"] == "1"
    assert runtime.entries["session.intra_op.allow_spinning"] == "0"


def test_a_missing_runtime_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match="install one of the extras") as caught:
        load(DELIVERED / "model.onnx")
    assert caught.value.code == "M522"


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"garbage" * 50,
        (DELIVERED / "model.onnx").read_bytes()[:1_000],
        model(graph([helper.make_node("NoSuchOperator", ["features"], ["score"])])),
        external_data_model("absent.bin"),
    ],
    ids=["empty", "garbage", "cut", "unknown operator", "weights missing"],
)
def test_an_unreadable_model_is_told_in_one_line_without_source_places(tmp_path: Path, image: bytes) -> None:
    with pytest.raises(ModelError, match=r"^model\.onnx cannot be loaded: ") as caught:
        load(written(tmp_path, image))
    assert caught.value.code == "M510"
    text = str(caught.value)
    assert "\n" not in text
    assert ".cc:" not in text
    assert "ONNXRuntimeError" not in text
    assert len(text) < 400


def test_a_model_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "model.onnx")
    assert caught.value.code == "M510"


def counting_model() -> bytes:
    """Return a model whose output is as long as its input has non-zero values."""
    nodes = [
        helper.make_node("NonZero", ["features"], ["places"]),
        helper.make_node("Cast", ["places"], ["score"], to=TensorProto.FLOAT),
    ]
    return model(graph(nodes, outputs=(("score", [2, "n"]),)))


DOUBLE = identity_model(kind=TensorProto.DOUBLE)


@pytest.mark.parametrize(
    ("image", "shapes", "code", "sentence"),
    [
        (
            identity_model(12, size=12),
            SHAPES,
            "M504",
            r'"features" of the model is float32\[1,12\], not float32\[1,13\]',
        ),
        (DOUBLE, SHAPES, "M504", r"is float64\[1,13\], not float32\[1,13\]"),
        (identity_model(), {"x": (1, 13)}, "M504", "exists in the (model|manifest) only"),
        (identity_model(), {}, "M504", 'input "features" exists in the model only'),
        (
            counting_model(),
            SHAPES,
            "M505",
            r'output "score" of the model is float32\[2,\w+\], not float32 of',
        ),
    ],
    ids=["length", "type", "name", "no input", "open shape"],
)
def test_inputs_and_outputs_of_another_shape_are_refused(
    tmp_path: Path, image: bytes, shapes: dict[str, tuple[int, ...]], code: str, sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        load(written(tmp_path, image), shapes=shapes)
    assert caught.value.code == code


def test_a_run_that_fails_is_a_model_error(tmp_path: Path) -> None:
    reshape = [
        helper.make_node("NonZero", ["features"], ["places"]),
        helper.make_node("Shape", ["places"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Reshape", ["zeros", "wanted"], ["score"]),
    ]
    wanted = helper.make_tensor("wanted", TensorProto.INT64, [2], [1, 13])
    backend = load(
        written(tmp_path, model(graph(reshape, outputs=(("score", [1, 13]),), initializers=(wanted,))))
    )
    with pytest.raises(ModelError, match=r"^the model failed: ") as caught:
        backend.run()  # all zeros: nothing to reshape to 13 values
    assert caught.value.code == "M532"
