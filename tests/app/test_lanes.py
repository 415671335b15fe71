"""Changing models by warm processes, and what happens when a process of a group is not up to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from edge_opcua.app.choice import ModelChoice, choices_of
from edge_opcua.app.jobs import ModelJobs
from edge_opcua.app.lanes import LaneKeeper
from edge_opcua.app.models import ActiveModels
from edge_opcua.app.processes import ChildProcess
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import Clock, SystemClock
from edge_opcua.core.control import Reply
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, BAD_TIMEOUT
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import JobEvent
from edge_opcua.testing import ManualClock

PIPELINE = "press-anomaly"
OLD, NEW = ModelChoice("press-anomaly", 1, "a" * 64), ModelChoice("press-anomaly", 2, "b" * 64)
A, B = ModelChoice("model-a", 1, ""), ModelChoice("model-b", 1, "")
GROUP = {"a": A, "b": B}


class Lane:
    """A lane process as its keeper sees it."""

    def __init__(self, role: str, models: dict[str, ModelChoice]) -> None:
        self.role = role
        self.models = models
        self.pid = 1000
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def has_ended(self) -> bool:
        return self.ended.done()

    @property
    def what(self) -> dict[str, int]:
        """Versions by pipeline."""
        return {name: choice.version for name, choice in self.models.items()}

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    async def end(self, *, grace_s: float) -> int:
        self.kill()
        return await self.wait()

    def kill(self, code: int = -9) -> None:
        if not self.ended.done():
            self.ended.set_result(code)


class Host:
    """The supervisor as a keeper sees it: starts lanes, and answers for them as the test says.

    Attributes:
        active: What was activated: versions and cursors by pipeline.
        unfit: Pipelines and versions that are refused, with others or alone.
        crashing: Pipelines and versions whose process ends while it loads them.
        silent: Pipelines and versions of which nothing is heard.
        slow_s: How long a process takes to retire, by its role.
        fit_after: Process after whose end nobody is refused any more.
        out_of_memory: Whether no process can be started.
    """

    def __init__(self) -> None:
        self.keeper: LaneKeeper | None = None
        self.started: list[Lane] = []
        self.active: list[tuple[dict[str, int], dict[str, int | None]]] = []
        self.told: list[str] = []
        self.faults: dict[str, str] = {}
        self.measurements: list[str] = []
        self.unfit: set[tuple[str, int]] = set()
        self.crashing: set[tuple[str, int]] = set()
        self.silent: set[tuple[str, int]] = set()
        self.activation = Reply()
        self.retirement = Reply()
        self.slow_s: dict[str, float] = {}
        self.retired: list[list[str]] = []
        self.out_of_memory = False
        self.refusal = "M512"
        self.exit_code = -11
        self.fit_after: Lane | None = None
        self.dealt_with = 41
        self.delay_s = 0.0
        self.cursor: int | None = None

    async def start(self, role: str, *arguments: str) -> ChildProcess:
        if self.out_of_memory:
            raise OSError(12, "Cannot allocate memory")
        given = dict(word.split("=", 1) for word in arguments)
        lane = Lane(role, choices_of(given["--models"]))
        self.started.append(lane)
        assert self.keeper is not None
        assert given["--group"] == self.keeper.group
        if self.fit_after is not None and self.fit_after.ended.done():
            self.unfit = set()
        what = set(lane.what.items())
        if what & self.crashing:
            lane.kill(self.exit_code)
            return cast("ChildProcess", lane)
        if what & self.silent:
            return cast("ChildProcess", lane)
        refused = {name: {"reason": "no good", "code": self.refusal} for name, _ in what & self.unfit}
        fit: dict[str, Any] = {name: {"p99_us": 3.0} for name in lane.models if name not in refused}
        body: dict[str, Any] = {"pipelines": fit, "refused": refused}
        kind = "ready" if fit else "refused"
        asyncio.get_running_loop().call_later(self.delay_s, self.keeper.on_notice, role, kind, body)
        return cast("ChildProcess", lane)

    async def until_ended(self, child: ChildProcess) -> int:
        return await child.wait()

    def disconnect(self, role: str) -> None:
        pass

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        if kind == "retire":
            self.retired.append(body["pipelines"])
            await asyncio.sleep(self.slow_s.get(to, 0.0))
            rows = {name: {"cursor": self.dealt_with, "sequence": 7} for name in body["pipelines"]}
            return self.retirement if self.retirement.status else Reply(body={"pipelines": rows})
        if kind == "promote":
            return Reply()
        if self.activation.status == 0:
            lane = next(lane for lane in self.started if lane.role == to)
            fit = {name: version for name, version in lane.what.items() if name in body["cursors"]}
            self.active.append((fit, body["cursors"]))
        return self.activation

    def recorded_cursor(self, pipeline: str) -> int | None:
        return self.cursor

    def report_fault(self, source: str, code: str, text: str) -> None:
        if source not in self.faults:
            self.told.append(f"{source} {code}")
        self.faults[source] = f"{code} {text}"

    def clear_fault(self, source: str) -> None:
        self.faults.pop(source, None)

    def measured(self, models: Mapping[str, ModelChoice], facts: Mapping[str, Mapping[str, Any]]) -> None:
        self.measurements += list(facts)


@asynccontextmanager
async def keeping(
    host: Host,
    choices: Mapping[str, ModelChoice] | None = None,
    *,
    group: str = PIPELINE,
    clock: Clock | None = None,
    within_s: float = 30.0,
) -> AsyncIterator[LaneKeeper]:
    models = choices or {PIPELINE: OLD}
    keeper = host.keeper = LaneKeeper(group, models, host, clock or SystemClock(), within_s=within_s)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        await until(lambda: bool(host.active or host.told))
        yield keeper
        await keeper.end()
        running.cancel()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happened():
            await asyncio.sleep(0.005)


async def advance(clock: ManualClock, seconds: float, happened: Callable[[], bool]) -> None:
    """Let time pass in small steps, until something has happened or it is over."""
    for _ in range(int(seconds * 10)):
        if happened():
            return
        await clock.advance(0.1)
    assert happened()


def serving(keeper: LaneKeeper) -> list[list[str]]:
    """Return which pipelines share the processes that are active."""
    return [sorted(lane.models) for lane in keeper.lanes]


async def silent(event: JobEvent) -> None:
    """Progress nobody looks at."""


async def test_the_successor_goes_on_where_the_old_lane_stopped() -> None:
    host = Host()
    async with keeping(host) as keeper:
        steps: list[JobEvent] = []

        async def progress(event: JobEvent) -> None:
            steps.append(event)

        await keeper.swap({PIPELINE: NEW}, progress)
        assert host.active == [({PIPELINE: 1}, {PIPELINE: None}), ({PIPELINE: 2}, {PIPELINE: 41})]
        assert steps == [JobEvent.STARTED, JobEvent.READY]
        assert keeper.choices == {PIPELINE: NEW}
        assert host.started[0].ended.done(), "the old process has to end"


async def test_a_model_that_is_not_fit_never_touches_the_old_lane() -> None:
    host = Host()
    host.unfit = {(PIPELINE, 2)}
    async with keeping(host) as keeper:
        with pytest.raises(ModelError, match="no good"):
            await keeper.swap({PIPELINE: NEW}, silent)
        assert [versions for versions, _ in host.active] == [{PIPELINE: 1}]
        assert not host.started[0].ended.done()
        assert host.started[1].ended.done()
        assert keeper.choices == {PIPELINE: OLD}


async def test_an_old_lane_that_does_not_answer_is_killed_before_another_writes_its_block() -> None:
    host = Host()
    host.retirement = Reply(BAD_TIMEOUT, "frozen")
    host.cursor = 40
    async with keeping(host) as keeper:
        await keeper.swap({PIPELINE: NEW}, silent)
        assert host.started[0].ended.done()
        # It goes on behind what the bus says was dealt with.
        assert host.active[-1] == ({PIPELINE: 2}, {PIPELINE: 40})


async def test_a_successor_that_cannot_take_over_brings_the_old_model_back() -> None:
    host = Host()
    async with keeping(host) as keeper:
        host.activation = Reply(BAD_INVALID_STATE, "not now")
        with pytest.raises(ModelError, match="not now"):
            await keeper.swap({PIPELINE: NEW}, silent)
        host.activation = Reply()
        host.cursor = 41
        await until(lambda: len(host.active) == 2)
        assert host.active[-1] == ({PIPELINE: 1}, {PIPELINE: 41})
        assert keeper.choices == {PIPELINE: OLD}
        assert keeper.restarts == 0, "it did not end by itself"


async def test_a_lane_that_ends_by_itself_is_started_again_where_it_stopped() -> None:
    host = Host()
    async with keeping(host) as keeper:
        host.cursor = 17
        host.started[0].kill()
        await until(lambda: len(host.active) == 2)
        assert host.active[-1] == ({PIPELINE: 1}, {PIPELINE: 17})
        assert keeper.restarts == 1


async def test_a_model_that_is_not_fit_at_the_start_is_told_and_tried_again() -> None:
    host = Host()
    host.unfit = {(PIPELINE, 1)}
    async with keeping(host):
        assert host.faults == {PIPELINE: "M512 no good"}
        host.unfit = set()
        await until(lambda: bool(host.active))
        assert not host.faults


async def test_a_model_that_takes_long_to_be_refused_is_tried_ever_more_rarely() -> None:
    # One that computes for 10 s before it is refused would take a processor two thirds of the time.
    clock = ManualClock()

    class Slow(Host):
        async def start(self, role: str, *arguments: str) -> ChildProcess:
            await clock.sleep(10.0)
            return await super().start(role, *arguments)

    host = Slow()
    host.unfit = {(PIPELINE, 1)}
    keeper = host.keeper = LaneKeeper(PIPELINE, {PIPELINE: OLD}, host, clock)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run())
        for _ in range(600):
            await clock.advance(1.0)
            await asyncio.sleep(0)
        tried = len(host.started)
        for _ in range(600):
            await clock.advance(1.0)
            await asyncio.sleep(0)
        assert 8 <= tried <= 25
        assert len(host.started) - tried <= 13
        await keeper.end()
        running.cancel()


async def test_what_a_process_has_measured_is_handed_on() -> None:
    host = Host()
    async with keeping(host, GROUP, group="g"):
        assert host.measurements == ["a", "b"]


async def test_changing_one_model_of_a_group_hands_over_the_cursors_of_all() -> None:
    host = Host()
    async with keeping(host, GROUP, group="g") as keeper:
        await keeper.swap({"b": ModelChoice("model-b", 2, "")}, silent)
        assert host.retired == [["a", "b"]]
        assert host.active[-1] == ({"a": 1, "b": 2}, {"a": 41, "b": 41})
        assert serving(keeper) == [["a", "b"]]


async def test_a_model_that_leaves_no_room_for_its_neighbour_is_not_taken() -> None:
    host = Host()
    async with keeping(host, GROUP, group="g") as keeper:
        host.unfit = {("a", 1)}
        with pytest.raises(ModelError, match="a could not be served any more") as caught:
            await keeper.swap({"b": ModelChoice("model-b", 2, "")}, silent)
        assert caught.value.code == "M597"
        assert serving(keeper) == [["a", "b"]]
        assert not host.started[0].ended.done()
        assert host.retired == []


async def test_a_group_starts_with_what_is_fit_and_the_rest_joins_without_a_capture_missed() -> None:
    clock = ManualClock()
    host = Host()
    host.unfit = {("b", 1)}
    async with keeping(host, GROUP, group="g", clock=clock) as keeper:
        await until(lambda: bool(host.active))
        assert serving(keeper) == [["a"]]
        assert host.faults == {"b": "M512 no good"}
        await advance(clock, 6, lambda: len(host.started) == 2)
        # Looked at alone: what is served is not loaded a second time for nothing.
        assert [lane.what for lane in host.started] == [{"a": 1, "b": 1}, {"b": 1}]
        await until(lambda: host.started[1].ended.done())
        host.unfit = set()
        await advance(clock, 12, lambda: len(host.active) == 2)
        assert host.active[-1] == ({"a": 1, "b": 1}, {"a": 41, "b": None})
        await until(lambda: host.started[0].ended.done())
        assert not host.faults
        assert keeper.restarts == 0


async def test_a_model_whose_process_ends_three_times_in_a_minute_is_not_started_again() -> None:
    clock = ManualClock()
    host = Host()
    async with keeping(host, clock=clock) as keeper:
        for number in (2, 3):
            host.started[-1].kill()
            await advance(clock, 6, lambda number=number: len(host.active) == number)  # type: ignore[misc]
        host.started[-1].kill()
        await until(lambda: bool(host.faults))
        assert host.faults[PIPELINE] == (
            "M595 press-anomaly 1 is not started any more: its process ended 3 times within 60 s, the last "
            "time: killed by SIGKILL; load another version"
        )
        await clock.advance(3600)
        await asyncio.sleep(0.05)
        assert len(host.active) == 3
        await keeper.swap({PIPELINE: NEW}, silent)
        assert host.active[-1][0] == {PIPELINE: 2}
        assert not host.faults


async def test_ends_that_are_far_apart_are_only_ends() -> None:
    clock = ManualClock()
    host = Host()
    async with keeping(host, clock=clock):
        for number in range(2, 7):
            await clock.advance(61)
            await asyncio.sleep(0)
            host.started[-1].kill()
            await advance(clock, 6, lambda number=number: len(host.active) == number)  # type: ignore[misc]
        assert not host.faults


async def test_the_culprit_of_a_group_is_found_by_starting_each_alone_and_the_others_go_on() -> None:
    clock = ManualClock()
    host = Host()
    async with keeping(host, GROUP, group="g", clock=clock) as keeper:
        for number in (2, 3):
            host.started[-1].kill()
            await advance(clock, 6, lambda number=number: len(host.active) == number)  # type: ignore[misc]
        host.cursor = 99
        host.started[-1].kill()
        await advance(clock, 6, lambda: len(host.active) == 5)
        assert sorted(serving(keeper)) == [["a"], ["b"]]
        assert [cursors for _, cursors in host.active[-2:]] == [{"a": 99}, {"b": 99}]
        next(lane for lane in host.started[-2:] if "b" in lane.models).kill()
        await until(lambda: bool(host.faults))
        assert host.faults["b"].startswith("M595 model-b 1")
        assert serving(keeper) == [["a"]]
        # Another version of it shares a process with the others again, none of which misses a capture.
        await keeper.swap({"b": ModelChoice("model-b", 2, "")}, silent)
        await advance(clock, 70, lambda: serving(keeper) == [["a", "b"]])
        assert host.active[-1] == ({"a": 1, "b": 2}, {"a": 41, "b": 41})
        assert not host.faults


async def test_models_that_end_only_together_keep_processes_of_their_own() -> None:
    clock = ManualClock()
    host = Host()
    async with keeping(host, GROUP, group="g", clock=clock) as keeper:
        for _ in range(2):
            for _ in range(3):
                await advance(clock, 80, lambda: serving(keeper) == [["a", "b"]])
                host.started[-1].kill()
                await until(lambda: not keeper.lanes)
            await advance(clock, 6, lambda: len(keeper.lanes) == 2)
        assert host.faults["group g"].startswith("M596")
        await clock.advance(7200)
        await asyncio.sleep(0.05)
        assert sorted(serving(keeper)) == [["a"], ["b"]]


async def test_a_process_that_ends_while_it_loads_counts_too() -> None:
    clock = ManualClock()
    host = Host()
    host.crashing = {("b", 1)}
    async with keeping(host, GROUP, group="g", clock=clock) as keeper:
        await advance(clock, 30, lambda: host.faults.get("b", "").startswith("M595"))
        await until(lambda: serving(keeper) == [["a"]])
        assert list(host.faults) == ["b"]


async def test_a_process_that_ends_in_its_first_run_counts_too() -> None:
    # It judges what has waited before it says that it is active: a model that hangs does so there.
    clock = ManualClock()
    host = Host()
    host.activation = Reply(BAD_TIMEOUT, "lane/press-anomaly/1 is gone")
    async with keeping(host, clock=clock):
        await advance(clock, 30, lambda: host.faults.get(PIPELINE, "").startswith("M595"))
        await clock.advance(3600)
        await asyncio.sleep(0.05)
        assert len(host.started) == 3


async def test_a_model_of_which_nothing_is_heard_is_given_up_and_the_old_one_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_opcua.app.laneprocess.START_S", 0.05)
    host = Host()
    host.silent = {(PIPELINE, 2)}
    async with keeping(host, within_s=0.0) as keeper:
        with pytest.raises(ModelError, match="was not ready in") as caught:
            await keeper.swap({PIPELINE: NEW}, silent)
        assert caught.value.code == "M530"
        assert host.started[1].ended.done()
        assert serving(keeper) == [[PIPELINE]]


async def test_a_computer_without_memory_for_a_process_is_told_and_tried_again() -> None:
    host = Host()
    host.out_of_memory = True
    async with keeping(host):
        assert host.faults[PIPELINE].startswith("H651 no process can be started")
        host.out_of_memory = False
        await until(lambda: bool(host.active))
        assert not host.faults


async def test_a_swap_that_is_given_up_leaves_no_process_behind() -> None:
    host = Host()
    host.silent = {(PIPELINE, 2)}
    async with keeping(host) as keeper:
        async with asyncio.TaskGroup() as tasks:
            swap = tasks.create_task(keeper.swap({PIPELINE: NEW}, silent))
            await until(lambda: len(host.started) == 2)
            swap.cancel()
        assert host.started[1].ended.done()
        assert serving(keeper) == [[PIPELINE]]


async def test_the_steps_of_a_change_are_told_as_the_process_takes_them() -> None:
    host = Host()
    async with keeping(host) as keeper:
        steps: list[JobEvent] = []

        async def progress(event: JobEvent) -> None:
            steps.append(event)
            if event is JobEvent.STARTED:
                asyncio.get_running_loop().call_soon(tell)

        def tell() -> None:
            keeper.on_notice(host.started[-1].role, "loaded", {})

        host.delay_s = 0.05
        await keeper.swap({PIPELINE: NEW}, progress)
        assert steps == [JobEvent.STARTED, JobEvent.LOADED, JobEvent.READY]


async def test_a_process_that_cannot_even_begin_holds_no_model() -> None:
    # E.g. while the package is being renewed: nothing of it is the model's doing.
    clock = ManualClock()
    host = Host()
    host.crashing, host.exit_code = {(PIPELINE, 1)}, 1
    async with keeping(host, clock=clock):
        await advance(clock, 60, lambda: len(host.started) > 8)
        assert host.faults[PIPELINE].startswith(
            "M530 the lane process ended before it was ready: exit code 1"
        )
        host.crashing = set()
        await advance(clock, 6, lambda: bool(host.active))
        assert not host.faults


async def test_a_reload_stops_what_has_changed_at_once_and_hands_the_rest_over() -> None:
    host = Host()
    async with keeping(host, {**GROUP, "c": A}, group="g") as keeper:
        host.cursor = 12
        choices = {"a": A, "b": B, "d": A}
        await keeper.change(choices, ("b", "c"), within_s=30)
        assert host.retired == [["b", "c"]]
        assert serving(keeper) == [["a"]]
        assert not host.started[0].ended.done(), "a goes on until somebody takes over"
        await until(lambda: len(host.active) == 2)
        assert host.active[-1] == ({"a": 1, "b": 1, "d": 1}, {"a": 41, "b": 12, "d": 12})
        await until(lambda: host.started[0].ended.done())


async def test_a_reload_while_a_missing_model_is_looked_at_takes_it_out_of_its_group() -> None:
    clock = ManualClock()
    host = Host()
    host.unfit = {("b", 1)}
    async with keeping(host, GROUP, group="g", clock=clock) as keeper:
        await until(lambda: bool(host.active))
        host.unfit, host.delay_s = set(), 0.05
        await advance(clock, 6, lambda: len(host.started) == 2)
        assert host.started[1].what == {"b": 1}
        await keeper.change({"a": A}, ("b",), within_s=30)
        await until(lambda: len(host.active) == 2)
        assert serving(keeper) == [["a"]]
        await until(lambda: host.started[1].ended.done())
        assert not host.faults


async def test_a_refusal_of_a_pipeline_that_a_reload_has_taken_away_is_no_fault() -> None:
    host = Host()
    host.unfit, host.delay_s = {("b", 1)}, 0.05
    keeper = host.keeper = LaneKeeper("g", GROUP, host, SystemClock())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(keeper.run())
        await until(lambda: bool(host.started))
        await keeper.change({"a": A}, ("b",), within_s=30)
        await until(lambda: bool(host.active))
        assert not host.faults
        await keeper.end()


async def test_a_reload_without_memory_for_two_ends_what_ran_before_it_starts_what_shall_run() -> None:
    host = Host()
    async with keeping(host, GROUP, group="g") as keeper:
        host.cursor = 12
        host.unfit = {("a", 1)}
        host.refusal = "M580"
        host.fit_after = host.started[0]
        await keeper.change(dict(GROUP), ("b",), within_s=30)
        await until(lambda: len(host.active) == 2)
        assert host.retired == [["b"], ["a"]]
        assert host.active[-1] == ({"a": 1, "b": 1}, {"a": 12, "b": 12}), "behind what the bus says"
        assert [lane.what for lane in host.started] == [{"a": 1, "b": 1}] * 3
        assert keeper.restarts == 0
        assert not host.faults


async def test_a_reload_in_which_a_neighbour_is_no_longer_fit_leaves_it_where_it_runs() -> None:
    host = Host()
    async with keeping(host, GROUP, group="g") as keeper:
        host.unfit = {("a", 1)}
        await keeper.change(dict(GROUP), ("b",), within_s=30)
        await until(lambda: bool(host.faults))
        assert host.faults == {"group g": "M597 a could not be served any more beside it: M512: no good"}
        assert serving(keeper) == [["a"]]
        assert not host.started[0].ended.done()


async def test_a_lane_killed_for_good_is_not_started_by_a_keeper_that_ends() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await keeper.end()
        await asyncio.sleep(0.3)
        assert len(host.started) == 1
        assert keeper.restarts == 0


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
            ModelJobs(config, lambda _pipeline: keeper, no_disk, told.append),
            told,
            host,
        )


async def _done(model_jobs: ModelJobs, told: list[dict[str, Any]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(model_jobs.run())
        await until(lambda: told[-1]["state"] in ("Active", "Failed"))
        running.cancel()


async def test_a_full_disk_does_not_undo_a_change_that_has_happened(
    jobs: tuple[ModelJobs, list[dict[str, Any]], Host],
) -> None:
    model_jobs, told, host = jobs
    reply = model_jobs.submit({"name": "press-anomaly", "version": 2, "sha256": "b" * 64, "user": "me"})
    assert reply.body == {"job": "job-1"}
    await _done(model_jobs, told)
    assert [notice["state"] for notice in told] == ["Queued", "Loading", "Validating", "Switching", "Active"]
    assert host.active[-1][0] == {PIPELINE: 2}


async def test_pipelines_of_a_group_with_one_model_change_it_in_one_process(
    config: EdgeConfig, no_disk: NoDisk
) -> None:
    twice = tuple(config.pipelines[0].model_copy(update={"name": name, "group": "g"}) for name in "ab")
    told: list[dict[str, Any]] = []
    host = Host()
    async with keeping(host, {"a": OLD, "b": OLD}, group="g") as keeper:
        both = config.model_copy(update={"pipelines": twice})
        model_jobs = ModelJobs(both, lambda _pipeline: keeper, no_disk, told.append)
        model_jobs.submit({"name": "press-anomaly", "version": 2})
        await _done(model_jobs, told)
        assert [versions for versions, _ in host.active] == [{"a": 1, "b": 1}, {"a": 2, "b": 2}]


async def test_a_model_that_only_one_group_takes_says_where_it_runs_already(
    config: EdgeConfig, no_disk: NoDisk
) -> None:
    pipelines = tuple(config.pipelines[0].model_copy(update={"name": name}) for name in "ab")
    told: list[dict[str, Any]] = []
    fit, unfit = Host(), Host()
    unfit.unfit = {("b", 2)}
    async with keeping(fit, {"a": OLD}, group="a") as a, keeping(unfit, {"b": OLD}, group="b") as b:
        model_jobs = ModelJobs(
            config.model_copy(update={"pipelines": pipelines}),
            {"a": a, "b": b}.__getitem__,
            no_disk,
            told.append,
        )
        model_jobs.submit({"name": "press-anomaly", "version": 2})
        await _done(model_jobs, told)
    assert told[-1]["state"] == "Failed"
    assert told[-1]["reason"] == "M512: no good; it runs already in a"


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
