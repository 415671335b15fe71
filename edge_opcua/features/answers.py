"""What the outputs of a model say, by kind of model: a score, classes, a value, or its own input again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_opcua.core.values import Verdict
from edge_opcua.errors import ModelError
from edge_opcua.features.flow import Keys
from edge_opcua.features.stroke import Feature

Floats = npt.NDArray[np.float32]
Answers = Mapping[str, Floats]

NAMED: Final = 2
"""Features that a reason names."""
MAX_LABELS: Final = 1_000
MAX_LABEL: Final = 64
"""Characters of a label: as many as a result has room for."""


@dataclass(slots=True)
class Judged:
    """What a model's answer means; the steps behind it change the verdict.

    Args:
        score: How far from normal: NotOk is at the upper end. Of a value: the value itself.
        verdict: The judgement.
        reason: Why, for people; may be empty.
        confidence: How sure the model is, 0..1; None if it does not say.
        label: Which class it is; empty if the model knows none.
        expected: What the features should have been, shape ``(k,)``; None if the model does not say.
        contributions: Share of each feature in the score, shape ``(k,)``; None if the model does not say.
    """

    score: float
    verdict: Verdict = Verdict.OK
    reason: str = ""
    confidence: float | None = None
    label: str = ""
    expected: Floats | None = None
    contributions: Floats | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One output that is looked at.

    Args:
        role: What it is called here, and in the reference samples: ``score``, ``probabilities`` ….
        name: Its name in the model.
        size: Values of one sample.
    """

    role: str
    name: str
    size: int


class Kind(Protocol):
    """One kind of model."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs it looks at."""
        ...

    def read(self, answers: Answers, row: Floats) -> Judged:
        """Return what the answers to a row of features mean, and the verdict that follows by itself."""
        ...

    def verdict(self, score: float, label: str) -> Verdict:
        """Return the verdict that follows by itself from a score and a label."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """What the outputs are read beside.

    Args:
        features: Name and unit of each column of the model's input.
        limit: Value of the score from which on the verdict is NotOk, where no step decides.
    """

    features: tuple[Feature, ...]
    limit: float

    @property
    def size(self) -> int:
        """Features of a row."""
        return len(self.features)


def shows_in(features: Sequence[Feature], row: Floats, shares: Floats, expected: Floats | None) -> str:
    """Return where a deviation shows, largest share first; where it shows is not what caused it."""
    parts = []
    for i in np.argsort(shares)[::-1][:NAMED]:
        wanted = "" if expected is None else f" (expected {expected[i]:.3g})"
        parts.append(f"{features[i].name} {row[i]:.3g} {features[i].unit}{wanted}")
    return "shows in " + ", ".join(parts)


class ScoreKind:
    """A model that says how far from normal something is, and perhaps how sure it is and where it shows.

    Args:
        given: What it is read beside.
        roles: Name of each output by role; ``score`` is among them.
    """

    def __init__(self, given: Given, roles: Mapping[str, str]) -> None:
        self._given = given
        sizes = {"score": 1, "confidence": 1, "expected": given.size, "contributions": given.size}
        self.outputs = tuple(Output(role, name, sizes[role]) for role, name in roles.items())
        self._names = dict(roles)

    def read(self, answers: Answers, row: Floats) -> Judged:
        """See :class:`Kind`."""
        found = {role: answers[name] for role, name in self._names.items()}
        confidence = found.get("confidence")
        judged = Judged(
            float(found["score"][0]),
            confidence=None if confidence is None else float(confidence[0]),
            expected=found.get("expected"),
            contributions=found.get("contributions"),
        )
        judged.verdict = self.verdict(judged.score, "")
        if judged.verdict is Verdict.NOT_OK:
            judged.reason = self._reason(judged, row)
        return judged

    def verdict(self, score: float, label: str) -> Verdict:  # noqa: ARG002 - other kinds need the label
        """See :class:`Kind`."""
        return Verdict.NOT_OK if score >= self._given.limit else Verdict.OK

    def _reason(self, judged: Judged, row: Floats) -> str:
        if judged.contributions is None:
            return f"score {judged.score:.4g} is {self._given.limit:g} or more"
        return shows_in(self._given.features, row, judged.contributions, judged.expected)


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A model that says what a quantity is; only limits can make that NotOk.

    Args:
        value: Name of the output.
        confidence: Name of the output that says how sure the model is; empty without.
    """

    value: str
    confidence: str = ""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """See :class:`Kind`."""
        value = Output("value", self.value, 1)
        return (value, Output("confidence", self.confidence, 1)) if self.confidence else (value,)

    def read(self, answers: Answers, row: Floats) -> Judged:  # noqa: ARG002 - other kinds need the row
        """See :class:`Kind`."""
        sure = float(answers[self.confidence][0]) if self.confidence else None
        return Judged(float(answers[self.value][0]), confidence=sure)

    def verdict(self, score: float, label: str) -> Verdict:  # noqa: ARG002 - other kinds need them
        """See :class:`Kind`."""
        return Verdict.OK


class ClassesKind:
    """A model that says how probable each of some classes is.

    The score is the probability of all classes that are not Ok, the confidence that of the most probable
    class, the label its name.

    Args:
        name: Name of the output.
        labels: Names of the classes in order.
        ok: Those of which the verdict is Ok.
        undecided: Those of which it is NotDecidable.
        apply: What makes probabilities of the output: ``softmax``, ``sigmoid``, or ``none``: they are.
    """

    def __init__(
        self, name: str, labels: Sequence[str], *, ok: Sequence[str], undecided: Sequence[str], apply: str
    ) -> None:
        self.labels = tuple(labels)
        self._apply = _APPLY[apply]
        self._one = apply == "sigmoid"
        self._name = name
        self._is_ok = np.array([label in ok for label in labels])
        self._verdicts = {
            label: Verdict.OK
            if label in ok
            else Verdict.NOT_DECIDABLE
            if label in undecided
            else Verdict.NOT_OK
            for label in labels
        }
        self.outputs = (Output("probabilities", name, 1 if self._one else len(labels)),)

    def read(self, answers: Answers, row: Floats) -> Judged:  # noqa: ARG002 - other kinds need the row
        """See :class:`Kind`."""
        shares = self._apply(answers[self._name].astype(np.float64))
        most = int(np.argmax(shares))
        label, sure = self.labels[most], float(shares[most])
        verdict = self._verdicts[label]
        score = float(shares[~self._is_ok].sum())
        reason = "" if verdict is Verdict.OK else f"looks like {label} ({100 * sure:.0f} %)"
        return Judged(score, verdict, reason, confidence=sure, label=label)

    def verdict(self, score: float, label: str) -> Verdict:  # noqa: ARG002 - other kinds need the score
        """See :class:`Kind`."""
        return self._verdicts.get(label, Verdict.NOT_DECIDABLE)


def _softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers: npt.NDArray[np.float64] = np.exp(values - values.max())
    shares: npt.NDArray[np.float64] = powers / powers.sum()
    return shares


def _two(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the probabilities of both classes from the one output that speaks for the second."""
    second = 1.0 / (1.0 + np.exp(-np.clip(values[0], -700.0, 700.0)))
    return np.array([1.0 - second, second])


def _as_they_are(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values


_APPLY: Final[dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]]] = {
    "none": _as_they_are,
    "softmax": _softmax,
    "sigmoid": _two,
}


class ReconstructionKind:
    """A model that gives its input again as far as it has learned it: what it cannot give again is unusual.

    The expected values are what it gives, the contributions the shares in the squared error.

    Args:
        given: What it is read beside.
        name: Name of the output.
        error: What the score is of the errors, each divided by its scale: ``rms``, ``mean`` of their sizes or
            ``max``.
        scale: What an error is compared with, one for each feature in its unit; none: 1.
    """

    def __init__(self, given: Given, name: str, error: str, scale: Sequence[float]) -> None:
        self._given = given
        self._name = name
        self._error = error
        self._scale = np.array(scale or (1.0,) * given.size)
        self.outputs = (Output("reconstruction", name, given.size),)

    def read(self, answers: Answers, row: Floats) -> Judged:
        """See :class:`Kind`."""
        expected = answers[self._name]
        off = np.abs((row.astype(np.float64) - expected) / self._scale)
        square = off * off
        total = float(square.sum())
        shares = (square / total if total > 0.0 else np.zeros_like(square)).astype(np.float32)
        scores = {"rms": (total / off.size) ** 0.5, "mean": float(off.mean()), "max": float(off.max())}
        judged = Judged(scores[self._error], expected=expected, contributions=shares)
        judged.verdict = self.verdict(judged.score, "")
        if judged.verdict is Verdict.NOT_OK:
            judged.reason = shows_in(self._given.features, row, shares, expected)
        return judged

    def verdict(self, score: float, label: str) -> Verdict:  # noqa: ARG002 - other kinds need the label
        """See :class:`Kind`."""
        return Verdict.NOT_OK if score >= self._given.limit else Verdict.OK


def read_kind(table: Mapping[str, Any] | None, given: Given) -> Kind:
    """Return what reads the outputs of a model, as the table ``[output]`` of its manifest says.

    Args:
        table: The table; None: the four outputs ``score``, ``confidence``, ``expected``, ``contributions``.
        given: What they are read beside.

    Raises:
        ModelError: A key is missing, unknown or wrong (M620).
    """
    if table is None:
        return ScoreKind(given, {role: role for role in _ROLES})
    keys = Keys(table)
    try:
        kind = _KINDS[keys.choice("kind", sorted(_KINDS))](keys, given)
        keys.end()
    except ModelError as exc:
        raise ModelError(f"output: {exc}", code="M620") from exc
    return kind


_ROLES: Final = ("score", "confidence", "expected", "contributions")


def _score(keys: Keys, given: Given) -> Kind:
    roles = {"score": keys.text("score", "score")}
    roles |= {role: keys.text(role) for role in _ROLES[1:] if keys.has(role)}
    return ScoreKind(given, roles)


def _value(keys: Keys, given: Given) -> Kind:  # noqa: ARG001 - other kinds need what they are read beside
    return ValueKind(keys.text("value", "value"), keys.text("confidence", ""))


def _classes(keys: Keys, given: Given) -> Kind:  # noqa: ARG001 - other kinds need what they are read beside
    name, labels = keys.text("probabilities", "probabilities"), keys.texts("labels")
    apply = keys.choice("apply", tuple(_APPLY), "none")
    if not 1 < len(set(labels)) == len(labels) <= MAX_LABELS:
        raise _wrong(f"labels has to name 2..{MAX_LABELS} classes, each once")
    if apply == "sigmoid" and len(labels) != 2:
        raise _wrong(f'apply "sigmoid" is for 2 labels, not {len(labels)}')
    if any(not label or len(label) > MAX_LABEL or not label.isprintable() for label in labels):
        raise _wrong(f"labels: each has 1..{MAX_LABEL} characters that can be printed")
    ok, undecided = keys.texts("ok") or labels[:1], keys.texts("not_decidable")
    for key, named in (("ok", ok), ("not_decidable", undecided)):
        unknown = [label for label in named if label not in labels]
        if unknown:
            raise _wrong(f'{key} names "{unknown[0]}", which is not among the labels')
    if set(ok) & set(undecided):
        raise _wrong(f'"{min(set(ok) & set(undecided))}" is both in ok and in not_decidable')
    return ClassesKind(name, labels, ok=ok, undecided=undecided, apply=apply)


def _reconstruction(keys: Keys, given: Given) -> Kind:
    name = keys.text("reconstruction", "reconstruction")
    error, scale = keys.choice("error", ("rms", "mean", "max"), "rms"), keys.numbers("scale")
    if scale and len(scale) != given.size:
        raise _wrong(f"scale has {len(scale)} numbers; there are {given.size} features")
    if any(number <= 0.0 for number in scale):
        raise _wrong("scale holds a number that is not above 0")
    return ReconstructionKind(given, name, error, scale)


_KINDS: Final[dict[str, Callable[[Keys, Given], Kind]]] = {
    "score": _score,
    "value": _value,
    "classes": _classes,
    "reconstruction": _reconstruction,
}


def _wrong(sentence: str) -> ModelError:
    return ModelError(sentence, code="M620")
