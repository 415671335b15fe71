"""What stands beside the lane that judges: candidates, versions in shadow, and what was relieved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from edge_opcua.app.serving.candidate import Candidate, ShadowTerms
from edge_opcua.app.serving.choices import ModelChoice
from edge_opcua.app.serving.keeper import LaneKeeper
from edge_opcua.app.serving.starting import LaneProcess
from edge_opcua.core.control import Reply
from edge_opcua.core.values import BAD_INVALID_STATE
from edge_opcua.errors import ModelError
from edge_opcua.inference.shadow import Agreement
from edge_opcua.testing import ManualClock
from tests.app.lanehost import FACTS, GROUP, NEW, OLD, PIPELINE, A, B, Host, advance, keeping, silent, until

WARM_S = 60.0
THIRD = ModelChoice("press-anomaly", 3, "c" * 64)


def alive(host: Host) -> list[dict[str, int]]:
    """Return what the processes run that have not ended, in the order of their start."""
    return [lane.what for lane in host.started if not lane.has_ended]


async def changed(keeper: LaneKeeper, *choices: ModelChoice) -> None:
    """Change the one pipeline, again and again."""
    for choice in choices:
        await keeper.swap({PIPELINE: choice}, silent, keep_warm_s=WARM_S)


async def test_what_was_relieved_stands_by_and_comes_back_without_a_new_process() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        assert alive(host) == [{PIPELINE: 1}, {PIPELINE: 2}]
        (row,) = keeper.standbys()
        assert row["models"] == {PIPELINE: OLD.as_json()}
        host.dealt_with = 77
        assert await keeper.roll_back({PIPELINE: OLD}, silent)
        assert len(host.started) == 2
        assert host.active[-1] == ({PIPELINE: 1}, {PIPELINE: 77}), "it goes on where the other one stopped"
        assert keeper.choices == {PIPELINE: OLD}
        assert keeper.standbys() == []
        assert alive(host) == [{PIPELINE: 1}], "a version that was left for good reason is not kept"


async def test_a_process_can_come_and_go_as_often_as_is_wanted() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        for choice in (OLD, NEW, OLD, NEW):
            assert await keeper.roll_back({PIPELINE: choice}, silent, keep_warm_s=WARM_S)
        assert len(host.started) == 2
        assert [versions[PIPELINE] for versions, _ in host.active] == [1, 2, 1, 2, 1, 2]
        assert keeper.restarts == 0


async def test_only_the_last_one_stands_by_however_often_models_change() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW, THIRD, OLD, NEW)
        assert alive(host) == [{PIPELINE: 1}, {PIPELINE: 2}]
        assert not await keeper.roll_back({PIPELINE: THIRD}, silent), "it has to be loaded again"
        assert keeper.choices == {PIPELINE: THIRD}


async def test_a_standby_ends_when_its_time_is_over() -> None:
    host, clock = Host(), ManualClock()
    async with keeping(host, clock=clock) as keeper:
        await changed(keeper, NEW)
        await advance(clock, WARM_S + 2.0, lambda: keeper.standbys() == [])
        assert alive(host) == [{PIPELINE: 2}]
        assert host.standbys == 2, "people see it come and go"


async def test_a_standby_ends_when_memory_is_short() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        keeper.end_standby()
        await until(lambda: alive(host) == [{PIPELINE: 2}])


async def test_a_standby_makes_room_for_a_version_that_has_none() -> None:
    host = Host()
    host.refusal = "M580"
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        host.unfit, host.fit_after = {(PIPELINE, 3)}, host.started[0]
        await changed(keeper, THIRD)
        assert keeper.choices == {PIPELINE: THIRD}
        assert alive(host) == [{PIPELINE: 2}, {PIPELINE: 3}]


async def test_a_standby_that_ends_by_itself_is_told_and_hurts_nobody() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        host.started[0].kill()
        await until(lambda: keeper.standbys() == [])
        assert keeper.restarts == 0
        assert not await keeper.roll_back({PIPELINE: OLD}, silent), "then it is loaded again"
        assert host.active[-1][0] == {PIPELINE: 1}


async def test_the_active_process_that_ends_is_started_again_while_another_stands_by() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        host.cursor = 50
        host.started[1].kill()
        await until(lambda: len(host.active) == 3)
        assert host.active[-1] == ({PIPELINE: 2}, {PIPELINE: 50})
        assert alive(host) == [{PIPELINE: 1}, {PIPELINE: 2}]
        host.cursor = 60
        host.started[2].kill()  # and one that is gone can be relieved by one that stands by
        await until(lambda: not keeper.lanes)
        assert await keeper.roll_back({PIPELINE: OLD}, silent)
        assert host.active[-1] == ({PIPELINE: 1}, {PIPELINE: 60})


async def test_another_configuration_ends_candidates_and_standbys() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        candidate = await keeper.prepare({PIPELINE: THIRD}, silent)
        await keeper.change({PIPELINE: NEW}, (), within_s=30.0)
        assert alive(host)[0] == {PIPELINE: 2}
        with pytest.raises(ModelError) as caught:
            await keeper.take_over(candidate)
        assert caught.value.code == "M531"
        await until(lambda: alive(host) == [{PIPELINE: 2}])


async def test_the_end_of_the_server_leaves_no_process_behind() -> None:
    host = Host()
    async with keeping(host) as keeper:
        await changed(keeper, NEW)
        await keeper.prepare({PIPELINE: THIRD}, silent)
        assert len(alive(host)) == 3
    assert alive(host) == []


async def test_a_candidate_that_is_not_wanted_is_ended_and_the_lane_goes_on() -> None:
    host = Host()
    async with keeping(host) as keeper:
        candidate = await keeper.prepare({PIPELINE: NEW}, silent)
        assert candidate.facts == {PIPELINE: FACTS}
        await keeper.discard(candidate)
        assert alive(host) == [{PIPELINE: 1}]
        assert host.retired == []


async def test_a_candidate_that_would_take_back_what_its_neighbour_got_meanwhile_may_not_take_over() -> None:
    host = Host()
    a2, b2 = ModelChoice("model-a", 2, ""), ModelChoice("model-b", 2, "")
    async with keeping(host, GROUP, group="g") as keeper:
        candidate = await keeper.prepare({"a": a2}, silent)
        await keeper.swap({"b": b2}, silent)
        with pytest.raises(ModelError, match="changed meanwhile") as caught:
            await keeper.take_over(candidate)
        assert caught.value.code == "M531"
        assert keeper.choices == {"a": A, "b": b2}
        assert alive(host) == [{"a": 1, "b": 2}]
        await keeper.swap({"a": a2}, silent, keep_warm_s=WARM_S)
        assert await keeper.roll_back({"a": A}, silent)
        assert keeper.choices == {"a": A, "b": b2}
        assert B.version == 1, "what stands by has the neighbour's version of today"


class Refusing(Host):
    """A supervisor whose candidates do not become active, while those that were active do."""

    async def request(self, to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        lane = next(lane for lane in self.started if lane.role == to)
        if kind == "activate" and lane.what == {PIPELINE: 2}:
            self.cursor = 42  # it has judged one capture before it failed
            return Reply(BAD_INVALID_STATE, "not now")
        return await super().request(to, kind, body, timeout_s=timeout_s)


async def test_where_the_successor_fails_the_former_process_goes_on_behind_what_was_judged() -> None:
    host = Refusing()
    async with keeping(host) as keeper:
        with pytest.raises(ModelError, match="not now") as caught:
            await changed(keeper, NEW)
        assert caught.value.code == "M531"
        assert host.active == [({PIPELINE: 1}, {PIPELINE: None}), ({PIPELINE: 1}, {PIPELINE: 42})]
        assert alive(host) == [{PIPELINE: 1}]
        assert len(host.started) == 2, "nobody had to wait until it was loaded again"
        assert keeper.choices == {PIPELINE: OLD}


async def test_a_candidate_that_cannot_get_ready_leaves_the_active_lane_alone() -> None:
    host = Host()
    async with keeping(host) as keeper:
        host.answers["promote"] = Reply(BAD_INVALID_STATE, "it fell over its first stroke")
        with pytest.raises(ModelError, match="first stroke"):
            await changed(keeper, NEW)
        assert host.retired == []
        assert alive(host) == [{PIPELINE: 1}]


TERMS = {PIPELINE: ShadowTerms(captures=100, within_s=60.0, agreement=0.9)}


async def shadowed(
    keeper: LaneKeeper, host: Host, *reports: Agreement
) -> tuple[Candidate, asyncio.Task[Mapping[str, Agreement]], list[int]]:
    """Begin a shadow and let it report; returns what is heard of it."""
    candidate = await keeper.prepare({PIPELINE: NEW}, silent)
    heard: list[int] = []

    async def progress(seen: Mapping[str, Agreement]) -> None:
        heard.append(seen[PIPELINE].compared)

    running = asyncio.get_running_loop().create_task(keeper.shadow(candidate, TERMS, progress))
    await until(lambda: any(kind == "shadow" for _, kind, _ in host.orders))
    for report in reports:
        keeper.on_notice(candidate.lane.role, "shadow", {"pipelines": {PIPELINE: report.notice()}})
        await asyncio.sleep(0.01)
    return candidate, running, heard


async def test_a_shadow_that_agrees_may_take_over() -> None:
    host = Host()
    async with keeping(host) as keeper:
        half, whole = Agreement(100, 50, 48), Agreement(100, 100, 95)
        candidate, running, heard = await shadowed(keeper, host, half, whole)
        found = await running
        assert found[PIPELINE].agreed == 95
        assert candidate.reports == found
        assert heard == [50, 100]
        assert host.orders[-1][1:] == ("shadow", {"wanted": {PIPELINE: 100}})
        assert len(host.active) == 1, "the active one judges all the time"
        await keeper.take_over(candidate, keep_warm_s=WARM_S)
        assert host.active[-1][0] == {PIPELINE: 2}


@pytest.mark.parametrize(
    ("report", "code", "words"),
    [
        (Agreement(100, 60, 49, disagreement="stroke 7: …"), "M640", "49 of 60 captures, 81.7%"),
        (Agreement(100, 20, 20, missed=101), "M643", "cannot keep up"),
    ],
)
async def test_a_shadow_is_refused_as_soon_as_it_cannot_pass_any_more(
    report: Agreement, code: str, words: str
) -> None:
    host = Host()
    async with keeping(host) as keeper:
        candidate, running, _ = await shadowed(keeper, host, report)
        with pytest.raises(ModelError, match=words) as caught:
            await running
        assert caught.value.code == code
        await keeper.discard(candidate)
        assert alive(host) == [{PIPELINE: 1}]


async def test_a_shadow_with_too_few_captures_is_refused_when_its_time_is_over() -> None:
    host, clock = Host(), ManualClock()
    async with keeping(host, clock=clock) as keeper:
        _, running, _ = await shadowed(keeper, host, Agreement(100, 3, 3, undecided=4))
        await advance(clock, 61.0, running.done)
        with pytest.raises(ModelError, match=r"only 3 of 100 .* 4 were not decided by both") as caught:
            await running
        assert caught.value.code == "M641"


async def test_a_shadow_whose_process_ends_is_told_with_how_it_ended() -> None:
    host = Host()
    async with keeping(host) as keeper:
        _, running, _ = await shadowed(keeper, host)
        host.started[1].kill(-11)
        with pytest.raises(ModelError, match="SIGSEGV") as caught:
            await running
        assert caught.value.code == "M642"
        assert keeper.restarts == 0, "it judged for nobody"
        assert len(host.active) == 1


async def test_a_process_that_cannot_judge_in_shadow_says_so() -> None:
    host = Host()
    host.answers["shadow"] = Reply(BAD_INVALID_STATE, "no")
    async with keeping(host) as keeper:
        _, running, _ = await shadowed(keeper, host)
        with pytest.raises(ModelError) as caught:
            await running
        assert caught.value.code == "M644"


async def test_processes_that_are_relieved_together_do_not_wait_for_a_quiet_moment_each() -> None:
    # The pipelines of the first would wait for that of the second.
    host, asked = Host(), []
    ask = host.request

    async def request(to: str, kind: str, body: dict[str, Any], *, timeout_s: float) -> Reply:
        if kind == "retire":
            asked.append(body["quiet_s"])
        return await ask(to, kind, body, timeout_s=timeout_s)

    host.request = request  # type: ignore[method-assign]
    async with keeping(host, GROUP, group="g") as keeper:
        await keeper.swap({"b": ModelChoice("model-b", 2, "")}, silent)
        assert asked == [1.0]
        lane = keeper._served.lanes[0]
        halves = [LaneProcess(lane.child, {name: lane.models[name]}, {}, {}) for name in ("a", "b")]
        successor = await keeper._starter.prepare(lane.models, within_s=1.0)
        await keeper._served.take_over(successor, halves)
        assert asked == [1.0, 0.0, 0.0]
