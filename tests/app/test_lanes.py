"""Changing a model by a warm process: what happens when either lane is not up to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from edge_opcua.app.choice import ModelChoice
from edge_opcua.app.jobs import ModelJobs
from edge_opcua.app.lanes import LaneKeeper
from edge_opcua.app.models import ActiveModels
from edge_opcua.app.processes import ChildProcess
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Reply
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, BAD_TIMEOUT
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import JobEvent

PIPELINE = "press-anomaly"
OLD, NEW = ModelChoice("press-anomaly", 1, "a" * 64), ModelChoice("press-anomaly", 2, "b" * 64)


class Lane:
    """A lane process as its keeper sees it."""

    def __init__(self, role: str, version: int) -> None:
        self.role = role
        self.version = version
        self.pid = 1000 + version
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    async def end(self, *, grace_s: float) -> int:
        self.kill()
        return await self.wait()

    def kill(self) -> None:
        if not self.ended.done():
            self.ended.set_result(-9)


class Host:
    """The supervisor as a keeper sees it: starts lanes, and answers for them as the test says."""

    def __init__(self) -> None:
        self.keeper: LaneKeeper | None = None
        self.started: list[Lane] = []
        self.active: list[tuple[int, int | None]] = []
        self.faults: list[str] = []
        self.unfit: set[int] = set()
        self.activation = Reply()
        self.retirement = Reply(body={"cursor": 41, "sequence": 7})
        self.cursor: int | None = None

    async def start(self, role: str, *arguments: str) -> ChildProcess:
        version = next(int(word.partition("=")[2]) for word in arguments if word.startswith("--version="))
        lane = Lane(role, version)
        self.started.append(lane)
        assert self.keeper is not None
        notice = (
            ("refused", {"reason": "no good", "code": "M512"}) if version in self.unfit else ("ready", {})
        )
        asyncio.get_running_loop().call_soon(self.keeper.on_notice, role, *notice)
        return cast("ChildProcess", lane)

    async def until_ended(self, child: ChildProcess) -> int:
        return await child.wait()

    def disconnect(self, role: str) -> None:
        pass

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        if kind == "retire":
            return self.retirement
        if self.activation.status == 0:
            lane = next(lane for lane in self.started if lane.role == to)
            self.active.append((lane.version, body["cursor"]))
        return self.activation

    def recorded_cursor(self, pipeline: str) -> int | None:
        return self.cursor

    def report_fault(self, source: str, code: str, text: str) -> None:
        self.faults.append(f"{code} {text}")

    def clear_fault(self, source: str) -> None:
        self.faults.clear()


@asynccontextmanager
async def keeping(host: Host) -> AsyncIterator[LaneKeeper]:
    keeper = host.keeper = LaneKeeper(PIPELINE, OLD, host, SystemClock())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        while not host.active and not host.faults:
            await asyncio.sleep(0.01)
        yield keeper
        await keeper.end()
        running.cancel()


async def silent(event: JobEvent) -> None:
    """Progress nobody looks at."""


async def test_the_successor_goes_on_where_the_old_lane_stopped() -> None:
    host = Host()
    async with keeping(host) as keeper:
        steps: list[JobEvent] = []

        async def progress(event: JobEvent) -> None:
            steps.append(event)

        await keeper.swap(NEW, progress)
        assert host.active == [(1, None), (2, 41)]
        assert steps == [JobEvent.STARTED, JobEvent.READY]
        assert keeper.choice == NEW
        assert host.started[0].ended.done(), "the old process has to end"


async def test_a_model_that_is_not_fit_never_touches_the_old_lane() -> None:
    host = Host()
    host.unfit = {2}
    async with keeping(host) as keeper:
        with pytest.raises(ModelError, match="no good"):
            await keeper.swap(NEW, silent)
        assert host.active == [(1, None)]
        assert not host.started[0].ended.done()
        assert host.started[1].ended.done()
        assert keeper.choice == OLD


async def test_an_old_lane_that_does_not_answer_is_killed_before_another_writes_its_block() -> None:
    host = Host()
    host.retirement = Reply(BAD_TIMEOUT, "frozen")
    host.cursor = 40
    async with keeping(host) as keeper:
        await keeper.swap(NEW, silent)
        assert host.started[0].ended.done()
        assert host.active[-1] == (2, 40), "it goes on behind what the bus says was dealt with"


async def test_a_successor_that_cannot_take_over_brings_the_old_model_back() -> None:
    host = Host()
    async with keeping(host) as keeper:
        host.activation = Reply(BAD_INVALID_STATE, "not now")
        with pytest.raises(ModelError, match="not now"):
            await keeper.swap(NEW, silent)
        host.activation = Reply()
        host.cursor = 41
        async with asyncio.timeout(5):
            while len(host.active) < 2:
                await asyncio.sleep(0.01)
        assert host.active[-1] == (1, 41)
        assert keeper.choice == OLD


async def test_a_lane_that_ends_by_itself_is_started_again_where_it_stopped() -> None:
    host = Host()
    async with keeping(host) as keeper:
        host.cursor = 17
        host.started[0].kill()
        async with asyncio.timeout(5):
            while len(host.active) < 2:
                await asyncio.sleep(0.01)
        assert host.active[-1] == (1, 17)
        assert keeper.restarts == 1


async def test_a_model_that_is_not_fit_at_the_start_is_told_and_tried_again() -> None:
    host = Host()
    host.unfit = {1}
    async with keeping(host):
        assert host.faults[0] == "M512 no good"
        host.unfit = set()
        async with asyncio.timeout(5):
            while not host.active:
                await asyncio.sleep(0.01)


class NoDisk(ActiveModels):
    """A state directory that takes nothing any more."""

    def verify(self, choice: ModelChoice) -> ModelChoice:
        return choice

    def keep(self, pipeline: str, choice: ModelChoice) -> None:
        raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    found = load(examples_dir() / "press" / "press.toml").config
    assert found is not None
    return found


@pytest.fixture
def no_disk(config: EdgeConfig, tmp_path: Path) -> NoDisk:
    return NoDisk(StateDir(tmp_path), config)


@pytest.fixture
async def jobs(
    config: EdgeConfig, no_disk: NoDisk
) -> AsyncIterator[tuple[ModelJobs, list[dict[str, Any]], Host]]:
    told: list[dict[str, Any]] = []
    host = Host()
    async with keeping(host) as keeper:
        yield (
            ModelJobs(config, {PIPELINE: keeper}, no_disk, told.append),
            told,
            host,
        )


async def test_a_full_disk_does_not_undo_a_change_that_has_happened(
    jobs: tuple[ModelJobs, list[dict[str, Any]], Host],
) -> None:
    model_jobs, told, host = jobs
    reply = model_jobs.submit({"name": "press-anomaly", "version": 2, "sha256": "b" * 64, "user": "me"})
    assert reply.body == {"job": "job-1"}
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(model_jobs.run())
        async with asyncio.timeout(5):
            while told[-1]["state"] not in ("Done", "Failed"):
                await asyncio.sleep(0.01)
        running.cancel()
    assert [notice["state"] for notice in told] == ["Queued", "Starting", "Switching", "Done"]
    assert host.active[-1][0] == 2


async def test_a_request_that_is_no_request_is_refused_at_once(
    jobs: tuple[ModelJobs, list[dict[str, Any]], Host],
) -> None:
    model_jobs, told, _ = jobs
    for body in ({}, {"name": "press-anomaly", "version": "2"}, {"name": "nobody", "version": 1}):
        assert model_jobs.submit(body).status == BAD_INVALID_ARGUMENT
    assert not told


async def test_more_jobs_than_can_wait_are_refused(
    jobs: tuple[ModelJobs, list[dict[str, Any]], Host],
) -> None:
    model_jobs, _, _ = jobs
    body = {"name": "press-anomaly", "version": 2, "sha256": "b" * 64}
    replies = [model_jobs.submit(body) for _ in range(6)]
    assert [reply.status == 0 for reply in replies] == [True] * 4 + [False] * 2
