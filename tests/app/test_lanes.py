"""Changing models by warm processes, and what happens when a process of a group is not up to it."""

from __future__ import annotations

import asyncio

import pytest

from edge_opcua.app.processes import ChildProcess
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.keeper import LaneKeeper
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Reply
from edge_opcua.core.values import BAD_INVALID_STATE, BAD_TIMEOUT
from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import JobEvent
from edge_opcua.testing import ManualClock
from tests.app.lanehost import (
    GROUP,
    NEW,
    OLD,
    PIPELINE,
    A,
    B,
    Host,
    advance,
    keeping,
    serving,
    silent,
    until,
)


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
    monkeypatch.setattr("edge_opcua.app.serving.starting.START_S", 0.05)
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
