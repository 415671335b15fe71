"""Jobs that change models: all groups or none, each step on disk before it happens, shadows beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.models.active import ActiveModels
from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.models.jobs import ModelJobs
from edge_opcua.app.models.loads import LoadCounts
from edge_opcua.app.serving.keeper import LaneKeeper
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.modelcare import ChangeConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.clock import SystemClock
from edge_opcua.core.control import Reply
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.values import BAD_INVALID_ARGUMENT, BAD_INVALID_STATE, BAD_TOO_MANY_OPERATIONS
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import SERVER, Entry, Kind, Step, after
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.inference.lifecycle import JobKind
from edge_opcua.inference.shadow import Agreement
from tests.app.lanehost import OLD, Host, keeping, until

MODEL = "press-anomaly"
LOAD = {"name": MODEL, "version": 2, "user": "me", "note": "new die"}


class Trusting(ActiveModels):
    """Believes that every version but the missing ones is in the repository."""

    missing: frozenset[int] = frozenset()

    def verify(self, choice: ModelChoice) -> ModelChoice:
        if choice.version in self.missing:
            raise ModelError(f"model {choice.text} is not in the repository", code="M501")
        return ModelChoice(choice.name, choice.version, choice.sha256 or f"{choice.version}" * 64)

    def require_fresh(self, choice: ModelChoice, pipelines: Iterable[str], utc_ns: int) -> None:
        """None of them is old; who asks for a pipeline that is not there gets what a server would say."""
        for name in pipelines:
            self._config.pipeline(name)


class Disk(Ledger):
    """A ledger whose disk is full behind a step.

    Attributes:
        full_behind: Nothing can be written behind this one.
        written: Steps that are on disk, with what the lanes did until then.
    """

    full_behind: Step | None = None

    def __init__(self, file: Path, seen: Callable[[], int]) -> None:
        super().__init__(file, SystemClock())
        self.written: list[tuple[str, int]] = []
        self._seen = seen

    def append(self, entry: Entry) -> Entry:
        return self._note(super().append, entry)

    def take(self, entry: Entry) -> Entry:
        return self._note(super().take, entry)

    def _note(self, write: Callable[[Entry], Entry], entry: Entry) -> Entry:
        if self.full_behind is not None and self.written and self.written[-1][0] == self.full_behind.value:
            if write.__name__ == "take":
                self.standing = after(self.standing, entry)
            raise OSError(28, "No space left on device")
        written = write(entry)
        self.written.append((entry.step.value, self._seen()))
        return written


@dataclass
class Bench:
    """Jobs over groups whose processes are played by a :class:`Host` each."""

    config: EdgeConfig
    disk: Disk
    book: ModelBook
    active: Trusting
    hosts: dict[str, Host] = field(default_factory=dict)
    keepers: dict[str, LaneKeeper] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    jobs: ModelJobs = field(init=False)

    def __post_init__(self) -> None:
        self.jobs = ModelJobs(self.config, self.of, self.book, self.told.append, SystemClock())

    def of(self, pipeline: str) -> LaneKeeper:
        for keeper in self.keepers.values():
            if pipeline in keeper.choices:
                return keeper
        raise KeyError(pipeline)

    def submit(self, body: Mapping[str, Any], kind: JobKind = JobKind.LOAD) -> str:
        reply = self.jobs.submit(body, kind)
        assert reply.status == 0, reply.reason
        return str(reply.body["job"])

    async def ended(self, number: str) -> dict[str, Any]:
        def over() -> bool:
            notice = self.jobs.notice(number)
            return notice is not None and notice["percent"] == 100

        await until(over)
        notice = self.jobs.notice(number)
        assert notice is not None
        return notice

    async def done(self, body: Mapping[str, Any], kind: JobKind = JobKind.LOAD) -> dict[str, Any]:
        return await self.ended(self.submit(body, kind))

    async def in_shadow(self) -> None:
        """Wait until the newest process was told to judge in shadow."""
        host = self.hosts["g"]
        await until(lambda: (host.started[-1].role, "shadow") in {order[:2] for order in host.orders})

    def runs(self) -> dict[str, int]:
        return {
            name: choice.version
            for keeper in self.keepers.values()
            for name, choice in keeper.choices.items()
        }

    def states(self, number: str) -> list[str]:
        return [notice["state"] for notice in self.told if notice["job"] == number]

    def steps(self) -> list[str]:
        return [step for step, _ in self.disk.written]


@pytest.fixture(scope="module")
def press() -> EdgeConfig:
    found = load(examples_dir() / "press" / "press.toml").config
    assert found is not None
    return found


@pytest.fixture
def bench_at(press: EdgeConfig, tmp_path: Path) -> Callable[..., Bench]:
    def make(groups: Mapping[str, str], change: ChangeConfig) -> Bench:
        first = press.pipelines[0]
        pipelines = tuple(
            first.model_copy(update={"name": name, "group": group, "change": change})
            for group, names in groups.items()
            for name in names
        )
        config = press.model_copy(update={"pipelines": pipelines})
        hosts: dict[str, Host] = {}
        disk = Disk(tmp_path / "ledger", lambda: sum(len(host.active) for host in hosts.values()))
        active = Trusting(StateDir(tmp_path), config, lambda: disk.standing)
        book = ModelBook(active, disk, LoadCounts(tmp_path / "loads.json"))
        return Bench(config, disk, book, active, hosts)

    return make


@asynccontextmanager
async def running(bench: Bench, groups: Mapping[str, str]) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        for group, names in groups.items():
            bench.hosts[group] = Host()
            choices = dict.fromkeys(names, OLD)
            bench.keepers[group] = await stack.enter_async_context(
                keeping(bench.hosts[group], choices, group=group)
            )
        async with asyncio.TaskGroup() as tasks:
            job = tasks.create_task(bench.jobs.run())
            yield bench
            job.cancel()


@pytest.fixture
async def bench(bench_at: Callable[..., Bench]) -> AsyncIterator[Bench]:
    groups = {"g": "a"}
    async with running(bench_at(groups, ChangeConfig()), groups) as found:
        yield found


@pytest.fixture
async def two_groups(bench_at: Callable[..., Bench]) -> AsyncIterator[Bench]:
    groups = {"g": "ab", "h": "c"}
    async with running(bench_at(groups, ChangeConfig()), groups) as found:
        yield found


async def test_each_step_is_written_down_before_it_happens(bench: Bench) -> None:
    notice = await bench.done(LOAD)
    assert bench.states("job-1") == ["Queued", "Loading", "Validating", "Switching", "Active"]
    assert (notice["before"], notice["now"], notice["note"]) == ({"a": 1}, {"a": 2}, "new die")
    # The former version was active once; the new one becomes active between the last two.
    assert bench.disk.written == [("begun", 1), ("prepared", 1), ("activating", 1), ("active", 2)]
    assert bench.book.standing.of("a").former == OLD


async def test_each_load_is_written_down_before_its_process_is_started(bench: Bench) -> None:
    host = bench.hosts["g"]
    await bench.done(LOAD)
    assert host.loads == [lane.what for lane in host.started] == [{"a": 1}, {"a": 2}]


async def test_an_order_for_pipelines_that_are_gone_fails_and_is_over(bench: Bench) -> None:
    gone = {"gone": ModelChoice(MODEL, 2, "")}
    await bench.book.note(Entry(Kind.LOAD, Step.ORDERED, gone["gone"], {}, gone), Step.ORDERED)
    bench.jobs.order()
    assert (await bench.ended("job-1"))["reason"].startswith("M531: no pipeline runs")
    assert not bench.book.standing.open


async def test_going_back_is_at_once_and_further_back_each_time(bench: Bench) -> None:
    await bench.done(LOAD)
    started = len(bench.hosts["g"].started)
    notice = await bench.done({"name": MODEL, "user": "me"}, JobKind.ROLLBACK)
    assert (notice["state"], notice["before"], notice["now"]) == ("RolledBack", {"a": 2}, {"a": 1})
    assert len(bench.hosts["g"].started) == started  # it stood by
    assert bench.steps()[-3:] == ["begun", "reverting", "reverted"]
    again = bench.jobs.submit({"name": MODEL}, JobKind.ROLLBACK)
    assert again == Reply(BAD_INVALID_STATE, f"{MODEL}: there is no former version to go back to")


async def test_a_group_that_refuses_keeps_every_other_one_where_it_is(two_groups: Bench) -> None:
    two_groups.hosts["h"].unfit = {("c", 2)}
    notice = await two_groups.done(LOAD)
    assert (notice["state"], notice["reason"]) == ("Failed", "M512: no good")
    assert two_groups.runs() == {"a": 1, "b": 1, "c": 1}
    assert two_groups.steps() == ["begun", "failed"]
    assert [len(host.active) for host in two_groups.hosts.values()] == [1, 1]
    assert await _is_tidy(two_groups)


async def test_a_group_that_cannot_switch_switches_the_others_back(two_groups: Bench) -> None:
    two_groups.hosts["h"].activation = Reply(BAD_INVALID_STATE, "no")
    notice = await two_groups.done(LOAD)
    assert notice["state"] == "Failed"
    assert "g was switched back" in notice["reason"]
    assert two_groups.runs() == {"a": 1, "b": 1, "c": 1}
    assert two_groups.hosts["g"].active[-1][0] == {"a": 1, "b": 1}
    assert two_groups.steps() == ["begun", "prepared", "activating", "failed"]
    assert not two_groups.book.standing.open


async def test_only_the_pipelines_that_were_named_change(two_groups: Bench) -> None:
    notice = await two_groups.done({**LOAD, "pipelines": ["b"]})
    assert notice["pipelines"] == ["b"]
    assert two_groups.runs() == {"a": 1, "b": 2, "c": 1}
    notice = await two_groups.done({"pipeline": "b"}, JobKind.ROLLBACK)
    assert two_groups.runs() == {"a": 1, "b": 1, "c": 1}


async def test_a_validation_changes_nothing_and_is_not_written_down(bench: Bench) -> None:
    notice = await bench.done(LOAD, JobKind.VALIDATE)
    assert bench.states("job-1") == ["Queued", "Loading", "Validating", "Validated"]
    assert notice["now"] == {}
    assert bench.runs() == {"a": 1}
    assert bench.steps() == []
    assert await _is_tidy(bench)


async def test_what_cannot_be_written_down_is_not_done(bench: Bench) -> None:
    await bench.done(LOAD)
    bench.disk.full_behind = Step.ACTIVE
    notice = await bench.done({**LOAD, "version": 3})
    assert notice["state"] == "Failed"
    assert notice["reason"].startswith("M632: what shall happen cannot be written down")
    assert bench.runs() == {"a": 2}
    # Back is away from harm: that is done whatever the disk says.
    assert (await bench.done({"name": MODEL}, JobKind.ROLLBACK))["state"] == "RolledBack"
    assert bench.runs() == {"a": 1}
    assert bench.book.active.choice("a").version == 1


async def test_a_change_that_has_happened_is_not_undone_by_a_full_disk(bench: Bench) -> None:
    bench.disk.full_behind = Step.ACTIVATING
    assert (await bench.done(LOAD))["state"] == "Active"
    assert bench.runs() == {"a": 2}
    assert bench.book.active.choice("a").version == 2


async def test_a_version_in_quarantine_is_not_loaded_until_it_is_released(bench: Bench) -> None:
    bad = Entry(Kind.VERDICT, Step.QUARANTINED, ModelChoice(MODEL, 2, "2" * 64))
    await bench.book.note(bad, Step.QUARANTINED, "errors: 9 of 100")
    notice = await bench.done(LOAD)
    assert notice["reason"] == f"M631: {MODEL} 2 is in quarantine: errors: 9 of 100"
    assert (await bench.jobs.release({"name": MODEL, "version": 2, "user": "me"})).status == 0
    assert (await bench.jobs.release({"name": MODEL, "version": 2})).status == BAD_INVALID_STATE
    assert (await bench.done(LOAD))["state"] == "Active"


async def test_nobody_goes_back_to_a_version_that_is_gone(bench: Bench) -> None:
    await bench.done(LOAD)
    await bench.done({**LOAD, "version": 3})
    bench.active.missing = frozenset({2})
    await bench.done({"name": MODEL}, JobKind.ROLLBACK)
    assert bench.runs() == {"a": 1}


async def test_the_server_goes_back_before_anything_else_that_waits(bench: Bench) -> None:
    await bench.done(LOAD)
    waiting = bench.submit({**LOAD, "version": 3})
    job = bench.jobs.go_back(("a",), "errors: 9 of 100")
    assert (await bench.ended(job.number))["reason"] == "errors: 9 of 100"
    assert (await bench.ended(waiting))["state"] == "Active"
    assert [notice["state"] for notice in bench.told if notice["job"] == job.number][-1] == "RolledBack"
    assert bench.steps()[4:7] == ["begun", "reverting", "reverted"]
    assert {notice["user"] for notice in bench.told if notice["job"] == job.number} == {SERVER}


async def test_a_version_takes_over_only_after_its_shadow_and_meanwhile_others_are_done(bench: Bench) -> None:
    number = bench.submit({**LOAD, "shadow": 3})
    await bench.in_shadow()
    assert bench.runs() == {"a": 1}
    assert not bench.jobs.changing.locked()
    assert (await bench.done({**LOAD, "version": 3}, JobKind.VALIDATE))["state"] == "Validated"
    host = bench.hosts["g"]
    rows = {"a": Agreement(wanted=3, compared=3, agreed=3).notice()}
    bench.keepers["g"].on_notice(host.started[-2].role, "shadow", {"pipelines": rows})
    notice = await bench.ended(number)
    assert (notice["state"], notice["shadow"]["compared"]) == ("Active", 3)
    assert bench.states(number)[2:] == ["Validating", "Shadow", "Shadow", "Switching", "Active"]
    assert bench.steps() == ["begun", "prepared", "shadow", "activating", "active"]


async def test_a_later_job_for_the_same_pipeline_ends_a_shadow(bench: Bench) -> None:
    number = bench.submit({**LOAD, "shadow": 3})
    await bench.in_shadow()
    later = bench.submit({**LOAD, "version": 3})
    assert (await bench.ended(number))["reason"] == f"M635: {later} takes its place"
    assert (await bench.ended(later))["state"] == "Active"
    assert bench.runs() == {"a": 3}
    assert not bench.book.standing.open


async def test_a_later_job_ends_what_has_passed_its_shadow_and_waits_for_its_turn(bench: Bench) -> None:
    # It would else take over last, and what it was compared with would be the way back: version 1, not 3.
    number = bench.submit({**LOAD, "shadow": 3})
    await bench.in_shadow()
    rows = {"a": Agreement(wanted=3, compared=3, agreed=3).notice()}
    async with bench.jobs.changing:
        later = bench.submit({**LOAD, "version": 3, "shadow": 0})
        bench.keepers["g"].on_notice(bench.hosts["g"].started[-1].role, "shadow", {"pipelines": rows})
        await until(lambda: "Shadow" in bench.states(number))
        for _ in range(20):
            await asyncio.sleep(0)
    assert (await bench.ended(number))["reason"] == f"M635: {later} takes its place"
    assert (await bench.ended(later))["state"] == "Active"
    assert bench.runs() == {"a": 3}
    assert bench.book.standing.of("a").former == OLD


async def test_a_reload_ends_a_shadow_and_holds_nothing_against_the_version(bench: Bench) -> None:
    number = bench.submit({**LOAD, "shadow": 3})
    await bench.in_shadow()
    keeper = bench.keepers["g"]
    await keeper.change(keeper.choices, ("a",), within_s=1.0)
    assert (await bench.ended(number))["reason"].startswith("M531: the configuration was changed")
    assert bench.book.loads_of(ModelChoice(MODEL, 2, "2" * 64)) == 0


async def test_a_shadow_whose_group_goes_is_over_with_it(bench: Bench) -> None:
    number = bench.submit({**LOAD, "shadow": 3})
    await bench.in_shadow()
    await bench.keepers["g"].end()
    assert (await bench.ended(number))["state"] == "Failed"
    assert not bench.book.standing.open


async def test_a_job_whose_pipeline_has_gone_or_runs_another_model_meanwhile_fails_alone(
    two_groups: Bench,
) -> None:
    first, second, _ = two_groups.config.pipelines
    async with two_groups.jobs.changing:
        gone = two_groups.submit({**LOAD, "pipelines": ["c"]})
        other = two_groups.submit({**LOAD, "pipelines": ["a"]})
        config = two_groups.config.model_copy(
            update={"pipelines": (first.model_copy(update={"model": "another"}), second)}
        )
        two_groups.active.reconfigure(config)
        two_groups.jobs.reconfigure(config)
        two_groups.keepers.pop("h")
    assert (await two_groups.ended(gone))["reason"] == "M531: there is no pipeline c any more"
    assert (await two_groups.ended(other))["reason"] == f"M531: a does not run {MODEL} any more"


async def test_a_shadow_that_disagrees_is_refused_in_a_sentence(bench: Bench) -> None:
    number = bench.submit({**LOAD, "shadow": 3})
    await bench.in_shadow()
    rows = {"a": Agreement(wanted=3, compared=2, agreed=1, new_alarms=1, disagreement="stroke 7").notice()}
    bench.keepers["g"].on_notice(bench.hosts["g"].started[-1].role, "shadow", {"pipelines": rows})
    notice = await bench.ended(number)
    assert notice["reason"].startswith("M640: a: both versions agree on 1 of 2 captures")
    assert bench.steps() == ["begun", "prepared", "shadow", "failed"]
    assert await _is_tidy(bench)


async def test_what_was_ordered_while_no_server_ran_begins_with_it(bench: Bench) -> None:
    order = Entry(Kind.LOAD, Step.ORDERED, ModelChoice(MODEL, 2, ""), user="me", note="new die")
    await bench.book.note(order, Step.ORDERED)
    bench.jobs.order()
    assert (await bench.ended("job-1"))["state"] == "Active"
    assert bench.runs() == {"a": 2}
    assert not bench.book.standing.open


async def test_an_order_that_cannot_be_done_is_not_tried_at_every_start(bench: Bench) -> None:
    bench.active.missing = frozenset({2})
    await bench.book.note(Entry(Kind.LOAD, Step.ORDERED, ModelChoice(MODEL, 2, "")), Step.ORDERED)
    bench.jobs.order()
    assert (await bench.ended("job-1"))["reason"].startswith("M501")
    assert not bench.book.standing.open


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JobKind.LOAD, {}),
        (JobKind.LOAD, {"name": MODEL, "version": "2"}),
        (JobKind.LOAD, {"name": MODEL, "version": True}),
        (JobKind.LOAD, {"name": MODEL, "version": -1}),
        (JobKind.LOAD, {"name": MODEL, "version": 1 << 32}),
        (JobKind.LOAD, {"name": "nobody", "version": 1}),
        (JobKind.LOAD, {**LOAD, "sha256": "xyz"}),
        (JobKind.LOAD, {**LOAD, "pipelines": ["nobody"]}),
        (JobKind.LOAD, {**LOAD, "pipelines": "a"}),
        (JobKind.LOAD, {**LOAD, "shadow": -1}),
        (JobKind.LOAD, {**LOAD, "note": "x" * 501}),
        (JobKind.VALIDATE, {"name": MODEL}),
        (JobKind.ROLLBACK, {"name": "nobody"}),
        (JobKind.ROLLBACK, {"pipeline": "nobody"}),
    ],
)
async def test_a_request_that_is_no_request_is_refused_at_once(
    bench: Bench, kind: JobKind, body: dict[str, Any]
) -> None:
    assert bench.jobs.submit(body, kind).status == BAD_INVALID_ARGUMENT
    assert not bench.told


async def test_a_note_of_a_terminal_with_another_coding_can_be_written_everywhere(bench: Bench) -> None:
    notice = await bench.done({**LOAD, "note": "f\udcfcr Anna"})
    assert (notice["state"], notice["note"]) == ("Active", "f?r Anna")


async def test_more_jobs_than_can_wait_are_refused(bench: Bench) -> None:
    replies = [bench.jobs.submit(LOAD) for _ in range(6)]
    assert [reply.status for reply in replies] == [0] * 4 + [BAD_TOO_MANY_OPERATIONS] * 2


async def _is_tidy(bench: Bench) -> bool:
    """Wait until no process is left but those that judge."""
    judging = sum(len(keeper.lanes) for keeper in bench.keepers.values())

    def alive() -> int:
        return sum(not lane.has_ended for host in bench.hosts.values() for lane in host.started)

    await until(lambda: alive() == judging)
    return True
