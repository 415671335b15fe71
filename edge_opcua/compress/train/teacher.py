"""What the original answers to the samples that something learns from: asked once, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from edge_opcua.compress.dataset import Rows
from edge_opcua.compress.graph import activations
from edge_opcua.compress.train.wiring import Head, features, head_of, steps_to
from edge_opcua.errors import ModelError

Tensor = Any

HINTS: Final = 2
MOST_BYTES: Final = 256 * 2**20
"""What the features of all samples may take; beyond that only answers are learned."""


@dataclass(frozen=True, slots=True)
class Lecture:
    """What the original answers to all samples.

    Args:
        heads: Where it decides, by output.
        logits: What it answers before a softmax or sigmoid, by output, shape ``(n, …)``.
        features: What goes into its last layers, by value, shape ``(n, …)``, with the axis of the channels.
    """

    heads: Mapping[str, Head]
    logits: Mapping[str, Tensor]
    features: Mapping[str, tuple[Tensor, int]]


def ask(model: Any, outputs: Sequence[str], rows: Rows, *, among: Mapping[str, int] | None = None) -> Lecture:
    """Return what a model answers.

    Args:
        model: The ``onnx.ModelProto``.
        outputs: Its outputs that count.
        rows: All samples.
        among: Features to remember, with the axis of their channels; None: what goes into the last layers.

    Raises:
        ModelError: It cannot run (M510), lacks a value (M692), or gives not one answer per sample (M692).
    """
    heads = {output: head_of(model, output) for output in outputs}
    if among is None:
        among = dict(features(_steps(model, outputs), HINTS))
    known = {name for node in model.graph.node for name in node.output}
    missing = sorted(set(among) - known)
    if missing:
        raise ModelError(f'the original computes no "{missing[0]}"', code="M692")
    places = _that_fit(model, among, rows)
    found = activations(model, [*(head.logits for head in heads.values()), *places], rows)
    for name, array in found.items():
        if len(array) != len(rows) or array.dtype.kind != "f":
            raise ModelError(f'"{name}" of the original is not one answer per sample', code="M692")
    return Lecture(
        heads,
        {output: _tensor(found[head.logits]) for output, head in heads.items()},
        {name: (_tensor(found[name]), among[name]) for name in places},
    )


def _steps(model: Any, outputs: Sequence[str]) -> list[Any]:
    """Return the steps of a graph; none if some are known to ONNX Runtime only: it need not be trained."""
    try:
        return list(steps_to(model, outputs))
    except ModelError as exc:
        if exc.code != "M691":
            raise
        return []


def _that_fit(model: Any, among: Mapping[str, int], rows: Rows) -> list[str]:
    """Return the features that fit into memory for all samples, the last layers first."""
    if not among:
        return []
    one = activations(model, list(among), rows[:1])
    left, found = MOST_BYTES, []
    for name in among:
        left -= one[name].nbytes * len(rows)
        if left < 0:
            break
        found.append(name)
    return found


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))
