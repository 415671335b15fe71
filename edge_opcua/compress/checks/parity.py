"""Holds an exported model against what the framework answered that it comes from; a program of its own.

An export that answers differently is found here, before it is made smaller and before it is served: the
exporters of some frameworks disagree with their own models. Run by :mod:`edge_opcua.compress.checks.look`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.samples.archive import read_arrays
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import Step, answer_with
from edge_opcua.inference.probe import sentence

RTOL: Final = 1e-3
ATOL: Final = 1e-4
"""float32 in another order of sums; answers of a whole network differ by no more."""
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the answers are from those of the framework.

    Args:
        samples: How many were compared.
        output: Name of the output that is farthest off.
        farthest: Largest difference, in multiples of what is allowed; at most 1 is equal.
        difference: Largest difference, in the unit of the output.
        sample: Number of the sample with it, from 1.
        found: What the model answered there.
        wanted: What the framework had answered.
    """

    samples: int
    output: str
    farthest: float
    difference: float
    sample: int
    found: float
    wanted: float

    @property
    def is_equal(self) -> bool:
        """Whether the model answers what the framework did."""
        return self.farthest <= 1.0


def compare(found: Arrays, wanted: Arrays, *, rtol: float = RTOL, atol: float = ATOL) -> Parity:
    """Return the output, sample and number that is farthest from what it should be.

    Args:
        found: What the model answered, by output, shape ``(n, …)``.
        wanted: What the framework answered, at least one output; others are not looked at.
        rtol: Difference that is allowed, as a share of the number.
        atol: The same, in the unit of the output.

    Raises:
        ModelError: An output has another shape, or none (M697).
    """
    worst: Parity | None = None
    for name, right in wanted.items():
        answered = np.asarray(found[name], np.float64)
        if answered.size != right.size or len(answered) != len(right):
            raise ModelError(
                f'output "{name}" has shape {answered.shape}, the framework gave {right.shape}', code="M697"
            )
        told = np.asarray(right, np.float64).reshape(len(right), -1)
        rows = answered.reshape(told.shape)
        off = np.abs(rows - told)
        off[np.isnan(rows) & np.isnan(told)] = 0.0
        allowed = atol + rtol * np.abs(np.nan_to_num(told))
        relative = np.where(np.isfinite(off), off / allowed, np.inf)
        if not relative.size:
            raise ModelError(f'output "{name}" of the framework holds nothing', code="M697")
        row, column = np.unravel_index(int(np.argmax(relative)), relative.shape)
        if worst is None or relative[row, column] > worst.farthest:
            worst = Parity(
                len(told), name, float(relative[row, column]), float(off[row, column]), int(row) + 1,
                float(rows[row, column]), float(told[row, column]),
            )  # fmt: skip
    assert worst is not None
    return worst


def answer(request: Mapping[str, Any]) -> Step:
    """Run a model on the framework's inputs and compare.

    Args:
        request: ``path`` of the model and ``reference``, an npz file with arrays named like the inputs and
            outputs, the samples along their first axis.

    Raises:
        ModelError: The file cannot be read or does not fit (M697), or the model cannot be run (M532).
    """
    import onnxruntime as ort

    arrays = read_arrays(Path(request["reference"]), code="M697")
    try:
        session = ort.InferenceSession(str(request["path"]), providers=["CPUExecutionProvider"])
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        raise ModelError(f"the model cannot be loaded: {sentence(exc)}", code="M532") from exc
    inputs = [node.name for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise ModelError(
            f'the reference has no "{missing[0]}"; it has {", ".join(arrays)}, the model wants '
            f"{', '.join(inputs)} and answers {', '.join(outputs)}",
            code="M697",
        )
    wanted = {name: arrays[name] for name in outputs if name in arrays}
    if not wanted:
        raise ModelError(f"the reference names no output of the model: {', '.join(outputs)}", code="M697")
    lengths = {len(arrays[name]) for name in (*inputs, *wanted)}
    if len(lengths) != 1:
        raise ModelError(f"its arrays hold {' and '.join(map(str, sorted(lengths)))} samples", code="M697")
    kinds = {node.name: _numpy_kind(node.type) for node in session.get_inputs()}
    feeds = {name: arrays[name].astype(kinds[name], copy=False) for name in inputs}
    return asdict(compare(_run(session, feeds, list(wanted)), wanted))


def _numpy_kind(declared: str) -> str:
    return {"tensor(float)": "float32", "tensor(double)": "float64"}.get(declared, declared[7:-1])


def _run(session: Any, feeds: Arrays, outputs: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the answers to all samples, one run each: a batch may be answered otherwise, or not at all."""
    rows: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in outputs}
    try:
        for number in range(len(next(iter(feeds.values())))):
            found = session.run(outputs, {name: feed[number : number + 1] for name, feed in feeds.items()})
            for name, answered in zip(outputs, found, strict=True):
                rows[name].append(np.asarray(answered).reshape(1, -1))
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc
    return {name: np.concatenate(found) for name, found in rows.items()}


if __name__ == "__main__":
    answer_with(answer)
