"""The ONNX Runtime backend against the real runtime: bound buffers, no silent fallback, plain refusals."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference import probe
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.backends.ortoptions import PROVIDERS
from edge_opcua.plugins import BACKENDS, InstalledPlugins
from edge_opcua.testing import check_backend
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


def usable_accelerators() -> list[str]:
    found = probe.probe_in_child().providers
    return [one.name for one in found if one.usable and one.name != probe.CPU]


def test_the_plugin_of_the_entry_point_is_a_backend() -> None:
    found: type[Backend] = InstalledPlugins().load(BACKENDS, "onnxruntime")
    assert found is OnnxRuntimeBackend


def test_a_run_reads_and_writes_the_bound_buffers_in_place(tmp_path: Path) -> None:
    binding = load(written(tmp_path, identity_model())).bind()
    features, score = binding.inputs["features"], binding.outputs["score"]
    for value in (1.0, -3.5):
        features[:] = value
        binding.run()
        assert (score == value).all()
    assert binding.inputs["features"] is features
    assert binding.outputs["score"] is score


def test_a_model_with_an_open_first_axis_takes_batches(tmp_path: Path) -> None:
    path = written(tmp_path, doubling_model("n"))
    check_backend(OnnxRuntimeBackend, path, provider="cpu", input_shapes=SHAPES)
    backend = load(path)
    assert backend.most > 32
    binding = backend.bind(32)
    binding.inputs["features"][:] = np.arange(32, dtype=np.float32)[:, None]
    binding.run()
    assert (binding.outputs["score"] == 2 * binding.inputs["features"]).all()


def test_a_model_with_a_fixed_first_axis_takes_one_sample(tmp_path: Path) -> None:
    backend = load(written(tmp_path, doubling_model(1)))
    assert backend.most == 1
    with pytest.raises(ModelError, match="takes 1 to 1 samples in one run, not 2") as caught:
        backend.bind(2)
    assert caught.value.code == "M536"


def doubling_model(first: int | str) -> bytes:
    """Return a model that adds its input to itself."""
    made = helper.make_graph(
        [helper.make_node("Add", ["features", "features"], ["score"])],
        "doubling",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [first, 13])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [first, 13])],
    )
    return model(made)


def endless_model() -> bytes:
    """Return a model that adds its input up for ever, one node at a time, unless its sum is negative."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "features"], ["after"]),
            helper.make_node("ReduceSum", ["after"], ["sum"], keepdims=0),
            helper.make_node("GreaterOrEqual", ["sum", "zero"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 13]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 13]),
        ],
    )
    node = helper.make_node("Loop", ["", "go", "features"], ["score"], body=body)
    go = helper.make_tensor("go", TensorProto.BOOL, [], [True])
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    return model(graph([node], outputs=(("score", [1, 13]),), initializers=(go, zero)))


def test_a_run_that_would_never_end_is_cancelled_and_the_next_one_runs(tmp_path: Path) -> None:
    binding = load(written(tmp_path, endless_model())).bind()
    canceller = threading.Timer(0.05, binding.cancel)
    canceller.start()
    with pytest.raises(ModelError, match="was cancelled") as caught:
        binding.run()
    canceller.join()
    assert caught.value.code == "M535"
    binding.cancel()  # too late: nothing is running
    binding.inputs["features"][:] = -1.0
    binding.run()
    assert (binding.outputs["score"] == -2.0).all()


def test_it_answers_like_an_ordinary_session() -> None:
    golden = np.load(DELIVERED / "golden.npz")
    binding = load(DELIVERED / "model.onnx").bind()
    session = ort.InferenceSession(DELIVERED / "model.onnx", providers=["CPUExecutionProvider"])
    for row in golden["features"]:
        binding.inputs["features"][:] = row
        binding.run()
        plain = session.run(None, {"features": row.reshape(1, 13)})
        for node, answer in zip(session.get_outputs(), plain, strict=True):
            np.testing.assert_allclose(binding.outputs[node.name], answer, rtol=1e-5, atol=1e-7)


def test_it_says_what_runs_the_model() -> None:
    facts = load(DELIVERED / "model.onnx").describe()
    assert facts["provider"] == "CPUExecutionProvider"
    assert facts["runtime"] == f"onnxruntime {ort.__version__}"
    assert 0.0 < facts["load_ms"] < 10_000.0


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "openvino", "NoSuchProvider"])
def test_a_provider_that_is_not_there_is_refused_and_never_replaced(provider: str) -> None:
    wanted = PROVIDERS.get(provider, provider)
    words = f"{wanted} was asked for; this ONNX Runtime .* has "
    if wanted in ort.get_available_providers():  # listed by the GPU wheel on a machine without a GPU too
        if wanted in usable_accelerators():
            pytest.skip(f"{wanted} is usable here")
        words = f"{wanted} was asked for, but cannot run: "
    with pytest.raises(ModelError, match=words) as caught:
        load(DELIVERED / "model.onnx", provider=provider)
    assert caught.value.code == "M521"


class LyingRuntime:
    """An ONNX Runtime that claims a provider and runs the CPU instead, as the GPU wheel does without a GPU.

    Args:
        refuses: What it raises on: everything, the delivered model, or nothing at all.
    """

    __version__ = "0.0"
    __file__ = ort.__file__
    OrtValue = ort.OrtValue
    RunOptions = ort.RunOptions

    def __init__(self, refuses: str) -> None:
        self.refuses = refuses
        self.preloaded = 0
        self.entries: dict[str, str] = {}
        self.told: dict[str, str] = {}

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def SessionOptions(self) -> Any:  # noqa: N802 - the runtime's own name
        runtime = self

        class Options:
            intra_op_num_threads = log_severity_level = 0

            def add_session_config_entry(self, key: str, value: str) -> None:
                runtime.entries[key] = value

        return Options()

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def InferenceSession(  # noqa: N802
        self, model: str | bytes, options: Any, providers: list[Any], enable_fallback: int
    ) -> Any:
        assert self.preloaded
        (asked,) = providers
        name, self.told = asked if isinstance(asked, tuple) else (asked, {})
        assert (name, enable_fallback) == ("CUDAExecutionProvider", 0)
        if self.refuses == "everything" or (self.refuses == "the model" and isinstance(model, str)):
            raise RuntimeError("This session contains graph nodes assigned to CPU, but fallback is disabled")
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        return session if self.refuses == "nothing" else Renamed(session)


class Renamed:
    """A session on the CPU under the name of another provider."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("refuses", "code", "words"),
    [
        ("nothing", "M520", "would run model.onnx on CPUExecutionProvider"),
        ("the model", "M520", "model.onnx cannot be loaded: This session contains graph nodes"),
        ("everything", "M521", "CUDAExecutionProvider was asked for, but cannot run: "),
    ],
)
def test_a_runtime_that_falls_back_to_the_cpu_is_caught(
    monkeypatch: pytest.MonkeyPatch, refuses: str, code: str, words: str
) -> None:
    runtime = LyingRuntime(refuses)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    with pytest.raises(ModelError, match=words) as caught:
        load(DELIVERED / "model.onnx", provider="cuda")
    assert caught.value.code == code
    assert runtime.entries["session.disable_cpu_ep_fallback"] == "1"
    assert runtime.entries["session.intra_op.allow_spinning"] == "0"


class CopyingSession(Renamed):
    """A session of a provider with memory of its own: an input is read when it is bound."""

    def io_binding(self) -> Any:
        return CopyingBinding(self.session.io_binding())

    def run_with_iobinding(self, binding: CopyingBinding, options: Any) -> None:
        assert binding.pending == 0, "a copy to the device was not waited for"
        self.session.run_with_iobinding(binding.binding, options)


class CopyingBinding:
    """The binding of a :class:`CopyingSession`."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.copies: dict[str, Any] = {}
        self.pending = 0

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.pending += 1
        self.copies[name] = ort.OrtValue.ortvalue_from_numpy(value.numpy().copy())
        self.binding.bind_ortvalue_input(name, self.copies[name])

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.binding.bind_ortvalue_output(name, value)

    def synchronize_inputs(self) -> None:
        self.pending = 0


class DeviceRuntime(LyingRuntime):
    """An ONNX Runtime whose provider has memory of its own."""

    def InferenceSession(  # noqa: N802
        self, model: str | bytes, options: Any, providers: list[str], enable_fallback: int
    ) -> Any:
        return CopyingSession(ort.InferenceSession(model, providers=["CPUExecutionProvider"]))


def test_a_provider_with_memory_of_its_own_sees_every_new_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", DeviceRuntime("nothing"))
    check_backend(OnnxRuntimeBackend, DELIVERED / "model.onnx", provider="cuda", input_shapes=SHAPES)


def test_a_binding_is_let_go_before_its_session(tmp_path: Path) -> None:
    # The other way round, ONNX Runtime up to 1.27 ends the process on a provider with memory of its own.
    held = list(vars(load(written(tmp_path, identity_model())).bind()))
    assert held.index("_binding") < held.index("_session")


@pytest.mark.hardware
def test_every_accelerator_here_keeps_the_contract(tmp_path: Path) -> None:
    usable = usable_accelerators()
    if not usable:
        pytest.skip("ONNX Runtime can use no accelerator here")
    add = helper.make_node("Add", ["features", "features"], ["score"])
    doubler = model(graph([add], outputs=(("score", [1, 13]),)))
    for provider in usable:
        check_backend(OnnxRuntimeBackend, written(tmp_path, doubler), provider=provider, input_shapes=SHAPES)


@pytest.mark.hardware
def test_cuda_agrees_with_the_golden_samples() -> None:
    if PROVIDERS["cuda"] not in usable_accelerators():
        pytest.skip("ONNX Runtime cannot use CUDA here")
    golden = np.load(DELIVERED / "golden.npz")
    binding = load(DELIVERED / "model.onnx", provider="cuda").bind()
    for row, score in zip(golden["features"], golden["score"], strict=True):
        binding.inputs["features"][:] = row
        binding.run()
        np.testing.assert_allclose(binding.outputs["score"].ravel(), score, rtol=1e-3, atol=1e-4)


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
    binding = load(
        written(tmp_path, model(graph(reshape, outputs=(("score", [1, 13]),), initializers=(wanted,))))
    ).bind()
    with pytest.raises(ModelError, match=r"^the model failed: ") as caught:
        binding.run()  # all zeros: nothing to reshape to 13 values
    assert caught.value.code == "M532"
