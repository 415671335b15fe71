"""Runs a model with ONNX Runtime on exactly the execution provider that was asked for, on bound buffers.

Inputs and outputs are numpy arrays that the session reads and writes in place: on the processor a run
allocates nothing and copies nothing. One session has one thread and does not spin; parallelism is a matter
of lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import FLOAT32, Layout, Port, layout
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


class OnnxRuntimeBinding:
    """Buffers for one number of samples, and the runs on them; :meth:`cancel` alone is for other threads."""

    def __init__(self, ort: Any, session: Any, layout: Layout, batch: int, *, copies: bool) -> None:
        inputs, outputs = layout.buffers(batch)
        binding = session.io_binding()
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, ort.OrtValue.ortvalue_from_numpy(array))
        # Let go in this order: a binding uses memory of its session's provider but does not hold the session.
        self._binding = binding
        self._session = session
        self._batch = batch
        self._inputs = MappingProxyType(inputs)
        self._outputs = MappingProxyType(outputs)
        # A provider with memory of its own reads an input when it is bound, not when it runs.
        self._copied = values if copies else {}
        self._options = ort.RunOptions()
        self._stopped = False
        self._run = _way_to_run(session, binding, self._options)

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return self._batch

    @property
    def inputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Bound input buffers by name; write into them, then :meth:`run`."""
        return self._inputs

    @property
    def outputs(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Bound output buffers by name; valid until the next :meth:`run`."""
        return self._outputs

    def run(self) -> None:
        """Run the model once on the bound buffers; the interpreter is free meanwhile.

        Raises:
            ModelError: The run failed (M532), or was cancelled (M535).
        """
        if self._stopped:  # by a call that came after the last run had ended
            self._go_on()
        try:
            if self._copied:
                self._copy_in()
            self._run()
        except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
            raise self._failure(exc) from exc

    def cancel(self) -> None:
        """Let the run in progress end at the next node of the graph, called from another thread."""
        self._options.terminate = True
        self._stopped = True

    def _copy_in(self) -> None:
        for name, value in self._copied.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.synchronize_inputs()

    def _failure(self, exc: Exception) -> ModelError:
        if self._options.terminate:
            self._go_on()
            return ModelError("the run was cancelled", code="M535")
        return ModelError(f"the model failed: {sentence(exc)}", code="M532")

    def _go_on(self) -> None:
        self._stopped = False
        self._options.terminate = False


def _way_to_run(session: Any, binding: Any, options: Any) -> Callable[[], None]:
    """Return the call that runs a binding so that its options can cancel it.

    The public call looks, on every run with options, for an entry that only WebGPU knows, by an exception:
    28 µs, more than most of our models take. What it then calls is called here; it is the same object in
    every release since 1.4.
    """
    inner, bound = getattr(session, "_sess", None), getattr(binding, "_iobinding", None)
    if inner is None or bound is None:
        return partial(session.run_with_iobinding, binding, options)
    return partial(inner.run_with_iobinding, bound, options)


class OnnxRuntimeBackend:
    """One loaded model, from which bindings are made. See :meth:`load`."""

    def __init__(self, ort: Any, session: Any, layout: Layout, facts: Mapping[str, Any]) -> None:
        self._ort = ort
        self._session = session
        self._layout = layout
        self._facts = facts

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        provider: str,
        input_shapes: Mapping[str, Sequence[int]],
        options: Mapping[str, Any] | None = None,
        cache: Path | None = None,  # noqa: ARG003 - nothing to keep yet
        clock: Clock | None = None,
    ) -> OnnxRuntimeBackend:
        """Load a model by path (from bytes, the interpreter would stand still meanwhile).

        Args:
            path: The ONNX file.
            provider: ``cpu``, ``cuda``, ``tensorrt``, ``openvino``, or a provider's own name.
            input_shapes: Shape of each input for one sample, float32; the first axis is 1.
            options: Options of the backend from the configuration.
            cache: Folder for what takes long to make again; None keeps nothing.
            clock: For the load time.

        Raises:
            ModelError: ONNX Runtime is not installed (M522), has no such provider or cannot use it here
                (M521), or runs the model, or a part of it, on another one (M520); the model cannot be loaded
                (M510), or its inputs (M504) or outputs (M505) are not fixed float32 arrays of the wanted
                shape, or an option is unknown (M560).
        """
        if options:
            raise ModelError(f"unknown options: {', '.join(options)}", code="M560")
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
        found = layout(map(_port, session.get_inputs()), map(_port, session.get_outputs()), input_shapes)
        facts = {
            "provider": wanted,
            "runtime": f"onnxruntime {ort.__version__}",
            "load_ms": (time.monotonic_ns() - started_ns) / 1e6,
            "accelerated": 1.0,
        }
        return cls(ort, session, found, facts)

    @property
    def most(self) -> int:
        """Largest number of samples of one run; 1 where the first axis of an input or output is fixed."""
        return self._layout.most

    def bind(self, batch: int = 1) -> OnnxRuntimeBinding:
        """Return new buffers for so many samples; ModelError M536 if the model does not take them."""
        copies = self._facts["provider"] != CPU
        return OnnxRuntimeBinding(self._ort, self._session, self._layout, batch, copies=copies)

    def describe(self) -> Mapping[str, Any]:
        """Return provider, runtime, load time in ms, and the share of nodes that runs there."""
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


def _port(node: Any) -> Port:
    kind = {"tensor(float)": FLOAT32, "tensor(double)": "float64"}.get(node.type, node.type)
    return Port(node.name, kind, tuple(node.shape))
