"""Which model a pipeline runs, as data that goes over a command line and into a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_opcua.errors import ModelError


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model a lane runs.

    Args:
        name: Name of the model in the repository.
        version: Its version.
        sha256: Its hash; empty if any will do that verifies.
    """

    name: str
    version: int
    sha256: str

    @property
    def key(self) -> str:
        """Name and version, as models are called in tables of costs."""
        return f"{self.name}/{self.version}"

    @property
    def text(self) -> str:
        """Name and version for people."""
        return f"{self.name} {self.version}"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}

    @classmethod
    def of(cls, row: object) -> ModelChoice:
        """Return what :meth:`as_json` wrote.

        Raises:
            ModelError: It is something else (M500).
        """
        match row:
            case {"name": str(name), "version": int(version), "sha256": str(sha256)}:
                return cls(name, version, sha256)
        raise ModelError(f"this is no model: {str(row)[:200]}", code="M500")

    def is_same(self, other: ModelChoice | None) -> bool:
        """Whether another one means the same version; a hash that is not given fits every one."""
        if other is None or (self.name, self.version) != (other.name, other.version):
            return False
        return not (self.sha256 and other.sha256) or self.sha256 == other.sha256


def choices_json(choices: Mapping[str, ModelChoice]) -> dict[str, dict[str, Any]]:
    """Return choices by pipeline as plain data."""
    return {pipeline: choice.as_json() for pipeline, choice in choices.items()}
