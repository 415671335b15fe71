"""From the answers of a model to a verdict with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import (
    BAD_OUT_OF_RANGE,
    BAD_OUT_OF_SERVICE,
    GOOD,
    UNCERTAIN_SUBNORMAL,
    Verdict,
    is_bad,
)
from edge_opcua.inference.result import Result, Variant
from edge_opcua.inference.watch.age import Age

NAMED_IN_REASON: Final = 2

Floats = npt.NDArray[np.float32]


def take_answers(result: Result, variant: Variant, answers: Mapping[str, Floats], *, uncertain: bool) -> None:
    """Fill in what a model answered, and the verdict that follows from it.

    Where it depends on what was judged before, it follows in the order of the captures: :func:`decide`.

    Args:
        result: Its features are those the model was given.
        variant: The model.
        answers: Row of each output.
        uncertain: Whether some of the inputs are Uncertain.
    """
    result.variant, result.answers = variant, answers
    result.status = UNCERTAIN_SUBNORMAL if uncertain else GOOD
    if variant.judge is not None:
        return
    if float(answers["score"][0]) < variant.manifest.limit:
        result.verdict = Verdict.OK
    else:
        result.verdict = Verdict.NOT_OK
        result.reason = _shows_in(result, variant, answers)


def decide(result: Result) -> None:
    """Judge a result by what its manifest declares, after all that came before it."""
    variant = result.variant
    if variant is None or variant.judge is None or result.features is None:
        return
    judged = variant.judge.judge(result.answers, result.features)
    result.judged, result.verdict, result.reason = judged, judged.verdict, judged.reason


def not_learned(result: Result, outside: str) -> None:
    """Decide that nothing can be decided: the inputs are right, the model was never shown such."""
    result.verdict, result.status = Verdict.NOT_DECIDABLE, BAD_OUT_OF_RANGE
    result.reason = f"not learned: {outside}"


def too_old(result: Result, age: Age, fail_safe: Verdict) -> None:
    """Let the age of a model count: what it judged is Uncertain, or gives way to the fail-safe verdict.

    Args:
        result: What it judged; that it was never shown such a sample is as it was.
        age: Of the model.
        fail_safe: Verdict given out when there is none.
    """
    if result.fail_safe or is_bad(result.status):
        return
    if age.effect == "fail_safe":
        result.fall_safe(fail_safe, BAD_OUT_OF_SERVICE, f"M657: {age.reason}")
    elif age.effect == "degrade":
        result.status = UNCERTAIN_SUBNORMAL
        result.reason = "; ".join(filter(None, (result.reason, f"M657: {age.reason}")))


def _shows_in(result: Result, variant: Variant, answers: Mapping[str, Floats]) -> str:
    """Return where a deviation shows, largest share first; where it shows is not what caused it."""
    assert result.features is not None, "a model has judged them"
    features = variant.manifest.features
    order = np.argsort(answers["contributions"])[::-1][:NAMED_IN_REASON]
    parts = [
        f"{features[i].name} {result.features[i]:.3g} {features[i].unit} "
        f"(expected {answers['expected'][i]:.3g})"
        for i in order
    ]
    return "shows in " + ", ".join(parts)
