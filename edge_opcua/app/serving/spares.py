"""The cheaper versions of a model that nobody named: proved and faster ones of its family."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import structlog

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import ModelError
from edge_opcua.inference.family import faster_versions
from edge_opcua.inference.ledgerfile import read_history
from edge_opcua.inference.manifest import Manifest, load_manifest
from edge_opcua.inference.repository import MANIFEST_FILE, ModelFiles, ModelRepository

MOST: Final = 3
"""Versions that are tried, one after the other; each may take as long to load as the one that judges."""

_log = structlog.get_logger(__name__)


class Spares:
    """What stands ready where a pipeline says ``cheaper_version = "auto"``; all methods read files.

    Args:
        state: The state directory.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._repository = ModelRepository(state.models)

    def versions(self, pipeline: PipelineConfig, running: Manifest) -> list[Manifest]:
        """Return the versions that may answer in place of another one, the fastest first; none is verified.

        Raises:
            OSError: The ledger, which says what is in quarantine, cannot be read.
        """
        quarantined = read_history(self._state.model_ledger).standing.quarantined
        family = [
            manifest
            for manifest in self._manifests(running.name)
            if (manifest.name, manifest.version) not in quarantined
        ]
        return faster_versions(running, family, pipeline.provider)

    def of(self, pipeline: PipelineConfig, running: Manifest) -> list[ModelFiles]:
        """Return some of them whose files are what they should be, the fastest first."""
        try:
            found = self.versions(pipeline, running)
        except OSError as exc:
            _log.warning("lane.no_spare", pipeline=pipeline.name, model=running.name, error=str(exc))
            return []
        return list(itertools.islice(self._verified(pipeline, found), MOST))

    def _manifests(self, name: str) -> Iterator[Manifest]:
        for known, version in self._repository.versions():
            if known != name:
                continue
            try:
                manifest = load_manifest(self._repository.folder(name, version) / MANIFEST_FILE)
            except ModelError as exc:
                _log.warning("lane.no_spare", model=f"{name}/{version}", code=exc.code, error=str(exc))
                continue
            if manifest.version == version:
                yield manifest

    def _verified(self, pipeline: PipelineConfig, found: list[Manifest]) -> Iterator[ModelFiles]:
        for manifest in found:
            try:
                yield self._repository.resolve(manifest.name, manifest.version, manifest.sha256)
            except ModelError as exc:
                name = f"{manifest.name}/{manifest.version}"
                _log.warning(
                    "lane.no_spare", pipeline=pipeline.name, model=name, code=exc.code, error=str(exc)
                )
