"""Execution providers as their vendors ship them: used where their device is, else refused with reasons."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.inference.models import DELIVERED

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "tests" / "peers" / ".installed"
ASKED = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.probe import probe

def loaded(provider, options):
    try:
        backend = OnnxRuntimeBackend.load(
            Path(sys.argv[1]), provider=provider, input_shapes={"features": (1, 13)}, options=options
        )
        backend.bind().run()
    except ModelError as exc:
        return {"code": exc.code, "text": str(exc)}
    return dict(backend.describe())

found = {one.name: {**asdict(one), "why_not": one.why_not} for one in probe().providers}
models = {
    " ".join([name, *options]): loaded(name, dict.fromkeys(options, True))
    for name, *options in json.loads(sys.argv[2])
}
print(json.dumps({"providers": found, "models": models}))
"""
WANTED = {
    "gpu": [["cpu"], ["cuda"], ["cuda", "rest_on_cpu"], ["tensorrt"]],
    "openvino": [["cpu"], ["openvino"]],
    "rtx": [["cpu"], ["tensorrt_rtx"]],
}
CASES = (
    ("gpu", "cuda", "CUDAExecutionProvider", "not found here: .*lib"),
    ("gpu", "tensorrt", "TensorrtExecutionProvider", r"not found here: .*libnvinfer\.so\.10"),
    ("openvino", "openvino", "OpenVINOExecutionProvider", "finds no device of its vendor"),
    ("rtx", "tensorrt_rtx", "NvTensorRTRTXExecutionProvider", r"not found here: libcuda\.so\.1"),
)


@functools.cache
def asked(package: str) -> dict[str, Any]:
    """Ask our code what it makes of a package that was installed apart."""
    python = INSTALLED / f"provider-{package}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{package} is not there: tests/peers/install-providers")
    done = subprocess.run(
        [python, "-c", ASKED, DELIVERED / "model.onnx", json.dumps(WANTED[package])],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


@pytest.mark.parametrize(("package", "provider", "name", "reason"), CASES, ids=[case[1] for case in CASES])
def test_a_model_runs_on_the_provider_or_is_refused_with_what_is_missing(
    package: str, provider: str, name: str, reason: str
) -> None:
    probed, found = asked(package)["providers"][name], asked(package)["models"][provider]
    if probed["usable"]:  # on a machine that has the device
        assert (found["provider"], found["accelerated"]) == (name, 1.0)
        return
    assert re.search(reason, probed["why_not"])  # what doctor shows
    assert found["code"] == "M521"
    assert name in found["text"]
    assert re.search(reason, found["text"])


def test_the_gpu_distribution_never_goes_on_with_the_processor_even_if_parts_may_run_there() -> None:
    if asked("gpu")["providers"]["CUDAExecutionProvider"]["usable"]:
        pytest.skip("CUDA can be used here")
    found = asked("gpu")["models"]["cuda rest_on_cpu"]
    assert found["code"] == "M520"
    assert "would run model.onnx on CPUExecutionProvider" in found["text"]


@pytest.mark.parametrize("package", WANTED)
def test_the_processor_is_still_there_beside_a_package(package: str) -> None:
    assert asked(package)["models"]["cpu"]["provider"] == "CPUExecutionProvider"
