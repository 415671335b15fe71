"""How far a version in shadow agrees with the active one, in figures that can be acted on; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

Z_95: Final = 1.959963984540054
"""Quantile of the normal distribution for an interval of 95 %."""


def wilson(agreed: int, compared: int) -> tuple[float, float]:
    """Return between which shares the true one lies with 95 %; ``(0, 1)`` while nothing was compared.

    Args:
        agreed: Cases that agreed.
        compared: Of how many.

    Source:
        E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
        J. Am. Stat. Assoc. 22 (1927), 209-212.
    """
    if not compared:
        return 0.0, 1.0
    share, square = agreed / compared, Z_95 * Z_95
    middle = share + square / (2 * compared)
    spread = Z_95 * math.sqrt((share * (1.0 - share) + square / (4 * compared)) / compared)
    scale = 1.0 + square / compared
    return max(0.0, min(share, (middle - spread) / scale)), min(1.0, max(share, (middle + spread) / scale))


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a shadow has found out so far about one pipeline.

    Args:
        wanted: Captures that shall be compared.
        compared: Captures both versions gave a verdict on.
        agreed: How many of these verdicts were the same.
        undecided: Captures on which at least one of them gave no verdict of its own; they are not compared.
        new_alarms: Captures that the shadow calls NotOk and the active version OK.
        lost_alarms: Captures that the active version calls NotOk and the shadow OK.
        missed: Captures that the shadow never saw: it fell behind.
        score_difference_p50: Median of the differences of the scores, without sign; NaN without any.
        score_difference_p99: 99th percentile of them.
        p99_ms: 99th percentile of what features, run and judgement took in the shadow, ms.
        disagreement: The last disagreement, in words; empty if there was none.
        state: What the shadow does: ``Comparing``, ``Behind``, ``Compared``, ``Promoted``, ``Ended``.
    """

    wanted: int = 0
    compared: int = 0
    agreed: int = 0
    undecided: int = 0
    new_alarms: int = 0
    lost_alarms: int = 0
    missed: int = 0
    score_difference_p50: float = math.nan
    score_difference_p99: float = math.nan
    p99_ms: float = math.nan
    disagreement: str = ""
    state: str = "Comparing"

    @property
    def agreement(self) -> float:
        """Share of the compared captures on which both agreed; NaN before the first."""
        return self.agreed / self.compared if self.compared else math.nan

    @property
    def agreement_low(self) -> float:
        """Lower end of the interval in which the true share lies with 95 %."""
        return wilson(self.agreed, self.compared)[0]

    @property
    def agreement_high(self) -> float:
        """Upper end of it."""
        return wilson(self.agreed, self.compared)[1]

    @property
    def is_complete(self) -> bool:
        """Whether as many captures were compared as were wanted."""
        return self.compared >= self.wanted

    def notice(self) -> dict[str, Any]:
        """Return it as the body of a ``shadow`` notice; without NaN, which JSON has not."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in found.items()
        }

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """Return what :meth:`notice` wrote; what is not there is as if nothing had been compared."""
        given: dict[str, Any] = {name: math.nan if body[name] is None else body[name] for name in body}
        return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})
