"""Models that decide which class a sample is of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.intervals.binomial import Changed
from edge_opcua.compress.intervals.tango import Turned
from edge_opcua.compress.task import Answers, Comparison, Floats
from edge_opcua.compress.tasks.answers import UNDECIDED, both, changed_share, distance
from edge_opcua.compress.tasks.decision import POINTS, Found, decide
from edge_opcua.compress.tasks.guessing import require_difference, require_sight

Decisions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """The class is the largest of some values, one value on which side of a limit, or the answer itself.

    Args:
        output: Name of the output.
        are_decisions: Whether the answer is the number of the class.
        limit: Where one value becomes class 1; None: at 0.5 if the original answers 0 to 1, else at 0.
        name: What the task is called.
    """

    output: str
    are_decisions: bool = False
    limit: float | None = None
    name: str = "labels"

    @property
    def outputs(self) -> tuple[str, ...]:
        """See :class:`edge_opcua.compress.task.Task`."""
        return (self.output,)

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """See :class:`edge_opcua.compress.task.Task`."""
        before, after = both(original, variant, self.output, len(data))
        one, other = self._decided(before, after)
        return changed_share(one != other, 0.0 if self.are_decisions else distance(before, after))

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """See :class:`edge_opcua.compress.task.Task`."""
        before, after = both(original, variant, self.output, len(data))
        one, other = self._decided(before, after)
        truth = data.truth if data.kind == "labels" else None
        if truth is None:
            return decide(agreement(one, other), allowed=allowed, level=level)
        note = _unknown(truth, before.shape[1])
        return decide(accuracy(one, other, truth, note), allowed=allowed, level=level)

    def _decided(self, original: Floats, variant: Floats) -> tuple[Decisions, Decisions]:
        limit = self.limit
        if limit is None:
            limit = 0.5 if np.all((original >= 0.0) & (original <= 1.0)) else 0.0
        return self._decisions(original, limit), self._decisions(variant, limit)

    def _decisions(self, answers: Floats, limit: float) -> Decisions:
        is_finite = np.asarray(np.isfinite(answers).all(axis=1))
        sound = np.where(np.isfinite(answers), answers, 0.0)
        if self.are_decisions:
            found = sound[:, 0].astype(np.int64)
        elif answers.shape[1] == 1:
            found = (sound[:, 0] >= limit).astype(np.int64)
        else:
            found = sound.argmax(axis=1)
        return np.where(is_finite, found, UNDECIDED)


def _unknown(truth: Decisions, classes: int) -> str:
    missing = classes - len(np.unique(truth)) if classes > 1 else 0
    return f"{missing} of {classes} classes have no sample: nothing is known of them" if missing else ""


def accuracy(original: Decisions, variant: Decisions, truth: Decisions, note: str = "") -> Found:
    """Return how many decisions turned from right to wrong, and the other way.

    Args:
        original: Decisions of the original, shape ``(n,)``.
        variant: Decisions of the variant, likewise.
        truth: The right ones, likewise.
        note: See :class:`edge_opcua.compress.tasks.decision.Found`.

    Raises:
        ModelError: The original is no better than a guess (M671).
    """
    require_sight(original, truth)
    before, after = original == truth, variant == truth
    return Found(
        measure="accuracy",
        unit=POINTS,
        original=float(before.mean()),
        variant=float(after.mean()),
        test="Tango score, paired",
        samples=len(truth),
        estimate=_turned(before, after),
        changed=int((original != variant).sum()),
        note=note,
        parts={
            f"label {each}": _turned(before[truth == each], after[truth == each]) for each in np.unique(truth)
        },
    )


def _turned(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> Turned:
    return Turned(int((before & ~after).sum()), int((~before & after).sum()), len(before))


def agreement(original: Decisions, variant: Decisions) -> Found:
    """Return how many decisions changed: what is lost at most, where nobody knows which of them were right.

    Args:
        original: Decisions of the original, shape ``(n,)``.
        variant: Decisions of the variant, likewise.

    Raises:
        ModelError: The original always decides the same (M671).
    """
    require_difference(original)
    is_changed, samples = original != variant, len(original)
    changed = int(is_changed.sum())
    groups = {each: original == each for each in np.unique(original)}
    return Found(
        measure="agreement",
        unit=POINTS,
        original=1.0,
        variant=1.0 - changed / samples,
        test="Clopper-Pearson",
        samples=samples,
        estimate=Changed(changed, samples),
        changed=changed,
        parts={
            f"decision {each}": Changed(int(is_changed[which].sum()), int(which.sum()))
            for each, which in groups.items()
        },
    )
