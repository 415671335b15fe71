"""A pipeline on plain tags by hand: configuration, bus, sampler and lane, with a small model of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_opcua import training
from edge_opcua.app.serving.extractors import complete, extractor_of
from edge_opcua.app.serving.judges import judge_of
from edge_opcua.config.schema import DeviceConfig, EdgeConfig, GroupConfig, PipelineConfig, SiteConfig
from edge_opcua.config.tags import TagConfig, TagRows
from edge_opcua.core.bus import Bus
from edge_opcua.core.values import GOOD, BlockSpec, Policy, Scalar, TagSpec
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.blocks import result_blocks, shadow_block, watch_block
from edge_opcua.inference.fed import fed_with, samples_block
from edge_opcua.inference.readiness import Wanted
from edge_opcua.inference.repository import ModelFiles, verify
from edge_opcua.inference.spec import lane_spec
from edge_opcua.inference.tagsampler import TagSampler
from edge_opcua.testing import ManualClock
from tests.inference.line import OneLane, plain

Floats = npt.NDArray[np.float32]
UNITS = {"speed": "1/min", "oil_temp": "°C", "level": "mm"}
PERIOD_MS = 100


def pipeline(**keys: Any) -> PipelineConfig:
    inputs = {name: f"press/{name}" for name in UNITS}
    return PipelineConfig(**{"name": "oil", "model": "oil", "inputs": inputs, "every_ms": PERIOD_MS, **keys})


def config(chosen: PipelineConfig) -> EdgeConfig:
    rows = [
        TagConfig(name=name, address=name, type=Scalar.FLOAT, unit=unit, group="fast")
        for name, unit in UNITS.items()
    ]
    device = DeviceConfig(
        name="press",
        driver="fake",
        url="fake://press",
        tags=TagRows.of(rows),
        groups=(GroupConfig(name="fast", period_ms=PERIOD_MS),),
    )
    return EdgeConfig(
        version=1, site=SiteConfig(name="plant", machine="Press"), devices=(device,), pipelines=(chosen,)
    )


def linear(k: int, outputs: Mapping[str, Sequence[Sequence[float]]], *, shape: tuple[int, ...] = ()) -> bytes:
    """Return a model whose outputs are weighted sums of its inputs, and a constant as the last weight."""
    nodes, weights, answers = [], [], []
    source = "x"
    if shape:
        weights.append(numpy_helper.from_array(np.array([-1, k], np.int64), "flat"))
        nodes.append(helper.make_node("Reshape", ["x", "flat"], ["rows"]))
        source = "rows"
    for name, table in outputs.items():
        matrix = np.array(table, np.float32)
        weights.append(numpy_helper.from_array(matrix[:, :-1].T.copy(), f"{name}_w"))
        weights.append(numpy_helper.from_array(matrix[:, -1].copy(), f"{name}_b"))
        nodes.append(helper.make_node("Gemm", [source, f"{name}_w", f"{name}_b"], [name]))
        answers.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(matrix)]))
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *(shape[1:] or (k,))])
    graph = helper.make_graph(nodes, "linear", [taken], answers, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    onnx.checker.check_model(made)
    image: bytes = made.SerializeToString()
    return image


def package(
    folder: Path,
    outputs: Mapping[str, Sequence[Sequence[float]]],
    *,
    roles: Mapping[str, str] | None = None,
    tags: Sequence[str] = tuple(UNITS),
    window: int = 1,
    period_ms: float | None = PERIOD_MS,
    steps: Sequence[Mapping[str, Any]] = (),
    units: Mapping[str, str] = UNITS,
    **card: Any,
) -> ModelFiles:
    """Train a model, so to say, and write its package by the way that a notebook takes.

    Args:
        folder: Where.
        outputs: Weights of each output.
        roles: Role of each output by its name; its name if not given.
    """
    source = training.Tags([training.Tag(name, units[name]) for name in tags], window, period_ms)
    rng = np.random.default_rng(8)
    spread = {"speed": (18.0, 2.0), "oil_temp": (45.0, 5.0), "level": (300.0, 10.0)}
    centre = np.array([spread[name] for name in tags])
    samples = rng.normal(centre[:, 0], centre[:, 1], (24, window, len(tags))).astype(np.float32)
    windows = training.Windows(samples)
    prepared = training.fit(source, steps, windows)
    k = len(prepared.names)
    shape = tuple(card.get("shape", ()))

    def answers(rows: Floats) -> dict[str, Any]:
        named = roles or {name: name for name in outputs}
        return {
            named[name]: rows @ np.array(table, np.float32)[:, :-1].T + np.array(table, np.float32)[:, -1]
            for name, table in outputs.items()
            if name in named
        }

    written = training.export(
        folder,
        prepared,
        linear(k, outputs, shape=shape),
        training.ModelCard("oil", **card),
        golden=windows,
        answers=answers,
    )
    return complete(verify(written.folder))


class TagLine:
    """A press whose tags are written by hand, with the sampler of a pipeline on them, and lanes."""

    def __init__(self, chosen: PipelineConfig | None = None) -> None:
        self.pipeline = chosen or pipeline()
        self.config = config(self.pipeline)
        self.clock = ManualClock()
        fast = tuple(TagSpec(name, Scalar.FLOAT) for name in UNITS)
        self.bus = Bus.create(
            (
                BlockSpec("press.fast", fast, 16, Policy(stale_after_s=0.5, hold_s=0.5)),
                samples_block(self.pipeline),
                *result_blocks(self.pipeline),
                shadow_block(self.pipeline),
                watch_block(self.pipeline),
            ),
            clock=self.clock,
        )
        self.fast = self.bus.writer("press.fast")
        fed = fed_with(self.config, self.pipeline)
        assert fed is not None
        self.sampler = TagSampler(fed, self.pipeline.samples_block, self.bus, self.clock)
        self.results = self.bus.reader(self.pipeline.result_block, from_newest=False)
        self.lanes: list[OneLane] = []

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()
        self.bus.close()

    def lane(self, files: ModelFiles, *cheaper: ModelFiles) -> OneLane:
        wanted = Wanted(
            lane_spec(self.config, self.pipeline.name),
            (files, *cheaper),
            OnnxRuntimeBackend.load,
            extractor_of,
            judge=judge_of,
        )
        self.lanes.append(OneLane(wanted, self.bus, self.clock))
        return self.lanes[-1]

    def judging(self, files: ModelFiles) -> OneLane:
        lane = self.lane(files)
        lane.prepare()
        lane.activate(None)
        return lane

    def sample(
        self, lane: OneLane | None, values: Mapping[str, float], *, statuses: Mapping[str, int] | None = None
    ) -> None:
        """Publish process values, take a sample, and let a lane judge it."""
        batch = self.fast.batch
        for name, value in values.items():
            batch.set(batch.row(name), value)
        batch.status[:] = GOOD
        for name, status in (statuses or {}).items():
            batch.status[batch.row(name)] = status
        batch.source_ns[:] = self.clock.utc_ns()
        self.fast.publish()
        self.clock.step(0.001)
        self.sampler.take()
        if lane is not None:
            lane.step()

    def judged(self) -> list[dict[str, Any]]:
        return [plain(batch) for batch in self.results.poll()]

    def verdict(self) -> dict[str, Any]:
        (only,) = self.judged()
        return only
