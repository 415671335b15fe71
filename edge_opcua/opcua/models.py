"""The models a client may ask for, as it sees them, and the state of the job that loads one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One version of a model in the repository.

    Args:
        name: Name of the model.
        version: Version.
        sha256: Hash of its file, 64 lower-case hexadecimal digits.
        state: ``Available``, ``Active``, ``Retired`` or ``Failed``.
        features: Names of the features, in the order of contributions.
        proof: Figures it was accepted on, by name.
    """

    name: str
    version: int
    sha256: str
    state: str = "Available"
    features: tuple[str, ...] = ()
    proof: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int]:
        """Name and version."""
        return self.name, self.version


@dataclass(frozen=True, slots=True)
class Job:
    """A job that loads a model, as the supervisor reports it.

    Args:
        job_id: Id that ``LoadModel`` returned.
        name: Model.
        version: Version.
        state: see :class:`edge_opcua.inference.lifecycle.JobState`.
        percent: Progress, 0..100.
        reason: Why it failed; empty otherwise.
    """

    job_id: str
    name: str
    version: int
    state: str
    percent: int
    reason: str = ""

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Job:
        """Read a ``job`` notification; what it lacks is empty."""
        return cls(
            job_id=str(body.get("job", "")),
            name=str(body.get("name", "")),
            version=int(body.get("version", 0)),
            state=str(body.get("state", "")),
            percent=min(100, max(0, int(body.get("percent", 0)))),
            reason=str(body.get("reason", "")),
        )

    @property
    def failed(self) -> bool:
        """Whether it ended without the new model."""
        return self.state == "Failed"

    @property
    def done(self) -> bool:
        """Whether the new model runs."""
        return self.state == "Active"
