"""A version that is about to take over, and one that has just been relieved: the warm processes beside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.starting import LaneProcess
from edge_opcua.inference.shadow import Agreement

ShadowProgress: TypeAlias = Callable[[Mapping[str, Agreement]], Awaitable[None]]
"""Told how far a shadow has come, by pipeline."""


@dataclass(frozen=True, slots=True)
class ShadowTerms:
    """What a version has to show in shadow before it may take over.

    Args:
        captures: Captures to compare, of each changed pipeline.
        within_s: Longest time for them, seconds.
        agreement: Least share of them on which both versions give the same verdict.
    """

    captures: int
    within_s: float = 3600.0
    agreement: float = 0.98


@dataclass(slots=True, eq=False)
class Candidate:
    """A process with new models that is loaded, warm and proven, and judges nothing yet.

    Args:
        lane: The process.
        changes: The models that are new, by pipeline.
        generation: Of the keeper, when it was prepared: a configuration that changed meanwhile ends it.
        reports: What it has shown in shadow, by pipeline; empty if it was not asked to.
        promoted: Whether it is as urgent as its lanes, and has rehearsed.
    """

    lane: LaneProcess
    changes: Mapping[str, ModelChoice]
    generation: int
    reports: Mapping[str, Agreement] = field(default_factory=dict)
    promoted: bool = False

    @property
    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """What was measured of each model, by pipeline: ``p50_us``, ``p99_us``, ``load_ms`` and more."""
        return self.lane.facts


@dataclass(slots=True, eq=False)
class Standby:
    """A process that was relieved: retired, still loaded, idle.

    Args:
        lane: The process.
        until_s: When it ends, monotonic.
    """

    lane: LaneProcess
    until_s: float

    def row(self, now_s: float) -> dict[str, Any]:
        """Return it for ``status``."""
        return {
            "role": self.lane.role,
            "pid": self.lane.child.pid,
            "models": {name: choice.as_json() for name, choice in self.lane.models.items()},
            "left_s": round(max(0.0, self.until_s - now_s), 1),
        }
