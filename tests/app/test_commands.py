"""The commands that need no running server, as a person or a script types them."""

from __future__ import annotations

import datetime as dt
import json
import pwd
from pathlib import Path

import pytest

from edge_opcua import cli
from edge_opcua.assets import examples_dir
from edge_opcua.cli import main
from edge_opcua.core.statedir import StateDir
from edge_opcua.security.trust import TrustList
from tests.security.certificates import make

URI = "urn:laptop-7:uaexpert"
ADDRESS = "192.0.2.9:50123"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory at whose server one client has knocked."""
    StateDir(tmp_path).create()
    pki = StateDir(tmp_path).pki
    for name in ("trusted", "issuers", "rejected"):
        (pki / name).mkdir(parents=True, exist_ok=True)
    trust = TrustList(pki)
    trust.record(trust.decide(make("UaExpert", uri=URI).der), ADDRESS)
    return tmp_path


def test_trust_lists_who_knocked_and_trusts_by_one_command(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "--state", str(state)]) == 0
    knock = capsys.readouterr().out
    for part in ("1", "UaExpert", ADDRESS, "not trusted"):
        assert part in knock
    assert main(["trust", "1", "--state", str(state)]) == 0
    assert f"trusted: UaExpert   {URI}" in capsys.readouterr().out
    assert [client.name for client in TrustList(StateDir(state).pki).trusted()] == ["UaExpert"]
    assert main(["trust", "--list", "--state", str(state)]) == 0
    assert "UaExpert" in capsys.readouterr().out
    assert main(["trust", "--state", str(state)]) == 0
    assert "UaExpert" not in capsys.readouterr().out
    assert main(["trust", "UaExpert", "--remove", "--state", str(state)]) == 0
    assert "no longer trusted: UaExpert" in capsys.readouterr().out
    assert main(["trust", "--list", "--state", str(state)]) == 0
    assert "nobody is trusted yet" in capsys.readouterr().out


def test_trust_says_what_a_role_may_do_and_changes_it_later(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "1", "--role", "operator,engineer", "--state", str(state)]) == 0
    said = capsys.readouterr().out
    assert "Operator: may read, acknowledge alarms and write set-points" in said
    assert "Engineer: may read and load models" in said
    assert main(["trust", "--list", "--state", str(state)]) == 0
    assert "operator, engineer" in capsys.readouterr().out
    assert main(["trust", "UaExpert", "--role", "observer", "--state", str(state)]) == 0
    assert "Observer: may read" in capsys.readouterr().out
    assert main(["trust", "nobody", "--role", "observer", "--state", str(state)]) == 1
    assert "no refused client is meant by 'nobody'" in capsys.readouterr().err
    assert main(["trust", "UaExpert", "--role", "king", "--state", str(state)]) == 1
    assert "the roles are observer, operator" in capsys.readouterr().err


def test_trust_speaks_json_to_scripts(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "--json", "--state", str(state)]) == 0
    (knock,) = json.loads(capsys.readouterr().out)["clients"]
    assert (knock["number"], knock["name"], knock["code"]) == (1, "UaExpert", "S401")
    assert main(["trust", knock["thumbprint"], "--json", "--state", str(state)]) == 0
    (changed,) = json.loads(capsys.readouterr().out)["clients"]
    assert changed["roles"] == ["observer"]
    assert main(["trust", "--list", "--json", "--state", str(state)]) == 0
    (trusted,) = json.loads(capsys.readouterr().out)["clients"]
    assert trusted["thumbprint"] == knock["thumbprint"]


def test_a_directory_of_somebody_else_is_told_with_whose_it_is(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_allowed(*_: object) -> int:
        raise PermissionError(13, "Permission denied", str(state / "pki"))

    monkeypatch.setitem(cli._COMMANDS, "trust", not_allowed)
    assert main(["trust", "--state", str(state)]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"{state / 'pki'}: Permission denied"
    owner = pwd.getpwuid(state.stat().st_uid).pw_name
    assert told[1].endswith(f"{state}: sudo -u {owner} edge-opcua …")


def test_listing_who_is_trusted_trusts_nobody(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["trust", "--list", "1", "--state", str(state)])
    assert "changes nothing" in capsys.readouterr().err
    assert TrustList(StateDir(state).pki).trusted() == []


def test_trust_says_when_it_does_not_help(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust = TrustList(StateDir(state).pki)
    old = make("old panel", start=dt.datetime(2020, 1, 1, tzinfo=dt.UTC), days=10)
    trust.record(trust.decide(old.der), ADDRESS)
    assert main(["trust", "2", "--state", str(state)]) == 0
    assert "warn[S402] it stays out nevertheless: expired" in capsys.readouterr().err


def test_a_command_that_is_suggested_names_the_directory_it_is_for(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["trust", "--state", str(state)]) == 0
    assert f"edge-opcua trust --state {state} N --role operator" in capsys.readouterr().out
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert main(["trust"]) == 0
    assert "edge-opcua trust N --role operator" in capsys.readouterr().out


def test_a_number_that_nobody_has_is_said_with_its_own_exit_code(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trust", "7", "--state", str(state)]) == 1
    assert "7" in capsys.readouterr().err


def test_explain_knows_its_codes_and_says_when_it_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "S401"]) == 0
    assert "S401" in capsys.readouterr().out
    assert main(["explain", "X999"]) == 2
    assert "X999" in capsys.readouterr().err


def test_check_speaks_json_to_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(examples_dir() / "press" / "press.toml")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"].startswith("edge-opcua.check/")


def test_the_configuration_is_looked_for_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_OPCUA_CONFIG", str(examples_dir() / "press" / "press.toml"))
    assert main(["check"]) == 0
    capsys.readouterr()
    monkeypatch.delenv("EDGE_OPCUA_CONFIG")
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "edge-opcua.toml" in capsys.readouterr().out
