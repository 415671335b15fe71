"""Puts together what watches the models of a lane process: their profiles, reference samples and terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import SUPERVISOR
from edge_opcua.core.process import Child
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ModelError
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.lane import Lane
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.readiness import Ready
from edge_opcua.inference.watch.lanemodelwatch import LaneModelWatch, Watched
from edge_opcua.inference.watch.profile import ReferenceProfile, load_profile
from edge_opcua.inference.watch.reference import ReferenceCheck, References, references_of
from edge_opcua.inference.watch.terms import terms_of

READ_S: Final = 60.0

_log = structlog.get_logger(__name__)


async def model_watch(
    child: Child, config: EdgeConfig, ready: Mapping[str, Ready], lanes: Mapping[str, Lane], engine: Engine
) -> LaneModelWatch:
    """Return what watches the models of a process; reads their files in another thread.

    Args:
        child: The process.
        config: The configuration.
        ready: Its pipelines, ready to be served.
        lanes: Their lanes.
        engine: Runs the models.
    """
    models = StateDir(child.state_dir).models
    worker = Worker("watch")
    try:
        read = await worker.call(
            lambda: {name: _Read(each, models) for name, each in ready.items()}, timeout_s=READ_S
        )
        watched = [
            _watched(child, config, each, lanes[name], read[name], engine) for name, each in ready.items()
        ]

        def tell(kind: str, body: Mapping[str, object]) -> None:
            child.control.notify(SUPERVISOR, kind, body)

        # Limits are drawn by lot, which takes some 0.1 s for each model: not in the thread that judges.
        return await worker.call(
            lambda: LaneModelWatch(watched, child.bus, child.clock, tell), timeout_s=READ_S
        )
    finally:
        worker.close()


class _Read:
    """The files of one model that are needed to watch it; one that cannot be read is done without."""

    def __init__(self, ready: Ready, models: Path) -> None:
        model = ready.models[0]
        folder = models / model.manifest.name / str(model.manifest.version)
        self.fault = ""
        self.profile = self._profile(folder, model.manifest)
        self.references: References | None = None
        try:
            self.references = references_of(model, folder / model.manifest.golden.file)
        except ModelError as exc:
            _log.warning("watch.no_references", model=model.key, error=str(exc))

    def _profile(self, folder: Path, manifest: Manifest) -> ReferenceProfile | None:
        if manifest.profile is None:
            return None
        try:
            return load_profile(
                folder / manifest.profile.file, manifest.names, sha256=manifest.profile.sha256
            )
        except ModelError as exc:
            self.fault = f"{exc.code}: {exc}"
            _log.warning("watch.no_profile", model=f"{manifest.name}/{manifest.version}", error=str(exc))
            return None


def _watched(
    child: Child, config: EdgeConfig, ready: Ready, lane: Lane, read: _Read, engine: Engine
) -> Watched:
    pipeline = config.pipeline(ready.spec.pipeline)
    terms = terms_of(pipeline, ready.models[0].manifest, profile_fault=read.fault)
    check = None
    if read.references is not None and terms.reference_every_s:
        check = ReferenceCheck(
            read.references,
            engine,
            child.clock,
            lane=ready.spec.lane,
            every_s=terms.reference_every_s,
            deadline_ms=terms.deadline_ms,
            cost_us=float(ready.facts["p99_us"]),
        )
    return Watched(lane, pipeline.watch_block, terms, read.profile, check)
