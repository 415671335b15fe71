"""Which model a pipeline runs, as data that goes over a command line and into a file."""

from __future__ import annotations

import json
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

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


def choices_text(choices: Mapping[str, ModelChoice]) -> str:
    """Return the models of a group by pipeline, as the argument ``--models`` of a lane process."""
    return json.dumps({pipeline: choice.as_json() for pipeline, choice in choices.items()})


def choices_of(text: str) -> dict[str, ModelChoice]:
    """Return what :func:`choices_text` wrote.

    Raises:
        ModelError: It is something else (M500): a fault of ours, never of the user.
    """
    try:
        return {
            str(pipeline): ModelChoice(str(row["name"]), int(row["version"]), str(row["sha256"]))
            for pipeline, row in json.loads(text).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelError(f"these are no models: {text[:200]}", code="M500") from exc
