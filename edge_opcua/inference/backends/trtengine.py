"""Builds TensorRT engines from ONNX, strongly typed, and keeps them under everything that they depend on.

TensorRT 10 and 11 are served by the same calls. An engine computes in the types that the model has: INT8 is
explicit QuantizeLinear and DequantizeLinear nodes, FP16 is float16 tensors; TensorRT itself lowers nothing.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_opcua.core.clock import Clock
from edge_opcua.errors import ModelError
from edge_opcua.inference.backends import kept
from edge_opcua.inference.backends.cuda import Cuda
from edge_opcua.inference.backends.layout import FLOAT32, Port
from edge_opcua.inference.probe import sentence

_ERROR: Final = "ERROR"


class TensorRtOptions(BaseModel):
    """Options of the backend `tensorrt`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(default="gpu", pattern="^gpu(:[0-9]{1,2})?$", description='GPU, e.g. `"gpu:1"`.')
    most: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=32, description="Samples of one run at most, of a model whose first axis is open."
    )
    best: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=8, description="Samples of one run for which the engine is made fastest; at most `most`."
    )
    workspace_mb: Annotated[int, Field(ge=1, le=65536)] = Field(
        default=1024,
        description="Memory (MB) of the GPU that building and running may use beside the weights.",
    )
    effort: Annotated[int, Field(ge=0, le=5)] = Field(
        default=3, description="How long TensorRT looks for the fastest kernels, 0 to 5."
    )
    tf32: bool = Field(
        default=False,
        description="Whether float32 may be rounded to 10 bits of mantissa: faster, less exact.",
    )
    cuda_graph: bool = Field(
        default=True,
        description="Whether copies and kernels of a run are recorded and launched as one, where the model "
        "allows it.",
    )
    urgent: bool = Field(
        default=False,
        description="Whether its runs go before those of other pipelines that wait for the GPU.",
    )
    spinning: bool = Field(
        default=False, description="Whether a thread that waits for the GPU keeps its processor busy."
    )

    @property
    def number(self) -> int:
        """Number of the GPU."""
        return int(self.device.partition(":")[2] or 0)


def checked(options: Mapping[str, Any] | None) -> TensorRtOptions:
    """Return the options of a pipeline; ModelError M560 if they do not fit."""
    try:
        return TensorRtOptions.model_validate(dict(options or {}))
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(map(str, ("options", *error["loc"])))
        raise ModelError(f"{where}: {error['msg']}", code="M560") from exc


@dataclass(frozen=True, slots=True)
class Plan:
    """What an engine is made of.

    Args:
        trt: The module ``tensorrt``.
        cuda: The GPU.
        path: The ONNX file.
        shapes: Shape of each input for one sample.
        options: Options of the pipeline.
        cache: Folder for engines; None keeps none.
        clock: For the time to build.
        load_s: Longest time to build (s); None: as long as it takes.
    """

    trt: Any
    cuda: Cuda
    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    options: TensorRtOptions
    clock: Clock
    cache: Path | None = None
    load_s: float | None = None

    @property
    def machine(self) -> dict[str, object]:
        """Everything of this machine that an engine depends on."""
        return {
            "tensorrt": self.trt.__version__,
            "gpu": self.cuda.name(),
            "driver": f"{self.cuda.driver()} {kept.nvidia()}",
        }

    @property
    def facts(self) -> dict[str, object]:
        """Everything that an engine depends on."""
        wanted = self.options.model_dump(include={"most", "best", "workspace_mb", "effort", "tf32"})
        return {"model": kept.digest_of(self.path), "shapes": self.shapes, **wanted, **self.machine}


def load_tensorrt() -> Any:
    """Import TensorRT; ModelError M562 if it or its libraries are not there."""
    try:
        import tensorrt
    except (ImportError, OSError) as exc:
        raise ModelError(
            f"TensorRT cannot be imported ({sentence(exc)}); install the extra tensorrt", code="M562"
        ) from exc
    return tensorrt


def engine_for(plan: Plan) -> Any:
    """Return the engine of a model: a kept one that was made for exactly this, else a new one.

    Raises:
        ModelError: The model cannot be read (M510), no engine can be built from it (M563), or not in time
            (M561).
    """
    journal = _journal(plan.trt)
    runtime = _runtime(plan.trt, journal)
    place = None if plan.cache is None else kept.kept(plan.cache, "engine", plan.facts, ".engine")
    image = None if place is None else kept.recall(place)
    if image is not None:
        engine = runtime.deserialize_cuda_engine(image)
        if engine is not None:
            return engine
    built = _build(plan, journal)
    engine = runtime.deserialize_cuda_engine(built)
    if engine is None:
        raise ModelError(f"the engine of {plan.path.name} cannot be loaded: {journal.last()}", code="M563")
    if place is not None:
        _keep(place, built)
    return engine


def runtime_for(trt: Any) -> Any:
    """Return what loads engines; ModelError M521 if TensorRT finds no GPU that it can use."""
    return _runtime(trt, _journal(trt))


def _runtime(trt: Any, journal: Any) -> Any:
    try:
        return trt.Runtime(journal)
    except TypeError as exc:  # what its Python package makes of nothing: the reason is in the log alone
        raise ModelError(f"TensorRT cannot be used here: {journal.last()}", code="M521") from exc


def ports(trt: Any, engine: Any) -> tuple[list[Port], list[Port]]:
    """Return the inputs and the outputs of an engine."""
    found: tuple[list[Port], list[Port]] = ([], [])
    for place in range(engine.num_io_tensors):
        name = engine.get_tensor_name(place)
        kind = engine.get_tensor_dtype(name)
        shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        spelled = FLOAT32 if kind == trt.DataType.FLOAT else str(kind).rpartition(".")[2].lower()
        found[engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT].append(Port(name, spelled, shape))
    return found


def _build(plan: Plan, journal: Any) -> Any:
    trt = plan.trt
    builder = trt.Builder(journal)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, journal)
    if not parser.parse_from_file(str(plan.path)):
        raise ModelError(f"{plan.path.name} cannot be loaded: {_why(parser, journal)}", code="M510")
    config = builder.create_builder_config()
    config.builder_optimization_level = plan.options.effort
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, plan.options.workspace_mb << 20)
    if not plan.options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    _add_profile(plan, builder, network, config)
    timings = _timings(plan, config)
    deadline = _deadline(plan)
    config.progress_monitor = deadline
    built = builder.build_serialized_network(network, config)
    if built is None:
        if deadline.expired:
            raise ModelError(f"{plan.path.name} was not built within {plan.load_s:g} s", code="M561")
        raise ModelError(f"no engine can be built from {plan.path.name}: {journal.last()}", code="M563")
    if timings is not None:
        _keep(timings, config.get_timing_cache().serialize())
    return built


def _add_profile(plan: Plan, builder: Any, network: Any, config: Any) -> None:
    """Let one profile cover all batches, where the first axis is open."""
    profile = builder.create_optimization_profile()
    is_open = False
    for place in range(network.num_inputs):
        node = network.get_input(place)
        shape = plan.shapes.get(node.name)
        if shape is None or -1 not in tuple(node.shape):
            continue  # what the manifest does not know is told later
        is_open = True
        counts = (1, 1, 1)
        if node.shape[0] == -1:
            counts = (1, min(plan.options.best, plan.options.most), plan.options.most)
        profile.set_shape(node.name, *((count, *shape[1:]) for count in counts))
    if is_open:
        config.add_optimization_profile(profile)


def _timings(plan: Plan, config: Any) -> Path | None:
    """Give the builder what earlier builds on this GPU have measured; return where that is kept."""
    if plan.cache is None:
        return None
    place = kept.kept(plan.cache, "timings", plan.machine, ".cache")
    config.set_timing_cache(config.create_timing_cache(kept.recall(place) or b""), False)  # noqa: FBT003 - not ours
    return place


def _keep(place: Path, image: Any) -> None:
    try:
        kept.keep(place, memoryview(image))
    except OSError:
        return  # the cache saves time; without it everything runs as well


def _why(parser: Any, journal: Any) -> str:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    texts = [f"{error.desc()} ({error.node_name() or 'the graph'})" for error in errors]
    return sentence(ValueError(texts[0])) if texts else str(journal.last())


def _journal(trt: Any) -> Any:
    """Return a logger of TensorRT that keeps its errors: calls return None and tell why only there."""

    class Journal(trt.ILogger):  # type: ignore[misc]  # a class of TensorRT
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: collections.deque[str] = collections.deque(maxlen=8)

        def log(self, severity: Any, text: str) -> None:
            if str(severity).endswith(_ERROR):
                self.errors.append(text)

        def last(self) -> str:
            return sentence(ValueError(self.errors[0])) if self.errors else "TensorRT does not say why"

    return Journal()


def _deadline(plan: Plan) -> Any:
    """Return a monitor of TensorRT that ends a build which takes longer than it may."""
    until_s = None if plan.load_s is None else plan.clock.monotonic_s() + plan.load_s

    class Deadline(plan.trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # a class of TensorRT
        def __init__(self) -> None:
            plan.trt.IProgressMonitor.__init__(self)
            self.expired = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Nothing to do."""

        def phase_finish(self, phase_name: str) -> None:
            """Nothing to do."""

        def step_complete(self, phase_name: str, step: int) -> bool:  # noqa: ARG002 - names of TensorRT
            self.expired = until_s is not None and plan.clock.monotonic_s() > until_s
            return not self.expired

    return Deadline()


def opened(shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return shapes as they are compared and kept."""
    return {name: tuple(shape) for name, shape in sorted(shapes.items())}
