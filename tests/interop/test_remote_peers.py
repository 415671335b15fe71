"""The remote backend against servers that others wrote: Triton and MLServer, over HTTP and gRPC."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.backends.remote import RemoteBackend
from edge_opcua.inference.backends.remote.binding import RemoteBinding
from edge_opcua.testing import check_backend
from tests.inference.models import DELIVERED
from tests.inference.remote.test_remote_http import rows_model

HERE = Path(__file__).parents[1] / "peers"
SERVERS = ("triton", "mlserver")
FEATURES, ROWS = {"features": (1, 13)}, {"features": (1, 4)}
pytestmark = pytest.mark.interop


@dataclass
class Peer:
    """A server in a process of its own."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def url(self, wire: str) -> str:
        return f"{wire}://127.0.0.1:{self.port + (wire == 'grpc')}"

    def load(self, wire: str, ours: str = "press-anomaly", **options: Any) -> RemoteBackend:
        version, shapes = ("3", ROWS) if ours == "rows" else ("1", FEATURES)
        return RemoteBackend.load(
            self.folder / ours / version / "model.onnx",
            provider="remote",
            input_shapes=shapes,
            options={"url": self.url(wire), "timeout_ms": 5000, **options},
        )


def three_free_ports() -> int:
    """Return the first of three ports in a row that nobody uses."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                for after in (1, 2):
                    socket.create_server(("127.0.0.1", port + after)).close()
            except OSError:
                continue
            return port


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def serving(name: str, folder: Path, port: int = 0) -> Iterator[Peer]:
    port = port or three_free_ports()
    command = [
        str(HERE / ".installed" / name / "bin" / "python"),
        str(HERE / "serving" / f"{name}_repository.py"),
        str(folder),
        str(port),
    ]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        until = time.monotonic() + 15.0
        while not is_ready(port):
            assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]
            assert time.monotonic() < until, "the server does not come up"
            time.sleep(0.1)
        yield Peer(name, process, port, folder)
    finally:
        # Triton's Python models are processes of its session; a stopped one has to go on to be able to end.
        for number in (signal.SIGCONT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
        process.wait(10.0)
        for left in Path("/dev/shm").glob(f"edge-opcua-triton-{port}-*"):
            left.unlink(missing_ok=True)
        for left in Path(tempfile.gettempdir()).glob(f"edge-opcua-triton-{port}-*"):
            shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served")
    for version in ("1", "2"):
        target = made / "press-anomaly" / version
        target.mkdir(parents=True)
        shutil.copyfile(DELIVERED.with_name(version) / "model.onnx", target / "model.onnx")
    (made / "rows" / "3").mkdir(parents=True)
    (made / "rows" / "3" / "model.onnx").write_bytes(rows_model())
    return made


@pytest.fixture(scope="module", params=SERVERS)
def peer(request: pytest.FixtureRequest, folder: Path) -> Iterator[Peer]:
    require(request.param)
    with serving(request.param, folder) as made:
        yield made


def require(name: str) -> None:
    if not (HERE / ".installed" / name / "bin" / "python").exists():
        pytest.skip(f"{name} is not installed; run tests/peers/install-serving")


def again(backend: RemoteBackend, binding: RemoteBinding) -> None:
    """Ask until the server answers again."""
    until = time.monotonic() + 10.0
    while backend.describe()["circuit"] != "closed":
        assert time.monotonic() < until
        time.sleep(0.1)
        with suppress(ModelError):
            binding.run()
    binding.run()


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ModelError) as caught:
        call()
    return caught.value.code, str(caught.value)


@pytest.mark.parametrize("wire", ["http", "grpc"])
@pytest.mark.parametrize("model", ["press-anomaly", "rows"])
def test_the_contract_of_a_backend_is_kept(peer: Peer, wire: str, model: str) -> None:
    loaded = peer.load(wire, model)
    binding = loaded.bind()
    check_backend(
        RemoteBackend,
        peer.folder / model / ("3" if model == "rows" else "1") / "model.onnx",
        provider="remote",
        input_shapes={name: array.shape for name, array in binding.inputs.items()},
        options={"url": peer.url(wire), "timeout_ms": 5000},
    )


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_answers_are_those_of_the_same_model_here(peer: Peer, wire: str) -> None:
    remote = peer.load(wire).bind()
    here = OnnxRuntimeBackend.load(
        peer.folder / "press-anomaly" / "1" / "model.onnx", provider="cpu", input_shapes=FEATURES
    ).bind()
    dice = np.random.default_rng(3)
    for _ in range(20):
        row = dice.random((1, 13), np.float32) * 10
        for binding in (remote, here):
            binding.inputs["features"][:] = row
            binding.run()
        for name, wanted in here.outputs.items():
            np.testing.assert_allclose(remote.outputs[name], wanted, rtol=1e-5, err_msg=name)


def test_each_server_is_spoken_to_in_the_best_way_it_knows(peer: Peer) -> None:
    told = peer.load("http").describe()
    assert told["wire"] == {"triton": "http, binary", "mlserver": "http, json"}[peer.name]
    assert told["runtime"].startswith(peer.name)
    assert told["model"] == "press-anomaly 1"
    # Triton tells its limit, MLServer has none.
    assert peer.load("http", "rows").most == {"triton": 8, "mlserver": 32}[peer.name]
    assert peer.load("grpc", "rows").most == {"triton": 8, "mlserver": 32}[peer.name]


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_what_is_not_served_is_refused_with_the_reason(peer: Peer, wire: str) -> None:
    # Over gRPC, a version that is missing is UNAVAILABLE to Triton, which also says that nobody listens.
    absent = {"M573", "M570"} if (peer.name, wire) == ("triton", "grpc") else {"M573"}
    code, text = refusal(lambda: peer.load(wire, version="7"))
    assert code in absent, text
    code, text = refusal(lambda: peer.load(wire, "rows", model="no-such-model", version=""))
    assert code in absent, text
    code, text = refusal(lambda: peer.load(wire, "rows", model="press-anomaly", version="1"))
    assert code == "M575", text


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_a_frozen_server_costs_the_timeout_and_is_used_again_when_it_goes_on(peer: Peer, wire: str) -> None:
    backend = peer.load(wire, timeout_ms=200, fail_after=2, retry_first_s=0.1)
    binding = backend.bind()
    binding.run()
    os.killpg(peer.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert [refusal(binding.run)[0] for _ in range(2)] == ["M571", "M571"]
        assert time.monotonic() - started < 2.0  # twice 200 ms, on a busy computer
        assert refusal(binding.run)[0] == "M572"
    finally:
        os.killpg(peer.process.pid, signal.SIGCONT)
    again(backend, binding)
