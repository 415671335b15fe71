"""Refuses samples on which the original is no better than a guess: there any variant is as good as it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_opcua.errors import ModelError

_BARELY: Final = 1e-9
_ASK: Final = "are these the samples as the model is fed with them, and the truth in its order and unit?"

Decisions = npt.NDArray[np.int64]


def require_sight(decisions: Decisions, truth: Decisions) -> None:
    """Refuse labels of which the original knows nothing.

    Whoever always says the same is right on all samples of one class and on none of the others; that is a
    share of one class in all that occur, however many samples each has.

    Args:
        decisions: Of the original, shape ``(n,)``.
        truth: The right ones, likewise.

    Raises:
        ModelError: Of each class on average it decides no more rightly than a guess (M671).
    """
    is_right = decisions == truth
    classes = np.unique(truth)
    if len(classes) == 1:
        raise ModelError(
            f"all {len(truth)} samples that decide have label {classes[0]}: whoever always says so is right; "
            "take samples of the other classes too",
            code="M671",
        )
    mean = float(np.mean([is_right[truth == each].mean() for each in classes]))
    if mean <= 1.0 / len(classes) + _BARELY:
        raise ModelError(
            f"the original decides {100.0 * float(is_right.mean()):.3g} % of the samples rightly, and of "
            f"each class on average {100.0 * mean:.3g} %, no more than a guess: nothing could be lost; "
            f"{_ASK}",
            code="M671",
        )


def require_difference(decisions: Decisions) -> None:
    """Refuse samples on which the original always decides the same, where nobody knows the truth.

    Args:
        decisions: Of the original, shape ``(n,)``.

    Raises:
        ModelError: It does (M671).
    """
    found = np.unique(decisions)
    if len(found) == 1:
        raise ModelError(
            f"the original decides the same on all {len(decisions)} samples: so does whoever never looks; "
            "take samples that it decides otherwise as well, or compare its values (--task value)",
            code="M671",
        )


def require_better_than_mean(square: float, variance: float, what: str) -> None:
    """Refuse errors so large that those of a variant vanish beside them.

    Args:
        square: Mean squared error of the original.
        variance: What it is for whoever always says the mean.
        what: What is compared, for people.

    Raises:
        ModelError: The original is not better than the mean (M671).
    """
    if square >= variance:
        raise ModelError(
            f"the {what} of the original is {square**0.5:.3g}, and {variance**0.5:.3g} for whoever always "
            f"says the mean: nothing could be lost; {_ASK}",
            code="M671",
        )
