"""Which model each pipeline runs: the configured one, or what the ledger says became of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.ledger import Stand, Standing
from edge_opcua.inference.ledgerfile import read_history
from edge_opcua.inference.manifest import load_manifest
from edge_opcua.inference.repository import MANIFEST_FILE, ModelRepository
from edge_opcua.inference.watch.age import age_of
from edge_opcua.inference.watch.terms import age_terms

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
    """The active model of each pipeline.

    Args:
        state: State directory.
        config: Names the model a pipeline starts with.
        standing: Says what is the case; None reads the ledger, once, as one who does not write it.
    """

    def __init__(
        self, state: StateDir, config: EdgeConfig, standing: Callable[[], Standing] | None = None
    ) -> None:
        self._config = config
        self._repository = ModelRepository(state.models)
        self._live = standing
        self._read = read_standing(state) if standing is None else Standing()

    @property
    def standing(self) -> Standing:
        """What is the case."""
        return self._read if self._live is None else self._live()

    def reconfigure(self, config: EdgeConfig) -> None:
        """Go by another configuration from now on."""
        self._config = config

    def choice(self, pipeline: str) -> ModelChoice:
        """Return the model to start a pipeline with; a hash it has no file for is left empty.

        The lane refuses what does not verify: a missing model keeps its pipeline out of service and the
        rest of the server running.
        """
        configured = self._config.pipeline(pipeline)
        active = self.standing.of(pipeline).active
        if active is not None and active.name == configured.model:
            return active
        return ModelChoice(configured.model, configured.version, "")

    def ways_back(self, pipeline: str) -> list[ModelChoice]:
        """Return the former versions a pipeline may go back to, the latest first; none is verified yet."""
        configured = self._config.pipeline(pipeline)
        return [each for each in self.standing.ways_back(pipeline) if each.name == configured.model]

    def way_back(self, pipeline: str) -> ModelChoice | None:
        """Return the latest former version that is in the repository as it was; reads its files."""
        for choice in self.ways_back(pipeline):
            try:
                return self.verify(choice)
            except ModelError as exc:
                _log.warning("models.no_way_back", pipeline=pipeline, reason=str(exc), **choice.as_json())
        return None

    def verify(self, choice: ModelChoice) -> ModelChoice:
        """Return the choice with the hash of its verified files; reads them, so call it through a worker.

        Raises:
            ModelError: There is no such model, or it is not what it claims to be.
        """
        files = self._repository.resolve(choice.name, choice.version, choice.sha256 or None)
        return ModelChoice(choice.name, choice.version, files.manifest.sha256)

    def require_fresh(self, choice: ModelChoice, pipelines: Iterable[str], utc_ns: int) -> None:
        """Refuse a version that is so old that it would give nothing but the fail-safe verdict; reads a file.

        One that judges already goes on, as its age policy says; nobody puts another such one in its place.

        Args:
            choice: A version whose files are verified.
            pipelines: What it shall run in.
            utc_ns: The time, ns UTC.

        Raises:
            ModelError: It is too old for one of them (M657).
        """
        manifest = load_manifest(self._repository.folder(choice.name, choice.version) / MANIFEST_FILE)
        for name in pipelines:
            age = age_of(age_terms(self._config.pipeline(name).watch, manifest), utc_ns)
            if age.effect == "fail_safe":
                raise ModelError(f"{choice.text} is too old for {name}: {age.reason}", code="M657")


def read_standing(state: StateDir) -> Standing:
    """Return what the ledger of a state directory says; what an older release wrote down counts as well."""
    try:
        standing = read_history(state.model_ledger).standing
    except OSError as exc:
        _log.warning("models.ledger_unreadable", file=str(state.model_ledger), error=str(exc))
        standing = Standing()
    adopted = {name: Stand(choice) for name, choice in read_adopted(state.active_models).items()}
    return Standing({**adopted, **standing.pipelines}, standing.quarantined, standing.open)


def read_adopted(file: Path) -> dict[str, ModelChoice]:
    """Return the choices that an older release had kept, by pipeline; none if there is no such file."""
    try:
        kept = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as exc:
        _log.warning("models.choice_unreadable", file=str(file), error=str(exc))
        return {}
    found = {}
    for name, row in (kept if isinstance(kept, dict) else {}).items():
        try:
            found[str(name)] = ModelChoice.of(row)
        except ModelError as exc:
            _log.warning("models.choice_unreadable", file=str(file), error=str(exc))
    return found
