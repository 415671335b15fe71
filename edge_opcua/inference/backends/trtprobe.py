"""Finds out whether TensorRT itself can be used here, in a process of its own: a broken driver may end it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Final

from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.cuda import Cuda, load_runtime
from edge_opcua.inference.backends.trtengine import load_tensorrt, runtime_for

_CHILD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Native:
    """The backend `tensorrt` on this machine.

    Args:
        version: Version of TensorRT; empty if it cannot be imported.
        gpu: What it would run on; empty if there is nothing.
        reason: Why it cannot be used; empty when it can.
    """

    version: str = ""
    gpu: str = ""
    reason: str = ""


def probe() -> Native:
    """Import TensorRT in this process, look for a GPU, and make what loads engines."""
    version = gpu = ""
    try:
        trt = load_tensorrt()
        version = str(trt.__version__)
        gpu = Cuda(load_runtime(), 0, spinning=False).name()
        runtime_for(trt)
    except ModelError as exc:
        return Native(version, gpu, str(exc))
    return Native(version, gpu)


def probe_in_child(*, timeout_s: float = _CHILD_S) -> Native:
    """Return :func:`probe` of another process, so that a crash or a hang of a driver stays there."""
    command = [sys.executable, "-m", "edge_opcua.inference.backends.trtprobe"]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Native(reason=f"loading it did not end within {timeout_s:.0f} s")
    answer = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode != 0 or not answer.startswith("{"):
        return Native(reason=f"loading it ended the process (code {done.returncode})")
    return Native(**json.loads(answer))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(probe())) + "\n")
