"""``watch``: attaches to the server that runs, and polls by itself only if none does and a file is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_opcua.app.command.console import _print_faults, watch_table
from edge_opcua.cli import main
from edge_opcua.core.values import GOOD
from tests.app.plants import configuration, meter, server

ROW = {"id": "d0/count", "value": 3, "unit": "", "status": GOOD, "age_s": 0.1, "source_ns": 10**18}


def test_without_a_server_the_devices_of_the_file_are_polled_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with meter() as peer:
        file = configuration(tmp_path, f"modbus://127.0.0.1:{peer.port}/1")
        assert main(["watch", str(file), "--json", "--for", "1.2", "--state", str(tmp_path / "state")]) == 0
    out, err = capsys.readouterr()
    assert f"no server runs on {tmp_path / 'state'}: {file} is polled from here" in err
    rows = {row["id"]: row for row in map(json.loads, out.splitlines())}  # the last of each
    assert (rows["d0/count"]["value"], rows["d0/count"]["quality"]) == (7, "Good")
    assert rows["d0/rms_y"]["value"] == pytest.approx(23.41)
    assert rows["d0/temp_2"]["quality"] == "BadConfigurationError"
    assert {function for _, function, _, _ in peer.asked} == {3}


def test_bad_only_is_what_is_not_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with meter() as peer:
        file = configuration(tmp_path, f"modbus://127.0.0.1:{peer.port}/1")
        options = ["--bad", "--for", "1.2", "--state", str(tmp_path / "state")]
        assert main(["watch", "-c", str(file), *options]) == 0
    last = capsys.readouterr().out
    assert "d0/temp_2  -  °C  BadConfigurationError" in last
    assert "d0/count  7" not in last


def test_beside_a_running_server_no_device_gets_a_second_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with meter() as peer:
        file = configuration(tmp_path, f"modbus://127.0.0.1:{peer.port}/1")
        with server(tmp_path / "state", [ROW], {"device": "d0"}):
            assert main(["watch", str(file), "--for", "0.1", "--state", str(tmp_path / "state")]) == 0
        assert peer.connections == 0
    out, err = capsys.readouterr()
    assert "d0/count  3" in out
    assert err == f"a server runs on {tmp_path / 'state'}: what it has is shown, {file} is not read\n"


def test_without_server_and_file_the_exit_code_is_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", "--state", str(tmp_path / "state")]) == 4
    assert "edge-opcua watch FILE polls by itself" in capsys.readouterr().err


def test_a_wrong_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = configuration(tmp_path, "modbus://h/1", table="name,address\nx,hx:1\n")
    assert main(["watch", str(file), "--state", str(tmp_path / "state")]) == 2
    assert "error[T211]" in capsys.readouterr().err


def test_a_link_that_is_not_there_is_told_once_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, "modbus://127.0.0.1:1/1", table="name,address\nx,hr:1:INT\n")
    assert main(["watch", str(file), "--for", "1.2", "--state", str(tmp_path / "state")]) == 0
    out, err = capsys.readouterr()
    assert "d0/x  -    BadNoCommunication" in out
    told = [line for line in err.splitlines() if line.startswith("d0  no link: D311 127.0.0.1:1 refuses")]
    assert len(told) == 1


def test_what_only_a_driver_notices_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = "modbus+rtu:///dev/ttyNONE?baud={}&unit=1"
    table = "name,address\nx,hr:1:INT\n"
    file = configuration(tmp_path, port.format(9600), port.format(19200), table=table)
    state = ["--state", str(tmp_path / "state")]
    for command in (["watch", str(file)], ["check", str(file), "--live"]):
        assert main([*command, *state]) == 2
        said = capsys.readouterr().err
        assert "error[C128] devices[d1]: d0 and d1 share a line but set it up differently" in said


def test_a_lost_link_stands_above_the_table_and_is_told_when_it_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost = {"device": "vib", "state_text": "OFFLINE", "last_error": "D310 vib does not answer: look"}
    body = {"machine": "Press01", "utc_ns": 10**18, "links": [lost]}
    assert watch_table(body, [], 80)[1] == "vib  no link: D310 vib does not answer: look"
    known: dict[str, str] = {}
    # An attempt to connect, or a device that takes the connection and says nothing, is no return.
    for state in ("OFFLINE", "CONNECTING", "RECOVERING", "DEMOTED", "CONNECTING", "RECOVERING", "ONLINE"):
        _print_faults([{**lost, "state_text": state}], known)
    assert capsys.readouterr().err.splitlines() == [
        "vib  no link: D310 vib does not answer: look",
        "vib  link is back",
    ]
