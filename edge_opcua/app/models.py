"""Which model each pipeline runs: the configured one, or what LoadModel made of it, over restarts too."""

from __future__ import annotations

import json
import os
from typing import Any

import structlog

from edge_opcua.app.choice import ModelChoice
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.repository import ModelRepository

_log = structlog.get_logger(__name__)


def install_delivered(config: EdgeConfig, state: StateDir) -> list[str]:
    """Copy the models delivered beside the configuration into the repository.

    Returns:
        What could not be installed, one sentence each; the others are there.
    """
    folder = config.models.folder
    if folder is None:
        return []
    repository = ModelRepository(state.models)
    refused = []
    for manifest in sorted(folder.glob("*/*/manifest.toml")):
        try:
            repository.install(manifest.parent)
        except ModelError as exc:
            refused.append(f"{exc.code}: {exc}")
    return refused


class ActiveModels:
    """The active model of each pipeline, kept in the state directory.

    Args:
        state: State directory.
        config: Names the model a pipeline starts with.
    """

    def __init__(self, state: StateDir, config: EdgeConfig) -> None:
        self._file = state.active_models
        self._config = config
        self._repository = ModelRepository(state.models)
        self._chosen: dict[str, dict[str, Any]] = self._read()

    def reconfigure(self, config: EdgeConfig) -> None:
        """Go by another configuration from now on."""
        self._config = config

    def choice(self, pipeline: str) -> ModelChoice:
        """Return the model to start a pipeline with; a hash it has no file for is left empty.

        The lane refuses what does not verify: a missing model keeps its pipeline out of service and the
        rest of the server running.
        """
        configured = self._config.pipeline(pipeline)
        kept = self._chosen.get(pipeline)
        if kept is not None and kept.get("name") == configured.model:
            return ModelChoice(str(kept["name"]), int(kept["version"]), str(kept["sha256"]))
        return ModelChoice(configured.model, configured.version, "")

    def keep(self, pipeline: str, choice: ModelChoice) -> None:
        """Remember a choice over a restart.

        Raises:
            OSError: The state directory cannot be written; the choice holds until the next restart.
        """
        self._chosen[pipeline] = choice.as_json()
        scratch = self._file.with_suffix(".new")
        with scratch.open("w") as stream:
            json.dump(self._chosen, stream)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(self._file)

    def verify(self, choice: ModelChoice) -> ModelChoice:
        """Return the choice with the hash of its verified files; reads them, so call it through a worker.

        Raises:
            ModelError: There is no such model, or it is not what it claims to be.
        """
        files = self._repository.resolve(choice.name, choice.version, choice.sha256 or None)
        return ModelChoice(choice.name, choice.version, files.manifest.sha256)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            kept = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as exc:
            _log.warning("models.choice_unreadable", file=str(self._file), error=str(exc))
            return {}
        if not isinstance(kept, dict):
            return {}
        return {name: row for name, row in kept.items() if _complete(row)}


def _complete(row: object) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("version"), int)
        and isinstance(row.get("sha256"), str)
    )
