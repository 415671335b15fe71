"""What the command ``users`` does: it works on the file, the server sees it at the next sign-in."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_opcua.app.command.tell import ANSWER_IS_NO, WRONG_USE, complain, say
from edge_opcua.core.statedir import StateDir
from edge_opcua.errors import SecurityError
from edge_opcua.security.pki import own_certificate
from edge_opcua.security.roles import parse_roles
from edge_opcua.security.users import User, UserRow, UserStore, check_password, role_names

MAX_FILE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class UserOptions:
    """What was given on the command line.

    Args:
        name: The user.
        roles: Names of roles, each perhaps a list with commas.
        password_file: Where the password stands; ``-`` is standard input.
        certificate: File with a user certificate.
        as_json: One JSON object instead of text.
    """

    name: str | None = None
    roles: Sequence[str] = ()
    password_file: Path | None = None
    certificate: Path | None = None
    as_json: bool = False


def users(state_dir: Path, action: str | None, options: UserOptions) -> int:
    """List the users, or change one of them. No restart is needed.

    Returns:
        0; 1 if it cannot be done, 2 if something is missing on the command line.
    """
    store = UserStore(state_dir)
    try:
        if action is None:
            _print([store.row(user) for user in store.users()], as_json=options.as_json)
            return 0
        if missing := _missing(action, options):
            complain(f"users {action} needs {missing}")
            return WRONG_USE
        done = _ACTIONS[action](store, options.name or "", options)
        if action == "add" and not own_certificate(StateDir(state_dir).pki).is_file():
            complain(f"note: no server has run on {state_dir} yet; another directory: --state DIR")
    except SecurityError as exc:
        complain(str(exc))
        return ANSWER_IS_NO
    except OSError as exc:
        complain(f"{exc.filename or state_dir}: {exc.strerror}")  # a full disk has no name
        return ANSWER_IS_NO
    if options.as_json:
        say(json.dumps({"schema": "edge-opcua.users/1", "users": [_json(store.row(done))]}))
    else:
        say(f"{_DONE[action]}: {done.name}   {', '.join(role_names(done.roles)) or 'no role'}")
    return 0


def _missing(action: str, options: UserOptions) -> str:
    if not options.name:
        return "a NAME"
    return "--role" if action in ("add", "roles") and not options.roles else ""


def _add(store: UserStore, name: str, options: UserOptions) -> User:
    roles = parse_roles(options.roles)
    certificate = _read(options.certificate) if options.certificate is not None else None
    password = None
    if certificate is None or options.password_file is not None:
        if store.find(name) is not None:  # before anybody types a password for nothing
            raise SecurityError(f'there is already a user "{name}"')
        password = _password(name, options.password_file)
    return store.add(name, roles, password=password, certificate=certificate)


def _passwd(store: UserStore, name: str, options: UserOptions) -> User:
    if store.find(name) is None:
        raise SecurityError(f'there is no user "{name}"; edge-opcua users lists them')
    return store.set_password(name, _password(name, options.password_file))


_ACTIONS: dict[str, Callable[[UserStore, str, UserOptions], User]] = {
    "add": _add,
    "passwd": _passwd,
    "roles": lambda store, name, options: store.set_roles(name, parse_roles(options.roles)),
    "disable": lambda store, name, _: store.set_disabled(name, disabled=True),
    "enable": lambda store, name, _: store.set_disabled(name, disabled=False),
    "remove": lambda store, name, _: store.remove(name),
}
_DONE = {
    "add": "added",
    "passwd": "password changed",
    "roles": "roles changed",
    "disable": "disabled",
    "enable": "enabled",
    "remove": "removed",
}


def _password(name: str, file: Path | None) -> str:
    """Return a password from a file, or from whoever sits at the terminal: never from an argument."""
    if file is not None:
        text = sys.stdin.readline() if str(file) == "-" else _text(file)
        password = text.splitlines()[0] if text.splitlines() else ""
        check_password(password, name)
        return password
    if not sys.stdin.isatty():
        raise SecurityError("there is no terminal to ask for a password; use --password-file FILE")
    password = getpass.getpass(f"Password of {name}: ")
    check_password(password, name)
    if getpass.getpass("Once more: ") != password:
        raise SecurityError("the two passwords differ; nothing was changed")
    return password


def _text(file: Path) -> str:
    try:
        return _read(file).decode()
    except UnicodeDecodeError as exc:
        raise SecurityError(f"{file} is not UTF-8 text") from exc


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise SecurityError(f"{file} is too large for what it should be")
    return file.read_bytes()


def _print(rows: Sequence[UserRow], *, as_json: bool) -> None:
    if as_json:
        say(json.dumps({"schema": "edge-opcua.users/1", "users": [_json(row) for row in rows]}))
        return
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        line = (
            f"{row.name:<{width}}   {', '.join(row.roles) or 'no role'}   {' and '.join(row.signs_in_with)}"
        )
        line += f"   {row.thumbprint}" if row.thumbprint else ""
        line += f"   until {row.until:%Y-%m-%d}" if row.until is not None else ""
        say(line + ("   disabled" if row.disabled else ""))
    if not rows:
        say("there are no users yet: edge-opcua users add NAME --role operator")


def _json(row: UserRow) -> dict[str, object]:
    return {
        "name": row.name,
        "roles": list(row.roles),
        "signs_in_with": list(row.signs_in_with),
        "disabled": row.disabled,
        "thumbprint": row.thumbprint,
        "until": row.until.isoformat() if row.until is not None else None,
    }
