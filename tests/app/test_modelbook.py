"""What a start makes of what a former server has left behind: which version it starts with, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_opcua.app.models.active import ActiveModels, install_delivered
from edge_opcua.app.models.book import ModelBook
from edge_opcua.app.models.loads import LoadCounts
from edge_opcua.app.models.recovery import MOST_LOADS, open_book
from edge_opcua.assets import examples_dir
from edge_opcua.config.loader import load
from edge_opcua.config.schema import EdgeConfig
from edge_opcua.core.statedir import StateDir
from edge_opcua.core.worker import Worker
from edge_opcua.errors import ModelError
from edge_opcua.inference.choice import ModelChoice
from edge_opcua.inference.ledger import LOAD_STEPS, ROLLBACK_STEPS, SERVER, Entry, Kind, Step
from edge_opcua.inference.ledgerfile import Ledger, read_history
from edge_opcua.testing import ManualClock

PRESS = examples_dir() / "press"
PIPELINE = "press-anomaly"
V1, V2 = ModelChoice(PIPELINE, 1, ""), ModelChoice(PIPELINE, 2, "")


@pytest.fixture(scope="module")
def config() -> EdgeConfig:
    loaded = load(PRESS / "press.toml")
    assert loaded.config is not None
    models = loaded.config.models.model_copy(update={"folder": PRESS / "models"})
    return loaded.config.model_copy(update={"models": models})


@pytest.fixture
def state(tmp_path: Path, config: EdgeConfig) -> StateDir:
    found = StateDir(tmp_path)
    found.create()
    assert install_delivered(config, found) == []
    return found


def change(kind: Kind, new: ModelChoice, old: ModelChoice) -> Entry:
    model = new if kind is Kind.LOAD else old
    return Entry(kind, Step.BEGUN, model, {PIPELINE: old}, {PIPELINE: new}, user="me")


def left_behind(state: StateDir, entry: Entry, steps: Iterable[Step]) -> None:
    """Write steps of one change, as a server does that is killed behind the last one."""
    ledger = Ledger(state.model_ledger, ManualClock())
    for step in steps:
        entry = ledger.append(entry.next(step))


def killed(state: StateDir, *loaded: ModelChoice) -> None:
    """Leave the counts as a server does that has loaded versions and was killed."""
    counts = LoadCounts(state.model_loads)
    counts.open()
    for choice in loaded:
        counts.begin([choice])


def started(state: StateDir, config: EdgeConfig) -> ModelBook:
    return open_book(state, config, ManualClock())


def steps(state: StateDir) -> list[str]:
    return [entry.step.value for entry in read_history(state.model_ledger).entries]


@pytest.mark.parametrize("step", LOAD_STEPS)
def test_an_activation_cut_off_at_any_step_leaves_the_old_version_unless_it_was_confirmed(
    config: EdgeConfig, state: StateDir, step: Step
) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), LOAD_STEPS[: LOAD_STEPS.index(step) + 1])
    killed(state, V2)
    book = started(state, config)
    is_confirmed = step is Step.CONFIRMED
    assert book.active.choice(PIPELINE).version == (2 if is_confirmed else 1)
    assert not book.standing.open
    assert not book.standing.trials
    assert bool(book.found) != is_confirmed
    assert started(state, config).found == ()  # told once


@pytest.mark.parametrize("step", ROLLBACK_STEPS)
def test_a_roll_back_cut_off_is_completed_once_it_had_begun_to_take_effect(
    config: EdgeConfig, state: StateDir, step: Step
) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), LOAD_STEPS)
    left_behind(state, change(Kind.ROLLBACK, V1, V2), ROLLBACK_STEPS[: ROLLBACK_STEPS.index(step) + 1])
    killed(state)
    book = started(state, config)
    assert book.active.choice(PIPELINE).version == (2 if step is Step.BEGUN else 1)
    assert not book.standing.open


def test_a_trial_goes_on_after_an_orderly_end(config: EdgeConfig, state: StateDir) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), [Step.BEGUN, Step.ACTIVE])
    counts = LoadCounts(state.model_loads)
    counts.open()
    counts.begin([V2])
    counts.close()
    book = started(state, config)
    assert book.active.choice(PIPELINE) == V2
    assert list(book.standing.trials.values()) == [(PIPELINE,)]
    assert book.found == ()


def test_a_version_that_dies_on_trial_twice_is_put_into_quarantine(
    config: EdgeConfig, state: StateDir
) -> None:
    for times in (1, 2):
        left_behind(state, change(Kind.LOAD, V2, V1), [Step.BEGUN, Step.ACTIVE])
        killed(state, V2)
        book = started(state, config)
        assert book.active.choice(PIPELINE).version == 1
        assert (book.standing.quarantine_of(V2) is not None) == (times == 2)


def test_a_version_that_brings_down_the_computer_while_it_is_loaded_is_loaded_twice_at_most(
    config: EdgeConfig, state: StateDir
) -> None:
    for times in (1, 2):
        left_behind(state, change(Kind.LOAD, V2, V1), [Step.BEGUN])
        killed(state, V2)
        book = started(state, config)
        assert book.active.choice(PIPELINE).version == 1
        assert (book.standing.quarantine_of(V2) is not None) == (times == 2)
    assert V1.is_same(book.active.choice(PIPELINE))


def test_a_version_that_brings_down_the_computer_at_every_start_is_left_at_the_third(
    config: EdgeConfig, state: StateDir
) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), LOAD_STEPS)
    for times in range(1, MOST_LOADS + 1):
        assert started(state, config).active.choice(PIPELINE).version == 2, times
        LoadCounts(state.model_loads).begin([V2])  # what the start does before it loads; then the power goes
    book = started(state, config)
    assert book.active.choice(PIPELINE).version == 1
    held = book.standing.quarantine_of(V2)
    assert held is not None
    assert "3 times" in held.why
    assert steps(state)[-2:] == ["quarantined", "reverted"]


def test_what_has_lasted_or_ended_in_order_is_not_held_against_a_version(
    config: EdgeConfig, state: StateDir
) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), LOAD_STEPS)
    for _ in range(2 * MOST_LOADS):
        killed(state, V2)
        LoadCounts(state.model_loads).lasted([V2])
        assert started(state, config).active.choice(PIPELINE).version == 2
    killed(state, V2, V2, V2)
    LoadCounts(state.model_loads).close()
    assert started(state, config).active.choice(PIPELINE).version == 2


def test_the_only_version_there_is_runs_whatever_is_held_against_it(
    config: EdgeConfig, state: StateDir
) -> None:
    killed(state, *[V1] * 9)
    Ledger(state.model_ledger, ManualClock()).append(
        Entry(Kind.VERDICT, Step.QUARANTINED, V1, user=SERVER, why="errors")
    )
    assert started(state, config).active.choice(PIPELINE).version == 1


def test_nobody_goes_back_to_files_that_are_not_what_they_were(config: EdgeConfig, state: StateDir) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), [Step.BEGUN, Step.ACTIVE])
    killed(state, V2)
    (state.models / PIPELINE / "1" / "model.onnx").write_bytes(b"broken")
    book = started(state, config)
    assert book.active.choice(PIPELINE).version == 2
    assert list(book.standing.trials.values()) == [(PIPELINE,)]


def test_a_version_in_quarantine_is_left_at_the_start(config: EdgeConfig, state: StateDir) -> None:
    entry = change(Kind.LOAD, V2, V1)
    left_behind(state, entry, LOAD_STEPS)
    # Killed between the quarantine and the way back.
    Ledger(state.model_ledger, ManualClock()).append(entry.verdict(Step.QUARANTINED, SERVER, "errors"))
    book = started(state, config)
    assert book.active.choice(PIPELINE).version == 1
    assert "in quarantine" in book.found[0].text


def test_the_choices_of_an_older_release_are_taken_over(config: EdgeConfig, state: StateDir) -> None:
    state.active_models.write_text(json.dumps({PIPELINE: V2.as_json(), "gone": {"name": "x"}}))
    assert ActiveModels(state, config).choice(PIPELINE) == V2  # who only reads knows it too
    assert started(state, config).active.choice(PIPELINE) == V2
    assert not state.active_models.exists()
    assert started(state, config).active.choice(PIPELINE) == V2
    assert steps(state) == ["confirmed"]


def test_a_disk_that_takes_nothing_does_not_keep_the_server_from_its_former_version(
    config: EdgeConfig, state: StateDir
) -> None:
    left_behind(state, change(Kind.LOAD, V2, V1), [Step.BEGUN, Step.ACTIVE])
    killed(state, V2)
    state.model_loads.unlink()
    state.model_loads.mkdir()  # neither readable nor writable as a file
    book = started(state, config)
    assert book.active.choice(PIPELINE).version == 1


@pytest.fixture
def book(config: EdgeConfig, state: StateDir) -> ModelBook:
    return started(state, config)


async def test_what_cannot_be_written_down_does_not_begin(book: ModelBook, state: StateDir) -> None:
    state.model_ledger.unlink(missing_ok=True)
    state.model_ledger.mkdir()
    with pytest.raises(ModelError, match="cannot be written down") as caught:
        await book.begin(change(Kind.LOAD, V2, V1))
    assert caught.value.code == "M632"
    assert not book.standing.open
    entry = await book.note(change(Kind.LOAD, V2, V1), Step.ACTIVE)  # what has happened is the case
    assert book.active.choice(PIPELINE) == V2
    assert entry.change == 1
    state.model_ledger.rmdir()
    await book.note(entry, Step.CONFIRMED)
    entries = await Worker("test").call(read_history, state.model_ledger, timeout_s=5.0)
    assert [entry.step for entry in entries.entries] == [Step.ACTIVE, Step.CONFIRMED]


def test_a_changed_model_name_in_the_configuration_wins(config: EdgeConfig, state: StateDir) -> None:
    other = ModelChoice("other", 7, "")
    entry = replace(change(Kind.LOAD, other, other), after={PIPELINE: other})
    left_behind(state, entry, LOAD_STEPS)
    book = started(state, config)
    assert book.active.choice(PIPELINE) == ModelChoice(PIPELINE, 1, "")
    assert book.active.ways_back(PIPELINE) == []
