"""What is done to a verdict behind the model: hysteresis, limits, k of n, and how sure it has to be."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.features.answers import Judged
from edge_opcua.features.flow import Keys

MAX_POST: Final = 16
MOST_REMEMBERED: Final = 256
"""Results that ``k_of_n`` may look back: as many as the bus keeps for a successor to go on from."""


class PostStep(Protocol):
    """One step; it may remember what it decided before."""

    @property
    def remembers(self) -> int:
        """Results before this one that it depends on."""
        ...

    def apply(self, judged: Judged) -> None:
        """Change the verdict, or leave it."""
        ...


@dataclass(slots=True)
class Threshold:
    """NotOk from ``high`` on, and until the score is below ``low`` again.

    Args:
        high: Score from which on the verdict is NotOk.
        low: Score below which it is Ok again.
    """

    high: float
    low: float
    _is_over: bool = False

    @property
    def remembers(self) -> int:
        """See :class:`PostStep`; without hysteresis each result stands for itself."""
        return MOST_REMEMBERED if self.low < self.high else 0

    def apply(self, judged: Judged) -> None:
        """See :class:`PostStep`; what cannot be decided is left."""
        if judged.verdict is Verdict.NOT_DECIDABLE:
            return
        was_over, score = self._is_over, judged.score
        self._is_over = score >= (self.low if was_over else self.high)
        if not self._is_over:
            judged.verdict, judged.reason = Verdict.OK, ""
            return
        held = score < self.high
        said = f"score {score:.4g} is {'not below ' if held else ''}{self.low if held else self.high:g}"
        said += " yet" if held else " or more"
        explained = judged.verdict is Verdict.NOT_OK and judged.reason
        judged.verdict, judged.reason = Verdict.NOT_OK, f"{said}; {judged.reason}" if explained else said


@dataclass(frozen=True, slots=True)
class Limits:
    """NotOk outside a range of the score; the way to judge a value.

    Args:
        low: Smallest value that is Ok.
        high: Largest value that is Ok.
        unit: Unit, for the reason.
    """

    low: float
    high: float
    unit: str = ""
    remembers: int = 0

    def apply(self, judged: Judged) -> None:
        """See :class:`PostStep`."""
        if judged.verdict is Verdict.NOT_DECIDABLE or self.low <= judged.score <= self.high:
            return
        judged.verdict = Verdict.NOT_OK
        value = f"{judged.score:.4g} {self.unit}".strip()
        judged.reason = f"{value} is outside {self.low:g}..{self.high:g}"


@dataclass(frozen=True, slots=True)
class Argmax:
    """The verdict of the most probable class, with other words for Ok than the output's own.

    Args:
        ok: Labels of which the verdict is Ok.
        undecided: Labels of which it is NotDecidable.
    """

    ok: tuple[str, ...]
    undecided: tuple[str, ...]
    remembers: int = 0

    def apply(self, judged: Judged) -> None:
        """See :class:`PostStep`."""
        if judged.label in self.ok:
            judged.verdict, judged.reason = Verdict.OK, ""
            return
        judged.verdict = Verdict.NOT_DECIDABLE if judged.label in self.undecided else Verdict.NOT_OK
        sure = "" if judged.confidence is None else f" ({100 * judged.confidence:.0f} %)"
        judged.reason = f"looks like {judged.label}{sure}"


@dataclass(frozen=True, slots=True)
class KOfN:
    """NotOk only if ``k`` of the last ``n`` results were; what could not be decided does not count.

    Args:
        k: How many make it NotOk.
        n: Of how many.
    """

    k: int
    n: int
    _seen: deque[bool] = field(default_factory=deque)

    @property
    def remembers(self) -> int:
        """See :class:`PostStep`."""
        return self.n

    def apply(self, judged: Judged) -> None:
        """See :class:`PostStep`."""
        if judged.verdict is Verdict.NOT_DECIDABLE:
            return
        is_bad = judged.verdict is Verdict.NOT_OK
        self._seen.append(is_bad)
        while len(self._seen) > self.n:
            self._seen.popleft()
        found = sum(self._seen)
        if found >= self.k and not is_bad:
            judged.verdict = Verdict.NOT_OK
            judged.reason = f"{found} of the last {len(self._seen)} were NotOk"
        elif found < self.k and is_bad:
            judged.verdict = Verdict.OK
            judged.reason = f"{found} of the last {self.n} NotOk, {self.k} make one: {judged.reason}"


@dataclass(frozen=True, slots=True)
class MinConfidence:
    """NotDecidable where the model is less sure than that.

    Args:
        least: Smallest confidence, 0..1.
    """

    least: float
    remembers: int = 0

    def apply(self, judged: Judged) -> None:
        """See :class:`PostStep`."""
        if judged.confidence is None or judged.confidence >= self.least:
            return
        judged.verdict = Verdict.NOT_DECIDABLE
        said = f"confidence {judged.confidence:.2g} is below {self.least:g}"
        judged.reason = f"{said}: {judged.reason}" if judged.reason else said


@dataclass(frozen=True, slots=True)
class Told:
    """What the steps may rely on.

    Args:
        labels: Classes that the model knows; none if it knows none.
        has_confidence: Whether it says how sure it is.
    """

    labels: tuple[str, ...]
    has_confidence: bool


def read_post(tables: Sequence[Mapping[str, Any]], told: Told) -> tuple[PostStep, ...]:
    """Return the steps behind the model, as the tables ``[[post]]`` of its manifest say.

    Raises:
        ModelError: A step is unknown, or a key is missing, unknown or wrong (M621).
    """
    if len(tables) > MAX_POST:
        raise ModelError(f"{len(tables)} steps of [[post]], {MAX_POST} are the most", code="M621")
    return tuple(_read(number, table, told) for number, table in enumerate(tables, start=1))


def _read(number: int, table: Mapping[str, Any], told: Told) -> PostStep:
    name = table.get("step")
    if not isinstance(name, str) or name not in _STEPS:
        known = ", ".join(sorted(_STEPS))
        raise ModelError(f'post {number}: "{str(name)[:40]}" is not one of {known}', code="M621")
    keys = Keys(table)
    try:
        step = _STEPS[name](keys, told)
        keys.end()
    except ModelError as exc:
        raise ModelError(f"post {number} ({name}): {exc}", code="M621") from exc
    return step


def _threshold(keys: Keys, told: Told) -> PostStep:  # noqa: ARG001 - others need what they are told
    high = keys.number("high")
    low = keys.number("low", high)
    if low > high:
        raise _wrong(f"low = {low:g} is above high = {high:g}")
    return Threshold(high, low)


def _limits(keys: Keys, told: Told) -> PostStep:  # noqa: ARG001 - others need what they are told
    if not keys.has("low") and not keys.has("high"):
        raise _wrong("low or high is missing")
    low = keys.number("low") if keys.has("low") else -math.inf
    high = keys.number("high") if keys.has("high") else math.inf
    if not low < high:
        raise _wrong(f"low = {low:g} is not below high = {high:g}")
    return Limits(low, high, keys.text("unit", ""))


def _argmax(keys: Keys, told: Told) -> PostStep:
    if not told.labels:
        raise _wrong('needs [output] kind = "classes"')
    ok, undecided = keys.texts("ok"), keys.texts("not_decidable")
    unknown = [label for label in (*ok, *undecided) if label not in told.labels]
    if unknown:
        raise _wrong(f'"{unknown[0]}" is not among the labels of [output]')
    if not ok:
        raise _wrong("ok is missing: the labels of which the verdict is Ok")
    return Argmax(ok, undecided)


def _k_of_n(keys: Keys, told: Told) -> PostStep:  # noqa: ARG001 - others need what they are told
    k, n = keys.whole("k"), keys.whole("n", high=MOST_REMEMBERED)
    if k > n:
        raise _wrong(f"k = {k} is more than n = {n}")
    return KOfN(k, n)


def _min_confidence(keys: Keys, told: Told) -> PostStep:
    least = keys.number("least")
    if not 0.0 < least <= 1.0:
        raise _wrong(f"least = {least:g} is out of range 0..1")
    if not told.has_confidence:
        raise _wrong("the model does not say how sure it is")
    return MinConfidence(least)


_STEPS: Final[dict[str, Callable[[Keys, Told], PostStep]]] = {
    "threshold": _threshold,
    "limits": _limits,
    "argmax": _argmax,
    "k_of_n": _k_of_n,
    "min_confidence": _min_confidence,
}


def _wrong(sentence: str) -> ModelError:
    return ModelError(sentence, code="M621")
