"""What is told of a model in its manifest, besides what makes its features."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is told of a model.

    Args:
        name: Name in the repository.
        version: Version in the repository, from 1.
        description: For people.
        output: The table ``[output]``: kind of model, names of its outputs, labels; None: it answers with
            ``score``, ``confidence``, ``expected`` and ``contributions``.
        post: The tables ``[[post]]``: what makes a verdict of the answers.
        limit: Value of the score from which on the verdict is NotOk, where no step decides.
        limits: Smallest and largest value of features, by name, that the model may judge.
        shape: How a row of features lies in the input, such as ``(1, 20, 40)``; (): ``(1, k)``.
        rtol: How far features and answers on the box may be off, relative.
        atol: The same, absolute.
        trained: When it was trained; None: now.
        max_days: Days after which it is too old; None: it does not age.
        then: What happens then: it ``warn``s, its results ``degrade`` to Uncertain, or ``fail_safe``.
        proof: What was measured, by name, for people.
        provenance: Where it comes from, by name, for people.
    """

    name: str
    version: int = 1
    description: str = ""
    output: Mapping[str, Any] | None = None
    post: Sequence[Mapping[str, Any]] = ()
    limit: float = 1.0
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    rtol: float = 1e-3
    atol: float = 1e-4
    trained: dt.datetime | None = None
    max_days: float | None = None
    then: Literal["warn", "degrade", "fail_safe"] = "warn"
    proof: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
