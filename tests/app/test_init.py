"""``init``: what it writes is short, true and accepted by ``check``; it overwrites nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_opcua.app.command.init import init
from edge_opcua.app.command.inittext import EXAMPLES
from edge_opcua.cli import main
from edge_opcua.config.loader import load
from edge_opcua.config.tagtable import COLUMNS
from edge_opcua.drivers.plan import load_driver
from edge_opcua.drivers.probing import Finding
from edge_opcua.plugins import DRIVERS, InstalledPlugins
from tests.app.meter import Meters
from tests.app.meter import probe as prober

URL = "modbus://127.0.0.1:5020/1"


@pytest.fixture(autouse=True)
def no_script_is_left() -> Iterator[None]:
    yield
    for kept in (prober.scripts, prober.targets, prober.closed):
        kept.clear()


def answers(url: str, *, tags: list[Mapping[str, Any]] | None = None) -> None:
    prober.says(
        url,
        Finding("connect", "tcp open"),
        Finding("protocol", "Modbus answers"),
        Finding("identity", 'ACME "VIB-4"\n2.1', facts={"vendor": "ACME"}),
        Finding("browse", "3 tags", facts={"tags": tags or []}),
    )


def make(file: Path, *devices: str, **options: Any) -> int:
    return init(file, devices, plugins=Meters(), **options)


def test_the_result_is_short_commented_and_accepted_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(URL)
    file = tmp_path / "press.toml"
    assert make(file, f"vib={URL}") == 0
    text = file.read_text()
    assert len(text.splitlines()) <= 32
    assert '# ACME "VIB-4" 2.1\nname = "vib"' in text
    assert 'machine = "Press"' in text
    table = (tmp_path / "tags" / "vib.csv").read_text().splitlines()
    assert table[0] == "name,address,unit,low,high,scale,description"
    assert set(table[0].split(",")) <= set(COLUMNS)
    assert table[1].startswith("#rms_x,hr:100:REAL")
    assert main(["check", str(file), "--state", str(tmp_path / "state")]) == 0
    told = capsys.readouterr().out
    assert "vib   looking at modbus://127.0.0.1:5020/1" in told
    assert f"Next: fill in {tmp_path}/tags/vib.csv, then edge-opcua check {file}" in told


def test_the_example_in_the_table_is_right_once_it_is_no_comment_any_more(tmp_path: Path) -> None:
    answers(URL)
    file = tmp_path / "press.toml"
    assert make(file, f"vib={URL}") == 0
    table = tmp_path / "tags" / "vib.csv"
    table.write_text(table.read_text().replace("#rms_x", "rms_x"))
    loaded = load(file, plugins=Meters())
    assert loaded.config is not None
    assert [tag.name for tag in loaded.config.devices[0].tags] == ["rms_x"]
    assert loaded.problems == ()


def test_tags_that_a_device_tells_are_rows_under_names_that_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(
        URL,
        tags=[
            {"name": "Öl temp, 2", "address": "hr:1:INT", "unit": "°C", "description": 'the "hot" one, °C'},
            {"name": "9th", "address": "hr:2:INT"},
            {"name": "9th", "address": "hr:3:INT"},
            {"name": "struct", "address": "hr:4:PUMP"},
        ],
    )
    file = tmp_path / "press.toml"
    assert make(file, URL) == 0
    told = capsys.readouterr().out
    assert "3 tags found, 1 of types that are not read" in told
    assert f"Next: edge-opcua check {file}" in told
    loaded = load(file, plugins=Meters())
    assert loaded.config is not None
    tags = list(loaded.config.devices[0].tags)
    assert [tag.address for tag in tags] == ["hr:1:INT", "hr:2:INT", "hr:3:INT"]
    assert [tag.name for tag in tags] == ["l_temp_2", "t_9th", "t_9th2"]
    assert tags[0].description == 'the "hot" one, °C'


def test_a_text_of_a_device_is_neither_a_formula_nor_a_command_of_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tag = {"name": "a", "address": "hr:1:INT", "unit": "\x1b[2Jbar", "description": "=HYPERLINK(1)"}
    prober.says(
        URL,
        Finding("protocol", "answers"),
        Finding("identity", "\x1b[2J\rACME", facts={"vendor": "ACME"}),
        Finding("browse", "1 tag", facts={"tags": [tag]}),
    )
    file = tmp_path / "press.toml"
    assert make(file, URL) == 0
    table = (tmp_path / "tags" / "modbus.csv").read_text()
    assert table.splitlines()[1] == "a,hr:1:INT,[2Jbar,,,,'=HYPERLINK(1)"
    assert "\x1b" not in file.read_text() + table + capsys.readouterr().out


def test_a_silent_device_is_written_down_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = "modbus://127.0.0.1:5021/2"
    answers(URL)
    prober.says(silent, Finding("connect", "127.0.0.1:5021 does not answer", "D310", "look at its power"))
    file = tmp_path / "press.toml"
    assert make(file, URL, silent) == 0
    assert "warn[D310] 127.0.0.1:5021 does not answer; it is written down" in capsys.readouterr().out
    assert (
        '# It was silent when this was written: D310 127.0.0.1:5021 does not answer\nname = "modbus2"'
        in file.read_text()
    )
    loaded = load(file, plugins=Meters())
    assert loaded.config is not None
    assert [device.name for device in loaded.config.devices] == ["modbus", "modbus2"]


def test_a_device_that_answers_and_tells_no_tags_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prober.says(
        URL,
        Finding("connect", "tcp open"),
        Finding("protocol", "OPC UA answers"),
        Finding("identity", "Press", facts={"name": "Press"}),
        Finding("browse", "shows a certificate not trusted here", "D371", "edge-opcua trust --devices 1"),
    )
    assert make(tmp_path / "press.toml", f"plc={URL}") == 0
    told = capsys.readouterr().out
    why = "warn[D371] shows a certificate not trusted here\n      help: edge-opcua trust --devices 1"
    assert f"plc   Press\n{why}\n" in told


def test_a_driver_that_cannot_look_is_written_down_too(tmp_path: Path) -> None:
    file = tmp_path / "press.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.app.meter.MuteDriver.check_url", lambda url: None)
        assert make(file, "mute://plc") == 0
    assert "# It was not looked at." in file.read_text()


def test_what_is_there_is_not_overwritten_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(URL)
    file = tmp_path / "press.toml"
    table = tmp_path / "tags" / "modbus.csv"
    table.parent.mkdir()
    table.write_text("mine\n")
    assert make(file, URL) == 2
    assert f"{table}: already there; nothing was written" in capsys.readouterr().err
    assert table.read_text() == "mine\n"
    assert not file.exists()
    assert prober.targets == []
    assert make(file, URL, force=True) == 0
    assert table.read_text() != "mine\n"


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["vib"], 'error[D380] "vib" is not a URL'),
        (["a=modbus://h/1", "a=modbus://h/2"], 'error[D380] two devices are called "a"'),
        (["modbus://h/999"], 'error[D380] "modbus://h/999" is not a Modbus URL'),
        (["profibus://h"], 'error[D380] "profibus://h": no driver has URLs of profibus://'),
    ],
)
def test_what_cannot_be_a_device_is_refused_before_anything_is_written(
    devices: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path / "press.toml", *devices) == 2
    assert capsys.readouterr().err.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "press.toml", URL, machine="9 lives") == 2
    assert "no name for a machine" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(URL)
    (tmp_path / "file").write_text("")
    assert make(tmp_path / "file" / "press.toml", URL) == 2
    assert f"{tmp_path}/file: File exists; nothing else was written" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(URL)
    (tmp_path / "press.toml").mkdir()
    assert make(tmp_path / "press.toml", URL, force=True) == 2
    assert f"{tmp_path}/press.toml: Is a directory; nothing else was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["press.toml"]


def test_a_plc_in_stop_keeps_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate = {"vendor": "Siemens", "model": "CPU 315"}
    prober.says(
        URL,
        Finding("protocol", "S7 answers"),
        Finding("identity", "CPU 315 is in STOP", "D333", "look at its diagnostic buffer", facts=plate),
    )
    assert make(tmp_path / "press.toml", f"plc={URL}") == 0
    assert "plc   CPU 315 is in STOP\n" in capsys.readouterr().out
    assert "# CPU 315 is in STOP\n" in (tmp_path / "press.toml").read_text()


def test_a_device_with_tls_is_written_down_with_places_for_its_certificates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "press.toml"
    assert (
        init(file, ["rtu7=modbus+tls://127.0.0.1:1/1"]) == 0
    )  # the driver's own prober: no TLS without them
    told = capsys.readouterr().out
    assert "warn[D381]" in told
    assert "modbus+tls needs ca, certificate, key" in told
    assert main(["check", str(file), "--state", str(tmp_path / "state")]) == 0


def test_a_server_without_security_is_written_down_as_one(tmp_path: Path) -> None:
    prober.says(URL, Finding("protocol", "answers", facts={"endpoints": ["None"]}))
    file = tmp_path / "press.toml"
    assert make(file, URL) == 2  # Modbus has no such option; an OPC UA server is what tells endpoints
    assert 'options = { security = "None" }' in file.read_text()


@pytest.mark.parametrize("driver", EXAMPLES)
def test_the_examples_of_each_protocol_are_addresses(driver: str) -> None:
    for _, address, *_ in EXAMPLES[driver]:
        load_driver(driver).parse_address(address)  # AddressError if it is none


def test_every_driver_that_is_installed_has_an_example() -> None:
    assert set(InstalledPlugins().names(DRIVERS)) == set(EXAMPLES)
