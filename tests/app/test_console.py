"""What ``status`` and ``watch`` print."""

from __future__ import annotations

from typing import Any

import pytest

from edge_opcua.app.command.console import _link_line, fitting, value_text, watch_table
from edge_opcua.app.command.tell import duration
from edge_opcua.core.values import BAD_CONFIGURATION_ERROR, GOOD, UNCERTAIN_NO_COMMUNICATION_LAST_USABLE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (61, "1 min 01 s"),
        (3 * 3600 + 120, "3 h 02 min"),
        (86400 * 3 + 3700, "3 d 01 h"),
    ],
)
def test_a_time_span_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.123456, "0.1235"), (True, "True"), ([1, 2, 3], "[3]"), ("x", "x")]
)
def test_a_bad_value_is_a_dash_and_a_number_is_short(value: object, text: str) -> None:
    assert value_text(value) == text


def row(name: str, status: int | None, value: object) -> dict[str, Any]:
    return {"id": name, "status": status, "value": value, "unit": "°C", "age_s": 1.26, "source_ns": 10**18}


def test_the_table_marks_what_is_not_good_and_fits_the_terminal() -> None:
    body = {"machine": "Press01", "utc_ns": 10**18, "links": [{"device": "press", "state_text": "OFFLINE"}]}
    rows = [
        row("press/die_temp", GOOD, 41.5),
        row("press/oil_temp", UNCERTAIN_NO_COMMUNICATION_LAST_USABLE, 33.0),
        row("press/recipe", BAD_CONFIGURATION_ERROR, None),
        row("press/late", None, None),
    ]
    lines = watch_table(body, rows, 200)
    assert lines[0] == "Press01 01:46:40 UTC   press OFFLINE"
    assert [line[0] for line in lines[3:]] == [" ", "?", "x", "x"]
    assert "UncertainNoCommunicationLastUsableValue" in lines[4]
    assert "no data yet" in lines[6]
    assert lines[1] == "press  no link: not yet"
    assert all(len(line) <= 80 for line in watch_table(body, rows, 80))


def test_a_table_longer_than_the_screen_says_how_much_is_missing() -> None:
    lines = [f"row {number}" for number in range(30)]
    assert fitting(lines, 30) == lines
    assert fitting(lines, 10) == [*lines[:9], "… 21 more rows; --bad shows only what is not Good"]


@pytest.mark.parametrize(
    ("link", "end"),
    [
        ({"state_text": "OFFLINE", "last_error": "D310 silent"}, "   D310 silent"),
        ({"state_text": "ONLINE", "last_error": "D310 silent"}, "   last: D310 silent"),
        ({"state_text": "ONLINE", "last_error": "D330 STOP", "notice": "D330 STOP"}, "   D330 STOP"),
        ({"state_text": "ONLINE", "last_error": None, "notice": ""}, "reconnects"),
    ],
)
def test_what_is_over_is_told_as_over_and_what_lasts_as_it_is(link: dict[str, Any], end: str) -> None:
    assert _link_line({"device": "press", "driver": "s7", **link}).endswith(end)
