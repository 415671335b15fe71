"""From what was measured to a verdict: proved, not proved, or failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from edge_opcua.compress.gate import FOR_THE_REPORT
from edge_opcua.compress.intervals.estimate import Estimate, needed
from edge_opcua.compress.task import Comparison, Verdict

POINTS: Final = "pp"
PERCENT: Final = "%"
ALLOWED: Final = {POINTS: 0.5, PERCENT: 2.0}
"""Loss that is accepted unless another one is asked for: of decisions and AUC, and of errors."""
MOST_OF_A_PART: Final = 10.0
"""How many times what is accepted one class may lose: with few samples it could be ruined unseen."""
_WHOLE: Final = 100.0


@dataclass(frozen=True, slots=True)
class Found:
    """What came of holding two models against each other.

    Args:
        measure: What was compared; see :class:`edge_opcua.compress.task.Comparison`.
        unit: ``pp`` or ``%``.
        original: Quality of the original.
        variant: Quality of the variant.
        test: The test, for people.
        samples: How many samples were compared.
        estimate: The loss and its bounds.
        changed: Samples on which both decide differently; None where nothing is decided.
        note: What else has to be known to read the verdict; a sentence, or empty.
        parts: The loss of the samples of each class alone, by what it is called; empty if there are none.
    """

    measure: str
    unit: str
    original: float
    variant: float
    test: str
    samples: int
    estimate: Estimate
    changed: int | None = None
    note: str = ""
    parts: Mapping[str, Estimate] = field(default_factory=dict)


def decide(found: Found, *, allowed: float | None, level: float) -> Comparison:
    """Return the verdict on a loss.

    It is proved if its upper bound at the level is below what is accepted, failed if its lower bound is above
    that, and not proved otherwise; nor if one class loses so much that its share alone hides it.

    Args:
        found: What was measured.
        allowed: Loss that is accepted, in the unit; None takes :data:`ALLOWED`.
        level: See :class:`edge_opcua.compress.task.Comparison`.
    """
    allowed = ALLOWED[found.unit] if allowed is None else allowed
    estimate, share = found.estimate, allowed / _WHOLE
    bounds = estimate.low(level), estimate.high(level)
    verdict: Verdict = "not proved"
    wanted = None
    ruined = _ruined(found.parts, share)
    if bounds[1] < share:
        verdict = "not proved" if ruined else "proved"
    elif bounds[0] > share:
        verdict = "failed"
    else:
        wanted = None if ruined else needed(estimate, found.samples, share, level)
    comparison = Comparison(
        measure=found.measure,
        unit=found.unit,
        original=found.original,
        variant=found.variant,
        loss=_WHOLE * estimate.loss,
        low=_WHOLE * estimate.low(FOR_THE_REPORT),
        high=_WHOLE * estimate.high(FOR_THE_REPORT),
        allowed=allowed,
        level=level,
        verdict=verdict,
        samples=found.samples,
        needed=wanted,
        test=found.test,
        changed=found.changed,
        text="",
    )
    return _told(comparison, _WHOLE * bounds[1], ruined, found.note)


def _ruined(parts: Mapping[str, Estimate], share: float) -> str:
    """Return of which class too much is lost for sure, however many are looked at; empty if of none."""
    for name, part in parts.items():
        if part.low(FOR_THE_REPORT / len(parts)) > MOST_OF_A_PART * share:
            return (
                f"of {name} {_WHOLE * part.loss:.3g} pp are lost, which is hidden by its share of all samples"
            )
    return ""


def _told(comparison: Comparison, high: float, ruined: str, note: str) -> Comparison:
    unit = comparison.unit
    said = f"{'worse' if comparison.loss > 0.0 else 'better'} by {abs(comparison.loss):.3g} {unit}"
    seen = (
        f"{comparison.measure} {said if comparison.loss else 'the same'} (95 % interval of the loss "
        f"{comparison.low:.3g} to {comparison.high:.3g}, {comparison.samples} samples)"
    )
    if comparison.level < FOR_THE_REPORT and comparison.verdict != "failed":
        sure = f"{_WHOLE - _WHOLE * comparison.level:.6g} %"
        seen += f", below {high:.3g} {unit} with the {sure} that its place in the order asks for"
    because = ruined if ruined and comparison.verdict == "not proved" else _because(comparison)
    text = f"{comparison.verdict}: {seen}; {because}"
    return replace(comparison, text=f"{text}; {note}" if note else text)


def _because(comparison: Comparison) -> str:
    accepted = f"{comparison.allowed:g} {comparison.unit}"
    if comparison.verdict == "proved":
        return f"that is less than the {accepted} that are accepted"
    if comparison.verdict == "failed":
        return f"that is more than the {accepted} that are accepted"
    if comparison.needed is not None:
        return f"needs about {comparison.needed} samples to be shown below {accepted}"
    return f"if that is so, no number of samples shows less than {accepted}"
