"""What the configuration may say to ONNX Runtime, and the settings of a session that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from edge_opcua.errors import ModelError
from edge_opcua.inference.probe import CPU

CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
OPENVINO: Final = "OpenVINOExecutionProvider"
TENSORRT_RTX: Final = "NvTensorRTRTXExecutionProvider"

PROVIDERS: Final = MappingProxyType(
    {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT, "openvino": OPENVINO, "tensorrt_rtx": TENSORRT_RTX}
)
"""Our names of the execution providers; the provider's own name is taken too."""

MOST_PROFILED: Final = 64
"""Samples of one run at most where an engine is built for a range of sizes; a wider one is slower."""

_LOG_ERRORS_ONLY: Final = 3
_FOREIGN_CODE: Final = frozenset({"trt_extra_plugin_lib_paths", "backend_path", "custom_ops_library"})
_NEEDS_DEVICE_BUFFERS: Final = frozenset(
    {"enable_cuda_graph", "trt_cuda_graph_enable", "user_compute_stream"}
)

Setting: TypeAlias = str | bool | int | float


class OnnxRuntimeOptions(BaseModel):
    """Options of the backend `onnxruntime`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description="Threads of one run. More than one makes a large model faster on processors that nothing "
        "else uses, and slower beside other work; a safety lane has one.",
    )
    spinning: bool = Field(
        default=False,
        description="Whether these threads wait for the next run without giving their processor back: some "
        "per cent faster, and the processor is always busy.",
    )
    arena: bool = Field(
        default=True,
        description="Whether memory that a run has needed is kept for the next one. Without, the process is "
        "smaller and each run asks the system for memory.",
    )
    optimized: bool = Field(
        default=False,
        description="Whether the optimised graph is kept and loaded next time. Look at `load_ms` before and "
        "after: quantised models load a quarter faster, most others slower. Only on `cpu`.",
    )
    device: str = Field(
        default="",
        pattern="^((cpu|gpu|npu)(:[0-9]{1,2})?)?$",
        description="Device of the provider where it has several: `cpu`, `gpu`, `npu`, or with a number, "
        '`"gpu:1"`.',
    )
    rest_on_cpu: bool = Field(
        default=False,
        description="Whether nodes that the provider does not know may run on the processor. Without, such a "
        "model is refused; with it, `status` shows the share of nodes on the provider.",
    )
    provider_options: dict[str, Setting] = Field(
        default={}, description="Options of the execution provider by its own names, over what we set."
    )

    @field_validator("provider_options")
    @classmethod
    def _harmless(cls, value: dict[str, Setting]) -> dict[str, Setting]:
        for name in value:
            if name in _FOREIGN_CODE:
                raise ValueError(f"{name} would load foreign code")
            if name in _NEEDS_DEVICE_BUFFERS:
                raise ValueError(f'{name} needs buffers on the device; the backend "tensorrt" has them')
        return value

    @property
    def device_number(self) -> int:
        """Number of the device of its kind; 0 if none is given."""
        return int(self.device.partition(":")[2] or 0)


def checked(options: Mapping[str, Any] | None) -> OnnxRuntimeOptions:
    """Return the options of a pipeline; ModelError M560 if they do not fit."""
    try:
        return OnnxRuntimeOptions.model_validate(dict(options or {}))
    except ValidationError as exc:
        error = exc.errors()[0]
        where = ".".join(map(str, ("options", *error["loc"])))
        raise ModelError(f"{where}: {error['msg'].removeprefix('Value error, ')}", code="M560") from exc


def session_options(ort: Any, options: OnnxRuntimeOptions, provider: str) -> Any:
    """Return the settings of a session that runs on this provider and no other."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = options.threads
    made.inter_op_num_threads = 1
    made.enable_cpu_mem_arena = options.arena
    made.log_severity_level = _LOG_ERRORS_ONLY
    spinning = "1" if options.spinning else "0"
    entries = {
        "session.intra_op.allow_spinning": spinning,
        "session.inter_op.allow_spinning": spinning,
        "session.set_denormal_as_zero": "1",
    }
    if options.rest_on_cpu:
        entries["session.record_ep_graph_assignment_info"] = "1"  # the share of nodes is counted by it
    elif provider != CPU:
        # Otherwise a missing library or an unsupported node silently moves to the CPU.
        entries["session.disable_cpu_ep_fallback"] = "1"
    for key, value in entries.items():
        made.add_session_config_entry(key, value)
    return made


def provider_settings(
    options: OnnxRuntimeOptions, provider: str, shapes: Mapping[str, tuple[int, ...]], cache: Path | None
) -> dict[str, str]:
    """Return what a provider is told: what we know to be right for it, and over it what the pipeline says.

    Args:
        options: Options of the pipeline.
        provider: ONNX Runtime's name of it.
        shapes: Shape of each input for one sample, if the first axis of the model is open; else empty.
        cache: Folder for its engines; None keeps none.
    """
    found: dict[str, Setting] = {}
    if provider in {CUDA, TENSORRT}:
        found["device_id"] = options.device_number
    if provider == CUDA:
        # The answers shall be those of the trainer, and what is left of the card belongs to others.
        found |= {
            "use_tf32": 0,
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        }
    if provider == TENSORRT:
        found |= _engines(cache) if cache is not None else {}
        found |= _profiles(shapes)
    return {name: _spelled(value) for name, value in (found | options.provider_options).items()}


def _engines(cache: Path) -> dict[str, Setting]:
    """TensorRT's engines take minutes to build: they are kept."""
    folder = str(cache)
    return {
        "trt_engine_cache_enable": 1,
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": 1,
        "trt_timing_cache_path": folder,
    }


def _profiles(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Setting]:
    """One range of sizes for all batches; outside of it, an engine would be built in the middle of a run."""
    if not shapes:
        return {}

    def spelled(batch: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (batch, *shape[1:])))}" for name, shape in shapes.items())

    return {
        "trt_profile_min_shapes": spelled(1),
        "trt_profile_opt_shapes": spelled(8),
        "trt_profile_max_shapes": spelled(MOST_PROFILED),
    }


def _spelled(value: Setting) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
