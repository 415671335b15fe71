"""What a model is for, and so what must not get worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Dataset

Answers = Mapping[str, npt.NDArray[Any]]
"""What a model answered to some samples: by output, shape ``(n, …)``."""
Floats = npt.NDArray[np.float64]
Verdict = Literal["proved", "not proved", "failed"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A variant held against the original, on the same samples.

    Args:
        measure: What was compared, such as ``accuracy``, ``AUC``, ``RMSE``, ``agreement``.
        unit: Of ``loss``, ``low``, ``high`` and ``allowed``: ``pp`` (percentage points) or ``%``.
        original: Quality of the original, 0 to 1 or in the unit of its targets.
        variant: Quality of the variant, likewise.
        loss: How much worse the variant is; below 0 if it is better.
        low: Lower end of the paired 95 % interval of the loss.
        high: Its upper end.
        allowed: Loss that is accepted.
        level: Chance of calling a variant proved whose loss is the accepted one, at most.
        verdict: Whether the loss is below ``allowed`` at that level.
        samples: How many samples were compared.
        needed: About how many samples would prove it, if the loss is what it seems; None if none would.
        test: The test, for people: ``Tango score``, ``DeLong`` …
        changed: Samples on which both decide differently; None where nothing is decided.
        text: The verdict in one sentence.
    """

    measure: str
    unit: str
    original: float
    variant: float
    loss: float
    low: float
    high: float
    allowed: float
    level: float
    verdict: Verdict
    samples: int
    needed: int | None
    test: str
    changed: int | None
    text: str


class Task(Protocol):
    """What a model is for."""

    @property
    def name(self) -> str:
        """What it is called: ``labels``, ``score``, ``value``, ``reconstruction``, ``verdict``."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the outputs that are looked at."""
        ...

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """Return how much a variant seems to have lost, for choosing among some while they are made.

        Nothing is proved by it. It is continuous where it can be, so that small differences show: the share
        of answers that changed, and below that the mean distance of the answers.
        """
        ...

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """Hold the answers of a variant against those of the original, sample by sample.

        Args:
            original: Answers of the original to ``data``.
            variant: Answers of the variant to the same.
            data: The samples of the gate.
            allowed: Loss that is accepted, in the unit of the task; None takes the task's default.
            level: See :class:`Comparison`.

        Raises:
            ModelError: The answers cannot be compared (M671).
        """
        ...
