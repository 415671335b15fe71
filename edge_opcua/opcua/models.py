"""Models as a client sees them: the versions there are, the job that changes one, and its alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

IDLE: Final = "Idle"
"""State before the first job."""

_CHANGED: Final = frozenset({"Active", "RolledBack"})
_ENDED: Final = _CHANGED | {"Validated", "Failed"}
_MOST_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One version of a model in the repository.

    Args:
        name: Name of the model.
        version: Version.
        sha256: Hash of its file, 64 lower-case hexadecimal digits.
        state: ``Available``, ``Active``, ``Standby``, ``Shadow``, ``Quarantined``, ``Failed`` or ``Retired``.
        features: Names of the features, in the order of contributions.
        proof: Figures it was accepted on, by name.
        reason: Why it is in this state; empty if that needs no words.
        pipelines: Pipelines that it judges for.
        trained_ns: When it was trained, ns UTC; 0 if nobody said.
        max_age_days: Days after which it is old; 0 if it never is.
        when_old: ``warn``, ``degrade`` or ``fail_safe``; empty if it never is.
        precision: Numbers it computes with; empty if nobody said.
        provenance: Where it comes from, by what is said of that.
    """

    name: str
    version: int
    sha256: str
    state: str = "Available"
    features: tuple[str, ...] = ()
    proof: Mapping[str, float | int | str] = field(default_factory=dict)
    reason: str = ""
    pipelines: tuple[str, ...] = ()
    trained_ns: int = 0
    max_age_days: float = 0.0
    when_old: str = ""
    precision: str = ""
    provenance: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """Name and version."""
        return self.name, self.version


@dataclass(frozen=True, slots=True)
class ShadowFigures:
    """How far a version that judges beside the active one agrees with it.

    Args:
        wanted: Captures that both shall judge.
        compared: Captures that both have judged.
        agreement: Share of the same verdict, 0..1.
        agreement_low: Lower end of its 95 % confidence interval.
    """

    wanted: int = 0
    compared: int = 0
    agreement: float = 0.0
    agreement_low: float = 0.0

    @classmethod
    def from_body(cls, body: Any) -> ShadowFigures:
        """Read ``shadow`` of a notification; what it lacks is 0."""
        given = body if isinstance(body, Mapping) else {}
        return cls(
            int(given.get("wanted") or 0),
            int(given.get("compared") or 0),
            float(given.get("agreement") or 0.0),
            float(given.get("agreement_low") or 0.0),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job that changes, validates or rolls back a model, as the supervisor reports it.

    Args:
        job_id: Id that the method returned.
        name: Model; of a roll-back, the one that is left.
        version: Version.
        state: ``Queued``, ``Loading``, ``Validating``, ``Shadow``, ``Switching``, ``Active``, ``RolledBack``,
            ``Validated`` or ``Failed``; ``Idle`` before the first job.
        percent: Progress, 0..100.
        reason: Why it failed; empty otherwise.
        kind: ``load``, ``validate`` or ``rollback``; empty before the first job.
        pipelines: Pipelines it is about.
        note: Why, in the words of who asked.
        user: Who asked.
        shadow: What a shadow has seen.
        before: Version that each pipeline ran when it began; empty if the notification does not say.
        now: Version that each of them runs since it ended; likewise.
    """

    job_id: str = ""
    name: str = ""
    version: int = 0
    state: str = IDLE
    percent: int = 0
    reason: str = ""
    kind: str = ""
    pipelines: tuple[str, ...] = ()
    note: str = ""
    user: str = ""
    shadow: ShadowFigures = field(default_factory=ShadowFigures)
    before: Mapping[str, int] = field(default_factory=dict)
    now: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Job:
        """Read a ``job`` notification; what it lacks is empty."""
        return cls(
            job_id=str(body.get("job", "")),
            name=str(body.get("name", "")),
            version=int(body.get("version", 0)),
            state=str(body.get("state", "")),
            percent=min(_MOST_PERCENT, max(0, int(body.get("percent", 0)))),
            reason=str(body.get("reason", "")),
            kind=str(body.get("kind", "load")),
            pipelines=_texts(body.get("pipelines")),
            note=str(body.get("note", "")),
            user=str(body.get("user", "")),
            shadow=ShadowFigures.from_body(body.get("shadow")),
            before=_versions(body.get("before")),
            now=_versions(body.get("now")),
        )

    @property
    def failed(self) -> bool:
        """Whether nothing came of it."""
        return self.state == "Failed"

    @property
    def changed(self) -> bool:
        """Whether another version judges now."""
        return self.state in _CHANGED

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in _ENDED


@dataclass(frozen=True, slots=True)
class ModelAlarm:
    """An alarm of a running model that comes or goes, as its watch reports it.

    Args:
        pipeline: Pipeline.
        name: Model.
        version: Its version.
        kind: ``errors``, ``latency``, ``drift`` …
        active: Whether it comes; False: it goes.
        value: What was measured; NaN if it is no number.
        limit: Where the alarm begins; NaN if there is no limit.
        text: The same in words.
        since_ns: Since when, ns UTC; 0: now.
        code: Stable code of the message.
    """

    pipeline: str
    name: str
    version: int
    kind: str
    active: bool
    value: float = math.nan
    limit: float = math.nan
    text: str = ""
    since_ns: int = 0
    code: str = ""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> ModelAlarm:
        """Read a ``watch`` notification; what it lacks is empty."""
        name, _, version = str(body.get("model", "")).rpartition("/")
        return cls(
            pipeline=str(body.get("pipeline", "")),
            name=name,
            version=int(version) if version.isdecimal() else 0,
            kind=str(body.get("kind", "")),
            active=bool(body.get("active", False)),
            value=_number(body.get("value")),
            limit=_number(body.get("limit")),
            text=str(body.get("text", "")),
            since_ns=int(body.get("since_ns") or 0),
            code=str(body.get("code", "")),
        )


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else ()


def _versions(value: Any) -> dict[str, int]:
    given = value if isinstance(value, Mapping) else {}
    return {str(name): version for name, version in given.items() if isinstance(version, int)}
