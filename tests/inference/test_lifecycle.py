"""The job table: every step there is, and none besides."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_opcua.errors import ModelError
from edge_opcua.inference.lifecycle import ENDED, PERCENT, TABLE, Job, JobEvent, JobState

QUEUED = Job("job-3", "press-anomaly", 2, "ab" * 32, "engineer")


def test_a_job_runs_through_to_the_new_model() -> None:
    job = QUEUED
    told = [job.notice()]
    for event in (JobEvent.STARTED, JobEvent.LOADED, JobEvent.READY, JobEvent.ACTIVE):
        job = job.after(event)
        told.append(job.notice())
    assert [notice["state"] for notice in told] == ["Queued", "Starting", "Validating", "Switching", "Done"]
    assert [notice["percent"] for notice in told] == [0, 10, 60, 90, 100]
    assert {(n["job"], n["name"], n["version"], n["reason"]) for n in told} == {
        ("job-3", "press-anomaly", 2, "")
    }
    assert job.ended


def test_a_failure_keeps_its_reason() -> None:
    job = QUEUED.after(JobEvent.STARTED).after(JobEvent.FAILED, "M512: reference sample 1 is off")
    assert job.state is JobState.FAILED
    assert job.notice()["reason"] == "M512: reference sample 1 is off"


def test_a_model_of_several_pipelines_goes_round_once_for_each() -> None:
    job = QUEUED.after(JobEvent.STARTED).after(JobEvent.READY).after(JobEvent.STARTED)
    assert job.state is JobState.STARTING


@pytest.mark.parametrize(("state", "event"), list(itertools.product(JobState, JobEvent)))
def test_only_steps_of_the_table_are_possible(state: JobState, event: JobEvent) -> None:
    job = Job("job-1", "m", 1, "", "", state)
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
    assert 0 <= job.percent == PERCENT[job.state] <= 100


def test_a_reason_belongs_to_a_failure_and_to_nothing_else() -> None:
    with pytest.raises(ModelError, match="reason"):
        QUEUED.after(JobEvent.FAILED)
    with pytest.raises(ModelError, match="reason"):
        QUEUED.after(JobEvent.STARTED, "why not")
