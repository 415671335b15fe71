"""Models of a package: what counts is the verdict that its manifest makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_opcua.compress.dataset import Dataset
from edge_opcua.compress.task import Answers, Comparison
from edge_opcua.compress.tasks.answers import UNDECIDED, both, changed_share, distance
from edge_opcua.compress.tasks.decision import decide
from edge_opcua.compress.tasks.labels import Decisions, accuracy, agreement
from edge_opcua.core.values import Verdict
from edge_opcua.features.judgement import Judge
from edge_opcua.features.stroke import Feature
from edge_opcua.inference.manifest import Manifest

NORMAL = 0
FAULT = 1
_DECISIONS = {Verdict.OK: NORMAL, Verdict.NOT_OK: FAULT}


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdict, Ok or NotOk; one that cannot be decided is not right.

    Args:
        judge: Makes verdicts of answers, of each sample for itself.
        name: What the task is called.
    """

    judge: Judge
    name: str = "verdict"

    @property
    def outputs(self) -> tuple[str, ...]:
        """See :class:`edge_opcua.compress.task.Task`."""
        return tuple(output.name for output in self.judge.outputs)

    def damage(self, original: Answers, variant: Answers, data: Dataset) -> float:
        """See :class:`edge_opcua.compress.task.Task`."""
        one, other = self._decisions(original, data), self._decisions(variant, data)
        off = max(distance(*both(original, variant, output, len(data))) for output in self.outputs)
        return changed_share(one != other, off)

    def compare(
        self, original: Answers, variant: Answers, data: Dataset, *, allowed: float | None, level: float
    ) -> Comparison:
        """See :class:`edge_opcua.compress.task.Task`."""
        one, other = self._decisions(original, data), self._decisions(variant, data)
        found = accuracy(one, other, data.truth) if data.kind == "labels" else agreement(one, other)  # type: ignore[arg-type]
        return decide(found, allowed=allowed, level=level)

    def _decisions(self, answers: Answers, data: Dataset) -> Decisions:
        columns = {
            output.name: both(answers, answers, output.name, len(data))[0].astype(np.float32)
            for output in self.judge.outputs
        }
        rows = data.rows.reshape(len(data), -1)
        found = np.full(len(data), UNDECIDED, np.int64)
        for number, row in enumerate(rows):
            answer = {name: column[number] for name, column in columns.items()}
            if all(np.isfinite(each).all() for each in answer.values()):
                found[number] = _DECISIONS.get(self.judge.judge(answer, row).verdict, UNDECIDED)
        return found


def judge_for(manifest: Manifest) -> Judge:
    """Return what makes verdicts as a manifest says, of each result for itself.

    Steps that look back are left out: how many results in a row have to be bad says nothing of how good a
    model is, and samples of the gate do not follow each other as results do.

    Args:
        manifest: What the model promises, its features listed.

    Raises:
        ModelError: ``[output]`` (M620) or ``[[post]]`` (M621) is wrong.
    """
    features = [Feature(feature.name, feature.unit) for feature in manifest.features]
    return Judge(manifest.output, _alone(manifest.post), features=features, limit=manifest.limit)


def _alone(post: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept = [table for table in post if table.get("step") != "k_of_n"]
    return [
        {key: each for key, each in table.items() if key != "low"}
        if table.get("step") == "threshold"
        else table
        for table in kept
    ]
