"""Whether a quantised model runs, and how much it adds to the answers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import activations
from edge_opcua.errors import ModelError

_TRIED: Final = 32
_SILENCE_DB: Final = 200.0


def require_running(model: Any, made: Any, rows: Rows) -> dict[str, float]:
    """Return by output how much louder the answers are than what the variant adds to them, in dB.

    Args:
        model: In float.
        made: What became of it.
        rows: Samples; some are tried.

    Raises:
        ModelError: The variant does not run, or answers what is no number (M680).
    """
    names = [output.name for output in model.graph.output]
    some = rows[:_TRIED]
    right = activations(model, names, some)
    try:
        answers = activations(made, names, some)
    except ModelError as exc:
        raise ModelError(f"what came of it does not run: {exc}", code="M680") from exc
    found = {}
    for name in names:
        if right[name].dtype.kind != "f":
            continue
        if not np.isfinite(answers[name]).all():
            raise ModelError(f'what came of it answers "{name}" with what is no number', code="M680")
        found[name] = decibels(right[name], answers[name])
    return found


def decibels(right: Any, answer: Any) -> float:
    """Return the signal-to-noise ratio of some answers; 200 if they are the same."""
    signal = float(np.sum(np.square(right, dtype=np.float64)))
    noise = float(np.sum(np.square(right.astype(np.float64) - answer)))
    if noise == 0.0:
        return _SILENCE_DB
    return round(float(10.0 * np.log10(max(signal, 1e-300) / noise)), 2)
