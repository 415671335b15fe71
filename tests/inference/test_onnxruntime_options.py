"""What the options of the ONNX Runtime backend do to a session: threads, caches, devices, time to load."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_opcua.errors import ModelError
from edge_opcua.inference import epplugins, probe
from edge_opcua.inference.backends import kept
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.backends.ortoptions import (
    CUDA,
    TENSORRT,
    OnnxRuntimeOptions,
    checked,
    provider_settings,
)
from tests.inference.models import DELIVERED, external_data_model

SHAPES = {"features": (1, 13)}
SIZE = 512


def load(
    path: Path, *, provider: str = "cpu", cache: Path | None = None, **options: Any
) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend.load(path, provider=provider, input_shapes=SHAPES, options=options, cache=cache)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of 8 MB."""
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    write_large(path, seed=1)
    return path


def write_large(path: Path, *, seed: int) -> None:
    generator = np.random.default_rng(seed)
    weights = [numpy_helper.from_array(generator.random((13, SIZE), np.float32), "w0")]
    weights += [
        numpy_helper.from_array(generator.random((SIZE, SIZE), np.float32) / SIZE, f"w{i}")
        for i in range(1, 9)
    ]
    nodes = [helper.make_node("Identity", ["features"], ["y0"])]
    nodes += [helper.make_node("MatMul", [f"y{i}", f"w{i}"], [f"y{i + 1}"]) for i in range(9)]
    made = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 13])],
        [helper.make_tensor_value_info("y9", TensorProto.FLOAT, ["n", SIZE])],
        weights,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def answer(backend: OnnxRuntimeBackend) -> Any:
    binding = backend.bind()
    binding.inputs["features"][:] = np.arange(13, dtype=np.float32)
    binding.run()
    return next(iter(binding.outputs.values())).copy()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thread": 2}, r"options\.thread: Extra inputs"),
        ({"threads": 0}, r"options\.threads: "),
        ({"device": "card"}, r"options\.device: "),
        ({"provider_options": {"trt_extra_plugin_lib_paths": "/tmp/x.so"}}, "would load foreign code"),
        ({"provider_options": {"enable_cuda_graph": True}}, 'the backend "tensorrt" has them'),
        ({"device": "gpu"}, r'"gpu" is none of CPUExecutionProvider'),
        ({"rest_on_cpu": True}, "takes neither provider_options nor rest_on_cpu"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load(DELIVERED / "model.onnx", **options)
    assert caught.value.code == "M560"


def test_options_reach_the_session() -> None:
    backend = load(DELIVERED / "model.onnx", threads=2, spinning=True, arena=False)
    settings = backend._session.get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (2, 1)
    assert settings.enable_cpu_mem_arena is False
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    quiet = load(DELIVERED / "model.onnx")._session.get_session_options()
    assert quiet.intra_op_num_threads == 1
    assert quiet.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_the_optimised_graph_of_a_large_model_is_kept_and_answers_the_same(
    large: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    wanted = answer(load(large))
    first = answer(load(large, cache=cache, optimized=True))
    (file,) = cache.iterdir()
    assert file.suffix == ".onnx"
    assert file.stat().st_mode & 0o077 == 0
    written_ns = file.stat().st_mtime_ns
    second = answer(load(large, cache=cache, optimized=True))
    assert file.stat().st_mtime_ns == written_ns  # read, not written again
    np.testing.assert_array_equal(first, wanted)
    np.testing.assert_array_equal(second, wanted)


def test_another_model_of_the_same_name_never_gets_a_kept_graph(large: Path, tmp_path: Path) -> None:
    cache, path = tmp_path / "cache", tmp_path / "model.onnx"
    load(large, cache=cache, optimized=True)
    write_large(path, seed=2)
    np.testing.assert_array_equal(answer(load(path, cache=cache, optimized=True)), answer(load(path)))
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_kept_graph_is_made_again(large: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wanted = answer(load(large, cache=cache, optimized=True))
    (file,) = cache.iterdir()
    file.write_bytes(b"garbage" * 1000)
    np.testing.assert_array_equal(answer(load(large, cache=cache, optimized=True)), wanted)
    assert file.stat().st_size > 1_000_000


def test_a_cache_that_cannot_be_written_does_not_keep_a_model_from_running(
    large: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    np.testing.assert_array_equal(
        answer(load(large, cache=tmp_path / "cache", optimized=True)), answer(load(large))
    )


def test_nothing_is_kept_unless_asked_for_nor_of_a_model_in_several_files(
    large: Path, tmp_path: Path
) -> None:
    load(large, cache=tmp_path / "cache")
    (tmp_path / "model.onnx").write_bytes(external_data_model("weights.bin", tmp_path))
    load(tmp_path / "model.onnx", cache=tmp_path / "cache", optimized=True)
    assert not (tmp_path / "cache").exists()


def test_kept_files_are_bounded_and_the_longest_unused_go_first(tmp_path: Path) -> None:
    paths = [kept.kept(tmp_path, "thing", {"number": number}, ".bin") for number in range(kept.MOST_KEPT + 2)]
    assert len(set(paths)) == len(paths)
    for number, path in enumerate(paths):
        kept.keep(path, b"%d" % number)
        os.utime(path, (number, number))
    assert [path.exists() for path in paths[:3]] == [False, False, True]
    assert kept.recall(paths[-1]) == b"%d" % (len(paths) - 1)
    paths[-1].write_bytes(paths[-1].read_bytes()[:-1] + b"x")
    assert kept.recall(paths[-1]) is None
    assert not paths[-1].exists()


def test_a_load_that_takes_too_long_is_ended_and_told(large: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx was not loaded within 1e-05 s") as caught:
        OnnxRuntimeBackend.load(large, provider="cpu", input_shapes=SHAPES, load_s=1e-5)
    assert caught.value.code == "M561"
    OnnxRuntimeBackend.load(large, provider="cpu", input_shapes=SHAPES, load_s=60.0)


def test_a_load_that_cannot_be_cancelled_any_more_is_late_all_the_same(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "threading.Timer.run", lambda timer: None
    )  # as if the timer's thread never got a turn
    with pytest.raises(ModelError, match=r"was not loaded within 1e-05 s") as caught:
        OnnxRuntimeBackend.load(large, provider="cpu", input_shapes=SHAPES, load_s=1e-5)
    assert caught.value.code == "M561"


def test_what_cuda_is_told_makes_its_answers_those_of_the_trainer() -> None:
    told = provider_settings(checked({"device": "gpu:1"}), CUDA, {}, None)
    assert told["use_tf32"] == "0"
    assert told["device_id"] == "1"
    over = checked({"provider_options": {"use_tf32": True, "gpu_mem_limit": 1 << 30}})
    assert provider_settings(over, CUDA, {}, None)["use_tf32"] == "1"
    assert provider_settings(over, CUDA, {}, None)["gpu_mem_limit"] == str(1 << 30)


def test_what_tensorrt_is_told_keeps_engines_and_gives_one_range_of_sizes(tmp_path: Path) -> None:
    told = provider_settings(OnnxRuntimeOptions(), TENSORRT, {"x": (1, 3, 8)}, tmp_path)
    assert told["trt_engine_cache_path"] == str(tmp_path)
    assert told["trt_profile_min_shapes"] == "x:1x3x8"
    assert told["trt_profile_max_shapes"] == "x:64x3x8"
    assert "trt_engine_cache_enable" not in provider_settings(OnnxRuntimeOptions(), TENSORRT, {}, None)


def package(folder: Path, code: str, name: str = "onnxruntime_ep_test") -> None:
    """Install a package with execution providers."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that packages are imported from, forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "onnxruntime_ep_test", raising=False)
    importlib.invalidate_caches()
    return tmp_path / "site"


PLUGIN = "def get_ep_names():\n    return ['{name}']\n\ndef get_library_path():\n    return '{path}'\n"


class PluggedRuntime:
    """ONNX Runtime as if its CPU provider came as a package; devices and session are real."""

    def __init__(self, *, finds: bool) -> None:
        self.finds = finds
        self.registered: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(ort, name)

    def get_available_providers(self) -> list[str]:
        return ["AzureExecutionProvider"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if any(found == name for found, _ in self.registered):
            raise RuntimeError(f"EP library is already registered under {name}")
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return list(ort.get_ep_devices()) if self.finds else []


def test_a_provider_of_a_package_runs_on_its_device(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(site, PLUGIN.format(name=probe.CPU, path="/lib/test.so"))
    runtime = PluggedRuntime(finds=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    for _ in range(2):  # the second one finds it registered
        backend = load(DELIVERED / "model.onnx", provider=probe.CPU, device="cpu")
    assert backend.describe()["provider"] == probe.CPU
    assert np.isfinite(answer(backend)).all()
    assert runtime.registered == [("onnxruntime_ep_test", "/lib/test.so")]


def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(site, PLUGIN.format(name=probe.CPU, path="/lib/test.so"))
    monkeypatch.setitem(sys.modules, "onnxruntime", PluggedRuntime(finds=True))
    with pytest.raises(ModelError, match=r'finds here cpu:0; "npu" is not one of them') as caught:
        load(DELIVERED / "model.onnx", provider=probe.CPU, device="npu")
    assert caught.value.code == "M560"


def test_a_package_without_a_device_of_its_vendor_is_refused_for_that_reason(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(site, PLUGIN.format(name="VendorExecutionProvider", path="/lib/test.so"))
    monkeypatch.setitem(sys.modules, "onnxruntime", PluggedRuntime(finds=True))
    with pytest.raises(
        ModelError, match="onnxruntime-ep-test is installed, but it finds no device"
    ) as caught:
        load(DELIVERED / "model.onnx", provider="VendorExecutionProvider")
    assert caught.value.code == "M521"


def test_a_library_that_cannot_be_loaded_is_refused_for_that_reason(site: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"no library")
    package(site, PLUGIN.format(name="VendorExecutionProvider", path=tmp_path / "broken.so"))
    with pytest.raises(ModelError, match="cannot run: Failed to load library") as caught:
        load(DELIVERED / "model.onnx", provider="VendorExecutionProvider")
    assert caught.value.code == "M521"


@pytest.mark.parametrize("code", ["raise OSError('driver gone')", "import no_such_module_of_the_vendor"])
def test_a_package_that_cannot_be_imported_is_told_and_does_no_harm(site: Path, code: str) -> None:
    package(site, code)
    (found,) = (plugin for plugin in epplugins.installed() if plugin.package == "onnxruntime-ep-test")
    assert "driver gone" in found.problem or "no_such_module" in found.problem
    load(DELIVERED / "model.onnx")


def entry(settings: Any, name: str) -> str | None:
    """Return a setting of a session; None if it is not set."""
    try:
        return str(settings.get_session_config_entry(name))
    except RuntimeError:
        return None


class AcceleratedRuntime(PluggedRuntime):
    """ONNX Runtime as if it had a provider built in; what it is told is kept, the processor runs the model.

    Args:
        name: The provider.
        nodes: How many nodes run on it, and how many on the processor.
    """

    def __init__(self, name: str, nodes: tuple[int, int] = (1, 0)) -> None:
        super().__init__(finds=False)
        self.name = name
        self.nodes = nodes
        self.told: dict[str, str] = {}
        self.fallback: list[str | None] = []
        self.recorded: list[str | None] = []

    def get_available_providers(self) -> list[str]:
        return [self.name, probe.CPU]

    def InferenceSession(  # noqa: N802 - the runtime's own name
        self, path: str, settings: Any, providers: list[Any], enable_fallback: int
    ) -> Any:
        (asked,) = providers
        if asked == probe.CPU:
            return ort.InferenceSession(path, settings, providers=[asked])
        assert asked[0] == self.name
        self.told = asked[1]
        self.fallback.append(entry(settings, "session.disable_cpu_ep_fallback"))
        self.recorded.append(entry(settings, "session.record_ep_graph_assignment_info"))
        return AcceleratedSession(ort.InferenceSession(path, providers=[probe.CPU]), self)


class AcceleratedSession:
    """A session of an :class:`AcceleratedRuntime`."""

    def __init__(self, session: Any, runtime: AcceleratedRuntime) -> None:
        self.session = session
        self.runtime = runtime

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def get_providers(self) -> list[str]:
        return [self.runtime.name, probe.CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        names = (self.runtime.name, probe.CPU)
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [None] * count)
            for name, count in zip(names, self.runtime.nodes, strict=True)
        ]


def test_the_share_of_nodes_on_the_accelerator_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = AcceleratedRuntime(CUDA, nodes=(3, 1))
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    backend = load(DELIVERED / "model.onnx", provider="cuda", rest_on_cpu=True)
    assert backend.describe()["accelerated"] == 0.75
    assert load(DELIVERED / "model.onnx", provider="cuda").describe()["accelerated"] == 1.0
    assert runtime.fallback == [None, "1"]
    assert runtime.recorded == ["1", None]


def test_a_model_of_which_nothing_runs_where_it_should_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", AcceleratedRuntime(CUDA, nodes=(0, 4)))
    with pytest.raises(ModelError, match="knows no node of model") as caught:
        load(DELIVERED / "model.onnx", provider="cuda", rest_on_cpu=True)
    assert caught.value.code == "M520"


def test_two_models_of_one_graph_have_tensorrt_engines_apart(
    monkeypatch: pytest.MonkeyPatch, large: Path, tmp_path: Path
) -> None:
    # ONNX Runtime names engines after the graph: in one folder the second would run the weights of the first.
    runtime = AcceleratedRuntime(TENSORRT)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    write_large(tmp_path / "model.onnx", seed=2)
    folders = []
    for path in (large, tmp_path / "model.onnx", large):
        backend = load(path, provider="tensorrt", cache=tmp_path / "cache")
        folders.append(runtime.told["trt_engine_cache_path"])
    assert folders[0] == folders[2] != folders[1]
    assert all(Path(folder).is_dir() for folder in folders)
    assert runtime.told["trt_profile_max_shapes"] == "features:64x13"
    assert backend.most == 64
    load(DELIVERED / "model.onnx", provider="tensorrt")  # its first axis is fixed
    assert "trt_profile_max_shapes" not in runtime.told
