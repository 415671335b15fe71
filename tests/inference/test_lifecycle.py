"""The job table: every step there is, and none besides."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import DONE, ENDED, PERCENT, TABLE, Job, JobEvent, JobKind, JobState

QUEUED = Job("job-3", "press-anomaly", 2, "ab" * 32, "engineer", pipelines=("press-anomaly",), note="new die")


def test_a_job_runs_through_to_the_new_model() -> None:
    job = QUEUED
    told = [job.notice()]
    for event in (JobEvent.STARTED, JobEvent.LOADED, JobEvent.READY, JobEvent.SWITCHING, JobEvent.ACTIVE):
        job = job.after(event)
        told.append(job.notice())
    assert [notice["state"] for notice in told] == [
        "Queued",
        "Loading",
        "Validating",
        "Validating",
        "Switching",
        "Active",
    ]
    assert [notice["percent"] for notice in told] == [0, 10, 50, 50, 90, 100]
    assert {(n["job"], n["kind"], n["name"], n["version"], n["note"], n["reason"]) for n in told} == {
        ("job-3", "load", "press-anomaly", 2, "new die", "")
    }
    assert all("shadow" not in notice for notice in told)
    assert job.ended


def test_a_shadow_tells_what_it_has_seen() -> None:
    job = QUEUED.after(JobEvent.STARTED).after(JobEvent.READY)
    seen = {"compared": 3, "agreement": 1.0, "agreement_low": 0.44, "wanted": 20}
    job = job.after(JobEvent.COMPARING, seen=seen)
    assert (job.state, job.notice()["shadow"]) == (JobState.SHADOW, seen)
    later = job.after(JobEvent.COMPARING, seen=seen | {"compared": 20})
    assert later.notice()["shadow"]["compared"] == 20
    assert later.after(JobEvent.SWITCHING).notice()["shadow"]["compared"] == 20


def test_a_failure_keeps_its_reason() -> None:
    job = QUEUED.after(JobEvent.STARTED).after(JobEvent.FAILED, "M512: reference sample 1 is off")
    assert job.state is JobState.FAILED
    assert job.notice()["reason"] == "M512: reference sample 1 is off"


def test_a_model_of_several_groups_is_loaded_once_for_each_before_any_is_switched() -> None:
    job = QUEUED.after(JobEvent.STARTED).after(JobEvent.READY).after(JobEvent.STARTED)
    assert job.state is JobState.LOADING
    assert job.percent == PERCENT[JobState.VALIDATING], "what is far stays far, also for the next group"
    assert (JobState.LOADING, JobEvent.SWITCHING) not in TABLE


def test_a_validation_changes_nothing_and_a_roll_back_ends_where_it_came_from() -> None:
    proven = replace(QUEUED, kind=JobKind.VALIDATE).after(JobEvent.STARTED).after(JobEvent.READY)
    assert proven.after(JobEvent.VALIDATED).notice()["state"] == "Validated"
    back = replace(QUEUED, kind=JobKind.ROLLBACK).after(JobEvent.SWITCHING).after(JobEvent.ROLLED_BACK)
    assert (back.notice()["state"], back.percent) == ("RolledBack", 100)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(JobState, JobEvent)))
def test_only_steps_of_the_table_are_possible(state: JobState, event: JobEvent) -> None:
    job = Job("job-1", "m", 1, "", "", state=state)
    reason = "because" if event is JobEvent.FAILED else ""
    if (state, event) in TABLE:
        assert job.after(event, reason).state is TABLE[state, event]
    else:
        with pytest.raises(ModelError, match="is not possible") as caught:
            job.after(event, reason)
        assert caught.value.code == "M540"


@given(st.lists(st.sampled_from(JobEvent), max_size=12))
def test_an_ended_job_never_moves_again_and_every_other_can_fail(events: list[JobEvent]) -> None:
    job = QUEUED
    for event in events:
        if (job.state, event) in TABLE:
            assert not job.ended
            job = job.after(event, "because" if event is JobEvent.FAILED else "")
    assert job.ended == (job.state in ENDED)
    assert job.ended or (job.state, JobEvent.FAILED) in TABLE
    assert PERCENT[job.state] <= job.percent <= 100
    assert job.state not in DONE or not job.reason


def test_a_reason_belongs_to_a_failure_and_to_nothing_else() -> None:
    with pytest.raises(ModelError, match="reason"):
        QUEUED.after(JobEvent.FAILED)
    with pytest.raises(ModelError, match="reason"):
        QUEUED.after(JobEvent.STARTED, "why not")
