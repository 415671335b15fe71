"""Runs a model with ONNX Runtime on exactly the execution provider that was asked for, on bound buffers.

Inputs and outputs are numpy arrays that the session reads and writes in place: on the processor a run
allocates nothing and copies nothing. One session has one thread and does not spin; parallelism is a matter
of lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.probe import CPU, preload, sentence, try_provider

PROVIDERS: Final = MappingProxyType(
    {
        "cpu": CPU,
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
        "openvino": "OpenVINOExecutionProvider",
    }
)
"""Our names of the execution providers; the provider's own name is taken too."""

_LOG_ERRORS_ONLY: Final = 3


class OnnxRuntimeBackend:
    """One loaded model with pre-bound buffers; belongs to one thread. See :meth:`load`."""

    def __init__(
        self,
        session: Any,
        binding: Any,
        inputs: Mapping[str, npt.NDArray[np.float32]],
        outputs: Mapping[str, npt.NDArray[np.float32]],
        facts: Mapping[str, Any],
        copied: Mapping[str, Any],
    ) -> None:
        # Let go in this order: a binding uses memory of its session's provider but does not hold the session.
        self._binding = binding
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        self._facts = facts
        self._copied = copied

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        provider: str,
        input_shapes: Mapping[str, Sequence[int]],
        clock: Clock | None = None,
    ) -> OnnxRuntimeBackend:
        """Load a model by path (from bytes, the interpreter would stand still meanwhile).

        Args:
            path: The ONNX file.
            provider: ``cpu``, ``cuda``, ``tensorrt``, ``openvino``, or a provider's own name.
            input_shapes: Shape to bind for each input, float32.
            clock: For the load time.

        Raises:
            ModelError: ONNX Runtime is not installed (M522), has no such provider or cannot use it here
                (M521), or runs the model, or a part of it, on another one (M520); the model cannot be loaded
                (M510), or its inputs (M504) or outputs (M505) are not fixed float32 arrays of the wanted
                shape.
        """
        time = clock or SystemClock()
        started_ns = time.monotonic_ns()
        ort = _runtime()
        wanted = PROVIDERS.get(provider.lower(), provider)
        available = ort.get_available_providers()
        if wanted not in available:
            raise ModelError(
                f"{wanted} was asked for; this ONNX Runtime {ort.__version__} has {', '.join(available)}",
                code="M521",
            )
        preload(ort, wanted)
        session = _session(ort, path, wanted)
        running = session.get_providers()
        if not running or running[0] != wanted:
            raise ModelError(
                f"{wanted} was asked for, but ONNX Runtime would run {path.name} on {', '.join(running)}",
                code="M520",
            )
        inputs = _input_buffers(session, input_shapes)
        outputs = _output_buffers(session)
        binding = session.io_binding()
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        facts = {
            "provider": wanted,
            "runtime": f"onnxruntime {ort.__version__}",
            "load_ms": (time.monotonic_ns() - started_ns) / 1e6,
        }
        # A provider with memory of its own reads an input when it is bound, not when it runs.
        copied = {} if wanted == CPU else values
        return cls(session, binding, MappingProxyType(inputs), MappingProxyType(outputs), facts, copied)

    @property
    def inputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Bound input buffers by name; write into them, then :meth:`run`."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Bound output buffers by name; valid until the next :meth:`run`."""
        return self._outputs

    def run(self) -> None:
        """Run the model once on the bound buffers.

        Raises:
            ModelError: The run failed (M532).
        """
        try:
            for name, value in self._copied.items():
                self._binding.bind_ortvalue_input(name, value)
            if self._copied:
                self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding)
        except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
            raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc

    def describe(self) -> Mapping[str, Any]:
        """Return provider, runtime and load time in ms, for ``status``."""
        return self._facts


def _runtime() -> Any:
    try:
        import onnxruntime as ort
    except ImportError as exc:
        raise ModelError(
            f"ONNX Runtime cannot be imported ({exc}); install one of the extras cpu, cuda or openvino",
            code="M522",
        ) from exc
    return ort


def _session(ort: Any, path: Path, provider: str) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if provider != CPU:
        # Otherwise a missing library or an unsupported node silently moves to the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        # enable_fallback=0: it would announce on the terminal that it goes on with the CPU.
        return ort.InferenceSession(str(path), options, providers=[provider], enable_fallback=0)
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        raise _refusal(ort, path, provider, exc) from exc


def _refusal(ort: Any, path: Path, provider: str, exc: Exception) -> ModelError:
    """Tell a provider that cannot run even the smallest model from a model that cannot run on it."""
    if provider != CPU and not (found := try_provider(ort, provider)).usable:
        return ModelError(f"{provider} was asked for, but cannot run: {found.why_not}", code="M521")
    code = "M520" if "fallback" in str(exc) else "M510"
    return ModelError(f"{path.name} cannot be loaded: {sentence(exc)}", code=code)


def _input_buffers(session: Any, shapes: Mapping[str, Sequence[int]]) -> dict[str, npt.NDArray[np.float32]]:
    declared = {node.name: node for node in session.get_inputs()}
    for name in declared.keys() ^ shapes.keys():
        where = "the model" if name in declared else "the manifest"
        raise ModelError(f'input "{name}" exists in {where} only', code="M504")
    buffers = {}
    for name, shape in shapes.items():
        node = declared[name]
        wanted = f"float32[{','.join(map(str, shape))}]"
        if node.type != "tensor(float)" or not _fits(node.shape, shape):
            raise ModelError(f'input "{name}" of the model is {_spelled(node)}, not {wanted}', code="M504")
        buffers[name] = np.zeros(tuple(shape), np.float32)
    return buffers


def _fits(declared: Sequence[int | str | None], wanted: Sequence[int]) -> bool:
    return len(declared) == len(wanted) and all(
        not isinstance(size, int) or size == want for size, want in zip(declared, wanted, strict=True)
    )


def _output_buffers(session: Any) -> dict[str, npt.NDArray[np.float32]]:
    buffers = {}
    for node in session.get_outputs():
        if node.type != "tensor(float)" or not all(isinstance(size, int) for size in node.shape):
            raise ModelError(
                f'output "{node.name}" of the model is {_spelled(node)}, not float32 of a fixed shape',
                code="M505",
            )
        buffers[node.name] = np.zeros(tuple(node.shape), np.float32)
    return buffers


def _spelled(node: Any) -> str:
    kind = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(node.type, node.type)
    return f"{kind}[{','.join('?' if size is None else str(size) for size in node.shape)}]"
