"""Running models in words, as ``status``, ``lanes`` and ``watch`` print them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_opcua.app.command.console import status_text, watch_table
from edge_opcua.app.command.modeltext import job_line, model_line, model_notes, print_alarms

SHADOW = {
    "name": "press-anomaly",
    "version": 3,
    "compared": 120,
    "wanted": 200,
    "agreement": 0.983,
    "agreement_low": 0.951,
}
QUIET: dict[str, Any] = {
    "pipeline": "press",
    "model": {"name": "press-anomaly", "version": 2, "sha256": "a"},
    "watch": {"alarm": "", "alarms": 0, "probation": False, "trend": ""},
    "shadow": None,
    "standby": None,
    "lane": {},
    "last": {},
    "verdict": None,
    "age_s": None,
}


def pipeline(watch: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {**QUIET, "watch": {**QUIET["watch"], **(watch or {})}, **changes}


def test_a_model_that_simply_judges_needs_no_line() -> None:
    assert model_line(QUIET) == ""
    assert model_line({**QUIET, "watch": {}}) == "", "before the first batch of its watch"
    # Beside another pipeline's former version, its own one is loaded in the process that stands by as well.
    assert model_line({**QUIET, "standby": QUIET["model"]}) == ""


def test_one_line_says_what_speaks_against_a_model_and_what_stands_beside_it() -> None:
    row = pipeline(
        {"alarm": "drift of rms", "alarms": 16 + 4, "probation": True, "trend": "reaches the limit in 6 h"},
        shadow=SHADOW,
        standby={"name": "press-anomaly", "version": 1, "sha256": "b"},
    )
    assert model_line(row) == (
        "press  model press-anomaly/2: alarm: drift of rms (and 1 more); on trial; "
        "version 3 in shadow, 120 of 200 compared, 98.3 % agree (at least 95.1 %); version 1 stands by; "
        "reaches the limit in 6 h"
    )


def test_a_pipeline_that_asked_for_a_faster_version_says_which_one_there_is() -> None:
    assert model_line(pipeline(facts={"cheaper_version": 3})).endswith(
        "version 3 judges where it would be too slow"
    )
    assert model_line(pipeline(facts={"cheaper_version": 0})).endswith("no faster version of it")
    assert model_line(pipeline(facts={"p50_us": 3.0})) == ""


def test_a_version_is_on_trial_as_the_ledger_says_whatever_it_is_held_against() -> None:
    assert model_line(pipeline(on_trial=True)) == "press  model press-anomaly/2: on trial"
    assert model_line(pipeline({"probation": True}, on_trial=False)) == ""


def test_a_trend_that_is_the_alarm_is_said_once() -> None:
    row = pipeline({"alarm": "reaches the limit in 6 h", "alarms": 256, "trend": "reaches the limit in 6 h"})
    assert model_line(row).count("6 h") == 1


def test_a_shadow_that_has_compared_nothing_yet_claims_nothing() -> None:
    new = {**SHADOW, "compared": 0, "agreement": math.nan, "agreement_low": None}
    assert model_line(pipeline(shadow=new)).endswith("version 3 in shadow, 0 of 200 compared")


def test_a_change_is_shown_until_it_has_happened() -> None:
    job = {"job": "job-3", "kind": "load", "name": "m", "version": 3, "state": "Shadow", "percent": 70}
    assert job_line(None) == ""
    assert job_line({**job, "shadow": SHADOW}) == (
        "model change  job-3: load m/3: Shadow, 70 %, 120 of 200 compared, 98.3 % agree (at least 95.1 %)"
    )
    failed = {**job, "state": "Failed", "reason": "M503: the hash differs"}
    assert job_line(failed) == "model change  job-3: load m/3 failed: M503: the hash differs"
    for state in ("Active", "RolledBack", "Validated"):
        assert job_line({**job, "state": state}) == ""


def test_what_a_model_says_moves_no_cursor() -> None:
    assert "\x1b" not in model_line(pipeline({"alarm": "\x1b[2J", "alarms": 1}))


def test_status_and_watch_show_it() -> None:
    row = pipeline({"alarm": "12 % were late", "alarms": 4})
    body = {
        "machine": "Press01",
        "uptime_s": 1.0,
        "endpoints": [],
        "thumbprint": "",
        "links": [],
        "pipelines": [QUIET, row],
        "outputs": [],
        "records": {},
        "processes": [],
        "sessions": [],
        "service_level": 255,
        "knocks": [],
        "faults": [],
        "last_job": {
            "job": "job-1",
            "kind": "load",
            "name": "m",
            "version": 2,
            "state": "Queued",
            "percent": 0,
        },
    }
    lines = status_text(body).splitlines()
    (alarm,) = (line for line in lines if "12 % were late" in line)
    assert alarm.startswith("press  model press-anomaly/2: alarm: 12 % were late")
    assert "model change  job-1: load m/2: Queued, 0 %" in lines
    shown = watch_table({"machine": "Press01", "utc_ns": 10**18, "links": [], "models": [row]}, [], 200)
    assert shown[1] == "press  alarm: 12 % were late"


def test_watch_without_a_terminal_says_once_that_an_alarm_came_and_that_it_went(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known: dict[str, str] = {}
    late = pipeline({"alarm": "12 % were late", "alarms": 4})
    assert model_notes([QUIET, late]) == {"press": "alarm: 12 % were late"}
    for rows in ([late], [late], [QUIET], [QUIET]):
        print_alarms(rows, known)
    assert capsys.readouterr().err.splitlines() == [
        "press  alarm: 12 % were late",
        "press  no alarm of its model any more",
    ]
