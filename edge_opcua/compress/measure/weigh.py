"""What a model takes alone in a process of its own: memory and size; this module is its program too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_opcua.compress.measure.answers import LONG_SILENCE_S, SILENCE_S
from edge_opcua.compress.measure.session import Session, settle
from edge_opcua.errors import ModelError
from edge_opcua.inference.apart import Step, answer_with, ask_apart
from edge_opcua.inference.memory import MB, resident_bytes
from edge_opcua.inference.onnxfile import inspect_file, require_inside
from edge_opcua.inference.probe import sentence

_RUNS: Final = 10


@dataclass(frozen=True, slots=True)
class Weight:
    """What a model takes by itself.

    Args:
        memory_mb: What a process grows by that loads it and runs it, MB (2**20 bytes) of main memory; what
            the runtime takes for any model is not in it, nor is the memory of a card.
        size_bytes: Size of its file, with the files that it keeps weights in.
    """

    memory_mb: float
    size_bytes: int


def weigh(model: Path, rows: Path, *, input_name: str, provider: str = "cpu", threads: int = 1) -> Weight:
    """Return what a model takes by itself.

    Args:
        model: Its ONNX file.
        rows: ``.npy`` of samples, float32, shape ``(n, …)``; the first is run.
        input_name: Its one input.
        provider: What shall run it; nothing else does.
        threads: Threads of one run.

    Raises:
        ModelError: As :func:`edge_opcua.compress.measure.answers.answers_of`.
    """
    request = {
        "model": str(model.resolve()),
        "rows": str(rows.resolve()),
        "input": input_name,
        "provider": provider,
        "threads": threads,
    }
    found = ask_apart(__name__, request, within_s=SILENCE_S.get(provider.lower(), LONG_SILENCE_S))
    return Weight(float(found["memory_mb"]), size_of(model))


def size_of(model: Path) -> int:
    """Return the size of a model, with the files that it keeps weights in, in bytes."""
    inside = [require_inside(model.parent, name) for name in inspect_file(model).external]
    return sum(path.stat().st_size for path in (model, *inside))


def answer(request: Mapping[str, Any]) -> Step:
    """Load and run a model in this process; see :func:`weigh`."""
    rows = np.load(request["rows"], mmap_mode="r", allow_pickle=False)
    sample = np.array(rows[0])
    settle(request["provider"])
    before = resident_bytes()
    session = Session(
        Path(request["model"]),
        provider=request["provider"],
        input_name=request["input"],
        shape=sample.shape,
        threads=int(request["threads"]),
    )
    bound = session.bound()
    bound.feed(sample)
    try:
        for _ in range(_RUNS):
            bound.run()
    except Exception as exc:  # third-party boundary: its exceptions share no base class of their own
        raise ModelError(f"the model failed: {sentence(exc)}", code="M532") from exc
    return {"memory_mb": max(0, resident_bytes() - before) / MB}


if __name__ == "__main__":
    answer_with(answer)
