"""Runs a model with TensorRT itself, 10 or 11; copies and kernels of a run are launched as one graph."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final

from pydantic import BaseModel

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends.cuda import Cuda, Floats, load_runtime
from edge_opcua.inference.backends.layout import Layout, in_one_piece, layout
from edge_opcua.inference.backends.trtengine import (
    Plan,
    TensorRtOptions,
    checked,
    engine_for,
    load_tensorrt,
    opened,
    ports,
)

PROVIDER: Final = "tensorrt"


class TensorRtBinding:
    """Buffers for one number of samples, on the host and on the GPU, and the runs on them."""

    def __init__(self, cuda: Cuda, engine: Any, shapes: Layout, batch: int, options: TensorRtOptions) -> None:
        shapes.require(batch)
        self._cuda = cuda
        self._batch = batch
        self._thread = threading.get_ident()
        cuda.use()
        self._held = cuda.hold()
        try:
            self._prepare(engine, shapes, options)
        except ModelError as exc:
            self._held.free()
            if exc.code == "M532":
                raise ModelError(
                    f"the GPU has no memory left for another binding: {exc}", code="M564"
                ) from exc
            raise

    def _prepare(self, engine: Any, shapes: Layout, options: TensorRtOptions) -> None:
        """Take buffers, tell the engine where they are, and record a run on them."""
        cuda, held = self._cuda, self._held
        self._inputs = in_one_piece(shapes.input_shapes(self._batch), cuda.host_array)
        self._outputs = in_one_piece(shapes.output_shapes(self._batch), cuda.host_array)
        arrays = {**self._inputs, **self._outputs}
        self._places = {name: held.memory(array.nbytes) for name, array in arrays.items()}
        self._stream = held.stream(urgent=options.urgent)
        self._context = engine.create_execution_context()
        if self._context is None:
            raise ModelError("the GPU has no memory left for another binding", code="M564")
        for name, array in self._inputs.items():
            self._require(self._context.set_input_shape(name, array.shape), f"shape of {name}")
        for name, place in self._places.items():
            self._require(self._context.set_tensor_address(name, place), f"address of {name}")
        self._enqueue()  # TensorRT prepares in the first run on new shapes: that one is not recorded
        cuda.wait(self._stream)
        graph = held.recorded(self._enqueue, self._stream) if options.cuda_graph else None
        self._launch = self._enqueue if graph is None else cuda.launcher(graph, self._stream)
        self.is_recorded = graph is not None

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return self._batch

    @property
    def inputs(self) -> Mapping[str, Floats]:
        """Bound input buffers by name; write into them, then :meth:`run`."""
        return MappingProxyType(self._inputs)

    @property
    def outputs(self) -> Mapping[str, Floats]:
        """Bound output buffers by name; valid until the next :meth:`run`."""
        return MappingProxyType(self._outputs)

    def run(self) -> None:
        """Run the model once on the bound buffers; the interpreter is free meanwhile.

        Raises:
            ModelError: The run failed (M532).
        """
        me = threading.get_ident()
        if me != self._thread:  # which GPU calls go to is a matter of the thread
            self._cuda.use()
            self._thread = me
        self._launch()
        self._cuda.wait(self._stream)

    def cancel(self) -> None:
        """Do nothing: a GPU runs what was launched to its end."""

    def _enqueue(self) -> None:
        for name, array in self._inputs.items():
            self._cuda.copy_in(self._places[name], array, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise ModelError("TensorRT could not launch the model", code="M532")
        for name, array in self._outputs.items():
            self._cuda.copy_out(array, self._places[name], self._stream)

    @staticmethod
    def _require(done: bool, what: str) -> None:  # noqa: FBT001 - what TensorRT answered
        if not done:
            raise ModelError(f"TensorRT does not take the {what}", code="M563")


class TensorRtBackend:
    """One engine, from which bindings are made. See :meth:`load`."""

    Options: ClassVar[type[BaseModel]] = TensorRtOptions

    def __init__(
        self, cuda: Cuda, engine: Any, shapes: Layout, options: TensorRtOptions, facts: Mapping[str, Any]
    ) -> None:
        self._cuda = cuda
        self._engine = engine
        self._layout = shapes
        self._options = options
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
    ) -> TensorRtBackend:
        """Load the engine of a model; build it first if there is none for this model on this machine.

        Args:
            path: The ONNX file.
            provider: ``tensorrt``.
            input_shapes: Shape of each input for one sample, float32; the first axis is 1.
            options: Options of the backend from the configuration.
            cache: Folder for engines and measured kernels; None keeps none, and every load builds.
            load_s: Longest time to build (s); None: as long as it takes.
            clock: For the load time.

        Raises:
            ModelError: TensorRT or CUDA for Python is not installed (M562), no GPU can be used (M521), an
                option does not fit (M560), the model cannot be read (M510), no engine can be built from it
                (M563) or not in time (M561), the GPU has no memory (M564), or its inputs (M504) or outputs
                (M505) are not fixed float32 arrays of the wanted shape.
        """
        time = clock or SystemClock()
        started_ns = time.monotonic_ns()
        if provider.lower() != PROVIDER:
            raise ModelError(f'"{provider}" was asked for; this backend runs on {PROVIDER} only', code="M521")
        if not path.is_file():
            raise ModelError(f"{path.name} cannot be loaded: there is no such file", code="M510")
        chosen = checked(options)
        cuda = Cuda(load_runtime(), chosen.number, spinning=chosen.spinning)
        trt = load_tensorrt()
        plan = Plan(trt, cuda, path, opened(input_shapes), chosen, time, cache, load_s)
        engine = engine_for(plan)
        inputs, outputs = ports(trt, engine)
        shapes = layout(inputs, outputs, input_shapes, most=chosen.most)
        facts = {
            "provider": PROVIDER,
            "runtime": f"tensorrt {trt.__version__}",
            "device": cuda.name(),
            "load_ms": (time.monotonic_ns() - started_ns) / 1e6,
            "accelerated": 1.0,
        }
        return cls(cuda, engine, shapes, chosen, facts)

    @property
    def most(self) -> int:
        """Largest number of samples of one run; 1 where the first axis of an input or output is fixed."""
        return self._layout.most

    def bind(self, batch: int = 1) -> TensorRtBinding:
        """Return new buffers for so many samples.

        Raises:
            ModelError: The model does not take so many (M536), or the GPU has no memory for them (M564).
        """
        return TensorRtBinding(self._cuda, self._engine, self._layout, batch, self._options)

    def describe(self) -> Mapping[str, Any]:
        """Return provider, runtime, GPU, load time in ms, and the share of nodes that runs there: all."""
        return self._facts
