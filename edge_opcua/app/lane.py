"""A lane process: one pipeline with one model, standing by until it is told to take over."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from edge_opcua.app.child import until_stopped
from edge_opcua.app.choice import ModelChoice
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.control import SUPERVISOR, Reply, Request
from edge_opcua.core.process import Child
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_NOT_SUPPORTED
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError, ModelError
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.lane import Lane, lane_spec
from edge_opcua.inference.manifest import Manifest
from edge_opcua.inference.model import ReadyFacts
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.plugins import BACKENDS, InstalledPlugins

PREPARE_S = 60.0


async def run(child: Child, config: EdgeConfig) -> None:
    """Prepare the model, say so, judge once activated; a model that is not fit is refused with its reason."""
    pipeline, choice = _arguments(child.arguments)
    try:
        lane, facts = await Worker("model").call(
            _prepare, child, config, pipeline, choice, timeout_s=PREPARE_S
        )
    except (ModelError, ConfigError) as exc:
        code = exc.code if isinstance(exc, ModelError) else "M520"
        child.control.notify(SUPERVISOR, "refused", {"reason": str(exc), "code": code})
        await child.stopping.wait()
        return
    duty = _Duty(lane)
    child.handle = duty.handle
    child.control.notify(SUPERVISOR, "ready", facts.notice())
    await until_stopped(child, duty.run)


def _arguments(arguments: Sequence[str]) -> tuple[str, ModelChoice]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--pipeline", "--model", "--sha256"):
        parser.add_argument(name, required=True)
    parser.add_argument("--version", type=int, required=True)
    given = parser.parse_args(arguments)
    return given.pipeline, ModelChoice(given.model, given.version, given.sha256)


def _prepare(child: Child, config: EdgeConfig, pipeline: str, choice: ModelChoice) -> tuple[Lane, ReadyFacts]:
    """Load, warm and prove the model; reads files and computes, so it runs beside the event loop."""
    files = ModelRepository(StateDir(child.state_dir).models).resolve(
        choice.name, choice.version, choice.sha256 or None
    )
    backend = InstalledPlugins().load(BACKENDS, config.pipeline(pipeline).backend)
    lane = Lane(
        lane_spec(config, pipeline).ordered_for(files.manifest),
        files,
        child.bus,
        child.clock,
        extractor=_extractor(files.manifest),
        load_backend=backend.load,
        provider=config.pipeline(pipeline).provider,
    )
    return lane, lane.prepare()


def _extractor(manifest: Manifest) -> StrokeFeatures:
    """Return the feature arithmetic as the model was trained with it; the lane compares the two."""
    return StrokeFeatures(
        sample_count=manifest.sample_count,
        sample_rate_hz=manifest.sample_rate_hz,
        unit=manifest.waveform_unit,
        context=[Feature(feature.name, feature.unit) for feature in manifest.context],
    )


class _Duty:
    """Takes orders of the supervisor for a prepared lane."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._activated = asyncio.Event()

    async def handle(self, request: Request) -> Reply:
        """Answer ``activate`` and ``retire``."""
        if request.kind == "activate":
            cursor = request.body.get("cursor")
            try:
                self._lane.activate(None if cursor is None else int(cursor))
            except ModelError as exc:
                return Reply(BAD_INVALID_STATE, str(exc))
            self._activated.set()
            return Reply()
        if request.kind == "retire":
            handover = self._lane.retire()
            return Reply(body={"cursor": handover.cursor, "sequence": handover.sequence})
        return Reply(BAD_NOT_SUPPORTED, f"a lane does not know {request.kind}")

    async def run(self) -> None:
        """Judge from the activation on."""
        await self._activated.wait()
        await self._lane.run()
