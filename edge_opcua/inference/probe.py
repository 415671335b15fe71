"""Finds out which ONNX Runtime providers really run a model here, not which are merely listed.

Run as a program it prints one JSON object: a broken driver may crash or hang the process that loads it, so
whoever asks (``edge-opcua doctor``) does so through :func:`probe_in_child`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import mmap
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edge_opcua.inference import epplugins
from edge_opcua.inference.epplugins import EpPlugin

CPU: Final = "CPUExecutionProvider"
# Listed by every build, but it forwards to a cloud service: nothing that can be tried here.
_NOT_LOCAL: Final = frozenset({"AzureExecutionProvider"})
_LIBRARY: Final = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
# What NVIDIA installs apart from us, and what therefore may be absent or of another version.
_FOREIGN: Final = re.compile(
    r"lib(cuda|nvinfer|nvonnxparser|cudart|cublas|cublasLt|cudnn|cufft|curand)\.so\.\d+"
)
_TENSORRT: Final = re.compile(r"libnv(infer|onnxparser)")
# What ONNX Runtime's messages carry for its own developers: number and name of the error, the path we know,
# and file, line and function of its source.
_NOISE: Final = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|Load model from \S+ failed:\s*"
    r"|\S+\.(?:cc|h|cpp):\d+ (?:[\w:<>*&~, ]*::[\w~]+\([^()]*\)(?: const)?|\w+)\s*"
)
_MAX_REASON: Final = 300
NO_DEVICE: Final = "it finds no device of its vendor here"
_CHILD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider of the installed ONNX Runtime.

    Args:
        name: Its ONNX Runtime name, e.g. ``CUDAExecutionProvider``.
        usable: Whether it ran a model by itself, with the right result.
        reason: Why not; empty when usable.
        needs: Libraries of other vendors that it is linked against.
        missing: Those of them that this machine cannot load.
    """

    name: str
    usable: bool
    reason: str = ""
    needs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def why_not(self) -> str:
        """Why it is not usable: the libraries that are not there, otherwise ONNX Runtime's words."""
        return f"not found here: {', '.join(self.missing)}" if self.missing else self.reason


@dataclass(frozen=True, slots=True)
class Runtime:
    """The ONNX Runtime that Python imports.

    Args:
        version: Its version; empty if it cannot be imported.
        providers: Every local provider that it lists, tried.
        reason: Why it cannot be imported; empty when it can.
    """

    version: str
    providers: tuple[Provider, ...] = ()
    reason: str = ""


def tiny_model() -> bytes:
    """Return an ONNX model (opset 13, IR 8) that computes ``y = x + x`` for float32 ``x`` of shape (1, 4)."""
    shape = _field(1, _field(1, 1)) + _field(1, _field(1, 4))
    tensor = _field(1, _field(1, 1) + _field(2, shape))  # TypeProto.tensor_type: FLOAT
    node = _field(1, b"x") + _field(1, b"x") + _field(2, b"y") + _field(4, b"Add")
    graph = (
        _field(1, node)
        + _field(2, b"probe")
        + _field(11, _field(1, b"x") + _field(2, tensor))
        + _field(12, _field(1, b"y") + _field(2, tensor))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 13))


def _field(number: int, content: int | bytes) -> bytes:
    """Return one protobuf field; all numbers and lengths of the tiny model are below 128 or two bytes."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    return bytes([number << 3 | 2]) + length + content


def probe() -> Runtime:
    """Import ONNX Runtime in this process and run a model on each of its providers alone."""
    try:
        import onnxruntime
    except Exception as exc:  # noqa: BLE001 - a broken installation raises whatever its leftovers raise
        return Runtime("", reason=sentence(exc))
    if not hasattr(onnxruntime, "InferenceSession"):
        # What uninstalling one of two distributions leaves behind: a package without its contents.
        return Runtime("", reason="the onnxruntime folder is incomplete")
    names = [name for name in onnxruntime.get_available_providers() if name not in _NOT_LOCAL]
    found = [try_provider(onnxruntime, name) for name in sorted(names, key=lambda name: name != CPU)]
    found += [provider for plugin in epplugins.installed() for provider in _try_plugin(onnxruntime, plugin)]
    return Runtime(onnxruntime.__version__, tuple(found))


def probe_in_child(*, timeout_s: float = _CHILD_S) -> Runtime:
    """Return :func:`probe` of another process, so that a crash or a hang of a driver stays there."""
    command = [sys.executable, "-m", "edge_opcua.inference.probe"]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Runtime("", reason=f"loading it did not end within {timeout_s:.0f} s")
    answer = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode != 0 or not answer.startswith("{"):
        tail = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return Runtime("", reason=f"loading it ended the process (code {done.returncode}) {tail}".strip())
    return _from_json(json.loads(answer))


def _from_json(answer: dict[str, Any]) -> Runtime:
    providers = (
        Provider(**{**row, "needs": tuple(row["needs"]), "missing": tuple(row["missing"])})
        for row in answer["providers"]
    )
    return Runtime(answer["version"], tuple(providers), answer["reason"])


def try_provider(runtime: Any, name: str) -> Provider:
    """Run the smallest model on one provider of this ONNX Runtime (its module), in this process."""
    preload(runtime, name)
    needs, missing = linked(Path(runtime.__file__).parent / "capi" / _LIBRARY.get(name, ""))
    try:
        reason = _run_alone(runtime, name)
    except Exception as exc:  # noqa: BLE001 - each provider raises its own errors; the text is the finding
        reason = sentence(exc)
    return Provider(name, usable=not reason, reason=reason, needs=needs, missing=missing)


def preload(runtime: Any, name: str) -> None:
    """Load the CUDA libraries that came as Python packages, if this provider is linked against them.

    They lie where the system's loader does not look; whoever uses the provider has to do this first.
    What is missing shows when the provider is used.
    """
    if name not in _LIBRARY or not hasattr(runtime, "preload_dlls"):
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it did not find
            runtime.preload_dlls()
    except Exception as exc:  # noqa: BLE001 - preload_dlls is a convenience of the library
        sys.stderr.write(f"preload_dlls: {exc!r}\n")
    if name == "TensorrtExecutionProvider":
        _preload_tensorrt(Path(runtime.__file__).parent / "capi" / _LIBRARY[name])


def _preload_tensorrt(library: Path) -> None:
    """Load the TensorRT that came as a Python package, if it is of the version that is needed.

    ``tensorrt_libs`` may hold another one: the provider of ONNX Runtime 1.31 wants 10, pip installs 11.
    """
    found = importlib.util.find_spec("tensorrt_libs")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    if not folders or not library.is_file():
        return
    for soname in sorted(filter(_TENSORRT.match, needed_libraries(library))):
        with contextlib.suppress(OSError):  # what is missing shows when the provider is used
            ctypes.CDLL(str(Path(folders[0]) / soname), mode=ctypes.RTLD_GLOBAL)


def _try_plugin(runtime: Any, plugin: EpPlugin) -> Iterator[Provider]:
    """Register the provider library of one package and try each provider in it on the devices it finds."""
    needs, missing = linked(Path(plugin.library)) if plugin.library else ((), ())
    for name in plugin.names:
        try:
            reason = plugin.problem or _run_plugin(runtime, plugin, name)
        except Exception as exc:  # noqa: BLE001 - a package of another vendor may raise anything
            reason = sentence(exc)
        yield Provider(name, usable=not reason, reason=reason, needs=needs, missing=missing)


def _run_plugin(runtime: Any, plugin: EpPlugin, name: str) -> str:
    devices = epplugins.devices(runtime, plugin, name)
    return _run_alone(runtime, name, devices[:1]) if devices else NO_DEVICE


def _run_alone(runtime: Any, name: str, devices: Sequence[Any] = ()) -> str:
    """Run the tiny model on this provider and no other; return why that is not what happened."""
    import numpy as np

    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if name != CPU:  # ONNX Runtime refuses the pair of "CPU only" and "no CPU"
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if devices:
        options.add_provider_for_devices(devices, {})
        session = runtime.InferenceSession(tiny_model(), options, enable_fallback=0)
    else:
        session = runtime.InferenceSession(tiny_model(), options, providers=[name], enable_fallback=0)
    active = session.get_providers()
    if not active or active[0] != name:
        return f"{', '.join(active) or 'nothing'} took its place"
    x = np.arange(4, dtype=np.float32).reshape(1, 4)
    (y,) = session.run(None, {"x": x})
    return "" if np.array_equal(y, x + x) else f"1 + 1 = {y[0, 1]}"


def needed_libraries(library: Path) -> list[str]:
    """Return the libraries (DT_NEEDED) that a 64-bit little-endian ELF shared object is linked against.

    Raises:
        ValueError: The file is something else.

    Source:
        System V ABI, "Dynamic Section"; the loader looks for exactly these names.
    """
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as elf:
        if elf[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{library} is no 64-bit little-endian ELF file")
        table, size, count = *struct.unpack_from("<Q", elf, 32), *struct.unpack_from("<HH", elf, 54)
        segments = [struct.unpack_from("<IIQQQQ", elf, table + size * i) for i in range(count)]
        loads = [(address, offset, length) for kind, _, offset, address, _, length in segments if kind == 1]
        dynamic = next((offset, length) for kind, _, offset, _, _, length in segments if kind == 2)
        entries = list(struct.iter_unpack("<qQ", elf[dynamic[0] : sum(dynamic)]))
        strings_at = next(value for tag, value in entries if tag == 5)
        strings = next(o + strings_at - a for a, o, length in loads if a <= strings_at < a + length)
        starts = [strings + value for tag, value in entries if tag == 1]
        return [elf[start : elf.find(b"\0", start)].decode() for start in starts]


def linked(library: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the libraries of other vendors that a library is linked against, and those not found here."""
    try:
        needs = tuple(sorted(filter(_FOREIGN.fullmatch, needed_libraries(library))))
    except (OSError, ValueError):  # whoever loads it says why
        return (), ()
    return needs, tuple(soname for soname in needs if not _loads(soname))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def sentence(exc: BaseException) -> str:
    """Return what ONNX Runtime says without its codes and source places, cut to one line."""
    line = " ".join(_NOISE.sub("", str(exc)).split()) or type(exc).__name__
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(probe())) + "\n")
