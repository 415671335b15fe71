"""The TensorRT backend without a GPU: refusals for real, all else on a stand-in with the real names."""

from __future__ import annotations

import gc
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_opcua.core.ports import Backend
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends import trtprobe
from edge_opcua.inference.backends.tensorrt import TensorRtBackend
from edge_opcua.plugins import BACKENDS, InstalledPlugins
from edge_opcua.testing import ManualClock, check_backend
from tests.inference import tensorrt_stand_in
from tests.inference.models import DELIVERED, model
from tests.inference.tensorrt_stand_in import CLASSES, NAMES, StandInCuda, StandInTensorRt

SHAPES = {"features": (1, 13)}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StandInCuda:
    return tensorrt_stand_in.install(monkeypatch)


def load(
    path: Path, *, cache: Path | None = None, load_s: float | None = None, **options: Any
) -> TensorRtBackend:
    return TensorRtBackend.load(
        path, provider="tensorrt", input_shapes=SHAPES, options=options, cache=cache, load_s=load_s
    )


def doubling(folder: Path, first: int | str = "n", kind: int = TensorProto.FLOAT) -> Path:
    """Write a model that adds its input to itself."""
    made = helper.make_graph(
        [helper.make_node("Add", ["features", "features"], ["score"])],
        "doubling",
        [helper.make_tensor_value_info("features", kind, [first, 13])],
        [helper.make_tensor_value_info("score", kind, [first, 13])],
    )
    path = folder / "model.onnx"
    path.write_bytes(model(made))
    return path


@pytest.mark.parametrize("package", NAMES, ids=lambda package: package["tensorrt"]["version"])
def test_the_stand_in_has_no_name_that_tensorrt_and_cuda_do_not_have(package: dict[str, Any]) -> None:
    own = {"do"}  # for its tests and itself
    for kind in CLASSES:
        names = {name for name in dir(kind) if not name.startswith("_")} - set(dir(int)) - {"name", "value"}
        assert names <= set(package["tensorrt"]["names"][kind.__name__]), kind.__name__
    names = {name for name in dir(StandInCuda) if not name.startswith("_")} - own
    kinds = set(package["cuda"]["names"]) - {"runtime"}
    assert names <= set(package["cuda"]["names"]["runtime"]) | kinds
    for name in kinds:
        members = {one.name for one in getattr(StandInCuda, name) if one.name.startswith("cuda")}
        assert members <= set(package["cuda"]["names"][name]), name


def test_the_plugin_of_the_entry_point_is_a_backend() -> None:
    found: type[Backend] = InstalledPlugins().load(BACKENDS, "tensorrt")
    assert found is TensorRtBackend


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed here")
def test_without_its_packages_it_is_refused_with_the_extra_that_brings_them() -> None:
    with pytest.raises(ModelError, match="install the extra tensorrt") as caught:
        load(DELIVERED / "model.onnx")
    assert caught.value.code == "M562"


def test_without_a_gpu_it_is_refused_in_cudas_words(cuda: StandInCuda) -> None:
    cuda.gpus = 0
    with pytest.raises(
        ModelError, match="no NVIDIA GPU can be used here: cudaGetDeviceCount: no driver"
    ) as caught:
        load(DELIVERED / "model.onnx")
    assert caught.value.code == "M521"


def test_doctor_is_told_what_it_would_run_on_or_why_not(cuda: StandInCuda) -> None:
    assert trtprobe.probe() == trtprobe.Native("11.4.0.106", "NVIDIA Stand-in SM 9.0")
    cuda.gpus = 0
    found = trtprobe.probe()
    assert found.version == "11.4.0.106"
    assert found.reason.startswith("no NVIDIA GPU can be used here")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"device": "gpu:3"}, "M521", 'there is no "gpu:3"; GPUs here: 1'),
        ({"device": "cpu"}, "M560", r"options\.device: "),
        ({"fp16": True}, "M560", r"options\.fp16: Extra inputs"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    cuda: StandInCuda, options: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load(DELIVERED / "model.onnx", **options)
    assert caught.value.code == code


@pytest.mark.parametrize("first", [1, "n"])
@pytest.mark.parametrize("recorded", [True, False])
def test_it_keeps_the_contract(cuda: StandInCuda, tmp_path: Path, first: int | str, recorded: bool) -> None:
    StandInTensorRt.can_be_recorded = recorded
    path = doubling(tmp_path, first)
    check_backend(TensorRtBackend, path, provider="tensorrt", input_shapes=SHAPES)
    backend = load(path, most=16)
    assert backend.most == (16 if first == "n" else 1)
    assert backend.bind().is_recorded is recorded
    assert bool(cuda.launched) is recorded


def test_it_answers_as_the_trainer(cuda: StandInCuda) -> None:
    golden = np.load(DELIVERED / "golden.npz")
    binding = load(DELIVERED / "model.onnx").bind()
    for row, score in zip(golden["features"], golden["score"], strict=True):
        binding.inputs["features"][:] = row
        binding.run()
        np.testing.assert_allclose(binding.outputs["score"].ravel(), score, rtol=1e-4, atol=1e-5)


def test_outputs_lie_in_one_piece(cuda: StandInCuda) -> None:
    outputs = load(DELIVERED / "model.onnx").bind().outputs
    assert len({id(array.base) for array in outputs.values()}) == 1


def test_a_binding_gives_back_all_that_it_took(cuda: StandInCuda, tmp_path: Path) -> None:
    backend = load(doubling(tmp_path))
    binding = backend.bind(4)
    output = binding.outputs["score"]
    assert cuda.alive
    del binding
    gc.collect()
    assert len(cuda.alive) == 1  # what is still looked at
    output[:] = 1.0
    del output
    gc.collect()
    assert not cuda.alive


def test_each_thread_says_which_gpu_it_means(cuda: StandInCuda, tmp_path: Path) -> None:
    binding = load(doubling(tmp_path)).bind()
    cuda.used.clear()
    binding.run()
    assert cuda.used == []
    thread = threading.Thread(target=binding.run)
    thread.start()
    thread.join()
    assert cuda.used == [0]


def test_an_engine_is_built_once_for_a_model_and_machine(cuda: StandInCuda, tmp_path: Path) -> None:
    path, cache = doubling(tmp_path), tmp_path / "cache"
    for _ in range(2):
        load(path, cache=cache)
    assert StandInTensorRt.builds == 1
    assert sorted(file.suffix for file in cache.iterdir()) == [".cache", ".engine"]
    load(path)  # without a cache nothing is kept
    assert StandInTensorRt.builds == 2


@pytest.mark.parametrize("change", ["gpu", "driver", "tensorrt", "model", "options", "damage"])
def test_an_engine_made_for_anything_else_is_never_used(
    cuda: StandInCuda, tmp_path: Path, change: str
) -> None:
    path, cache = doubling(tmp_path), tmp_path / "cache"
    load(path, cache=cache)
    options = {}
    match change:
        case "gpu":
            cuda.gpu = "NVIDIA Other"
        case "driver":
            cuda.driver += 1
        case "tensorrt":
            StandInTensorRt.__version__ = "10.16.1.11"
        case "model":
            path.write_bytes(path.read_bytes() + b"\x32\x01x")  # one more byte of documentation
        case "options":
            options = {"most": 4}
        case "damage":
            (engine,) = cache.glob("*.engine")
            engine.write_bytes(engine.read_bytes()[:-1])
    load(path, cache=cache, **options)
    assert StandInTensorRt.builds == 2


def test_a_cache_that_cannot_be_written_does_not_keep_a_model_from_running(
    cuda: StandInCuda, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    load(doubling(tmp_path), cache=tmp_path / "cache").bind().run()


def test_a_model_that_tensorrt_cannot_read_is_told(cuda: StandInCuda, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"garbage" * 100)
    with pytest.raises(ModelError, match=r"model\.onnx cannot be loaded: In parse") as caught:
        load(tmp_path / "model.onnx")
    assert caught.value.code == "M510"


def test_an_engine_that_cannot_be_built_is_told_with_tensorrts_reason(
    cuda: StandInCuda, tmp_path: Path
) -> None:
    StandInTensorRt.refuses = True
    with pytest.raises(ModelError, match="could not find any implementation for node 7") as caught:
        load(doubling(tmp_path))
    assert caught.value.code == "M563"


def test_a_build_that_takes_too_long_is_ended(cuda: StandInCuda, tmp_path: Path) -> None:
    class Slow(ManualClock):
        """A clock on which every look takes a second."""

        def monotonic_s(self) -> float:
            self.step(1.0)
            return super().monotonic_s()

    with pytest.raises(ModelError, match=r"was not built within 5 s") as caught:
        TensorRtBackend.load(
            doubling(tmp_path), provider="tensorrt", input_shapes=SHAPES, load_s=5.0, clock=Slow()
        )
    assert caught.value.code == "M561"


@pytest.mark.parametrize("full", ["context", "buffers"])
def test_a_gpu_without_memory_is_told(cuda: StandInCuda, tmp_path: Path, full: str) -> None:
    backend = load(doubling(tmp_path))
    before = len(cuda.alive)
    if full == "context":
        StandInTensorRt.is_full = True
    else:
        cuda.room = 8
    with pytest.raises(ModelError, match="memory") as caught:
        backend.bind()
    assert caught.value.code == "M564"
    del caught
    gc.collect()
    assert len(cuda.alive) == before


def test_half_precision_at_the_border_is_refused(cuda: StandInCuda, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is half\[\?,13\], not float32") as caught:
        load(doubling(tmp_path, kind=TensorProto.FLOAT16))
    assert caught.value.code == "M504"
