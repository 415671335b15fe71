"""``edge-opcua users`` as a person or a script types it."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge_opcua.app.command import users as usercommands
from edge_opcua.assets import examples_dir
from edge_opcua.cli import main
from edge_opcua.config.loader import load
from edge_opcua.core.statedir import StateDir
from edge_opcua.security.roles import Role
from edge_opcua.security.users import Cost, UserStore
from tests.security.certificates import make

PASSWORD = "correct horse"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(usercommands, "UserStore", partial(UserStore, cost=Cost(2**10, 8, 1)))
    own = StateDir(tmp_path / "state").pki / "own" / "cert.der"
    own.parent.mkdir(parents=True)
    own.touch()
    return tmp_path / "state"


@pytest.fixture
def run(state: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_users(*arguments: str) -> tuple[int, str, str]:
        code = main(["users", *arguments, "--state", str(state)])
        found = capsys.readouterr()
        return code, found.out, found.err

    return run_users


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(f"{PASSWORD}\nanything\n")
    return str(file)


def typed(monkeypatch: pytest.MonkeyPatch, *passwords: str) -> None:
    """Let somebody sit at the terminal and type."""
    left = list(passwords)
    monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})())
    monkeypatch.setattr("getpass.getpass", lambda _: left.pop(0))


def test_a_user_of_a_server_that_never_ran_may_be_in_the_wrong_directory(
    run: Run, state: Path, secret: str
) -> None:
    (StateDir(state).pki / "own" / "cert.der").unlink()
    code, out, err = run("add", "anna", "--role", "operator", "--password-file", secret)
    assert (code, out) == (0, "added: anna   Operator\n")
    assert err == f"note: no server has run on {state} yet; another directory: --state DIR\n"


def test_the_way_of_a_user(run: Run, state: Path, secret: str) -> None:
    assert run() == (0, "there are no users yet: edge-opcua users add NAME --role operator\n", "")
    added = run("add", "anna", "--role", "operator,engineer", "--password-file", secret)
    assert added == (0, "added: anna   Engineer, Operator\n", "")
    assert UserStore(state).check_password("anna", PASSWORD.encode()).user is not None
    assert run() == (0, "anna   Engineer, Operator   password\n", "")
    assert run("roles", "anna", "--role", "observer", "--role", "SecurityAdmin")[0] == 0
    assert run("disable", "anna")[1] == "disabled: anna   Observer, SecurityAdmin\n"
    assert run()[1] == "anna   Observer, SecurityAdmin   password   disabled\n"
    assert run("enable", "anna")[0] == 0
    assert run("remove", "anna")[1] == "removed: anna   Observer, SecurityAdmin\n"
    assert UserStore(state).users() == ()
    assert StateDir(state).users.stat().st_mode & 0o777 == 0o600


def test_a_password_is_typed_twice_and_never_shown(
    run: Run, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, PASSWORD, PASSWORD, "another one", "another two", "a new secret", "a new secret")
    code, out, err = run("add", "anna", "--role", "operator")
    assert (code, PASSWORD in out + err) == (0, False)
    assert run("passwd", "anna") == (1, "", "the two passwords differ; nothing was changed\n")
    assert run("passwd", "anna")[:2] == (0, "password changed: anna   Operator\n")
    assert UserStore(state).check_password("anna", b"a new secret").user is not None


def test_a_password_may_come_from_a_pipe(run: Run, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    assert run("add", "anna", "--role", "operator", "--password-file", "-")[0] == 0
    assert UserStore(state).check_password("anna", PASSWORD.encode()).user is not None


def test_there_is_no_way_to_give_a_password_as_argument(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("add", "anna", "--role", "operator", "--password", PASSWORD)


def test_a_user_with_a_certificate_needs_no_password(run: Run, state: Path, tmp_path: Path) -> None:
    card = make("anna's card", uri=None)
    (tmp_path / "card.pem").write_bytes(card.pem)
    assert run("add", "anna", "--role", "engineer", "--certificate", str(tmp_path / "card.pem"))[0] == 0
    user = UserStore(state).check_certificate(card.der).user
    assert user is not None
    assert user.roles == {Role.ENGINEER}
    until = f"{card.certificate.not_valid_after_utc:%Y-%m-%d}"
    assert run()[1] == f"anna   Engineer   certificate   {card.print}   until {until}\n"
    found = json.loads(run("--json")[1])
    assert found["schema"] == "edge-opcua.users/1"
    assert found["users"][0]["until"].startswith(until)


def test_json_is_nothing_but_json(run: Run, secret: str) -> None:
    code, out, err = run("add", "anna", "--role", "operator", "--password-file", secret, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["users"] == [
        {
            "name": "anna",
            "roles": ["Operator"],
            "signs_in_with": ["password"],
            "disabled": False,
            "thumbprint": "",
            "until": None,
        }
    ]
    assert "hash" not in run("--json")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add"], 2, "users add needs a NAME"),
        (["add", "anna"], 2, "users add needs --role"),
        (["roles", "anna"], 2, "users roles needs --role"),
        (["passwd", "zed"], 1, 'there is no user "zed"; edge-opcua users lists them'),
        (["remove", "zed"], 1, 'there is no user "zed"; edge-opcua users lists them'),
        (["add", "anna", "--role", "operator"], 1, "there is no terminal to ask for a password; use"),
        (["add", "anna", "--role", "emperor"], 1, 'there is no role "emperor"; the roles are observer,'),
        (["add", "anna", "--role", "anonymous"], 1, "the role Anonymous comes by itself"),
        (["add", "anna", "--role", "operator", "--password-file", "none.txt"], 1, "none.txt: No such file"),
        (["add", "anna", "--role", "operator", "--password-file", "/dev/null"], 1, "the password has 0 char"),
        (["add", "anna", "--role", "operator", "--certificate", "none.der"], 1, "none.der: No such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_name_that_is_taken_is_told_before_a_password_is_typed(run: Run, secret: str) -> None:
    run("add", "anna", "--role", "operator", "--password-file", secret)
    assert run("add", "anna", "--role", "operator") == (1, "", 'there is already a user "anna"\n')


def test_a_file_that_is_no_text_or_too_large_is_no_password(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "key.bin"
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text" in run("add", "anna", "--role", "operator", "--password-file", str(file))[2]
    file.write_bytes(b"x" * 70_000)
    assert "too large" in run("add", "anna", "--role", "operator", "--password-file", str(file))[2]


def test_a_damaged_file_is_named(run: Run, state: Path) -> None:
    StateDir(state).users.write_text("{ torn")
    code, _, err = run()
    assert code == 1
    assert f"{StateDir(state).users} is damaged" in err


HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "users-and-roles.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", HOWTO.read_text(), re.MULTILINE | re.DOTALL)


def test_what_the_how_to_says_can_be_typed(
    run: Run, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    card = make("card-17", uri=None)
    (tmp_path / "card-17.pem").write_bytes(card.pem)
    (tmp_path / "otto.txt").write_text("otto's secret\n")
    typed(monkeypatch, *[PASSWORD] * 4)
    lines = [line for block in blocks("sh") for line in block.splitlines() if " users" in line]
    assert len(lines) == 9
    for line in lines:
        code, out, err = run(*line.split()[2:])
        assert (code, err) == (0, ""), line
        if line == "edge-opcua users":
            assert out in blocks("text")


def test_the_exceptions_of_the_how_to_are_accepted(tmp_path: Path) -> None:
    shutil.copytree(examples_dir() / "press", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "press.toml"
    demand, exceptions = blocks("toml")
    text = file.read_text()
    assert "\n[opcua]\n" in text
    text = text.replace("\n[opcua]\n", f"\n{demand}")
    file.write_text(f"{text}\n{exceptions}")
    loaded = load(file, env={})
    assert loaded.config is not None, loaded.problems
    assert loaded.config.opcua.anonymous is False
    assert [len(one.permissions) for one in loaded.config.opcua.access] == [4, 0]
