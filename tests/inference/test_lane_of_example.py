"""The press example, the blocks the drivers plan, and the delivered models fit together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.bus import Bus
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.values import Verdict
from edge_opcua.drivers.plan import plan_device
from edge_opcua.inference.backends.onnxruntime import OnnxRuntimeBackend
from edge_opcua.inference.blocks import result_blocks
from edge_opcua.inference.readiness import Readiness, Wanted
from edge_opcua.inference.schedule.costs import CostTable
from edge_opcua.inference.spec import lane_spec
from tests.inference.line import delivered, extractor_for


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    loaded = load(examples_dir() / "press" / "press.toml", env={})
    assert loaded.config is not None, loaded.problems
    return loaded.config


@pytest.fixture
def bus(config: EdgeConfig) -> Iterator[Bus]:
    blocks = [block for device in config.devices for block in plan_device(device).blocks]
    made = Bus.create([*blocks, *result_blocks(config.pipelines[0])])
    yield made
    made.close()


def test_the_lane_finds_everything_where_the_configuration_says(config: EdgeConfig) -> None:
    spec = lane_spec(config, "press-anomaly")
    assert spec.capture_block == "vib.stroke"
    assert [(tag.reference, tag.block, tag.unit) for tag in spec.context] == [
        ("press/tonnage", "press.fast", "kN"),
        ("press/die_temp", "press.fast", "°C"),
        ("press/strokes_per_min", "press.fast", "1/min"),
    ]
    assert spec.part_id is not None
    assert spec.part_id.reference == "press/part_id"
    assert (spec.wake, spec.waveform_unit, spec.sample_rate_hz) == (0, "m/s²", 10_000.0)
    assert (spec.deadline_ms, spec.fail_safe) == (100, Verdict.NOT_DECIDABLE)


def test_the_second_pipeline_of_a_capture_is_its_second_deadline_reader(config: EdgeConfig) -> None:
    other = config.pipelines[0].model_copy(update={"name": "second", "fail_safe_verdict": "NotOk"})
    both = config.model_copy(update={"pipelines": (*config.pipelines, other)})
    assert lane_spec(both, "press-anomaly").wake == 0
    assert lane_spec(both, "second").wake == 1
    assert lane_spec(both, "second").fail_safe is Verdict.NOT_OK


@pytest.mark.parametrize("version", [1, 2])
def test_each_delivered_model_is_fit_for_the_example(config: EdgeConfig, bus: Bus, version: int) -> None:
    files = delivered(version)
    spec = lane_spec(config, "press-anomaly")
    wanted = Wanted(
        spec, (files,), OnnxRuntimeBackend.load, lambda _: extractor_for(spec.ordered_for(files.manifest))
    )
    ready = Readiness(bus, SystemClock(), CostTable()).prepare(wanted)
    assert ready.facts["samples"] == 7
    assert ready.facts["provider"] == "CPUExecutionProvider"
    assert ready.facts["accelerated"] == 1.0
    assert ready.facts["most"] == 1
    p50_ns, p99_ns = ready.facts["costs"][f"press-anomaly/{version}"]["1"]
    assert 0 < p50_ns <= p99_ns
