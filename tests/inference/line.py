"""A press line on a real bus, written by hand: what the io process would publish, for tests of a lane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.batch import TagBatch
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.values import GOOD, BlockSpec, Link, Policy, Scalar, TagSpec, Value, Verdict, is_bad
from edge_opcua.features.stroke import Feature, StrokeFeatures
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.blocks import result_blocks, shadow_block, watch_block
from edge_opcua.inference.engine import Engine
from edge_opcua.inference.group import LaneGroup
from edge_opcua.inference.lane import ContextTag, Handover, Lane, LaneSpec
from edge_opcua.inference.readiness import Readiness, Ready, Wanted
from edge_opcua.inference.repository import ModelFiles, ModelRepository
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.schedule.request import Request
from edge_opcua.sim.physics import PressPhysics
from edge_opcua.testing import ManualClock

MODELS = Path(__file__).parents[2] / "examples" / "press" / "models"
PIPELINE = PipelineConfig(
    name="press-anomaly",
    model="press-anomaly",
    capture="vib/stroke",
    context=("press/tonnage", "press/die_temp", "press/strokes_per_min"),
    part_id="press/part_id",
)
UNITS = {"tonnage": "kN", "die_temp": "°C", "strokes_per_min": "1/min"}
DEADLINE_MS = 100.0
POLL_NS = 20_000_000


def context_tag(name: str, unit: str = "") -> ContextTag:
    return ContextTag(f"press/{name}", "press.fast", name, unit)


def spec(*, fail_safe: Verdict = Verdict.NOT_DECIDABLE) -> LaneSpec:
    return LaneSpec(
        pipeline="press-anomaly",
        capture="vib/stroke",
        capture_block="vib.stroke",
        wake=0,
        sample_rate_hz=10_000.0,
        waveform_unit="m/s²",
        context=tuple(context_tag(name, unit) for name, unit in UNITS.items()),
        part_id=context_tag("part_id"),
        result_block=PIPELINE.result_block,
        lane_block=PIPELINE.lane_block,
        shadow_block=PIPELINE.shadow_block,
        deadline_ms=DEADLINE_MS,
        fail_safe=fail_safe,
    )


def blocks(
    *, capture_depth: int = 16, hold_s: float = 2.0, pipelines: tuple[PipelineConfig, ...] = (PIPELINE,)
) -> tuple[BlockSpec, ...]:
    capture = (
        TagSpec("sequence", Scalar.UINT32),
        TagSpec("ready_ns", Scalar.INT64),
        TagSpec("stroke", Scalar.UINT32),
        TagSpec("sample_rate_hz", Scalar.DOUBLE),
        TagSpec("waveform", Scalar.FLOAT, 2_000),
    )
    fast = (
        TagSpec("tonnage", Scalar.FLOAT, substitute=820.0),
        TagSpec("die_temp", Scalar.FLOAT),
        TagSpec("strokes_per_min", Scalar.FLOAT),
        TagSpec("part_id", Scalar.INT64),
        TagSpec("recipe", Scalar.STRING, 16),
    )
    return (
        BlockSpec("vib.stroke", capture, capture_depth, Policy(hold_s=hold_s), wakes=len(pipelines)),
        BlockSpec("press.fast", fast, 16, Policy(stale_after_s=0.5, hold_s=hold_s)),
        *(block for pipeline in pipelines for block in result_blocks(pipeline)),
        *(shadow_block(pipeline) for pipeline in pipelines),
        *(watch_block(pipeline) for pipeline in pipelines),
    )


class Stalling(Engine):
    """An engine whose answers can be held back, as by a model that takes long in another thread."""

    stalled = False

    def turn(self) -> list[Request]:
        return [] if self.stalled else super().turn()

    def next_turn_ns(self) -> int | None:
        return None if self.stalled else super().next_turn_ns()


class OneLane:
    """A lane process with one pipeline, as its supervisor and its loop use it.

    Args:
        wanted: The pipeline.
        bus: The tag bus.
        clock: Clock of the lane; its models are measured on that of the machine.
    """

    def __init__(self, wanted: Wanted, bus: Bus, clock: Clock) -> None:
        self.wanted = wanted
        self.bus = bus
        self.clock = clock
        self._group: LaneGroup | None = None
        self._engines: list[Engine] = []

    def prepare(self) -> Ready:
        """Make the models ready; what has been prepared before is forgotten."""
        costs = self.costs = CostTable()
        readiness = Readiness(self.bus, SystemClock(), costs)
        ready = readiness.prepare(self.wanted)
        engine = Stalling(readiness.models, costs, self.clock, most=readiness.most)
        engine.start()
        self.serve(ready, engine)
        return ready

    def serve(self, ready: Ready, engine: Stalling) -> None:
        """Let the lane ask this engine."""
        lane = Lane(ready.spec, ready.models, self.bus, self.clock, extractor=ready.extractor, engine=engine)
        self._ready = ready
        self._engines.append(engine)
        self.engine = engine
        self._group = LaneGroup([lane], engine, self.bus, self.clock)

    def unseen(self, chosen: LaneSpec, outputs: Bus) -> Lane:
        """Make a lane of the same models that publishes elsewhere."""
        ready = self._ready
        lane = Lane(chosen, ready.models, self.bus, self.clock, extractor=ready.extractor, engine=self.engine)
        lane.publish_on(outputs)
        return lane

    def close(self) -> None:
        for engine in self._engines:
            engine.close()

    @property
    def group(self) -> LaneGroup:
        assert self._group is not None, "it is not prepared"
        return self._group

    @property
    def lane(self) -> Lane:
        return self.group.lanes[self.wanted.spec.pipeline]

    def activate(self, cursor: int | None) -> None:
        self.group.activate({self.wanted.spec.pipeline: cursor})
        self.group.step()

    def step(self) -> None:
        self.group.step()

    async def run(self) -> None:
        await self.group.run()

    def retire(self) -> Handover:
        return self.group.retire()[self.wanted.spec.pipeline]


def slow_down(lane: OneLane, clock: ManualClock, delay_s: float) -> None:
    """Let the clock move on during each run of the model."""
    binding = lane.lane.model.bind()
    run = binding._run

    def slower() -> None:
        run()
        clock.step(delay_s)

    binding._run = slower


class Line:
    """The bus of a press cell and the hand that feeds it.

    Args:
        clock: Clock of the bus and of the lanes.
        capture_depth: Captures the ring keeps.
        pipelines: Pipelines that judge them; the results of the first are what is looked at.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        capture_depth: int = 16,
        pipelines: tuple[PipelineConfig, ...] = (PIPELINE,),
    ) -> None:
        self.clock: Clock = clock or ManualClock()
        made = blocks(capture_depth=capture_depth, pipelines=pipelines)
        self.bus = Bus.create(made, clock=self.clock)
        self.physics = PressPhysics(7)
        self.lanes: list[OneLane] = []
        self.captures = self.bus.writer("vib.stroke")
        self.fast = self.bus.writer("press.fast")
        self.results = self.bus.reader(pipelines[0].result_block, from_newest=False)
        self.health = self.bus.reader(pipelines[0].lane_block, from_newest=False)
        self.tags(tonnage=820.0, die_temp=45.0, strokes_per_min=18.0, part_id=100_000)

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.bus.close()

    def lane(
        self,
        files: ModelFiles,
        *,
        lane_spec: LaneSpec | None = None,
        bus: Bus | None = None,
        extractor: StrokeFeatures | None = None,
        cheaper: tuple[ModelFiles, ...] = (),
        most: int = 1,
    ) -> OneLane:
        chosen = lane_spec or spec()
        wanted = Wanted(
            chosen,
            (files, *cheaper),
            OnnxRuntimeBackend.load,
            lambda _: extractor or extractor_for(chosen.ordered_for(files.manifest)),
            most=most,
        )
        self.lanes.append(OneLane(wanted, bus or self.bus, self.clock))
        return self.lanes[-1]

    def tags(self, *, link: Link = Link.UP, refreshed: bool = True, **values: float) -> None:
        """Publish process values."""
        batch = self.fast.batch
        for name, value in values.items():
            batch.set(batch.row(name), value)
            batch.status[batch.row(name)] = GOOD
            batch.source_ns[batch.row(name)] = self.clock.utc_ns()
        self.fast.publish(link=link, refreshed=refreshed)

    def tag_status(self, name: str, status: int) -> None:
        """Publish another status of one process value."""
        self.fast.batch.status[self.fast.batch.row(name)] = status
        self.fast.publish()

    def stroke(
        self,
        number: int,
        *,
        wear: float = 0.0,
        waveform: npt.NDArray[np.float32] | None = None,
        status: int = GOOD,
        ready_ns: int | None = None,
    ) -> int:
        """Publish the capture of one stroke and its process values; return its bus sequence."""
        stroke = self.physics.stroke(number, wear=wear)
        self.tags(
            tonnage=stroke.tonnage,
            die_temp=stroke.die_temp,
            strokes_per_min=stroke.strokes_per_min,
            part_id=stroke.part_id,
        )
        batch = self.captures.batch
        captured_ns = self.clock.utc_ns() - POLL_NS if ready_ns is None else ready_ns
        values: dict[str, Any] = {
            "sequence": number,
            "ready_ns": captured_ns,
            "stroke": number,
            "sample_rate_hz": 10_000.0,
            "waveform": stroke.waveform if waveform is None else waveform,
        }
        for name, value in values.items():
            batch.set(batch.row(name), value)
        batch.status[:] = GOOD
        batch.status[batch.row("waveform")] = status
        batch.source_ns[:] = captured_ns
        batch.server_ns[:] = self.clock.utc_ns()
        return self.captures.publish()

    def link(self, link: Link) -> None:
        """Publish a change of the vibration unit's link."""
        self.captures.publish(link=link, refreshed=False)

    def judged(self) -> list[dict[str, Value]]:
        """Return every result since the last call as plain values; Bad ones are None."""
        return [plain(batch) for batch in self.results.poll()]

    def verdict(self) -> dict[str, Value]:
        """Return the one result since the last call."""
        (only,) = self.judged()
        return only

    def counters(self) -> dict[str, Value]:
        batch = self.health.latest()
        assert batch is not None
        return plain(batch)


def plain(batch: TagBatch) -> dict[str, Value]:
    """Return the rows of a batch by name, and the status of each as ``<name>.status``."""
    values: dict[str, Value] = {}
    for row, tag in enumerate(batch.layout.spec.tags):
        status = int(batch.status[row])
        values[tag.name] = None if is_bad(status) else batch.value(row)
        values[f"{tag.name}.status"] = status
        values[f"{tag.name}.source_ns"] = int(batch.source_ns[row])
    return values


def extractor_for(chosen: LaneSpec) -> StrokeFeatures:
    return StrokeFeatures(
        sample_count=2_000,
        sample_rate_hz=chosen.sample_rate_hz,
        unit=chosen.waveform_unit,
        context=tuple(Feature(tag.name, tag.unit) for tag in chosen.context),
    )


def delivered(version: int = 1) -> ModelFiles:
    return ModelRepository(MODELS).resolve("press-anomaly", version)


def with_context(chosen: LaneSpec, *tags: ContextTag) -> LaneSpec:
    return replace(chosen, context=tags)
