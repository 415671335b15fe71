"""What runs of models cost, as it is kept for ``check``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import structlog

from edge_opcua.app.serving.costs import MeasuredCosts, cost_ns, place_of, read_costs
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import PipelineConfig
from edge_opcua.core.clock import SystemClock


@pytest.fixture(scope="module")
def pipeline() -> PipelineConfig:
    config = load(examples_dir() / "press" / "press.toml", env={}).config
    assert config is not None
    return config.pipelines[0]


FACTS = {"load_ms": 3.0, "costs": {"press-anomaly/1": {"1": [2000, 5000]}, "press-anomaly/2": {"1": [1, 2]}}}


async def _opened(file: Path) -> MeasuredCosts:
    return await asyncio.get_running_loop().run_in_executor(None, MeasuredCosts, file, SystemClock())


async def _kept(file: Path, pipeline: PipelineConfig) -> None:
    costs = await _opened(file)
    costs.take(pipeline, FACTS)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(costs.run())
        async with asyncio.timeout(5):
            while not file.exists():
                await asyncio.sleep(0.01)
        running.cancel()


async def test_what_was_measured_is_there_after_a_restart_for_this_place_only(
    tmp_path: Path, pipeline: PipelineConfig
) -> None:
    file = tmp_path / "costs.json"
    await _kept(file, pipeline)
    costs = await asyncio.get_running_loop().run_in_executor(None, read_costs, file)
    assert cost_ns(costs, pipeline, 1) == 5000
    assert cost_ns(costs, pipeline, 2) == 2
    with_features = {"press-anomaly/1": {place_of(pipeline): {"costs": {"1": [1, 5000]}, "features_ns": 700}}}
    assert cost_ns(with_features, pipeline, 1) == 5700
    assert cost_ns(costs, pipeline, 3) is None
    elsewhere = pipeline.model_copy(update={"options": {"threads": 2}})
    assert place_of(elsewhere) != place_of(pipeline)
    assert cost_ns(costs, elsewhere, 1) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"models": 3}', '{"models": {"a/1": 4}}', '{"models": {"a/1": {"x": 1}}}', "[" * 9999]
)
def test_a_file_that_holds_something_else_is_no_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "costs.json"
    file.write_text(text)
    with structlog.testing.capture_logs() as logs:
        assert read_costs(file) == {}
    assert [line["event"] for line in logs] == ["costs.unreadable"]


def test_a_file_that_is_a_pipe_or_has_no_end_keeps_no_server_from_its_start(tmp_path: Path) -> None:
    pipe, long, link = tmp_path / "pipe", tmp_path / "long", tmp_path / "link"
    os.mkfifo(pipe)
    with long.open("w") as stream:
        stream.truncate(2**33)
    link.symlink_to("/dev/zero")
    for file in (pipe, long, link):
        assert read_costs(file) == {}


def test_a_cost_that_is_none_is_not_taken_for_one(pipeline: PipelineConfig) -> None:
    figures: tuple[object, ...] = ("y", float("inf"), float("nan"), 10**400, -5, 0)
    wrong: tuple[object, ...] = (
        {},
        {"1": []},
        {"2": [1, 2]},
        None,
        *({"1": [1, figure]} for figure in figures),
    )
    for costs in wrong:
        assert cost_ns({"press-anomaly/1": {place_of(pipeline): {"costs": costs}}}, pipeline, 1) is None


async def test_a_disk_that_takes_nothing_is_told_and_costs_nobody_anything(
    tmp_path: Path, pipeline: PipelineConfig
) -> None:
    costs = await _opened(tmp_path / "gone" / "costs.json")
    costs.take(pipeline, FACTS)
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(costs.run())
            async with asyncio.timeout(5):
                while not logs:
                    await asyncio.sleep(0.01)
            assert not running.done()
            running.cancel()
    assert logs[0]["event"] == "costs.not_kept"
