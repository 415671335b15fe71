"""What a lane asks to make a verdict of a model's answers; ``features.judgement`` has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Verdict
from edge_opcua.inference.manifest import Manifest

Floats = npt.NDArray[np.float32]

Past = tuple[float, float | None, str]
"""Score, confidence and label of a result that was published before."""


class Output(Protocol):
    """One output that is looked at; ``role`` is its name in the reference samples."""

    @property
    def role(self) -> str:
        """What it is called here."""
        ...

    @property
    def name(self) -> str:
        """Its name in the model."""
        ...

    @property
    def size(self) -> int:
        """Values of one sample."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An output whose role is its name.

    Args:
        name: Both of them.
        size: Values of one sample.
    """

    name: str
    size: int

    @property
    def role(self) -> str:
        """What it is called here."""
        return self.name


def four_answers(size: int) -> tuple[Output, ...]:
    """Return the outputs of a model whose manifest declares none, for so many features."""
    sizes = {"score": 1, "confidence": 1, "expected": size, "contributions": size}
    return tuple(Answer(name, each) for name, each in sizes.items())


class Judged(Protocol):
    """What a model's answer means; None and an empty text where it does not say."""

    @property
    def score(self) -> float:
        """How far from normal, or the value itself."""
        ...

    @property
    def verdict(self) -> Verdict:
        """The judgement."""
        ...

    @property
    def reason(self) -> str:
        """Why, for people."""
        ...

    @property
    def confidence(self) -> float | None:
        """How sure the model is, 0..1."""
        ...

    @property
    def label(self) -> str:
        """Which class it is."""
        ...

    @property
    def expected(self) -> Floats | None:
        """What the features should have been, shape ``(k,)``."""
        ...

    @property
    def contributions(self) -> Floats | None:
        """Share of each feature in the score, shape ``(k,)``."""
        ...


class Judge(Protocol):
    """Judges the results of one pipeline, one after the other; it may remember what it has decided."""

    @property
    def outputs(self) -> Sequence[Output]:
        """The outputs it looks at."""
        ...

    @property
    def judged(self) -> int:
        """Results it has judged, what it was seeded with included."""
        ...

    @property
    def remembers(self) -> int:
        """Results that it has to be seeded with to go on as if it had judged them itself."""
        ...

    def judge(self, answers: Mapping[str, Floats], row: Floats) -> Judged:
        """Return what the answers to a row of features mean."""
        ...

    def seed(self, past: Sequence[Past]) -> None:
        """Begin as if this had been judged, oldest first."""
        ...


MakeJudge = Callable[[Manifest], Judge | None]
"""Makes what judges for one pipeline as a manifest declares it.

None where the manifest declares neither ``[output]`` nor ``[[post]]``: then the four outputs are judged by
the limit alone, and nothing is remembered.
"""


def no_judge(manifest: Manifest) -> Judge | None:  # noqa: ARG001 - a MakeJudge
    """Judge by the four outputs and the limit."""
    return None
