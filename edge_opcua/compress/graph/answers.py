"""What a graph computes on the way, for samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph.files import onnx_package
from edge_opcua.compress.graph.structure import input_shape, shapes
from edge_opcua.errors import ModelError

Array = npt.NDArray[Any]

BATCH: Final = 32
_MOST_BYTES: Final = 256 * 2**20
_ERRORS_ONLY: Final = 3


def activations(model: Any, names: Sequence[str], rows: Rows, *, threads: int = 1) -> dict[str, Array]:
    """Return what the graph computes at some places.

    Args:
        model: The ``onnx.ModelProto``.
        names: Values of the graph: outputs of nodes, or the input itself.
        rows: Samples, shape ``(n, …)``.
        threads: Threads; with another number the last bits may differ.

    Returns:
        By name, shape ``(n, …)``.

    Raises:
        ModelError: ONNX Runtime is not installed (M607) or cannot run it (M510).
    """
    found: dict[str, list[Array]] = {name: [] for name in names}
    for batch in batches_of_activations(model, names, rows, threads=threads):
        for name, array in batch.items():
            found[name].append(array)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def batches_of_activations(
    model: Any, names: Sequence[str], rows: Rows, *, threads: int = 1, batch: int = BATCH
) -> Iterator[dict[str, Array]]:
    """Yield the same some samples at a time, for what would not fit into memory at once.

    Args:
        model: The ``onnx.ModelProto``.
        names: Values of the graph.
        rows: Samples, shape ``(n, …)``.
        threads: Threads.
        batch: Samples at a time, where the model does not fix their number; fewer if they are large.

    Raises:
        ModelError: As :func:`activations`.
    """
    input_name, shape = input_shape(model)
    wanted = [name for name in dict.fromkeys(names) if name != input_name]
    size = (shape[0] if shape else None) or max(1, min(batch, _MOST_BYTES // _bytes(model, wanted)))
    fixed = bool(shape and shape[0])
    session = _session(model, wanted, threads) if wanted else None
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        fed = _filled(part, size) if fixed else part
        try:
            answers = session.run(wanted, {input_name: fed}) if session is not None else []
        except Exception as exc:
            raise ModelError(f"the model cannot run: {_first_line(exc)}", code="M510") from exc
        yield {
            name: part if name == input_name else answers[wanted.index(name)][: len(part)] for name in names
        }


def _bytes(model: Any, names: Sequence[str]) -> int:
    """Return about how many bytes these values of one sample are, 1 at least."""
    known = shapes(model)
    return 1 + 4 * sum(math.prod(length or 1 for length in known.get(name, ())[1:]) for name in names)


def _filled(part: Rows, size: int) -> Rows:
    """Return a full batch: the last sample stands where there is none."""
    missing = size - len(part)
    return part if not missing else np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])


def _session(model: Any, wanted: Sequence[str], threads: int) -> Any:
    """Return a session that computes these values and nothing that they do not need."""
    onnx = onnx_package()
    part = onnx.ModelProto()
    part.CopyFrom(model)
    known = {value.name: value for value in (*part.graph.value_info, *part.graph.output)}
    outputs = [known.get(name, onnx.ValueInfoProto(name=name)) for name in wanted]
    del part.graph.output[:]
    part.graph.output.extend(outputs)
    return session_of(part, threads)


def session_of(model: Any, threads: int = 1) -> Any:
    """Return an ONNX Runtime session of a model, on the processor and quiet.

    Raises:
        ModelError: ONNX Runtime is not installed (M607) or refuses the model (M510).
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise ModelError(
            'ONNX Runtime is not installed: pip install "edge-opcua[cpu,compress]"', code="M607"
        ) from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as exc:
        raise ModelError(f"the model cannot be loaded: {_first_line(exc)}", code="M510") from exc


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0]
