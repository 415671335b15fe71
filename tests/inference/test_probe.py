"""A provider counts as usable only when it ran a model by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

from edge_opcua.inference import probe


def test_the_hand_made_model_is_valid_onnx() -> None:
    model = onnx.load_from_string(probe.tiny_model())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Add"]


def test_the_processor_runs_a_model_here() -> None:
    runtime = probe.probe_in_child()
    assert runtime.version == onnxruntime.__version__
    assert runtime.providers[0] == probe.Provider("CPUExecutionProvider", usable=True)
    assert "AzureExecutionProvider" not in [one.name for one in runtime.providers]


def test_a_provider_that_is_not_built_in_is_refused_not_replaced() -> None:
    found = probe.try_provider(onnxruntime, "NoSuchExecutionProvider")
    assert not found.usable
    assert found.why_not == found.reason != ""


def test_a_library_that_is_not_there_is_the_reason() -> None:
    found = probe.Provider("CUDAExecutionProvider", usable=False, reason="?", missing=("libcuda.so.1",))
    assert found.why_not == "not found here: libcuda.so.1"


class Preloading:
    """An ONNX Runtime that looks for the vendor's libraries, prints that there are none, and fails."""

    def __init__(self) -> None:
        self.calls = 0

    def preload_dlls(self) -> None:
        self.calls += 1
        sys.stdout.write("Failed to load libcublasLt.so.13")
        raise OSError("no such folder")


def test_the_vendors_libraries_are_loaded_for_their_providers_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime = Preloading()
    probe.preload(runtime, probe.CPU)
    assert runtime.calls == 0
    probe.preload(runtime, "CUDAExecutionProvider")
    assert runtime.calls == 1
    assert capsys.readouterr().out == ""  # standard output belongs to whoever started us


def test_a_provider_on_its_devices_is_tried_like_a_plugin() -> None:
    devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == probe.CPU]
    assert probe._run_alone(onnxruntime, probe.CPU, devices) == ""


def test_the_linked_libraries_are_read_from_the_file() -> None:
    capi = Path(onnxruntime.__file__).parent / "capi"
    (shared,) = capi.glob("onnxruntime_pybind11_state*.so")
    assert "libc.so.6" in probe.needed_libraries(shared)


def test_a_file_that_is_no_shared_object_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "library.so"
    text.write_text("GROUP ( libm.so.6 )")
    with pytest.raises(ValueError, match="no 64-bit"):
        probe.needed_libraries(text)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "code -11"),
        ("import sys; sys.exit('libcuda.so.1: no such file')", "libcuda.so.1"),
        ("import time; time.sleep(30)", "did not end"),
    ],
)
def test_a_runtime_that_crashes_or_hangs_is_a_finding(
    program: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}"\n')
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    runtime = probe.probe_in_child(timeout_s=1.0)
    assert runtime.version == ""
    assert words in runtime.reason


def test_an_emptied_onnxruntime_folder_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    runtime = probe.probe_in_child()
    assert runtime.version == ""
    assert "incomplete" in runtime.reason
