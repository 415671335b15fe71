"""What only a driver's planner notices: at its place in the file, with help, also for a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_opcua.cli import main
from tests.app.plants import configuration

TABLE = "name,address\nx,hr:1:INT\n"
RTU = "modbus+rtu:///dev/ttyNONE?baud={}&unit=1"


def with_options(folder: Path, url: str, *lines: str) -> Path:
    """Return a configuration of one device whose options are those lines."""
    file = configuration(folder, url, table=TABLE)
    given = "\n".join(["  [devices.options]", *(f"  {line}" for line in lines)])
    file.write_text(file.read_text().replace("options = { max_gap = 8 }", given))
    return file


def line_of(file: Path, text: str) -> int:
    """Return the number of a line, counted from 1."""
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("lines", "at"),
    [
        (('certificate = "/c.pem"', 'key = "/c.key"', 'ca = "pki/ca.pem"'), "ca ="),
        (('ca = "/ca.pem"', 'certificate = "/c.pem"'), "[devices.options]"),  # there is no key
    ],
)
def test_an_option_that_does_not_fit_is_told_at_its_line(
    lines: tuple[str, ...], at: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = with_options(tmp_path, "modbus+tls://192.0.2.1/1", *lines)
    for command in (["check"], ["run"], ["check", "--live"]):
        assert main([command[0], str(file), *command[1:], "--state", str(tmp_path / "state")]) == 2
        said = "".join(capsys.readouterr())
        assert f"{file}:{line_of(file, at)}:" in said
        assert "error[C190] devices[d0]: " in said
        assert "help: " in said


def test_devices_that_share_a_line_are_told_at_the_url_of_the_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, RTU.format(9600), RTU.format(19200), table=TABLE)
    for live in ([], ["--live"]):
        assert main(["check", str(file), *live, "--json", "--state", str(tmp_path / "state")]) == 2
        told = json.loads(capsys.readouterr().out)
        (problem,) = told["problems"]
        assert told["schema"] == ("edge-opcua.check-live/1" if live else "edge-opcua.check/1")
        assert (told["ok"], problem["code"], problem["where"]) == (False, "C128", "devices[d1]")
        assert problem["line"] == line_of(file, "19200")
        assert problem["help"]


def test_the_faults_of_a_file_come_before_what_another_line_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state", str(tmp_path / "state")]
    (tmp_path / "state").mkdir()
    first = configuration(tmp_path, "modbus://192.0.2.1/1", table=TABLE)
    assert main(["identity", "accept", str(first), *state]) == 0
    (tmp_path / "other").mkdir()
    other = configuration(
        tmp_path / "other", RTU.format(9600), RTU.format(19200), table=TABLE.replace("x,", "y,")
    )
    capsys.readouterr()
    assert main(["check", str(other), *state]) == 2
    said = capsys.readouterr().out
    assert "error[C128]" in said
    assert "C191" not in said


@pytest.mark.parametrize(
    ("command", "code", "schema"),
    [
        (["probe", "profibus://1"], 2, "edge-opcua.probe/1"),
        (["probe", "192.0.2.0/30", "--scan"], 2, "edge-opcua.probe/1"),
        (["reload", "--state", "{folder}"], 4, "edge-opcua.reload/1"),
        (
            ["tags", "import", "none.csv", "-c", "{folder}/meter.toml", "--device", "d0"],
            2,
            "edge-opcua.tags-import/1",
        ),
        (
            ["tags", "import", "none.csv", "-c", "{folder}/meter.toml", "--device", "d9"],
            2,
            "edge-opcua.tags-import/1",
        ),
    ],
)
def test_a_program_that_asked_in_a_wrong_way_gets_one_object(
    command: list[str], code: int, schema: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration(tmp_path, "modbus://192.0.2.1/1", table=TABLE)
    assert main([*(word.format(folder=tmp_path) for word in command), "--json"]) == code
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["schema"] == schema
    assert (told["error"] if "error" in told else told["problems"][0])["message"]
    assert err == ""
