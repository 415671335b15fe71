"""When the server goes back by itself, when it does not, and what it says then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.models.active import ActiveModels
from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.models.guard import Guard
from edge_opcua.app.models.loads import LoadCounts
from edge_opcua.app.serving.starting import LaneProcess
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.modelcare import ChangeConfig
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import SERVER, Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger
from edge_opcua.inference.lifecycle import Job, JobKind
from edge_opcua.testing import ManualClock

MODEL = "press-anomaly"
V1, V2, V3 = (ModelChoice(MODEL, number, str(number) * 64) for number in (1, 2, 3))


@dataclass
class Keeper:
    """Lanes that run what they are told to."""

    choices: dict[str, ModelChoice]
    lanes: Sequence[LaneProcess] = ()

    def serve(self, since_s: float) -> None:
        self.lanes = [LaneProcess(None, dict(self.choices), {}, {}, since_s=since_s)]  # type: ignore[arg-type]


@dataclass
class Board:
    """What people see."""

    faults: dict[str, str] = field(default_factory=dict)

    def report(self, source: str, code: str, text: str) -> None:
        self.faults[source] = f"{code} {text}"

    def clear(self, source: str, *, code: str = "") -> None:
        self.faults.pop(source, None)


@dataclass
class Watched:
    """A guard over the pipelines a and b of one group and c of another, all with version 2."""

    book: ModelBook
    clock: ManualClock
    loads: LoadCounts
    config: EdgeConfig
    keepers: list[Keeper]
    board: Board = field(default_factory=Board)
    gone_back: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        self.guard = Guard(self.config, self.book, lambda: self.keepers, self.go_back, self.board, self.clock)

    def go_back(self, pipelines: tuple[str, ...], because: str) -> Job:
        self.gone_back.append((pipelines, because))
        return Job("job-1", MODEL, 2, "", SERVER, JobKind.ROLLBACK, pipelines)

    async def taken(
        self, step: Step, new: ModelChoice, old: ModelChoice, *names: str, user: str = "me"
    ) -> None:
        kind = Kind.ROLLBACK if step is Step.REVERTED else Kind.LOAD
        entry = Entry(kind, step, new, dict.fromkeys(names, old), dict.fromkeys(names, new), user=user)
        await self.book.note(entry, step)

    async def on_trial(self, *names: str) -> None:
        await self.taken(Step.ACTIVE, V2, V1, *names)

    def alarm(self, kind: str, pipeline: str = "a", **more: Any) -> None:
        body = {"pipeline": pipeline, "model": V2.key, "kind": kind, "active": True, "code": "M650"}
        self.guard.on_watch({**body, "text": "9 of 100 runs failed", **more})


@pytest.fixture(scope="module")
def press() -> EdgeConfig:
    found = load(examples_dir() / "press" / "press.toml").config
    assert found is not None
    return found


@pytest.fixture
def watched(press: EdgeConfig, tmp_path: Path) -> Watched:
    return watch(press, tmp_path, ChangeConfig())


def watch(press: EdgeConfig, tmp_path: Path, change: ChangeConfig) -> Watched:
    first = press.pipelines[0]
    pipelines = tuple(first.model_copy(update={"name": name, "change": change}) for name in "abc")
    config = press.model_copy(update={"pipelines": pipelines})
    clock = ManualClock()
    ledger, loads = Ledger(tmp_path / "ledger", clock), LoadCounts(tmp_path / "loads.json")
    active = ActiveModels(StateDir(tmp_path), config, lambda: ledger.standing)
    keepers = [Keeper({"a": V2, "b": V2}), Keeper({"c": V2})]
    return Watched(ModelBook(active, ledger, loads), clock, loads, config, keepers)


async def test_a_version_that_errs_is_put_into_quarantine_and_left_wherever_it_runs(watched: Watched) -> None:
    await watched.on_trial("a", "b", "c")
    watched.alarm("errors")
    await watched.guard.look()
    because = "errors: 9 of 100 runs failed"
    assert watched.gone_back == [(("a", "b"), because), (("c",), because)]
    held = watched.book.standing.quarantine_of(V2)
    assert held is not None
    assert (held.user, held.why) == (SERVER, because)


@pytest.mark.parametrize("kind", ["drift", "confidence", "quality", "age", "trend"])
async def test_what_the_former_version_would_show_as_well_is_told_and_changes_nothing(
    watched: Watched, kind: str
) -> None:
    await watched.on_trial("a")
    watched.alarm(kind)
    await watched.guard.look()
    assert watched.gone_back == []
    assert watched.board.faults == {f"a/{kind}": "M650 9 of 100 runs failed"}
    watched.alarm(kind, active=False)
    assert watched.board.faults == {}


async def test_a_pipeline_that_shall_go_back_for_drift_does(press: EdgeConfig, tmp_path: Path) -> None:
    watched = watch(press, tmp_path, ChangeConfig(rollback_on=("drift",)))
    await watched.on_trial("a")
    watched.alarm("errors")
    watched.alarm("drift")
    await watched.guard.look()
    assert watched.gone_back == [(("a",), "drift: 9 of 100 runs failed")]


async def test_late_verdicts_after_the_end_of_a_process_are_not_held_against_the_version(
    watched: Watched,
) -> None:
    await watched.taken(Step.ACTIVE, V2, V1, "c")
    watched.keepers[1].serve(watched.clock.monotonic_s())
    await watched.clock.advance(61)
    await watched.guard.look()
    watched.guard.on_ended({"c": V2}, "killed by SIGKILL")
    watched.alarm("latency", "c")
    await watched.guard.look()
    assert watched.gone_back == []
    assert "c/latency" in watched.board.faults
    await watched.clock.advance(121)
    watched.alarm("latency", "c")
    await watched.guard.look()
    assert [names for names, _ in watched.gone_back] == [("c",)]


async def test_an_alarm_of_a_version_that_runs_no_longer_says_nothing_of_the_one_that_does(
    watched: Watched,
) -> None:
    await watched.on_trial("a")
    watched.alarm("errors", model=V1.key)
    watched.alarm("errors", pipeline="nobody")
    await watched.guard.look()
    assert (watched.gone_back, watched.board.faults) == ([], {})


async def test_one_that_ends_its_process_on_trial_gets_no_second_try(watched: Watched) -> None:
    await watched.on_trial("c")
    watched.guard.on_ended({"c": V2}, "killed by SIGSEGV")
    await watched.guard.look()
    assert watched.gone_back == [(("c",), "crash: its process ended on trial: killed by SIGSEGV")]


async def test_one_that_takes_over_just_now_is_on_trial_as_well(watched: Watched) -> None:
    await watched.taken(Step.ACTIVATING, V2, V1, "c")
    watched.guard.on_ended({"c": V2}, "killed by SIGSEGV")
    await watched.guard.look()
    assert [names for names, _ in watched.gone_back] == [("c",)]


async def test_an_established_version_is_started_again_until_that_has_failed_too_often(
    watched: Watched,
) -> None:
    await watched.on_trial("c")
    for keeper in watched.keepers:
        keeper.serve(watched.clock.monotonic_s())
    await watched.clock.advance(61)
    await watched.guard.look()
    assert not watched.book.standing.trials
    watched.guard.on_ended({"c": V2}, "killed by SIGSEGV")
    await watched.guard.look()
    assert watched.gone_back == []
    watched.guard.on_fault("c", "M595", "its process ended 3 times")
    await watched.guard.look()
    assert watched.gone_back == [(("c",), "crash: its process ended 3 times")]


async def test_what_somebody_has_activated_since_goes_back_all_the_same(watched: Watched) -> None:
    await watched.taken(Step.ACTIVE, V3, V1, "c")
    await watched.taken(Step.REVERTED, V1, V3, "c", user=SERVER)
    await watched.on_trial("c")
    watched.alarm("errors", "c")
    await watched.guard.look()
    assert [names for names, _ in watched.gone_back] == [("c",)]


async def test_a_version_that_hangs_while_it_is_loaded_is_left_after_the_third_time(watched: Watched) -> None:
    await watched.taken(Step.ACTIVE, V2, V1, "c")
    watched.keepers[1].serve(watched.clock.monotonic_s())
    await watched.clock.advance(61)
    await watched.guard.look()
    for times in (1, 2, 3):
        await watched.book.loading([V2])
        watched.keepers[1].lanes = ()
        watched.guard.on_fault("c", "M530", "it was not ready in 40 s")
        await watched.guard.look()
        assert len(watched.gone_back) == (times == 3)


async def test_late_verdicts_of_a_version_that_was_in_time_for_long_are_told_and_change_nothing(
    watched: Watched,
) -> None:
    # A backup that takes the processors is no reason to leave a version, let alone to distrust it.
    await watched.on_trial("c")
    watched.keepers[1].serve(watched.clock.monotonic_s())
    await watched.clock.advance(61)
    await watched.guard.look()
    await watched.clock.advance(3600)
    watched.alarm("latency", "c")
    await watched.guard.look()
    assert watched.gone_back == []
    assert "c/latency" in watched.board.faults
    assert not watched.book.standing.quarantined
    watched.alarm("errors", "c")
    await watched.guard.look()
    assert [names for names, _ in watched.gone_back] == [("c",)]


@pytest.mark.parametrize("code", ["M561", "M591"])
async def test_one_that_is_loaded_slowly_is_given_three_tries(watched: Watched, code: str) -> None:
    await watched.taken(Step.ACTIVE, V2, V1, "c")
    watched.keepers[1].serve(watched.clock.monotonic_s())
    await watched.clock.advance(61)
    await watched.guard.look()
    await watched.book.loading([V2])
    watched.guard.on_fault("c", code, "not proven in time")
    await watched.guard.look()
    assert watched.gone_back == []


@pytest.mark.parametrize("code", ["M531", "M580", "M581", "M597", "H651", "M521", "M564", "M570", "M572"])
async def test_want_of_memory_of_a_process_or_of_a_device_is_no_fault_of_a_model(
    watched: Watched, code: str
) -> None:
    await watched.on_trial("c")
    watched.guard.on_fault("c", code, "no room")
    watched.guard.on_fault("group g", "M596", "apart")
    await watched.guard.look()
    assert watched.gone_back == []


async def test_a_version_whose_file_was_changed_is_left_for_the_former_one(watched: Watched) -> None:
    await watched.on_trial("c")
    watched.guard.on_fault("c", "M503", "the file was changed")
    await watched.guard.look()
    assert watched.gone_back == [(("c",), "crash: the file was changed")]


async def test_a_version_is_confirmed_when_its_process_has_judged_for_as_long_as_the_trial(
    watched: Watched,
) -> None:
    await watched.on_trial("a", "c")
    watched.keepers[0].serve(watched.clock.monotonic_s())
    await watched.clock.advance(61)
    await watched.guard.look()
    assert watched.book.standing.trials  # nobody serves c
    watched.keepers[1].serve(watched.clock.monotonic_s())
    await watched.guard.look()
    assert watched.book.standing.trials  # not for long
    await watched.clock.advance(61)
    await watched.guard.look()
    assert not watched.book.standing.trials
    assert watched.book.standing.of("c").active == V2


async def test_that_it_was_loaded_is_held_against_a_version_until_it_has_judged_for_a_while(
    watched: Watched,
) -> None:
    await watched.book.loading([V2])
    watched.keepers[0].serve(watched.clock.monotonic_s())
    await watched.guard.look()
    assert watched.loads.of(V2) == 1
    await watched.clock.advance(61)
    await watched.guard.look()
    assert watched.loads.of(V2) == 0


async def test_nobody_goes_back_twice_within_an_hour(watched: Watched) -> None:
    await watched.on_trial("c")
    await watched.taken(Step.ACTIVE, V3, V2, "c")
    await watched.taken(Step.REVERTED, V2, V3, "c", user=SERVER)
    watched.alarm("errors", "c")
    await watched.guard.look()
    assert watched.gone_back == []
    assert watched.board.faults["c/model"].startswith("M636")
    assert "the cause is not the model" in watched.board.faults["c/model"]
    assert watched.book.standing.quarantine_of(V2) is None
    await watched.clock.advance(3601)
    watched.alarm("errors", "c")
    await watched.guard.look()
    assert [names for names, _ in watched.gone_back] == [("c",)]


async def test_harm_without_a_way_back_is_told_and_the_version_is_not_condemned(
    watched: Watched,
) -> None:
    watched.alarm("errors", "c")
    await watched.guard.look()
    assert watched.gone_back == []
    assert "there is no former version" in watched.board.faults["c/model"]
    assert watched.book.standing.quarantine_of(V2) is None


async def test_while_it_goes_back_further_alarms_of_the_same_harm_begin_nothing(watched: Watched) -> None:
    await watched.on_trial("c")
    for kind in ("errors", "not_a_number", "errors"):
        watched.alarm(kind, "c")
    await watched.guard.look()
    assert len(watched.gone_back) == 1
    failed = {"user": SERVER, "kind": "rollback", "pipelines": ["c"], "reason": "M530: gone"}
    watched.guard.on_job({**failed, "state": "Failed"})
    assert watched.board.faults["c/model"] == "M636 it could not go back by itself: M530: gone"


async def test_what_was_told_of_a_version_is_over_when_another_one_runs(watched: Watched) -> None:
    await watched.on_trial("c")
    watched.alarm("errors", "c")
    back = {"user": SERVER, "kind": "rollback", "pipelines": ["c"], "name": MODEL, "version": 2}
    watched.guard.on_job({**back, "state": "RolledBack", "reason": "errors"})
    assert watched.board.faults == {"c/model": f"M634 went back from {MODEL} 2 by itself: errors"}
    watched.guard.on_job({"user": "me", "kind": "load", "pipelines": ["c"], "state": "Switching"})
    assert "c/model" in watched.board.faults
    watched.guard.on_job({"user": "me", "kind": "load", "pipelines": ["c"], "state": "Active"})
    assert watched.board.faults == {}
