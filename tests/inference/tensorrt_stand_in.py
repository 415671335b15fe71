"""TensorRT and the CUDA runtime as our backend meets them, on the processor: for machines without a GPU.

Engines are ONNX models that ONNX Runtime runs; memory of the GPU is memory of this process; a stream does at
once what it is told, unless it is recorded. It has no name that TensorRT 10 and 11, or CUDA for Python 12 and
13, do not both have: ``tensorrt_names.json`` lists theirs, and a test compares. ``tests/gpu`` runs
the real ones.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime as ort


class Error(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815 - CUDA's name
    OUT_OF_MEMORY = 2
    NO_DRIVER = 35
    NOT_RECORDED = 901


class MemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1  # noqa: N815 - CUDA's name
    cudaMemcpyDeviceToHost = 2  # noqa: N815 - CUDA's name


class CaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815 - CUDA's name


class Stream(int):
    """A stream; while it is recorded, what it is told is kept instead of done."""

    recorded: list[Callable[[], None]] | None = None
    is_spoiled = False


class StandInCuda:
    """The module ``cuda.bindings.runtime``.

    Attributes:
        gpus: How many GPUs there are; none without a driver.
        gpu: What they are called.
        driver: CUDA version of the driver.
        used: Devices in the order they were chosen.
        alive: What was allocated and not freed.
        launched: Recorded graphs that were launched.
    """

    cudaError_t = Error  # noqa: N815 - CUDA's names from here on
    cudaMemcpyKind = MemcpyKind  # noqa: N815
    cudaStreamCaptureMode = CaptureMode  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    cudaDeviceScheduleSpin = 1  # noqa: N815
    cudaDeviceScheduleBlockingSync = 4  # noqa: N815

    def __init__(self) -> None:
        self.gpus = 1
        self.gpu = "NVIDIA Stand-in"
        self.driver = 13000
        self.room = 1 << 30
        self.used: list[int] = []
        self.alive: dict[int, Any] = {}
        self.launched = 0
        self.streams: dict[int, Stream] = {}

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:  # noqa: N802
        return (Error.cudaSuccess, self.gpus) if self.gpus else (Error.NO_DRIVER, None)

    def cudaGetErrorString(self, error: Error) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, error.name.lower().replace("_", " ").encode()

    def cudaSetDevice(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        self.used.append(device)
        return (Error.cudaSuccess,)

    def cudaSetDeviceFlags(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return (Error.cudaSuccess,)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, SimpleNamespace(name=self.gpu.encode() + bytes(4), major=9, minor=0)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, self.driver

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[Any, ...]:  # noqa: N802
        return Error.cudaSuccess, 0, -5

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[Any, ...]:  # noqa: N802
        stream = Stream(1000 + len(self.streams))
        self.streams[int(stream)] = stream
        self.alive[int(stream)] = stream
        return Error.cudaSuccess, stream

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        if size > self.room:
            return Error.OUT_OF_MEMORY, None
        memory = ctypes.create_string_buffer(size)
        self.alive[ctypes.addressof(memory)] = memory
        return Error.cudaSuccess, ctypes.addressof(memory)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        return self.cudaMalloc(size)

    def cudaFree(self, place: int) -> tuple[Any, ...]:  # noqa: N802
        del self.alive[int(place)]
        return (Error.cudaSuccess,)

    def cudaFreeHost(self, place: int) -> tuple[Any, ...]:  # noqa: N802
        return self.cudaFree(place)

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        del self.alive[int(stream)]
        return (Error.cudaSuccess,)

    def cudaMemcpyAsync(  # noqa: N802
        self, target: int, source: int, size: int, kind: MemcpyKind, stream: Stream
    ) -> tuple[Any, ...]:
        device = target if kind is MemcpyKind.cudaMemcpyHostToDevice else source
        assert device in self.alive, "a copy to or from no memory of the GPU"
        self.do(stream, lambda: ctypes.memmove(target, source, size))
        return (Error.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        assert stream.recorded is None, "a recorded stream was waited for"
        return (Error.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: CaptureMode) -> tuple[Any, ...]:  # noqa: N802
        stream.recorded, stream.is_spoiled = [], False
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        recorded, stream.recorded = stream.recorded, None
        return (Error.NOT_RECORDED, None) if stream.is_spoiled else (Error.cudaSuccess, recorded)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:  # noqa: N802
        launched = tuple(graph)
        self.alive[id(launched)] = launched
        return Error.cudaSuccess, launched

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:  # noqa: N802
        return (Error.cudaSuccess,)

    def cudaGraphExecDestroy(self, launched: Any) -> tuple[Any, ...]:  # noqa: N802
        del self.alive[id(launched)]
        return (Error.cudaSuccess,)

    def cudaGraphLaunch(self, launched: Any, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        self.launched += 1
        for step in launched:
            step()
        return (Error.cudaSuccess,)

    def do(self, stream: Stream, step: Callable[[], Any]) -> None:
        """Do a step, or keep it if the stream is recorded."""
        if stream.recorded is not None:
            stream.recorded.append(step)
        else:
            step()


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2

    def __str__(self) -> str:
        return f"Severity.{self.name}"


class ILogger:
    """What TensorRT tells."""

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, text: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    """What TensorRT tells while it builds."""

    def __init__(self) -> None:
        pass

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 0


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 2


class ITimingCache:
    def __init__(self, image: bytes) -> None:
        self._image = image

    def serialize(self) -> bytes:
        return self._image + b"+"


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
        self._shapes[name] = (low, best, high)


class ITensor:
    def __init__(self, node: Any) -> None:
        self._node = node

    @property
    def name(self) -> str:
        return str(self._node.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(
            axis.dim_value if axis.HasField("dim_value") else -1
            for axis in self._node.type.tensor_type.shape.dim
        )


class INetworkDefinition:
    def __init__(self) -> None:
        self._model: Any = None

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    def get_input(self, place: int) -> ITensor:
        return ITensor(self._model.graph.input[place])


class IBuilderConfig:
    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self._tf32 = True
        self._profiles: list[IOptimizationProfile] = []
        self._timings: ITimingCache | None = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert pool is MemoryPoolType.WORKSPACE

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._tf32 = False

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, image: bytes) -> ITimingCache:
        return ITimingCache(image)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._timings = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timings


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text

    def node_name(self) -> str:
        return ""


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[ParserError] = []

    def parse_from_file(self, path: str) -> bool:
        try:
            self._network._model = onnx.load(path)
            onnx.checker.check_model(self._network._model)
        except Exception as exc:  # noqa: BLE001 - as TensorRT's parser, it tells whatever it was
            self._errors.append(ParserError(f"In parse: {exc}"))
            return False
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, number: int) -> ParserError:
        return self._errors[number]


class Builder:
    """Makes an engine of an ONNX model: the model and the sizes it is for."""

    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        StandInTensorRt.builds += 1
        open_inputs = [node.name for node in network._model.graph.input if -1 in ITensor(node).shape]
        profiles = [profile._shapes for profile in config._profiles]
        if open_inputs and not profiles:
            self._logger.log(
                Severity.ERROR, "Network has dynamic inputs, but no optimization profile is defined."
            )
            return None
        if StandInTensorRt.refuses:
            self._logger.log(
                Severity.INTERNAL_ERROR, "Error Code 10: could not find any implementation for node 7"
            )
            return None
        for step in range(10):
            if not config.progress_monitor.step_complete("Building", step):
                return None
        head = json.dumps(
            {"version": StandInTensorRt.__version__, "profile": profiles[0] if profiles else {}}
        )
        return head.encode() + b"\n" + bytes(network._model.SerializeToString())


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, image: bytes) -> ICudaEngine | None:
        head, _, model = bytes(image).partition(b"\n")
        about = json.loads(head)
        if about["version"] != StandInTensorRt.__version__:
            self._logger.log(Severity.ERROR, "The engine was built by another version.")
            return None
        return ICudaEngine(model, about["profile"])


class ICudaEngine:
    def __init__(self, model: bytes, profile: dict[str, Any]) -> None:
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._profile = profile
        self._nodes = {
            node.name: node for node in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._nodes)

    def get_tensor_name(self, place: int) -> str:
        return str(list(self._nodes)[place])

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}
        return kinds.get(self._nodes[name].type, DataType.INT32)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._nodes[name].shape)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        inputs = {node.name for node in self._session.get_inputs()}
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def create_execution_context(self) -> IExecutionContext | None:
        return None if StandInTensorRt.is_full else IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._profile.get(name, (shape, shape, shape))
        self._shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._places[name] = memory
        return memory in StandInTensorRt.cuda.alive

    def execute_async_v3(self, stream_handle: int) -> bool:
        stream = StandInTensorRt.cuda.streams[stream_handle]
        if stream.recorded is not None and not StandInTensorRt.can_be_recorded:
            stream.is_spoiled = True
            return False
        StandInTensorRt.cuda.do(stream, self._execute)
        return True

    def _execute(self) -> None:
        feeds = {name: _at(self._places[name], shape) for name, shape in self._shapes.items()}
        for node, answer in zip(
            self._engine._session.get_outputs(), self._engine._session.run(None, feeds), strict=True
        ):
            _at(self._places[node.name], answer.shape)[...] = answer


def _at(place: int, shape: tuple[int, ...]) -> Any:
    size = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * size).from_address(place)).reshape(shape)


class StandInTensorRt(ModuleType):
    """The module ``tensorrt``; what a test changes of it is set on the class and reset by :func:`install`."""

    __version__ = "11.4.0.106"
    builds: ClassVar[int] = 0
    refuses: ClassVar[bool] = False
    is_full: ClassVar[bool] = False
    can_be_recorded: ClassVar[bool] = True
    cuda: ClassVar[StandInCuda]


CLASSES = (
    ILogger,
    IProgressMonitor,
    NetworkDefinitionCreationFlag,
    MemoryPoolType,
    BuilderFlag,
    TensorIOMode,
    DataType,
    ITimingCache,
    IOptimizationProfile,
    ITensor,
    INetworkDefinition,
    IBuilderConfig,
    ParserError,
    OnnxParser,
    Builder,
    Runtime,
    ICudaEngine,
    IExecutionContext,
)


def install(modules: Any) -> StandInCuda:
    """Put both into a table of modules (``monkeypatch``), fresh."""
    StandInTensorRt.builds, StandInTensorRt.__version__ = 0, "11.4.0.106"
    StandInTensorRt.refuses = StandInTensorRt.is_full = False
    StandInTensorRt.can_be_recorded = True
    StandInTensorRt.cuda = StandInCuda()
    trt = StandInTensorRt("tensorrt")
    for kind in CLASSES:
        setattr(trt, kind.__name__, kind)
    package, bindings = ModuleType("cuda"), ModuleType("cuda.bindings")
    package.bindings = bindings  # type: ignore[attr-defined]
    bindings.runtime = StandInTensorRt.cuda  # type: ignore[attr-defined]
    for name, module in (
        ("tensorrt", trt),
        ("cuda", package),
        ("cuda.bindings", bindings),
        ("cuda.bindings.runtime", StandInTensorRt.cuda),
    ):
        modules.setitem(__import__("sys").modules, name, module)
    return StandInTensorRt.cuda


NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())["packages"]
