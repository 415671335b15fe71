"""What a model answers to many samples, asked in a process of its own; this module is its program too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.making import Progress
from edge_opcua.compress.measure.session import Arrays, Session
from edge_opcua.compress.task import Answers
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import Step, answer_with, ask_apart, tell
from edge_opcua.inference.onnxfile import inspect_file

BATCH: Final = 32
"""Samples of one run, where that changes nothing."""
SILENCE_S: Final = {"cpu": 120.0}
"""Longest time without a word from a process; others than these may build engines for minutes."""
LONG_SILENCE_S: Final = 1_800.0

# Their scale comes from the whole batch: what one sample is answered depends on its neighbours.
_OF_THE_BATCH: Final = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
_NEAR: Final = 1e-3
_TELL_NS: Final = 250_000_000


def answers_of(
    model: Path,
    rows: Path,
    out: Path,
    *,
    input_name: str,
    outputs: Sequence[str],
    provider: str = "cpu",
    progress: Progress | None = None,
) -> Answers:
    """Return what a model answers to each sample, and keep it in a file.

    Every sample is answered as if it were alone: in batches only where a first batch has shown that they
    change nothing. A model that crashes ends only the process that asks it.

    Args:
        model: Its ONNX file.
        rows: ``.npy`` of the samples, float32, shape ``(n, …)``.
        out: Where the answers are kept; there whole or not at all.
        input_name: Its one input.
        outputs: Names of the outputs that are looked at.
        provider: What shall run it, as the configuration calls it; nothing else does.
        progress: Gets the share that is done.

    Raises:
        ModelError: It cannot be loaded there (M510, M520, M521), does not take such samples (M504), lacks an
            output (M505), fails (M532, M610, M611), answers something that is not a number (M533), or an
            output does not count samples (M686).
    """

    def told(step: Step) -> None:
        if progress is not None:
            progress(float(step["share"]), f"{step['done']} of {step['count']} samples")

    request = {
        "model": str(model.resolve()),
        "rows": str(rows.resolve()),
        "out": str(out.resolve()),
        "input": input_name,
        "outputs": list(outputs),
        "provider": provider,
    }
    within_s = SILENCE_S.get(provider.lower(), LONG_SILENCE_S)
    ask_apart(__name__, request, within_s=within_s, progress=told, while_it_tells=True)
    return read_answers(out)


def read_answers(path: Path) -> Answers:
    """Return answers that :func:`answers_of` kept.

    Raises:
        ModelError: The file is none of those (M687).
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            return {str(name): found[f"output_{number}"] for number, name in enumerate(found["names"])}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as exc:
        raise ModelError(f"{path} does not hold answers of a model: {exc}", code="M687") from exc


def answer(request: Mapping[str, Any], clock: Clock | None = None) -> Step:
    """Ask a model in this process; see :func:`answers_of`.

    Args:
        request: ``model``, ``rows``, ``out``, ``input``, ``outputs``, ``provider``.
        clock: For what it tells meanwhile.

    Returns:
        ``batch``: samples of one run.
    """
    clock = clock or SystemClock()
    model, outputs = Path(request["model"]), list(request["outputs"])
    rows: Rows = np.load(request["rows"], mmap_mode="r", allow_pickle=False)
    session = Session(model, provider=request["provider"], input_name=request["input"], shape=rows.shape[1:])
    size = _batch(session, model, rows, outputs)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in outputs}
    told_ns = clock.monotonic_ns()
    for at in range(0, len(rows), size):
        for name, array in _asked(session, rows[at : at + size], size, outputs).items():
            _require_numbers(name, array, at)
            parts[name].append(array)
        if clock.monotonic_ns() - told_ns > _TELL_NS:
            told_ns = clock.monotonic_ns()
            done = min(at + size, len(rows))
            tell({"share": done / len(rows), "done": done, "count": len(rows)})
    _keep(Path(request["out"]), {name: np.concatenate(arrays) for name, arrays in parts.items()})
    return {"batch": size}


def _asked(session: Session, rows: Rows, size: int, outputs: Sequence[str]) -> Arrays:
    """Return the answers to at most ``size`` samples; a fixed batch is filled up with the last one."""
    count = len(rows)
    if not session.takes_any and count < size:
        rows = np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)])
    return {
        name: _per_sample(name, array, len(rows))[:count]
        for name, array in session.run(rows, outputs).items()
    }


def _per_sample(name: str, array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if array.shape[:1] == (count,):
        return array
    if count == 1:  # an answer to one sample that has no axis for samples
        return array[None]
    raise ModelError(
        f'output "{name}" has shape {array.shape} for {count} samples: it does not count samples', code="M686"
    )


def _batch(session: Session, model: Path, rows: Rows, outputs: Sequence[str]) -> int:
    """Return how many samples may be asked in one run so that each is answered as if it were alone."""
    if not session.takes_any:
        return session.batch
    operators = {operator for _, operator in inspect_file(model).operators}
    if len(rows) < 2 or operators & _OF_THE_BATCH:
        return 1
    first = rows[:BATCH]
    alone = [_asked(session, row, 1, outputs) for row in _each(first)]
    try:
        together = _asked(session, first, BATCH, outputs)
    except ModelError:  # an inner axis is fixed although that of the input is not
        return 1
    same = all(_is_near(np.concatenate([one[name] for one in alone]), together[name]) for name in outputs)
    return BATCH if same else 1


def _each(rows: Rows) -> Iterator[Rows]:
    for at in range(len(rows)):
        yield rows[at : at + 1]


def _is_near(alone: npt.NDArray[Any], together: npt.NDArray[Any]) -> bool:
    if alone.shape != together.shape:
        return False
    if alone.dtype.kind != "f":
        return bool(np.array_equal(alone, together))
    wide = np.asarray(alone, np.float64)
    spread = float(np.abs(wide).max(initial=0.0))
    return bool(np.allclose(wide, together, rtol=0.0, atol=_NEAR * spread, equal_nan=True))


def _require_numbers(name: str, array: npt.NDArray[Any], at: int) -> None:
    if array.dtype.kind != "f":
        return
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    if bad.size:
        raise ModelError(
            f'output "{name}" is not a number for sample {at + int(bad[0]) + 1} of the data', code="M533"
        )


def _keep(path: Path, answers: Arrays) -> None:
    part = path.with_name(f".{path.name}.part")
    arrays = {f"output_{number}": array for number, array in enumerate(answers.values())}
    try:
        with part.open("wb") as stream:
            np.savez(stream, names=np.array(list(answers), np.str_), **arrays)  # type: ignore[arg-type]
        part.replace(path)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise ModelError(f"{path} cannot be written: {exc.strerror or exc}; make room", code="M681") from exc


if __name__ == "__main__":
    answer_with(answer)
