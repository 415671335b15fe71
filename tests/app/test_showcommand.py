"""``check --show``: what a template and a row come to, with both places, and no secret of the environment."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edge_opcua.assets import examples_dir
from edge_opcua.cli import main


def test_a_machine_is_shown_as_it_is_after_its_template(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(examples_dir() / "hall")
    assert main(["check", "hall.toml", "--show", "press03"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("# hall.toml:")
    assert out.splitlines()[0].endswith("for presses.csv:4 (press03)")
    (device,) = tomllib.loads(out)["devices"]
    assert device["url"] == "s7://192.168.2.13?rack=0&slot=2"
    assert device["groups"] == [{"name": "fast", "period_ms": 100}]


def test_a_device_of_an_included_file_names_that_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(examples_dir() / "hall")
    assert main(["check", "hall.toml", "--show", "vib"]) == 0
    assert capsys.readouterr().out.startswith("# lines/vibration.toml:")


def test_variables_stay_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(examples_dir() / "press")
    monkeypatch.setenv("PRESS_URL", "s7://secret")
    assert main(["check", "press.toml", "--show", "press"]) == 0
    assert "${PRESS_URL:-" in capsys.readouterr().out


def test_an_unknown_name_gets_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(examples_dir() / "hall")
    assert main(["check", "hall.toml", "--show", "pres03"]) == 2
    assert 'did you mean "press03"?' in capsys.readouterr().err
    (tmp_path / "broken.toml").write_text("a = \n")
    assert main(["check", str(tmp_path / "none.toml"), "--show", "x"]) == 2


@pytest.mark.parametrize("other", ["--json", "--live", "--security"])
def test_what_is_shown_is_toml_and_nothing_else(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "hall.toml", "--show", "press03", other])
    assert "check --show prints TOML" in capsys.readouterr().err
