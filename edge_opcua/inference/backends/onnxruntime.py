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
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.layout import FLOAT32, MOST_SAMPLES, Layout, Port, layout
from edge_opcua.inference.backends.ortoptions import (
    MOST_PROFILED,
    PROVIDERS,
    TENSORRT,
    OnnxRuntimeOptions,
    checked,
)
from edge_opcua.inference.backends.ortsession import Wish, accelerated, load_onnxruntime, open_session
from edge_opcua.inference.probe import CPU, sentence

_FATAL_ONLY: Final = 4


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
        self._options.log_severity_level = _FATAL_ONLY  # errors are raised, and told by us
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
    28 µs, more than most of our models take. What it then calls is called here (as of 1.31); where that is
    not found, the public call it is.
    """
    inner, bound = getattr(session, "_sess", None), getattr(binding, "_iobinding", None)
    if inner is None or bound is None:
        return partial(session.run_with_iobinding, binding, options)
    return partial(inner.run_with_iobinding, bound, options)


class OnnxRuntimeBackend:
    """One loaded model, from which bindings are made. See :meth:`load`."""

    Options: ClassVar[type[BaseModel]] = OnnxRuntimeOptions

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
        cache: Path | None = None,
        load_s: float | None = None,
        clock: Clock | None = None,
    ) -> OnnxRuntimeBackend:
        """Load a model by path (from bytes, the interpreter would stand still meanwhile).

        Args:
            path: The ONNX file.
            provider: A word of :data:`PROVIDERS`, or a provider's own name.
            input_shapes: Shape of each input for one sample, float32; the first axis is 1.
            options: Options of the backend from the configuration.
            cache: Folder for what takes long to make again; None keeps nothing.
            load_s: Longest time to load (s); None: as long as it takes.
            clock: For the load time.

        Raises:
            ModelError: ONNX Runtime is not installed (M522), has no such provider or cannot use it here
                (M521), or runs the model, or a part of it, on another one (M520); the model cannot be loaded
                (M510), or its inputs (M504) or outputs (M505) are not fixed float32 arrays of the wanted
                shape, an option does not fit (M560), or loading takes too long (M561).
        """
        time = clock or SystemClock()
        started_ns = time.monotonic_ns()
        ort = load_onnxruntime()
        wish = Wish(
            ort,
            path,
            PROVIDERS.get(provider.lower(), provider),
            {name: tuple(shape) for name, shape in input_shapes.items()},
            checked(options),
            cache,
            load_s,
            time,
        )
        session = open_session(wish)
        most = MOST_PROFILED if wish.provider == TENSORRT else MOST_SAMPLES
        inputs, outputs = map(_port, session.get_inputs()), map(_port, session.get_outputs())
        found = layout(inputs, outputs, input_shapes, most=most)
        facts = {
            "provider": wish.provider,
            "runtime": f"onnxruntime {ort.__version__}",
            "load_ms": (time.monotonic_ns() - started_ns) / 1e6,
            "accelerated": accelerated(session, wish),
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


def _port(node: Any) -> Port:
    kind = {"tensor(float)": FLOAT32, "tensor(double)": "float64"}.get(node.type, node.type)
    return Port(node.name, kind, tuple(node.shape))
