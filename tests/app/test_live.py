"""``check --live`` against a Modbus device: every tag once, each fault at its row, nothing written."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.command.live import check_live
from edge_opcua.app.command.look import told
from edge_opcua.app.command.tagfaults import number_text
from edge_opcua.cli import main
from edge_opcua.config.codes import codes
from edge_opcua.core.values import BAD_CONFIGURATION_ERROR, GOOD, UNCERTAIN_LAST_USABLE
from tests.app.plants import configuration, meter, server
from tests.drivers.peers import ModbusPeer

WRITES = {5, 6, 15, 16, 22, 23}


@pytest.fixture
def device() -> Iterator[ModbusPeer]:
    with meter() as peer:
        yield peer


def live(file: Path, state: Path, *, as_json: bool = False) -> int:
    return check_live(file, state, as_json=as_json)


def test_each_fault_is_at_its_row_with_the_order_that_would_fit(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1")
    assert main(["check", str(file), "--live", "--state", str(tmp_path / "state")]) == 1
    told = capsys.readouterr().out.splitlines()
    table = f"{tmp_path}/tags/d0.csv"
    assert told[0] == "reading 7 tags once, from d0; nothing is written"
    assert told[1].startswith("d0   connected ")
    assert told[1].endswith("4 of 7 tags good")
    assert f"{table}:2: warn[D352] rms_x hr:100:REAL = 89219.46 mm/s, range is 0..50" in told
    assert told[
        told.index(f"{table}:2: warn[D352] rms_x hr:100:REAL = 89219.46 mm/s, range is 0..50") + 1
    ] == ("      help: with ;order=CDAB it is 23.41")
    scaled = next(i for i, line in enumerate(told) if "tenth" in line)
    assert told[scaled + 1] == "      help: with ;order=CDAB it is 23.41"
    assert any(
        line.startswith(f"{table}:5: error[D341] temp_2 hr:340:INT: illegal data address") for line in told
    )
    assert any(line.startswith(f"{table}:6: error[D341] temp_3 hr:341:INT: ") for line in told)
    assert not any("rms_y" in line or "count" in line for line in told)
    nan = next(i for i, line in enumerate(told) if "none" in line and "D319" in line)
    assert told[nan + 1].startswith("      help: with ;order=")
    assert told[-1].startswith("3 errors, 2 warnings.  Nothing was written.")


def test_of_two_and_eight_bytes_the_order_that_fits_is_named_too(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device.put(200, "4H", *reversed(struct.unpack(">4H", struct.pack(">d", 23.41))))
    device.put(210, "H", 0x1900)
    table = "name,address,low,high\nx,hr:200:LREAL,0,50\ny,hr:210:INT,0,50\n"
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1", table=table)
    assert live(file, tmp_path / "state") == 0
    out = capsys.readouterr().out
    assert "      help: with ;order=GHEFCDAB it is 23.41\n" in out
    assert "      help: with ;order=BADC it is 25\n" in out


def test_bytes_that_are_no_time_are_called_so(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device.put(220, "4H", 0x2613, 0x0112, 0, 0)  # the 13th month
    table = "name,address\nlast_service,hr:220:DT\n"
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1", table=table)
    assert live(file, tmp_path / "state") == 1
    assert "error[D319] last_service hr:220:DT: the bytes are no date or time\n" in capsys.readouterr().out


def test_nothing_is_written_and_one_connection_is_made_at_a_time(device: ModbusPeer, tmp_path: Path) -> None:
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1")
    assert live(file, tmp_path / "state") == 1
    assert device.asked
    assert WRITES.isdisjoint(function for _, function, _, _ in device.asked)


def test_a_silent_device_does_not_hide_the_others(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with meter() as silent:
        silent.silent = True
        urls = (f"modbus://127.0.0.1:{silent.port}/1", f"modbus://127.0.0.1:{device.port}/1")
        file = configuration(tmp_path, *urls, table="name,address\ncount,hr:10:UINT\n")
        assert live(file, tmp_path / "state") == 1
    told = capsys.readouterr().out.splitlines()
    assert told[1].split() == ["d0", "silent", "none", "of", "1", "tags"]
    assert told[2].startswith("d1   connected ")
    assert told[2].endswith("1 of 1 tags good")
    assert told[3].startswith(f"{file}:")
    assert "error[D310] devices[d0]: 127.0.0.1" in told[3]


def test_all_good_is_0_and_names_the_next_command(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"modbus://127.0.0.1:{device.port}/1"
    file = configuration(tmp_path, url, table="name,address\ncount,hr:10:UINT\n")
    assert live(file, tmp_path / "state") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"0 errors, 0 warnings.  Nothing was written.  Run it: edge-opcua run {file}"
    )


def test_a_simulated_device_is_not_asked(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1")
    file.write_text(file.read_text() + "simulate = true\n")
    assert live(file, tmp_path / "state") == 0
    assert capsys.readouterr().out.splitlines()[1] == "d0   simulated, not asked   7 tags"
    assert device.connections == 0


def test_the_head_of_a_capture_is_read_too_and_its_samples_are_not(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(
        tmp_path, f"modbus://127.0.0.1:{device.port}/1", table="name,address\nc,hr:10:UINT\n"
    )
    capture = """
[[devices.captures]]
name = "{}"
sequence = "hr:{}:UINT"
samples = "hr:400:INT[500]"
sample_rate_hz = 1000
"""
    file.write_text(file.read_text() + capture.format("shock", 20) + capture.format("other", 340))
    assert live(file, tmp_path / "state") == 1
    out = capsys.readouterr().out
    line = file.read_text().splitlines().index('sequence = "hr:340:UINT"') + 1
    assert f"{file}:{line}:12: error[D341] devices[d0].captures[other]: " in out
    assert "shock" not in out
    assert not any(400 <= start < 900 for _, _, start, _ in device.asked)


def test_json_has_values_and_problems(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1")
    assert live(file, tmp_path / "state", as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["ok"], told["from_server"]) == ("edge-opcua.check-live/1", False, False)
    (read,) = told["devices"]
    tags = {tag["id"]: tag for tag in read["tags"]}
    assert tags["d0/count"]["value"] == 7
    assert tags["d0/rms_y"]["value"] == pytest.approx(23.41)
    assert tags["d0/temp_2"] == {
        "id": "d0/temp_2",
        "value": None,
        "unit": "°C",
        "status": BAD_CONFIGURATION_ERROR,
        "quality": "BadConfigurationError",
    }
    assert [problem["line"] for problem in told["problems"]] == [2, 4, 5, 6, 8]


def test_a_wrong_configuration_is_told_before_anything_is_asked(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"modbus://127.0.0.1:{device.port}/1"
    file = configuration(tmp_path, url, table="name,address\ncount,hx:10:UINT\n")
    assert live(file, tmp_path / "state") == 2
    assert "error[T211]" in capsys.readouterr().err
    assert device.asked == []


ROWS: list[dict[str, Any]] = [
    {
        "id": "d0/rms_x",
        "value": 89219.4609375,
        "status": 0x40940200,
        "quality": "UncertainEngineeringUnitsExceeded",
    },
    {"id": "d0/rms_y", "value": 23.41, "status": GOOD, "quality": "Good"},
    {"id": "d0/tenth", "value": 1.0, "status": UNCERTAIN_LAST_USABLE},
    {"id": "d0/temp_2", "value": None, "status": BAD_CONFIGURATION_ERROR, "quality": "BadConfigurationError"},
    {"id": "d0/temp_3", "value": None, "status": None},
    {"id": "d0/count", "value": 7, "status": GOOD, "quality": "Good"},
]


def test_beside_a_running_server_its_values_are_taken_and_no_device_is_asked(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1")
    link = {
        "device": "d0",
        "state_text": "ONLINE",
        "last_error": "D341 unit 1 hr:340 illegal data address: check",
    }
    with server(tmp_path / "state", ROWS, link) as asked:
        assert live(file, tmp_path / "state") == 1
    assert asked == ["snapshot", "snapshot"]
    assert (device.connections, device.asked) == (0, [])
    out, err = capsys.readouterr()
    assert "no device is asked a second time" in err
    told = out.splitlines()
    assert told[0] == "d0   in the server: ONLINE   4 of 7 tags good"
    assert told[1].endswith("d0.csv:2: warn[D352] rms_x hr:100:REAL = 89219.46 mm/s, range is 0..50")
    assert told[2] == "      help: with ;order=CDAB it is 23.41"
    assert "error[D341] temp_2 hr:340:INT: illegal data address" in out
    assert "error[D384] temp_3 hr:341:INT: has no value yet" in out
    assert "error[D384] none hr:106:REAL: the running server does not know it" in out
    assert "warn[D384] tenth hr:104:DINT: its value is old (UncertainLastUsableValue)" in out


def test_a_lost_link_of_the_server_is_told_with_its_reason(
    device: ModbusPeer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = configuration(tmp_path, f"modbus://127.0.0.1:{device.port}/1")
    link = {
        "device": "d0",
        "state_text": "OFFLINE",
        "last_error": "D311 127.0.0.1:5 refuses the connection: check it",
    }
    with server(tmp_path / "state", ROWS, link):
        assert live(file, tmp_path / "state") == 1
    out = capsys.readouterr().out
    assert out.startswith("d0   in the server: OFFLINE   none of 7 tags\n")
    assert "error[D311] devices[d0]: 127.0.0.1:5 refuses the connection" in out
    assert "      help: check it" in out


@pytest.mark.parametrize(
    ("text", "code", "sentence", "step"),
    [
        ("D311 10.0.0.1:502 refuses it: check the port", "D311", "10.0.0.1:502 refuses it", "check the port"),
        (
            "D363 read of X: no such tag (CIP status 0x04)",
            "D363",
            "read of X: no such tag (CIP status 0x04)",
            "",
        ),
        (
            "D374 read of ns=2;s=A: the node is Int32 (DINT), the address says REAL",
            "D374",
            "read of ns=2;s=A: the node is Int32 (DINT), the address says REAL",
            "",
        ),
        ("something else", "D310", "something else", ""),
    ],
)
def test_what_a_driver_says_is_code_sentence_and_step(text: str, code: str, sentence: str, step: str) -> None:
    assert told(text, "D310") == (code, sentence, step or codes()[code].remedy)


def test_a_number_has_the_digits_of_its_type() -> None:
    assert number_text(23.40999984741211) == "23.41"
    assert number_text(12) == "12"
