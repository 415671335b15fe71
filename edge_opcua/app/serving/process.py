"""A lane process: the pipelines of one group with their models, standing by until told to take over."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from edge_opcua.app.child import until_stopped
from edge_opcua.app.serving.choices import ModelChoice, choices_of
from edge_opcua.app.serving.duty import FIRST_VICTIM, Duty, DutyParts, Rank
from edge_opcua.app.serving.shadowing import Shadowed, Shadowing
from edge_opcua.app.serving.spares import Spares
from edge_opcua.app.serving.surroundings import LaneParts, LaneWatch
from edge_opcua.app.serving.wanted import wanted_for
from edge_opcua.app.serving.watching import model_watch
from edge_opcua.config.lanes import AUTO
from edge_opcua.config.schema import EdgeConfig, PipelineConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.control import SUPERVISOR
from edge_opcua.core.process import EXIT_HUNG, Child, end_now
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ConfigError, ModelError
from edge_opcua.inference import memory
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.group import LaneGroup
from edge_opcua.inference.lane import Lane
from edge_opcua.inference.overrun import Hung
from edge_opcua.inference.readiness import Readiness, Ready, Wanted
from edge_opcua.inference.repository import ModelRepository
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import LaneClass
from edge_opcua.inference.spec import LaneSpec
from edge_opcua.inference.unseen import MakeLane

SPARE_S: Final = 2.0
"""Beside the time that a model is given to load and prove itself: to end it when that is over."""
CANCEL_S: Final = 1.0
INLINE_NS: Final = 1_000_000
"""Longest run in the thread that takes captures in: what cannot be met is refused within a millisecond."""

_log = structlog.get_logger(__name__)


async def run(child: Child, config: EdgeConfig) -> None:
    """Prepare the models, say so, judge once activated; one that is not fit is refused with its reason."""
    name, choices = _arguments(child.arguments)
    pipelines = [config.pipeline(pipeline) for pipeline in choices]
    limit = memory.Limit(
        keep_free_bytes=config.inference.keep_free_mb * memory.MB,
        most_bytes=_most_bytes(pipelines),
    )
    memory.offer_as_victim(FIRST_VICTIM)
    costs = CostTable()
    cache = StateDir(child.state_dir).model_cache
    readiness = Readiness(child.bus, child.clock, costs, limit=limit, cache=cache)
    ready, refused = await _Preparation(child, config, readiness).run(choices)
    if not ready:
        child.control.notify(SUPERVISOR, "refused", {"refused": refused})
        await child.stopping.wait()
        return
    urgency = min(each.spec.lane for each in ready.values())
    workers = _workers(config, name, readiness, ready.values(), costs)
    engine = Engine(
        readiness.models,
        costs,
        child.clock,
        workers=workers,
        most=readiness.most,
        on_hung=_Hanging(child, ready),
    )
    makers = {pipeline: _maker(child, each, engine) for pipeline, each in ready.items()}
    lanes = [makers[pipeline](each.spec, child.bus) for pipeline, each in ready.items()]
    engine.start()
    rank = Rank(urgency, _cores(config, name), child.clock)
    group = LaneGroup(lanes, engine, child.bus, child.clock, idle=rank.idle)
    shadowed = [
        Shadowed(each.spec, each.models[0].manifest, makers[pipeline]) for pipeline, each in ready.items()
    ]
    shadowing = Shadowing(child, engine, shadowed)
    duty = Duty(DutyParts(group, engine, child.bus, shadowed, shadowing, rank))

    async def watch() -> None:
        await rank.promoted.wait()
        parts = LaneParts(group, engine, costs, limit, rank.granted, workers)
        await LaneWatch(child, config, name, parts).run()

    models = await model_watch(child, config, ready, group.lanes, engine)
    child.handle = duty.handle
    facts = {pipeline: each.facts for pipeline, each in ready.items()}
    child.control.notify(SUPERVISOR, "ready", {"pipelines": facts, "refused": refused})
    try:
        await until_stopped(child, duty.run, watch, shadowing.run, models.run)
    finally:
        engine.close()


def _maker(child: Child, ready: Ready, engine: Engine) -> MakeLane:
    """Return what makes lanes of a pipeline: the one that judges, and those that judge unseen."""

    def make(spec: LaneSpec, outputs: Bus) -> Lane:
        lane = Lane(
            spec,
            ready.models,
            child.bus,
            child.clock,
            extractor=ready.extractor,
            engine=engine,
        )
        lane.publish_on(outputs)
        return lane

    return make


def _arguments(arguments: Sequence[str]) -> tuple[str, dict[str, ModelChoice]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--group", required=True)
    parser.add_argument("--models", required=True)
    given = parser.parse_args(arguments)
    return given.group, choices_of(given.models)


def _most_bytes(pipelines: Sequence[PipelineConfig]) -> int | None:
    total_mb = memory.total_mb(pipeline.memory_mb for pipeline in pipelines)
    return None if total_mb is None else total_mb * memory.MB


def _cores(config: EdgeConfig, name: str) -> tuple[int, ...]:
    return next((group.cores for group in config.inference.groups if group.name == name), ())


def _workers(
    config: EdgeConfig, name: str, readiness: Readiness, ready: Collection[Ready], costs: CostTable
) -> int:
    """Return how many threads run the models; 0 runs them in the main thread, without a hop.

    A thread of its own is needed where a run has to be interrupted for another one, waits for a network, or
    takes so long that a capture could not be refused in time meanwhile. Safety lanes refuse nothing.
    """
    wanted = next((group.workers for group in config.inference.groups if group.name == name), 1)
    classes = {each.spec.lane for each in ready}
    if classes == {LaneClass.SAFETY}:
        return 0
    mixed = len(classes) > 1
    remote = any(model.is_remote for model in readiness.models.values())
    longest_ns = max(costs.cost_ns(key, costs.sizes(key)[-1]) for key in readiness.models)
    return wanted if wanted > 1 or mixed or remote or longest_ns > INLINE_NS else 0


class _Preparation:
    """Makes one pipeline after the other ready, each in its time.

    Args:
        child: This process.
        config: The configuration.
        readiness: Loads and proves the models.
    """

    def __init__(self, child: Child, config: EdgeConfig, readiness: Readiness) -> None:
        self._child = child
        self._config = config
        self._readiness = readiness
        self._repository = ModelRepository(StateDir(child.state_dir).models)
        self._spares = Spares(StateDir(child.state_dir))
        self._worker = Worker("model")

    async def run(
        self, choices: Mapping[str, ModelChoice]
    ) -> tuple[dict[str, Ready], dict[str, dict[str, str]]]:
        """Return what is ready, and code and reason of what is not."""
        ready: dict[str, Ready] = {}
        refused: dict[str, dict[str, str]] = {}
        for number, (name, choice) in enumerate(choices.items(), start=1):
            tell = self._loaded if number == len(choices) else _nobody
            try:
                ready[name] = await self._prepare(name, choice, tell)
            except (ModelError, ConfigError) as exc:
                code = exc.code if isinstance(exc, ModelError) else "M520"
                refused[name] = {"reason": str(exc), "code": code}
        self._worker.close()
        return ready, refused

    async def _prepare(self, name: str, choice: ModelChoice, tell: Callable[[], None]) -> Ready:
        load_s = self._config.pipeline(name).load_s
        loop = asyncio.get_running_loop()

        def loaded() -> None:
            loop.call_soon_threadsafe(tell)

        def prepare() -> Ready:
            return self._readiness.prepare(self._wanted(self._config.pipeline(name), choice), loaded)

        # A model may compute for ever when it is proven: then its run is cancelled.
        ender = self._child.clock.call_later(load_s + SPARE_S, self._readiness.give_up)
        try:
            return await self._worker.call(prepare, timeout_s=load_s + SPARE_S + CANCEL_S)
        except TimeoutError:
            raise ModelError(f"{choice.key} was not loaded and proven in {load_s:g} s", code="M591") from None
        finally:
            ender.cancel()

    def _wanted(self, pipeline: PipelineConfig, choice: ModelChoice) -> Wanted:
        files = [self._repository.resolve(choice.name, choice.version, choice.sha256 or None)]
        if pipeline.cheaper_version == AUTO:
            spares = self._spares.of(pipeline, files[0].manifest)
            return wanted_for(self._config, pipeline, files, spares)
        if pipeline.cheaper_version is not None and pipeline.cheaper_version != choice.version:
            files.append(self._repository.resolve(choice.name, pipeline.cheaper_version, None))
        return wanted_for(self._config, pipeline, files)

    def _loaded(self) -> None:
        self._child.control.notify(SUPERVISOR, "loaded", {})


def _nobody() -> None:
    return


@dataclass(frozen=True, slots=True)
class _Hanging:
    """Ends the process when a model does not end its run: nothing else ends it, and nobody can be served.

    Args:
        child: This process.
        ready: Its pipelines.
    """

    child: Child
    ready: Mapping[str, Ready]

    def __call__(self, hung: Hung) -> None:
        for pipeline, each in self.ready.items():
            if hung.model in {model.key for model in each.models}:
                body = {"source": pipeline, "code": hung.code, "text": str(hung)}
                self.child.control.last_words(SUPERVISOR, "fault", body)
        _log.error("lane.hung", model=hung.model, took_ms=hung.took_ns / 1e6)
        end_now(EXIT_HUNG)
