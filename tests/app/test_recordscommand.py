"""The journal as a person or another program sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from edge_opcua.cli import main
from edge_opcua.core.journal import Journal
from edge_opcua.core.statedir import StateDir
from edge_opcua.testing import ManualClock

NS = 1_790_000_000_123_000_000


async def fill(journal: Path) -> None:
    written = Journal(journal, clock=ManualClock())
    who = "UaExpert\x1b[2J (10.0.0.7:1)"
    written.append("audit", {"what": "session.activated", "who": who, "outcome": "Good", "user": "anna"}, NS)
    written.append("result", {"stroke": 7, "verdict": "OK", "features": list(range(100))}, NS + 10**9)
    assert await written.flush()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory whose journal still lies open in another hand."""
    asyncio.run(fill(StateDir(tmp_path).journal))
    return tmp_path


def test_who_did_what_is_read_as_text(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "--state", str(state)]) == 0
    audit, result = capsys.readouterr().out.splitlines()
    # What a client called itself moves no cursor.
    assert audit == (
        "2026-09-21T14:13:20.123Z  audit  session.activated  UaExpert?[2J (10.0.0.7:1)  Good  user=anna"
    )
    assert result.startswith("2026-09-21T14:13:21.123Z  result  stroke=7 verdict=OK features=[0, 1, 2")
    assert result.endswith("...")


def test_records_of_one_kind_are_json_lines(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "result", "--json", "--last", "1", "--state", str(state)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert (record["kind"], record["body"]["stroke"]) == ("result", 7)
    assert main(["records", "gap", "--state", str(state)]) == 0
    assert capsys.readouterr().out == "no records of kind gap yet\n"


async def more(journal: Path) -> None:
    written = Journal(journal, clock=ManualClock())
    body = {"pipeline": "press-anomaly", "result_id": 4711, "answer": "sensor_fault", "who": "anna"}
    rest = {"note": "cable was loose", "former": "", "verdict": "NOT_OK"}
    written.append("answer", {**body, **rest}, NS)
    alarm = {"pipeline": "press-anomaly", "model": "press-anomaly/2", "kind": "drift", "active": True}
    written.append("watch", {**alarm, "value": 0.41, "text": "die_temp has moved"}, NS)
    written.append("watch", {**alarm, "active": False, "value": 0.1, "text": ""}, NS)
    assert await written.flush()


def test_answers_and_alarms_of_models_are_read_as_sentences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(more(StateDir(tmp_path).journal))
    assert main(["records", "answer", "--state", str(tmp_path)]) == 0
    (answer,) = capsys.readouterr().out.splitlines()
    assert answer == (
        "2026-09-21T14:13:20.123Z  answer  press-anomaly  4711  sensor_fault  anna  cable was loose  "
        "former= verdict=NOT_OK"
    )
    assert main(["records", "watch", "--state", str(tmp_path)]) == 0
    begun, over = capsys.readouterr().out.splitlines()
    assert begun.endswith("press-anomaly  press-anomaly/2  drift  begun  die_temp has moved  value=0.41")
    assert over.endswith("press-anomaly  press-anomaly/2  drift  over  value=0.1")


def test_a_journal_that_is_not_there_or_no_journal_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["records", "--state", str(tmp_path)]) == 1
    assert "there is no journal" in capsys.readouterr().err
    StateDir(tmp_path).journal.write_bytes(b"no database " * 100)
    assert main(["records", "--state", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_number_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["records", "--last", "0"])
    assert "is not a number from 1" in capsys.readouterr().err


def test_a_damaged_record_is_said_to_be_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(sqlite3.connect(StateDir(state).journal)) as journal, journal:
        journal.execute("UPDATE records SET body = '{' WHERE kind = 'audit'")
    assert main(["records", "--state", str(state)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert main(["records", "result", "--state", str(state)]) == 0
