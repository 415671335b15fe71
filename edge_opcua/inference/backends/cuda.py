"""The few calls of the CUDA runtime that running an engine takes, with their errors as ours."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError
from edge_opcua.inference.probe import sentence

Floats = npt.NDArray[np.float32]


class Cuda:
    """One GPU by the CUDA runtime.

    Args:
        runtime: The module ``cuda.bindings.runtime``.
        device: Number of the GPU.
        spinning: Whether a thread that waits for the GPU keeps its processor busy: some 20 µs faster.

    Raises:
        ModelError: There is no such GPU, or no driver for it (M521).
    """

    def __init__(self, runtime: Any, device: int, *, spinning: bool) -> None:
        self._runtime = runtime
        self._good = runtime.cudaError_t.cudaSuccess
        self.device = device
        try:
            count = self._call("cudaGetDeviceCount")
        except ModelError as exc:
            raise ModelError(f"no NVIDIA GPU can be used here: {exc}", code="M521") from exc
        if device >= count:
            raise ModelError(f'there is no "gpu:{device}"; GPUs here: {count}', code="M521")
        self.use()
        flags = runtime.cudaDeviceScheduleSpin if spinning else runtime.cudaDeviceScheduleBlockingSync
        self._call("cudaSetDeviceFlags", flags)

    def use(self) -> None:
        """Let the calls of this thread go to this GPU."""
        self._call("cudaSetDevice", self.device)

    def name(self) -> str:
        """Return what the GPU is called, with its compute capability."""
        found = self._call("cudaGetDeviceProperties", self.device)
        text = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
        return f"{text.strip(chr(0))} SM {found.major}.{found.minor}"

    def driver(self) -> int:
        """Return the CUDA version of the driver, e.g. 13000."""
        return int(self._call("cudaDriverGetVersion"))

    def host_array(self, size: int) -> Floats:
        """Return zeros in memory that the GPU copies from and to by itself; freed with its last view."""
        place = int(self._call("cudaMallocHost", 4 * size))
        memory = (ctypes.c_float * size).from_address(place)
        weakref.finalize(memory, self._runtime.cudaFreeHost, place).atexit = False
        array = np.ctypeslib.as_array(memory)
        array[:] = 0.0
        return array

    def hold(self) -> Held:
        """Return what takes memory, a stream and graphs, and gives them back."""
        return Held(self._runtime, self._call)

    def copy_in(self, target: int, source: Floats, stream: Any) -> None:
        """Copy an array to the GPU, in the order of the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, stream)

    def copy_out(self, target: Floats, source: int, stream: Any) -> None:
        """Copy from the GPU into an array, in the order of the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, stream)

    def wait(self, stream: Any) -> None:
        """Wait until everything on the stream is done; the interpreter is free meanwhile.

        Raises:
            ModelError: Something on it failed (M532).
        """
        self._call("cudaStreamSynchronize", stream)

    def launcher(self, graph: Any, stream: Any) -> Callable[[], None]:
        """Return the call that runs a recorded graph."""
        return partial(self._call, "cudaGraphLaunch", graph, stream)

    def _call(self, name: str, *args: Any) -> Any:
        error, *values = getattr(self._runtime, name)(*args)
        if error != self._good:
            raise ModelError(f"{name}: {self._words(error)}", code="M532")
        return values[0] if len(values) == 1 else values

    def _words(self, error: Any) -> str:
        _, text = self._runtime.cudaGetErrorString(error)
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


class Held:
    """Memory of the GPU, a stream and graphs; given back by :meth:`free`, or when this object is gone.

    Args:
        runtime: The module ``cuda.bindings.runtime``.
        call: Calls a function of it; ModelError if that fails.
    """

    def __init__(self, runtime: Any, call: Callable[..., Any]) -> None:
        self._runtime = runtime
        self._call = call
        self._taken: list[tuple[str, Any]] = []
        self._end = weakref.finalize(self, _give_back, runtime, self._taken)
        self._end.atexit = False

    def memory(self, size: int) -> int:
        """Return the address of so many new bytes on the GPU."""
        place = int(self._call("cudaMalloc", max(1, size)))
        self._taken.append(("cudaFree", place))
        return place

    def stream(self, *, urgent: bool) -> Any:
        """Return a new stream; what runs on an urgent one goes before what waits on others."""
        lowest, highest = self._call("cudaDeviceGetStreamPriorityRange")
        priority = highest if urgent else lowest
        made = self._call("cudaStreamCreateWithPriority", self._runtime.cudaStreamNonBlocking, priority)
        self._taken.append(("cudaStreamDestroy", made))
        return made

    def recorded(self, work: Callable[[], None], stream: Any) -> Any | None:
        """Return what puts work on a stream as one graph to launch; None if it cannot be recorded."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            work()
        except ModelError:
            self._runtime.cudaStreamEndCapture(stream)  # leaves the recording, whatever it says
            return None
        try:
            graph = self._call("cudaStreamEndCapture", stream)
            launched = self._call("cudaGraphInstantiate", graph, 0)
        except ModelError:
            return None
        self._runtime.cudaGraphDestroy(graph)
        self._taken.append(("cudaGraphExecDestroy", launched))
        return launched

    def free(self) -> None:
        """Give everything back; nothing of it may be in use."""
        self._end()


def load_runtime() -> Any:
    """Import the CUDA runtime for Python; ModelError M562 if it is not there."""
    try:
        from cuda.bindings import runtime
    except ImportError as exc:
        raise ModelError(
            f"CUDA for Python cannot be imported ({sentence(exc)}); install the extra tensorrt", code="M562"
        ) from exc
    return runtime


def _give_back(runtime: Any, taken: list[tuple[str, Any]]) -> None:
    while taken:  # graphs and streams before the memory they work on
        name, what = taken.pop()
        getattr(runtime, name)(what)
