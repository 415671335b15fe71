"""Runs any ONNX model on one provider of this machine and says how fast it is; a program of its own.

No manifest is needed: open axes are taken as 1, or as they are given. It is run by
:func:`edge_opcua.inference.apart.ask_apart`, for a model may end the process that loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import Step, answer_with, tell
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.backends.ortoptions import PROVIDERS, OnnxRuntimeOptions
from edge_opcua.inference.backends.ortsession import Wish, load_onnxruntime, open_session
from edge_opcua.inference.loaded import LoadedModel
from edge_opcua.inference.measure import measure, quantiles_us
from edge_opcua.inference.memory import MB, resident_bytes
from edge_opcua.inference.probe import sentence

MOST_BATCH: Final = 32
MOST_INPUT_VALUES: Final = 100_000_000
_RUNS: Final = 200
_LEAST_RUNS: Final = 5
_RUNS_NS: Final = 500_000_000
_WARM_UP_RUNS: Final = 5
_WARM_UP_NS: Final = 200_000_000
_TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def try_out(request: Mapping[str, Any], clock: Clock | None = None) -> Step:
    """Load a model and run it.

    Args:
        request: ``path``, ``provider``, ``load_s``, and ``shapes`` by input where open axes are not 1.
        clock: For what it takes.

    Returns:
        ``provider``, ``runtime``, ``load_ms``, ``memory_mb``, ``p50_us``, ``p99_us``, ``batches`` (median by
        number of samples), ``most``, ``inputs`` and ``outputs`` as they are, ``served`` and ``why_not``:
        whether this server can serve it as it is.

    Raises:
        ModelError: It cannot be loaded or run.
    """
    clock = clock or SystemClock()
    wish = _wish(request)
    before = resident_bytes()
    started_ns = clock.monotonic_ns()
    session = open_session(wish)
    load_ms = (clock.monotonic_ns() - started_ns) / 1e6
    tell({"step": "loaded", "provider": wish.provider, "load_ms": load_ms})
    feeds = {node.name: _fed(node, request.get("shapes", {})) for node in session.get_inputs()}
    found, times_ns = _run(session, feeds, clock)
    p50_us, p99_us = quantiles_us(times_ns)
    found_here: Step = {
        "provider": wish.provider,
        "runtime": f"onnxruntime {wish.ort.__version__}",
        "load_ms": load_ms,
        "inputs": {name: _described(array) for name, array in feeds.items()},
        "outputs": found,
        "p50_us": p50_us,
        "p99_us": p99_us,
        "batches": {"1": p50_us},
        "most": 1,
    }
    found_here |= _as_served(request, feeds, clock)
    return found_here | {"memory_mb": round(max(0, resident_bytes() - before) / MB, 1)}


def answer(request: Mapping[str, Any]) -> Step:
    """Try a model, or return its answers to the ``rows`` of a request, one run each (:func:`try_out`)."""
    return answer_rows(request) if "rows" in request else try_out(request)


def answer_rows(request: Mapping[str, Any]) -> Step:
    """Return what a model answers to some rows.

    Args:
        request: ``path``, ``provider``, ``load_s``, the name of its ``input``, the ``shape`` of one sample,
            and ``rows``.

    Returns:
        ``answers``: by output a row of numbers for each row.

    Raises:
        ModelError: It cannot be loaded or run, or answers something that is not a number (M533).
    """
    session = open_session(_wish(request))
    names = [node.name for node in session.get_outputs() if node.type == "tensor(float)"]
    answers: dict[str, list[list[float]]] = {name: [] for name in names}
    for row in request["rows"]:
        sample = np.array(row, np.float32).reshape(request["shape"])
        try:
            found = session.run(names, {request["input"]: sample})
        except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
            raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc
        for name, array in zip(names, found, strict=True):
            if not np.isfinite(array).all():
                raise ModelError(f'output "{name}" is not a number for one of the rows', code="M533")
            answers[name].append([float(each) for each in array.reshape(-1)])
    return {"answers": answers}


def _wish(request: Mapping[str, Any]) -> Wish:
    provider = str(request["provider"])
    return Wish(
        load_onnxruntime(),
        Path(request["path"]),
        PROVIDERS.get(provider.lower(), provider),
        {},
        OnnxRuntimeOptions(),
        load_s=float(request["load_s"]),
    )


def _fed(node: Any, shapes: Mapping[str, Sequence[int]]) -> npt.NDArray[Any]:
    """Return something to feed an input with."""
    kind = _TYPES.get(node.type)
    if kind is None:
        raise ModelError(f'input "{node.name}" is {node.type}, which cannot be made up', code="M612")
    declared = tuple(node.shape)
    shape = tuple(shapes.get(node.name, ())) or tuple(
        size if isinstance(size, int) else 1 for size in declared
    )
    if np.prod(shape, dtype=np.float64) > MOST_INPUT_VALUES:
        raise ModelError(f'input "{node.name}" holds more than {MOST_INPUT_VALUES} values', code="M612")
    if kind is np.object_:
        return np.full(shape, "", dtype=object)
    if not np.issubdtype(kind, np.floating):
        return np.zeros(shape, kind)  # indices and categories: 0 is one of them
    return np.random.default_rng(7).uniform(-1.0, 1.0, shape).astype(kind)


def _run(
    session: Any, feeds: Mapping[str, npt.NDArray[Any]], clock: Clock
) -> tuple[dict[str, Step], list[int]]:
    """Return what came out, and how long runs took after the first ones."""
    try:
        outputs = session.run(None, dict(feeds))
        began_ns = clock.monotonic_ns()
        for _ in range(_WARM_UP_RUNS):
            session.run(None, dict(feeds))
            if clock.monotonic_ns() - began_ns > _WARM_UP_NS:
                break
        times_ns: list[int] = []
        began_ns = before_ns = clock.monotonic_ns()
        while len(times_ns) < _RUNS:
            session.run(None, dict(feeds))
            now_ns = clock.monotonic_ns()
            times_ns.append(now_ns - before_ns)
            before_ns = now_ns
            if len(times_ns) >= _LEAST_RUNS and now_ns - began_ns > _RUNS_NS:
                break
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc
    names = [node.name for node in session.get_outputs()]
    return {name: _described(found) for name, found in zip(names, outputs, strict=True)}, times_ns


def _described(found: Any) -> Step:
    if not isinstance(found, np.ndarray):
        return {"kind": type(found).__name__, "shape": None, "finite": True}
    finite = bool(np.isfinite(found).all()) if np.issubdtype(found.dtype, np.floating) else True
    return {"kind": str(found.dtype), "shape": list(found.shape), "finite": finite}


def _as_served(request: Mapping[str, Any], feeds: Mapping[str, npt.NDArray[Any]], clock: Clock) -> Step:
    """Return what a lane would measure, on buffers that are bound once; or why no lane can have it."""
    if len(feeds) != 1:
        return {"served": False, "why_not": f"it has {len(feeds)} inputs; one is fed"}
    (name, array), *_ = feeds.items()
    shape = (1, *array.shape[1:])
    try:
        backend = OnnxRuntimeBackend.load(
            Path(request["path"]),
            provider=str(request["provider"]),
            input_shapes={name: shape},
            load_s=float(request["load_s"]),
        )
        model = LoadedModel("model", backend, name, int(np.prod(shape)))
        times_ns = measure(model, clock, MOST_BATCH)
    except ModelError as exc:
        return {"served": False, "why_not": str(exc), "code": exc.code}
    p50_us, p99_us = quantiles_us(times_ns[1])
    medians = {str(batch): quantiles_us(taken)[0] for batch, taken in times_ns.items()}
    return {"served": True, "why_not": "", "p50_us": p50_us, "p99_us": p99_us, "most": backend.most} | {
        "batches": medians,
        "load_ms": float(backend.describe()["load_ms"]),
    }


if __name__ == "__main__":
    answer_with(answer)
